"""Say which lines of a source are one unit: an event that is written over several lines.

There are three kinds. `start`: a unit begins with each line that matches. `continues`: a line that matches goes on with the unit
before. `same`: lines next to each other with the same group are one unit, which a line that matches `end` ends; a line without the
group is one by itself.

Invariants:
    - A line matches or not by itself: no expression sees another line, nor more of a long one than the limit. So it does not
      matter in which blocks lines are read.
    - What begins a unit is decided by a line and the one before it; hence `units` of a block that begins with a unit is what the
      whole source would give.
    - The cost is searches over blocks. A call per line is made only backwards from a block's end to the last beginning, within
      units that are nearly as long as they may be, and for `same`.

Pure. This module must not cut sources or know of patience: `agent.sources` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from .patterns import MAX_PATTERN_CHARS
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Span: TypeAlias = tuple[int, int]
Kind: TypeAlias = Literal["start", "continues", "same"]

MAX_LINES: Final = 500
MOST_LINES: Final = 10_000
PATIENCE_SECONDS: Final = 2.0
MOST_PATIENCE_SECONDS: Final = 300.0
_KINDS: Final[tuple[Kind, ...]] = ("start", "continues", "same")
_KEYS: Final = (*_KINDS, "end", "max_lines", "patience_seconds")
_MEMORY_BYTES: Final = 8 << 20
_NEWLINE: Final = 10
_NOT_OF_LINES: Final = re.compile(r"(?<!\\)(?:\\\\)*(?:\\[AzC]|\(\?[a-zA-Z]*-[a-zA-Z]*m)")
"""What means something else in a block of lines than in one line."""

_HINT: Final = "The syntax is RE2's, which has no back references and no look-around: https://github.com/google/re2/wiki/Syntax"


class Walked(NamedTuple):
    """Say how far whole units go.

    Attributes:
        last: Where the last unit begins, or the first one that is too long.
        too_long: It is over a limit.
    """

    last: int
    too_long: bool


@dataclass(frozen=True, slots=True)
class Joining:
    """Tell where units begin.

    Attributes:
        kind: What `pattern` says of a line.
        pattern: An RE2 expression; one with one group where the kind is ``same``.
        end: An RE2 expression; a line that matches ends its unit at once. Only where the kind is ``same``.
        max_lines: The most lines of a unit; one with more is too long.
        patience_seconds: How long a source's last unit waits for more.
    """

    kind: Kind
    pattern: str
    end: str | None = None
    max_lines: int = MAX_LINES
    patience_seconds: float = PATIENCE_SECONDS
    _lines: Any = field(init=False, repr=False, compare=False)
    _ends: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the expressions; those of `from_mapping` are known to be sound."""
        object.__setattr__(self, "_lines", _compile(self.pattern))
        object.__setattr__(self, "_ends", None if self.end is None else _compile(self.end))

    @classmethod
    def from_mapping(cls, data: object, where: str, key: str = "join") -> Joining:
        """Read a mapping's `join`.

        Args:
            data: What a parser made of it.
            where: The file's name, for messages.
            key: Its dotted key.

        Raises:
            ConfigError: It is none; file and key say where.
        """
        place = Place(where, key)
        given = place.mapping(data, _KEYS)
        kinds = [kind for kind in _KINDS if kind in given]
        if len(kinds) != 1:
            raise place.error(f"must have one of {', '.join(_KINDS)}", "They say which lines belong together; see docs/mappings.md.")
        kind = kinds[0]
        if "end" in given and kind != "same":
            raise place.at("end").error("goes with `same` only", f"A unit of `{kind}` ends where the next one begins.")
        pattern = _checked(given[kind], place.at(kind), groups=1 if kind == "same" else None)
        end = _checked(given["end"], place.at("end")) if "end" in given else None
        max_lines = place.at("max_lines").whole(given.get("max_lines", MAX_LINES), 2, MOST_LINES)
        return cls(kind, pattern, end, max_lines, _seconds(given.get("patience_seconds", PATIENCE_SECONDS), place.at("patience_seconds")))

    def units(self, block: bytes) -> list[Span]:
        """Return where the units of a block lie, without their last newlines.

        Args:
            block: Whole lines, the first of which begins a unit; the very last one may lack its newline.
        """
        if not block:
            return []
        starts = [0, *self._beginnings(block)]
        ends = [start - 1 for start in starts[1:]]
        return list(zip(starts, [*ends, len(block) - block.endswith(b"\n")], strict=True))

    def walk(self, block: bytes, begin: int, end: int, limit: int) -> Walked:
        """Go from unit to unit, as far as lines are known.

        Args:
            block: Lines.
            begin: Where a unit begins.
            end: Behind the last line that may be looked at; it ends there with its newline, or is longer than the limit.
            limit: The most bytes of a unit, without its last newline.
        """
        position = begin
        while position < end:
            hop = self._hop(block, position, end, limit)
            if hop > position:
                position = hop
                continue
            following = self.next_beginning(block, position, end, limit)
            stop = end if following < 0 else following
            if stop - position > limit + (block[stop - 1] == _NEWLINE) or _lines(block, position, stop) > self.max_lines:
                return Walked(position, too_long=True)
            if following < 0:
                break
            position = following
        return Walked(position, too_long=False)

    def next_beginning(self, block: bytes, position: int, end: int, limit: int, carry: bytes | None = None, *, inside: bool = False) -> int:
        """Return where the next unit begins, -1 if not before `end`.

        Args:
            block: Lines.
            position: Where a line begins.
            end: Behind the last line that may be looked at.
            limit: The most bytes of a line that are looked at.
            carry: What `carry` gave of the line before.
            inside: The line at `position` may go on with what was before; without it, it is known to begin a unit.
        """
        if not inside:
            stop = _stop(block, position, end)
            carry = self.carry(block, position, stop, limit)
            position = stop + 1
        if self.kind == "start":
            return self._next_start(block, position, end, limit)
        while position < end:
            stop = _stop(block, position, end)
            if not self.goes_on(carry, block, position, stop, limit):
                return position
            carry = self.carry(block, position, stop, limit)
            position = stop + 1
        return -1

    def carry(self, block: bytes, start: int, stop: int, limit: int) -> bytes | None:
        """Return what must be known of a line to tell whether the next one goes on with it; None if none can.

        Args:
            block: Holds the line.
            start: Where it begins.
            stop: Where its newline is, or its end.
            limit: The most bytes of it that are looked at.
        """
        if self.kind != "same":
            return b""
        stop = min(stop, start + limit)
        found = self._lines.search(block, start, stop)
        if found is None or (self._ends is not None and self._ends.search(block, start, stop) is not None):
            return None
        return _group(block, found)

    def goes_on(self, carry: bytes | None, block: bytes, start: int, stop: int, limit: int) -> bool:
        """Tell whether a line goes on with the unit of the line before; the arguments are those of :meth:`carry`."""
        if carry is None:
            return False
        found = self._lines.search(block, start, min(stop, start + limit))
        if self.kind == "start":
            return found is None
        if self.kind == "continues":
            return found is not None
        return found is not None and _group(block, found) == carry

    def _hop(self, block: bytes, position: int, end: int, limit: int) -> int:
        """Return the last beginning that is near enough for nothing before it to be too long; `position` if there is none."""
        reach = min(limit + 1, end - position)
        while (lines := block.count(b"\n", position, position + reach)) > self.max_lines:
            reach = reach * self.max_lines // lines
        start = block.rfind(b"\n", position, position + reach) + 1
        if start >= end:
            start = block.rfind(b"\n", position, end - 1) + 1
        while start > position:
            before = max(position, block.rfind(b"\n", position, start - 1) + 1)
            if not self.goes_on(self.carry(block, before, start - 1, limit), block, start, _stop(block, start, end), limit):
                return start
            start = before
        return position

    def _next_start(self, block: bytes, position: int, end: int, limit: int) -> int:
        while position < end:
            # The newline at the very end would let an empty match begin a line that is not there.
            found = self._lines.search(block, position, end - (block[end - 1] == _NEWLINE))
            if found is None:
                return -1
            start = max(position, block.rfind(b"\n", position, found.start()) + 1)
            if found.end() - start <= limit or not self.goes_on(b"", block, start, _stop(block, start, end), limit):
                return start
            position = _stop(block, start, end) + 1
        return -1

    def _beginnings(self, block: bytes) -> list[int]:
        """Return the beginnings of a block's lines that begin units, without the first."""
        starts = [found.end() for found in re.finditer(rb"\n", block)] if self.kind != "start" else []
        if starts and starts[-1] == len(block):
            starts.pop()
        if self.kind == "same":
            return self._changes(block, [0, *starts])
        matching = [start for start, _ in _matching_lines(block, self._lines)]
        if self.kind == "start":
            return [start for start in matching if start]
        going_on = set(matching)
        return [start for start in starts if start not in going_on]

    def _changes(self, block: bytes, starts: Sequence[int]) -> list[int]:
        """Return the lines of which the group is not that of the line before."""
        keys: dict[int, bytes | None] = {start: _group(block, found) for start, found in _matching_lines(block, self._lines)}
        ended = set() if self._ends is None else {start for start, _ in _matching_lines(block, self._ends)}
        changes = []
        before: bytes | None = None
        for start in starts:
            key = keys.get(start)
            if start and (key is None or key != before):
                changes.append(start)
            before = None if start in ended else key
        return changes


