"""Turn one file into appends, a block at a time.

A `step` is everything one block costs on the reading thread: check that the file is still the one that was read, read,
cut into lines, separate, and build the append with the cursor behind it.

Invariants:
    - The cursor stands at the start of a line; an incomplete line is read again until it is complete, and counts as it is
      only in a `final` step. An over-long line keeps the cursor at its start until its end was seen.
    - Where several lines are one unit, the same holds of units. The last one is read again until another begins, or `ending` says
      that it is complete.
    - Every read begins a little before the position and compares those bytes with what was read there before, and once more
      behind the read, so that a truncation is seen even if the file has grown beyond the old position since.
    - After `Step.changed` nothing was read and nothing moved.
    - Where lines lie in envelopes, the cursor stands at the first piece of a line whose end was not seen. What a file ends with
      then is left to its successor (`Legacy`), and becomes durable with the successor's append, cursors of both.

A reader is used by one thread at a time. It must not decide what a changed file means; `tail` does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...trail.records import Certainty, GapCause
from ..envelope import Ending
from ..joined import make_cutter, rest_bytes
from .appends import FileTally, Loss, join, time_text
from .context import MovedError
from .discover import Found, look
from .handle import open_handle
from .identity import HEAD_BYTES, WINDOW_BYTES, Judgement, Sameness, anchor_at, digest, judge, with_anchor
from .unwrapping import Part, Settled, Unwrapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...intake import Append, Cursor
    from ..lines import LineCutter
    from .context import Context
    from .handle import Handle
    from .identity import Key

_SHRUNK = "the file was cut to {0} bytes; the bytes behind had not been read"
_HOLE = "the file was truncated under a writer whose position was at {0} bytes: what it wrote before was not read"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step gave.

    Attributes:
        append: What to submit; None if no line was completed.
        observability: Bytes to pass on, in order, once the append is accepted.
        at_end: There was nothing more to read.
        size: The file's size when it was read, in bytes.
        changed: The file is not what it was: a verdict on what it is now; nothing was read.
        waiting: Lines wait for the end of an unfinished one, or for more of their unit.
        unit: It is for more of their unit only that they wait.
    """

    append: Append | None = None
    observability: tuple[bytes, ...] = ()
    at_end: bool = False
    size: int = 0
    changed: Judgement | None = None
    waiting: bool = False
    unit: bool = False


