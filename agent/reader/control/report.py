"""The report: coverage, control table and timeline of one range, made together.

Invariants: all parts are of one scope and one range; no sentence claims more than was counted. This module must not write
anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ... import __version__
from ..ask.filters import ALL
from .controls import controls
from .coverage import coverage
from .tally import Range
from .timeline import timeline

if TYPE_CHECKING:
    from datetime import datetime

    from ...events.catalog import Catalog
    from ..ask.filters import Scope
    from ..ask.stated import Statement
    from ..index import Index
    from .controls import ControlTable
    from .coverage import Coverage
    from .timeline import Timeline
    from .verification import Verification

NO_CLAIM: Final = (
    "This report says what evidence the trail holds. It does not say that a control is met: that is for whoever audits it to decide."
)


@dataclass(frozen=True, slots=True)
class Report:
    """A report.

    Attributes:
        store: The store's name.
        services: What it is limited to, globs ``namespace/service``; empty: all.
        since: The beginning of the range, aware, UTC; None: no bound.
        until: Its end, not included.
        made_at: When it was made.
        refreshed_at: When the index was brought up to date with the store.
        version: The version of the program that made it.
        catalog_file: The catalog's file; None: none was given.
        coverage: Which catalogued events were seen.
        table: What evidence there is for each control.
        timeline: When events happened.
    """

    store: str
    services: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    made_at: datetime
    refreshed_at: datetime
    version: str
    catalog_file: str | None
    coverage: Coverage
    table: ControlTable
    timeline: Timeline

    @property
    def statement(self) -> Statement:
        """What all of it stands on."""
        return self.table.statement


def make_report(
    index: Index,
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    now: datetime,
    catalog_file: str | None = None,
    verification: Verification | None = None,
) -> Report:
    """Make a report.

    Args:
        index: Where to look.
        scope: What may be seen.
        catalog: What is expected.
        since: Events that occurred at this time or later; an aware time.
        until: Events that occurred before this time; an aware time.
        now: The clock, aware, UTC.
        catalog_file: The catalog's file, for commands.
        verification: What `verify` said of the store; left out where the scope names services, for it is of all of them.

    Raises:
        ConfigError: A time has no zone, or the range ends before it begins.
    """
    asked = Range.of(scope, since, until)
    known = None if scope.services else verification
    table = controls(index, scope, catalog, since, until, now=now, catalog_file=catalog_file, verification=known)
    return Report(
        store=index.store,
        services=scope.services,
        since=asked.since,
        until=asked.until,
        made_at=now,
        refreshed_at=index.refreshed_at,
        version=__version__,
        catalog_file=catalog_file,
        coverage=coverage(index, scope, catalog, since, until),
        table=table,
        timeline=timeline(index, asked, table.statement),
    )
