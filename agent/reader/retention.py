"""Judge versions and their locks: one version a key, none hidden, each under a retention that the policy asks for.

A version's retention is the time from when it was stored to when it may be deleted, by the store's clock. ``locked`` is said only if
every version of the trails' objects was looked at, each in compliance mode, in force now, and for at least as long as the policy.

Invariants: pure; memory does not grow with the number of versions. What was not seen never counts as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator  # noqa: TC003 -- msgspec and readers of signatures alike
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import msgspec

from ..errors import FormatError, NotVerifiedError
from ..trail.layout import Origin, parse_data_key, parse_seal_key
from .findings import Code, Finding
from .leftovers import COSIGNATURE

if TYPE_CHECKING:
    from .findings import FindingLog

SLACK_SECONDS: Final = 120.0
"""How much shorter than the policy a retention may be: it is set by one clock and its beginning noted by another."""
DAY_SECONDS: Final = 86_400.0
MAX_ENTRIES: Final = 10_000
"""How many versions and markers of one key are looked at; nothing but mischief makes more."""
Level: TypeAlias = Literal["unanchored", "locked"]
LEVELS: Final[tuple[Level, ...]] = ("unanchored", "locked")


class Mode(StrEnum):
    """How firmly a version is locked."""

    COMPLIANCE = "compliance"
    GOVERNANCE = "governance"


class Policy(msgspec.Struct, frozen=True):
    """What every version's retention is held against.

    Attributes:
        mode: The weakest mode that will do.
        seconds: The shortest retention that will do.
        given: Whether it was demanded; if not, it is the bucket's own default.
    """

    mode: Mode
    seconds: float
    given: bool

    def __str__(self) -> str:
        """Return it for a person."""
        whose = "" if self.given else ", the bucket's default"
        return f"{shown_days(self.seconds)} in {self.mode} mode{whose}"


class Version(msgspec.Struct, frozen=True):
    """One entry of a listing of versions.

    Attributes:
        key: The object's key.
        id: The version's id.
        modified: When it was stored, by the store's clock.
        size: Its size in bytes.
        marker: Whether it is a delete marker, which holds nothing.
        latest: Whether it is what a plain read shows.
    """

    key: str
    id: str
    modified: datetime
    size: int = 0
    marker: bool = False
    latest: bool = True


class Lock(msgspec.Struct, frozen=True):
    """The retention of one version; both None without one."""

    mode: Mode | None = None
    until: datetime | None = None


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of locks and versions.

    Attributes:
        reason: Why the level is not ``locked``; None if it is.
        as_of: The store's clock when the listing began: what was stored later is not spoken of. None if nothing was listed.
        policy: What was demanded; None if there is none.
        versions: How many versions of the trails' objects were listed.
        looked_at: Of how many of them the retention was seen.
        shortest_seconds: The shortest retention; None if there is none.
        first_lapses_at: When the first retention ends; None if there is none.
    """

    reason: str | None
    as_of: datetime | None = None
    policy: Policy | None = None
    versions: int = 0
    looked_at: int = 0
    shortest_seconds: float | None = None
    first_lapses_at: datetime | None = None

    @property
    def level(self) -> Level:
        """The level of assurance that follows."""
        return "unanchored" if self.reason is not None else "locked"


class Attester(Protocol):
    """Attest locks and versions, around the walk over the trails."""

    def begin(self, log: FindingLog, now: datetime) -> None:
        """Look at every version before anything is verified; ``now`` is the verifier's clock, aware, in UTC."""
        ...

    def finish(self, log: FindingLog) -> Attestation:
        """Look at what was stored meanwhile and was read, and say what is known."""
        ...


class Unattested:
    """Attest nothing, and say why."""

    def __init__(self, reason: str, *, notice: bool = False) -> None:
        """Keep the reason; ``notice`` says that it is worth a finding, because attesting was possible in principle."""
        self._reason, self._notice = reason, notice

    def begin(self, log: FindingLog, now: datetime) -> None:
        """Do nothing; see `Attester`."""

    def finish(self, log: FindingLog) -> Attestation:
        """Return the reason; see `Attester`."""
        if self._notice:
            log.add(Finding(code=Code.NOT_ATTESTED, message=self._reason))
        return Attestation(reason=self._reason)


IN_A_FOLDER: Final = Unattested("a folder has no retention locks")


def shown_days(seconds: float) -> str:
    """Return a retention for a person."""
    days = round(seconds / DAY_SECONDS, 1)
    return f"{days:g} days" if days >= 1 else f"{seconds:.0f} s"


def owner_of(key: str) -> Origin | tuple[str, str, str] | None:
    """Return whose object a key names: a trail (a seal or a cosignature), or namespace, service and epoch (data); None if nobody's."""
    try:
        if key.startswith("records/"):
            data = parse_data_key(key)
            return data.namespace, data.service, data.epoch
        cosignature = COSIGNATURE.fullmatch(key)
        return parse_seal_key(f"{cosignature[1]}.seal" if cosignature else key)[0]
    except FormatError:
        return None


