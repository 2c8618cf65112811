"""Speak HTTP with the clients: bound what they may cost, and hand bodies on.

Invariants: what all requests hold together, the number of connections, and the time a client may take for anything are bounded;
a request that is refused has left nothing behind; a browser's request is refused, so that no web page can write audit events
through the loopback interface (RFC 6454 section 7 has browsers send `Origin` with every request that posts). This module must
not know what becomes of a body.
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import hdrs, web

from ...errors import TrailsealError
from .replies import (
    BadRequest,
    Busy,
    FromBrowser,
    NotFound,
    Problem,
    Stopping,
    TooLarge,
    TooSlow,
    WrongMethod,
    WrongType,
    data,
    recorded,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.web_protocol import RequestHandler

    from .replies import Recorded
    from .settings import SocketSettings

EVENTS: Final = "/v1/events"
_METHODS: Final = {EVENTS: "POST", "/openapi.json": "GET", "/healthz": "GET"}
_ONE: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_REFUSAL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_SECONDS: Final = 2.0


class Recorder(Protocol):
    """Make the lines of a request durable.

    Guarantees: `record` returns once every line is durable, and raises a `Problem` where that is not so. Cancelled, it may or
    may not have recorded the lines: the client gets no answer either.
    """

    @property
    def trouble(self) -> str | None:
        """Say why nothing would be recorded now; None if it would."""
        ...

    async def record(self, body: bytes, *, one: bool, wait_seconds: float | None) -> Recorded:
        """Record a body: one event, or lines; with `wait_seconds`, wait so long for the seal."""
        ...


class Door(web.Server):
    """Answer the requests of one source, whatever they come in through."""

    def __init__(self, recorder: Recorder, settings: SocketSettings) -> None:
        """Describe the server; it needs a running event loop.

        Args:
            recorder: Takes the bodies.
            settings: The bounds.
        """
        super().__init__(
            self._serve,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=settings.keep_alive_seconds,
            lingering_time=_LINGER_SECONDS,
        )
        self._recorder = recorder
        self._settings = settings
        self._held_bytes = 0
        self._new: dict[RequestHandler, asyncio.TimerHandle] = {}
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False
        """Set once the agent ends: what comes now is refused."""

    async def drained(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()

    # ---- connections -----------------------------------------------------------------------------------------------

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in, or turn it away if there are too many."""
        super().connection_made(handler, transport)
        if self.stopping or len(self.connections) > self._settings.connections:
            transport.write(_REFUSAL)
            transport.close()
            return
        # A connection without a request costs a descriptor, of which the whole agent has a bounded number.
        self._new[handler] = asyncio.get_running_loop().call_later(self._settings.first_request_seconds, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        self._seen(handler)
        super().connection_lost(handler, exc)

    def _seen(self, handler: RequestHandler) -> None:
        timer = self._new.pop(handler, None)
        if timer is not None:
            timer.cancel()

    # ---- requests --------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self._seen(request.protocol)
        self._under_way += 1
        self._idle.clear()
        try:
            try:
                response = await self._answer(request)
            except Problem as problem:
                response = problem.response()
            if self.stopping:
                response.force_close()
            await self._send(request, response)
            return response
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _send(self, request: web.BaseRequest, response: web.Response) -> None:
        """Send an answer; a client that does not read it loses its connection."""
        try:
            async with asyncio.timeout(self._settings.reply_seconds):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        method = _METHODS.get(request.path)
        if method is None:
            raise NotFound(f"The paths are {', '.join(_METHODS)}.")
        if request.method != method:
            raise WrongMethod(f"Use {method}.", headers={hdrs.ALLOW: method})
        if request.path == EVENTS:
            return await self._take_events(request)
        if request.path == "/healthz":
            trouble = "the agent is ending" if self.stopping else self._recorder.trouble
            return data(b'{"status":"ok"}') if trouble is None else data(b'{"status":"unavailable"}', 503)
        return data(await asyncio.to_thread(files(__package__).joinpath("openapi.json").read_bytes))

    async def _take_events(self, request: web.BaseRequest) -> web.Response:
        if self.stopping:
            raise Stopping("Post again when the agent is back.", headers={hdrs.RETRY_AFTER: "5"}, close=True)
        if hdrs.ORIGIN in request.headers:
            raise FromBrowser("A request with the header Origin comes from a browser; post events from the service itself.")
        one = self._is_one(request)
        wait_seconds = self._wait_of(request)
        async with self._body_of(request) as body:
            if not body.strip():
                raise BadRequest("The body is empty; it holds one event as JSON, or one on each line.")
            if not one and body.count(b"\n") > self._settings.lines:
                raise TooLarge(f"A request has at most {self._settings.lines} lines; post them in several.")
            try:
                answer = await self._recorder.record(body, one=one, wait_seconds=wait_seconds)
            except TrailsealError as error:
                raise Stopping("The state directory cannot be written; see the agent's log.", close=True) from error
        return recorded(answer, waited=wait_seconds is not None)

    @staticmethod
    def _is_one(request: web.BaseRequest) -> bool:
        if hdrs.CONTENT_TYPE not in request.headers or request.content_type not in {_ONE, _LINES}:
            raise WrongType(f"Content-Type is {_ONE} for one event, or {_LINES} for one on each line.")
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            raise WrongType("The body must not be compressed.")
        return request.content_type == _ONE

    def _wait_of(self, request: web.BaseRequest) -> float | None:
        """Return how long to wait for the seal; None if it was not asked for."""
        longest = self._settings.longest_wait_seconds
        query = dict(request.query)
        if len(query) != len(request.query) or not query.keys() <= {"wait", "timeout"} or query.get("wait", "sealed") != "sealed":
            raise BadRequest("The query may be wait=sealed, with timeout=SECONDS beside it, and nothing else.")
        if "wait" not in query:
            if query:
                raise BadRequest("A timeout needs wait=sealed.")
            return None
        try:
            seconds = float(query.get("timeout", self._settings.wait_seconds))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= longest:
            raise BadRequest(f"The timeout is a number of seconds from 0 to {longest:g}.")
        return seconds

    @contextlib.asynccontextmanager
    async def _body_of(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """Read a body and count what it holds until the block is left."""
        limit = self._settings.body_bytes
        too_large = TooLarge(f"A body has at most {limit} bytes; post the lines in several requests.", close=True)
        if (request.content_length or 0) > limit:
            raise too_large
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(_CONTINUE)
            request.writer.output_size = 0
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while part := await request.content.readany():
                    size += len(part)
                    self._held_bytes += len(part)
                    if size > limit:
                        raise too_large
                    if self._held_bytes > self._settings.held_bytes:
                        raise Busy("Post again in a moment.", headers={hdrs.RETRY_AFTER: "1"}, close=True)
                    parts.append(part)
            yield b"".join(parts)
        except TimeoutError:
            raise TooSlow(f"The body must be there within {self._settings.body_seconds:g} seconds.", close=True) from None
        finally:
            self._held_bytes -= size
