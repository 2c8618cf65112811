"""The control table: for each control, what evidence the trail holds, and the command that shows it.

Invariants: a count is of the events that the command beside it shows; a control without any evidence says so; reviews and facts of the
pipeline are of the scope alone. This module must not judge: it never says that a control is met.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..ask.filters import ALL, Filter
from ..ask.words import as_command
from .pipeline import Weight, facts, look
from .reviews import reviews
from .table import CONTROLS
from .tally import Range, Seen, Tally, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...events.catalog import Catalog
    from ..ask.filters import Scope
    from ..ask.stated import Statement
    from ..index import Index
    from .pipeline import Stated
    from .reviews import Review
    from .table import Definition, Fact, Question
    from .tally import Row
    from .verification import Verification


@dataclass(frozen=True, slots=True)
class Evidence:
    """The events that speak of a control in one respect.

    Attributes:
        title: What they show.
        filter: What finds them.
        correlate: A path in the context whose equal values belong together; empty: none.
        seen: What was seen; its count is 0 where nothing was.
        command: The command line that shows them.
    """

    title: str
    filter: Filter
    correlate: str
    seen: Seen
    command: str


@dataclass(frozen=True, slots=True)
class Control:
    """One control.

    Attributes:
        id: Its number in the criteria.
        title: A short name.
        sentence: What it asks for, in our own words.
        events: How many events speak of it in any respect, each counted once.
        evidence: By question, seen or not.
        facts: What the pipeline itself says.
    """

    id: str
    title: str
    sentence: str
    events: int
    evidence: tuple[Evidence, ...]
    facts: tuple[Stated, ...]

    @property
    def has_evidence(self) -> bool:
        """Whether there is any event, or any fact that is evidence."""
        return any(each.seen.count for each in self.evidence) or any(each.weight is not Weight.NONE for each in self.facts)


@dataclass(frozen=True, slots=True)
class ControlTable:
    """The answer.

    Attributes:
        since: The beginning of the range, aware, UTC; None: no bound.
        until: Its end, not included.
        has_catalog: Whether categories of a catalog were used; else names of actions stood in for them.
        controls: In the order of the criteria.
        reviews: The reviews that were signed in the range, the oldest first.
        statement: What all of it stands on.
    """

    since: datetime | None
    until: datetime | None
    has_catalog: bool
    controls: tuple[Control, ...]
    reviews: tuple[Review, ...]
    statement: Statement


def controls(
    index: Index,
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    now: datetime | None = None,
    catalog_file: str | None = None,
    verification: Verification | None = None,
) -> ControlTable:
    """Return what evidence there is for each control.

    Args:
        index: Where to look.
        scope: What may be seen.
        catalog: Gives actions their category; without one, names of actions stand in.
        since: Events that occurred at this time or later; an aware time.
        until: Events that occurred before this time; an aware time.
        now: The clock, aware, UTC; by default the system's.
        catalog_file: The catalog's file, for commands.
        verification: What `verify` said of the store; only where all of the store may be seen.

    Raises:
        ConfigError: A time has no zone, or the range ends before it begins.
    """
    asked = Range.of(scope, since, until)
    gatherers = [[_Gatherer(question, catalog) for question in definition.questions] for definition in CONTROLS]
    counts = [0] * len(gatherers)
    for row in rows(index, asked):
        for at, each in enumerate(gatherers):
            # All of them are to see the row, whatever the first one says.
            answered = [gatherer.add(row) for gatherer in each]
            counts[at] += row.events if any(answered) else 0
    signed = reviews(index, scope, since, until)
    pipeline = look(index, asked, datetime.now(UTC) if now is None else now)
    stated = facts(pipeline, signed, index.store, verification)

    def command(filter: Filter, correlate: str) -> str:  # noqa: A002 -- the API's word
        more = ["--catalog", catalog_file] if catalog_file is not None and filter.category else []
        return as_command(filter, index.store, [*(["--correlate", correlate] if correlate else []), *more])

    return ControlTable(
        since=asked.since,
        until=asked.until,
        has_catalog=catalog is not None,
        controls=tuple(
            _control(definition, count, [gatherer.evidence(asked, command) for gatherer in each], stated)
            for definition, count, each in zip(CONTROLS, counts, gatherers, strict=True)
        ),
        reviews=signed,
        statement=pipeline.statement,
    )


def _control(definition: Definition, events: int, evidence: list[Evidence], stated: Mapping[Fact, Stated]) -> Control:
    chosen = tuple(stated[fact] for fact in definition.facts)
    return Control(definition.id, definition.title, definition.sentence, events, tuple(evidence), chosen)


class _Gatherer:
    """Gathers what answers one question."""

    def __init__(self, question: Question, catalog: Catalog | None) -> None:
        self._question = question
        self._catalog = catalog
        self._categories = frozenset(question.categories if catalog is not None else ())
        # The table's globs are whole names, or beginnings: quicker compared than matched, for a service may make up a million names.
        self._exact = frozenset(glob for glob in question.actions if not glob.endswith("*"))
        self._beginnings = tuple(glob[:-1] for glob in question.actions if glob.endswith("*"))
        self._tally = Tally()

    def add(self, row: Row) -> bool:
        """Take one more row; return whether it answers the question."""
        answers = (not self._question.outcomes or row.outcome in self._question.outcomes) and self._answers(row.action)
        if answers:
            self._tally.add(row)
        return answers

    def _answers(self, action: str) -> bool:
        if self._categories and self._catalog is not None:
            entry = self._catalog.entry(action)
            return entry is not None and entry.category.value in self._categories
        return action in self._exact or action.startswith(self._beginnings)

    def evidence(self, asked: Range, command: Callable[[Filter, str], str]) -> Evidence:
        question = self._question
        chosen = Filter(
            action=() if self._categories or question.actions == ("*",) else question.actions,
            category=tuple(sorted(self._categories)),
            outcome=question.outcomes,
        )
        if not asked.empty:
            chosen = replace(chosen, since=asked.since, until=asked.until)
        shown = replace(chosen, service=asked.scope.services) if asked.scope.services else chosen
        return Evidence(question.title, shown, question.correlate, Seen.of(self._tally), command(shown, question.correlate))