class Reader:
    """Read one file from a cursor on."""

    def __init__(self, context: Context, cursor: Cursor, path: str, *, key: Key | None = None, hole_from: int | None = None) -> None:
        """Make a reader; the file is opened by the first step.

        Args:
            context: What it shares with the others.
            cursor: Where to begin and how to recognise the file.
            path: Where the file lies now.
            key: Its device and inode, where they are not the cursor's (a copy of a truncated file).
            hole_from: For a file that begins anew after a truncation: how many bytes of its predecessor are accounted
                for. NUL bytes at its beginning are then the hole before a writer's old position and are skipped; where
                the hole reaches beyond the accounted bytes, a gap record says so.
        """
        self.path = path
        self.key = key or (cursor.device, cursor.inode)
        self.hole_from = hole_from
        self.cut_from: int | None = None  # where a last line without newline begins, once the file was read to its end
        self._context = context
        self._cursor = cursor
        self._handle: Handle | None = None
        self._joining = context.joining if context.wrapped.envelope is None else None
        self._least = rest_bytes(self._joining, context.settings.line_limit) + 1
        self._block_bytes = self._largest = max(context.settings.block_bytes, self._least)
        self.ending = Ending.WAIT  # what becomes, at the file's end, of a unit that may go on, and of a line without its last piece
        self._waited_at: int | None = None  # up to where the file had been read when a unit was left to wait
        self._head = b""
        self._window = b""
        self._beginning = b""
        self._cutter = self._new_cutter(self._cursor.offset)
        envelope = context.wrapped.envelope
        self.unwrapping = None if envelope is None else Unwrapping(envelope, cursor.path)

    @property
    def cursor(self) -> Cursor:
        """The position after the last step."""
        return self._cursor

    @property
    def fd(self) -> int | None:
        """The open descriptor, or None."""
        return None if self._handle is None else self._handle.fd

    @property
    def fixed(self) -> bool:
        """Whether the open file cannot grow (a compressed one)."""
        return self._handle is not None and self._handle.fixed

    def close(self) -> None:
        """Give the descriptor back; the next step opens the file again and checks that it is the same."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
            # Opening reads them again, and a closed file shall cost next to nothing: there may be thousands.
            self._head = self._window = b""

    def amend(self, **changes: str | bool) -> bool:
        """Let the cursor say something else of the file from now on, such as ``rotated``; return whether that is news."""
        before, self._cursor = self._cursor, replace(self._cursor, **changes)
        return self._cursor != before

    def look(self) -> Found:
        """Return the open file as stat(2) shows it, with no path if it was deleted; a closed one as it was last seen."""
        if self._handle is not None:
            status = os.fstat(self._handle.fd)
            return Found(self.path if status.st_nlink else "", self.key, status.st_size, status.st_mtime_ns)
        return look(self.path) or Found(self.path, self.key, self._cursor.size_seen, 0)

    def has_more(self) -> bool:
        """Tell whether a step would find something to do: bytes, or a change.

        Raises:
            OSError: The file cannot be opened.
            MovedError: The path leads to another file.
        """
        if self._handle is None and self._open() is not None:
            return True
        handle = self._handle
        if handle is None or self._begins_anew(handle):
            return True
        return handle.size() != self._cutter.offset

    def begins(self, beginning: bytes) -> None:
        """Keep in mind how a file begins of which nothing was read yet."""
        if not self._cursor.offset and len(beginning) > len(self._beginning):
            self._beginning = beginning
            self._cursor = replace(self._cursor, head_bytes=len(beginning), head_sha256=digest(beginning))

    def adopt(self, part: Part) -> None:
        """Go on behind what a successor has made durable of this file."""
        self._cursor, self._head, self._window = part.after, part.head, part.window
        self._cutter = self._new_cutter(part.after.offset)
        if self.unwrapping is not None:
            self.unwrapping.finished()

    def step(self, *, final: bool = False) -> Step:
        """Read and separate one block.

        Args:
            final: Nothing will be added to the file: take a last line without newline as complete.

        Raises:
            OSError: The file cannot be opened or read.
            MovedError: The path leads to another file.
        """
        if self._handle is None:
            changed = self._open()
            if changed is not None:
                return Step(changed=changed)
        handle = self._handle
        assert handle is not None  # noqa: S101 -- opened above
        block_bytes = self._block_bytes
        before = len(self._window)
        position = self._cutter.offset
        size = handle.size()
        if self._begins_anew(handle):
            return self._changed(handle)
        data = handle.read(position - before, before + block_bytes)
        if (size is not None and size < position) or not self._is_intact(handle, data, position - before):
            return self._changed(handle)
        if size is None:
            size = position - before + len(data)
        chunk = data[before:]
        at_end = len(chunk) < block_bytes and position + len(chunk) >= size
        cursor = self._cursor
        tally = FileTally(cursor, time_text(self._context.clock.now()), self._context.wrapped.kind)
        if size < cursor.size_seen:
            start = max(size, cursor.offset)
            tally.add_loss(Loss(GapCause.TRUNCATED, Certainty.KNOWN, start, cursor.size_seen, _SHRUNK.format(size)))
        skipped = 0 if self.hole_from is None else self._skip_hole(chunk, tally)
        ending = self._ending_at(position + len(chunk)) if at_end else Ending.WAIT
        pieces, consumed = self._cutter.feed(chunk[skipped:] if skipped else chunk, final=final and at_end, ending=ending)
        raw = Settled(pieces, self._cutter.boundary, position + skipped + consumed)
        complete = at_end and consumed + skipped == len(chunk) and not self._cutter.inside_long_line
        self.cut_from = _cut_from(cursor.offset, data, position - before) if final and complete else None
        settled = self._unwrap(raw, position + skipped, ending, at_end=at_end)
        if settled is None:
            return Step(size=size)
        size_seen = max(size, 0 if tally.gaps else cursor.size_seen)
        moved = partial(self._moved, data=data, data_offset=position - before, size_seen=size_seen)
        inherited: tuple[Part, ...] = ()
        if self.unwrapping is not None:
            inherited = self.unwrapping.inherit() if settled.pieces or settled.boundary > cursor.offset else ()
            self.unwrapping.leave(settled.rest, partial(moved, raw.goes_on), complete=complete)
        if settled.boundary > cursor.offset or size > cursor.size_seen or tally.gaps or inherited:
            _, self._cursor, self._head, *_ = moved(settled.boundary, token=settled.token)
        waiting = settled.waiting or (at_end and self._cutter.waiting)
        is_unit = waiting and (settled.rest is None or not settled.rest.begun)
        self._waited_at = position + len(chunk) if is_unit else None
        end = settled.goes_on - position + before
        self._window = data[max(0, end - WINDOW_BYTES) : end]
        # The pieces have their own copies; the separator's work shall not add to two more of the block.
        del data, chunk, moved
        return Step(self._bring(settled, tally, inherited), tuple(tally.passed), at_end, size, waiting=waiting, unit=is_unit)

    def _bring(self, settled: Settled, tally: FileTally, inherited: Sequence[Part]) -> Append | None:
        """Return the append that records what is settled, with what earlier files left; None if nothing has moved."""
        appends = []
        for part in inherited:
            earlier = FileTally(part.reader.cursor, tally.observed_at, self._context.wrapped.kind)
            earlier.add(part.waiting, self._context.separator)
            tally.passed += earlier.passed
            appends.append(earlier.append(part.after.offset, (part.after,)))
            part.reader.adopt(part)
        tally.add(settled.pieces, self._context.separator)
        if not tally.moves(settled.boundary) and not appends:
            return None
        append = join([*appends, tally.append(settled.boundary, (self._cursor,))])
        self._choose_block(len(append.bodies))
        return append

    def _unwrap(self, raw: Settled, start: int, ending: Ending, *, at_end: bool) -> Settled | None:
        """Return what is settled of raw lines; None if that cannot be said without reading more at once."""
        if self.unwrapping is None:
            return raw
        largest = self._block_bytes >= self._largest
        settled = self.unwrapping.settle(raw, start, self._cursor.token, ending, at_end=at_end, largest=largest)
        if settled is None:
            self._block_bytes = self._largest
        if settled is None or settled.goes_on < raw.goes_on:
            self._cutter = self._new_cutter(start if settled is None else settled.goes_on)
        return settled

    def _choose_block(self, bodies_bytes: int) -> None:
        """Read less at a time where most of it is audit: the work and the memory for a byte of it are many times larger."""
        dense = 2 * bodies_bytes > self._block_bytes
        self._block_bytes = max(self._context.settings.block_bytes // 2, self._least) if dense else self._largest

    def _ending_at(self, end: int) -> Ending:
        """Return what becomes of what the file ends with: of units, only one that is what it was has waited."""
        return Ending.WAIT if self.ending is Ending.CUT and self._waited_at not in {None, end} else self.ending

    def _moved(self, boundary: int, *, data: bytes, data_offset: int, size_seen: int, token: str = "") -> Part:
        """Return how the file is remembered with the cursor on a line's start that lies within the data just read."""
        cursor = self._cursor
        head = self._head
        end = boundary - data_offset
        window = data[max(0, end - WINDOW_BYTES) : end]
        if boundary == cursor.offset:
            return Part(self, replace(cursor, size_seen=size_seen, token=token), head, window)
        if len(head) < HEAD_BYTES:
            if data_offset <= len(head):
                head += data[len(head) - data_offset : min(HEAD_BYTES, boundary) - data_offset]
            elif self._handle is not None:
                head = self._handle.read(0, min(HEAD_BYTES, boundary))
        head_sha256 = cursor.head_sha256 if len(head) == cursor.head_bytes else digest(head)
        moved = replace(
            cursor,
            offset=boundary,
            size_seen=size_seen,
            head_bytes=len(head),
            head_sha256=head_sha256,
            anchors=with_anchor(cursor.anchors, anchor_at(boundary, window)),
            token=token,
        )
        return Part(self, moved, head, window)

    def _new_cutter(self, offset: int) -> LineCutter:
        of, settings = self._context, self._context.settings
        return make_cutter(self._joining, of.is_audit, offset=offset, line_limit=settings.line_limit, head_bytes=settings.head_bytes)

    def _open(self) -> Judgement | None:
        handle = open_handle(self.path)
        try:
            if handle.key != self.key:
                raise MovedError(self.path)
            size = handle.size()
            cursor = self._cursor
            verdict = judge(cursor, handle.key, 2**62 if size is None else size, handle.read)
            if verdict.sameness is Sameness.SAME:
                beginning = handle.read(0, cursor.head_bytes)
                self._head = beginning if cursor.offset else b""
                self._beginning = beginning
                length = min(WINDOW_BYTES, cursor.offset)
                self._window = handle.read(cursor.offset - length, length)
                self._cutter = self._new_cutter(self._cursor.offset)
        except BaseException:
            handle.close()
            raise
        if verdict.sameness is not Sameness.SAME:
            # Kept open it would be read on at the next step, with nothing left to compare.
            handle.close()
            return verdict
        self._handle = handle
        return None

    def _begins_anew(self, handle: Handle) -> bool:
        """Tell whether a file of which nothing was read yet begins otherwise than it did; keep in mind how it begins."""
        if self._cursor.offset:
            return False
        beginning = handle.read(0, HEAD_BYTES)
        if not beginning.startswith(self._beginning):
            return True
        self.begins(beginning)
        return False

    def _is_intact(self, handle: Handle, data: bytes, start: int) -> bool:
        """Tell whether a block was read from one content: a truncation while the read goes on leaves parts of two in it."""
        window = self._window
        if window:
            return data[: len(window)] == window and handle.read(start, len(window)) == window and not self._begins_anew(handle)
        if not data.startswith(self._beginning):
            return False
        self.begins(data[:HEAD_BYTES])
        return not self._begins_anew(handle)

    def _changed(self, handle: Handle) -> Step:
        """Say what a file is that is not what it was; inside an over-long line, go back to its start."""
        size = handle.size() or 0
        verdict = judge(self._cursor, handle.key, size, handle.read)
        if verdict.sameness is not Sameness.SAME or self._cursor.offset == self._cutter.offset:
            return Step(changed=verdict if verdict.sameness is Sameness.ROLLED_BACK else Judgement(Sameness.OTHER, 0))
        length = min(WINDOW_BYTES, self._cursor.offset)
        self._window = handle.read(self._cursor.offset - length, length)
        self._cutter = self._new_cutter(self._cursor.offset)
        return Step(size=size)

    def _skip_hole(self, chunk: bytes, tally: FileTally) -> int:
        """Return how many NUL bytes at the chunk's beginning are (part of) a hole, and state the loss that its end reveals."""
        rest = chunk.lstrip(b"\0")
        length = len(chunk) - len(rest)
        end = self._cutter.offset + length
        if rest:
            accounted = self.hole_from or 0
            self.hole_from = None
            if end > accounted and end > 0:
                tally.add_loss(Loss(GapCause.HOLE, Certainty.KNOWN, accounted, end, _HOLE.format(end)))
        if length:
            self._cutter = self._new_cutter(end)
        return length


def _cut_from(offset: int, data: bytes, start: int) -> int | None:
    """Return where the last line of a file begins if it has no newline; None if it has."""
    return None if data.endswith(b"\n") or not data else max(offset, start + data.rfind(b"\n") + 1)
