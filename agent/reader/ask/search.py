"""Searches: events, how many there are, what they are made of, and when they happened.

Invariants: every function takes the scope and never answers beyond it; pages join up whatever is added to the index meanwhile,
because a page goes on after an event and not after a number; nothing is sampled or estimated. This module must not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ...errors import ConfigError
from .filters import ALL, Filter, plain, where
from .found import COLUMNS, NEWEST_FIRST, ORDER, Found, Place, category_of, found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...events.catalog import Catalog
    from ..index import Index
    from .filters import Scope

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 10_000
TOP: Final = 10
_FETCHED_AT_ONCE: Final = 1000
MOST_BARS: Final = 20_000
_FEW_BARS: Final = 120
_EVERYTHING: Final = Filter()

Bucket = Literal["minute", "hour", "day", "week", "month"]
_BUCKET_SECONDS: Final[dict[Bucket, int]] = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
_FACETS: Final = {
    "actor": "actor_id",
    "action": "action",
    "target": "target_type || '/' || target_id",
    "outcome": "outcome",
    "service": "namespace || '/' || service",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A part of an answer.

    Attributes:
        events: In the order asked for.
        after: Where the next page goes on; None if this was the last.
    """

    events: tuple[Found, ...]
    after: Place | None


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a facet.

    Attributes:
        value: The text.
        count: How many events have it.
    """

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Bar:
    """The events of one outcome in one bucket of time.

    Attributes:
        start: When the bucket begins, aware, UTC.
        outcome: The outcome.
        count: How many, 1 or more.
    """

    start: datetime
    outcome: str
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """When events happened; buckets without any are left out.

    Attributes:
        bucket: How long each bucket is; calendar units, in UTC, weeks from Monday.
        bars: In the order of time.
    """

    bucket: Bucket
    bars: tuple[Bar, ...]


def search(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    limit: int = DEFAULT_LIMIT,
    after: Place | None = None,
    *,
    newest_first: bool = False,
) -> Page:
    """Return a page of the events that match.

    Args:
        index: Where to look.
        filter: What is asked for.
        scope: What may be seen.
        catalog: Gives events their category.
        limit: How many, 1 to 10,000.
        after: Go on after this place, in the same order.
        newest_first: Turn the order round.

    Raises:
        ConfigError: The limit is outside its bounds, or a category is asked for without a catalog.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigError(f"must be 1 to {MAX_LIMIT}", key="limit", hint="Ask for one page after another.")
    condition = where(filter, scope, catalog)
    parameters: dict[str, object] = {**condition.parameters, "limit": limit + 1}
    going_on = ""
    if after is not None:
        going_on = f" AND (occurred_at, origin, seq) {'<' if newest_first else '>'} ($after_time, $after_origin, $after_seq)"
        parameters |= {"after_time": plain(after.occurred_at), "after_origin": after.origin, "after_seq": after.seq}
    order = NEWEST_FIRST if newest_first else ORDER
    rows = index.rows(f"SELECT {COLUMNS} FROM events WHERE {condition.sql}{going_on} ORDER BY {order} LIMIT $limit", parameters)  # noqa: S608 -- constants
    events = tuple(found(row, catalog) for row in rows[:limit])
    return Page(events, events[-1].place if len(rows) > limit else None)


def each(index: Index, filter: Filter, scope: Scope = ALL, catalog: Catalog | None = None, *, limit: int | None = None) -> Iterator[Found]:  # noqa: A002 -- the API's word
    """Yield the events that match, in order, in bounded memory.

    Args:
        index: Where to look; not to be closed before the last event.
        filter: What is asked for.
        scope: What may be seen.
        catalog: Gives events their category.
        limit: How many at most; None: all.
    """
    condition = where(filter, scope, catalog)
    bound = "" if limit is None else f" LIMIT {int(limit)}"
    cursor = index.cursor()
    try:
        cursor.execute(f"SELECT {COLUMNS} FROM events WHERE {condition.sql} ORDER BY {ORDER}{bound}", condition.parameters)  # noqa: S608 -- constants
        while rows := cursor.fetchmany(_FETCHED_AT_ONCE):
            for row in rows:
                yield found(row, catalog)
    finally:
        cursor.close()


