"""Number record bodies and read record lines: what the cut does last, and a verifier first.

A *body* is what `agent.trail.records` writes; a *line* is `{"seq":<n>` and a body.

Invariants: a line's number stands in it once, in its shortest form, and a parser that takes the last of two equal keys sees no other one.
This module must not judge whether an event is valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import FormatError
from .records import RecordKind

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEQ: Final = b'{"seq":'
_MAX_SEQ_DIGITS: Final = 19


def number_lines(bodies: Sequence[bytes], first_seq: int) -> list[bytes]:
    """Return the lines: every body with its seq before it, counted up from ``first_seq``."""
    return [b'{"seq":%d%b' % numbered for numbered in enumerate(bodies, first_seq)]


def strip_seq(line: bytes) -> tuple[int, bytes]:
    """Return a line's seq and its body, the inverse of :func:`number_lines`.

    Raises:
        FormatError: The line does not begin with a seq in its shortest form.
    """
    comma = line.find(b",", len(_SEQ))
    digits = line[len(_SEQ) : comma]
    too_long_or_padded = len(digits) > _MAX_SEQ_DIGITS or (digits.startswith(b"0") and len(digits) > 1)
    if not line.startswith(_SEQ) or comma < 0 or not digits.isdigit() or too_long_or_padded:
        raise FormatError("the record does not begin with a seq")
    return int(digits), line[comma:]


class EventHead(msgspec.Struct, frozen=True, gc=False):
    """The two fields of an event that seals and duplicate checks need."""

    event_id: str = ""
    occurred_at: str = ""


class RecordHead(msgspec.Struct, frozen=True, gc=False):
    """What a verifier needs of a record; other fields are skipped, their syntax is checked.

    Attributes:
        seq: The leaf's index.
        kind: Which kind of record it is.
        source: The source's id.
        observed_at: When the line was read.
        at: Byte offset and length in the source, where the source has them.
        event: The event's id and time; None for other kinds.
    """

    seq: int
    kind: RecordKind
    source: str
    observed_at: str
    at: tuple[int, int] | None = None
    event: EventHead | None = None


_decoder: Final = msgspec.json.Decoder(RecordHead)


def decode_record(line: bytes) -> RecordHead:
    """Read the head of one record line.

    Raises:
        FormatError: It is not a record.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"a line is not a record: {error}") from error


def decode_records(lines: Sequence[bytes], first_seq: int) -> list[RecordHead]:
    """Read the heads of many record lines and check their numbers.

    Args:
        lines: Record lines, in their order.
        first_seq: The seq that the first one must have; every next one has the next.

    Raises:
        FormatError: A line is not a record, or its number is not the expected one, at its beginning or where a parser
            that takes the last of two equal keys looks.
    """
    try:
        heads = _decoder.decode_lines(b"\n".join(lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"a line after seq {first_seq} is not a record: {error}") from error
    seqs = range(first_seq, first_seq + len(lines))
    if [head.seq for head in heads] != list(seqs) or not all(map(bytes.startswith, lines, [b'{"seq":%d,"kind":"' % seq for seq in seqs])):
        raise FormatError(f"the records do not count up from seq {first_seq}")
    return heads