def _matching_lines(block: bytes, pattern: Any) -> Iterator[tuple[int, Any]]:
    """Yield where the lines begin in which an expression matches, each once, with the first match."""
    rfind = block.rfind
    size = len(block) - block.endswith(b"\n")
    behind = position = 0
    nothing_yet = True
    while position >= 0:
        for found in pattern.finditer(block, position, size):
            start = rfind(b"\n", behind, found.start()) + 1
            if not start and not nothing_yet:
                # A line may be made to match thousands of times.
                position = block.find(b"\n", found.start(), size) + 1 or -1
                break
            nothing_yet = False
            behind = start
            yield start, found
        else:
            return


def _group(block: bytes, found: Any) -> bytes | None:
    """Return what the group of a match is; None if it took no part, or is empty."""
    # A third of what `found.group(1)` takes.
    start, stop = found.span(1)
    return block[start:stop] if stop > start else None


def _lines(block: bytes, start: int, stop: int) -> int:
    """Count lines; the last may lack its newline."""
    return block.count(b"\n", start, stop) + (block[stop - 1] != _NEWLINE)


def _stop(block: bytes, start: int, end: int) -> int:
    """Return where the newline of a line is; `end` if it is not before that."""
    newline = block.find(b"\n", start, end)
    return end if newline < 0 else newline


