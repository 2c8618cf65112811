"""Take a container's lines out of the runtime's envelopes, and join the pieces of long ones.

Pieces (CRI ``P``, or a json-file log without a newline) are joined for each stream by itself. While a line is unfinished,
everything behind its first piece waits with it, so that one position says what is done. Where the wait has to end, the line is *cut*:
what is there of it is given out as a part, the token remembers its stream, and each further stretch up to its end is one more part.

A part that is audit, as its line was so far or by a tag of its own, is quarantined as `too_long` with its length and SHA-256, and
with all its bytes as the head unless they are more than a line may have; another part is passed on as a line.

Invariants:
    - Each byte of the service comes out once; the lines of one stream keep their order.
    - A line without an envelope is taken as it stands; it neither ends nor continues another one.
    - What comes out lies in rising positions that do not overlap: a joined line lies where the last unbroken run of its pieces does.

Pure: no files, clock or network.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from ..envelope import Begun, Ending, Rest, Taken
from ..lines import Overlong, Passed, Whole
from .formats import full_until, unwrap_full, unwrap_line
from .places import BulkPlaces, Line, ListPlaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..lines import Piece
    from .formats import Unwrapped

_AUDIT: Final = "+"
_OTHER: Final = "-"


class ContainerEnvelope:
    """Take out the lines of one container's file; an `Envelope`."""

    def __init__(
        self,
        container: Mapping[str, str | int],
        is_audit: Callable[[bytes], bool],
        line_limit: int,
        head_bytes: int,
        *,
        in_bulk: bool = True,
    ) -> None:
        """Describe the container.

        Args:
            container: What its records say of it.
            is_audit: The rule's decision about one line, which must also bear the beginning of one.
            line_limit: The longest line, in bytes, that goes out as a line.
            head_bytes: How many first bytes of a longer one are kept.
            in_bulk: No raw line that holds a longer one is ever given, so lines need not be looked at one by one.
        """
        self.is_audit = is_audit
        self.line_limit = line_limit
        self.head_bytes = head_bytes
        self.in_bulk = in_bulk
        self.members: dict[str | None, bytes] = {stream: _member({**container, "stream": stream}) for stream in ("stdout", "stderr")}
        self.members[None] = _member(container) if container else b""

    def take(self, pieces: Sequence[Piece], start: int, token: str, before: Rest | None, ending: Ending) -> Taken:
        """Take out what raw pieces hold; see `Envelope`."""
        work = _Work(self, start, token, before)
        for piece in pieces:
            if isinstance(piece, Whole):
                work.take_lines(piece.data, piece.offset)
            else:
                work.take_piece(piece)
        return work.finish(ending)


