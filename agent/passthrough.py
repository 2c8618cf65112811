"""The observability lines' way out: to standard output and standard error, to a file, or nowhere.

Invariants:
    - `write` never blocks and never raises. A queue that is full sheds the whole block, counts its lines and bytes, and
      goes on; the audit path never waits for a reader of the observability lines.
    - Bytes of one channel leave in the order of their writes, and a shed block never leaves half a line joined to another.
    - A reader that went away (EPIPE) ends nothing but its channel: what follows is counted as shed.

The module must not look into the lines, and must not be used for the agent's own log.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import aiofiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUEUE_BYTES: Final = 8 << 20
_JOIN_BYTES: Final = 256 << 10
_ENTRY_BYTES: Final = 128
_RETRY_SECONDS: Final = 1.0
_WAKE_SECONDS: Final = 0.5


class _Lane:
    """The bounded queue before one way out, and its counts. Safe between one writing and one taking thread."""

    def __init__(self, max_bytes: int, on_shed: Callable[[int, int], None]) -> None:
        self.passed_bytes = 0
        self.shed_lines = 0
        self.shed_bytes = 0
        self.problem: str | None = None
        self.closing = False
        self.broken = False
        self.ready = threading.Condition()
        self._max_bytes = max_bytes
        self._on_shed = on_shed
        self._queue: deque[bytes] = deque()
        self._held_bytes = 0
        self._open_line = False
        self._skip_line = False

    @property
    def empty(self) -> bool:
        """Whether nothing is queued."""
        return not self._queue

    def put(self, data: bytes) -> bool:
        """Queue a block, or shed it; say whether it was queued."""
        with self.ready:
            if self._skip_line:
                cut = data.find(b"\n") + 1
                self._count_shed(1 if cut else 0, cut or len(data))
                if not cut:
                    return False
                self._skip_line = False
                data = data[cut:]
            if not data:
                return False
            if self.closing or self.broken or self._held_bytes + len(data) + _ENTRY_BYTES > self._max_bytes:
                self._shed(data)
                return False
            self._queue.append(data)
            self._held_bytes += len(data) + _ENTRY_BYTES
            self._open_line = not data.endswith(b"\n")
            self.ready.notify()
            return True

    def _shed(self, data: bytes) -> None:
        torn = not data.endswith(b"\n")
        self._count_shed(data.count(b"\n"), len(data))
        if self._open_line and not self.closing:
            # The line before was cut by this: end it, so that the next one does not continue it.
            self._queue.append(b"\n")
            self._held_bytes += 1 + _ENTRY_BYTES
            self._open_line = False
        self._skip_line = torn

    def _count_shed(self, lines: int, size: int) -> None:
        self.shed_lines += lines
        self.shed_bytes += size
        if lines or size:
            self._on_shed(lines, size)

    def lose(self, data: bytes) -> None:
        """Count bytes that were queued and could not be written."""
        with self.ready:
            self._count_shed(data.count(b"\n"), len(data))

    def take(self) -> bytes:
        """Return the next bytes, several blocks joined where they are small; empty when there are none."""
        with self.ready:
            parts: list[bytes] = []
            size = 0
            while self._queue and (not parts or size + len(self._queue[0]) <= _JOIN_BYTES):
                parts.append(self._queue.popleft())
                size += len(parts[-1])
            self._held_bytes -= size + _ENTRY_BYTES * len(parts)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def lose_rest(self) -> None:
        """Count everything that is still queued as shed."""
        while data := self.take():
            self.lose(data)


class _DescriptorWriter:
    """Writes one lane to a descriptor, in a thread: a reader that does not read blocks nothing else."""

    def __init__(self, lane: _Lane, fd: int) -> None:
        self.lane = lane
        self._fd = fd
        self._given_up = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        if self.lane.put(data) and self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"pass-through-{self._fd}", daemon=True)
            self._thread.start()

    async def close(self, timeout_seconds: float) -> None:
        with self.lane.ready:
            self.lane.closing = True
            self.lane.ready.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout_seconds)
        self._given_up = True
        self.lane.lose_rest()

    def _run(self) -> None:
        lane = self.lane
        while True:
            data = lane.take()
            if data:
                self._write(memoryview(data))
                continue
            with lane.ready:
                if lane.closing:
                    return
                if lane.empty:
                    lane.ready.wait()

    def _write(self, view: memoryview) -> None:
        while view:
            try:
                count = os.write(self._fd, view)
            except BlockingIOError:
                poller = select.poll()
                poller.register(self._fd, select.POLLOUT)
                poller.poll(_WAKE_SECONDS * 1000)
            except InterruptedError:
                continue
            except OSError as error:
                self.lane.problem = error.strerror
                if isinstance(error, BrokenPipeError) or self._fd_is_gone():
                    self._break()
                else:
                    threading.Event().wait(_RETRY_SECONDS)
            else:
                self.lane.passed_bytes += count
                self.lane.problem = None
                view = view[count:]
            if view and (self._given_up or self.lane.broken):
                self.lane.lose(bytes(view))
                return

    def _fd_is_gone(self) -> bool:
        try:
            os.fstat(self._fd)
        except OSError:
            return True
        return False

    def _break(self) -> None:
        with self.lane.ready:
            self.lane.broken = True
        self.lane.lose_rest()


class _FileWriter:
    """Appends one lane to a file, in a task."""

    def __init__(self, lane: _Lane, path: Path) -> None:
        self.lane = lane
        self._path = path
        self._work = asyncio.Event()
        self._reopen = False
        self._task: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        if self.lane.put(data):
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._run(), name="pass-through")
            self._work.set()

    def reopen(self) -> None:
        self._reopen = True
        self._work.set()

    async def close(self, timeout_seconds: float) -> None:
        self.lane.closing = True
        self._work.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.lane.lose_rest()

    async def _run(self) -> None:
        rest = b""
        try:
            while True:
                try:
                    async with aiofiles.open(self._path, "ab", buffering=0) as file:
                        self._reopen = False
                        while not self._reopen:
                            rest = rest or self.lane.take()
                            if rest:
                                count = await file.write(rest)
                                self.lane.passed_bytes += count
                                rest = rest[count:]
                                self.lane.problem = None
                            elif self.lane.closing:
                                return
                            else:
                                self._work.clear()
                                await self._work.wait()
                except OSError as error:
                    self.lane.problem = f"{self._path}: {error.strerror}"
                    if self.lane.closing:
                        return
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            if rest:
                self.lane.lose(rest)


class PassThrough:
    """Take observability bytes and write them out; a `Sink`.

    Use one of `to_streams`, `to_file` and `to_nothing` to make one, and `close` it at the end.
    """

    def __init__(self, writers: dict[str, _DescriptorWriter | _FileWriter], default: _DescriptorWriter | _FileWriter | None) -> None:
        """Bind channels to their ways out.

        Args:
            writers: The way out of each channel that has one of its own.
            default: The way out of all others; None throws their bytes away, uncounted, as configured.
        """
        self._writers = writers
        self._default = default

    @classmethod
    def to_streams(
        cls,
        stdout_fd: int = 1,
        stderr_fd: int = 2,
        *,
        max_bytes: int = QUEUE_BYTES,
        on_shed: Callable[[int, int], None] = lambda _l, _b: None,
    ) -> PassThrough:
        """Pass the channel ``stderr`` on to one descriptor and everything else to the other.

        Args:
            stdout_fd: The descriptor of everything else; blocking or not.
            stderr_fd: The descriptor of ``stderr``.
            max_bytes: How many bytes may wait before each of them.
            on_shed: Called with lines and bytes that were shed, from any thread.
        """
        return cls(
            {"stderr": _DescriptorWriter(_Lane(max_bytes, on_shed), stderr_fd)},
            _DescriptorWriter(_Lane(max_bytes, on_shed), stdout_fd),
        )

    @classmethod
    def to_file(cls, path: Path, *, max_bytes: int = QUEUE_BYTES, on_shed: Callable[[int, int], None] = lambda _l, _b: None) -> PassThrough:
        """Append every channel to one file, which is created where it is missing; call it while an event loop runs.

        Args:
            path: The file.
            max_bytes: How many bytes may wait.
            on_shed: Called with lines and bytes that were shed.
        """
        return cls({}, _FileWriter(_Lane(max_bytes, on_shed), path))

    @classmethod
    def to_nothing(cls) -> PassThrough:
        """Throw everything away."""
        return cls({}, None)

    def write(self, data: bytes, channel: str) -> None:
        """Queue bytes (whole lines, or pieces of an over-long one) for a channel; never blocks and never raises."""
        writer = self._writers.get(channel, self._default)
        if writer is not None and data:
            writer.write(data)

    def reopen(self) -> None:
        """Open the file anew before the next write, after it was rotated; nothing for streams."""
        if isinstance(self._default, _FileWriter):
            self._default.reopen()

    async def close(self, timeout_seconds: float) -> None:
        """Write what is queued, for at most so long, and count the rest as shed."""
        await asyncio.gather(*(writer.close(timeout_seconds) for writer in self._all()))

    def _all(self) -> list[_DescriptorWriter | _FileWriter]:
        return [*self._writers.values(), *([] if self._default is None else [self._default])]

    @property
    def passed_bytes(self) -> int:
        """Bytes that were written."""
        return sum(writer.lane.passed_bytes for writer in self._all())

    @property
    def shed_lines(self) -> int:
        """Lines that were not written, or not in full."""
        return sum(writer.lane.shed_lines for writer in self._all())

    @property
    def shed_bytes(self) -> int:
        """Bytes that were not written."""
        return sum(writer.lane.shed_bytes for writer in self._all())

    @property
    def problem(self) -> str | None:
        """What keeps bytes from being written now; None where nothing does."""
        return next((writer.lane.problem for writer in self._all() if writer.lane.problem), None)
