"""Read a line of JSON that somebody else's software wrote.

What a mapping takes from it must be what every parser would see there: a line with equal keys in one object is refused, as are bytes
that are not UTF-8 and nesting without end. Unlike an event of our own schema it may hold large numbers and keys that differ by case.

Invariants: any bytes give a value or a rejection, never an exception. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from ..reading import CLASSIFY_DEPTH, deeper_than, same_but_for_spelling
from ..verdict import Reason, Rejection, rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOM: Final = b"\xef\xbb\xbf"


class _DuplicateError(Exception):
    """Carry a key that stands twice in one object."""


def read_document(line: bytes) -> dict[str, Any] | Rejection:
    """Return the object that a line holds.

    Args:
        line: One line without its newline, any bytes.
    """
    if line.startswith(_BOM):
        return rejection(Reason.NOT_JSON, "byte order mark")
    try:
        value = orjson.loads(line)
        written = orjson.dumps(value)
    except (ValueError, TypeError, RecursionError):
        return _why_not(line)
    if not isinstance(value, dict):
        return rejection(Reason.NOT_AN_OBJECT)
    # Written anew it is the same, so no key was swallowed as a duplicate.
    return value if written == line or _is_same(line, written) else _read_slowly(line, value)


def _is_same(line: bytes, written: bytes) -> bool:
    try:
        return same_but_for_spelling(line, written)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return False


def _why_not(line: bytes) -> Rejection:
    try:
        line.decode()
    except UnicodeDecodeError:
        return rejection(Reason.INVALID_UTF8)
    return rejection(Reason.TOO_DEEP if deeper_than(line, CLASSIFY_DEPTH) else Reason.NOT_JSON)


def _read_slowly(line: bytes, value: dict[str, Any]) -> dict[str, Any] | Rejection:
    if deeper_than(line, CLASSIFY_DEPTH):
        return rejection(Reason.TOO_DEEP)
    try:
        json.loads(line, object_pairs_hook=_once, parse_int=_nothing, parse_float=_nothing)
    except _DuplicateError as error:
        return rejection(Reason.DUPLICATE_KEY, str(error))
    except (ValueError, RecursionError):
        return rejection(Reason.NOT_JSON)
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateError(key)
        seen.add(key)


def _nothing(_: str) -> int:
    return 0
