"""The source of a copy: its trails, batch by batch, each checked as `verify` checks it before it is handed on.

Invariants: what is handed on are the bytes that the check read, not a second reading of them; a batch in which something is tampered
with, unreadable or unchecked is not handed on, and its trail ends before it; what a trail says of its own losses is no reason to stop.
Memory holds one batch. It must not write, and must not judge: `agent.reader` does. Everything here blocks, so one thread calls it.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from secrets import token_bytes
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import FormatError, TrailsealError
from ..reader.account import NOTHING, UNKNOWN, Carried
from ..reader.chain import TrailChecker
from ..reader.findings import Code, Finding, FindingLog, Severity
from ..reader.leftovers import Leftovers, Marker
from ..reader.links import Claim, Family, families, read_claims
from ..reader.trustfile import MAX_SEAL_BYTES, TrustFile, fingerprint, matches_origin
from ..trail.layout import Origin, is_probe_key, parse_seal_key, seal_key
from .outcome import Cause, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..reader.fetch import ObjectInfo, StoreReader

MAX_COSIGNATURE_BYTES: Final = 64 << 10
PROBES: Final = "probes"
_COSIGNATURE: Final = re.compile(r"(trails/.+/[0-9]{12})\.cosig\.[0-9a-f]{8}")


class Batch(NamedTuple):
    """Be one batch that was found in order.

    Attributes:
        number: Its number.
        records: How many records it has.
        seal_key: Where its seal lies.
        seal: The seal's bytes.
        data_key: Where its data lies; None without records.
        data: The data's bytes.
    """

    number: int
    records: int
    seal_key: str
    seal: bytes
    data_key: str | None
    data: bytes


class _Tee:
    """A `StoreReader` that keeps what was read last, until it is emptied."""

    def __init__(self, store: StoreReader) -> None:
        self.name = store.name
        self.taken: dict[str, bytes] = {}
        self._store = store

    def origins(self) -> Iterator[Origin]:
        return self._store.origins()

    def seals(self, origin: Origin) -> Iterator[int]:
        return self._store.seals(origin)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._store.objects(prefix)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        raw = self._store.read(key, limit_bytes)
        if raw is not None:
            self.taken[key] = raw
        return raw


class SourceTrail:
    """One trail of the source.

    Attributes:
        origin: The trail.
        checker: The walk over it.
        stop: Where it had to be left, if it had to.
    """

    def __init__(
        self,
        origin: Origin,
        store: StoreReader,
        log: FindingLog,
        *,
        trust: TrustFile | None,
        carried: Carried,
        wanted_sizes: frozenset[int],
        mark: Marker,
        advance: Callable[[int], None],
    ) -> None:
        """Begin before batch 0.

        Args:
            origin: The trail.
            store: The source.
            log: Where findings go.
            trust: Whom to believe; None to demand no more than the signatures of the key that the trail itself names.
            carried: What the trail before it had read; see `TrailChecker`.
            wanted_sizes: Tree sizes that other trails say they continue.
            mark: The marker of the whole run.
            advance: Called with the number of bytes read.
        """
        self.origin = origin
        self.stop: Stop | None = None
        self._log, self._demands_trust = log, trust is not None
        self._tee = _Tee(store)
        self.checker = TrailChecker(
            origin,
            self._tee,
            log,
            trusted=() if trust is None else trust.keys_for(str(origin)),
            carried=carried,
            wanted_sizes=wanted_sizes,
            mark=mark,
            advance=advance,
        )

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that are listed now, in order, up to the first that is not in order; `stop` then says why."""
        following = 0
        with failing_closed(self._log, self.origin):
            for number in self._numbers():
                batch = self._check(number)
                if batch is None:
                    return
                yield batch
                following = number + 1
        if self._worst > Severity.INCOMPLETE:
            # The listing failed at its end.
            self._stop_where_found(following)

    def _numbers(self) -> Iterator[int]:
        expected = 0
        for listed in self._tee.seals(self.origin):
            # While an agent writes, a listing may hold a seal and not yet the one before it, so a hole is looked at again.
            while expected < listed and self._tee.read(seal_key(self.origin, expected), MAX_SEAL_BYTES) is not None:
                yield expected
                expected += 1
            yield listed
            expected = listed + 1

    def _check(self, number: int) -> Batch | None:
        self._tee.taken.clear()
        with failing_closed(self._log, self.origin, number):
            self.checker.check(number)
        if self._worst > Severity.INCOMPLETE:
            self._stop_where_found(number)
            return None
        tally, key = self.checker.tally, seal_key(self.origin, number)
        if tally.head is None or tally.head.batch != number:
            self._stop_at(number, Code.CHECK_FAILED, "the batch was not checked, and no finding says why")
            return None
        if self._demands_trust and tally.trusted_by is None:
            said = f"the trust file does not vouch for the key {tally.key}" + (
                f" (SHA-256 {fingerprint(tally.key)})" if tally.key is not None else ""
            )
            self._stop_at(number, Code.KEY_UNKNOWN, said)
            return None
        data_key = tally.head.data.key if tally.head.data is not None else None
        taken = self._tee.taken
        return Batch(number, tally.head.records.count, key, taken[key], data_key, taken[data_key] if data_key is not None else b"")

    @property
    def _worst(self) -> Severity:
        return self._log.worst_of(str(self.origin))

    def _stop_at(self, number: int, code: Code, message: str) -> None:
        key = seal_key(self.origin, number)
        self._log.add(Finding(code=code, message=message, origin=str(self.origin), batch=number, key=key))
        self._stop_where_found(number)

    def _stop_where_found(self, number: int) -> None:
        """Stop before a batch, for the worst thing that was found there."""
        cause = Cause.DAMAGED if self._worst is Severity.TAMPERED else Cause.NOT_VERIFIED
        mine = (finding for finding in self._log.kept if finding.origin == str(self.origin))
        found = max(mine, key=lambda finding: finding.severity, default=None)
        if found is None or found.severity <= Severity.INCOMPLETE:
            # So much is wrong in the store that not every finding is kept.
            self.stop = Stop(number, cause, seal_key(self.origin, number), "see the findings")
            return
        batch = number if found.batch is None else min(number, found.batch)
        self.stop = Stop(batch, cause, found.key or seal_key(self.origin, batch), f"{found.code.value}: {found.message}")

    def cosignatures(self, batches: int) -> Iterator[tuple[str, bytes]]:
        """Yield keys and bytes of what lies beside the seals of the first so many batches; nothing here can check them."""
        with failing_closed(self._log, self.origin):
            for info in self._tee.objects(f"trails/{self.origin}"):
                batch = _cosigned_batch(info.key)
                if batch is None or batch >= batches:
                    continue
                raw = self._tee.read(info.key, MAX_COSIGNATURE_BYTES)
                self._tee.taken.clear()
                if raw is not None:
                    yield info.key, raw


