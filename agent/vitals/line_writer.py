"""Write finished lines to a descriptor from a thread of its own, so that whoever logs never waits for whoever reads.

A terminal or a pipe that nobody reads takes some bytes and then holds every writer for ever, and it may not be made
non-blocking: that would belong to everybody who shares the open file.

Invariants:
    - `put` returns at once and never raises; lines leave in the order of their calls, and whole lines or none.
    - What waits is bounded. A line that finds no room is dropped and counted; once half of the room is free again a line says,
      in the place of the missing ones, how many they were.
    - While the descriptor takes what it is given, no line is dropped that fits.
    - Bytes of several lines go out in one write only up to PIPE_BUF, so that others who write to the same pipe do not tear them.
    - The thread takes no signals, and a child of fork begins anew: what waited is its parent's to write.

It is used by the relay's parent too: the standard library's light parts are all that it may import.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE_BYTES: Final = 1 << 20
"""How many bytes of lines may wait by default."""
FLUSH_SECONDS: Final = 1.0
"""How long the end of a process waits for a reader of its last lines."""
_LOOK_AGAIN_SECONDS: Final = 0.5


class LineWriter:
    """Own the way to one descriptor; may be used from any thread.

    Attributes:
        descriptor: Where the lines go; it stays its owner's and is never closed here.
        dropped_lines: How many lines were not written, or not in full; only ever grows.
    """

    def __init__(self, descriptor: int, note: Callable[[int], bytes], max_bytes: int = QUEUE_BYTES) -> None:
        """Describe it; its thread starts with the first line.

        Args:
            descriptor: Where the lines go, blocking or not.
            note: Returns the line, without its newline, that says how many were dropped.
            max_bytes: How many bytes may wait.
        """
        self.descriptor = descriptor
        self.dropped_lines = 0
        self._note = note
        self._max_bytes = max_bytes
        self._torn = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._held_bytes = 0
        self._unstated = 0
        self._shedding = self._writing = self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Queue one line, given without its newline, or drop and count it."""
        if self._process != os.getpid():
            self._begin()
        with self._changed:
            if self._closing:
                self.dropped_lines += 1
                return
            if self._shedding or self._held_bytes + len(line) + 1 > self._max_bytes:
                self._shedding = True
                self._unstated += 1
                self.dropped_lines += 1
            else:
                self._queue.append(line + b"\n")
                self._held_bytes += len(line) + 1
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def wait(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until every line so far is written, for at most so long; say whether it is."""
        if self._process != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not (self._queue or self._shedding or self._writing), seconds)

    def close(self) -> None:
        """Take no more lines, and end the thread once it has written what it has."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"log-{self.descriptor}", daemon=True)
        # A process that waits for signals must get them itself; the thread inherits the mask that holds now.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:
            return  # No thread is to be had now; the next line tries again, and meanwhile they wait.
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        while lines := self._take():
            if refused := self._write(b"".join(lines)):
                with self._changed:
                    self.dropped_lines += refused

    def _take(self) -> list[bytes]:
        """Wait for lines and return the next; none if it is closed."""
        with self._changed:
            self._writing = False
            while True:
                if self._shedding and self._held_bytes <= self._max_bytes // 2:
                    self._state_dropped()
                if self._queue:
                    break
                self._changed.notify_all()
                if self._closing:
                    return []
                self._changed.wait()
            lines = [self._queue.popleft()]
            size = len(lines[0])
            while self._queue and size + len(self._queue[0]) <= select.PIPE_BUF:
                lines.append(self._queue.popleft())
                size += len(lines[-1])
            self._held_bytes -= size
            self._writing = True
            return lines

    def _state_dropped(self) -> None:
        line = self._note(self._unstated) + b"\n"
        self._queue.append(line)
        self._held_bytes += len(line)
        self._unstated, self._shedding = 0, False

    def _write(self, lines: bytes) -> int:
        """Write it all, for as long as that takes; return how many lines the descriptor refused."""
        # What is left of a refused line must not become the beginning of this one.
        end_of_torn = b"\n" if self._torn else b""
        whole = end_of_torn + lines
        rest = memoryview(whole)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:
                # Somebody who shares the open file made it non-blocking.
                poller = select.poll()
                poller.register(self.descriptor, select.POLLOUT)
                poller.poll(_LOOK_AGAIN_SECONDS * 1000)
            except OSError:
                begun = len(whole) - len(rest)
                if begun:
                    self._torn = not whole.endswith(b"\n", 0, begun)
                return lines.count(b"\n", max(0, begun - len(end_of_torn)))
        self._torn = False
        return 0
