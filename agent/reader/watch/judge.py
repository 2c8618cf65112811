"""Say of every instance whether it gives signs of life, and which expected ones are missing.

A trail is silent when nothing of it was stored for three of its own heartbeats, or for the time the expected file allows. Three clocks
tell: the agent's, in the seal; the store's, which the agent cannot set; and the watcher's own. Where they contradict each other that is
said, because a clock that is wrong could make the dead look alive. Pure: the time comes as an argument.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ...trail.manifest import ManifestReason
from ..account import HEARTBEATS
from ..findings import Severity
from ..verify import shown_age

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..expected import ExpectedTrail
    from .newest import Sight

CLOCK_SECONDS: Final = 60.0
"""How far the agent's clock may be ahead of the store's, or the store's ahead of this machine's, before that is said."""


class State(StrEnum):
    """How a trail is."""

    LIVE = "live"
    CLOSED = "closed"
    FORGOTTEN = "forgotten"
    LATE = "late"
    SILENT = "silent"
    UNCLOSED = "unclosed"
    CLOCK = "clock"
    UNKNOWN = "unknown"
    FORGED = "forged"


FINE: Final = frozenset({State.LIVE, State.CLOSED, State.FORGOTTEN})
ALIVE: Final = frozenset({State.LIVE, State.LATE, State.CLOCK})
_SEVERITY: Final = {State.UNKNOWN: Severity.UNVERIFIED, State.FORGED: Severity.TAMPERED}


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of one instance.

    Attributes:
        sight: What was seen.
        state: How it is.
        why: A sentence for a person.
        silent_seconds: For how long nothing was stored, by the clock that counts; None where that is not known.
        allowed_seconds: For how long that may be; None where it is not known.
        expected: The entries of the expected file that it matches.
    """

    sight: Sight
    state: State
    why: str
    silent_seconds: float | None
    allowed_seconds: float | None
    expected: tuple[ExpectedTrail, ...]

    @property
    def fine(self) -> bool:
        """Whether nobody has to look at it."""
        return self.state in FINE


@dataclass(frozen=True, slots=True)
class Report:
    """What one look at a store showed.

    Attributes:
        at: When.
        trails: Every instance, sorted by its name.
        missing: The expected entries of which there is no instance, or of which fewer give signs of life than have to.
        expected: All entries.
    """

    at: datetime
    trails: tuple[Judged, ...]
    missing: tuple[ExpectedTrail, ...]
    expected: tuple[ExpectedTrail, ...]

    @property
    def fine(self) -> bool:
        """Whether everything that is expected gives signs of life, and nothing else is wrong."""
        return not self.missing and all(trail.fine for trail in self.trails)

    @property
    def severity(self) -> Severity:
        """The worst that was found, as `verify` ranks it."""
        found = {_SEVERITY.get(trail.state, Severity.INCOMPLETE) for trail in self.trails if not trail.fine}
        found |= {Severity.INCOMPLETE} if self.missing else set()
        return max(found, default=Severity.NOTICE)

    def alive(self, entry: ExpectedTrail) -> int:
        """Return how many instances of an entry have something to say now: not those that ended, however well."""
        return sum(entry in trail.expected and trail.state in ALIVE for trail in self.trails)

    def counts(self) -> Counter[State]:
        """Return how many instances are how."""
        return Counter(trail.state for trail in self.trails)


def judge(sights: Sequence[Sight], expected: Sequence[ExpectedTrail], now: datetime, forget: timedelta | None = None) -> Report:
    """Judge what was seen.

    Args:
        sights: The newest epoch of every instance.
        expected: Who has to be there; every instance counts, whether it is expected or not.
        now: The time, in UTC; a sight counts from when it was looked at, if it says so.
        forget: An instance that has been silent or unclosed for longer is not spoken of any more, if another one of the same
            entry is live or closed, or no entry means it. None to forget nobody.
    """
    trails = [_judge_one(sight, tuple(entry for entry in expected if entry.matches(sight.origin)), now) for sight in sights]
    if forget is not None:
        kept = {entry for trail in trails if trail.fine for entry in trail.expected}
        trails = [_forgotten(trail) if _is_forgotten(trail, kept, forget) else trail for trail in trails]
    matched = {entry for trail in trails for entry in trail.expected}
    found = Report(now, tuple(trails), (), tuple(expected))
    missing = tuple(entry for entry in expected if entry not in matched or (entry.live is not None and found.alive(entry) < entry.live))
    return replace(found, missing=missing)


