"""The way in and out, and what is public: no page here knows anything of the index.

Invariants: a token comes in a body only, and goes out in a cookie that no script and no other site can use; a post that another site's page
sent is refused. This module must not say more to somebody without a grant than that there is none.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from ..audit import Trace, trace_event
from ..grants import RefusedTokenError
from ..guard import COOKIE, DESK, LOG, html, let_in, remote_of, turn_away
from ..problems import Forbidden, Malformed, NotRecorded, NotThere
from ..rendering import STATIC, render

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FORM: Final = "application/x-www-form-urlencoded"


async def show_form(_request: web.Request) -> web.StreamResponse:
    """Show the form that takes a token."""
    return html(render("enter.html"))


async def take_token(request: web.Request) -> web.StreamResponse:
    """Exchange a token for a cookie."""
    _same_site(request)
    if request.content_type != _FORM:
        raise Malformed
    desk = request.app[DESK]
    form = await request.post()
    token = form.get("token")
    text = token.strip() if isinstance(token, str) else ""
    # A whole link is what people copy.
    text = text.rpartition("#")[2]
    try:
        grant = await let_in(text or None, desk)
    except RefusedTokenError as refused:
        raise await turn_away(request, refused) from None
    trace = Trace("view.access", ("page", "/enter"), {"status": int(HTTPStatus.SEE_OTHER)})
    event = trace_event(trace, grant=grant, now=desk.now(), outcome="success", remote=remote_of(request, desk), path=request.path)
    try:
        await desk.recorder.record(event)
    except Exception as error:
        LOG.warning("an access could not be recorded, and nobody was let in: %s", type(error).__name__)
        raise NotRecorded from error
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
    left_seconds = max(1, int((grant.expires - desk.now()).total_seconds()))
    response.set_cookie(COOKIE, text, max_age=left_seconds, path="/", httponly=True, samesite="Strict", secure=desk.secure)
    return response


async def leave(request: web.Request) -> web.StreamResponse:
    """Take the cookie back."""
    _same_site(request)
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/enter"})
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=request.app[DESK].secure)
    return response


async def healthz(_request: web.Request) -> web.StreamResponse:
    """Say that the server answers, and nothing else."""
    return web.Response(text="ok\n")


async def static(request: web.Request) -> web.StreamResponse:
    """Send one of our own files; the list is closed."""
    path = STATIC / request.match_info["name"]
    kind = _TYPES.get(path.suffix)
    if kind is None or path.parent != STATIC or not path.is_file():
        raise NotThere
    return web.Response(body=path.read_bytes(), content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"})


def _same_site(request: web.Request) -> None:
    """Refuse a post that a page of another site sent.

    Browsers say so in ``Sec-Fetch-Site`` (W3C Fetch Metadata); those that do not know it send ``Origin``, which is ``null``
    for us because our pages send no referrer.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    by_origin = origin in {None, "null"} or urlsplit(origin).netloc == request.host
    good = by_origin if site is None else site in {"same-origin", "none"}
    if not good:
        raise Forbidden("The form must be sent from this site.")
