"""Answers as flat rows, for CSV and Parquet.

Invariants: a row holds the very text that the service wrote; an event with counterparts is one row for each of them, and one row if
it has none, so that it is never left out. This module must not open files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .found import Found, zulu

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .correlation import Pair


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its name.
        type: Its type in DuckDB; Parquet's follows from it.
    """

    name: str
    type: str = "VARCHAR"


EVENT_COLUMNS: Final = (
    Column("occurred_at", "TIMESTAMP"),
    Column("actor_type"),
    Column("actor_id"),
    Column("actor_session"),
    Column("action"),
    Column("target_type"),
    Column("target_id"),
    Column("outcome"),
    Column("category"),
    Column("context"),
    Column("event_id"),
    Column("namespace"),
    Column("service"),
    Column("instance"),
    Column("origin"),
    Column("seq", "BIGINT"),
    Column("batch", "BIGINT"),
    Column("trusted", "BOOLEAN"),
    Column("observed_at", "TIMESTAMP"),
    Column("source"),
    Column("host"),
    Column("container"),
    Column("mapping"),
    Column("client"),
    Column("redacted"),
)
PAIR_COLUMNS: Final = (
    *EVENT_COLUMNS,
    Column("correlation_value"),
    Column("correlation_finding"),
    Column("correlation_remarks"),
    Column("correlation_total", "BIGINT"),
    *(Column(f"with_{column.name}", column.type) for column in EVENT_COLUMNS),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer on its way out.

    Attributes:
        columns: What each row holds.
        rows: The rows; to be gone through once.
    """

    columns: tuple[Column, ...]
    rows: Iterator[tuple[Any, ...]]


def of_events(events: Iterable[Found]) -> Rows:
    """Return events as rows."""
    return Rows(EVENT_COLUMNS, (_event(event) for event in events))


def of_pairs(pairs: Iterable[Pair]) -> Rows:
    """Return events with counterparts as rows."""
    return Rows(PAIR_COLUMNS, (row for pair in pairs for row in _pair(pair)))


def _event(event: Found) -> tuple[Any, ...]:
    return tuple(_cell(getattr(event, column.name), column) for column in EVENT_COLUMNS)


def _cell(value: Any, column: Column) -> Any:
    if value is not None and column.type == "TIMESTAMP":
        return zulu(value)
    return " ".join(value) if isinstance(value, list) else value


def _pair(pair: Pair) -> Iterator[tuple[Any, ...]]:
    left = (*_event(pair.event), pair.value, pair.finding.value, "; ".join(pair.remarks) or None, pair.total)
    for counterpart in pair.counterparts:
        yield (*left, *_event(counterpart))
    if not pair.counterparts:
        yield (*left, *(None for _ in EVENT_COLUMNS))
