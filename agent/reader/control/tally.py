"""Count events once for everything that is asked about actions: one pass over the index, one row for each kind of event.

Invariants: the scope is in the condition of every statement; memory is bounded by the number of different services, categories and
catalogued actions, whatever names a service makes up. This module must not know what an action means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..ask.filters import Condition, Filter, Scope, services_where, where, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..index import Index

_MOMENT: Final = timedelta(microseconds=1)
_FETCHED_AT_ONCE: Final = 1000
MAX_NAMES: Final = 200
"""How many different names (services, actions of a pattern) one line of a report keeps; the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a report is about: what was asked for, as far as the scope allows it.

    Attributes:
        scope: What may be seen; its times are narrowed to the range.
        since: The beginning, aware, UTC; None: from the first event on.
        until: The end, not included; None: up to the newest event.
        empty: Whether the scope allows nothing of what was asked for.
    """

    scope: Scope
    since: datetime | None
    until: datetime | None
    empty: bool = False

    @classmethod
    def of(cls, scope: Scope, since: datetime | None, until: datetime | None) -> Range:
        """Return what is left of a range under a scope.

        Raises:
            ConfigError: A time has no zone, or the range ends before it begins.
        """
        Filter(since=since, until=until)
        first = max((each for each in (since, scope.since) if each is not None), default=None)
        last = min((each for each in (until, scope.until) if each is not None), default=None)
        if first is not None and last is not None and first >= last:
            # Whoever looks at the scope alone finds a moment that may be seen, and never all of time.
            begin = scope.since if scope.until is None else scope.until - _MOMENT
            assert begin is not None  # noqa: S101 -- a scope without any bound leaves no range empty
            return cls(Scope(scope.services, begin, begin + _MOMENT), first, last, empty=True)
        return cls(Scope(scope.services, first, last), first, last)

    def events(self) -> Condition:
        """Return the condition over the view `events`."""
        return Condition("FALSE", {}) if self.empty else where(_EVERYTHING, self.scope, prefix="e")

    def trails(self, column: str | None = None) -> Condition:
        """Return the condition over `trails`, joined with a table that has a column of times, if one is named.

        Args:
            column: The column's name, of this program's own text.
        """
        condition = services_where((), self.scope, prefix="s")
        return condition if column is None else condition & self.times(column, "t")

    def times(self, column: str, prefix: str) -> Condition:
        """Return the condition for a column of times alone; whoever asks sees to the services.

        Args:
            column: The column's name, of this program's own text.
            prefix: What the parameters' names begin with.
        """
        return Condition("FALSE", {}) if self.empty else within(column, self.since, self.until, prefix=prefix)


_EVERYTHING: Final = Filter()


class Row(NamedTuple):
    """The events of one kind.

    Attributes:
        action: What was done.
        outcome: How it ended.
        service: ``namespace/service``.
        trusted: Whether the trust file vouches for the trail's key.
        events: How many, 1 or more.
        first: When the first occurred, aware, UTC.
        last: When the newest occurred.
    """

    action: str
    outcome: str
    service: str
    trusted: bool
    events: int
    first: datetime
    last: datetime


_ROWS: Final = """SELECT action, outcome, namespace || '/' || service AS named, trusted, count(*) AS n, min(occurred_at), max(occurred_at)
    FROM events WHERE {condition} GROUP BY ALL ORDER BY n DESC, action, named, outcome, trusted"""


def rows(index: Index, within_range: Range) -> Iterator[Row]:
    """Yield every kind of event in a range, the most frequent first."""
    condition = within_range.events()
    cursor = index.cursor()
    try:
        cursor.execute(_ROWS.format(condition=condition.sql), condition.parameters or None)
        while fetched := cursor.fetchmany(_FETCHED_AT_ONCE):
            for action, outcome, service, trusted, count, first, last in fetched:
                yield Row(action, outcome, service, trusted, count, aware(first), aware(last))
    finally:
        cursor.close()


def aware(moment: Any) -> datetime:
    """Return a time of the index as an aware one."""
    found: datetime = moment.replace(tzinfo=UTC)
    return found


def aware_or_none(moment: Any) -> datetime | None:
    """Return a time of the index as an aware one; None for none."""
    return None if moment is None else aware(moment)


@dataclass(slots=True)
class Tally:
    """Sum up rows.

    Attributes:
        count: How many events.
        untrusted: How many of them are in trails that nobody vouches for.
        first: When the first occurred.
        last: When the newest occurred.
        outcomes: Events by outcome.
        services: Events by ``namespace/service``; at most `MAX_NAMES` of them, the most frequent kinds first.
        actions: Events by action, likewise.
        more: Whether there are more services or actions than are kept.
    """

    count: int = 0
    untrusted: int = 0
    first: datetime | None = None
    last: datetime | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    services: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    more: bool = False

    def add(self, row: Row) -> None:
        """Take one more row."""
        self.count += row.events
        self.untrusted += 0 if row.trusted else row.events
        self.first = row.first if self.first is None else min(self.first, row.first)
        self.last = row.last if self.last is None else max(self.last, row.last)
        self.outcomes[row.outcome] = self.outcomes.get(row.outcome, 0) + row.events
        for names, name in ((self.services, row.service), (self.actions, row.action)):
            if name in names or len(names) < MAX_NAMES:
                names[name] = names.get(name, 0) + row.events
            else:
                self.more = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of some events; see `Tally`."""

    count: int
    untrusted: int
    first: datetime | None
    last: datetime | None
    outcomes: tuple[tuple[str, int], ...]
    services: tuple[tuple[str, int], ...]
    actions: tuple[tuple[str, int], ...]
    more: bool

    @classmethod
    def of(cls, tally: Tally) -> Seen:
        """Freeze a tally; names are sorted by how frequent they are."""
        outcomes, services, actions = map(_by_count, (tally.outcomes, tally.services, tally.actions))
        return cls(tally.count, tally.untrusted, tally.first, tally.last, outcomes, services, actions, tally.more)


def _by_count(names: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(names.items(), key=lambda item: (-item[1], item[0])))
