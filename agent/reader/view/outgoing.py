"""Files on their way out: how many are held at once, and for how long.

A file lies on the disk from when it is made until it has been sent, and a client decides how fast it reads. Invariants: so many files are
held and no more, those that are being made included; a client that has not read its file in time is cut off. This module must not know
what is in a file.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakSet

from aiohttp import web

from .problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Outgoing:
    """Counts the files that are made or being sent; for one event loop."""

    def __init__(self, most: int) -> None:
        """Allow so many at once."""
        self._most = most
        self._making = 0
        # Weak: whatever lets go of a file, closed or not, gives its place back.
        self._files: WeakSet[IO[bytes]] = WeakSet()

    @contextmanager
    def place(self) -> Iterator[Callable[[IO[bytes]], None]]:
        """Hold a place while a file is made; yields what takes the file, whose place is free once it is closed.

        Raises:
            Unavailable: All places are taken.
        """
        if self._making + sum(not file.closed for file in self._files) >= self._most:
            raise Unavailable("Too many files are being sent. Try again when they have arrived.")
        self._making += 1
        try:
            yield self._files.add
        finally:
            self._making -= 1


class Download(web.Response):
    """An answer that is a file; it is closed when it was sent, or could not be."""

    def __init__(self, request: web.Request, file: IO[bytes], *, seconds: float, **more: Any) -> None:
        """Name the file.

        Args:
            request: Whose answer it is.
            file: Standing at its beginning.
            seconds: How long the client may take to read it.
            more: As of any answer.
        """
        super().__init__(body=file, **more)
        self._request, self._file, self._seconds = request, file, seconds

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the file."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().write_eof(data)
        except TimeoutError:
            # An orderly end would wait for the client once more.
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client did not read the file in time") from None
        finally:
            self._file.close()
