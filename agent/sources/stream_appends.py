"""Make the appends, cursors and gap records of one stream.

Invariants: offsets are the stream's own, counted from its first byte; the cursor's path and the record's are the channel,
its file_id the stream's ULID. It reads the clock it is given and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..intake import Append, Cursor
from ..relay.link import InheritedStream
from ..trail.manifest import SourceProgress
from ..trail.records import Certainty, GapCause, gap_body
from ..vitals.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .base import TimeOfDay
    from .tally import Tally


CHANNELS: Final = frozenset({"stdin", "stdout", "stderr"})
PARENT_ENDED: Final = "the agent's parent process ended without the stream's end; what it held is lost"


class Loss(NamedTuple):
    """Say what a gap record states: bytes of a stream that are not in the trail.

    Attributes:
        cause: What kept them out.
        certainty: How sure it is that there were bytes.
        start: The first byte's stream offset.
        end: The stream offset after the last byte; None where it is not known.
        detail: One sentence for a person.
        file_id: The ULID of another stream than the one whose append this is.
    """

    cause: GapCause
    certainty: Certainty
    start: int
    end: int | None
    detail: str
    file_id: str | None = None


@dataclass(slots=True)
class GivenUp:
    """Add up what a full spool costs until there is room to state it.

    Attributes:
        start: Stream offset behind the last append.
        end: Stream offset up to which everything is accounted for since.
        lines: Lines that ended.
        passed_lines: Those of them that are observability, and were passed on.
        audit_lines: Those that are audit, and are lost.
        audit_bytes: The lost lines' bytes with their newlines.
        unread_bytes: Bytes the parent threw away unread.
        first: Stream offset of the first thing that is lost; None while nothing is.
        last: Stream offset behind the last one.
    """

    start: int
    end: int = field(init=False)
    lines: int = 0
    passed_lines: int = 0
    audit_lines: int = 0
    audit_bytes: int = 0
    unread_bytes: int = 0
    first: int | None = None
    last: int = 0

    def __post_init__(self) -> None:
        """Begin where the last append ended."""
        self.end = self.start

    def add(self, tally: Tally, start: int, end: int, passed_bytes: int) -> None:
        """Give up the audit lines between two offsets, of whose bytes so many were passed on."""
        self.end = end
        self.lines += tally.lines
        self.passed_lines += tally.passed_lines
        if tally.records:
            self.audit_lines += tally.records
            self.audit_bytes += max(0, end - start - passed_bytes)
            self._cover(start, end)

    def add_unread(self, start: int, end: int) -> None:
        """Note that everything between two offsets was thrown away unread."""
        self.end = end
        self.unread_bytes += end - start
        self._cover(start, end)

    def _cover(self, start: int, end: int) -> None:
        self.first = start if self.first is None else self.first
        self.last = end

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        audit = f"{self.audit_lines} audit lines of {self.audit_bytes} bytes between these offsets were given up while the spool was full"
        unread = f"the relay threw away {self.unread_bytes} bytes while the agent took none"
        return f"{audit}; {unread}" if self.audit_lines and self.unread_bytes else audit if self.audit_lines else unread


class StreamAppends:
    """Write down what happened to one stream.

    Attributes:
        file_id: The stream's ULID, once the parent has told it.
    """

    def __init__(self, stream: InheritedStream, clock: TimeOfDay) -> None:
        """Bind a stream.

        Args:
            stream: Whose appends these are.
            clock: Tells when a loss was found.
        """
        self.file_id = ""
        self._stream = stream
        self._clock = clock

    def of_tally(self, tally: Tally, start: int, end: int) -> Append:
        """Return the append for the lines between two stream offsets.

        Args:
            tally: What they gave.
            start: Offset of the first line.
            end: Offset behind the last one.
        """
        progress = self.progress(
            start,
            end,
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
            cursors=(self.cursor(end),),
            observed_at=tally.observed_at,
            occurred_min=rfc3339(min(tally.times)) if tally.times else None,
            occurred_max=rfc3339(max(tally.times)) if tally.times else None,
            reasons=tally.reasons,
            outcomes=tally.outcomes,
        )

    def of_given_up(self, lost: GivenUp) -> Append:
        """Return the append that states what a full spool has cost; without a gap record where only observability went by."""
        loss: Loss | None = None
        if lost.first is not None:
            loss = Loss(GapCause.SPOOL_FULL, Certainty.KNOWN, lost.first, lost.last, lost.detail)
        progress = self.progress(lost.start, lost.end, lines=lost.lines, observability=lost.passed_lines)
        bytes_lost = lost.audit_bytes + lost.unread_bytes
        return self.plain(loss=loss, bytes_lost=bytes_lost, progress=(progress,), cursors=(self.cursor(lost.end),))

    def plain(
        self,
        *,
        loss: Loss | None = None,
        bytes_lost: int = 0,
        progress: tuple[SourceProgress, ...] = (),
        cursors: tuple[Cursor, ...] = (),
    ) -> Append:
        """Return an append without lines.

        Args:
            loss: What a gap record of it states.
            bytes_lost: Bytes it states as lost for certain.
            progress: What moved.
            cursors: The cursors after it.
        """
        # One look at the clock: a seal states the append's time as that of its records, and a verifier compares them.
        now = rfc3339(self._clock.now())
        return Append(
            bodies=b"" if loss is None else self._gap(loss, now) + b"\n",
            records=0 if loss is None else 1,
            gaps=0 if loss is None else 1,
            bytes_lost=bytes_lost,
            progress=progress,
            cursors=cursors,
            observed_at=now,
            small=True,
        )

    def of_earlier(self, cursor: Cursor) -> Append:
        """Return the append that finishes the unfinished cursor of an earlier stream and states what may have gone with its parent."""
        loss = Loss(GapCause.WORKER_CRASHED, Certainty.POSSIBLE, cursor.offset, None, PARENT_ENDED, file_id=cursor.file_id)
        return self.plain(loss=loss, cursors=(msgspec.structs.replace(cursor, finished=True),))

    def cursor(self, offset: int, *, finished: bool = False) -> Cursor:
        """Return the cursor at a stream offset."""
        stream = self._stream
        return Cursor(source=stream.source, file_id=self.file_id, path=stream.channel, offset=offset, size_seen=offset, finished=finished)

    def progress(
        self, start: int, end: int, *, lines: int = 0, audit: int = 0, observability: int = 0, quarantined: int = 0
    ) -> SourceProgress:
        """Return the progress from one stream offset to another."""
        stream = self._stream
        return SourceProgress(
            id=stream.source,
            kind="pipe" if stream.channel == "stdin" else "command",
            path=stream.channel,
            file_id=self.file_id,
            from_offset=start,
            to_offset=end,
            lines=lines,
            audit=audit,
            observability=observability,
            quarantined=quarantined,
        )

    def _gap(self, loss: Loss, now: str) -> bytes:
        """Return the body of a gap record."""
        stream = self._stream
        file_id = loss.file_id or self.file_id
        return gap_body(stream.source, now, loss.cause, loss.certainty, loss.start, loss.end, loss.detail, file_id, stream.channel)


def is_of_stream(cursor: Cursor) -> bool:
    """Say whether a cursor was left by a stream; those of files know an inode, those of other kinds a token."""
    return cursor.path in CHANNELS and not cursor.inode and not cursor.token


def left_behind(cursors: Iterable[Cursor], inherited: Collection[InheritedStream], clock: TimeOfDay) -> list[Append]:
    """Return an append for each stream that ended with its parent and has no successor here: what it held may be lost.

    A stream whose source and channel this process has inherited is not among them: its source looks after it.

    Args:
        cursors: Those of all sources, also of such as are not configured any more.
        inherited: What the parent handed over.
        clock: Tells when the losses were found.
    """
    cared_for = {(stream.source, stream.channel) for stream in inherited}
    lost = (c for c in cursors if is_of_stream(c) and not c.finished and (c.source, c.path) not in cared_for)
    return [StreamAppends(InheritedStream(c.source, c.path, -1), clock).of_earlier(c) for c in lost]
