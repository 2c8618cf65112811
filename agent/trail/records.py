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
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_AT: Final = b'"at":['
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
    NOT_MAPPED = "not_mapped"
    """A mapping could make no event of the line; the detail names the mapping, its rule and what was missing."""


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


class Reworked(NamedTuple):
    """Be an event that is not, or not only, the service's own bytes: a mapping made it, or something was removed from it.

    Attributes:
        event: The event after mapping and redaction, a JSON object without newlines.
        mapping: ``<mapping>/<rule>`` that made it; empty if the service did.
        client: The dotted names of the fields that the service took from its client as they were.
        raw: The original line, where a mapping made the event; None where it had to be given up.
        redacted: The dotted names of what was removed or pseudonymised; ``raw`` among them if the original line is not the whole one.
        at: The byte offset and length of the original line in its source.
        member: An encoded member with a comma behind, to stand after the source.
    """

    event: bytes
    mapping: str = ""
    client: tuple[str, ...] = ()
    raw: bytes | None = None
    redacted: tuple[str, ...] = ()
    at: tuple[int, int] | None = None
    member: bytes = b""


def _names(name: str, names: tuple[str, ...]) -> bytes:
    """Return a member that lists names, with a comma before; nothing if there are none."""
    return b',"%b":%b' % (name.encode(), _encode(names)) if names else b""


@lru_cache(maxsize=1024)
def _client(names: tuple[str, ...]) -> bytes:
    """Return the member for what the client said; its names stand in mappings and come from no line."""
    return _names("client", names)


@lru_cache(maxsize=1024)
def _made_by(mapping: str) -> bytes:
    return b',"mapping":' + _text(mapping) if mapping else b""


def reworked_block(source: str, observed_at: str, events: Iterable[Reworked]) -> bytes:
    """Return the bodies of reworked events, each with a newline after it.

    Args:
        source: The source's id.
        observed_at: When the lines were read, RFC 3339 in UTC with microseconds.
        events: The events.

    Raises:
        FormatError: An event holds a newline, which would end its record.
    """
    head = b',"kind":"event","source":%b,' % _text(source)
    time = b'"observed_at":%b,"event":' % _text(observed_at)
    parts: list[bytes] = []
    for event, mapping, client, raw, redacted, at, member in events:
        if b"\n" in event:
            raise FormatError(_NEWLINE)
        original = b"" if raw is None else b"," + _exact("raw", raw)
        made, removed = _made_by(mapping) + _client(client), _names("redacted", redacted)
        parts += (head, member, _at(at), time, event, made, original, removed, b"}\n")
    return b"".join(parts)


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
    redacted: tuple[str, ...] = (),
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
        redacted: What was removed from it, if anything was.
    """
    head = _quarantine_head(source, observed_at, reason, at, member)
    return b'%b"detail":%b,%b%b}' % (head, _text(detail), _exact("raw", raw), _names("redacted", redacted))


def withheld_body(
    source: str,
    observed_at: str,
    reason: QuarantineReason,
    detail: str,
    length: int,
    digest: str | None,
    at: tuple[int, int] | None = None,
    *,
    member: bytes = b"",
) -> bytes:
    """Return the body that stands for a line which is no valid event, and in which what must be removed cannot be told from the rest.

    Args:
        source: The source's id.
        observed_at: When the line was read, RFC 3339 in UTC with microseconds.
        reason: Why it is not an event.
        detail: What exactly is wrong.
        length: The whole line's length in bytes.
        digest: Its HMAC-SHA-256 under the pseudonym key, in hex; None if there is no key.
        at: The byte offset and length of the line in its source.
        member: An encoded member with a comma behind, to stand after the source.
    """
    keyed = b"" if digest is None else b'"hmac_sha256":%b,' % _text(digest)
    head = _quarantine_head(source, observed_at, reason, at, member)
    return b'%b"detail":%b,"length":%d,%b"redacted":["raw"]}' % (head, _text(detail), length, keyed)


def oversize_body(
    source: str,
    observed_at: str,
    head: bytes,
    length: int,
    sha256_hex: str | None,
    at: tuple[int, int] | None = None,
    *,
    member: bytes = b"",
    redacted: tuple[str, ...] = (),
) -> bytes:
    """Return the body that stands for a line over the size limit: length, SHA-256 and first bytes.

    Args:
        source: The source's id.
        observed_at: When the line was read, RFC 3339 in UTC with microseconds.
        head: The line's first bytes. A character of UTF-8 cut in two at their end is left out.
        length: The whole line's length in bytes.
        sha256_hex: The SHA-256 of the whole line, in lower-case hex; None where it would let a guess be checked.
        at: The byte offset and length of the line in its source.
        member: An encoded member with a comma behind, to stand after the source.
        redacted: What was removed from it, if anything was.
    """
    try:
        shown = codecs.getincrementaldecoder("utf-8")().decode(head).encode()
    except UnicodeDecodeError:
        shown = head
    start = _quarantine_head(source, observed_at, QuarantineReason.TOO_LONG, at, member)
    hashed = b"" if sha256_hex is None else b'"sha256":%b,' % _text(sha256_hex)
    return b'%b"length":%d,%b%b%b}' % (start, length, hashed, _exact("head", shown), _names("redacted", redacted))


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
