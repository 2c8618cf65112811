"""Catalog coverage: which of the events that a service is expected to record were seen, when last, and by whom.

Invariants: every entry of the catalog is in the answer, seen or not; an event counts for the one entry that the agent, too, would
have found for it; an event that no entry names is listed. This module must not say whether a coverage is good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..ask.filters import ALL
from .tally import Range, Seen, Tally, aware_or_none, rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ...events.catalog import Catalog, Entry
    from ..ask.filters import Scope
    from ..index import Index
    from .tally import Row

MAX_UNCATALOGUED: Final = 500
MAX_SERVICES: Final = 1000


@dataclass(frozen=True, slots=True)
class CoveredEntry:
    """One entry of the catalog, and what was seen of it.

    Attributes:
        entry: The entry; its action may be a beginning followed by ``*``.
        seen: What was seen; its count is 0 where nothing was.
    """

    entry: Entry
    seen: Seen


@dataclass(frozen=True, slots=True)
class UncataloguedAction:
    """An action that no entry names.

    Attributes:
        action: Its name.
        seen: What was seen of it.
    """

    action: str
    seen: Seen


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The lines that were kept in quarantine for one reason.

    Attributes:
        reason: Of the trail format's list.
        count: How many.
        first: When the agent read the first, aware, UTC.
        last: When it read the newest.
        services: ``namespace/service``, sorted.
    """

    reason: str
    count: int
    first: datetime | None
    last: datetime | None
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceCoverage:
    """What one service recorded in the range.

    Attributes:
        service: ``namespace/service``.
        trails: How many trails it has, in any range.
        untrusted_trails: How many of them nobody vouches for.
        batches: Batches sealed in the range.
        events: Events in them that occurred in the range.
        quarantined: Lines quarantined in the range.
        gaps: Gap records of the range.
        actions: How many different actions its events have.
        last_event: When its newest event of the range occurred, aware, UTC.
        last_sealed: When its newest batch of the range was sealed, by the agent's clock.
    """

    service: str
    trails: int
    untrusted_trails: int
    batches: int
    events: int
    quarantined: int
    gaps: int
    actions: int
    last_event: datetime | None
    last_sealed: datetime | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """The answer.

    Attributes:
        since: The beginning of the range, aware, UTC; None: no bound.
        until: Its end, not included.
        has_catalog: Whether a catalog was given.
        entries: Every entry of the catalog, in its order.
        uncatalogued: Actions that no entry names, the most frequent first; at most 500.
        more_uncatalogued: Whether there are more such actions than these.
        uncatalogued_events: How many events have an action that no entry names.
        quarantined: By reason, the most frequent first.
        services: Sorted by name.
        events: All events of the range.
        untrusted: How many of them are in trails that nobody vouches for.
    """

    since: datetime | None
    until: datetime | None
    has_catalog: bool
    entries: tuple[CoveredEntry, ...]
    uncatalogued: tuple[UncataloguedAction, ...]
    more_uncatalogued: bool
    uncatalogued_events: int
    quarantined: tuple[Quarantined, ...]
    services: tuple[ServiceCoverage, ...]
    events: int
    untrusted: int

    @property
    def seen(self) -> tuple[CoveredEntry, ...]:
        """The entries of which an event was seen."""
        return tuple(each for each in self.entries if each.seen.count)

    @property
    def unseen(self) -> tuple[CoveredEntry, ...]:
        """The entries of which none was."""
        return tuple(each for each in self.entries if not each.seen.count)

    @property
    def privileged(self) -> tuple[CoveredEntry, ...]:
        """The entries that only some actors may do, and that were seen."""
        return tuple(each for each in self.seen if each.entry.privileged)