class Grouper:
    """Puts the entries of a listing of versions together by key."""

    def __init__(self) -> None:
        """Begin before the first page."""
        self._held: list[Version] = []

    def feed(self, versions: Iterable[Version], markers: Iterable[Version]) -> Iterator[tuple[Version, ...]]:
        """Take a page, each kind in the order of the listing, and yield the keys that are complete, each with all its entries.

        Raises:
            NotVerifiedError: The listing is not in the order of the keys, so a key may come again; or a key has too many entries.
        """
        entries = list(self._held)
        last = self._held[0].key.encode() if self._held else b""
        for kind in (versions, markers):
            before = last
            for entry in kind:
                key = entry.key.encode("utf-8", "surrogatepass")
                if key < before:
                    message = f"the listing of versions has {entry.key!r} after {before.decode(errors='replace')!r}"
                    raise NotVerifiedError(message, hint="Versions can be attested only in a store that lists them in order.")
                entries.append(entry)
                before = key
        # Stable, so that the entries of a key stay in the order of the listing.
        entries.sort(key=lambda entry: entry.key.encode("utf-8", "surrogatepass"))
        self._held = []
        for entry in entries:
            if self._held and entry.key != self._held[0].key:
                yield tuple(self._held)
                self._held = []
            self._held.append(entry)
            if len(self._held) > MAX_ENTRIES:
                raise NotVerifiedError(f"{entry.key} has more than {MAX_ENTRIES:,} versions")

    def finish(self) -> Iterator[tuple[Version, ...]]:
        """Yield the last key."""
        if self._held:
            yield tuple(self._held)
        self._held = []


def oldest(entries: Iterable[Version]) -> Version | None:
    """Return the version that was stored first; the one listed last among equals, as listings have the newest first."""
    return min(reversed([entry for entry in entries if not entry.marker]), key=lambda entry: entry.modified, default=None)


class Judge:
    """Judges locks one by one, and keeps the sums.

    Attributes:
        policy: What is demanded; None if nothing is.
        looked_at: How many locks were judged.
        weak: How many were weaker than the policy.
        lapsed: How many are over.
        governed: How many can be lifted by whoever has the right to.
        shortest_seconds: The shortest retention seen.
        first_lapses_at: When the first one ends.
    """

    def __init__(self, policy: Policy | None, now: datetime) -> None:
        """Judge by a policy, at a time."""
        self.policy, self._now = policy, now
        self.looked_at = self.weak = self.lapsed = self.governed = 0
        self.shortest_seconds: float | None = None
        self.first_lapses_at: datetime | None = None

    def check(self, version: Version, lock: Lock) -> Iterator[tuple[Code, str]]:
        """Enter one version's lock, and yield what is wrong with it."""
        self.looked_at += 1
        policy = self.policy
        if lock.mode is None or lock.until is None:
            self.weak += 1
            if policy is not None:
                yield Code.RETENTION_WEAK, f"{_named(version)} has no retention; the policy asks for {policy}"
            return
        seconds = (lock.until - version.modified).total_seconds()
        self.shortest_seconds = seconds if self.shortest_seconds is None else min(self.shortest_seconds, seconds)
        self.first_lapses_at = lock.until if self.first_lapses_at is None else min(self.first_lapses_at, lock.until)
        self.governed += lock.mode is Mode.GOVERNANCE
        if policy is not None and (
            seconds < policy.seconds - SLACK_SECONDS or (policy.mode, lock.mode) == (Mode.COMPLIANCE, Mode.GOVERNANCE)
        ):
            self.weak += 1
            shown = f"{shown_days(seconds)} in {lock.mode} mode, until {lock.until:%Y-%m-%d %H:%M} UTC"
            yield Code.RETENTION_WEAK, f"{_named(version)} is kept for {shown}; the policy asks for {policy}"
        if lock.until <= self._now:
            self.lapsed += 1
            yield Code.RETENTION_EXPIRED, f"the retention of {_named(version)} ended {lock.until:%Y-%m-%d %H:%M} UTC"

    def reasons(self) -> Iterator[str]:
        """Yield why the locks that were judged do not make a trail ``locked``, if so."""
        if self.policy is None:
            yield "there is no policy to hold the locks against: the bucket has no default retention, and --retention was not given"
        if self.weak:
            yield f"{_count(self.weak)} no retention that the policy asks for" if self.policy else f"{_count(self.weak)} no retention"
        if self.lapsed:
            yield f"{_count(self.lapsed)} a retention that is over"
        if self.governed or (self.policy is not None and self.policy.mode is Mode.GOVERNANCE):
            yield "a lock in governance mode can be lifted by whoever has the right to"


def _count(number: int) -> str:
    return f"{number:,} version has" if number == 1 else f"{number:,} versions have"


def _named(version: Version) -> str:
    return f"version {version.id} of {version.key}"
