"""Show metrics, health and status over HTTP: on the configured address and on a socket in the state directory.

``/metrics`` (Prometheus text, or OpenMetrics where asked for), ``/livez``, ``/readyz`` (200 or 503, with reasons as JSON),
``/status`` (JSON), ``/`` (a list of these). Invariants: everything is read-only; the socket exists as long as the server and
belongs to the agent's user alone (0600); no request changes the agent. The caller holds the state directory's lock, so a
socket found there is a dead process's. This module must not know what the status says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ..errors import StateError
from .ask import SOCKET_NAME, short_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ..config import Settings
    from .health import Health
    from .metrics import Metrics

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_INDEX: Final = "trailseal\n\n/metrics\n/livez\n/readyz\n/status\n"


class Server:
    """Tell where the server can be reached.

    Attributes:
        port: The TCP port that is really listened on; None without a TCP address.
        socket_path: The socket in the state directory.
    """

    def __init__(self, port: int | None, socket_path: str) -> None:
        """Keep both."""
        self.port = port
        self.socket_path = socket_path


def make_app(metrics: Metrics, health: Health, status: Callable[[], Mapping[str, Any]]) -> web.Application:
    """Build the application.

    Args:
        metrics: What ``/metrics`` shows.
        health: What ``/livez`` and ``/readyz`` show.
        status: Returns what ``/status`` shows, as data that `json` can write; must be quick.
    """

    async def show_metrics(request: web.Request) -> web.Response:
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def show_liveness(_request: web.Request) -> web.Response:
        return _json(health.liveness(), ok=health.alive)

    async def show_readiness(_request: web.Request) -> web.Response:
        return _json(health.readiness(), ok=health.ready)

    async def show_status(_request: web.Request) -> web.Response:
        return _json(status(), ok=True)

    async def show_index(_request: web.Request) -> web.Response:
        return web.Response(text=_INDEX, headers=_HEADERS)

    app = web.Application()
    app.router.add_get("/", show_index)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/livez", show_liveness)
    app.router.add_get("/readyz", show_readiness)
    app.router.add_get("/status", show_status)
    return app


@contextlib.asynccontextmanager
async def serve(settings: Settings, metrics: Metrics, health: Health, status: Callable[[], Mapping[str, Any]]) -> AsyncIterator[Server]:
    """Serve until the block is left; the socket is removed then.

    The state directory must exist, and its lock must be held.

    Raises:
        ConfigError: The address of ``vitals.listen`` cannot be listened on.
        StateError: The socket cannot be made in the state directory.
    """
    runner = web.AppRunner(make_app(metrics, health, status), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        port = await _listen(settings, runner)
        with short_path(settings.state) as path:
            await web.SockSite(runner, _bind_socket(path, settings.state)).start()
            beating = asyncio.create_task(health.keep_beating())
            try:
                yield Server(port, str(Path(settings.state) / SOCKET_NAME))
            finally:
                beating.cancel()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108 - through the directory's descriptor, as it was made
    finally:
        await runner.cleanup()


async def _listen(settings: Settings, runner: web.AppRunner) -> int | None:
    """Listen on the configured address and return its port."""
    address = settings.vitals.listen
    if address is None:
        return None
    site = web.TCPSite(runner, address.host, address.port)
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message, hint = f"another program listens on {address} already", "Choose another port, or none."
        else:
            message, hint = (
                f"cannot listen on {address}: {error.strerror or error}",
                "Name an address of this machine and a port you may use.",
            )
        raise settings.error("vitals.listen", message, hint) from error
    return int(runner.addresses[0][1])


def _bind_socket(path: str, state_directory: str) -> socket.socket:
    """Make the socket; nobody can connect before it listens, and by then only its owner may."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - through the directory's descriptor
        listener.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 - as above
    except OSError as error:
        listener.close()
        raise StateError(f"cannot make the socket {SOCKET_NAME} in {state_directory}: {error.strerror}") from error
    return listener


def _json(data: Mapping[str, Any], *, ok: bool) -> web.Response:
    """Answer with JSON: 200 if all is well, 503 if not."""
    return web.json_response(data, status=200 if ok else 503, headers=_HEADERS)
