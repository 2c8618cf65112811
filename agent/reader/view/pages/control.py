"""Catalog coverage and the control report, as `trailseal report` has them, within the scope.

Invariants: nothing is judged here: what the functions of `control` say is shown. This module must not count anything itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ask.filters import Filter
from ...ask.statement import statement
from ...control.controls import controls
from ...control.coverage import coverage
from ..guard import visit_of
from ..parameters import pairs, read_filter, written
from .search import dict_of

if TYPE_CHECKING:
    from typing import Any

    from aiohttp import web

    from ..sight import Sight


def _asked(request: web.Request) -> Filter:
    whole = read_filter(request.query)
    return Filter(since=whole.since, until=whole.until)


async def show_coverage(request: web.Request) -> web.StreamResponse:
    """Answer ``/coverage``."""
    visit = visit_of(request)
    asked = _asked(request)
    visit.trace.context["query"] = dict_of(pairs(asked))

    def look(sight: Sight) -> dict[str, Any]:
        found = coverage(sight, visit.grant.scope, visit.desk.catalog, asked.since, asked.until)
        return {"found": found, "said": statement(sight, asked, visit.grant.scope, visit.desk.now(), matched=found.events)}

    return visit.page("coverage.html", **_times(asked), **await visit.ask(look))


async def show_control(request: web.Request) -> web.StreamResponse:
    """Answer ``/control``."""
    visit = visit_of(request)
    asked = _asked(request)
    visit.trace.context["query"] = dict_of(pairs(asked))

    def look(sight: Sight) -> dict[str, Any]:
        desk = visit.desk
        table = controls(sight, visit.grant.scope, desk.catalog, asked.since, asked.until, now=desk.now())
        return {"table": table, "said": table.statement}

    return visit.page("control.html", **_times(asked), **await visit.ask(look))


def _times(asked: Filter) -> dict[str, str]:
    return {"since": written(asked.since) if asked.since else "", "until": written(asked.until) if asked.until else ""}
