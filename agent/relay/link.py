"""The worker's end of a stream: frames in, acknowledgements out.

Invariants: `receive` hands out every byte once and in order, and may be cancelled without losing any; acknowledgements
leave in the order in which they were given and never block. The protocol stands in `wire`.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from .wire import CONFIRMED, ENVIRONMENT_KEY, HURRY, Data, End, Frame, FrameReader, Gap, Header, encode_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Data", "End", "Frame", "Gap", "Header", "InheritedStream", "Link", "inherited_streams"]

_RECEIVE_BYTES: Final = 1 << 18
_BLOCK_BYTES: Final = 1 << 18
"""Short lines that are no events become records of ten times their size: a block of them is what costs most at one moment."""


class InheritedStream(NamedTuple):
    """Name a stream the parent has handed to this process.

    Attributes:
        source: The source's id from the configuration.
        channel: ``stdin``, ``stdout`` or ``stderr``.
        fd: The inherited socket.
        orders_fd: The inherited pipe for orders that must not queue behind data; None where there is none.
    """

    source: str
    channel: str
    fd: int
    orders_fd: int | None = None


def inherited_streams(environ: Mapping[str, str]) -> list[InheritedStream]:
    """Return the streams that the relay's parent gave this process; empty when it has no such parent."""
    return [InheritedStream(**told) for told in json.loads(environ.get(ENVIRONMENT_KEY, "[]"))]


class Link:
    """Talk to the parent about one stream."""

    def __init__(self, fd: int, orders_fd: int | None = None, hurry: Callable[[], None] = lambda: None) -> None:
        """Take over the inherited socket; call it while an event loop runs.

        Args:
            fd: The socket.
            orders_fd: The pipe for orders, taken over as well.
            hurry: Called, once, when the parent orders not to wait for room any more.
        """
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)  # noqa: FBT003 - takes its argument by position only
        self._socket.set_inheritable(False)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._owed = b""
        self._first: list[Frame] = []
        self._hurry = hurry
        self._orders_fd = orders_fd
        if orders_fd is not None:
            os.set_inheritable(orders_fd, False)  # noqa: FBT003 - as above
            self._loop.add_reader(orders_fd, self._take_order)

    async def header(self) -> Header | None:
        """Return the header, or None when the parent went away before it was complete."""
        while self._reader.header is None:
            frames = await self.receive()
            if frames is None:
                return None
            self._first += frames
        return self._reader.header

    async def receive(self, timeout_seconds: float | None = None) -> list[Frame] | None:
        """Return what has arrived, about half a MiB at most, waiting for the first byte.

        Args:
            timeout_seconds: How long to wait; for ever if None. An empty list is returned when it is over.

        Returns:
            The frames, or None when the parent has gone away.
        """
        if self._first and self._reader.header is not None:
            frames, self._first = self._first, []
            return frames
        raw = self._take(_BLOCK_BYTES)
        if raw is None and not await self._readable(timeout_seconds):
            return []
        raw = self._take(_BLOCK_BYTES) if raw is None else raw
        if raw is None:
            return []
        return list(self._reader.feed(raw)) if raw else None

    def acknowledge(self, offset: int) -> None:
        """Tell the parent that everything before a stream offset is durable, stated as lost, or passed on."""
        self._send(encode_number(offset))

    def confirm(self) -> None:
        """Tell the parent that the stream's end is durable."""
        self._send(encode_number(CONFIRMED))

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_writer(self._socket)
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._close_orders()

    def _take_order(self) -> None:
        assert self._orders_fd is not None  # noqa: S101 - it was readable
        hurried = os.read(self._orders_fd, 1) == HURRY
        self._close_orders()
        if hurried:
            self._hurry()

    def _close_orders(self) -> None:
        if self._orders_fd is not None:
            self._loop.remove_reader(self._orders_fd)
            os.close(self._orders_fd)
            self._orders_fd = None

    def _take(self, limit_bytes: int) -> bytes | None:
        """Return what lies ready: None if nothing does, empty at the end."""
        parts: list[bytes] = []
        size = 0
        while size < limit_bytes:
            try:
                part = self._socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionError:
                part = b""
            if not part:
                # The end is seen again by the next call, after what came before it was dealt with.
                return b"".join(parts)
            parts.append(part)
            size += len(part)
        return b"".join(parts) if parts else None

    async def _readable(self, timeout_seconds: float | None) -> bool:
        ready: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_reader(self._socket, wake)
        try:
            done, _ = await asyncio.wait({ready}, timeout=timeout_seconds)
        finally:
            self._loop.remove_reader(self._socket)
        return bool(done)

    def _send(self, raw: bytes) -> None:
        owed = self._owed + raw
        try:
            count = self._socket.send(owed)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:  # the parent is gone; `receive` reports it
            count = len(owed)
        if self._owed and count == len(owed):
            self._loop.remove_writer(self._socket)
        self._owed = owed[count:]
        if self._owed:
            self._loop.add_writer(self._socket, self._send, b"")
