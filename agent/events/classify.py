"""Tell audit lines from observability lines.

Three rules: a tag inside the JSON object (`FieldRule`), a text before it (`PrefixRule`), a whole source (`AllRule`).
`candidates` searches a block at the speed of `bytes.find` and may name too many lines, never too few; `is_audit` decides
one line exactly. Callers that learn otherwise that a candidate is tagged (the schema requires the tag) may skip `is_audit`.

Invariants: a line that carries the tag but cannot be read is audit, so that it is quarantined and never passed on as an
observability line; no bytes raise an exception. This module must not judge events or look at the schema's other fields.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ..errors import ConfigError
from .reading import top_level_pairs

Span: TypeAlias = tuple[int, int]
"""Where a line lies in its block: first byte, and one past its last byte, without the newline."""

DEFAULT_FIELD: Final = "stream"
DEFAULT_VALUE: Final = "audit"

_TAG_TEXT = re.compile(r"[ !#-.0-\[\]-~]+")
_NOISE: Final = b"\x00\xef\xbb\xbf"
_FEW_BACKSLASHES: Final = 512


class Rule(Protocol):
    """Decide which lines of a source are audit lines.

    Guarantees: every line for which `is_audit` is true is among `candidates` of any block that holds it whole; spans come
    in the order of the block, none twice. Implementations are immutable and hold no state between calls.
    """

    @property
    def tag(self) -> tuple[str, str] | None:
        """The top-level field and value that mark an event, or None where something else does."""

    def candidates(self, block: bytes) -> list[Span]:
        """Find the lines of a block (whole lines; the last may lack its newline) that may be audit lines."""

    def is_audit(self, line: bytes) -> bool:
        """Decide one line, given without its newline."""

    def event(self, line: bytes) -> bytes:
        """Cut the event's own bytes out of an audit line."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    r"""Take as audit every JSON object with the tag at its top level, however it is written.

    White space, key order and ``\u00xx`` escapes do not matter; the same words deeper in the object or inside a string do
    not count. Where duplicate keys let one parser see the tag and another not, the line is audit (and will be quarantined).
    A line that cannot be decoded is audit when the tag's text stands anywhere in it.

    The search looks for the tag as it stands and for ``\u00XX`` escapes of its characters. Both words are printable ASCII
    without quote, backslash and slash, for which JSON knows no other escapes (RFC 8259 section 7; the ``u`` is always
    lower-case, the hex digits may be either): a spelling without such an escape holds the words as they stand.

    Attributes:
        field: The tag's key.
        value: The tag's value.
    """

    field: str = DEFAULT_FIELD
    value: str = DEFAULT_VALUE
    _pattern: re.Pattern[bytes] = dataclasses.field(init=False, repr=False, compare=False)
    _escape: re.Pattern[bytes] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        r"""Check the tag and prepare the search.

        Raises:
            ConfigError: The field or the value is empty or holds anything but printable ASCII without ``"``, ``\`` and ``/``.
        """
        for key, text in (("audit.field", self.field), ("audit.value", self.value)):
            if not _TAG_TEXT.fullmatch(text):
                raise ConfigError(
                    'must be one or more printable ASCII characters other than the quote ("), backslash and slash',
                    key=key,
                    hint="Use a plain word, as in audit: {field: stream, value: audit}.",
                )
        name, value = self.field.encode("ascii"), self.value.encode("ascii")
        codes = b"|".join(b"%02x" % character for character in sorted({*name, *value}))
        pattern = rb'"%b"[ \t\r\f\v]*:[ \t\r\f\v]*"%b"' % (re.escape(name), re.escape(value))
        object.__setattr__(self, "_pattern", re.compile(pattern))
        object.__setattr__(self, "_escape", re.compile(rb"\\u00((?i:%b))" % codes))

    @property
    def tag(self) -> tuple[str, str] | None:
        """The field and its value."""
        return self.field, self.value

    def candidates(self, block: bytes) -> list[Span]:
        """Find the lines whose text holds the tag, nested or not, decodable or not."""
        if self._has_escape(block):
            return self._candidates_with_escapes(block)
        spans: list[Span] = []
        append, find, rfind, search = spans.append, block.find, block.rfind, self._pattern.search
        end = 0
        while hit := search(block, end):
            middle = hit.start()
            start = rfind(b"\n", end, middle) + 1 or end
            end = find(b"\n", middle)
            if end < 0:
                end = len(block)
            append((start, end))
        return spans

    def _has_escape(self, block: bytes) -> bool:
        """Tell whether a character of the tag is escaped anywhere in a block."""
        # A lone backslash is found by memchr, far faster than the escape, so going from one to the next is a gain as long
        # as they are few: escaped quotes in some lines.
        at = block.find(b"\\")
        for _ in range(_FEW_BACKSLASHES):
            if at < 0:
                return False
            if block.startswith(b"\\u00", at):
                break
            at = block.find(b"\\", at + 1)
        return at >= 0 and self._escape.search(block, at) is not None

    def _candidates_with_escapes(self, block: bytes) -> list[Span]:
        """Find the same lines in a block where the tag may be spelled with escapes."""
        starts = set()
        for pattern in (self._pattern, self._escape):
            end = 0
            while hit := pattern.search(block, end):
                starts.add(block.rfind(b"\n", 0, hit.start()) + 1)
                end = _line_end(block, hit.start())
        spans = [(start, _line_end(block, start)) for start in sorted(starts)]
        return [(start, end) for start, end in spans if self._carries_tag(block[start:end])]

    def _carries_tag(self, line: bytes) -> bool:
        """Tell whether the tag's text stands in a line, once escapes of its characters are undone."""
        if b"\\u00" in line:
            line = self._escape.sub(_unescape, line)
        return self._pattern.search(line) is not None

    def is_audit(self, line: bytes) -> bool:
        """Decide one line by reading its top level; an unreadable line by the tag's text alone."""
        if not self._carries_tag(line):
            return False
        pairs = top_level_pairs(line)
        return pairs is None or (self.field, self.value) in pairs

    def event(self, line: bytes) -> bytes:
        """Return the line itself."""
        return line


