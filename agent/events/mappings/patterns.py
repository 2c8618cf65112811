"""Search with regular expressions whose time is linear in the text, whatever the expression and the text (RE2).

An expression comes from a configuration and a text from whoever can make a service log it; with a backtracking engine either could
make one line take minutes. RE2 has neither back references nor look-around, and therefore no such case.

Invariants: no text raises an exception; the memory of an expression is bounded. The engine is loaded with the first expression. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .place import Place

Span: TypeAlias = tuple[int, int]
Replacement: TypeAlias = "Sequence[bytes | int]"
"""Bytes as they stand, and groups by their numbers."""

MAX_PATTERN_CHARS: Final = 4096
MAX_PATTERNS: Final = 200
_HINT: Final = "The syntax is RE2's, which has no back references and no look-around: https://github.com/google/re2/wiki/Syntax"
_NOWHERE: Final = (-1, -1)
_GROUP: Final = re.compile(r"\(\?P?<(\w+)>")
_MEMORY_BYTES: Final = 8 << 20


class Pattern:
    """Be one expression, to be used on bytes of UTF-8.

    Attributes:
        groups: How many groups it has.
        names: Its named groups, each with its number.
    """

    def __init__(self, text: object, place: Place, *, captures: bool = True) -> None:
        """Compile it.

        Args:
            text: It.
            place: Where it stands, for the message.
            captures: Whether anybody asks where its groups are; without, a search takes half the time.

        Raises:
            ConfigError: It is no text, too long, names two groups alike, or RE2 refuses it.
        """
        import re2

        source = place.text(text)
        if len(source) > MAX_PATTERN_CHARS:
            raise place.error(f"is a regular expression of more than {MAX_PATTERN_CHARS} characters")
        names = _GROUP.findall(source)
        if len(set(names)) < len(names):
            raise place.error("names two groups alike", "Only one of them would be seen.")
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        options.never_capture = not captures
        try:
            compiled = re2.compile(source.encode(), options)
        except re2.error as error:
            why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
            raise place.error(f"is no regular expression: {why}", _HINT) from error
        self.groups: int = compiled.groups
        self.names = tuple((name.decode(), index) for name, index in compiled.groupindex.items())
        # The binding wraps each match into objects that cost three times the match itself; beneath them is what it calls.
        self._spans: Callable[[Any, bytes, int, int], Sequence[Span]] = compiled._regexp.Match  # noqa: SLF001 -- as said
        self._anchor = re2._re2.RE2.Anchor.UNANCHORED  # noqa: SLF001 -- as said
        self._ascii = self._spans
        if captures and self.groups and source.isascii():
            # In ASCII, a byte is a character in either encoding. A search for groups tries what a class may be byte by byte, and for
            # UTF-8 that is many sequences of bytes: without them it takes half the time. Most lines are ASCII.
            options.encoding = re2.Options.Encoding.LATIN1
            try:
                self._ascii = re2.compile(source.encode(), options)._regexp.Match  # noqa: SLF001 -- as said
            except re2.error:
                # It names a character that only the other encoding has.
                self._ascii = self._spans

    def spans(self, data: bytes) -> Sequence[Span] | None:
        """Return where the first match is, and then where each group is; (-1, -1) for one that took no part. None if there is no match."""
        found = (self._ascii if data.isascii() else self._spans)(self._anchor, data, 0, len(data))
        return None if found[0] == _NOWHERE else found

    def matches(self, data: bytes) -> bool:
        """Tell whether there is a match."""
        return bool(self._spans(self._anchor, data, 0, len(data))[0] != _NOWHERE)

    def replaced(self, data: bytes, replacement: Replacement) -> bytes:
        """Return the bytes with each match replaced; the same object if there is none.

        A match that is empty is one, too, also right behind another, and a group that took no part is empty.
        """
        search, anchor, size = self._ascii if data.isascii() else self._spans, self._anchor, len(data)
        found = search(anchor, data, 0, size)
        if found[0] == _NOWHERE:
            return data
        parts: list[bytes] = []
        behind = position = 0
        while found[0] != _NOWHERE:
            start, end = found[0]
            parts.append(data[behind:start])
            for part in replacement:
                if isinstance(part, int):
                    begin, stop = found[part]
                    # Of a group that took no part, both are -1.
                    parts.append(data[begin:stop])
                else:
                    parts.append(part)
            behind = end
            if position == size:
                break
            position = position + 1 if position == end else end
            found = search(anchor, data, position, size)
        parts.append(data[behind:])
        return b"".join(parts)


class Patterns:
    """Be several expressions, of which the first that matches counts."""

    def __init__(self, texts: Sequence[object], place: Place) -> None:
        """Compile them.

        Raises:
            ConfigError: There is none, there are too many, or one is refused.
        """
        import re2

        if not 0 < len(texts) <= MAX_PATTERNS:
            raise place.error(f"must have from 1 to {MAX_PATTERNS} regular expressions")
        self._patterns = [Pattern(text, place.at(index)) for index, text in enumerate(texts)]
        self._set = None
        if len(texts) > 1:
            self._set = re2.Set.SearchSet()
            for text in texts:
                self._set.Add(str(text).encode())
            self._set.Compile()

    def first(self, text: str) -> dict[str, Any] | None:
        """Return the groups of the first expression that matches, and its number as ``pattern``; None if none does.

        A group that took no part, or matched nothing, is missing.
        """
        data = text.encode("utf-8", "surrogatepass")
        if self._set is None:
            number = 0
        else:
            matching = self._set.Match(data)
            if not matching:
                return None
            number = min(matching)
        spans = self._patterns[number].spans(data)
        if spans is None:
            return None
        values: dict[str, Any] = {"pattern": number}
        if text.isascii():
            # A byte is a character, and nothing need be decoded.
            for name, index in self._patterns[number].names:
                start, end = spans[index]
                if end > start:
                    values[name] = text[start:end]
            return values
        for name, index in self._patterns[number].names:
            start, end = spans[index]
            if end > start:
                values[name] = data[start:end].decode("utf-8", "backslashreplace")
        return values
