"""Choose the lines of a block that mappings look at, and the mapping that makes an event of a line.

A source may have several mappings, as a log of logins has lines of several programs. A line goes to those whose texts it has, in their
order: the first event counts; else the first refusal; else it is no audit event.

Invariants: the search is by block, a pass for each text, and may name too many lines, never too few; of JSON lines also those that spell
a text with escapes (RFC 8259, section 7). Blanks between tokens are not looked through, so a text should not reach over one. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError
from ..classify import AllRule, Span
from ..verdict import Rejection
from .mapping import PASSED, Mapped

if TYPE_CHECKING:
    from .joining import Joining
    from .mapping import Mapping, Moment, Outcome

_ALL: Final = AllRule()
_ESCAPE: Final = re.compile(rb"\\(?:u00(?!22|5[cC])([2-7][0-9a-fA-F])|/)")


class Selection:
    """Be the mappings of one source. A `Rule` for who asks whether a line may be audit; immutable.

    Attributes:
        mappings: Them, in their order.
        joining: How lines join to units; None if each is one.
    """

    def __init__(self, mappings: tuple[Mapping, ...]) -> None:
        """Put them together.

        Raises:
            ConfigError: They join lines in different ways.
        """
        self.mappings = mappings
        self.joining: Joining | None = mappings[0].joining
        if any(mapping.joining != self.joining for mapping in mappings):
            raise ConfigError("the mappings join lines in different ways", hint="Read the formats from different files, in a source each.")
        texts = [text for mapping in mappings for text in mapping.select.texts]
        self._spelled = tuple(dict.fromkeys(text for mapping in mappings if mapping.reads_json for text in mapping.select.texts))
        self._texts = () if any(not mapping.select.texts for mapping in mappings) else tuple(dict.fromkeys(texts))

    @property
    def tag(self) -> tuple[str, str] | None:
        """None: nothing inside the event marks it."""
        return None

    def candidates(self, block: bytes, units: list[Span] | None = None) -> list[Span]:
        """Find the lines, or units of several, that may be audit.

        Args:
            block: Whole lines.
            units: Its units, if they are known; to find them costs as much as a step of a mapping.
        """
        if self.joining is not None:
            return self._audit_units(block, self.joining.units(block) if units is None else units)
        if not self._texts:
            return _ALL.candidates(block)
        if self._spelled and b"\\" in block and (b"\\u00" in block or b"\\/" in block):
            escaped = {span for text in (b"\\u00", b"\\/") for span in _lines_with(block, text)}
            spelled = {(start, end) for start, end in escaped if self._is_spelled(block[start:end])}
            return sorted(spelled.union(*(_lines_with(block, text) for text in self._texts)))
        if len(self._texts) == 1:
            return _lines_with(block, self._texts[0])
        return sorted({span for text in self._texts for span in _lines_with(block, text)})

    def _is_spelled(self, line: bytes) -> bool:
        plain = _unescaped(line)
        return any(text in plain for text in self._spelled)

    def _audit_units(self, block: bytes, units: list[Span]) -> list[Span]:
        if not self._texts:
            return [(start, end) for start, end in units if end > start and not block[start:end].isspace()]
        find = block.find
        if len(self._texts) == 1:
            (text,) = self._texts
            return [(start, end) for start, end in units if find(text, start, end) >= 0]
        return [(start, end) for start, end in units if any(find(text, start, end) >= 0 for text in self._texts)]

    def is_audit(self, line: bytes) -> bool:
        """Tell whether a line may be audit: it has one of the texts, or is not blank if all may be."""
        if not self._texts:
            return bool(line.strip())
        return any(text in line for text in self._texts) or (b"\\" in line and self._is_spelled(line))

    def event(self, line: bytes) -> bytes:
        """Return the line itself."""
        return line

    def marker(self, unit: bytes) -> bytes:
        """Return nothing: a line of another format is all its own."""
        del unit
        return b""

    def interpret(self, unit: bytes, moment: Moment) -> Outcome:
        """Map a line or unit by the first mapping that makes an event of it.

        Args:
            unit: Its bytes; what ends a line on Windows may stand at its end.
            moment: When and where it was read.
        """
        line = unit.removesuffix(b"\r")
        if len(self.mappings) == 1:
            # It was found by the texts of this one.
            return self.mappings[0].map(line, moment)
        refused: Rejection | None = None
        for mapping in self.mappings:
            if not _claims(mapping, line):
                continue
            outcome = mapping.map(line, moment)
            if isinstance(outcome, Mapped):
                return outcome
            if refused is None and isinstance(outcome, Rejection):
                refused = outcome
        return refused or PASSED


def _claims(mapping: Mapping, line: bytes) -> bool:
    texts = mapping.select.texts
    if not texts or any(text in line for text in texts):
        return True
    if not mapping.reads_json or b"\\" not in line:
        return False
    plain = _unescaped(line)
    return any(text in plain for text in texts)


def _unescaped(line: bytes) -> bytes:
    """Undo the escapes of printable ASCII that JSON allows and does not need; quotation marks and backslashes stay escaped."""
    return _ESCAPE.sub(lambda found: b"/" if found[1] is None else bytes((int(found[1], 16),)), line)


def _lines_with(block: bytes, text: bytes) -> list[Span]:
    spans: list[Span] = []
    find, rfind = block.find, block.rfind
    hit = find(text)
    end = 0
    while hit >= 0:
        start = rfind(b"\n", end, hit) + 1 or end
        end = find(b"\n", hit)
        if end < 0:
            end = len(block)
        spans.append((start, end))
        hit = find(text, end)
    return spans
