"""Say where lines that were taken out of envelopes lie in the file.

Invariants: nothing is computed before it is asked for, so a block without audit lines costs nothing here. Pure.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...events.classify import Span
    from .formats import Bulk


class Line(NamedTuple):
    """Be one line that was taken out by itself.

    Attributes:
        content: Its bytes without a newline.
        offset: Where its envelope begins in the file, in bytes.
        extent: How many bytes the envelope takes, without its newline.
        member: What its record gets after the source.
    """

    content: bytes
    offset: int
    extent: int
    member: bytes


class BulkPlaces:
    """Place the lines of a block that was made of full raw lines, one of each."""

    def __init__(self, raw: bytes, offset: int, bulk: Bulk, members: Mapping[str | None, bytes]) -> None:
        """Keep what the answer needs.

        Args:
            raw: The raw lines.
            offset: Where they begin in the file.
            bulk: What was made of them.
            members: What a record gets after the source, by stream.
        """
        self._raw = raw
        self._offset = offset
        self._bulk = bulk
        self._members = members

    def of(self, spans: Sequence[Span]) -> tuple[list[Span], list[bytes]]:
        """Return where the raw lines lie, and the member of each record."""
        if not spans:
            return [], []
        starts = list(accumulate([len(line) + 1 for line in self._raw.split(b"\n")], initial=0))
        data, stream_of = self._bulk
        at: list[Span] = []
        members: list[bytes] = []
        number = done = 0
        for start, _ in spans:
            number += data.count(b"\n", done, start)
            done = start
            begin = starts[number]
            at.append((self._offset + begin, starts[number + 1] - 1 - begin))
            members.append(self._members[stream_of(number, begin)])
        return at, members


class ListPlaces:
    """Place the lines of a block that was put together line by line."""

    def __init__(self, lines: Sequence[Line]) -> None:
        """Keep the lines, in the order of the block."""
        self._lines = lines

    def of(self, spans: Sequence[Span]) -> tuple[list[Span], list[bytes]]:
        """Return where the lines were, and the member of each record."""
        found: list[Line] = []
        number = end = 0
        for start, _ in spans:
            while (end_of_line := end + len(self._lines[number].content) + 1) <= start:
                end = end_of_line
                number += 1
            found.append(self._lines[number])
        return [(line.offset, line.extent) for line in found], [line.member for line in found]
