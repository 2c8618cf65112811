"""Bring in messages that are not lines by themselves: journal entries, and requests that hold one event.

A line is what ends with its newline; a message is any bytes. One without a newline inside is a line like any other (a newline
at its very end is its end). One with a newline inside cannot be an event, which is one line: if the rule calls it audit it is
quarantined whole and byte-exact as `multi_line`, else it passes through. Too long a message is stated by its length, SHA-256
and first bytes, if it is audit.

Invariants: each message counts as one line, in its order; its cost per line is paid only for messages of several lines. Pure:
no files, clock or event loop.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ..trail.records import QuarantineReason, oversize_body, quarantine_body
from .lines import HEAD_BYTES, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .base import BlockSeparator
    from .tally import Tally

MULTI_LINE_DETAIL = "an event is one line"


def add_messages(
    tally: Tally, messages: Iterable[bytes], separator: BlockSeparator, is_audit: Callable[[bytes], bool], line_limit: int
) -> None:
    """Separate messages and count them.

    Args:
        tally: Gets what they give; its source has no offsets.
        messages: Any bytes each.
        separator: Separates blocks of lines; used by this call alone.
        is_audit: The rule's decision about one line.
        line_limit: The longest message, in bytes, that is kept as a whole if it is audit.
    """
    lines: list[bytes] = []
    for message in messages:
        line = message.removesuffix(b"\n")
        if len(line) <= line_limit and b"\n" not in line:
            lines.append(line)
            continue
        _add_lines(tally, lines, separator)
        lines = []
        _add_odd(tally, message, is_audit, line_limit)
    _add_lines(tally, lines, separator)


def _add_lines(tally: Tally, lines: list[bytes], separator: BlockSeparator) -> None:
    if lines:
        tally.add([Whole(0, b"\n".join([*lines, b""]))], separator)


def _add_odd(tally: Tally, message: bytes, is_audit: Callable[[bytes], bool], line_limit: int) -> None:
    """Add a message that is too long, or of several lines."""
    # To JSON a newline is white space like another, but a rule is made for lines and may not look beyond one.
    if not is_audit(message.replace(b"\n", b" ")):
        pass_message(tally, message)
    elif len(message) > line_limit:
        add_oversize(tally, message[:HEAD_BYTES], len(message), sha256(message).hexdigest())
    else:
        reason = QuarantineReason.MULTI_LINE
        tally.bodies += (quarantine_body(tally.source, tally.observed_at, reason, MULTI_LINE_DETAIL, message), b"\n")
        _count_quarantined(tally, reason)


def pass_message(tally: Tally, message: bytes) -> None:
    """Count a message as observability and pass it on, ended by a newline."""
    tally.passed_lines += 1
    tally.passed.append(message if message.endswith(b"\n") else message + b"\n")


def add_oversize(tally: Tally, head: bytes, length: int, sha256_hex: str) -> None:
    """State an audit message that is too long to be kept as a whole.

    Args:
        tally: Gets the record.
        head: The message's first bytes.
        length: Its length in bytes.
        sha256_hex: Its SHA-256 in lower-case hex.
    """
    tally.bodies += (oversize_body(tally.source, tally.observed_at, head, length, sha256_hex), b"\n")
    _count_quarantined(tally, QuarantineReason.TOO_LONG)


def _count_quarantined(tally: Tally, reason: QuarantineReason) -> None:
    tally.records += 1
    tally.quarantined += 1
    tally.reasons[reason.value] = tally.reasons.get(reason.value, 0) + 1
