"""Record lines: how events, quarantined lines and gaps are written, numbered and read.

A *line* is a leaf's exact bytes without the newline. A *body* is a line without its number: everything after the seq,
``,"kind":"event",…}``. Records wait in the spool as bodies and become lines at the cut, ``{"seq":<n>`` + body.

Invariants: a service's own event bytes are copied, never encoded again; a line never contains a newline; the keys stand
in the order of the trail format; the lists of reasons, causes and certainties are closed. Strings that are not Unicode
text (paths, details) are written with backslash escapes; original lines that are not UTF-8, or hold the character NUL
that databases refuse in text, are kept exact as base64. This module must not judge whether an event is valid.
"""

from __future__ import annotations

import base64
import codecs
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEQ: Final = b'{"seq":'
_AT: Final = b'"at":['
_MAX_SEQ_DIGITS: Final = 19
_NEWLINE: Final = "an event holds a newline and cannot be one record line"
_encode: Final = msgspec.json.Encoder().encode


class RecordKind(StrEnum):
    """The kinds of leaves that carry data."""

    EVENT = "event"
    QUARANTINE = "quarantine"
    GAP = "gap"


class QuarantineReason(StrEnum):
    """Why a candidate line is kept as it is and not as an event; the first that applies."""

    NOT_JSON = "not_json"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_UNICODE = "invalid_unicode"
    """A lone surrogate or the character NUL, which later readers refuse or change."""
    DUPLICATE_KEY = "duplicate_key"
    """Two keys of one object are equal, or differ in the case of ASCII letters only."""
    TOO_DEEP = "too_deep"
    TOO_LONG = "too_long"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    INVALID_VALUE = "invalid_value"
    NOT_UTC = "not_utc"
    MISSING_CONTEXT = "missing_context"
    """The catalog requires a context field for this action that the event does not have."""
    MULTI_LINE = "multi_line"
    """A message of several lines, from a source whose messages are not lines by themselves."""


class GapCause(StrEnum):
    """Why bytes of a source are not in the trail."""

    ROTATED_AWAY = "rotated_away"
    TRUNCATED = "truncated"
    ROLLED_BACK = "rolled_back"
    VANISHED = "vanished"
    SPOOL_FULL = "spool_full"
    STATE_LOST = "state_lost"
    WORKER_CRASHED = "worker_crashed"
    UNREADABLE = "unreadable"
    HOLE = "hole"


STATE_SOURCE: Final = "*"
"""Stands for the source in the gap record of a lost state, which speaks of every source; no configured id has this form."""


class Certainty(StrEnum):
    """How sure a gap is."""

    KNOWN = "known"
    """Exactly the bytes between the two offsets are lost."""
    POSSIBLE = "possible"
    """Bytes up to the second offset, or beyond the first where there is no second, may have existed."""
    UNBOUNDED = "unbounded"
    """Nothing is known about how much is lost."""


class Affixes(NamedTuple):
    """The constant parts of event bodies of one source at one time: ``prefix offset,length middle event suffix``.

    Without ``at`` the offset and the length are left out and ``middle`` is empty.
    """

    prefix: bytes
    middle: bytes
    suffix: bytes


def _text(value: str) -> bytes:
    """Encode a string as JSON; lone surrogates, as in undecodable paths, become backslash escapes."""
    return _encode(value.encode("utf-8", "backslashreplace").decode())


