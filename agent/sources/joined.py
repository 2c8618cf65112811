"""Cut chunks of a source into blocks of whole units, where several lines may be one unit.

It is to units what `lines` is to lines: a unit with too many bytes or lines is never held in memory and never split; at its end
one `Overlong` states it, or it passes through in pieces. Of a source's last unit nobody knows whether it goes on, so it waits: it
is not consumed until another begins, or until who feeds the cutter says that it is complete.

Invariants: the pieces of a source joined up are its bytes, each once and in order, where an `Overlong` that is not late stands for
the bytes it swallowed; a `Whole` begins and ends with a unit; in whichever chunks the bytes come, the units are the same; what
`feed` did not consume is one unit within the limits and one line within the limit. Pure: no files, clock or network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .envelope import Ending
from .lines import HEAD_BYTES, LINE_LIMIT, SEAM_BYTES, LineCutter, LongLine, Overlong, Passed, Whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..events.mappings.joining import Joining
    from .lines import Piece


def rest_bytes(joining: Joining | None, line_limit: int) -> int:
    """Return how many bytes a cutter may leave unconsumed at most; a source that reads more at a time gets on.

    Args:
        joining: What the cutter was made with.
        line_limit: Likewise.
    """
    return line_limit if joining is None else 2 * line_limit + 1


def make_cutter(
    joining: Joining | None,
    is_audit: Callable[[bytes], bool],
    *,
    offset: int = 0,
    line_limit: int = LINE_LIMIT,
    head_bytes: int = HEAD_BYTES,
) -> LineCutter:
    """Return a cutter of units, or of lines where a line is a unit; for the other arguments see :class:`LineCutter`."""
    if joining is None:
        return LineCutter(is_audit, offset=offset, line_limit=line_limit, head_bytes=head_bytes)
    return UnitCutter(joining, is_audit, offset=offset, line_limit=line_limit, head_bytes=head_bytes)


class UnitCutter(LineCutter):
    """Cut the successive chunks of one source into units."""

    def __init__(
        self,
        joining: Joining,
        is_audit: Callable[[bytes], bool],
        *,
        offset: int = 0,
        line_limit: int = LINE_LIMIT,
        head_bytes: int = HEAD_BYTES,
    ) -> None:
        """Begin at the start of a unit.

        Args:
            joining: Tells where units begin.
            is_audit: The rule's decision about the beginning of a unit over the limits, with blanks for newlines.
            offset: Absolute position of the first byte that will be fed.
            line_limit: The longest unit, in bytes without its last newline, that goes out as a whole.
            head_bytes: How many first bytes of an over-long audit unit are kept.
        """
        super().__init__(is_audit, offset=offset, line_limit=line_limit, head_bytes=head_bytes)
        self._joining = joining
        self._inside_line = False
        self._carry: bytes | None = b""
        self._held = b""

    def feed(self, chunk: bytes, *, final: bool = False, ending: Ending = Ending.WAIT) -> tuple[list[Piece], int]:
        """Cut the next bytes.

        Args:
            chunk: The bytes at `offset`: what the previous call left unconsumed comes first, again.
            final: The source ends behind this chunk, so that a last line without newline is complete, and the last unit.
            ending: Whether the last unit is complete. With ``CUT`` it is, unless a line was begun that goes on with it as it stands; with
                ``FINAL`` it is, whatever was begun.

        Returns:
            The pieces in order, and how many bytes of the chunk were consumed. The rest (empty if `final`, else never more than
            `rest_bytes`) must be fed again with what follows it.
        """
        pieces: list[Piece] = []
        size = len(chunk)
        self.waiting = False
        position = self._end_line(chunk, pieces) if self._inside_line else 0
        if self._inside_line and not final:
            self._offset += position
            return pieces, position
        complete = size if final else chunk.rfind(b"\n", position) + 1 or position
        # A line over the limit is known to be one before its end was seen.
        end = size if size - complete > self._limit else complete
        if self._long is not None:
            position = self._go_on_unit(chunk, position, end, pieces, inside=True)
        start = position
        while position < end:
            position, too_long = self._joining.walk(chunk, position, end, self._limit)
            if not too_long:
                break
            if position > start:
                pieces.append(Whole(self._offset + start, chunk[start:position]))
            self._begin_unit(chunk, position, end)
            position = start = self._go_on_unit(chunk, position, end, pieces, inside=False)
        else:
            # Everything was swallowed, or there is no line that is known.
            self._inside_line = end > complete
            self._settle_long(chunk, end, pieces, final=final, ending=ending)
            self._offset += end
            return pieces, end
        self._carry = self._carry_of(chunk, position, end)
        if self._is_over(chunk, end, final=final, ending=ending):
            position = end
        self.waiting = position < end
        if position > start:
            pieces.append(Whole(self._offset + start, chunk[start:position]))
        self._offset += position
        return pieces, position

    def _is_over(self, chunk: bytes, end: int, *, final: bool, ending: Ending) -> bool:
        """Tell whether the unit of the last line before `end` is complete."""
        if final or self._carry is None or ending is Ending.FINAL:
            return True
        if ending is Ending.WAIT:
            return False
        return end == len(chunk) or not self._joining.goes_on(self._carry, chunk, end, len(chunk), self._limit)

    def _carry_of(self, chunk: bytes, position: int, end: int) -> bytes | None:
        """Return what is to be known of the last line before `end`, which does not begin before `position`."""
        stop = end - chunk.endswith(b"\n", position, end)
        start = max(position, chunk.rfind(b"\n", position, stop) + 1)
        return self._joining.carry(chunk, start, stop, self._limit)

    # ---- units over the limits -----------------------------------------------------------------------------------------

    def _begin_unit(self, chunk: bytes, position: int, end: int) -> None:
        """Begin a unit over the limits: whether it is audit is told by as much of it as may be a whole one."""
        stop = position
        for _ in range(self._joining.max_lines):
            stop = chunk.find(b"\n", stop, end) + 1
            if not 0 < stop <= position + self._limit:
                stop = min(end, position + self._limit)
                break
        self._long = LongLine(self._offset + position, b"", audit=self._is_audit(chunk[position:stop].replace(b"\n", b" ")))
        self._held = b""

    def _end_line(self, chunk: bytes, pieces: list[Piece]) -> int:
        """Take what the chunk has of a line over the limit, and return the position behind it."""
        newline = chunk.find(b"\n")
        self._inside_line = newline < 0
        end = len(chunk) if newline < 0 else newline + 1
        self._swallow(chunk[:end], 0, pieces, ended=False)
        return end

    def _go_on_unit(self, chunk: bytes, position: int, end: int, pieces: list[Piece], *, inside: bool) -> int:
        """Take what the chunk has of the long unit from a line's beginning on, and return the position behind it."""
        following = self._joining.next_beginning(chunk, position, end, self._limit, self._carry, inside=inside)
        stop = end if following < 0 else following
        if stop > position:
            self._carry = self._carry_of(chunk, position, stop)
        self._swallow(chunk[position:stop], position, pieces, ended=following >= 0)
        if following >= 0:
            self._end_unit(pieces)
        return stop

    def _settle_long(self, chunk: bytes, end: int, pieces: list[Piece], *, final: bool, ending: Ending) -> None:
        """End the long unit if nothing goes on with it, or say that it waits."""
        if self._long is None or (self._inside_line and not final):
            return
        if not self._is_over(chunk, end, final=final, ending=ending):
            self.waiting = True
            return
        self._swallow(b"", end, pieces, ended=True)
        self._end_unit(pieces)

    def _swallow(self, piece: bytes, position: int, pieces: list[Piece], *, ended: bool) -> None:
        long = self._long
        if long is None:
            return
        # The newline at the end of a unit is not a part of it; which one that is, is not known before.
        content = self._held + piece
        self._held = content[-1:] if content.endswith(b"\n") else b""
        content = content.removesuffix(b"\n")
        long.length += len(content)
        long.digest.update(content)
        if len(long.head) < self._head_bytes:
            long.head += content[: self._head_bytes - len(long.head)]
        if long.audit:
            return
        if content and not long.late:
            window = long.seam + content
            # The newline keeps a rule that looks at a line's beginning from taking the seam for one.
            long.late = self._is_audit(b"\n" + window.replace(b"\n", b" "))
            long.seam = window[-SEAM_BYTES:]
        if piece or ended:
            pieces.append(Passed(self._offset + position, piece, ended))

    def _end_unit(self, pieces: list[Piece]) -> None:
        long, self._long = self._long, None
        self._inside_line = False
        if long is not None and (long.audit or long.late):
            pieces.append(Overlong(long.offset, long.length, long.digest.hexdigest(), long.head, long.late))
