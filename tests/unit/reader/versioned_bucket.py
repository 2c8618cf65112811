"""A bucket that keeps versions, in memory: what `BucketAttester` asks Amazon's library for, and a reader that heeds pins."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from agent.config import BucketAddress
from agent.errors import NotVerifiedError
from agent.reader.attest import BucketAttester
from agent.reader.fetch import MemoryReader, ObjectInfo
from agent.reader.pins import Pins
from agent.stores.bucket import Access
from agent.stores.bucket.look import Facts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.trail.layout import Origin

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
STORED = NOW - timedelta(days=30)
DAYS = 400


def failure(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "said so"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


class Entry:
    """One version or delete marker; a marker has no bytes."""

    def __init__(self, key: str, number: int, raw: bytes | None, at: datetime, lock: tuple[str, timedelta] | None) -> None:
        """Be stored at a time, locked from then on for a while."""
        self.key, self.id, self.raw, self.at = key, f"v{number:06d}", raw, at
        self.mode = lock[0] if lock else None
        self.until = at + lock[1] if lock else None


class VersionedBucket:
    """Be the bucket and both its clients. `refused` names operations that are answered 403; `default` is the bucket's retention."""

    def __init__(self, objects: dict[str, bytes], *, mode: str | None = "compliance", days: float = DAYS, page: int = 1000) -> None:
        """Hold these objects, locked as the bucket's default says; listings have so many entries a page."""
        self.entries: list[Entry] = []
        self.refused: set[str] = set()
        self.default: dict[str, Any] | None = None if mode is None else {"Mode": mode.upper(), "Days": int(days)}
        self.locked = mode is not None
        self.lock = None if mode is None else (mode, timedelta(days=days))
        self.page = page
        self.pages = self.looks = 0
        self._forgotten: set[str] = set()
        self._numbers = itertools.count(1)
        for key, raw in objects.items():
            self.put(key, raw)

    def put(self, key: str, raw: bytes | None, *, at: datetime = STORED, lock: tuple[str, timedelta] | bool | None = True) -> Entry:
        """Store a version, under the bucket's default unless `lock` says otherwise."""
        entry = Entry(key, next(self._numbers), raw, at, self.lock if lock is True else lock or None)
        self.entries.append(entry)
        return entry

    def hide(self, key: str, *, at: datetime = NOW) -> Entry:
        return self.put(key, None, at=at, lock=None)

    def remove(self, entry: Entry) -> None:
        self.entries.remove(entry)

    def forget(self, key: str) -> None:
        """List a key's versions, and then not have them."""
        self._forgotten.add(key)

    def shorten(self, key: str) -> None:
        """Take a day off the retention of a key's versions."""
        for entry in self.entries:
            if entry.key == key and entry.until is not None:
                entry.until -= timedelta(days=1)

    def latest(self) -> dict[str, Entry]:
        """Return what a plain read shows, by key."""
        shown = {entry.key: entry for entry in self.entries}
        return {key: entry for key, entry in shown.items() if entry.raw is not None}

    def _answer(self, operation: str) -> dict[str, Any]:
        if operation in self.refused:
            raise failure(403, "AccessDenied")
        return {"ResponseMetadata": {"HTTPHeaders": {"date": NOW.strftime("%a, %d %b %Y %H:%M:%S GMT")}}}

    async def get_bucket_versioning(self, **_: Any) -> dict[str, Any]:
        return self._answer("get_bucket_versioning") | {"Status": "Enabled"}

    async def get_object_lock_configuration(self, **_: Any) -> dict[str, Any]:
        answer = self._answer("get_object_lock_configuration")
        if not self.locked:
            raise failure(404, "ObjectLockConfigurationNotFoundError")
        return answer | {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": self.default}} if self.default else {}}

    async def list_object_versions(self, **arguments: Any) -> dict[str, Any]:
        self._answer("list_object_versions")
        newest = {entry.key: entry for entry in self.entries}
        # By key, and the newest first.
        listed = sorted(self.entries, key=lambda entry: entry.id, reverse=True)
        listed = sorted((entry for entry in listed if entry.key.startswith(arguments["Prefix"])), key=lambda entry: entry.key)
        after = (arguments.get("KeyMarker"), arguments.get("VersionIdMarker"))
        start = next((at + 1 for at, entry in enumerate(listed) if (entry.key, entry.id) == after), 0)
        shown = listed[start : start + self.page]
        self.pages += 1
        answer: dict[str, Any] = {"IsTruncated": start + self.page < len(listed), "Versions": [], "DeleteMarkers": []}
        for entry in shown:
            said = {"Key": entry.key, "VersionId": entry.id, "LastModified": entry.at, "IsLatest": newest[entry.key] is entry}
            if entry.raw is None:
                answer["DeleteMarkers"].append(said)
            else:
                answer["Versions"].append(said | {"Size": len(entry.raw)})
        if answer["IsTruncated"]:
            answer |= {"NextKeyMarker": shown[-1].key, "NextVersionIdMarker": shown[-1].id}
        return answer

    def version(self, key: str, version: str) -> Entry | None:
        return next((entry for entry in self.entries if (entry.key, entry.id) == (key, version)), None)

    async def get_object(self, **arguments: Any) -> dict[str, Any]:
        self._answer("get_object")
        found = self.version(arguments["Key"], arguments["VersionId"])
        if found is None or found.raw is None:
            raise failure(404, "NoSuchVersion")
        return {"Body": Body(found.raw)}

    async def get_object_retention(self, **_: Any) -> dict[str, Any]:
        self._answer("get_object_retention")
        raise failure(404, "NoSuchObjectLockConfiguration")

    async def look(self, key: str, version: str) -> Facts:
        """Answer a HEAD request."""
        self.looks += 1
        if "head_object" in self.refused:
            return Facts(status=403)
        found = self.version(key, version)
        if found is None or key in self._forgotten:
            return Facts(status=404)
        mode: Any = found.mode if "get_object_retention" not in self.refused else None
        return Facts(status=200, lock_mode=mode, locked_until=found.until if mode else None)

    @asynccontextmanager
    async def connect(self, _: Access) -> AsyncIterator[tuple[Any, Any]]:
        if "connect" in self.refused:
            raise NotVerifiedError("no way there")
        yield self, self


class Body:
    """The body of an answer."""

    def __init__(self, raw: bytes) -> None:
        """Hold the bytes."""
        self._raw = raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def iter_chunks(self, size: int) -> AsyncIterator[bytes]:
        for at in range(0, len(self._raw), size):
            yield self._raw[at : at + size]


class VersionedReader:
    """Read a versioned bucket as `BucketReader` does."""

    name = "versioned"

    def __init__(self, bucket: VersionedBucket) -> None:
        """Read this bucket, with nothing pinned."""
        self.pins = Pins()
        self._bucket = bucket

    def _shown(self) -> MemoryReader:
        shown = {key: entry.raw or b"" for key, entry in self._bucket.latest().items()}
        for key, pin in self.pins.hidden(""):
            entry = self._bucket.version(key, pin.version)
            shown[key] = entry.raw or b"" if entry else b""
        return MemoryReader(shown, modified=STORED.timestamp())

    def origins(self) -> Iterator[Origin]:
        return self._shown().origins()

    def seals(self, origin: Origin) -> Iterator[int]:
        return self._shown().seals(origin)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._shown().objects(prefix)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        pin = self.pins.get(key)
        entry = self._bucket.version(key, pin.version) if pin else self._bucket.latest().get(key)
        if entry is None or entry.raw is None:
            return None
        if pin is None:
            self.pins.saw(key, entry.id, entry.at)
        return entry.raw


def attester_of(bucket: VersionedBucket, pins: Pins, **settings: Any) -> BucketAttester:
    access = Access(address=BucketAddress.parse("s3://versioned"))
    return BucketAttester(access, pins, connect=bucket.connect, **settings)
