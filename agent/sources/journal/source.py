"""Follow the systemd journal; each entry's `MESSAGE` is a line.

Invariants:
    - Records, progress and the journal's cursor behind them travel in one append: after a crash, reading goes on behind the
      last durable entry, and nothing is recorded twice.
    - Entries are brought in by runs of journalctl that end at the newest one; only then is the journal followed, because
      `--follow` shows one boot alone.
    - Before the first run, and after one that failed, it is looked whether the entry of the cursor is still there. If not, a gap
      record states an unbounded loss, once, and reading goes on from that place.
    - Offsets count the bytes of messages, each with one for its end, from start to start.
    - journalctl may be missing, die or complain: that is reported, and it is started again for ever, with a growing pause.

It must not parse the journal's format or know how a record is made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog

from ...intake import Append, Cursor
from ...trail.manifest import SourceProgress
from ...trail.records import Certainty, GapCause, gap_body
from ...vitals.clock import rfc3339
from ..base import UnitSeparator
from ..tally import Tally
from ..units import add_messages, add_oversize
from . import command
from .export import Entry, ExportParser, Long, Piece, is_same_entry
from .settings import JournalSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from ...config import Journal
    from ...events.mappings.header import Header
    from ...intake import Intake
    from ..base import BlockSeparator, ProblemReport, Sink, TimeOfDay
    from .command import Run
    from .export import Item

T = TypeVar("T")

KIND: Final = "journal"
CHANNEL: Final = "stdout"
_INLINE_BYTES: Final = 65_536
_ENTRY: Final = "s="
"""How the journal's cursors begin."""
_GONE: Final = "gone "
"""Stands before a token whose entry is known to be gone: the loss is stated, the place is still good."""

log = structlog.get_logger("journal")


