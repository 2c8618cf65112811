"""Read one line of JSON in the two ways the rest of the package needs: leniently to classify, strictly to judge.

The lenient reading answers "could *any* parser see this pair at the top level?"; the strict one answers "does *every*
parser see the same thing?". Both are built on the standard library's `json`, whose pairs hook shows duplicate keys.

Invariants: any bytes give an answer and never an exception; nesting is measured before a recursive parser sees the
line, so the answer depends on the line alone and not on the interpreter's stack; integers are never converted
before their length is known. This module must not know the event schema.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, TypeAlias

import msgspec
import orjson

from .verdict import Reason, Rejection, rejection

MAX_DEPTH: Final = 32
"""How deep objects and arrays may nest in a valid event; the event itself is level 1."""

MAX_INTEGER: Final = 2**53 - 1
"""Largest magnitude of an integer that every reader holds exactly (RFC 8259 section 6; RFC 7493 section 2.2)."""

CLASSIFY_DEPTH: Final = 200
"""Nesting beyond which even the lenient reading gives up; well below any interpreter's recursion limit."""

JSONValue: TypeAlias = "str | int | float | bool | dict[str, JSONValue] | list[JSONValue] | None"

_BOM: Final = b"\xef\xbb\xbf"
_MAX_INTEGER_CHARS: Final = len(str(-MAX_INTEGER))
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKET = re.compile(rb"[^\[\]{}]+")
_OPENING = frozenset(b"[{")

# What json.dumps of Python (beyond ASCII), json_encode of PHP (also the slash) and Go (<, > and &) escape by default.
_NEEDLESS_ESCAPE = re.compile(
    rb"\\(?:/|u(?:003[cCeE]|0026|(?!00[0-7])(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
    rb"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)


class _Pairs(list["tuple[str, object]"]):
    """Hold one object's members in the order, and the number, in which they were written."""


class _Misfit:
    """Stand in for a token that a strict reading refuses, until its path is known."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class _RefusedError(Exception):
    """Carry a rejection out of the recursive walk."""

    def __init__(self, found: Rejection) -> None:
        super().__init__(found.reason)
        self.found = found


_OUT_OF_RANGE: Final = _Misfit(Reason.NUMBER_OUT_OF_RANGE)
_NO_SUCH_TOKEN: Final = _Misfit(Reason.NOT_JSON)


def _integer(text: str) -> int | _Misfit:
    if len(text) > _MAX_INTEGER_CHARS:
        return _OUT_OF_RANGE
    value = int(text)
    return value if -MAX_INTEGER <= value <= MAX_INTEGER else _OUT_OF_RANGE


def _float(text: str) -> float | _Misfit:
    value = float(text)
    return value if math.isfinite(value) else _OUT_OF_RANGE


def _zero(_text: str) -> int:
    return 0


def _constant(_text: str) -> _Misfit:
    return _NO_SUCH_TOKEN


_strict = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=_integer, parse_float=_float, parse_constant=_constant)
_lenient = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=_zero, parse_float=_zero, strict=False)


def deeper_than(line: bytes, limit: int) -> bool:
    """Tell whether arrays and objects nest deeper than a limit, in linear time and without recursion.

    Args:
        line: Any bytes; brackets inside JSON strings do not count.
        limit: The deepest nesting allowed, 1 being a lone object.

    For text that is not JSON the answer holds for its longest valid beginning, which is as far as a parser gets.
    """
    if line.count(b"{") + line.count(b"[") <= limit:
        return False
    depth = 0
    for character in _NOT_BRACKET.sub(b"", _STRING.sub(b"", line)):
        depth += 1 if character in _OPENING else -1
        if depth > limit:
            return True
    return False


def top_level_pairs(line: bytes) -> list[tuple[str, object]] | None:
    """Read the members of the top-level object as leniently as a parser in the field might.

    Duplicate keys are all returned; NaN, huge numbers, control characters and lone surrogates are let through.

    Args:
        line: One line, any bytes.

    Returns:
        The pairs in order; an empty list where the line is JSON but no object; None where it cannot be decoded.
    """
    if deeper_than(line, CLASSIFY_DEPTH):
        return None
    try:
        value = _lenient.decode(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, _Pairs) else []


def read_strictly(line: bytes) -> JSONValue | Rejection:
    """Read one line as JSON that every conforming parser reads alike (in the spirit of RFC 7493, I-JSON).

    Refused: bytes that are not UTF-8 (RFC 3629), a byte order mark, anything but one JSON text (RFC 8259), nesting beyond
    `MAX_DEPTH`, keys that are equal or differ only by letter case (Go and DuckDB read those as one), integers beyond
    `MAX_INTEGER`, floats that overflow, NaN and Infinity, lone surrogates and the NUL character.

    Args:
        line: One line without its newline, any bytes.

    Returns:
        The value as plain Python data, or the rejection. (A rejection is never a JSON value, so the two cannot be confused.)
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return rejection(Reason.INVALID_UTF8)
    if line.startswith(_BOM):
        return rejection(Reason.NOT_JSON, "byte order mark")
    if deeper_than(line, MAX_DEPTH):
        return rejection(Reason.TOO_DEEP)
    try:
        value = _strict.decode(text)
    except (ValueError, RecursionError):
        return rejection(Reason.NOT_JSON)
    try:
        return _plain(value, "", escaped="\\u" in text)
    except _RefusedError as error:
        return error.found


def _plain(value: object, path: str, *, escaped: bool) -> JSONValue:
    """Turn pairs into dictionaries, refusing what readers disagree about; recursion is bounded by `MAX_DEPTH`."""
    if isinstance(value, str):
        if escaped and not _is_text(value):
            raise _RefusedError(rejection(Reason.INVALID_UNICODE, path))
        return value
    if isinstance(value, _Pairs):
        members: dict[str, JSONValue] = {}
        folded: set[str] = set()
        for key, member in value:
            place = f"{path}.{key}" if path else key
            if escaped and not _is_text(key):
                raise _RefusedError(rejection(Reason.INVALID_UNICODE, path))
            fold = key.casefold()
            if fold in folded:
                raise _RefusedError(rejection(Reason.DUPLICATE_KEY, place))
            folded.add(fold)
            members[key] = _plain(member, place, escaped=escaped)
        return members
    if isinstance(value, list):
        return [_plain(member, f"{path}[{index}]", escaped=escaped) for index, member in enumerate(value)]
    if isinstance(value, _Misfit):
        raise _RefusedError(rejection(value.reason, path))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    msg = f"json decoded to {type(value).__name__}"
    raise AssertionError(msg)


def _is_text(value: str) -> bool:
    """Tell whether a decoded string holds neither a lone surrogate nor the NUL character."""
    if "\x00" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def same_but_for_spelling(joined: bytes, written: bytes) -> bool:
    """Tell whether text and rewritten text differ in white space and needless escapes alone.

    Undoing an escape of a character that is neither quote, backslash nor control adds and removes no key and no value, so
    equal bytes still prove that nothing was swallowed. (Behind an escaped backslash it gives text unlike any rewritten one.)
    """
    if b"\\" in joined:
        joined = _NEEDLESS_ESCAPE.sub(_unescaped, joined)
    return written in {joined, msgspec.json.format(joined, indent=-1)}


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return str(orjson.loads(b'"' + escape[0] + b'"')).encode("utf-8")
