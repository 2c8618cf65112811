"""Bring in a stream that the relay's parent reads: standard input, or a command's output.

Invariants:
    - Records, progress and cursor travel in one append; the parent is told that bytes are done with once that append is
      durable, so it can send them again to the next worker. That one skips by the cursor what it finds durable: no
      audit line is lost or recorded twice.
    - Observability bytes are passed on after their append was accepted, in their order. A part of them may be written
      twice after a crash of the worker, because nothing says how far they got.
    - With `when_full: gap` a spool without room costs audit lines, never observability ones: they are counted, and one
      gap record states them, and what the parent threw away meanwhile, when there is room for more than a trickle again.
    - With `block` the source waits, and so does the service, until the parent says that its time to end is nearly over:
      from then on it is as with `gap`. What was accepted is never called lost.
    - A stream whose parent died is finished with a gap record of certainty `possible`: by this worker if it lives, by
      the next one at its start if not, whatever has become of the source in the configuration (`stream_appends.left_behind`).
    - An over-long line larger than a quarter of the parent's buffer is acknowledged before it is durable, since it would
      not fit; a crash inside of it is stated as a gap.
    - Where several lines are one unit, the last one is taken as complete once nothing has come for its patience; until then it is
      not acknowledged.

The module must not read the pipe itself or know how a record is made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ..relay.link import Data, End, Gap, InheritedStream, Link, inherited_streams
from ..trail.records import Certainty, GapCause
from ..vitals.clock import rfc3339
from .envelope import Ending
from .joined import make_cutter
from .lines import LINE_LIMIT
from .stream_appends import PARENT_ENDED, GivenUp, Loss, StreamAppends
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..events.mappings.joining import Joining
    from ..intake import Append, Intake
    from ..relay.link import Frame, Header
    from ..trail.manifest import SourceProgress
    from .base import BlockSeparator, Sink, TimeOfDay
    from .lines import LineCutter

__all__ = ["InheritedStream", "StreamSettings", "StreamSource", "inherited_streams"]

_INLINE_BYTES: Final = 65_536
_LOST_POLL_SECONDS: Final = 0.2
_HURRIED_PATIENCE_SECONDS: Final = 0.5
RESUME_BYTES: Final = 8 << 20
"""More room than this is never waited for before lines are taken again."""


class StreamSettings(NamedTuple):
    """Hold the knobs of a stream source.

    Attributes:
        when_full: What a full spool means: ``block`` waits, ``gap`` gives audit lines up and says so.
        line_limit: The longest line, in bytes.
        patience_seconds: With ``gap``, how long the source waits for room before lines are given up.
        resume_bytes: How much room there must be before lines are taken again. Without a store every cut makes a little,
            and a loss would become a hundred small ones.
    """

    when_full: Literal["block", "gap"] = "block"
    line_limit: int = LINE_LIMIT
    patience_seconds: float = 1.0
    resume_bytes: int = 1 << 20


class StreamSource:
    """Read one inherited stream to its end; a `Source`.

    Attributes:
        respawns: How often the parent had started a worker anew when it started this one.
    """

    def __init__(
        self,
        stream: InheritedStream,
        separator: BlockSeparator,
        is_audit: Callable[[bytes], bool],
        intake: Intake,
        sink: Sink,
        clock: TimeOfDay,
        settings: StreamSettings | None = None,
        *,
        joining: Joining | None = None,
    ) -> None:
        """Describe the source; `run` opens it.

        Args:
            stream: What the parent handed over.
            separator: Separates blocks; used by this source alone.
            is_audit: The rule's decision about one line, for lines over the limit.
            intake: Takes the appends.
            sink: Takes the observability bytes, on the stream's channel.
            clock: Tells when bytes were read.
            settings: The knobs; the defaults if None.
            joining: Which lines are one unit; None if each is one.
        """
        self.respawns = 0
        self._stream = stream
        self._is_audit = is_audit
        self._intake = intake
        self._sink = sink
        self._clock = clock
        self._appends = StreamAppends(stream, clock)
        settings = settings or StreamSettings()
        self._gap = settings.when_full == "gap"
        self._line_limit = settings.line_limit
        self._patience_seconds = settings.patience_seconds
        self._resume_bytes = settings.resume_bytes
        self._hurried = asyncio.Event()
        self._separator = separator
        self._joining = joining
        self._complete_at: float | None = None
        self._confirmations: asyncio.Queue[tuple[Awaitable[None] | None, int] | None] = asyncio.Queue()
        self._pending = b""
        self._received = 0
        self._accounted = 0
        self._acknowledged = 0
        self._skip_to = 0
        self._window_bytes = 1 << 20
        self._passed_bytes = 0
        self._lost: GivenUp | None = None
        self._cut = False

    async def run(self, stop: asyncio.Event) -> bool:
        """Read until the stream's end.

        Args:
            stop: Ignored: a stream goes on until its end, which the parent brings about when it is told to stop.

        Returns:
            True when the end was orderly, False when the parent went away without it.

        Raises:
            DurabilityError: The spool's disk refused; the process is ending.
        """
        del stop
        link = Link(self._stream.fd, self._stream.orders_fd, self._hurried.set)
        try:
            header = await link.header()
            if header is None:
                return False
            self.respawns = header.respawns
            if header.confirmed or not await self._open(header):
                link.confirm()
                return True
            link.acknowledge(self._accounted)
            confirming = asyncio.create_task(self._confirm(link))
            pumping = asyncio.create_task(self._pump(link))
            try:
                await asyncio.wait({confirming, pumping}, return_when=asyncio.FIRST_COMPLETED)
                if not pumping.done():
                    await confirming
                orderly = await pumping
                await self._confirmations.put(None)
                await confirming
            finally:
                for task in (pumping, confirming):
                    task.cancel()
                await asyncio.gather(pumping, confirming, return_exceptions=True)
            if orderly:
                await self._finish()
                link.confirm()
            return orderly
        finally:
            link.close()

    # -- the beginning ------------------------------------------------------------------------------------------------

    async def _open(self, header: Header) -> bool:
        """Find the place in the stream, state what earlier parents took with them; False if it is finished already."""
        stream = self._stream
        mine = [cursor for cursor in self._intake.cursors(stream.source) if cursor.path == stream.channel]
        found = next((cursor for cursor in mine if cursor.file_id == header.stream), None)
        if found is None and header.end is not None and header.end == header.base > 0:
            return False
        self._appends.file_id = header.stream
        self._window_bytes = header.buffer_bytes // 4
        for cursor in mine:
            if cursor is not found:
                await self._durably(self._appends.of_earlier(cursor))
        self._received = header.base
        self._accounted = self._acknowledged = self._skip_to = max(header.base, 0 if found is None else found.offset)
        if found is None or header.base > found.offset:
            await self._open_cursor(0 if found is None else found.offset, header.base)
        # A line that the parent cannot hold as a whole has to be cut before it fills the parent's buffer.
        self._line_limit = min(self._line_limit, max(1, header.buffer_bytes // (2 if self._joining is None else 4)))
        self._cutter = self._new_cutter(self._accounted)
        return True

    async def _open_cursor(self, durable: int, base: int) -> None:
        """Make the stream known before its first byte, and state bytes that were given up before they were durable."""
        loss: Loss | None = None
        progress: tuple[SourceProgress, ...] = ()
        if base > durable:
            cause = GapCause.SPOOL_FULL if self._gap else GapCause.WORKER_CRASHED
            detail = "bytes were given up by an earlier worker (full spool, over-long line), or their state was lost"
            loss = Loss(cause, Certainty.POSSIBLE, durable, base, detail)
            progress = (self._appends.progress(durable, base),)
        await self._durably(self._appends.plain(loss=loss, progress=progress, cursors=(self._appends.cursor(self._accounted),)))

    def _new_cutter(self, offset: int) -> LineCutter:
        return make_cutter(self._joining, self._is_audit, offset=offset, line_limit=self._line_limit)

    async def _finish(self) -> None:
        """Make the end durable, and with it that somebody may have gone on writing."""
        loss: Loss | None = None
        if self._cut:
            detail = "the stream was closed while another process held it open; what that one wrote later was not read"
            loss = Loss(GapCause.UNREADABLE, Certainty.POSSIBLE, self._accounted, None, detail)
        await self._durably(self._appends.plain(loss=loss, cursors=(self._appends.cursor(self._accounted, finished=True),)))

    # -- the bytes ----------------------------------------------------------------------------------------------------

    async def _pump(self, link: Link) -> bool:
        while True:
            frames = await link.receive(self._wait_seconds())
            if frames is None:
                await self._take(b"", final=True)
                await self._settle_lost()
                loss = Loss(GapCause.WORKER_CRASHED, Certainty.POSSIBLE, self._accounted, None, PARENT_ENDED)
                await self._durably(self._appends.plain(loss=loss, cursors=(self._appends.cursor(self._accounted, finished=True),)))
                return False
            if self._lost is not None and self._intake.has_room(self._resume_bytes):
                await self._settle_lost()
            if await self._take_frames(frames):
                return True
            if not frames and self._complete_at is not None and self._complete_at <= asyncio.get_running_loop().time():
                await self._take(b"", ending=Ending.CUT)

    def _wait_seconds(self) -> float | None:
        """Return how long to wait for bytes; None if for ever."""
        waits = [_LOST_POLL_SECONDS] if self._lost else []
        if self._complete_at is not None:
            waits.append(max(0.0, self._complete_at - asyncio.get_running_loop().time()))
        return min(waits, default=None)

    async def _take_frames(self, frames: list[Frame]) -> bool:
        """Deal with frames in order; say whether the last one was the stream's end."""
        payloads: list[bytes] = []
        for frame in frames:
            if isinstance(frame, Data):
                payloads.append(frame.payload)
                continue
            await self._take(b"".join(payloads))
            payloads = []
            if isinstance(frame, Gap):
                await self._take_gap(frame)
            elif isinstance(frame, End):
                self._cut = frame.cut
                await self._take(b"", final=True)
                await self._settle_lost()
                return True
        if payloads:
            await self._take(b"".join(payloads))
        return False

    async def _take(self, data: bytes, *, final: bool = False, ending: Ending = Ending.WAIT) -> None:
        """Take the stream's next bytes; `final` ends a last line without newline, `ending` a last unit."""
        known = max(0, self._skip_to - self._received)
        self._received += len(data)
        data = data[known:] if known else data
        chunk = self._pending + data if self._pending else data
        if not data and not final and ending is Ending.WAIT:
            return
        pieces, consumed = self._cutter.feed(chunk, final=final, ending=ending)
        self._pending = chunk[consumed:]
        self._complete_at = None
        if self._joining is not None and self._cutter.waiting and ending is Ending.WAIT:
            self._complete_at = asyncio.get_running_loop().time() + self._joining.patience_seconds
        if pieces or final:
            observed_at = rfc3339(self._clock.now())
            tally = Tally(self._stream.source, observed_at)
            if consumed > _INLINE_BYTES:
                await asyncio.to_thread(tally.add, pieces, self._separator)
            else:
                tally.add(pieces, self._separator)
            await self._hand_on(tally)
        if self._cutter.inside_long_line and self._cutter.offset - self._acknowledged > self._window_bytes:
            self._confirm_later(None, self._cutter.offset)

    async def _take_gap(self, gap: Gap) -> None:
        """State bytes that the parent threw away, with the unfinished line before them."""
        if gap.end <= self._accounted:
            self._received = gap.end
            return
        pieces, _ = self._cutter.feed(self._pending, ending=Ending.FINAL)
        if self._cutter.inside_long_line:
            pieces += self._cutter.feed(b"", final=True)[0]
        if pieces:
            tally = Tally(self._stream.source, rfc3339(self._clock.now()))
            tally.add(pieces, self._separator)
            await self._hand_on(tally)
        self._pending = b""
        self._complete_at = None
        self._received = gap.end
        start = self._accounted
        self._cutter = self._new_cutter(gap.end)
        self._accounted = gap.end
        self._passed_bytes = 0
        self._lost = self._lost or GivenUp(start)
        self._lost.add_unread(start, gap.end)
        if self._intake.has_room(self._resume_bytes):
            await self._settle_lost()
        else:
            self._confirm_later(None, gap.end)

    # -- the intake ---------------------------------------------------------------------------------------------------

    async def _hand_on(self, tally: Tally) -> None:
        """Submit what was tallied, then pass the rest on."""
        start, end = self._accounted, self._cutter.boundary
        self._passed_bytes += sum(map(len, tally.passed))
        if end > start:
            passed_bytes, self._passed_bytes = self._passed_bytes, 0
            self._accounted = end
            append = self._appends.of_tally(tally, start, end)
            accepted = None if self._lost is not None else await self._submit(append)
            if accepted is None:
                self._lost = self._lost or GivenUp(start)
                self._lost.add(tally, start, end, passed_bytes)
            self._confirm_later(accepted, end)
        for data in tally.passed:
            self._sink.write(data, self._stream.channel)

    async def _submit(self, append: Append) -> Awaitable[None] | None:
        """Submit an append; return None if there is no room for it and no time to wait for some."""
        if self._intake.has_room(len(append.bodies)):
            return await self._intake.submit(append)
        task = asyncio.ensure_future(self._intake.submit(append))
        try:
            if not self._gap:
                await self._until_hurried(task)
            patience_seconds = _HURRIED_PATIENCE_SECONDS if self._hurried.is_set() else self._patience_seconds
            await asyncio.wait({task}, timeout=patience_seconds)
        finally:
            task.cancel()
        # Cancelled while it waited, it has not been accepted; if it was faster than the cancellation, it has.
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    async def _until_hurried(self, task: asyncio.Future[Awaitable[None]]) -> None:
        """Wait until the task is done, or for as long as the parent lets us."""
        hurried = asyncio.ensure_future(self._hurried.wait())
        waiting: set[asyncio.Future[Any]] = {task, hurried}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()

    async def _settle_lost(self) -> None:
        """State in one gap record what a full spool has cost."""
        lost, self._lost = self._lost, None
        if lost is not None:
            self._confirm_later(await self._intake.submit(self._appends.of_given_up(lost)), lost.end)

    def _confirm_later(self, accepted: Awaitable[None] | None, offset: int) -> None:
        self._confirmations.put_nowait((accepted, offset))

    async def _confirm(self, link: Link) -> None:
        """Tell the parent, append by append, what has become durable."""
        while (item := await self._confirmations.get()) is not None:
            accepted, offset = item
            if accepted is not None:
                if self._received - self._acknowledged > self._window_bytes:
                    # Appends without records may wait for company; the parent's buffer would be full by then.
                    await self._intake.flush()
                await accepted
            if offset > self._acknowledged:
                self._acknowledged = offset
                link.acknowledge(offset)

    async def _durably(self, append: Append) -> None:
        accepted = await self._intake.submit(append)
        await self._intake.flush()
        await accepted
