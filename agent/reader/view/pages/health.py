"""Trail health and quarantine: who gave signs of life when, what is stated as lost, and what was no valid event.

Invariants: what is wrong comes before what is fine, so that a crowd of the latter cannot push it out of sight. This module must not put a
value into SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ....errors import FormatError
from ....trail.layout import Origin
from ...ask.filters import Filter, services_where, within
from ...ask.scoped import scoped_findings, scoped_gaps, scoped_quarantine, scoped_trails
from ...ask.statement import statement
from ..guard import visit_of
from ..parameters import text
from ..problems import Malformed
from .search import address

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from ...ask.filters import Scope
    from ..guard import Visit
    from ..sight import Sight

_MOST_ROWS: Final = 500
_FINE: Final = frozenset({"live", "closed", "stopped", "continued", "beyond"})
_PLACE: Final = re.compile(r"([^~]{1,300})~([0-9]{1,18})")
_LAG: Final = """SELECT origin, max(spool_oldest_seconds) FROM batches JOIN trails USING (trail) WHERE {condition} GROUP BY origin"""


@dataclass(frozen=True, slots=True)
class Health:
    """One trail, as the page shows it.

    Attributes:
        namespace: Of the origin.
        service: Of the origin.
        epoch: Of the origin.
        instance: Of the origin.
        state: How it ends.
        head_sealed_at: When its newest verified batch was sealed.
        age_seconds: How long ago that is, by the index's clock.
        heartbeat_seconds: How often one was promised.
        records: Records in the scope's range.
        gaps: Of these, statements of loss.
        quarantined: Of these, no valid events.
        lag_seconds: The greatest age of a record that waited when a batch was sealed.
        clock: The share of batches with a synchronized clock.
        offset_seconds: The worst offset that was stated.
        trusted: Whether somebody of the trust file vouches for it.
    """

    namespace: str
    service: str
    epoch: str
    instance: str
    state: str
    head_sealed_at: datetime | None
    age_seconds: float | None
    heartbeat_seconds: float | None
    records: int
    gaps: int
    quarantined: int
    lag_seconds: float | None
    clock: float | None
    offset_seconds: float | None
    trusted: bool


async def show_health(request: web.Request) -> web.StreamResponse:
    """Answer ``/health``."""
    visit = visit_of(request)
    return visit.page("health.html", stale=visit.desk.trouble is not None, **await visit.ask(lambda sight: _look(visit, sight)))


async def show_quarantine(request: web.Request) -> web.StreamResponse:
    """Answer ``/quarantine``."""
    visit = visit_of(request)
    after = _place(text(request.query, "after"))
    scope, most = visit.grant.scope, visit.desk.bounds.page_events

    def look(sight: Sight) -> dict[str, Any]:
        rows = scoped_quarantine(sight, scope, most + 1, after)
        said = statement(sight, _range(scope), scope, visit.desk.now(), matched=0)
        return {"rows": rows, "said": said}

    values = await visit.ask(look)
    rows = values["rows"]
    following = address("/quarantine", [("after", f"{rows[most - 1].origin}~{rows[most - 1].seq}")]) if len(rows) > most else None
    return visit.page("quarantine.html", after=after, next=following, said=values["said"], rows=rows[:most])


def _place(given: str | None) -> tuple[str, int] | None:
    if given is None:
        return None
    found = _PLACE.fullmatch(given)
    try:
        if found is None:
            raise Malformed
        return str(Origin.parse(found[1])), int(found[2])
    except (FormatError, Malformed):
        raise Malformed("This page of the answer cannot be found; begin with the first.") from None


def _range(scope: Scope) -> Filter:
    return Filter(since=scope.since, until=scope.until)


def _look(visit: Visit, sight: Sight) -> dict[str, Any]:
    scope = visit.grant.scope
    now = visit.desk.now()
    said = statement(sight, _range(scope), scope, now)
    known = {trail.origin: trail for trail in scoped_trails(sight, scope)}
    condition = services_where((), scope) & within("sealed_at", scope.since, scope.until)
    lags = dict(sight.rows(_LAG.format(condition=condition.sql), condition.parameters))
    trails = []
    for one in said.trails:
        origin = Origin.parse(one.origin)
        trail = known.get(one.origin)
        trails.append(
            Health(
                origin.namespace,
                origin.service,
                origin.epoch,
                origin.instance,
                one.head,
                one.head_sealed_at,
                None if one.head_sealed_at is None else (said.refreshed_at - one.head_sealed_at).total_seconds(),
                trail.heartbeat_seconds if trail else None,
                one.records,
                one.gaps,
                one.quarantined,
                lags.get(one.origin),
                one.clock.synchronized_share,
                one.clock.worst_offset_seconds,
                one.trusted_by is not None,
            )
        )
    trails.sort(key=lambda trail: (trail.state in _FINE, trail.trusted, -trail.gaps, trail.namespace, trail.service, trail.instance))
    return {
        "trails": trails[:_MOST_ROWS],
        "trails_total": len(trails),
        "gaps": scoped_gaps(sight, scope, _MOST_ROWS),
        "findings": scoped_findings(sight, scope)[:_MOST_ROWS],
        "said": said,
    }
