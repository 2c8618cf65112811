"""Verifying a whole store: every trail, how epochs follow each other, what lies beside them, and the verdict.

Invariants: it fails closed. The verdict is intact only if every check was made and none found anything; an exception nobody
foresaw is itself a finding that forbids exit 0. The clock, the randomness and the display of progress come in as arguments.
This module must not print.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from ..errors import TrailsealError
from ..trail.layout import seal_key
from ..trail.manifest import ManifestReason
from .account import HEARTBEATS, NOTHING, UNKNOWN, Carried, moment
from .chain import TrailChecker
from .findings import Code, Finding, FindingLog, Severity
from .leftovers import Leftovers, Marker
from .links import Claim, Family, families, instance_of, read_claims
from .retention import IN_A_FOLDER, LEVELS, Attestation
from .trustfile import MAX_SEAL_BYTES, TrustFile, fingerprint, matches_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..trail.layout import Origin
    from ..trail.manifest import Manifest
    from .expected import ExpectedTrail
    from .fetch import StoreReader
    from .retention import Attester, Level
    from .tally import Tally


@dataclass(frozen=True, slots=True)
class Options:
    """What a verification is asked for.

    Attributes:
        trust: Whom to believe.
        expected: Which trails there have to be; None if nobody said.
        fresh: The greatest age of the head of every trail that is not closed; None to demand nothing.
        origin_glob: The trails to verify, a pattern of four parts; None for all.
        level: The level of assurance that is demanded; None to take any.
    """

    trust: TrustFile = field(default_factory=TrustFile)
    expected: tuple[ExpectedTrail, ...] | None = None
    fresh: timedelta | None = None
    origin_glob: str | None = None
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class TrailReport:
    """One trail's line in the report.

    Attributes:
        origin: The trail.
        tally: What was counted in it.
        severity: The worst that was found in it.
        head_age_seconds: The head's age by the verifier's clock; None without a readable head.
        state: How its head leaves it: ``open``, ``stopped``, ``closed``, ``continued`` by a later epoch, or ``unknown``.
    """

    origin: Origin
    tally: Tally
    severity: Severity
    head_age_seconds: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification.

    Attributes:
        store: The store's name.
        checked_at: The verifier's clock when it began.
        trails: One entry a trail, in the order in which they were walked.
        log: What was found.
        attestation: What is known of the store's locks and versions.
    """

    store: str
    checked_at: datetime
    trails: tuple[TrailReport, ...]
    log: FindingLog
    attestation: Attestation

    @property
    def assurance(self) -> Level:
        """The level of assurance that was reached."""
        return self.attestation.level

    @property
    def severity(self) -> Severity:
        """The worst of all findings."""
        return self.log.worst

    @property
    def records(self) -> int:
        """The population: the records in all trails."""
        return sum(trail.tally.records for trail in self.trails)


