"""The application: which addresses there are, and what stands around all of them.

Invariants: every address is in `ROUTES`, so that a test can try each of them; all are read-only but for the way in and out. This module
must not hold any logic of a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from .attempts import Attempts
from .guard import ATTEMPTS, DESK, bounded, guarded, outermost
from .pages import control, entry, event, export, health, search

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .desk import Desk

_EVENT: Final = "/event/{namespace}/{service}/{epoch}/{instance}/{seq:[0-9]{1,18}}"


class Route(NamedTuple):
    """One address."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]


ROUTES: Final = (
    Route("GET", "/enter", entry.show_form),
    Route("POST", "/enter", entry.take_token),
    Route("GET", "/healthz", entry.healthz),
    Route("GET", "/static/{name}", entry.static),
    Route("POST", "/leave", entry.leave),
    Route("GET", "/", search.show_search),
    Route("GET", "/statement.json", search.show_statement),
    Route("GET", _EVENT, event.show_event),
    Route("GET", f"{_EVENT}/proof", event.send_proof),
    Route("GET", f"{_EVENT}/leaf", event.send_leaf),
    Route("GET", "/health", health.show_health),
    Route("GET", "/quarantine", health.show_quarantine),
    Route("GET", "/coverage", control.show_coverage),
    Route("GET", "/control", control.show_control),
    Route("GET", "/export", export.show_export),
    Route("GET", "/export/file", export.send_export),
)


def make_app(desk: Desk) -> web.Application:
    """Build the application over a desk."""
    app = web.Application(middlewares=[outermost, bounded, guarded], client_max_size=desk.bounds.body_bytes)
    app[DESK] = desk
    app[ATTEMPTS] = Attempts(desk.bounds.failed_tokens)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler)
    return app
