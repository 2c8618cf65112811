"""Bring in messages that are not lines by themselves: journal entries, and requests that hold one event.

A line is what ends with its newline; a message is any bytes. One without a newline inside is a line like any other (a newline
at its very end is its end). What a mapping makes events of may have several lines. Elsewhere a message with a newline inside cannot
be an event, which is one line: if the rule calls it audit it is quarantined whole and byte-exact as `multi_line`, else it passes
through. Too long a message is stated by its length, SHA-256 and first bytes, if it is audit.

Invariants: each message counts as one line, in its order; its cost per line is paid only for messages of several lines. Pure:
no files, clock or event loop.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from ..trail.records import QuarantineReason
from .base import UnitSeparator
from .lines import HEAD_BYTES, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..events.mappings.header import Header
    from .base import BlockSeparator
    from .tally import Tally

MULTI_LINE_DETAIL = "an event is one line"


class _Batch(Protocol):
    """Gather messages that are separated at once."""

    def take(self, line: bytes, offset: int, header: Header | None) -> bool:
        """Take a message without a newline at its end; return False if it can be none of these."""

    def settle(self, tally: Tally) -> None:
        """Separate what was taken, and forget it."""


class _Lines:
    """Take messages of one line."""

    def __init__(self, separator: BlockSeparator) -> None:
        self._separator = separator
        self._lines: list[bytes] = []

    def take(self, line: bytes, offset: int, header: Header | None) -> bool:
        del offset, header
        if b"\n" in line:
            return False
        self._lines.append(line)
        return True

    def settle(self, tally: Tally) -> None:
        if self._lines:
            tally.add([Whole(0, b"\n".join([*self._lines, b""]))], self._separator)
            self._lines = []


class _Units:
    """Take messages of any number of lines."""

    def __init__(self, separator: UnitSeparator) -> None:
        self._separator = separator
        self._units: list[bytes] = []
        self._headers: list[Header | None] = []
        self._offset = 0

    def take(self, line: bytes, offset: int, header: Header | None) -> bool:
        if not self._units:
            self._offset = offset
        self._units.append(line)
        self._headers.append(header)
        return True

    def settle(self, tally: Tally) -> None:
        if self._units:
            headers = self._headers if any(self._headers) else None
            tally.add_separated(self._separator.separate_units(self._units, headers, self._offset, tally.observed_at))
            self._units, self._headers = [], []


def add_messages(
    tally: Tally,
    messages: Iterable[tuple[bytes, Header | None]],
    separator: BlockSeparator,
    is_audit: Callable[[bytes], bool],
    line_limit: int,
    offset: int = 0,
) -> None:
    """Separate messages and count them.

    Args:
        tally: Gets what they give; its source has no offsets.
        messages: Any bytes each, and what came beside it.
        separator: Separates blocks of lines, and messages of several lines if it is a `UnitSeparator`; used by this call alone.
        is_audit: The rule's decision about one line.
        line_limit: The longest message, in bytes, that is kept as a whole if it is audit.
        offset: Where the first begins in the source, in bytes; each takes one more for its end.
    """
    batch: _Batch = _Units(separator) if isinstance(separator, UnitSeparator) else _Lines(separator)
    for message, header in messages:
        line = message.removesuffix(b"\n")
        if len(line) > line_limit or not batch.take(line, offset, header):
            batch.settle(tally)
            _add_odd(tally, message, separator, is_audit, line_limit)
        offset += len(message) + 1
    batch.settle(tally)


def _add_odd(tally: Tally, message: bytes, separator: BlockSeparator, is_audit: Callable[[bytes], bool], line_limit: int) -> None:
    """Add a message that is too long, or of several lines."""
    # To JSON a newline is white space like another, but a rule is made for lines and may not look beyond one.
    if not is_audit(message.replace(b"\n", b" ")):
        pass_message(tally, message)
    elif len(message) > line_limit:
        add_oversize(tally, separator, message[:HEAD_BYTES], len(message), sha256(message).hexdigest())
    else:
        reason = QuarantineReason.MULTI_LINE
        tally.add_quarantined(separator.quarantined(tally.observed_at, reason, MULTI_LINE_DETAIL, message), reason)


def pass_message(tally: Tally, message: bytes) -> None:
    """Count a message as observability and pass it on, ended by a newline."""
    tally.passed_lines += 1
    tally.passed.append(message if message.endswith(b"\n") else message + b"\n")


def add_oversize(tally: Tally, separator: BlockSeparator, head: bytes, length: int, sha256_hex: str) -> None:
    """State an audit message that is too long to be kept as a whole.

    Args:
        tally: Gets the record.
        separator: Makes the record's body.
        head: The message's first bytes.
        length: Its length in bytes.
        sha256_hex: Its SHA-256 in lower-case hex.
    """
    tally.add_quarantined(separator.overlong(tally.observed_at, head, length, sha256_hex, None, b""), QuarantineReason.TOO_LONG)
