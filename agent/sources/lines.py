"""Cut chunks of a source into blocks of whole lines, and deal with lines that are too long to be one.

A line over the limit is never held in memory and never split silently:

- Its first `line_limit` bytes carry the audit tag: nothing of it is passed on; at its end one `Overlong` states its
  length, SHA-256 and first bytes, for a quarantine record.
- They do not: it is observability and goes through byte for byte as `Passed` pieces. The tag is still looked for in the
  rest, across the seams of the pieces (a tag spread over more than 4096 bytes of white space is not found there). Found
  late, the line is *also* stated as `Overlong`, with `late` set.

Invariants: the pieces of a source joined up are its bytes, each once and in order, where an `Overlong` that is not late
stands for the bytes it swallowed; what `feed` did not consume is one incomplete line within the limit. The cost is a few
searches for each chunk and none for each line. Pure: no files, clock or network; it knows nothing of where chunks come from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from .envelope import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..separator import Places

LINE_LIMIT: Final = 256 * 1024
HEAD_BYTES: Final = 2048
SEAM_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Whole:
    """Lines within the limit.

    Attributes:
        offset: Absolute position of the first byte.
        data: Lines with their newlines; only the very last line of a closed source may lack it.
        places: Where the lines lie in the source, where `data` is not what the source holds there.
    """

    offset: int
    data: bytes
    places: Places | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """A piece of an over-long observability line.

    Attributes:
        offset: Absolute position of the first byte.
        data: The piece; the last one of a line ends with its newline, if it has one.
        last: It ends its line. Only a last piece may be empty (a source that was closed inside the line).
    """

    offset: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Overlong:
    """An over-long line that has come to its end and must be recorded.

    Attributes:
        offset: Absolute position of the line's first byte.
        length: Its length in bytes without the newline.
        sha256: Hex SHA-256 of those bytes.
        head: The first of them.
        late: The tag was found behind the limit, so the line was passed through as well.
        extent: How many bytes of the source it takes; None if that is its length.
        member: What its record gets after the source.
    """

    offset: int
    length: int
    sha256: str
    head: bytes
    late: bool
    extent: int | None = None
    member: bytes = b""


Piece: TypeAlias = Whole | Passed | Overlong


class LongLine:
    """The line over the limit that is being read."""

    __slots__ = ("audit", "digest", "head", "late", "length", "offset", "seam")

    def __init__(self, offset: int, head: bytes, *, audit: bool) -> None:
        """Begin with its beginning, and whether that is audit."""
        self.offset = offset
        self.head = head
        self.audit = audit
        self.late = False
        self.length = 0
        self.digest = hashlib.sha256()
        self.seam = b""


class LineCutter:
    """Cut the successive chunks of one source. One instance serves one source.

    Attributes:
        waiting: Whole lines were held back, because what follows may go on with them. Never so where a line is a unit.
    """

    def __init__(
        self, is_audit: Callable[[bytes], bool], *, offset: int = 0, line_limit: int = LINE_LIMIT, head_bytes: int = HEAD_BYTES
    ) -> None:
        """Begin at the start of a line.

        Args:
            is_audit: The rule's decision about one line, which must also bear the beginning of one
                (`agent.events.classify.Rule.is_audit`: a text it cannot decode is audit if the tag stands in it).
            offset: Absolute position of the first byte that will be fed.
            line_limit: The longest line, in bytes without its newline, that goes out as a whole.
            head_bytes: How many first bytes of an over-long audit line are kept.
        """
        self._is_audit = is_audit
        self._limit = line_limit
        self._head_bytes = head_bytes
        self._offset = offset
        self._long: LongLine | None = None
        self.waiting = False

    @property
    def offset(self) -> int:
        """Absolute position up to which bytes were consumed."""
        return self._offset

    @property
    def boundary(self) -> int:
        """Absolute position of the start of the line that is not complete yet: where a cursor may stand."""
        return self._offset if self._long is None else self._long.offset

    @property
    def inside_long_line(self) -> bool:
        """Whether the bytes consumed so far end inside an over-long line."""
        return self._long is not None

    def feed(self, chunk: bytes, *, final: bool = False, ending: Ending = Ending.WAIT) -> tuple[list[Piece], int]:
        """Cut the next bytes.

        Args:
            chunk: The bytes at `offset`: what the previous call left unconsumed comes first, again.
            final: The source ends behind this chunk, so that a last line without newline is complete.
            ending: What becomes of a unit whose end is not there. A line's end is its newline, so it does not matter here.

        Returns:
            The pieces in order, and how many bytes of the chunk were consumed. The rest (never more than the line
            limit, empty if `final`) must be fed again with what follows it.
        """
        del ending
        pieces: list[Piece] = []
        size = len(chunk)
        position = start = 0
        if self._long is not None:
            position = start = self._go_on(chunk, 0, pieces, final=final)
        while size - position > self._limit:
            newline = chunk.rfind(b"\n", position, position + self._limit + 1)
            if newline >= 0:
                position = newline + 1
                continue
            if position > start:
                pieces.append(Whole(self._offset + start, chunk[start:position]))
            self._begin(chunk, position)
            position = start = self._go_on(chunk, position, pieces, final=final)
        end = size if final else chunk.rfind(b"\n", position) + 1 or position
        if end > start:
            pieces.append(Whole(self._offset + start, chunk[start:end]))
        self._offset += end
        return pieces, end

    def _begin(self, chunk: bytes, position: int) -> None:
        audit = self._is_audit(chunk[position : position + self._limit])
        self._long = LongLine(self._offset + position, chunk[position : position + self._head_bytes], audit=audit)

    def _go_on(self, chunk: bytes, position: int, pieces: list[Piece], *, final: bool) -> int:
        """Take what the chunk has of the long line and return the position behind it."""
        line = self._long
        if line is None:
            return position
        newline = chunk.find(b"\n", position)
        piece = chunk[position : newline + 1] if newline >= 0 else chunk[position:]
        content = piece[:-1] if newline >= 0 else piece
        ended = newline >= 0 or final
        line.length += len(content)
        line.digest.update(content)
        if not line.audit:
            if content and not line.late:
                window = line.seam + content
                # The newline keeps a rule that looks at a line's beginning from taking the seam for one.
                line.late = self._is_audit(b"\n" + window)
                line.seam = window[-SEAM_BYTES:]
            if piece or ended:
                pieces.append(Passed(self._offset + position, piece, ended))
        if ended:
            if line.audit or line.late:
                pieces.append(Overlong(line.offset, line.length, line.digest.hexdigest(), line.head, line.late))
            self._long = None
        return position + len(piece)