class _Verification:
    """One run over one store."""

    def __init__(
        self,
        store: StoreReader,
        options: Options,
        now: datetime,
        advance: Callable[[int], None],
        secret: bytes,
        elapsed_seconds: Callable[[], float],
        attester: Attester,
    ) -> None:
        self.attester = attester
        self.attestation = Attestation(reason="a check ended in an error of the program")
        self.store, self.options, self.began, self.advance = store, options, now, advance
        self.elapsed_seconds = elapsed_seconds
        self.log = FindingLog()
        self.mark = Marker(secret)
        self.trails: list[TrailReport] = []
        self.tallies: dict[str, Tally] = {}
        self.listed: dict[str, datetime] = {}
        self.claims: dict[str, Claim] = {}
        self.successors: dict[str, Claim] = {}
        self.origins: list[Origin] = []
        self.selected: list[Origin] = []

    def run(self) -> Report:
        # First, because it finds out which version of an object is the one to read.
        self._guard(None, partial(self.attester.begin, self.log, self.began))
        self._guard(None, self._list)
        self.claims = read_claims(self.store, self.selected)
        for members in families(self.selected, self.claims):
            self._guard(None, partial(self._check_family, members))
        if not self.selected:
            self._add(Code.STORE_EMPTY, f"no trail {'matches the pattern' if self.origins else 'was found'} in {self.store.name}")
        self._guard(None, self._check_leftovers)
        self._guard(None, self._check_expected)
        self._guard(None, self._finish_attestation)
        trails = tuple(_settled(trail, self.log) for trail in self.trails)
        return Report(self.store.name, self.began, trails, self.log, self.attestation)

    def _finish_attestation(self) -> None:
        try:
            self.attestation = self.attester.finish(self.log)
        finally:
            if self.options.level is not None and LEVELS.index(self.attestation.level) < LEVELS.index(self.options.level):
                message = f"the level is {self.attestation.level}, not {self.options.level}: {self.attestation.reason}"
                self._add(Code.LEVEL_NOT_REACHED, message)

    def _guard(self, origin: Origin | None, step: Callable[[], None]) -> bool:
        """Run a step; whatever it raises becomes a finding, because what was not checked must not pass."""
        try:
            step()
        except TrailsealError as error:
            self._add(Code.OBJECT_UNREADABLE if error.exit_code == 12 else Code.CHECK_FAILED, error.message, origin)
        except Exception as error:  # noqa: BLE001 -- failing closed: no exception of any kind may end in exit 0
            self._add(Code.CHECK_FAILED, f"{type(error).__name__}: {error}", origin)
        else:
            return True
        return False

    def _add(self, code: Code, message: str, origin: Origin | None = None, batch: int | None = None) -> None:
        self.log.add(Finding(code=code, message=message, origin=str(origin) if origin else None, batch=batch))

    def _list(self) -> None:
        glob = self.options.origin_glob
        # One by one, because a listing that fails does so at its end: what was found by then is verified all the same.
        for origin in self.store.origins():
            self.origins.append(origin)
            if glob is None or matches_origin(glob, str(origin)):
                self.selected.append(origin)

    def _now(self) -> datetime:
        return self.began + timedelta(seconds=self.elapsed_seconds())

    def _check_family(self, members: tuple[Origin, ...]) -> None:
        family = Family(members, self.claims)
        checkers: dict[str, TrailChecker] = {}
        for origin in family.order:
            claim = family.claims.get(str(origin))
            checker = checkers[str(origin)] = TrailChecker(
                origin,
                self.store,
                self.log,
                trusted=self.options.trust.keys_for(str(origin)),
                carried=_carried(checkers, claim),
                wanted_sizes=family.wanted_sizes(origin),
                mark=self.mark,
                advance=self.advance,
            )
            self.tallies[str(origin)] = checker.tally
            self._guard(origin, partial(self._walk, checker))
            self._check_trust(origin, checker.tally)
        walks = {name: checker.walk for name, checker in checkers.items()}
        self.successors |= family.check(walks, map(str, self.origins), self.log)
        for origin in family.order:
            self._guard(origin, partial(self._finish, origin, checkers[str(origin)].tally))

    def _walk(self, checker: TrailChecker) -> None:
        expected = 0
        batches = self.store.seals(checker.origin)
        # A head's age counts from when it was listed: the walk to it may take long, and a live agent does not wait for it.
        self.listed[str(checker.origin)] = self._now()
        for listed in batches:
            # While an agent writes, a listing may hold a seal and not yet the one before it, so a hole is looked at again.
            while expected < listed and self._is_there(checker.origin, expected):
                self._check_batch(checker, expected)
                expected += 1
            self._check_batch(checker, listed)
            expected = listed + 1

    def _check_batch(self, checker: TrailChecker, batch: int) -> None:
        if not self._guard(checker.origin, partial(checker.check, batch)):
            checker.lose(batch + 1)

    def _is_there(self, origin: Origin, batch: int) -> bool:
        return self.store.read(seal_key(origin, batch), MAX_SEAL_BYTES) is not None

    def _check_trust(self, origin: Origin, tally: Tally) -> None:
        if tally.trusted_by is not None:
            return
        if tally.key is None:
            message = "the first seal cannot be used, so nothing binds a key to this trail"
        else:
            message = f"nothing vouches for the key {tally.key} (SHA-256 {fingerprint(tally.key)})"
        self._add(Code.KEY_UNKNOWN, message, origin, 0)

    def _finish(self, origin: Origin, tally: Tally) -> None:
        head = tally.head
        age: float | None = None
        state = "unknown"
        if head is not None:
            age = (self.listed.get(str(origin), self.began) - moment(head)).total_seconds()
            state = _state(head, continued=str(origin) in self.successors)
            self._check_head(origin, head, age, state)
        elif tally.batches:
            self._add(Code.UNCLOSED, "the newest seal cannot be used, so how the trail ends is not known", origin)
        self.trails.append(TrailReport(origin, tally, Severity.NOTICE, age, state))

    def _check_head(self, origin: Origin, head: Manifest, age: float, state: str) -> None:
        live = HEARTBEATS * head.agent.heartbeat_seconds
        since = f"the head ({head.reason.value}) is {shown_age(age)} old"
        fresh = self.options.fresh
        if age < -live and (state == "open" or (state == "stopped" and fresh is not None)):
            self._add(Code.HEAD_IN_FUTURE, f"the head is dated {head.sealed_at}, {shown_age(-age)} ahead of this clock", origin, head.batch)
        elif state == "open" and age > live:
            self._add(Code.UNCLOSED, f"{since}; a live trail's is at most {shown_age(live)}", origin, head.batch)
        if fresh is not None and state in ("open", "stopped") and age > fresh.total_seconds():
            self._add(Code.NOT_FRESH, f"{since}; --fresh allows {shown_age(fresh.total_seconds())}", origin, head.batch)

    def _check_leftovers(self) -> None:
        leftovers = Leftovers(
            self.store,
            self.log,
            mark=self.mark,
            now_seconds=lambda: self._now().timestamp(),
            selected=self.selected,
            narrowed=self.options.origin_glob is not None,
        )
        leftovers.check(self.tallies, self.successors)

    def _check_expected(self) -> None:
        entries = self.options.expected
        if entries is None:
            return
        for entry in entries:
            matching = [trail for trail in self.trails if entry.matches(trail.origin)]
            if not matching:
                self._add(Code.EXPECTED_ABSENT, f"no trail matches {entry}, which line {entry.line} expects")
            for _, group in groupby(sorted(matching, key=lambda trail: instance_of(trail.origin)), lambda trail: instance_of(trail.origin)):
                self._check_entry(entry, tuple(group))
        for trail in self.trails:
            if not any(entry.matches(trail.origin) for entry in entries):
                self._add(Code.FOREIGN_TRAIL, "no entry of the expected file matches this trail", trail.origin)

    def _check_entry(self, entry: ExpectedTrail, trails: Sequence[TrailReport]) -> None:
        heads = [trail for trail in trails if trail.tally.head is not None and trail.state != "continued"]
        firsts = [trail.tally.first_time for trail in trails if trail.tally.first_time is not None]
        if entry.since is not None and (not firsts or min(map(datetime.fromisoformat, firsts)) > entry.since):
            self._add(
                Code.EXPECTED_LATE, f"begins {min(firsts, default='nowhere')}, expected since {entry.since.isoformat()}", trails[0].origin
            )
        if entry.max_silence is None:
            return
        for trail in heads:
            age, allowed = trail.head_age_seconds or 0.0, entry.max_silence.total_seconds()
            if trail.state != "closed" and age > allowed:
                message = f"the head is {shown_age(age)} old; line {entry.line} allows {shown_age(allowed)}"
                self._add(Code.NOT_FRESH, message, trail.origin)
            elif trail.state == "stopped" and trail.tally.head is not None and age < -HEARTBEATS * trail.tally.head.agent.heartbeat_seconds:
                self._add(Code.HEAD_IN_FUTURE, f"the head is dated {shown_age(-age)} ahead of this clock", trail.origin)


