"""Attest the locks and versions of an S3 bucket: list every version of the trails' objects, and look at the retention of each.

What is looked at: below ``trails/`` seals and cosignatures, below ``records/`` data objects, of the trails that are verified. Probes and
objects of other names belong to no trail. Judging is done in retention.py, and versions to be read are pinned (pins.py).

Invariants: memory holds one page of the listing; so many requests are under way at once, and no more. What cannot be seen is
a reason not to say ``locked``, never a finding against the trail: whether anything is asked for so firmly is for --level to say.
This module must not change anything in a bucket.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import NotVerifiedError, TrailsealError
from ..stores.bucket.s3api import read_client_error, s3_client
from ..trail.layout import Origin
from .fetch import RECORDS, TRAILS
from .findings import Code, Finding
from .heads import open_heads
from .pins import Pin
from .retention import Attestation, Grouper, Judge, Lock, Mode, Policy, Version, oldest, owner_of
from .trustfile import matches_origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager

    from ..stores.bucket import Access
    from .findings import FindingLog
    from .heads import Heads
    from .pins import Pins

    Connect = Callable[[Access], AbstractAsyncContextManager[tuple[Any, Any]]]

AT_ONCE: Final = 32
ATTEMPTS: Final = 5
_NO_LOCK: Final = "ObjectLockConfigurationNotFoundError"
_NO_RETENTION: Final = frozenset({"NoSuchObjectLockConfiguration", _NO_LOCK, "InvalidRequest"})
_OK: Final = 200
_NOT_FOUND: Final = 404
_YEAR_DAYS: Final = 365
_WILD: Final = "*?["
_READ_BYTES: Final = 1 << 20
_UNDONE: Final = "the versions were not looked at to the end"


class _UnansweredError(NotVerifiedError):
    """A request came to nothing; the code is the server's, or empty."""

    def __init__(self, operation: str, code: str, words: str) -> None:
        super().__init__(f"{operation}: {words}")
        self.code = code


class _Examined(msgspec.Struct, frozen=True):
    """What was found out about the entries of one key.

    Attributes:
        entries: Its versions and delete markers.
        first: The oldest version, if there is one.
        others: The further versions, each with whether it has the same bytes; None where that could not be seen.
        locks: The retention of each version that was looked at; None where the version was gone by then.
    """

    entries: tuple[Version, ...]
    first: Version | None
    others: tuple[tuple[Version, bool | None], ...]
    locks: tuple[tuple[Version, Lock | None], ...]


@asynccontextmanager
async def _connected_to(access: Access) -> AsyncIterator[tuple[Any, Heads]]:
    async with s3_client(access, attempts=ATTEMPTS) as client, open_heads(client, access, AT_ONCE) as heads:
        yield client, heads


