"""Record what clients post, and answer when it is durable.

Invariants:
    - A request is one append: its records, the progress over its bytes and the cursor after them become durable together. The
      answer comes after the fsync; what was answered is in the trail, once.
    - A request that could not be recorded is refused, with either setting of `spool.when_full`: the client still has the
      lines, so no loss arises that a gap record would have to state.
    - Offsets count the bytes of recorded bodies, from start to start; they are given in the order of the appends.
    - Everything of one request has one time, and no two requests have the same.
    - After a stop nothing new is recorded; what is under way is answered within a bound.

It must not speak HTTP or know how a record is made.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import web

from ...errors import TrailsealError
from ...intake import Append, Cursor
from ...trail.manifest import SourceProgress
from ...vitals.clock import rfc3339
from .addresses import TcpListener, UnixListener
from .door import Door
from .judge import judge_lines, judge_message
from .replies import BadRequest, NoRoom, Recorded, UnknownOutcome
from .seals import SealWatch
from .settings import SocketSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ...config import Socket
    from ...events.mappings.joining import Joining
    from ...intake import Intake, SealListeners
    from ..base import BlockSeparator, ProblemReport, Sink, TimeOfDay
    from .judge import Judged, Verdict
    from .seals import Proven

KIND: Final = "socket"
CHANNEL: Final = "stdout"
_MARK: Final = "socket"
"""Tells the cursor from those that a source of another kind left under the same id."""
_INLINE_BYTES: Final = 16_384
_TICK: Final = timedelta(microseconds=1)

log = structlog.get_logger("socket")


class SocketSource:
    """Take events over HTTP; a `Source`."""

    def __init__(  # noqa: PLR0913  each is another part of the agent
        self,
        source_id: str,
        where: Socket,
        make_separator: Callable[[], BlockSeparator],
        is_audit: Callable[[bytes], bool],
        intake: Intake,
        sink: Sink,
        clock: TimeOfDay,
        *,
        file_id: str,
        listeners: SealListeners,
        settings: SocketSettings | None = None,
        problem: ProblemReport | None = None,
        joining: Joining | None = None,
    ) -> None:
        """Describe the source; `run` opens it.

        Args:
            source_id: The source's id.
            where: What to listen on.
            make_separator: Makes a separator; each serves one thread.
            is_audit: The rule's decision about one line.
            intake: Takes the appends.
            sink: Takes the lines that are not audit.
            clock: Tells when requests were received.
            file_id: The name of this byte sequence if the state does not know one yet: a new ULID.
            listeners: Who is told of each cut.
            settings: The knobs; the defaults if None.
            problem: Called with an address and what is wrong with it, or with None once it is cured.
            joining: Which lines of a request are one unit; None if each is one. A request's end ends its last unit.
        """
        self._id = source_id
        self._make_separator = make_separator
        self._separators: list[BlockSeparator] = []
        self._is_audit = is_audit
        self._intake = intake
        self._sink = sink
        self._clock = clock
        self._settings = settings or SocketSettings()
        self._problem = problem
        self._joining = joining
        self._listeners: list[TcpListener | UnixListener] = []
        if where.listen is not None:
            self._listeners.append(TcpListener(where.listen))
        if where.path is not None:
            self._listeners.append(UnixListener(where.path, where.mode))
        self._path = ", ".join(listener.name for listener in self._listeners)
        self._seals = SealWatch(source_id, listeners)
        self._order = asyncio.Lock()
        self._large = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._cursor = Cursor(source=source_id, file_id=file_id, path=self._path, token=_MARK)
        self._last: datetime | None = None
        self.addresses: Sequence[object] = ()
        """What is listened on, as the sockets name it."""

    async def run(self, stop: asyncio.Event) -> bool:
        """Serve until `stop` is set, then answer what is under way.

        Returns:
            Whether every request under way was answered in time.
        """
        mine = (cursor for cursor in self._intake.cursors(self._id) if cursor.token == _MARK)
        self._cursor = next(mine, self._cursor)
        door = Door(self, self._settings)
        runner = web.ServerRunner(door, shutdown_timeout=0.1)
        await runner.setup()
        try:
            async with asyncio.TaskGroup() as group:
                opening = [group.create_task(self._open(listener, runner)) for listener in self._listeners]
                await stop.wait()
                for task in opening:
                    task.cancel()
            door.stopping = True
            self._stopping.set()
            for site in list(runner.sites):
                await site.stop()
            try:
                async with asyncio.timeout(self._settings.stop_seconds):
                    await door.drained()
            except TimeoutError:
                log.warning("requests are left without an answer", source=self._id)
                return False
            return True
        finally:
            for listener in self._listeners:
                listener.close()
            await runner.cleanup()
            await self._seals.close()

    async def _open(self, listener: TcpListener | UnixListener, runner: web.BaseRunner) -> None:
        """Listen on an address; try until it succeeds."""
        pause, longest = self._settings.retry_seconds
        failed = False
        while True:
            try:
                await listener.open(runner)
            except OSError as error:
                failed = True
                self._report(listener.name, error.strerror or str(error))
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
                continue
            break
        if failed:
            self._report(listener.name, None)
        self.addresses = runner.addresses
        log.info("takes events", source=self._id, address=listener.name)

    def _report(self, name: str, what: str | None) -> None:
        if self._problem is not None:
            self._problem(name, what)

    # ---- recording (see door.Recorder for the guarantees) ----------------------------------------------------------------

    @property
    def trouble(self) -> str | None:
        """Say why nothing would be recorded now; None if it would."""
        return None if self._intake.has_room() else "the spool is full"

    async def record(self, body: bytes, *, one: bool, wait_seconds: float | None) -> Recorded:
        """Make a request's lines durable.

        Args:
            body: The request's body.
            one: It is one event, not lines.
            wait_seconds: How long to wait until the records are sealed; None not to wait.

        Raises:
            Problem: They are not durable, or not known to be.
            DurabilityError: The disk refused; the process is ending.
        """
        observed_at = self._new_time()
        if len(body) > _INLINE_BYTES:
            # One after the other: the interpreter would not let two go faster, and each needs memory of its own.
            async with self._large:
                judged = await asyncio.to_thread(self._judge, body, observed_at, one=one)
        else:
            judged = self._judge(body, observed_at, one=one)
        if not judged.verdicts:
            raise BadRequest("The body holds no line.")
        if wait_seconds is None or not judged.bodies:
            await self._make_durable(judged, len(body))
            return _answer(judged, judged.verdicts, sealed=False)
        with self._seals.expect(judged.bodies) as proven:
            await self._make_durable(judged, len(body))
            # The agent seals what is left after its sources have ended, so there is nothing to wait for then.
            stopping = asyncio.ensure_future(self._stopping.wait())
            either: set[asyncio.Future[Any]] = {proven, stopping}
            try:
                await asyncio.wait(either, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
            if not proven.done():
                return _answer(judged, judged.verdicts, sealed=False)
            return _answer(judged, _with_proofs(judged.verdicts, proven.result()), sealed=True)

    def _new_time(self) -> str:
        """Return the time, later than that of the request before: a record's body is then no other request's."""
        now = self._clock.now()
        if self._last is not None and now <= self._last:
            now = self._last + _TICK
        self._last = now
        return rfc3339(now)

    def _judge(self, body: bytes, observed_at: str, *, one: bool) -> Judged:
        """Judge a body; may run on several threads, each with a separator of its own."""
        separator = self._separators.pop() if self._separators else self._make_separator()
        try:
            limit = self._settings.line_limit
            if one:
                return judge_message(self._id, body, observed_at, separator, self._is_audit, limit)
            return judge_lines(self._id, body, observed_at, separator, self._is_audit, limit, self._joining)
        finally:
            self._separators.append(separator)

    async def _make_durable(self, judged: Judged, size: int) -> None:
        """Submit an append, pass the other lines on, and wait for the disk."""
        try:
            async with asyncio.timeout(self._settings.room_seconds), self._order:
                append = self._append(judged, size)
                durable = asyncio.ensure_future(await self._intake.submit(append))
                [self._cursor] = append.cursors
        except TimeoutError:
            detail = "The stores do not take batches fast enough, or not at all. Nothing was recorded; post the same again."
            raise NoRoom(detail, headers={"Retry-After": "5"}) from None
        for data in judged.tally.passed:
            self._sink.write(data, CHANNEL)
        if not append.records:
            # Nothing of it has to survive, and such appends may wait for company.
            return
        try:
            async with asyncio.timeout(self._settings.durable_seconds):
                await asyncio.shield(durable)
        except (TimeoutError, TrailsealError):
            detail = "The disk did not confirm the records, and may still do so. Posted again, they may be recorded twice."
            raise UnknownOutcome(detail, close=True) from None

    def _append(self, judged: Judged, size: int) -> Append:
        tally, cursor = judged.tally, self._cursor
        end = cursor.offset + size
        progress = SourceProgress(
            id=self._id,
            kind=KIND,
            path=self._path,
            file_id=cursor.file_id,
            from_offset=cursor.offset,
            to_offset=end,
            lines=tally.lines,
            audit=tally.records,
            observability=tally.passed_lines,
            quarantined=tally.quarantined,
        )
        return Append(
            bodies=b"".join(tally.bodies),
            records=tally.records,
            events=tally.events,
            quarantined=tally.quarantined,
            progress=(progress,),
            cursors=(msgspec.structs.replace(cursor, path=self._path, offset=end, size_seen=end),),
            observed_at=tally.observed_at,
            occurred_min=rfc3339(min(tally.times)) if tally.times else None,
            occurred_max=rfc3339(max(tally.times)) if tally.times else None,
            reasons=tally.reasons,
            outcomes=tally.outcomes,
        )


def _answer(judged: Judged, verdicts: Sequence[Verdict], *, sealed: bool) -> Recorded:
    tally = judged.tally
    return Recorded(sealed=sealed, events=tally.events, quarantined=tally.quarantined, passed=tally.passed_lines, results=verdicts)


def _with_proofs(verdicts: Sequence[Verdict], proven: Sequence[Proven]) -> list[Verdict]:
    records = iter(proven)
    done = []
    for verdict in verdicts:
        if verdict.status == "passed":
            done.append(verdict)
            continue
        record = next(records)
        done.append(msgspec.structs.replace(verdict, seq=record.seq, record=record.line.decode(), proof=record.proof.decode()))
    return done
