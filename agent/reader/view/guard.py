"""Who gets in, what every answer carries, and that every access is recorded: around all handlers, in one place.

Invariants: nothing but the public paths is answered without a grant, whether it exists or not; an answer leaves only after its event was
recorded; every answer carries the same protective headers; no token, cookie or query reaches a log; a client never sees a traceback.
This module must not know what a page shows.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import duckdb
from aiohttp import web

from ...errors import ConfigError, TrailsealError
from ..report import printable
from .attempts import Attempts
from .audit import Outcome, Trace, trace_event
from .grants import Refusal, RefusedTokenError, check, without_tokens
from .problems import Forbidden, Malformed, NotLetIn, NotRecorded, NotThere, Problem, TooLong, TooMany, TooSlow, Unavailable, WrongMethod
from .rendering import render

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .desk import Desk
    from .grants import Grant
    from .sight import Sight

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

T = TypeVar("T")

COOKIE: Final = "trailseal_view"
LOG: Final = logging.getLogger("trailseal.view")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "Server": "trailseal",
}
_TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}
_SENTENCES: Final = {
    Refusal.MISSING: NotLetIn.default,
    Refusal.INVALID: "This link is not valid. Ask whoever gave it to you for a new one.",
    Refusal.EXPIRED: "This access has expired. Ask whoever gave you the link for a new one.",
    Refusal.REVOKED: Forbidden.default,
}
_MAX_LOGGED_CHARACTERS: Final = 200

DESK: Final[web.AppKey[Desk]] = web.AppKey("desk")
ATTEMPTS: Final = web.AppKey("attempts", Attempts)


@dataclass(slots=True)
class Visit:
    """One request of somebody who was let in.

    Attributes:
        request: What was asked.
        desk: What stands behind the pages.
        grant: What allows it.
        trace: What it will be recorded as.
        files: What is closed if the answer may not leave.
    """

    request: web.Request
    desk: Desk
    grant: Grant
    trace: Trace
    files: list[IO[bytes]] = field(default_factory=list)

    async def ask(self, question: Callable[[Sight], T], *, seconds: float | None = None) -> T:
        """Ask the index within the grant's scope; see `Desk.ask`."""
        return await self.desk.ask(self.grant, question, seconds=seconds)

    def page(self, template: str, **values: Any) -> web.Response:
        """Return a page."""
        return html(render(template, grant=self.grant, path=self.request.path, **values))


_VISIT: ContextVar[Visit | None] = ContextVar("visit", default=None)


def html(text: str, status: int = 200) -> web.Response:
    """Return HTML as an answer; a text that is no Unicode cannot break it."""
    return web.Response(body=text.encode("utf-8", "backslashreplace"), status=status, content_type="text/html", charset="utf-8")


def remote_of(request: web.Request, desk: Desk) -> str:
    """Return the client's address: behind a proxy, the one that the proxy itself added, which is the last."""
    forwarded = request.headers.getall("X-Forwarded-For", []) if desk.behind_proxy else []
    last = forwarded[-1].rpartition(",")[2].strip() if forwarded else ""
    return printable(last[:64]) or request.remote or "-"


def token_of(request: web.Request) -> str | None:
    """Return what the client shows to be let in."""
    return request.cookies.get(COOKIE)


async def let_in(token: str | None, desk: Desk) -> Grant:
    """Return the grant of a token.

    Raises:
        RefusedTokenError: It lets nobody in.
        Unavailable: The book of grants cannot be read, or what is new in it cannot be recorded.
    """
    if not token:
        raise RefusedTokenError(Refusal.MISSING)
    try:
        entries = await desk.notes.catch_up()
    except ConfigError as error:
        LOG.warning("%s", printable(error.message))
        raise Unavailable from error
    except Exception as error:
        LOG.warning("a grant could not be recorded, and is not honoured: %s", printable(str(error)))
        raise NotRecorded from error
    return check(token, desk.key, known=frozenset(entries.grants), revoked=frozenset(entries.revoked), now=desk.now())


async def turn_away(request: web.Request, refused: RefusedTokenError) -> Problem:
    """Count and record a token that lets nobody in; return the answer.

    A request without any token is not recorded: whoever finds the address could fill the trail.
    """
    desk = request.app[DESK]
    problem = (Forbidden if refused.refusal is Refusal.REVOKED else NotLetIn)(_SENTENCES[refused.refusal])
    if refused.refusal is Refusal.MISSING:
        return problem
    remote = remote_of(request, desk)
    if request.app[ATTEMPTS].failed(remote, time.monotonic()):
        return TooMany()
    trace = Trace("view.denied", ("page", request.path), {"reason": refused.refusal.value})
    event = trace_event(trace, grant=refused.grant, now=desk.now(), outcome="denied", remote=remote, path=request.path)
    try:
        await desk.recorder.record(event)
    except Exception as error:  # noqa: BLE001 -- nothing is shown either way; the operator has to know
        LOG.warning("a refusal could not be recorded: %s", printable(str(error)))
    return problem


