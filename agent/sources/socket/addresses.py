"""Open and close what a socket source listens on.

Invariants: a socket file of a dead process is replaced, one of a living process and a file of any other kind are left alone; nobody
can connect before the permission bits are set; at the end only our own file is removed. This module must not know what is served.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from ...config import Address

_PROBE_SECONDS = 1.0


class UnixListener:
    """One socket in the file system."""

    def __init__(self, path: str, mode: int) -> None:
        """Name it; `open` makes it."""
        self.name = path
        self._mode = mode
        self._identity: tuple[int, int] | None = None

    async def open(self, runner: web.BaseRunner) -> None:
        """Listen.

        Raises:
            OSError: The path cannot be used, or somebody else listens there.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._clear()
            listener.bind(self.name)
            os.chmod(self.name, self._mode)  # noqa: PTH101  as the calls beside it
            self._identity = _identity(self.name)
            listener.setblocking(False)  # noqa: FBT003  the call's own form
            await _start(web.SockSite(runner, listener))
        except BaseException:
            listener.close()
            raise

    def _clear(self) -> None:
        """Remove what a dead process left."""
        try:
            mode = os.lstat(self.name).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(f"{self.name} is there and is no socket")
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.settimeout(_PROBE_SECONDS)
            try:
                probe.connect(self.name)
            except ConnectionRefusedError:
                Path(self.name).unlink()
            else:
                raise FileExistsError(f"another process listens on {self.name}")

    def close(self) -> None:
        """Remove the file, if it is still ours."""
        with contextlib.suppress(FileNotFoundError):
            if self._identity is not None and _identity(self.name) == self._identity:
                Path(self.name).unlink()
        self._identity = None


class TcpListener:
    """One TCP address."""

    def __init__(self, address: Address) -> None:
        """Name it; `open` listens."""
        self.name = str(address)
        self._address = address

    async def open(self, runner: web.BaseRunner) -> None:
        """Listen.

        Raises:
            OSError: The address is taken, or is none of this machine's.
        """
        await _start(web.TCPSite(runner, self._address.host, self._address.port))

    def close(self) -> None:
        """Leave it to the runner, which closes what it opened."""


async def _start(site: web.BaseSite) -> None:
    try:
        await site.start()
    except BaseException:
        await site.stop()  # The runner knows it already, and it is tried again with another.
        raise


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