def event(index: Index, origin: str, seq: int, scope: Scope = ALL, catalog: Catalog | None = None) -> Found | None:
    """Return one event; None if there is none, or none that may be seen, without telling which.

    Args:
        index: Where to look.
        origin: The trail.
        seq: The leaf.
        scope: What may be seen.
        catalog: Gives the event its category.
    """
    if not 0 <= seq < 1 << 63:
        return None
    condition = where(_EVERYTHING, scope)
    sql = f"SELECT {COLUMNS} FROM events WHERE origin = $origin AND seq = $seq AND {condition.sql}"  # noqa: S608 -- constants
    rows = index.rows(sql, {**condition.parameters, "origin": origin, "seq": seq})
    return found(rows[0], catalog) if rows else None


def count(index: Index, filter: Filter, scope: Scope = ALL, catalog: Catalog | None = None) -> int:  # noqa: A002 -- the API's word
    """Return how many events match."""
    condition = where(filter, scope, catalog)
    return int(index.rows(f"SELECT count(*) FROM events WHERE {condition.sql}", condition.parameters)[0][0])  # noqa: S608 -- constants


def facets(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    top: int = TOP,
) -> dict[str, tuple[Value, ...]]:
    """Return the most frequent values among the events that match.

    Args:
        index: Where to look.
        filter: What is asked for.
        scope: What may be seen.
        catalog: Gives the facet `category`; without one it is left out.
        top: How many values of each facet.

    Returns:
        Under ``actor``, ``action``, ``target`` (``type/id``), ``outcome``, ``service`` (``namespace/service``) and ``category``: the
        values, most frequent first, equal ones in the order of their text.
    """
    condition = where(filter, scope, catalog)
    answer: dict[str, tuple[Value, ...]] = {}
    for name, column in _FACETS.items():
        sql = f"SELECT {column} AS v, count(*) AS n FROM events WHERE {condition.sql} GROUP BY v ORDER BY n DESC, v LIMIT $top"  # noqa: S608 -- constants
        answer[name] = tuple(Value(*row) for row in index.rows(sql, {**condition.parameters, "top": top}))
    if catalog is not None:
        totals: dict[str, int] = {}
        actions = index.rows(f"SELECT action, count(*) FROM events WHERE {condition.sql} GROUP BY action", condition.parameters)  # noqa: S608 -- constants
        for action, number in actions:
            category = str(category_of(action, catalog))
            totals[category] = totals.get(category, 0) + number
        answer["category"] = tuple(Value(*item) for item in sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:top])
    return answer


def histogram(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    bucket: Bucket | None = None,
) -> Histogram:
    """Return how many events of each outcome there are in each bucket of time.

    Args:
        index: Where to look.
        filter: What is asked for.
        scope: What may be seen.
        catalog: As for `search`.
        bucket: How long a bucket is; by default the shortest that makes at most 120 of them.

    Raises:
        ConfigError: There is no such bucket, or it is too short for the range.
    """
    if bucket is not None and bucket not in get_args(Bucket):
        raise ConfigError(f"must be one of {', '.join(get_args(Bucket))}", key="bucket", hint="Choose one of them.")
    condition = where(filter, scope, catalog)
    if bucket is None:
        bounds = index.rows(f"SELECT min(occurred_at), max(occurred_at) FROM events WHERE {condition.sql}", condition.parameters)  # noqa: S608 -- constants
        bucket = _bucket(*bounds[0])
    sql = (
        f"SELECT date_trunc($bucket, occurred_at) AS start, outcome, count(*) FROM events WHERE {condition.sql} "  # noqa: S608 -- constants
        "GROUP BY ALL ORDER BY start, outcome"
    )
    rows = index.rows(f"{sql} LIMIT {MOST_BARS + 1}", {**condition.parameters, "bucket": bucket})
    if len(rows) > MOST_BARS:
        raise ConfigError(f"there are more than {MOST_BARS} bars", key="bucket", hint="Choose a longer bucket, or a shorter range.")
    return Histogram(bucket, tuple(Bar(_aware(start), outcome, number) for start, outcome, number in rows))


def _bucket(first: datetime | None, last: datetime | None) -> Bucket:
    spread = timedelta() if first is None or last is None else last - first
    return next((name for name, seconds in _BUCKET_SECONDS.items() if spread.total_seconds() <= seconds * _FEW_BARS), "month")


def _aware(moment: Any) -> datetime:
    # The database returns a day where it truncates to one.
    return datetime(moment.year, moment.month, moment.day, getattr(moment, "hour", 0), getattr(moment, "minute", 0), tzinfo=UTC)