@web.middleware
async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a page, put the headers on, and write the access log."""
    desk = request.app[DESK]
    began = time.monotonic()
    # One task answers all requests of a connection: what the last one was must not be taken for this one.
    _VISIT.set(None)
    try:
        response = await handler(request)
    except Problem as problem:
        response = _problem_page(problem)
    except web.HTTPException as error:
        response = _http_page(error)
    except Exception:  # the last line before a client sees the inside
        LOG.exception("a request failed")
        response = _problem_page(Problem())
    for name, value in {**HEADERS, **(_TRANSPORT if desk.secure else {})}.items():
        response.headers.setdefault(name, value)
    visit = _VISIT.get()
    path = without_tokens(printable(request.path))[:_MAX_LOGGED_CHARACTERS]
    milliseconds = round((time.monotonic() - began) * 1000)
    who = visit.grant.id if visit else "-"
    LOG.info("%s %s %s %s %d %d ms", remote_of(request, desk), who, request.method, path, response.status, milliseconds)
    return response


def _problem_page(problem: Problem) -> web.Response:
    response = html(render("problem.html", title=problem.title, message=problem.message, status=problem.status), problem.status)
    if isinstance(problem, (Unavailable, TooMany)):
        response.headers["Retry-After"] = "60" if isinstance(problem, TooMany) else "5"
    return response


def _http_page(error: web.HTTPException) -> web.StreamResponse:
    if error.status < HTTPStatus.BAD_REQUEST:
        return error
    if error.status == HTTPStatus.NOT_FOUND:
        return _problem_page(NotThere())
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return _problem_page(WrongMethod())
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return html(render("problem.html", title=TooLong.title, message=TooLong.default, status=413), 413)
    return _problem_page(Malformed())


@web.middleware
async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what is longer than any of our own pages makes it."""
    if len(request.raw_path) > request.app[DESK].bounds.address_characters:
        raise TooLong
    return await handler(request)


def is_public(request: web.Request) -> bool:
    """Tell whether a path is answered without a grant."""
    return request.path in {"/enter", "/healthz"} or request.path.startswith("/static/")


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in who has a grant, answer, and let the answer out only when it is recorded."""
    if is_public(request):
        return await handler(request)
    desk = request.app[DESK]
    try:
        grant = await let_in(token_of(request), desk)
    except RefusedTokenError as refused:
        raise await turn_away(request, refused) from None
    trace = Trace("view.access", ("page", request.path))
    visit = Visit(request, desk, grant, trace)
    _VISIT.set(visit)
    problem: BaseException | None = None
    response: web.StreamResponse | None = None
    try:
        response = await handler(request)
    except (Problem, web.HTTPException) as error:
        problem = error
    except duckdb.InterruptException:
        problem = TooSlow()
    except TrailsealError as error:
        # The sentence may name files, keys or trails; the client gets none of it.
        LOG.warning("a request could not be answered: %s", printable(error.message))
        problem = Malformed() if isinstance(error, ConfigError) else Unavailable()
    except Exception as error:  # recorded first, like everything else
        LOG.exception("a request failed")
        problem = Problem()
        problem.__cause__ = error
    status = response.status if response is not None else getattr(problem, "status", 500)
    trace.context["status"] = status
    try:
        await _record(request, desk, grant, trace, _outcome(status))
    except NotRecorded:
        for file in visit.files:
            file.close()
        raise
    if problem is not None:
        raise problem
    assert response is not None  # noqa: S101 -- one of the two is there
    return response


def _outcome(status: int) -> Outcome:
    if status < HTTPStatus.BAD_REQUEST:
        return "success"
    return "denied" if status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN} else "failure"


async def _record(request: web.Request, desk: Desk, grant: Grant, trace: Trace, outcome: Outcome) -> None:
    event = trace_event(trace, grant=grant, now=desk.now(), outcome=outcome, remote=remote_of(request, desk), path=request.path)
    try:
        await desk.recorder.record(event)
    except Exception as error:
        LOG.warning("an access could not be recorded, and nothing was shown: %s", printable(str(error)))
        raise NotRecorded from error


def visit_of(request: web.Request) -> Visit:
    """Return the visit of a request that was let in."""
    visit = _VISIT.get()
    if visit is None or visit.request is not request:
        raise NotLetIn
    return visit
