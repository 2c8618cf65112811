"""The statement that each answer carries: what was asked, what was looked at, what is missing, and who vouches for it.

The verdict is one word. *complete*: everything the store is known to hold for the range was verified, by keys of the trust file, and
nothing in it is stated as lost. *incomplete*: something is stated as lost, is missing, or fell silent. *unverified*: something did
not verify, nobody vouches for a key, or there was nothing to look at. A reason is given for every word but the first.

Invariants: the verdict follows from the reasons and from nothing else; nothing outside the scope is named or counted. This
module only holds values; `statement` makes them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from ..findings import Severity
from .found import zulu

FORMAT: Final = 1

Verdict = Literal["complete", "incomplete", "unverified"]
HeadState = Literal["closed", "stopped", "continued", "beyond", "live", "open", "unknown"]
_VERDICTS: Final[dict[Severity, Verdict]] = {
    Severity.NOTICE: "complete",
    Severity.INCOMPLETE: "incomplete",
    Severity.UNVERIFIED: "unverified",
    Severity.TAMPERED: "unverified",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an answer is not complete; or, as a notice, what its reader should know.

    Attributes:
        severity: How bad it is.
        code: What it is: a code of `verify`, or one of this module.
        message: One sentence.
        origin: The trail; None where it is about all of them.
    """

    severity: Severity
    code: str
    message: str
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """A time without a batch that was longer than three heartbeats.

    Attributes:
        origin: The trail.
        after: When the batch before it was sealed, aware, UTC.
        before: When the batch after it was sealed, aware, UTC.
        seconds: How long it was, by the host's monotonic clock where that ran through.
        allowed_seconds: Three heartbeats.
        resumed: Whether the agent stated that it came back after an unclean end.
    """

    origin: str
    after: datetime
    before: datetime
    seconds: float
    allowed_seconds: float
    resumed: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """A gap record: bytes that are stated as lost.

    Attributes:
        origin: The trail.
        seq: The record's leaf.
        observed_at: When the agent noticed, aware, UTC.
        source: The source.
        cause: Why, of a closed list.
        certainty: ``known``, ``possible`` or ``unbounded``.
        from_offset: The first byte, if known.
        to_offset: The byte after the last one, if known.
        detail: One sentence of the agent's.
    """

    origin: str
    seq: int
    observed_at: datetime | None
    source: str
    cause: str
    certainty: str
    from_offset: int | None
    to_offset: int | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Clock:
    """How good the hosts' clocks were.

    Attributes:
        batches: The batches this is about.
        synchronized: In how many of them the clock was synchronized.
        worst_offset_seconds: The greatest distance from the reference that an agent stated, without its sign; None if none did.
        worst_error_seconds: The greatest error bound that an agent stated; None if none did.
    """

    batches: int
    synchronized: int
    worst_offset_seconds: float | None
    worst_error_seconds: float | None

    @property
    def synchronized_share(self) -> float | None:
        """The share of batches with a synchronized clock, 0 to 1; None without any batch."""
        return self.synchronized / self.batches if self.batches else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailStatement:
    """What one trail holds for the range.

    Attributes:
        origin: The trail.
        key: The epoch's key (C2SP vkey), if known.
        trusted_by: The key of the trust file that vouches for it; None: nobody does.
        batches: How many verified batches cover the range.
        first_seq: The first leaf of the first of them that was sealed in the range; None if none was.
        last_seq: The last leaf of the last of them.
        from_time: When the first of them began, that is when the batch before it was sealed; None if it is not known.
        to_time: When the last of them was sealed.
        late_batches: How many were sealed outside the range and hold events of it.
        records: The population: records in these batches.
        events: Of these, events.
        quarantined: Of these, records that are no valid events, and have no time of their own.
        gaps: Of these, statements of loss.
        bytes_lost: Bytes of sources that are stated as lost.
        missing_batches: Batches that are not there, or did not verify.
        unchained_batches: Batches that only their own seal proves, because something before them is missing.
        head: How the trail ends.
        head_sealed_at: When its newest verified batch was sealed.
        begins_after: Whether its first batch was sealed after the range began.
        ends_before: Whether its newest batch was sealed before the range ended.
        clock: How good its clock was.
    """

    origin: str
    key: str | None
    trusted_by: str | None
    batches: int
    first_seq: int | None
    last_seq: int | None
    from_time: datetime | None
    to_time: datetime | None
    late_batches: int
    records: int
    events: int
    quarantined: int
    gaps: int
    bytes_lost: int
    missing_batches: int
    unchained_batches: int
    head: HeadState
    head_sealed_at: datetime | None
    begins_after: bool
    ends_before: bool
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an answer stands on.

    Attributes:
        query: What was asked, in words.
        command: The command line that asks it again.
        store: The store's name.
        since: Where the range begins; None: at the beginning of each trail.
        until: Where it ends; None: at the newest batch of each trail.
        matched: How many events match.
        events_in_range: How many events of the asked services occurred in the range.
        records: The population: records in the verified batches that cover the range.
        quarantined: Of these, records that are no valid events.
        trails: What each trail holds for it; those with nothing for the range are only counted.
        trails_outside: How many trails lie wholly before or after the range.
        losses: The gap records, the first of them.
        losses_total: How many there are.
        silences: The silent periods, the longest of them.
        silences_total: How many there are.
        clock: How good the clocks were.
        reasons: Why it is not complete, worst first; and notices.
        reasons_omitted: How many were left out here, none of them worse than those that are kept.
        answered_at: When the question was answered, aware, UTC.
        refreshed_at: When the index was brought up to date with the store.
        version: The version of the program that answered.
        index_version: The version of the program that built the index.
        everywhere: Whether the statement is about everything that may be seen, because counterparts were looked for everywhere.
    """

    query: str
    command: str
    store: str
    since: datetime | None
    until: datetime | None
    matched: int
    events_in_range: int
    records: int
    quarantined: int
    trails: tuple[TrailStatement, ...]
    trails_outside: int
    losses: tuple[Loss, ...]
    losses_total: int
    silences: tuple[Silence, ...]
    silences_total: int
    clock: Clock
    reasons: tuple[Reason, ...]
    reasons_omitted: int
    answered_at: datetime
    refreshed_at: datetime
    version: str
    index_version: str
    everywhere: bool = False

    @property
    def severity(self) -> Severity:
        """The worst reason."""
        return max((reason.severity for reason in self.reasons), default=Severity.NOTICE)

    @property
    def verdict(self) -> Verdict:
        """The statement in one word."""
        return _VERDICTS[self.severity]

    @property
    def exit_code(self) -> int:
        """The exit code that `verify` would end with for the worst reason."""
        return self.severity.exit_code

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; docs/query.md describes every key."""
        plain = _plain(self)
        assert isinstance(plain, dict)  # noqa: S101 -- a dataclass becomes a dictionary
        return {"format": FORMAT, "verdict": self.verdict, "exit_code": self.exit_code, **plain}


def _plain(value: object) -> object:
    if isinstance(value, Severity):
        return "notice" if value is Severity.NOTICE else value.verdict
    if isinstance(value, datetime):
        return zulu(value)
    if isinstance(value, str):
        # A file's name need not be Unicode, and JSON can hold nothing else.
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return value