def _is_forgotten(trail: Judged, kept: set[ExpectedTrail], forget: timedelta) -> bool:
    if trail.state not in (State.SILENT, State.UNCLOSED) or trail.silent_seconds is None:
        return False
    return trail.silent_seconds > forget.total_seconds() and kept.issuperset(trail.expected)


def _forgotten(trail: Judged) -> Judged:
    return Judged(trail.sight, State.FORGOTTEN, trail.why, trail.silent_seconds, trail.allowed_seconds, trail.expected)


def _judge_one(sight: Sight, entries: tuple[ExpectedTrail, ...], now: datetime) -> Judged:
    head = sight.head
    if sight.forged or sight.unknown or head is None:
        state = State.FORGED if sight.forged else State.UNKNOWN
        why = sight.forged or sight.unknown or "its folder is there, and no first seal in it"
        return Judged(sight, state, why, None, None, entries)
    allowed = min(
        (entry.max_silence.total_seconds() for entry in entries if entry.max_silence is not None),
        default=HEARTBEATS * head.agent.heartbeat_seconds,
    )
    if sight.looked_at is not None:
        now = datetime.fromtimestamp(sight.looked_at, UTC)
    sealed_age = (now - datetime.fromisoformat(head.sealed_at)).total_seconds()
    stored_age = sealed_age if sight.stored_at is None else now.timestamp() - sight.stored_at
    state, why = _state(head.reason, sealed_age, stored_age, allowed)
    seen = f"the newest seal (batch {sight.batch}, {head.reason.value}) is of {head.sealed_at}{why}"
    # What was stored late is as old as it says; what is dated ahead is as old as the store says.
    return Judged(sight, state, seen, max(stored_age, sealed_age), allowed, entries)


def _state(reason: ManifestReason, sealed_age: float, stored_age: float, allowed: float) -> tuple[State, str]:
    """Return how a trail is whose newest seal is in order, and how a sentence about it goes on.

    Args:
        reason: Why that batch was cut.
        sealed_age: Its age by the agent's clock, seconds.
        stored_age: Its age by the store's clock, seconds.
        allowed: How old it may be, seconds.
    """
    if reason is ManifestReason.CLOSE:
        return State.CLOSED, ""
    # Whatever the store's time says: nothing that an agent does after its stop makes an old one young.
    stopped_age = max(stored_age, sealed_age)
    if reason is ManifestReason.STOP and stopped_age > allowed:
        return State.UNCLOSED, f": it stopped in order {shown_age(stopped_age)} ago, and was neither closed nor started again"
    if stored_age > allowed:
        return State.SILENT, f": nothing was stored for {shown_age(stored_age)}; {shown_age(allowed)} are allowed"
    if sealed_age > allowed:
        return State.LATE, f", and was stored {shown_age(stored_age)} ago: it is behind by {shown_age(sealed_age)}"
    wrong = _contradiction(stored_age, sealed_age, max(CLOCK_SECONDS, allowed))
    return (State.CLOCK, wrong) if wrong else (State.LIVE, "")


def _contradiction(stored_age: float, sealed_age: float, tolerated: float) -> str:
    """Return how a sentence goes on about clocks that cannot all be right; nothing if they can."""
    if stored_age < -tolerated:
        return f", and was stored {shown_age(-stored_age)} from now: this machine's clock is behind the store's"
    if stored_age - sealed_age > tolerated:
        return f", and was stored {shown_age(stored_age - sealed_age)} before that: the agent's clock is wrong"
    return ""