def coverage(
    index: Index,
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Coverage:
    """Return which catalogued events were seen.

    Args:
        index: Where to look.
        scope: What may be seen.
        catalog: What is expected; None: every action is uncatalogued.
        since: Events that occurred at this time or later; an aware time.
        until: Events that occurred before this time; an aware time.

    Raises:
        ConfigError: A time has no zone, or the range ends before it begins.
    """
    asked = Range.of(scope, since, until)
    counting = _Counting(catalog)
    for row in rows(index, asked):
        counting.add(row)
    return Coverage(
        since=asked.since,
        until=asked.until,
        has_catalog=catalog is not None,
        entries=counting.entries(),
        uncatalogued=counting.uncatalogued(),
        more_uncatalogued=counting.more,
        uncatalogued_events=counting.others.count,
        quarantined=_quarantined(index, asked),
        services=_services(index, asked),
        events=counting.all.count,
        untrusted=counting.all.untrusted,
    )


class _Counting:
    """Counts rows by the catalog's entries."""

    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog = catalog
        self._entries: dict[str, Tally] = {}
        self._others: dict[str, Tally] = {}
        self.more = False
        self.all, self.others = Tally(), Tally()

    def add(self, row: Row) -> None:
        self.all.add(row)
        entry = None if self._catalog is None else self._catalog.entry(row.action)
        if entry is not None:
            self._entries.setdefault(entry.action, Tally()).add(row)
            return
        self.others.add(row)
        if row.action in self._others or len(self._others) < MAX_UNCATALOGUED:
            self._others.setdefault(row.action, Tally()).add(row)
        else:
            # A service could make up as many names as it likes.
            self.more = True

    def entries(self) -> tuple[CoveredEntry, ...]:
        known: Iterable[Entry] = () if self._catalog is None else self._catalog.entries
        return tuple(CoveredEntry(entry, Seen.of(self._entries.get(entry.action, Tally()))) for entry in known)

    def uncatalogued(self) -> tuple[UncataloguedAction, ...]:
        found = [UncataloguedAction(action, Seen.of(tally)) for action, tally in self._others.items()]
        return tuple(sorted(found, key=lambda each: (-each.seen.count, each.action)))


_QUARANTINED: Final = """SELECT reason, count(*) AS n, min(observed_at), max(observed_at),
        list(DISTINCT t.namespace || '/' || t.service ORDER BY t.namespace || '/' || t.service)[1:200]
    FROM quarantine q JOIN trails t USING (trail) WHERE {condition} GROUP BY reason ORDER BY n DESC, reason"""


def _quarantined(index: Index, asked: Range) -> tuple[Quarantined, ...]:
    condition = asked.trails("observed_at")
    found = index.rows(_QUARANTINED.format(condition=condition.sql), condition.parameters)
    return tuple(
        Quarantined(reason, count, aware_or_none(first), aware_or_none(last), tuple(services))
        for reason, count, first, last, services in found
    )


_SERVICES: Final = """
    WITH t AS (SELECT *, namespace || '/' || service AS named FROM trails WHERE {trails}),
    b AS (SELECT named, count(*) AS n, max(sealed_at) AS newest FROM batches JOIN t USING (trail) WHERE {batches} GROUP BY named),
    q AS (SELECT named, count(*) AS n FROM quarantine JOIN t USING (trail) WHERE {observed} GROUP BY named),
    g AS (SELECT named, count(*) AS n FROM gaps JOIN t USING (trail) WHERE {observed} GROUP BY named),
    e AS (SELECT namespace || '/' || service AS named, count(*) AS n, max(occurred_at) AS newest, count(DISTINCT action) AS actions
        FROM events WHERE {events} GROUP BY 1)
    SELECT t.named, count(*), count(*) FILTER (t.trusted_by IS NULL), any_value(b.n), any_value(e.n), any_value(q.n), any_value(g.n),
        any_value(e.actions), any_value(e.newest), any_value(b.newest)
    FROM t LEFT JOIN b USING (named) LEFT JOIN q USING (named) LEFT JOIN g USING (named) LEFT JOIN e USING (named)
    GROUP BY t.named ORDER BY t.named LIMIT {most}"""


def _services(index: Index, asked: Range) -> tuple[ServiceCoverage, ...]:
    trails, batches, observed, events = asked.trails(), asked.times("sealed_at", "b"), asked.times("observed_at", "o"), asked.events()
    sql = _SERVICES.format(trails=trails.sql, batches=batches.sql, observed=observed.sql, events=events.sql, most=MAX_SERVICES)
    parameters = trails.parameters | batches.parameters | observed.parameters | events.parameters
    return tuple(
        ServiceCoverage(
            service=service,
            trails=all_trails,
            untrusted_trails=untrusted,
            batches=sealed or 0,
            events=recorded or 0,
            quarantined=quarantined or 0,
            gaps=lost or 0,
            last_event=aware_or_none(last_event),
            last_sealed=aware_or_none(last_sealed),
            actions=actions or 0,
        )
        for service, all_trails, untrusted, sealed, recorded, quarantined, lost, actions, last_event, last_sealed in index.rows(
            sql, parameters
        )
    )
