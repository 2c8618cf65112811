"""Word the answers: results of a request, and problems (RFC 9457).

Invariants: an answer of the class 2xx is given for durable records only, and one of the classes 4xx and 5xx, `unknown_outcome`
left aside, says that nothing of the request was recorded. No answer repeats a request's content but the event ids in it.
This module must not know how anything is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec
from aiohttp import web

from .judge import Verdict

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_TYPE_PREFIX: Final = "urn:trailseal:problem:"
_encode: Final = msgspec.json.Encoder().encode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Be the answer to a request whose lines are durable.

    Attributes:
        durable: Always true: after a crash, or a power cut, every record of the request is in the trail, once.
        sealed: Whether the records are sealed, too; asked for with `wait=sealed`.
        events: How many lines are valid events.
        quarantined: How many are kept as quarantine records.
        passed: How many are not audit lines and were passed on.
        results: One for each line.
    """

    durable: bool = True
    sealed: bool
    events: int
    quarantined: int
    passed: int
    results: Sequence[Verdict]


class Problem(Exception):  # noqa: N818  an answer, and not always an error of ours
    """A request that is not carried out.

    Attributes:
        status: The HTTP status.
        name: The last part of the problem's type; of a closed list.
        title: The same for people.
    """

    status: ClassVar[int]
    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, close: bool = False) -> None:
        """Say what is the matter with this one.

        Args:
            detail: One sentence that says what to do.
            headers: Further headers of the answer.
            close: Whether the connection ends with the answer.
        """
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.close = close

    def response(self) -> web.Response:
        """Return it as ``application/problem+json``."""
        body = {"type": _TYPE_PREFIX + self.name, "title": self.title, "status": self.status, "detail": self.detail}
        response = web.Response(
            status=self.status, body=_encode(body), content_type="application/problem+json", headers={**_HEADERS, **self.headers}
        )
        if self.close:
            response.force_close()
        return response


class BadRequest(Problem):
    """The request's own words are wrong."""

    status, name, title = 400, "bad_request", "The request is not understood"


class FromBrowser(Problem):
    """A web page sent it."""

    status, name, title = 403, "from_browser", "Events are not taken from web pages"


class NotFound(Problem):
    """There is no such path."""

    status, name, title = 404, "not_found", "There is nothing here"


class WrongMethod(Problem):
    """The path knows other methods."""

    status, name, title = 405, "wrong_method", "This path has another method"


class TooSlow(Problem):
    """The body did not come in time."""

    status, name, title = 408, "too_slow", "The request's body did not come in time"


class TooLarge(Problem):
    """The body is over the limit."""

    status, name, title = 413, "too_large", "The request's body is too large"


class WrongType(Problem):
    """The body is not what this path takes."""

    status, name, title = 415, "wrong_type", "The request's body is of another type"


class Busy(Problem):
    """Other requests hold all there is."""

    status, name, title = 503, "busy", "Too many requests at once"


class NoRoom(Problem):
    """The spool is full."""

    status, name, title = 503, "no_room", "The spool has no room"


class Stopping(Problem):
    """The agent ends."""

    status, name, title = 503, "stopping", "The agent is ending"


class UnknownOutcome(Problem):
    """Accepted, but the disk did not say in time that it has it."""

    status, name, title = 504, "unknown_outcome", "The records may become durable or not"


PROBLEMS: Final = (BadRequest, FromBrowser, NotFound, WrongMethod, TooSlow, TooLarge, WrongType, Busy, NoRoom, Stopping, UnknownOutcome)


def recorded(answer: Recorded, *, waited: bool) -> web.Response:
    """Return the answer for durable records.

    Args:
        answer: What became of the lines.
        waited: Whether the request asked for a seal.

    Returns:
        201 if every line is an event, 207 if not; 202 if a seal was asked for and did not come in time.
    """
    late = waited and not answer.sealed
    status = 202 if late else 201 if answer.events == len(answer.results) else 207
    return data(_encode(answer), status)


def data(body: bytes, status: int = 200) -> web.Response:
    """Return JSON that is encoded already."""
    return web.Response(status=status, body=body, content_type="application/json", headers=_HEADERS)
