"""One command of the parent: its process, and the pipes it writes to.

Invariants: its pipes are read until nobody holds them, or for a bounded time after its end; what is closed while somebody
holds it is marked as cut, so that the worker states it. No call waits. It must not know what a worker is.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from .processes import log, readable, spawn

if TYPE_CHECKING:
    from .stream import Stream

LAST_CALL_BYTES: Final = 1 << 20
"""How much is still read of a pipe that must be closed: more than a pipe holds."""

_EXIT_NOT_EXECUTABLE: Final = 126
_EXIT_NOT_FOUND: Final = 127


class Command:
    """A program and its streams.

    Attributes:
        argv: The program and its arguments.
        streams: Its standard output and standard error.
        pid: Its process id while it runs.
        exit_code: Its exit code once it has ended, or could not be started; 128 + n when signal n ended it.
        ended_at: When that was, on the monotonic clock, in seconds.
        overtime: Its pipes have outlived it for as long as they may; what they hold now is read, then they are closed.
    """

    def __init__(self, argv: tuple[str, ...], streams: list[Stream]) -> None:
        """Describe a command that does not run yet."""
        self.argv = argv
        self.streams = streams
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.ended_at = 0.0
        self.overtime = False

    def start(self, mask: set[int]) -> None:
        """Start it with a signal mask; a failure is its end, with the exit code a shell would give."""
        pipes = [os.pipe() for _ in self.streams]
        try:
            self.pid = spawn(self.argv, os.environ, mask, {number: theirs for number, (_, theirs) in enumerate(pipes, start=1)})
        except OSError as error:
            self.ended(_EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else _EXIT_NOT_EXECUTABLE)
            log("error", "the command could not be started", command=self.argv[0], cause=str(error))
        for stream, (ours, theirs) in zip(self.streams, pipes, strict=True):
            stream.fd = ours
            os.close(theirs)

    def ended(self, code: int) -> None:
        """Note that it has ended."""
        self.pid, self.exit_code, self.ended_at = None, code, time.monotonic()

    @property
    def outlived(self) -> bool:
        """Whether it has ended and a pipe of its is still open."""
        return self.exit_code is not None and any(stream.fd is not None for stream in self.streams)

    def close_lingering(self, now: float, linger_seconds: float) -> None:
        """Close the pipes that have outlived it for too long, after what they hold was read."""
        if self.exit_code is None or now < self.ended_at + linger_seconds:
            return
        if not self.overtime:
            self.overtime = True
            for stream in self.streams:
                stream.last_call_end = stream.backlog.end + LAST_CALL_BYTES
        for stream in self.streams:
            if stream.fd is not None and (stream.backlog.end >= stream.last_call_end or not readable(stream.fd)):
                log("warning", "a pipe was closed that outlived its command", source=stream.source, channel=stream.channel)
                stream.finish(cut=True)
