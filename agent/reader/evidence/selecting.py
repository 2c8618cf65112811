"""Which events go into a pack: those that match, and, where that is asked for, their counterparts.

A grant without its approval proves little, so what is put beside an event (`agent.reader.ask.correlation`) goes into the pack with its
own proof; which belongs to which is a table for reading. Invariants: nothing beyond the scope is selected; more events than allowed are
an error, never cut. Memory holds the numbers of the events. This module must not read a store.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError
from ..ask.correlation import EXPLANATIONS, Finding, each_pair
from ..ask.filters import ALL, where
from ..ask.found import zulu
from ..ask.words import further_words
from . import packing

if TYPE_CHECKING:
    from pathlib import Path

    from ...events.catalog import Catalog
    from ..ask.correlation import Pair
    from ..ask.filters import Filter, Scope
    from ..index import Index

PAIR_COLUMNS: Final = (
    "occurred_at",
    "actor_id",
    "action",
    "target_id",
    "outcome",
    "value",
    "finding",
    "remarks",
    "counterparts",
    "event_id",
    "origin",
    "seq",
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a pack answers.

    Attributes:
        filter: What is asked for.
        scope: What may be seen.
        catalog: Gives events their category, where the filter asks for one.
        limit: How many events there may be, counterparts included.
        correlate: The path of the value that counterparts share (``context.approval_id``), if they are wanted.
        counterpart: Globs over the actions that count as counterparts; every action but the event's own by default.
        catalog_file: The file that the catalog was read from, for the command that asks again; None if there is none to name.
        renderings: In the words of which other schemas the pack holds the events, too (`agent.reader.renderings`).
    """

    filter: Filter
    scope: Scope = ALL
    catalog: Catalog | None = None
    limit: int = packing.DEFAULT_EVENTS
    correlate: str | None = None
    counterpart: tuple[str, ...] = ()
    catalog_file: Path | None = None
    renderings: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words of a command line beside the filter."""
        return further_words(self.filter, self.catalog_file, self.correlate, self.counterpart)


@dataclass(slots=True)
class Selection:
    """What goes into a pack.

    Attributes:
        wanted: Trail and number of every event, in the pack's order, each once.
        matched: How many of them match; the others are counterparts.
        findings: How many events there are of each finding, where counterparts were looked for.
        omitted: How many counterparts are left out because one event has too many.
        pairs: The table of pairs, a line of CSV each; none where counterparts were not looked for.
    """

    wanted: list[tuple[str, int]] = field(default_factory=list)
    matched: int = 0
    findings: Counter[Finding] = field(default_factory=Counter)
    omitted: int = 0
    pairs: list[str] = field(default_factory=list)


def select(index: Index, question: Question) -> Selection:
    """Find the events of a pack.

    Raises:
        ConfigError: There are more than the question allows.
    """
    condition = where(question.filter, question.scope, question.catalog)
    sql = f"SELECT origin, seq FROM events WHERE {condition.sql} ORDER BY origin, seq LIMIT $most"  # noqa: S608 -- constants
    found = index.rows(sql, {**condition.parameters, "most": question.limit + 1})
    if len(found) > question.limit:
        raise _too_many(question)
    selected = Selection([(origin, seq) for origin, seq in found], len(found))
    if question.correlate is not None:
        _add_counterparts(index, question, question.correlate, selected)
    return selected


def _too_many(question: Question) -> ConfigError:
    return ConfigError(
        f"more than {question.limit:,} events match, which is more than the pack may hold",
        hint=f"Ask for a shorter time or fewer services, or raise --limit (at most {packing.MAX_EVENTS:,}).",
    )


def _add_counterparts(index: Index, question: Question, path: str, selected: Selection) -> None:
    wanted = set(selected.wanted)
    selected.pairs.append(packing.csv_line(PAIR_COLUMNS))
    for pair in each_pair(index, question.filter, path, question.scope, question.catalog, counterpart=question.counterpart):
        wanted.add(pair.event.reference)
        wanted.update(other.reference for other in pair.counterparts)
        if len(wanted) > question.limit:
            raise _too_many(question)
        selected.findings[pair.finding] += 1
        selected.omitted += pair.total - len(pair.counterparts)
        selected.pairs.append(_pair_line(pair))
    selected.wanted = sorted(wanted)


def _pair_line(pair: Pair) -> str:
    event = pair.event
    counterparts = "; ".join(
        f"{one.action} {one.outcome} by {one.actor_id} at {zulu(one.occurred_at)} ({one.event_id})" for one in pair.counterparts
    )
    more = pair.total - len(pair.counterparts)
    values = (
        zulu(event.occurred_at),
        event.actor_id,
        event.action,
        event.target_id,
        event.outcome,
        pair.value,
        EXPLANATIONS[pair.finding],
        "; ".join(pair.remarks),
        f"{counterparts}; and {more} more" if more else counterparts,
        event.event_id,
        event.origin,
        str(event.seq),
    )
    return packing.csv_line(values)
