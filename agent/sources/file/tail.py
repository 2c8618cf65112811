"""Tail the files that patterns name, through rotation, truncation, restarts and crashes, into the intake.

One task gives turns to the paths that have something to read, one block a turn, and one thread does what a block costs. What
a file turned into while nobody looked is found out by content (`recovery`); how a path's files follow one another is kept in
lanes (`lane`).

Invariants:
    - Records, progress and the cursor behind them are one append: after a crash every byte is read again that was not
      durable, and none that was.
    - The complete lines of a path's rotated files are read before those of newer ones. A last line without newline counts once
      its file stayed at its end for a while, and a file that cannot be read is waited for for some seconds; neither holds up
      what came after for longer.
    - Bytes that cannot be read any more are stated in gap records, in the append that ends their cursor.
    - A cursor's path is the name the file was tailed under; rotation does not change it.
    - A file that cannot be read is reported and tried again for ever; it holds up no other path.

Limits: while the agent was down it cannot know whether a path was rotated or truncated more often than traces show, so a file
it does not find again is an `unbounded` gap. A file that was truncated is possibly short of what was written between the copy
and the truncation, so every truncation is a `possible` gap.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from aiofiles.os import wrap

from . import discover
from .appends import time_text
from .context import PLAIN, Context, MovedError, Wrapped
from .lane import Lane, Tailed, Turn, choose_ending, comes_back, follow, is_unfinished, put_off
from .lifecycle import Lifecycle
from .losses import gap_append
from .opened import OpenFiles
from .settings import TailSettings
from .timers import Timers
from .troubles import Troubles
from .wake import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from ...events.classify import Rule
    from ...events.mappings.joining import Joining
    from ...intake import Append, Intake
    from ..base import BlockSeparator, ProblemReport, Sink, TimeOfDay
    from .reader import Step

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_SOON: Final = 0.05


class FileSource:
    """Tail every file that the patterns name."""

    def __init__(  # noqa: PLR0913 -- a source stands between all of these
        self,
        source_id: str,
        patterns: Sequence[str],
        separator_factory: Callable[[], BlockSeparator],
        intake: Intake,
        observability_sink: Sink,
        clock: TimeOfDay,
        settings: TailSettings | None = None,
        *,
        rule: Rule,
        problem: ProblemReport | None = None,
        channel: str = "stdout",
        wrapped: Wrapped = PLAIN,
        joining: Joining | None = None,
    ) -> None:
        """Wire a source; nothing is opened before `run`.

        Args:
            source_id: The source's id from the configuration.
            patterns: Globs, with ``**`` for any depth of folders.
            separator_factory: Makes the separator of the reading thread (with offsets).
            intake: Takes the appends and knows the cursors.
            observability_sink: Takes the other lines' bytes.
            clock: Tells the time.
            settings: The knobs.
            rule: The rule the separator goes by; asked about over-long lines.
            problem: Told of files that cannot be read, and of their cure.
            channel: The sink's channel for the bytes.
            wrapped: What is special about the files.
            joining: Which lines are one unit; None if each is one. If they lie in envelopes, these have to see to it.
        """
        self._settings = settings or TailSettings()
        self._intake = intake
        self._sink = observability_sink
        self._channel = channel
        self._clock = clock
        self._source = source_id
        self._patterns = tuple(patterns)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"tail-{source_id}")
        self._context = Context(source_id, separator_factory(), wrapped.is_audit or rule.is_audit, clock, self._settings, wrapped, joining)
        self._life = Lifecycle(self._context, self._patterns, self)
        self._watcher = Watcher(self._on_file, self._on_folder, self._settings.folder_step_milliseconds)
        self._queue: deque[Lane] = deque()
        self._timers = Timers()
        self._wake = asyncio.Event()
        self._open = OpenFiles(self._watcher, self._settings.max_open)
        self._troubles = Troubles(problem)
        self._unclear: set[str] = set()
        self._failure: BaseException | None = None
        self._rescan_at = 0.0
        self._begun = False
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> bool:
        """Tail until `stop` is set; then read what lies at hand, within a bound, submit it and return.

        Returns:
            True if every file was read to its end, False if the bound left bytes for the next start.

        Raises:
            DurabilityError: The spool's disk refused; the process is ending.
        """
        stopping = asyncio.get_running_loop().create_task(self._wake_on(stop))
        try:
            self._watcher.start()
            await self._begin()
            while not stop.is_set():
                await self._rescan_if_due()
                self._run_timers()
                if self._queue:
                    await self._turn(self._queue.popleft())
                else:
                    await self._sleep(stop)
                self._raise_failure()
            return await self._wind_down()
        finally:
            stopping.cancel()
            await self.close()

    async def drain_once(self) -> None:
        """Look through the folders, read every file to its current end, and wait until all of it is durable."""
        await self._begin()
        await self._life.rescan()
        for lane in self._life.lanes.values():
            for tailed in lane.files:
                tailed.woken = True
            self.ready(lane)
        while self._queue or self._run_timers() or any(tailed.pending for tailed in self._life.files.values()):
            if self._queue:
                await self._turn(self._queue.popleft())
            else:
                self._wake.clear()
                await self._pause(_SOON)
            self._raise_failure()
        await self._intake.flush()

    async def close(self) -> None:
        """Give back every descriptor, watch and thread; what is durable stays durable."""
        await self._watcher.close()
        # First the thread: a step that was cut short may be opening a file.
        self._thread.shutdown(wait=True, cancel_futures=True)
        for tailed in self._life.files.values():
            tailed.reader.close()

    async def hop(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run a function on the reading thread."""
        result: _T = await wrap(function)(*arguments, executor=self._thread)
        return result

    async def submit(self, append: Append, tailed: Tailed | None = None) -> None:
        """Hand an append to the intake and note when it is durable."""
        durable = asyncio.ensure_future(await self._intake.submit(append))
        # Appends without records may wait for company; a file must not wait for them.
        counted = tailed if append.records else None
        if counted is not None:
            counted.pending += 1
        durable.add_done_callback(lambda done: self._on_durable(done, counted))

    def ready(self, lane: Lane) -> None:
        """Put a lane in line for a turn."""
        if not lane.queued:
            lane.queued = True
            self._queue.append(lane)
            self._wake.set()

    def release(self, tailed: Tailed) -> None:
        """Close a file and stop watching it."""
        self._open.release(tailed)

    def unclear(self, path: str, error: OSError | None) -> None:
        """Report that it cannot be told what has become of a path; folders are looked through often until it can."""
        if error is not None:
            self._unclear.add(path)
            self._troubles.met(path, path, error)
        elif path in self._unclear:
            self._unclear.remove(path)
            self._troubles.cured(path)
            if path in self._life.lanes:
                self.ready(self._life.lanes[path])

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            # A source that was of another kind under this id has left cursors that speak of no file.
            unfinished, finished = (
                [cursor for cursor in cursors if cursor.inode]
                for cursors in (self._intake.cursors(self._source), self._intake.finished(self._source))
            )
            await self._life.begin(unfinished, finished)
            self._after_scan()

    async def _rescan_if_due(self) -> None:
        if self._now() >= self._rescan_at:
            await self._life.rescan()
            self._after_scan()

    def _after_scan(self) -> None:
        often = self._watcher.polling or self._unclear
        self._rescan_at = self._now() + (self._settings.poll_seconds if often else self._settings.rescan_seconds)
        self._watcher.folders(*discover.folders(self._patterns))

    async def _turn(self, lane: Lane) -> None:
        """Read one block of the first file of a lane that has one, asking the oldest first."""
        lane.queued = False
        if lane.path in self._unclear and self._life.may_not_read(lane):
            return
        # A file's successor is only read if it had something before its predecessors were found at their ends: a writer
        # that has moved on has by then written all it will to the old file.
        successors = lane.files[1:]
        started = {tailed for tailed in successors if not tailed.resting and await self._has_more(tailed)} if successors else set()
        files = list(lane.files)
        for index, tailed in enumerate(files):
            if index and tailed not in started and not tailed.rotated and any(not other.settled for other in lane.files[:index]):
                continue
            if index and not follow(tailed, files[index - 1]):
                return
            tailed.left = not started.isdisjoint(files[index + 1 :])
            outcome = await self._read(tailed)
            if outcome is Turn.REFUSED and tailed.retry_seconds < self._settings.retry_seconds[1]:
                # What comes after it waits for a while, to stay in order; not for ever, as it may never be readable again.
                return
            if outcome is Turn.MOVED:
                self.ready(lane)
                return
            if outcome is Turn.BUSY:
                return

    async def _has_more(self, tailed: Tailed) -> bool:
        try:
            more = await self.hop(tailed.reader.has_more)
            self._note_open(tailed, None)
        except (OSError, MovedError):
            return True
        return more

    async def _read(self, tailed: Tailed) -> Turn:
        """Ask one file for a block, and do what comes of it."""
        now = self._now()
        if tailed.retry_at > now:
            return Turn.REFUSED
        try:
            return await self._ask(tailed, now)
        except OSError as error:
            self._report(tailed, error)
            return Turn.REFUSED

    async def _ask(self, tailed: Tailed, now: float) -> Turn:
        if tailed.resting and not tailed.parked and now >= tailed.linger_until:
            await self._life.expire(tailed)
        if tailed.resting:
            return Turn.AT_END
        if tailed.pending >= self._settings.in_flight:
            return Turn.BUSY
        held = tailed.ended_at is not None and now - tailed.ended_at >= self._settings.eof_hold_seconds
        final = tailed.rotated and (held or tailed.copied or tailed.reader.fixed)
        tailed.woken = False
        choose_ending(tailed, now, final=final, stopping=self._stopping)
        try:
            step = await self.hop(partial(tailed.reader.step, final=final))
        except (MovedError, FileNotFoundError):
            await self._life.moved(tailed)
            self._troubles.cured(tailed)
            return Turn.MOVED
        self._note_open(tailed, step.size)
        self._troubles.cured(tailed)
        tailed.retry_seconds = tailed.retry_at = 0.0
        if (when := comes_back(tailed, now, self._context, step)) is not None:
            self._timers.add(when, tailed.lane)
        if step.changed is None:
            return await self._take(tailed, step, final=final and not is_unfinished(tailed))
        await self._life.changed(tailed, step.changed)
        return Turn.MOVED

    async def _take(self, tailed: Tailed, step: Step, *, final: bool) -> Turn:
        """Submit what a step gave, and see whether the file is at its end for good."""
        now = self._now()
        if step.append is not None:
            await self.submit(step.append, tailed)
        for data in step.observability:
            self._sink.write(data, self._channel)
        grown = step.append is not None or step.size != tailed.size
        tailed.size = step.size
        if grown:
            tailed.settled = tailed.parked = False
        if not step.at_end:
            return Turn.MOVED
        if not tailed.rotated:
            tailed.ended_at = None
            return Turn.AT_END
        if tailed.settled:
            if now >= tailed.linger_until:
                await self._life.expire(tailed)
            return Turn.AT_END
        if final:
            tailed.linger_until = now + self._settings.linger_seconds
            await self._life.ended(tailed)
            self._timers.add(tailed.linger_until, tailed.lane)
        elif grown or tailed.ended_at is None:
            tailed.ended_at = now
            self._timers.add(now + self._settings.eof_hold_seconds, tailed.lane)
        return Turn.AT_END

    def _note_open(self, tailed: Tailed, size: int | None) -> None:
        if self._open.note(tailed, size):
            tailed.woken = True
            self.ready(tailed.lane)

    def _report(self, tailed: Tailed, error: OSError) -> None:
        """Say that a file cannot be read, and try it again later."""
        put_off(tailed, self._now(), self._settings.retry_seconds)
        self.release(tailed)
        self._timers.add(tailed.retry_at, tailed.lane)
        self._troubles.met(tailed, tailed.reader.path, error)

    async def _sleep(self, stop: asyncio.Event) -> None:
        """Wait for an event, a timer or the next rescan."""
        self._wake.clear()
        if self._queue or stop.is_set() or self._failure is not None:
            return
        await self._pause(self._timers.next(self._rescan_at) - self._now())

    def _run_timers(self) -> bool:
        """Queue the lanes whose time has come, and tell whether there were any."""
        due = self._timers.due(self._now())
        for lane in due:
            self.ready(lane)
        return bool(due)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()

    async def _wind_down(self) -> bool:
        """Read every file to its current end within the bound, and keep the sizes of lines that are not complete."""
        self._stopping = True
        try:
            async with asyncio.timeout(self._settings.stop_seconds):
                await self.drain_once()
                # Only here: a drain that was cut short may have left a reader ahead of what the intake accepted.
                for tailed in self._life.files.values():
                    cursor = tailed.reader.cursor
                    if cursor.size_seen > cursor.offset:
                        await self.submit(gap_append(cursor, (), (cursor,), time_text(self._clock.now())))
        except TimeoutError:
            _LOG.info("%s stops with bytes left to read; they are read at the next start", self._source)
            return False
        return not self._troubles.any

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    def _on_file(self, token: Hashable) -> None:
        if isinstance(token, Tailed) and not self._stopping:
            token.woken = True
            self.ready(token.lane)

    def _on_folder(self) -> None:
        self._rescan_at = 0.0
        self._wake.set()

    def _on_durable(self, done: asyncio.Future[None], tailed: Tailed | None) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._failure = error
        self._wake.set()
        if tailed is not None:
            tailed.pending -= 1
            if tailed.pending == self._settings.in_flight - 1:
                self.ready(tailed.lane)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