def _exact(name: str, raw: bytes) -> bytes:
    """Return the field ``"<name>":"…"``, or ``"<name>_base64":"…"`` for what cannot be text."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return b'"%b_base64":"%b"' % (name.encode(), base64.b64encode(raw))
    return b'"%b":%b' % (name.encode(), _encode(text))


def _at(at: tuple[int, int] | None) -> bytes:
    return b"" if at is None else b'"at":[%d,%d],' % at


def event_affixes(source: str, observed_at: str, *, with_at: bool = True) -> Affixes:
    """Return the constant parts of event bodies, for callers that format in bulk themselves.

    Args:
        source: The source's id.
        observed_at: When the block was read, RFC 3339 in UTC with microseconds.
        with_at: Whether the bodies carry an offset and a length.
    """
    head = b',"kind":"event","source":%b,' % _text(source)
    time = b'"observed_at":%b,"event":' % _text(observed_at)
    return Affixes(head + _AT, b"]," + time, b"}") if with_at else Affixes(head + time, b"", b"}")


def event_bodies(source: str, observed_at: str, events: Sequence[bytes], at: Sequence[tuple[int, int]] | None) -> list[bytes]:
    """Return one body for every event.

    Args:
        source: The source's id.
        observed_at: When the block was read, RFC 3339 in UTC with microseconds.
        events: The services' own lines, valid JSON objects without newlines.
        at: The byte offset and length of every line in its source; None where the source has no offsets.

    Raises:
        FormatError: An event holds a newline, which would end its record.
    """
    if any(b"\n" in event for event in events):
        raise FormatError(_NEWLINE)
    prefix, middle, suffix = event_affixes(source, observed_at, with_at=at is not None)
    if at is None:
        return [prefix + event + suffix for event in events]
    template = b"%b%%d,%%d%b%%b%b" % tuple(part.replace(b"%", b"%%") for part in (prefix, middle, suffix))
    return [template % (offset, length, event) for (offset, length), event in zip(at, events, strict=True)]


def event_block(
    source: str,
    observed_at: str,
    events: Sequence[bytes],
    at: Sequence[tuple[int, int]] | None,
    members: Sequence[bytes] | None = None,
) -> bytes:
    """Return the bodies of :func:`event_bodies`, each with a newline after it, as one block: what the spool keeps.

    `members` are encoded ones with a comma behind, one to stand after the source of every event; they need `at`.

    Raises:
        FormatError: An event holds a newline, which would end its record.
    """
    if not events:
        return b""
    prefix, middle, suffix = event_affixes(source, observed_at, with_at=at is not None)
    if at is None:
        block = b"".join((prefix, (suffix + b"\n" + prefix).join(events), suffix, b"\n"))
    elif members is not None:
        prefix = prefix.removesuffix(_AT).replace(b"%", b"%%") + b"%b" + _AT
        template = b"%b%%d,%%d%b%%b%b\n" % (prefix, *(part.replace(b"%", b"%%") for part in (middle, suffix)))
        placed = zip(members, at, events, strict=True)
        block = (template * len(events)) % tuple(chain.from_iterable((member, *where, event) for member, where, event in placed))
    else:
        template = b"%b%%d,%%d%b%%b%b\n" % tuple(part.replace(b"%", b"%%") for part in (prefix, middle, suffix))
        flat = chain.from_iterable((offset, length, event) for (offset, length), event in zip(at, events, strict=True))
        block = (template * len(events)) % tuple(flat)
    if block.count(b"\n") != len(events):
        raise FormatError(_NEWLINE)
    return block


def mapped_event_body(
    source: str,
    observed_at: str,
    event: bytes,
    *,
    raw: bytes | None = None,
    redacted: Sequence[str] = (),
    at: tuple[int, int] | None = None,
) -> bytes:
    """Return the body of an event that is not the service's own bytes any more.

    Args:
        source: The source's id.
        observed_at: When the line was read, RFC 3339 in UTC with microseconds.
        event: The event after mapping and redaction, a JSON object without newlines.
        raw: The original line, where a mapping made the event and nothing had to be removed from it.
        redacted: The dotted names of the fields that were removed or pseudonymised.
        at: The byte offset and length of the original line in its source.

    Raises:
        FormatError: The event holds a newline, which would end its record.
    """
    if b"\n" in event:
        raise FormatError(_NEWLINE)
    head = b',"kind":"event","source":%b,%b"observed_at":%b,"event":' % (_text(source), _at(at), _text(observed_at))
    original = b"" if raw is None else b"," + _exact("raw", raw)
    return head + event + original + (b',"redacted":%b' % _encode(list(redacted)) if redacted else b"") + b"}"


def _quarantine_head(source: str, observed_at: str, reason: QuarantineReason, at: tuple[int, int] | None, member: bytes) -> bytes:
    return b',"kind":"quarantine","source":%b,%b%b"observed_at":%b,"reason":"%b",' % (
        _text(source),
        member,
        _at(at),
        _text(observed_at),
        reason.value.encode(),
    )


def quarantine_body(
    source: str,
    observed_at: str,
    reason: QuarantineReason,
    detail: str,
    raw: bytes,
    at: tuple[int, int] | None = None,
    *,
    member: bytes = b"",
) -> bytes:
    """Return the body that keeps a line which is no valid event.

    Args:
        source: The source's id.
        observed_at: When the line was read, RFC 3339 in UTC with microseconds.
        reason: Why it is not an event.
        detail: What exactly is wrong, for example the dotted name of the field.
        raw: The whole line, any bytes.
        at: The byte offset and length of the line in its source.
        member: An encoded member with a comma behind, to stand after the source.
    """
    return b'%b"detail":%b,%b}' % (_quarantine_head(source, observed_at, reason, at, member), _text(detail), _exact("raw", raw))


def oversize_body(
    source: str, observed_at: str, head: bytes, length: int, sha256_hex: str, at: tuple[int, int] | None = None, *, member: bytes = b""
) -> bytes:
    """Return the body that stands for a line over the size limit: length, SHA-256 and first bytes.

    Args:
        source: The source's id.
        observed_at: When the line was read, RFC 3339 in UTC with microseconds.
        head: The line's first bytes. A character of UTF-8 cut in two at their end is left out.
        length: The whole line's length in bytes.
        sha256_hex: The SHA-256 of the whole line, in lower-case hex.
        at: The byte offset and length of the line in its source.
        member: An encoded member with a comma behind, to stand after the source.
    """
    try:
        shown = codecs.getincrementaldecoder("utf-8")().decode(head).encode()
    except UnicodeDecodeError:
        shown = head
    start = _quarantine_head(source, observed_at, QuarantineReason.TOO_LONG, at, member)
    return b'%b"length":%d,"sha256":%b,%b}' % (start, length, _text(sha256_hex), _exact("head", shown))


def gap_body(  # noqa: PLR0913, PLR0917 -- one argument for every field of the line
    source: str,
    observed_at: str,
    cause: GapCause,
    certainty: Certainty,
    from_offset: int | None,
    to_offset: int | None,
    detail: str,
    file_id: str | None = None,
    path: str | None = None,
) -> bytes:
    """Return the body that states a loss.

    Args:
        source: The source's id.
        observed_at: When the loss was found, RFC 3339 in UTC with microseconds.
        cause: What destroyed the bytes, or kept them out.
        certainty: How sure it is that there were bytes.
        from_offset: The first byte that is missing; None where it is not known.
        to_offset: The byte after the last that is missing; None where it is not known.
        detail: One sentence for a person.
        file_id: The file's ULID, where the source is a file.
        path: The file's path, where the source is a file.
    """
    body = b',"kind":"gap","source":%b,"observed_at":%b,"cause":"%b","certainty":"%b","from_offset":%b,"to_offset":%b,"detail":%b' % (
        _text(source),
        _text(observed_at),
        cause.value.encode(),
        certainty.value.encode(),
        _encode(from_offset),
        _encode(to_offset),
        _text(detail),
    )
    if file_id is not None:
        body += b',"file_id":' + _text(file_id)
    if path is not None:
        body += b',"path":' + _text(path)
    return body + b"}"


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
