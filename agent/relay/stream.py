"""One stream of the parent: a pipe on one side, the worker of the moment on the other, the backlog between them.

Invariants:
    - The pipe is read only while the backlog has room (`block`), so a full backlog stops the service and nothing is lost.
    - With `gap`, and once `hurry` was called, a backlog that stayed full for `patience_seconds` lets lines be thrown away,
      whole ones and counted.
    - No call waits.

It must not start processes or look at signals.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final

from .backlog import Backlog
from .wire import CONFIRMED, HURRY, Header, NumberReader, encode_header

if TYPE_CHECKING:
    import socket

_READ_BYTES: Final = 65_536
_HURRIED_PATIENCE_SECONDS: Final = 2.0


class Stream:
    """Move bytes from one pipe to the worker, and keep them until they are acknowledged.

    Attributes:
        fd: The pipe; None once it is closed.
        link: The socket to the worker; None while there is none.
        heard: A worker has sent its first number.
        confirmed: A worker has confirmed that the end is durable.
        last_call_end: Up to which stream offset a pipe is still read that outlived its command.
    """

    def __init__(
        self, stream_id: str, source: str, channel: str, fd: int | None, *, limit_bytes: int, patience_seconds: float | None
    ) -> None:
        """Begin at offset 0.

        Args:
            stream_id: The stream's ULID.
            source: The source's id.
            channel: ``stdin``, ``stdout`` or ``stderr``.
            fd: The pipe to read; None while its command is not started yet.
            limit_bytes: How many unacknowledged bytes are kept.
            patience_seconds: How long a full backlog makes the service wait before lines are thrown away; None: for ever.
        """
        self.stream_id, self.source, self.channel = stream_id, source, channel
        self.fd = fd
        self.backlog = Backlog(limit_bytes)
        self.link: socket.socket | None = None
        self.heard = False
        self.confirmed = False
        self.last_call_end = 0
        self._patience_seconds = patience_seconds
        self._full_since: float | None = None
        self._dropping = False
        self._hurried = False
        self._orders_fd: int | None = None
        self._acknowledgements = NumberReader()
        self._outgoing = b""

    def attach(self, link: socket.socket, orders_fd: int, respawns: int) -> None:
        """Give the stream a new worker, which gets everything that is not acknowledged.

        Args:
            link: Our end of the socket.
            orders_fd: The writing end of the pipe for orders.
            respawns: How often a worker was started anew.
        """
        link.setblocking(False)  # noqa: FBT003 - takes its argument by position only
        self.link = link
        self._orders_fd = orders_fd
        if self._hurried:
            self._order()
        self.backlog.rewind()
        self._acknowledgements = NumberReader()
        self._outgoing = encode_header(
            Header(
                stream=self.stream_id,
                source=self.source,
                channel=self.channel,
                base=self.backlog.acknowledged,
                end=self.backlog.end if self.backlog.ended else None,
                buffer_bytes=self.backlog.limit_bytes,
                confirmed=self.confirmed,
                respawns=respawns,
            ),
        )

    def detach(self) -> None:
        """Take the last acknowledgements of a worker that is gone, and close the socket."""
        if self.link is not None:
            self.receive()
        if self.link is not None:
            self.link.close()
            self.link = None
        self._outgoing = b""
        if self._orders_fd is not None:
            os.close(self._orders_fd)
            self._orders_fd = None

    def finish(self, *, cut: bool = False) -> None:
        """Close the pipe: nothing more is read, what was read is still delivered.

        Args:
            cut: Somebody still holds the other end, so that the worker must state what may be missing.
        """
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        self.backlog.ended = True
        self.backlog.cut = cut

    def hurry(self) -> None:
        """Tell this and every later worker not to wait for room, and wait for no worker ourselves: what finds no room is stated."""
        if not self._hurried:
            self._hurried = True
            self._full_since = None
            if self._patience_seconds is None:
                self._patience_seconds = _HURRIED_PATIENCE_SECONDS
            self._order()

    def _order(self) -> None:
        if self._orders_fd is None:
            return
        try:
            os.write(self._orders_fd, HURRY)
        except OSError:  # the worker is gone, or has closed this stream already
            return

    def wants_read(self, now: float) -> bool:
        """Say whether the pipe should be read now; `now` is monotonic, in seconds."""
        if self.fd is None:
            return False
        if self.backlog.room > 0 or self._dropping:
            self._full_since = None
            return True
        if self._full_since is None:
            self._full_since = now
        return self._patience_seconds is not None and now - self._full_since >= self._patience_seconds

    def patience_ends(self, now: float) -> float | None:
        """Return when lines begin to be thrown away unless room is made; None if they will not be, or already may be."""
        if self._full_since is None or self._patience_seconds is None or self.fd is None:
            return None
        ends = self._full_since + self._patience_seconds
        return ends if ends > now else None

    def wants_write(self) -> bool:
        """Say whether the worker should be sent something."""
        return self.link is not None and (bool(self._outgoing) or (not self.confirmed and self.backlog.has_frames))

    def read(self) -> None:
        """Read the pipe once; call it when it is readable and `wants_read`."""
        assert self.fd is not None  # noqa: S101 - wants_read says so
        room = self.backlog.room
        if room <= 0:
            self._dropping = True
        try:
            chunk = os.read(self.fd, _READ_BYTES if self._dropping else min(room, _READ_BYTES))
        except InterruptedError:
            return
        except OSError:  # EIO: the other side of a terminal hung up
            chunk = b""
        if not chunk:
            self.finish()
        elif self._dropping:
            self._drop(chunk, room)
        else:
            self.backlog.append(chunk)

    def _drop(self, chunk: bytes, room: int) -> None:
        # Half of the backlog must be free before lines are taken again, so that a loss is one range and not a hundred.
        newline = chunk.find(b"\n") if room >= max(self.backlog.limit_bytes // 2, len(chunk)) else -1
        if newline < 0:
            self.backlog.discard(len(chunk))
            return
        self.backlog.discard(newline + 1)
        self.backlog.append(memoryview(chunk)[newline + 1 :])
        self._dropping = False

    def send(self) -> None:
        """Send the worker as much as it takes now."""
        while self.link is not None:
            if not self._outgoing:
                self._outgoing = b"" if self.confirmed else self.backlog.next_frame()
                if not self._outgoing:
                    return
            try:
                count = self.link.send(self._outgoing)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the worker is gone (SIGCHLD reports it); what it acknowledged before is still to be read
                self.receive()
                self._close_link()
                return
            self._outgoing = self._outgoing[count:]

    def receive(self) -> bool:
        """Take acknowledgements; say whether something new became durable."""
        news = False
        while self.link is not None:
            try:
                raw = self.link.recv(4096)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                raw = b""
            if not raw:
                self._close_link()
                break
            for number in self._acknowledgements.feed(raw):
                self.heard = True
                if number == CONFIRMED:
                    news = news or not self.confirmed
                    self.confirmed = True
                else:
                    news = self.backlog.acknowledge(number) or news
        return news

    def _close_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
        self._outgoing = b""

    def interest(self) -> int:
        """Return the poll events to wait for on the link."""
        return select.POLLIN | (select.POLLOUT if self.wants_write() else 0)