def _carried(checkers: Mapping[str, TrailChecker], claim: Claim | None) -> Carried:
    """Return what had been read at the point that a trail says it continues."""
    if claim is None:
        return NOTHING
    met = checkers[claim.link.origin].links.get(claim.link.size) if claim.link.origin in checkers else None
    return met.carried if met else UNKNOWN


def _state(head: Manifest, *, continued: bool) -> str:
    if head.reason is ManifestReason.CLOSE:
        return "closed"
    if continued:
        return "continued"
    return "stopped" if head.reason is ManifestReason.STOP else "open"


def _settled(trail: TrailReport, log: FindingLog) -> TrailReport:
    return TrailReport(trail.origin, trail.tally, log.worst_of(str(trail.origin)), trail.head_age_seconds, trail.state)


def shown_age(seconds: float) -> str:
    """Return an age for a person: seconds, minutes, hours or days."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def verify_store(
    store: StoreReader,
    options: Options,
    *,
    now: datetime,
    advance: Callable[[int], None] = lambda _: None,
    secret: bytes | None = None,
    elapsed_seconds: Callable[[], float] = lambda: 0.0,
    attester: Attester = IN_A_FOLDER,
) -> Report:
    """Check everything in a store.

    Args:
        store: The store.
        options: What is asked for.
        now: The verifier's clock when it begins, aware, in UTC.
        advance: Called with the number of bytes read, now and then.
        secret: Random bytes of this run, 16 or more; drawn if left out.
        elapsed_seconds: Returns how long ago ``now`` was; a store that is written to meanwhile is judged by it.
        attester: Attests the store's locks and versions.

    Returns:
        The report. Nothing that a store holds makes this raise.
    """
    drawn = secrets.token_bytes(32) if secret is None else secret
    return _Verification(store, options, now, advance, drawn, elapsed_seconds, attester).run()
