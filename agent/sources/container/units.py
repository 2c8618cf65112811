"""Join the lines of one container's file to units, after they were taken out of their envelopes.

A unit is lines of one stream that follow each other in the file: a line of the other stream ends it, and so does one that is in no
envelope or too long. The last unit waits for more; like what stands behind an unfinished line it is not settled until it is complete, and
its file's successor makes it durable if the file ends with it.

Invariants: what comes out are the lines of the envelope within, each once and in order; the units of a `Whole` are those that
`Joining.units` finds in it. A unit lies where its first line begins, up to where its last one ends. One that does not fit into a block
of the reader is given out in parts.

Pure: no files, clock or network.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from ..envelope import Ending, Rest, Taken
from ..lines import Overlong, Passed, Whole
from .places import BulkPlaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ...events.classify import Span
    from ...events.mappings.joining import Joining
    from ...separator import Places
    from ..lines import Piece
    from .envelope import ContainerEnvelope


class _Section:
    """Be lines that follow each other, each with its newline."""

    def __init__(self, data: bytes, parts: Sequence[tuple[int, Places]]) -> None:
        """Keep lines.

        Args:
            data: Them.
            parts: What their places are made of: places, and how many bytes of the data they are for.
        """
        self.data = data
        self._parts = parts
        self._known: tuple[list[int], list[Span], list[bytes]] | None = None

    def of(self, spans: Sequence[Span]) -> tuple[list[Span], list[bytes]]:
        """Return where lines lie in the file and the members of their records; spans in the order of the data."""
        if self._known is not None:
            starts, located, members = self._known
            lines = [bisect_right(starts, start) - 1 for start, _ in spans]
            return [located[line] for line in lines], [members[line] for line in lines]
        located, members = [], []
        begin = taken = 0
        for size, places in self._parts:
            end = begin + size
            count = taken
            while count < len(spans) and spans[count][0] < end:
                count += 1
            if count > taken:
                at, whose = places.of([(start - begin, stop - begin) for start, stop in spans[taken:count]])
                located += at
                members += whose
            begin, taken = end, count
        return located, members

    def turns(self) -> list[int]:
        """Return the beginnings of the lines that are of another stream than the line before; all places are known then."""
        ends = [found.start() for found in re.finditer(rb"\n", self.data)]
        starts = [0, *(end + 1 for end in ends[:-1])]
        # A service that writes to both streams in turn makes a block of each line, and each asks for its place.
        self._known = (starts, *self.of(list(zip(starts, ends, strict=True))))
        members = self._known[2]
        return [starts[number] for number in range(1, len(starts)) if members[number] != members[number - 1]]

    def block(self, start: int, end: int) -> Whole:
        """Return the lines of some units as a block."""
        places = UnitPlaces(self, start)
        (place,), _ = self.of([(start, start)])
        return Whole(place[0], self.data[start:end], places)

    def between(self, start: int, end: int) -> _Section:
        """Return some of the lines."""
        return _Section(self.data[start:end], ((end - start, UnitPlaces(self, start)),))


class UnitPlaces:
    """Place units of a block by the lines they are made of."""

    def __init__(self, section: _Section, shift: int) -> None:
        """Keep what the answer needs.

        Args:
            section: The lines.
            shift: Where the block begins in them.
        """
        self._section = section
        self._shift = shift

    def of(self, spans: Sequence[Span]) -> tuple[list[Span], list[bytes]]:
        """Return where each unit begins in the file and how far it reaches, and the member of its record."""
        data = self._section.data
        ends: list[Span] = []
        for start, stop in ((start + self._shift, stop + self._shift) for start, stop in spans):
            ends += [(start, start), (max(start, data.rfind(b"\n", start, stop) + 1), stop)]
        at, members = self._section.of(ends)
        first, last = at[::2], at[1::2]
        places = [(begin, offset + extent - begin) for (begin, _), (offset, extent) in zip(first, last, strict=True)]
        return places, members[::2]


class UnitEnvelope:
    """Take units out of one container's file; an `Envelope`."""

    def __init__(self, lines: ContainerEnvelope, joining: Joining) -> None:
        """Put units on top of lines.

        Args:
            lines: Takes the lines out.
            joining: Tells where units begin.
        """
        self._lines = lines
        self._joining = joining

    def take(self, pieces: Sequence[Piece], start: int, token: str, before: Rest | None, ending: Ending) -> Taken:
        """Take out what raw pieces hold; see `Envelope`."""
        taken = self._lines.take(pieces, start, token, before, ending)
        rest = taken.rest or Rest({}, (), "")
        work = _Work(self._lines, self._joining, is_mixed=taken.odd > 0 or _has_both_streams(pieces))
        sections = _sections(taken.pieces)
        # While a line that was cut goes on, only the envelope within knows the state at a place.
        is_cut = token or taken.token or (before is not None and before.token)
        begin = work.open_unit(sections[-1]) if sections and ending is Ending.WAIT and not is_cut else None
        if begin is None:
            waiting = work.units(_sections(rest.waiting))
            return replace(taken, pieces=work.units(sections), rest=taken.rest and Rest(rest.begun, waiting, rest.token))
        is_plain = taken.rest is None and before is None and all(isinstance(places, BulkPlaces) for places in _places(taken.pieces))
        again = None if is_plain else partial(self._take_until, pieces, start, before)
        count, begin, settled = work.settle(sections, begin, again)
        done, left = sections[:count], sections[count:]
        if left and isinstance(left[0], _Section) and begin:
            done, left = [*done, left[0].between(0, begin)], [left[0].between(begin, len(left[0].data)), *left[1:]]
        waiting = work.units([*left, *_sections(rest.waiting)])
        return Taken(work.units(done), settled, "", Rest(rest.begun, waiting, rest.token), taken.odd)

    def _take_until(self, pieces: Sequence[Piece], start: int, before: Rest | None, end: int) -> Taken:
        """Take out what raw pieces hold up to a line."""
        some = [piece for piece in pieces if piece.offset < end]
        if some and isinstance(some[-1], Whole):
            some[-1] = Whole(some[-1].offset, some[-1].data[: end - some[-1].offset])
        return self._lines.take(some, start, "", before, Ending.WAIT)