class JournalSource:
    """Read the journal; a `Source`."""

    def __init__(  # noqa: PLR0913  each is another part of the agent
        self,
        source_id: str,
        journal: Journal,
        separator: BlockSeparator,
        is_audit: Callable[[bytes], bool],
        intake: Intake,
        sink: Sink,
        clock: TimeOfDay,
        *,
        file_id: str,
        settings: JournalSettings | None = None,
        problem: ProblemReport | None = None,
    ) -> None:
        """Describe the source; `run` starts journalctl.

        Args:
            source_id: The source's id.
            journal: Which entries of which journal.
            separator: Separates blocks; used by this source alone. A `UnitSeparator` gets messages of several lines as well, and
                what the journal says beside each.
            is_audit: The rule's decision about one line.
            intake: Takes the appends.
            sink: Takes the lines that are not audit.
            clock: Tells when entries were read.
            file_id: The name of this byte sequence if the state does not know one yet: a new ULID.
            settings: The knobs; the defaults if None.
            problem: Called with the journal's name and what is wrong with it, or with None once it is cured.
        """
        self._id = source_id
        self._journal = journal
        self._separator = separator
        self._fields: frozenset[bytes] = frozenset()
        self._header_of: Callable[[Mapping[bytes, bytes]], Header] | None = None
        if isinstance(separator, UnitSeparator):
            from .beside import FIELDS, header_of  # noqa: PLC0415 -- only sources with a mapping need what it imports

            self._fields, self._header_of = FIELDS, header_of
        self._is_audit = is_audit
        self._intake = intake
        self._sink = sink
        self._clock = clock
        self._settings = settings or JournalSettings()
        self._problem = problem
        self._ill = False
        self._path = journal.directory or "journal"
        self._cursor = Cursor(source=source_id, file_id=file_id, path=self._path)
        self._looked = False
        self._moved = False

    async def run(self, stop: asyncio.Event) -> bool:
        """Read until `stop` is set, then bring in what is there within a bound.

        Returns:
            Whether everything that was there at the stop was brought in.
        """
        # Sources of other kinds may have left cursors under this id, before the configuration was changed.
        mine = (cursor for cursor in self._intake.cursors(self._id) if cursor.token.startswith((_ENTRY, _GONE)))
        self._cursor = next(mine, self._cursor)
        first, longest = self._settings.retry_seconds
        pause = first
        while not stop.is_set():
            self._moved = False
            started = asyncio.get_running_loop().time()
            why = await _unless(stop, self._go_on())
            if stop.is_set():
                break
            self._looked = False
            self._report(why or "journalctl ended by itself")
            if self._moved or asyncio.get_running_loop().time() - started > longest:
                pause = first
            await _unless(stop, asyncio.sleep(pause))
            pause = min(longest, pause * 2)
        return await self._wind_down()

    async def _go_on(self) -> str:
        """Bring in what is there and follow; return why that came to an end."""
        try:
            why = await self._catch_up()
            return why or await self._read(follow=True)
        except OSError as error:
            return f"{self._settings.program[0]} cannot be started: {error.strerror or error}"

    async def _wind_down(self) -> bool:
        try:
            async with asyncio.timeout(self._settings.stop_seconds):
                return not await self._catch_up()
        except (TimeoutError, OSError):
            log.info("stops with entries left to read; they are read at the next start", source=self._id)
            return False

    async def _catch_up(self) -> str:
        """Bring in every entry there is; return what went wrong, empty if nothing did."""
        if not self._looked:
            why = await self._look_for_cursor()
            if why:
                return why
            self._looked = True
        return await self._read(follow=False)

    # ---- the cursor's entry --------------------------------------------------------------------------------------------

    async def _look_for_cursor(self) -> str:
        """Find out whether the entry of the cursor is there, and state the loss if it is not."""
        token = self._cursor.token
        if not token or token.startswith(_GONE):
            return ""
        # An entry of no message would do; what is wanted is its cursor, and no message is asked for.
        parser = ExportParser(lambda _line: False, self._settings.line_limit)
        entries: list[Item] = []
        try:
            async with (
                asyncio.timeout(self._settings.probe_seconds),
                command.run(self._settings.program, command.probe(self._journal, token), self._settings.chunk_bytes) as process,
            ):
                while chunk := await process.read(self._settings.chunk_bytes):
                    entries += parser.feed(chunk)
                code = await process.ended()
                if code:
                    return process.complaint or f"journalctl ended with status {code}"
        except TimeoutError:
            return f"journalctl did not answer within {self._settings.probe_seconds:g} s"
        if not any(isinstance(entry, Entry) and is_same_entry(entry.cursor, token) for entry in entries):
            await self._state_loss(token)
        return ""

    async def _state_loss(self, token: str) -> None:
        log.error("the journal no longer has the entry that was read last", source=self._id, journal=self._path)
        now = rfc3339(self._clock.now())
        cursor = msgspec.structs.replace(self._cursor, token=_GONE + token)
        detail = "the journal no longer has the entry that was read last, so it was vacuumed or replaced while nobody read it"
        body = gap_body(self._id, now, GapCause.ROTATED_AWAY, Certainty.UNBOUNDED, cursor.offset, None, detail, cursor.file_id, self._path)
        await self._submit(Append(bodies=body + b"\n", records=1, gaps=1, cursors=(cursor,), observed_at=now), cursor)

    # ---- entries -------------------------------------------------------------------------------------------------------

    async def _read(self, *, follow: bool) -> str:
        """Take entries from one run of journalctl to its end; return what went wrong, empty if nothing did."""
        size = self._settings.chunk_bytes
        token = self._cursor.token.removeprefix(_GONE)
        parser = ExportParser(self._is_audit, self._settings.line_limit, token, self._fields)
        words = command.arguments(self._journal, token, follow=follow, fields=sorted(name.decode() for name in self._fields))
        async with command.run(self._settings.program, words, size, self._report) as process:
            settled = asyncio.get_running_loop().call_later(self._settings.settled_seconds, self._settle, process) if follow else None
            try:
                while chunk := await process.read(size):
                    await self._take(parser.feed(chunk), len(chunk))
                code = await process.ended()
            finally:
                if settled is not None:
                    settled.cancel()
            return (process.complaint or f"journalctl ended with status {code}") if code else ""

    async def _take(self, items: Sequence[Item], size: int) -> None:
        """Bring in what a chunk ended."""
        tally = Tally(self._id, rfc3339(self._clock.now()))
        if size > _INLINE_BYTES:
            cursor = await _to_its_end(asyncio.to_thread(self._count, items, tally))
        else:
            cursor = self._count(items, tally)
        if cursor is not None:
            await self._submit(self._append(tally, cursor), cursor)
        for data in tally.passed:
            self._sink.write(data, CHANNEL)

    def _count(self, items: Sequence[Item], tally: Tally) -> Cursor | None:
        """Count items; return the cursor behind the last entry, None without one."""
        waiting: list[tuple[bytes, Header | None]] = []
        size = begin = 0
        token = ""

        def settle() -> None:
            nonlocal begin
            offset = self._cursor.offset + begin
            add_messages(tally, waiting, self._separator, self._is_audit, self._settings.line_limit, offset)
            waiting.clear()
            begin = size

        for item in items:
            if isinstance(item, Piece):
                settle()
                tally.passed.append(item.data)
                continue
            token = item.cursor
            header = self._header_of(item.beside) if self._header_of is not None else None
            for message in item.messages:
                if isinstance(message, bytes):
                    size += len(message) + 1
                    waiting.append((message, header))
                else:
                    settle()
                    size += message.length + 1
                    begin = size
                    _add_long(tally, message, self._separator)
        settle()
        offset = self._cursor.offset + size
        return msgspec.structs.replace(self._cursor, path=self._path, offset=offset, size_seen=offset, token=token) if token else None

    def _append(self, tally: Tally, cursor: Cursor) -> Append:
        progress = SourceProgress(
            id=self._id,
            kind=KIND,
            path=self._path,
            file_id=cursor.file_id,
            from_offset=self._cursor.offset,
            to_offset=cursor.offset,
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
            progress=(progress,) if cursor.offset > self._cursor.offset else (),
            cursors=(cursor,),
            observed_at=tally.observed_at,
            occurred_min=rfc3339(min(tally.times)) if tally.times else None,
            occurred_max=rfc3339(max(tally.times)) if tally.times else None,
            reasons=tally.reasons,
            outcomes=tally.outcomes,
        )

    async def _submit(self, append: Append, cursor: Cursor) -> None:
        """Submit an append; from then on reading goes on behind it, since it becomes durable or the process ends."""
        await self._intake.submit(append)
        self._cursor = cursor
        self._moved = True

    # ---- problems ------------------------------------------------------------------------------------------------------

    def _report(self, what: str) -> None:
        self._ill = True
        if self._problem is not None:
            self._problem(self._path, what)

    def _settle(self, process: Run) -> None:
        """Take journalctl for well, once it has followed for a while without a complaint."""
        if self._ill and not process.complaint:
            self._ill = False
            if self._problem is not None:
                self._problem(self._path, None)


def _add_long(tally: Tally, message: Long, separator: BlockSeparator) -> None:
    if message.audit or message.late:
        add_oversize(tally, separator, message.head, message.length, message.sha256)
    else:
        tally.passed_lines += 1


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work on a thread; cancelled, wait for it all the same: it uses what the next who works needs for himself."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> Any:
    """Do some work until it ends, or cancel it once `stop` is set; return its result, None if it was cancelled."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