@dataclass(frozen=True, slots=True)
class PrefixRule:
    """Take as audit every line that begins with a text; the event is the rest of the line.

    A line in which only NULs and byte order marks stand before the prefix is audit too: a hole left by truncation must not
    turn an audit line into an observability line. Its event is then the whole line, which is no JSON and so quarantined.

    Attributes:
        prefix: The text, for example ``"AUDIT "``.
    """

    prefix: str
    _bytes: bytes = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the prefix.

        Raises:
            ConfigError: The prefix is empty, blank, or holds characters that cannot be printed.
        """
        if not self.prefix.strip() or not self.prefix.isprintable():
            raise ConfigError(
                "must be printable text with more than white space in it", key="audit.prefix", hint='For example audit: {prefix: "AUDIT "}.'
            )
        object.__setattr__(self, "_bytes", self.prefix.encode("utf-8"))

    @property
    def tag(self) -> tuple[str, str] | None:
        """None: the prefix lies outside the event."""
        return None

    def candidates(self, block: bytes) -> list[Span]:
        """Find the lines with the prefix at their beginning, or behind nothing but NULs and byte order marks."""
        spans: list[Span] = []
        prefix = self._bytes
        hit = block.find(prefix)
        while hit >= 0:
            start = block.rfind(b"\n", 0, hit) + 1
            end = _line_end(block, hit)
            if start == hit or not block[start:hit].strip(_NOISE):
                spans.append((start, end))
            hit = block.find(prefix, end)
        return spans

    def is_audit(self, line: bytes) -> bool:
        """Decide one line by its first bytes."""
        return line.startswith(self._bytes) or line.lstrip(_NOISE).startswith(self._bytes)

    def event(self, line: bytes) -> bytes:
        """Return what follows the prefix; the whole line where something stands before it."""
        return line.removeprefix(self._bytes)


@dataclass(frozen=True, slots=True)
class AllRule:
    """Take every line of a source as audit; only lines of white space are observability."""

    @property
    def tag(self) -> tuple[str, str] | None:
        """None: nothing inside the event marks it."""
        return None

    def candidates(self, block: bytes) -> list[Span]:
        """Find the lines that are not empty."""
        spans: list[Span] = []
        position = 0
        for line in block.split(b"\n"):
            end = position + len(line)
            if line:
                spans.append((position, end))
            position = end + 1
        return spans

    def is_audit(self, line: bytes) -> bool:
        """Decide one line: anything but white space."""
        return bool(line.strip())

    def event(self, line: bytes) -> bytes:
        """Return the line itself."""
        return line


def _line_end(block: bytes, position: int) -> int:
    end = block.find(b"\n", position)
    return len(block) if end < 0 else end


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))