def _compile(text: str) -> Any:
    import re2

    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    # A class such as \s has a newline in it; here it shall not lead into the next line.
    options.never_nl = True
    return re2.compile(b"(?m)" + text.encode(), options)


def _checked(data: object, place: Place, groups: int | None = None) -> str:
    """Return an expression that can be used on blocks of lines (ConfigError if it is none)."""
    import re2

    text = place.text(data)
    if len(text) > MAX_PATTERN_CHARS:
        raise place.error(f"is a regular expression of more than {MAX_PATTERN_CHARS} characters")
    if _NOT_OF_LINES.search(text):
        raise place.error("has \\A, \\z, \\C or (?-m)", "An expression is about one line: ^ is its beginning, and $ its end.")
    try:
        compiled = _compile(text)
    except UnicodeEncodeError as error:
        raise place.error("is no regular expression: it has half a character") from error
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise place.error(f"is no regular expression: {why}", _HINT) from error
    if groups is not None and compiled.groups != groups:
        raise place.error("must have one group", "What it matches is what lines of one unit have in common; others are written (?:…).")
    return text


def _seconds(data: object, place: Place) -> float:
    if not isinstance(data, (int, float)) or isinstance(data, bool) or not 0 < data <= MOST_PATIENCE_SECONDS:
        raise place.error(f"must be a number of seconds, more than 0 and at most {MOST_PATIENCE_SECONDS:g}")
    return float(data)