class BucketAttester:
    """Attest one bucket; fulfils `Attester`."""

    def __init__(
        self,
        access: Access,
        pins: Pins,
        *,
        demanded: Policy | None = None,
        origin_glob: str | None = None,
        advance: Callable[[int, int], None] = lambda _, __: None,
        connect: Connect | None = None,
    ) -> None:
        """Prepare; nothing is connected to.

        Args:
            access: How the bucket is reached, complete.
            pins: Where it is noted which versions have to be read.
            demanded: The policy; None to take the bucket's default retention.
            origin_glob: The trails that are verified; None for all.
            advance: Called with the number of versions looked at, and the bytes that will be read of them, now and then.
            connect: Yields a client and what looks at headers; Amazon's library if left out.
        """
        self._access, self._pins = access, pins
        self._connect = _connected_to if connect is None else connect
        self._glob, self._advance = origin_glob, advance
        self._judge = Judge(demanded, datetime.now(UTC))
        self._as_of: datetime | None = None
        self._versions = 0
        self._failure: str | None = _UNDONE
        self._blind: str | None = None
        self._marred = 0
        self._trails: dict[tuple[str, str, str], Origin] = {}
        self._client: Any = None
        self._heads: Any = None
        self._base = f"{access.address.prefix}/" if access.address.prefix else ""

    def begin(self, log: FindingLog, now: datetime) -> None:
        """List all versions, and look at each; see `Attester`."""
        asyncio.run(self._connected(self._survey(log, now)))

    def finish(self, log: FindingLog) -> Attestation:
        """Look again where something was read that had not been listed; see `Attester`."""
        if self._failure is None and self._pins.unlisted:
            asyncio.run(self._connected(self._look_again(log)))
        if self._pins.overflowed and self._failure is None:
            self._failure = "more was stored while the trails were read than is kept account of"
        reasons = list(self._reasons())
        if self._failure or self._blind:
            log.add(Finding(code=Code.NOT_ATTESTED, message=reasons[0]))
        judge = self._judge
        return Attestation(
            reason="; ".join(reasons) or None,
            as_of=self._as_of,
            policy=judge.policy,
            versions=self._versions,
            looked_at=judge.looked_at,
            shortest_seconds=judge.shortest_seconds,
            first_lapses_at=judge.first_lapses_at,
        )

    def _reasons(self) -> Iterator[str]:
        if self._failure is not None:
            yield self._failure
            return
        if self._blind is not None:
            yield self._blind
        else:
            yield from self._judge.reasons()
        if self._marred:
            yield f"{self._marred:,} key{' was' if self._marred == 1 else 's were'} hidden, overwritten or removed, or cannot be compared"
        elif self._judge.looked_at < self._versions and self._blind is None:
            yield _UNDONE
        if not self._versions:
            yield "there is no version of any trail"

    async def _connected(self, work: Coroutine[None, None, None]) -> None:
        """Do some work with a client; that it cannot be done is the reason that the level is not reached."""
        try:
            async with self._connect(self._access) as (client, heads):
                self._client, self._heads = client, heads
                self._room = asyncio.Semaphore(AT_ONCE)
                await work
        except TrailsealError as error:
            self._failure = f"{error.message}{f' ({error.hint})' if error.exit_code == 2 else ''}"
        finally:
            work.close()

    async def _survey(self, log: FindingLog, now: datetime) -> None:
        await self._look_at_bucket(log, now)
        async for groups in self._groups(self._trails_prefix()):
            await self._enter(groups, log)
        prefixes = (
            [f"{RECORDS}/"]
            if self._glob is None
            else sorted({f"{RECORDS}/namespace={space}/service={service}/" for space, service, _ in self._trails})
        )
        for prefix in prefixes:
            async for groups in self._groups(prefix):
                await self._enter(groups, log)
        self._failure = None

    async def _look_at_bucket(self, log: FindingLog, now: datetime) -> None:
        """Ask for the bucket's own settings: the store's clock, versioning, the lock and its default."""
        bucket, demanded = self._access.address, self._judge.policy
        versioning = await self._call("get_bucket_versioning")
        headers = versioning["ResponseMetadata"]["HTTPHeaders"]
        self._as_of = parsedate_to_datetime(headers["date"]).astimezone(UTC) if "date" in headers else now
        self._pins.listed_at(self._as_of)
        policy = demanded
        try:
            found = await self._call("get_object_lock_configuration")
            rule = found["ObjectLockConfiguration"].get("Rule", {}).get("DefaultRetention")
            if demanded is None and rule is not None:
                days = rule.get("Days", 0) or rule.get("Years", 0) * _YEAR_DAYS
                policy = Policy(Mode(rule["Mode"].lower()), timedelta(days=days).total_seconds(), given=False)
        except _UnansweredError as error:
            if error.code == _NO_LOCK:
                self._blind = f"{bucket} has no Object Lock"
                if demanded is not None:
                    log.add(Finding(code=Code.RETENTION_WEAK, message=f"{self._blind}; the policy asks for {demanded}"))
            elif demanded is None:
                self._blind = f"the bucket's default retention cannot be seen ({error.message}), and --retention was not given"
        self._judge = Judge(policy, max(now, self._as_of))

    def _trails_prefix(self) -> str:
        """Return the part of the pattern in which nothing is wild, as far as it narrows a listing."""
        literal = "" if self._glob is None else self._glob[: next((at for at, c in enumerate(self._glob) if c in _WILD), len(self._glob))]
        return f"{TRAILS}/{literal}"

    def _selected(self, key: str) -> bool:
        """Tell whether a key is that of an object of a trail that is verified, and note the trail's epoch."""
        owner = owner_of(key)
        if owner is None:
            return False
        if not isinstance(owner, Origin):
            return self._glob is None or owner in self._trails
        if self._glob is not None and not matches_origin(self._glob, str(owner)):
            return False
        self._trails.setdefault((owner.namespace, owner.service, owner.epoch), owner)
        return True

    async def _groups(self, prefix: str) -> AsyncIterator[list[tuple[Version, ...]]]:
        """Yield what is listed below a prefix, by keys, a page at a time."""
        grouper = Grouper()
        markers: dict[str, str] = {}
        while True:
            page = await self._call("list_object_versions", Prefix=self._base + prefix, **markers)
            groups = grouper.feed(self._entries(page.get("Versions", ())), self._entries(page.get("DeleteMarkers", ()), marker=True))
            more = page.get("IsTruncated", False)
            yield [group for group in (*groups, *(() if more else grouper.finish())) if self._selected(group[0].key)]
            if not more:
                return
            after = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                after["VersionIdMarker"] = page["NextVersionIdMarker"]
            if after == markers:
                raise NotVerifiedError(f"the listing of versions does not go on after {after['KeyMarker']!r}")
            markers = after

    def _entries(self, listed: Iterable[dict[str, Any]], *, marker: bool = False) -> Iterator[Version]:
        for entry in listed:
            yield Version(
                entry["Key"].removeprefix(self._base),
                entry["VersionId"],
                entry["LastModified"].astimezone(UTC),
                entry.get("Size", 0),
                marker,
                entry["IsLatest"],
            )

    async def _enter(self, groups: Iterable[tuple[Version, ...]], log: FindingLog, *, again: bool = False) -> None:
        """Examine keys, all at once, and enter what was found in the order of the keys."""
        for examined in await asyncio.gather(*map(self._examine, groups)):
            self._judge_versions(examined, log)
            if not again:
                self._versions += sum(not entry.marker for entry in examined.entries)
            for version, lock in examined.locks:
                if lock is None:
                    self._marred += 1
                    self._report(
                        log, Code.VERSION_GONE, f"version {version.id} of {version.key} was listed, and then not found", version.key
                    )
                else:
                    for code, message in self._judge.check(version, lock):
                        self._report(log, code, message, version.key)
            self._advance(len(examined.entries), examined.first.size if examined.first else 0)

    async def _examine(self, entries: tuple[Version, ...]) -> _Examined:
        first = oldest(entries)
        versions = [entry for entry in entries if not entry.marker]
        others = [(version, await self._same(first, version)) for version in versions if first is not None and version is not first]
        locks = []
        for version in versions:
            if self._blind is not None:
                break
            try:
                locks.append((version, await self._lock_of(version)))
            except NotVerifiedError as error:
                self._blind = f"the retention of versions cannot be seen: {error.message}"
        return _Examined(entries, first, tuple(others), tuple(locks))

    def _judge_versions(self, examined: _Examined, log: FindingLog) -> None:
        first = examined.first
        markers = [entry for entry in examined.entries if entry.marker]
        for marker in markers:
            self._marred += 1
            does = "hides" if marker.latest else "was put on"
            message = f"a delete marker of {marker.modified:%Y-%m-%d %H:%M:%S} UTC {does} {marker.key}"
            self._report(log, Code.DELETE_MARKER, message, marker.key)
        for version, same in examined.others:
            when = f"{version.modified:%Y-%m-%d %H:%M:%S} UTC"
            if same is None:
                self._marred += 1
                self._report(
                    log, Code.OBJECT_UNREADABLE, f"version {version.id} of {version.key} cannot be compared with the oldest", version.key
                )
            elif same:
                self._report(log, Code.VERSION_REPEATED, f"{version.key} was stored again {when} with the same bytes", version.key)
            else:
                self._marred += 1
                message = f"{version.key} was overwritten {when} with other bytes, as version {version.id}"
                self._report(log, Code.VERSION_ALTERED, message, version.key)
        if first is None:
            return
        if markers or examined.others:
            hidden = any(marker.latest for marker in markers)
            self._pins.pin(first.key, Pin(first.id, first.size, first.modified.timestamp(), hidden))
        else:
            self._pins.found(first.key, first.id, first.modified)

    def _report(self, log: FindingLog, code: Code, message: str, key: str) -> None:
        owner = owner_of(key)
        origin = owner if owner is None or isinstance(owner, Origin) else self._trails.get(owner)
        log.add(Finding(code=code, message=message, origin=None if origin is None else str(origin), key=key))

    async def _lock_of(self, version: Version) -> Lock | None:
        """Return a version's retention; None if the version is not there."""
        async with self._room:
            facts = await self._heads.look(self._base + version.key, version.id)
        if facts.status == _NOT_FOUND:
            return None
        if facts.status != _OK:
            raise _UnansweredError("HEAD of a version", "", f"HTTP {facts.status}")
        if facts.lock_mode is not None and facts.locked_until is not None:
            return Lock(Mode(facts.lock_mode), facts.locked_until)
        try:
            # It is left out, too, for who may not see it; asked by name, the store says which of both it is.
            await self._call("get_object_retention", Key=self._base + version.key, VersionId=version.id)
        except _UnansweredError as error:
            if error.code in _NO_RETENTION:
                return Lock()
            raise
        raise _UnansweredError("HEAD of a version", "", "the headers leave out the retention that the version has")

    async def _same(self, one: Version, other: Version) -> bool | None:
        """Tell whether two versions have the same bytes; None if one cannot be read."""
        if one.size != other.size:
            return False
        try:
            return await self._digest(one) == await self._digest(other)
        except _UnansweredError:
            return None

    async def _digest(self, version: Version) -> bytes:
        digest = sha256()
        async with self._room:
            try:
                found = await self._client.get_object(
                    Bucket=self._access.address.bucket, Key=self._base + version.key, VersionId=version.id
                )
                async with found["Body"] as body:
                    async for block in body.iter_chunks(_READ_BYTES):
                        digest.update(block)
            except Exception as error:
                raise _unanswered("get_object", error) from error
        return digest.digest()

    async def _look_again(self, log: FindingLog) -> None:
        """Look at the keys of which a version was read that had not been listed."""
        self._failure = _UNDONE
        for key in sorted(self._pins.unlisted):
            listed, groups = self._pins.listed_version(key), []
            async for found in self._groups(key):
                groups += [group for group in found if group[0].key == key]
            if not groups or (listed is not None and all(entry.id != listed for entry in groups[0])):
                self._marred += 1
                self._report(log, Code.VERSION_GONE, f"version {listed or self._pins.unlisted[key]} of {key} is no longer there", key)
            await self._enter(groups, log, again=True)
        self._failure = None

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Make a request; whatever comes of it but an answer is an _UnansweredError."""
        async with self._room:
            try:
                answer: dict[str, Any] = await getattr(self._client, operation)(Bucket=self._access.address.bucket, **arguments)
            except Exception as error:
                raise _unanswered(operation, error) from error
        return answer


def _unanswered(operation: str, error: Exception) -> _UnansweredError:
    # Whatever the library raises: nothing that it failed to answer may pass as seen.
    answer = read_client_error(error)
    return _UnansweredError(operation, answer.code, answer.words)