class _Work:
    """Make units of lines, in one call of `take`."""

    def __init__(self, lines: ContainerEnvelope, joining: Joining, *, is_mixed: bool) -> None:
        self._lines = lines
        self._joining = joining
        self._is_mixed = is_mixed

    def open_unit(self, section: _Section | Piece) -> int | None:
        """Return where the last unit begins in a section if more may belong to it."""
        if not isinstance(section, _Section):
            return None
        data = section.data
        line = data.rfind(b"\n", 0, len(data) - 1) + 1
        if self._joining.carry(data, line, len(data) - 1, len(data)) is None:
            return None
        simple = self._simple(section)
        return self._begins(section)[0][-1] if simple is None else simple

    def settle(self, sections: Sequence[_Section | Piece], begin: int, again: Callable[[int], Taken] | None) -> tuple[int, int, int]:
        """Return how many sections are settled if the last unit waits, how many bytes of the next one, and up to where the file is.

        Where lines lie in pieces, a line's place is not where the first of them lies, and lines of the other stream lie between.

        Args:
            sections: Lines, and what is no line.
            begin: Where the last unit begins in the last section.
            again: Takes out what lies before an offset, to see what is settled there; None if all is.
        """
        index = len(sections) - 1
        while True:
            section = sections[index]
            assert isinstance(section, _Section)  # noqa: S101 -- only in such a one a unit begins
            (place,), _ = section.of([(begin, begin)])
            if again is None:
                return index, begin, place[0]
            taken = again(place[0])
            found = _sections(taken.pieces)
            if not found:
                return 0, 0, taken.settled
            index = len(found) - 1
            last, section = found[index], sections[index]
            if not isinstance(last, _Section) or not isinstance(section, _Section) or len(last.data) == len(section.data):
                return index + 1, 0, taken.settled
            begins = self._begins(section)[0]
            if len(last.data) in begins:
                return index, len(last.data), taken.settled
            begin = max(start for start in begins if start < len(last.data))

    def units(self, sections: Iterable[_Section | Piece]) -> tuple[Piece, ...]:
        """Return what comes out of lines: their units, in blocks, and what is no line as it is."""
        out: list[Piece] = []
        for section in sections:
            if isinstance(section, _Section):
                out += self._of_section(section)
            else:
                out.append(section)
        return tuple(out)

    def _simple(self, section: _Section) -> int | None:
        """Return where the last unit begins in lines of one stream without a unit over the limits; None if they are not such."""
        if self._is_mixed:
            return None
        last, too_long = self._joining.walk(section.data, 0, len(section.data), self._lines.line_limit)
        return None if too_long else last

    def _begins(self, section: _Section) -> tuple[list[int], set[int]]:
        """Return where units begin, and which of these are not where the lines by themselves would say so."""
        data = section.data
        begins = [start for start, _ in self._joining.units(data)]
        if not self._is_mixed:
            return begins, set()
        forced = set(section.turns()).difference(begins)
        return sorted(forced.union(begins)), forced

    def _of_section(self, section: _Section) -> list[Piece]:
        data = section.data
        if self._simple(section) is not None:
            return [section.block(0, len(data))]
        begins, forced = self._begins(section)
        out: list[Piece] = []
        start = 0
        for begin, end in pairwise([*begins, len(data)]):
            if begin in forced and begin > start:
                out.append(section.block(start, begin))
                start = begin
            if self._is_long(data, begin, end):
                if begin > start:
                    out.append(section.block(start, begin))
                out.append(self._long(section, begin, end))
                start = end
        if start < len(data):
            out.append(section.block(start, len(data)))
        return out

    def _is_long(self, data: bytes, begin: int, end: int) -> bool:
        size = end - 1 - begin
        most = self._joining.max_lines
        return size > self._lines.line_limit or (size >= most and data.count(b"\n", begin, end) > most)

    def _long(self, section: _Section, begin: int, end: int) -> Piece:
        """Return what stands for a unit over the limits."""
        lines = self._lines
        content = section.data[begin : end - 1]
        flat = content.replace(b"\n", b" ")
        block = section.block(begin, end)
        (at,), (member,) = UnitPlaces(section, begin).of([(0, end - 1 - begin)])
        # Behind a newline a rule that looks at a line's beginning does not take this for one; a tag anywhere it finds.
        if not lines.is_audit(flat[: lines.line_limit]) and not lines.is_audit(b"\n" + flat):
            return Passed(block.offset, content + b"\n", last=True)
        digest = sha256(content).hexdigest()
        return Overlong(at[0], len(content), digest, content[: lines.head_bytes], late=False, extent=at[1], member=member)


def _sections(pieces: Iterable[Piece]) -> list[_Section | Piece]:
    """Return pieces with the lines that follow each other put together."""
    sections: list[_Section | Piece] = []
    lines: list[Whole] = []
    for piece in (*pieces, None):
        if isinstance(piece, Whole):
            lines.append(piece)
            continue
        if lines:
            parts = tuple((len(whole.data), whole.places) for whole in lines if whole.places is not None)
            sections.append(_Section(b"".join(whole.data for whole in lines), parts))
            lines = []
        if piece is not None:
            sections.append(piece)
    return sections


def _places(pieces: Iterable[Piece]) -> Iterator[Places | None]:
    return (piece.places for piece in pieces if isinstance(piece, Whole))


def _has_both_streams(pieces: Sequence[Piece]) -> bool:
    """Tell whether lines of both streams may be among raw lines."""
    return all(any(stream in piece.data for piece in pieces if isinstance(piece, Whole)) for stream in (b"stdout", b"stderr"))
