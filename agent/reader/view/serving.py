"""Run the page: listen, keep the index up to date, and end in order.

Invariants: an address that others can reach is only listened on with TLS, or behind a proxy that has it; a refresh that fails leaves the
index as it was, and the pages say of when it is; the recorder is started before the first request is taken and stopped after the last.
This module must not know what a page shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ... import __version__
from ...errors import ConfigError, TrailsealError
from ..fetch import is_far
from ..index.build import update
from ..own_trail.events import own_event
from ..report import printable
from .app import make_app
from .guard import LOG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ..fetch import StoreReader
    from .desk import Desk

    Opening = Callable[[], AbstractContextManager[StoreReader]]

_GRACE_SECONDS: Final = 10.0
_SLOWEST_HEADERS_SECONDS: Final = 75.0


class _StoppedError(Exception):
    """The server ends while the index is being refreshed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where and how to listen.

    Attributes:
        host: A name or an address.
        port: 0: any that is free.
        certificate: The certificate chain, PEM; None: no TLS.
        key: Its key, PEM.
        behind_proxy: Whether a proxy with TLS stands before it.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False

    def check(self) -> None:
        """Refuse what would show the evidence, or a token, to whoever listens on the network.

        Raises:
            ConfigError: The address is no loopback address, and there is neither TLS nor a proxy.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("--tls-cert and --tls-key belong together", hint="Give both, or neither.")
        if self.certificate is None and not self.behind_proxy and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached by others, and nothing would be encrypted",
                hint="Give --tls-cert and --tls-key, or --behind-proxy if a proxy with TLS stands before it.",
            )

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS settings.

        Raises:
            ConfigError: The certificate or its key cannot be used.
        """
        if self.certificate is None or self.key is None:
            return None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            made.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"the certificate or its key cannot be used: {error}", file=str(self.certificate), hint="Give PEM files that fit together."
            ) from error
        return made


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def listening(desk: Desk, where: Listening) -> AsyncIterator[int]:
    """Serve until the block is left; yields the port.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    where.check()
    context = where.context()
    runner = web.AppRunner(
        make_app(desk), access_log=None, handle_signals=False, shutdown_timeout=_GRACE_SECONDS, keepalive_timeout=_SLOWEST_HEADERS_SECONDS
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, where.host, where.port, ssl_context=context).start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {where.host}:{where.port}: {error.strerror or error}", hint="Choose another address with --listen."
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def keep_fresh(desk: Desk, open_again: Opening, every_seconds: float, stopping: threading.Event) -> None:
    """Bring the index up to date this often, until cancelled, while it is asked.

    Args:
        desk: The index, through whose own connection it is done: whoever asks meanwhile sees what was there when they began.
        open_again: Opens the store, for this thread alone.
        every_seconds: From the end of one to the beginning of the next.
        stopping: Set when the server ends.
    """
    while True:
        await asyncio.sleep(every_seconds)
        await refresh_once(desk, open_again, stopping)


async def refresh_once(desk: Desk, open_again: Opening, stopping: threading.Event) -> None:
    """Bring the index up to date once; a failure is logged, and kept in `Desk.trouble`."""

    def advance(_: int) -> None:
        if stopping.is_set():
            raise _StoppedError

    def run() -> None:
        with open_again() as store, desk.index.connection.cursor() as cursor:
            update(cursor, store, desk.index.path, trust=desk.trust, now=desk.now(), advance=advance, read_ahead=is_far(store))

    try:
        await asyncio.to_thread(run)
    except _StoppedError:
        return
    except TrailsealError as error:
        desk.trouble = error.message
        LOG.warning("the index could not be refreshed: %s", printable(error.message))
    except Exception as error:  # noqa: BLE001 -- the pages go on with what there is, and say of when it is
        desk.trouble = str(error)
        LOG.exception("the index could not be refreshed")
    else:
        desk.trouble = None


async def run_until_stopped(
    desk: Desk,
    where: Listening,
    open_again: Opening,
    *,
    refresh_seconds: float | None,
    ready: Callable[[int], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        desk: What stands behind the pages; its recorder has been started.
        where: Where to listen.
        open_again: Opens the store.
        refresh_seconds: How often to refresh; None: never.
        ready: Called with the port once requests are taken.
    """
    stop, stopping = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _note(desk, "view.start", {"version": __version__, "listen": where.host})
    async with listening(desk, where) as port:
        ready(port)
        refreshing = None if refresh_seconds is None else asyncio.create_task(keep_fresh(desk, open_again, refresh_seconds, stopping))
        await stop.wait()
        stopping.set()
        if refreshing is not None:
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing
    await _note(desk, "view.stop", {})


async def _note(desk: Desk, action: str, context: dict[str, Any]) -> None:
    actor, target = {"type": "system", "id": "trailseal-view"}, {"type": "store", "id": desk.index.store}
    await desk.recorder.record(own_event(action, actor=actor, target=target, now=desk.now(), context=context))