class _Work:
    """One call of `take`: what came out, in order, and up to where that is settled."""

    def __init__(self, envelope: ContainerEnvelope, start: int, token: str, before: Rest | None) -> None:
        self._envelope = envelope
        self._begun: dict[str, Begun] = dict(before.begun) if before is not None else {}
        self._cut = _read_token(token) | (_read_token(before.token) if before is not None else {})
        self._part: tuple[str, Begun] | None = None
        self._out: list[Piece | Line] = []
        self._end = start
        self._last: str | None = None
        self._odd = 0
        self._settled = (0, start, token, 0)
        self._settle()

    # -- raw lines ----------------------------------------------------------------------------------------------------

    def take_lines(self, raw: bytes, offset: int) -> None:
        """Take raw lines; only the last one of a file may lack its newline."""
        size = len(raw)
        position = 0
        if not self._begun and not self._cut and raw.endswith(b"\n") and self._take_full(raw, offset):
            return
        while position < size:
            if not self._begun and not self._cut:
                stretch = full_until(raw, position) if self._envelope.in_bulk else position
                if stretch > position and self._take_full(raw[position:stretch], offset + position):
                    position = stretch
                    continue
            newline = raw.find(b"\n", position)
            end = newline if newline >= 0 else size
            self._take_one(raw[position:end], offset + position)
            position = end + 1
            self._end = offset + min(position, size)
            self._settle()

    def _take_full(self, raw: bytes, offset: int) -> bool:
        """Take lines that all are full ones; do nothing and say so if they are not."""
        bulk = unwrap_full(raw) if self._envelope.in_bulk else None
        if bulk is None:
            return False
        self._out.append(Whole(offset, bulk.data, BulkPlaces(raw, offset, bulk, self._envelope.members)))
        self._last = None
        self._end = offset + len(raw)
        self._settle()
        return True

    def _take_one(self, raw: bytes, offset: int) -> None:
        line = unwrap_line(raw)
        stream = None if line is None else line.stream
        if self._part is not None and self._part[0] != stream:
            self._end_part()
        if line is None or stream is None:
            self._odd += 1
            self._out.append(Line(raw, offset, len(raw), self._envelope.members[None]))
        elif stream in self._cut:
            begun = self._part[1] if self._part is not None else Begun((), offset, 0)
            self._part = stream, self._longer(begun, line, offset, len(raw))
            if not line.partial:
                self._end_part()
                del self._cut[stream]
        elif line.partial:
            self._begun[stream] = self._longer(self._begun.get(stream, Begun((), offset, 0)), line, offset, len(raw))
        else:
            begun = self._longer(self._begun.pop(stream, Begun((), offset, 0)), line, offset, len(raw))
            self._put_line(stream, begun, len(self._out))
        self._last = stream

    def _longer(self, begun: Begun, line: Unwrapped, offset: int, size: int) -> Begun:
        start = begun.offset if begun.extent and self._last == line.stream else offset
        return Begun((*begun.content, line.content), start, offset + size - start, len(self._out))

    def take_piece(self, piece: Overlong | Passed) -> None:
        """Take (a piece of) a raw line that is longer than any envelope."""
        self._end_part()
        self._last = None
        if isinstance(piece, Overlong):
            self._odd += not piece.late
            self._out.append(replace(piece, member=self._envelope.members[None]))
            self._end = piece.offset + piece.length + 1
        else:
            self._odd += piece.last
            self._out.append(piece)
            self._end = piece.offset + len(piece.data)
        self._settle()

    # -- what comes out -----------------------------------------------------------------------------------------------

    def _put_line(self, stream: str, line: Begun, index: int) -> None:
        """Give out a line that is complete, by the rule for over-long ones if it is one."""
        envelope = self._envelope
        content = line.content[0] if len(line.content) == 1 else b"".join(line.content)
        if len(content) <= envelope.line_limit:
            self._out.insert(index, Line(content, line.offset, line.extent, envelope.members[stream]))
            return
        # Behind a newline a rule that looks at a line's beginning does not take this for one; a tag anywhere it finds.
        audit = envelope.is_audit(content[: envelope.line_limit]) or envelope.is_audit(b"\n" + content)
        self._put_long(stream, line, content, index, audit=audit, head_bytes=envelope.head_bytes)

    def _put_part(self, stream: str, line: Begun, index: int, *, first: bool) -> None:
        """Give out what there is of a line that is cut, and remember what it is."""
        content = b"".join(line.content)
        audit = self._cut.get(stream) == _AUDIT or self._envelope.is_audit(content if first else b"\n" + content)
        self._cut[stream] = _AUDIT if audit else _OTHER
        self._put_long(stream, line, content, index, audit=audit, head_bytes=self._envelope.line_limit)

    def _put_long(self, stream: str, line: Begun, content: bytes, index: int, *, audit: bool, head_bytes: int) -> None:
        if not audit:
            self._out.insert(index, Passed(line.offset, content + b"\n", last=True))
            return
        digest = hashlib.sha256(content).hexdigest()
        member = self._envelope.members[stream]
        stated = Overlong(line.offset, len(content), digest, content[:head_bytes], late=False, extent=line.extent, member=member)
        self._out.insert(index, stated)

    def _end_part(self) -> None:
        if self._part is not None:
            stream, line = self._part
            self._part = None
            self._put_part(stream, line, len(self._out), first=False)

    # -- what is settled ----------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Note that all of it up to here is complete, if that is so."""
        if not self._begun and self._part is None:
            self._settled = (len(self._out), self._end, _write_token(self._cut), self._odd)

    def finish(self, ending: Ending) -> Taken:
        """Return what came out."""
        self._end_part()
        if ending is not Ending.WAIT:
            # The latest goes first, so that the places of the others stay what they are.
            for stream, line in sorted(self._begun.items(), key=lambda item: item[1].place, reverse=True):
                if ending is Ending.CUT:
                    self._put_part(stream, line, line.place, first=True)
                else:
                    self._put_line(stream, line, line.place)
            self._begun = {}
            self._cut = self._cut if ending is Ending.CUT else {}
        self._settle()
        count, settled, token, odd = self._settled
        rest = None
        if self._begun or self._cut:
            # For the successor all their pieces lie in an earlier file.
            begun = {stream: Begun(line.content, self._end, 0) for stream, line in self._begun.items()}
            rest = Rest(begun, _pieces(self._out[count:]), _write_token(self._cut))
        return Taken(_pieces(self._out[:count]), settled, token, rest, odd)


def _pieces(out: Sequence[Piece | Line]) -> tuple[Piece, ...]:
    """Return what came out, single lines put together to blocks."""
    pieces: list[Piece] = []
    block: list[Line] = []
    for one in (*out, None):
        if isinstance(one, Line):
            block.append(one)
            continue
        if block:
            data = b"".join([line.content + b"\n" for line in block])
            pieces.append(Whole(block[0].offset, data, ListPlaces(tuple(block))))
            block = []
        if one is not None:
            pieces.append(one)
    return tuple(pieces)


def _write_token(cut: Mapping[str, str]) -> str:
    """Return the streams that are inside a line which was cut, each with what it is: ``+`` for audit, ``-`` for not."""
    return ",".join(f"{kind}{stream}" for stream, kind in sorted(cut.items()))


def _read_token(token: str) -> dict[str, str]:
    return {word[1:]: word[0] for word in token.split(",") if word}


def _member(container: Mapping[str, str | int]) -> bytes:
    """Return what a record says of its container, right after the source."""
    known = {
        key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value for key, value in container.items()
    }
    return b'"container":%b,' % msgspec.json.encode(known)
