"""When events happened, day by day, and when the pipeline was silent or lost something.

The axis is the time in which batches were sealed, by the agents' clocks: a service that claims to have acted in the year 9999 cannot
stretch it. Such events are counted apart.

Invariants: everything is of the scope and the range alone; a bucket is in the answer once, and none without events. This module must
not draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ..ask.filters import plain
from .tally import Range, aware

if TYPE_CHECKING:
    from ..ask.stated import Loss, Silence, Statement
    from ..index import Index

Bucket = Literal["day", "week", "month"]
_MOMENT: Final = timedelta(microseconds=1)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_MOST_DAYS: Final = 400
_MOST_WEEKS: Final = 2800
_EXTENT: Final = """SELECT min(least(coalesce(observed_min, sealed_at), sealed_at)), max(sealed_at), count(*)
    FROM batches JOIN trails USING (trail) WHERE {condition}"""
_BARS: Final = """SELECT date_trunc('{bucket}', occurred_at) AS start, count(*) FILTER (outcome = 'success'),
        count(*) FILTER (outcome IN ('failure', 'denied')), count(*) FILTER (outcome NOT IN ('success', 'failure', 'denied'))
    FROM events WHERE {condition} AND occurred_at >= $axis_begin AND occurred_at < $axis_end GROUP BY 1 ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Bar:
    """The events of one bucket.

    Attributes:
        start: When it begins, aware, UTC.
        success: Events that succeeded.
        failed: Events that failed or were denied.
        unknown: All others.
    """

    start: datetime
    success: int
    failed: int
    unknown: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.success + self.failed + self.unknown


@dataclass(frozen=True, slots=True)
class Timeline:
    """The answer.

    Attributes:
        begin: Where the axis begins, aware, UTC, at the beginning of a bucket; None where nothing was sealed.
        end: Where it ends, not included.
        bucket: How long a bucket is.
        bars: Those with events, in the order of time.
        outside: Events of the range that claim a time outside of the axis.
        silences: When agents were silent; at most the longest fifty.
        losses: When agents noticed a loss; at most the first fifty.
        omitted: How many silences and losses there are beside these.
    """

    begin: datetime | None
    end: datetime | None
    bucket: Bucket
    bars: tuple[Bar, ...]
    outside: int
    silences: tuple[Silence, ...]
    losses: tuple[Loss, ...]
    omitted: int


def timeline(index: Index, asked: Range, statement: Statement) -> Timeline:
    """Return when events happened.

    Args:
        index: Where to look.
        asked: The range and the scope.
        statement: What it stands on, for the silences and losses.
    """
    omitted = statement.silences_total + statement.losses_total - len(statement.silences) - len(statement.losses)
    condition = asked.trails("sealed_at")
    first, last, batches = index.rows(_EXTENT.format(condition=condition.sql), condition.parameters)[0]
    if not batches or first is None or last is None:
        return Timeline(None, None, "day", (), _count(index, asked), statement.silences, statement.losses, omitted)
    begin, end = aware(first), _after(aware(last))
    if asked.since is not None:
        begin = max(begin, asked.since)
    if asked.until is not None:
        end = min(end, asked.until)
    days = (end - begin).days
    bucket: Bucket = "day" if days <= _MOST_DAYS else "week" if days <= _MOST_WEEKS else "month"
    begin = _floor(begin, bucket)
    events = asked.events()
    parameters = {**events.parameters, "axis_begin": plain(begin), "axis_end": plain(end)}
    rows = index.rows(_BARS.format(bucket=bucket, condition=events.sql), parameters)
    bars = tuple(Bar(_midnight(start), success, failed, unknown) for start, success, failed, unknown in rows)
    outside = _count(index, asked) - sum(bar.total for bar in bars)
    return Timeline(begin, end, bucket, bars, outside, statement.silences, statement.losses, omitted)


def _count(index: Index, asked: Range) -> int:
    condition = asked.events()
    return int(index.rows(f"SELECT count(*) FROM events WHERE {condition.sql}", condition.parameters)[0][0])  # noqa: S608 -- constants


def _after(time: datetime) -> datetime:
    """Return the moment after a time; the last one of all has none."""
    return min(time, _LAST - _MOMENT) + _MOMENT


def _floor(time: datetime, bucket: Bucket) -> datetime:
    day = time.replace(hour=0, minute=0, second=0, microsecond=0)
    if bucket == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if bucket == "month" else day


def _midnight(moment: Any) -> datetime:
    # The database returns a day where it truncates to one.
    return aware(datetime(moment.year, moment.month, moment.day))  # noqa: DTZ001 -- made aware here
