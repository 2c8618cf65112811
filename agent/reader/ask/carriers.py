"""The events that carry a value of a context, counted and listed for the events that are asked about.

Invariants: however many events carry a value, which whoever writes to a store decides, what is kept of them has a bound for each event
asked about; an event is counted among the carriers of its own value. This module must not decide what is found.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from .filters import Filter, where
from .found import COLUMNS, ORDER, Found, found, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import duckdb

    from ...events.catalog import Catalog
    from ..index import Index
    from .filters import Scope

MAX_COUNTERPARTS: Final = 20
_FETCHED_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Counts:
    """What there is to know of all carriers of a value, however many, for an event with some action; the event itself is among them.

    Attributes:
        total: How many there are.
        counting: How many of them count as counterparts.
        succeeded: How many of those succeeded.
        first_actor_id: The first in order of the actors of those that succeeded; None if there are none.
        last_actor_id: The last in order.
        earliest: When the first of those that succeeded occurred, and the second; fewer if there are fewer.
        trusted: How many of those that succeeded are of a trail that somebody vouches for.
        own_counts: Whether an event of this action counts itself.
    """

    total: int
    counting: int
    succeeded: int
    first_actor_id: str | None
    last_actor_id: str | None
    earliest: tuple[datetime | None, ...]
    trusted: int
    own_counts: bool


@dataclass(frozen=True, slots=True)
class Carriers:
    """What there is to know of the carriers of some values, by value and action of who asks; and some of them by value.

    Attributes:
        counts: By value and action.
        listed: By value: the carriers that come into question for a list, each with whether its action is one of those asked for.
        explicit: Whether actions were asked for; if not, every action counts but that of who asks.
    """

    counts: dict[tuple[str, str], Counts]
    listed: dict[str, list[tuple[Found, bool]]]
    explicit: bool

    def listed_for(self, event: Found, value: str) -> Iterator[tuple[Found, bool]]:
        """Yield the listed carriers of a value, each with whether it counts as a counterpart of the event."""
        for one, is_wanted in self.listed[value]:
            yield one, is_wanted if self.explicit else one.action != event.action


VALUE: Final = "TRY(json_extract_string(context, $path)) AS correlation_value"
# Few contexts hold the key; those that hold none and no escape either are not parsed.
_MAKE: Final = """CREATE TEMP TABLE carriers AS SELECT *, {wanted} AS wanted FROM (
    SELECT {columns}, {value} FROM events WHERE {allowed} AND (contains(context, $key) OR contains(context, '\\')))
    WHERE correlation_value IN (SELECT unnest($values::VARCHAR[]))"""
_COUNTS: Final = """WITH asked AS (SELECT unnest($values::VARCHAR[]) AS own_value, unnest($actions::VARCHAR[]) AS own_action),
    judged AS (SELECT carriers.*, own_action, {counts} AS counts, {counts} AND outcome = 'success' AS good
        FROM carriers JOIN asked ON correlation_value = own_value)
    SELECT correlation_value, own_action, count(*), count(*) FILTER (counts), count(*) FILTER (good),
        min(actor_id) FILTER (good), max(actor_id) FILTER (good), min(occurred_at, 2) FILTER (good), count(*) FILTER (good AND trusted),
        bool_or(wanted AND action = own_action)
    FROM judged GROUP BY correlation_value, own_action"""
_LISTED: Final = f"""SELECT {{columns}}, wanted, correlation_value FROM (
        SELECT *, row_number() OVER (PARTITION BY correlation_value, action ORDER BY outcome <> 'success', {ORDER}) AS turn
        FROM carriers WHERE correlation_value IN (SELECT unnest($values::VARCHAR[])))
    QUALIFY row_number() OVER (PARTITION BY correlation_value ORDER BY wanted DESC, turn, {ORDER}) <= $most"""  # noqa: S608 -- constants


class CarrierTable:
    """All carriers of some values, collected once."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, catalog: Catalog | None, *, explicit: bool) -> None:
        """Take what `collected` made."""
        self._cursor, self._catalog, self._explicit = cursor, catalog, explicit

    @classmethod
    @contextmanager
    def collected(
        cls, index: Index, values: Sequence[str], pointer: str, scope: Scope, counterpart: tuple[str, ...], catalog: Catalog | None
    ) -> Iterator[Self]:
        """Look through everything that the scope allows, and yield the table of what carries one of the values.

        Args:
            index: Where to look.
            values: The values, as text.
            pointer: Where they stand in a context (RFC 6901).
            scope: What may be seen.
            counterpart: Globs over the actions that count; none: all but that of who asks.
            catalog: Gives events their category.
        """
        allowed, wanted = where(Filter(), scope), where(Filter(action=counterpart), prefix="w")
        hint = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        cursor = index.cursor()
        try:
            # Temporary tables are the connection's own, and this connection is ours alone.
            made = _MAKE.format(columns=COLUMNS, value=VALUE, allowed=allowed.sql, wanted=wanted.sql)
            cursor.execute(made, {**allowed.parameters, **wanted.parameters, "path": pointer, "values": list(values), "key": hint})
            yield cls(cursor, catalog, explicit=bool(counterpart))
        finally:
            cursor.close()

    def of(self, asked: Sequence[tuple[str, str]]) -> Carriers:
        """Return the carriers for some events.

        Args:
            asked: Value and action of each event, each pair once.
        """
        counted: dict[tuple[str, str], Counts] = {}
        listed: dict[str, list[tuple[Found, bool]]] = {value: [] for value, _ in asked}
        if not asked:
            return Carriers(counted, listed, self._explicit)
        parameters = {"values": [value for value, _ in asked], "actions": [action for _, action in asked]}
        counts = "wanted" if self._explicit else "action <> own_action"
        self._cursor.execute(_COUNTS.format(counts=counts), parameters)
        for value, action, total, counting, succeeded, first, last, earliest, trusted, own_counts in self._fetched():
            times = tuple(moment(time) for time in earliest or ())
            counted[value, action] = Counts(total, counting, succeeded, first, last, times, trusted, self._explicit and own_counts)
        self._cursor.execute(_LISTED.format(columns=COLUMNS), {"most": 2 * MAX_COUNTERPARTS + 1, "values": list(listed)})
        for *row, is_wanted, value in self._fetched():
            listed[value].append((found(row, self._catalog), is_wanted))
        return Carriers(counted, listed, self._explicit)

    def _fetched(self) -> Iterator[tuple[Any, ...]]:
        while rows := self._cursor.fetchmany(_FETCHED_AT_ONCE):
            yield from rows