class Source:
    """The store that is copied.

    Attributes:
        log: What was found in it.
        probes: How many probes lie in it; known after `look_beside`.
    """

    def __init__(
        self, store: StoreReader, trust: TrustFile | None, origin_glob: str | None, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        """Describe it; nothing is read.

        Args:
            store: How it is read.
            trust: Whom to believe; see `SourceTrail`.
            origin_glob: The trails to copy, a pattern of four parts; None for all.
            advance: Called with the number of bytes read.
        """
        self.log = FindingLog()
        self.probes = 0
        self._store, self._trust, self._glob, self._advance = store, trust, origin_glob, advance
        self._mark = Marker(token_bytes(32))
        self._all: list[Origin] = []
        self._walked: dict[str, SourceTrail] = {}
        self._successors: dict[str, Claim] = {}

    def families(self) -> list[Family]:
        """List the trails, in the order in which they have to be copied: each after the one it continues."""
        with failing_closed(self.log):
            # One by one, because a listing that fails does so at its end: what was found by then is copied all the same.
            for origin in self._store.origins():
                self._all.append(origin)
        selected = [origin for origin in self._all if self._glob is None or matches_origin(self._glob, str(origin))]
        if not selected:
            message = f"no trail {'matches the pattern' if self._all else 'was found'} in {self._store.name}"
            self.log.add(Finding(code=Code.STORE_EMPTY, message=message))
        claims = read_claims(self._store, selected)
        return [Family(members, claims) for members in families(selected, claims)]

    def trail(self, family: Family, origin: Origin) -> SourceTrail:
        """Open a trail; those before it in its family have been walked."""
        trail = self._walked[str(origin)] = SourceTrail(
            origin,
            self._store,
            self.log,
            trust=self._trust,
            carried=self._carried(family.claims.get(str(origin))),
            wanted_sizes=family.wanted_sizes(origin),
            mark=self._mark,
            advance=self._advance,
        )
        return trail

    def _carried(self, claim: Claim | None) -> Carried:
        """Return what had been read at the point that a trail says it continues."""
        if claim is None:
            return NOTHING
        older = self._walked.get(claim.link.origin)
        met = older.checker.links.get(claim.link.size) if older is not None and older.stop is None else None
        return met.carried if met is not None else UNKNOWN

    def judge_links(self, family: Family) -> None:
        """Judge how the epochs of a family follow each other, if all of them were walked to their ends."""
        walked = {str(origin): self._walked[str(origin)] for origin in family.order}
        if any(trail.stop is not None for trail in walked.values()):
            # What was not read cannot be compared with what another trail says of it.
            return
        with failing_closed(self.log):
            walks = {name: trail.checker.walk for name, trail in walked.items()}
            self._successors |= family.check(walks, map(str, self._all), self.log)

    def look_beside(self, now_seconds: float) -> None:
        """Find what belongs to no sealed batch, and so is not copied.

        Args:
            now_seconds: The clock, seconds since 1970.
        """
        leftovers = Leftovers(
            self._store,
            self.log,
            mark=self._mark,
            now_seconds=lambda: now_seconds,
            selected=[trail.origin for trail in self._walked.values()],
            narrowed=self._glob is not None,
        )
        tallies = {name: trail.checker.tally for name, trail in self._walked.items()}
        with failing_closed(self.log):
            leftovers.check(tallies, self._successors)
        if self._glob is None:
            with failing_closed(self.log):
                self.probes = sum(map(is_probe_key, map(_key_of, self._store.objects(PROBES))))


@contextmanager
def failing_closed(log: FindingLog, origin: Origin | None = None, batch: int | None = None) -> Iterator[None]:
    """Turn whatever is raised into a finding that forbids exit 0, because what was not checked must not pass."""
    found = partial(Finding, origin=None if origin is None else str(origin), batch=batch)
    try:
        yield
    except TrailsealError as error:
        log.add(
            found(
                code=Code.OBJECT_UNREADABLE if error.exit_code == Severity.UNVERIFIED.exit_code else Code.CHECK_FAILED,
                message=error.message,
            )
        )
    except Exception as error:  # noqa: BLE001 -- failing closed: no exception of any kind may end in exit 0
        log.add(found(code=Code.CHECK_FAILED, message=f"{type(error).__name__}: {error}"))


def _key_of(info: ObjectInfo) -> str:
    return info.key


def _cosigned_batch(key: str) -> int | None:
    """Return the batch that a cosignature's key names; None if it is no such key."""
    found = _COSIGNATURE.fullmatch(key)
    try:
        return parse_seal_key(f"{found[1]}.seal")[1] if found else None
    except FormatError:
        return None
