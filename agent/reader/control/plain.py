"""A report as plain data, for JSON.

Invariants: everything that the other formats show is in it; a key is there whatever its value; no text is anything but Unicode. This
module must not decide what is shown.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import Enum
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Final

from ...events.catalog import Entry
from ..ask.filters import Filter
from ..ask.found import zulu
from ..ask.stated import Statement
from .report import NO_CLAIM
from .tally import Seen

if TYPE_CHECKING:
    from .report import Report

FORMAT: Final = 1
_ENTRY_KEYS: Final = ("action", "category", "sensitivity", "privileged", "required_context", "description")


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as plain data; docs/report.md describes it."""
    made: dict[str, Any] = _fields(report)
    statement = made["table"].pop("statement")
    return {"format": FORMAT, "claim": NO_CLAIM, **made, "statement": statement}


def as_plain(value: object) -> dict[str, Any]:
    """Return a dataclass of this package as plain data."""
    return _fields(value)


@singledispatch
def _plain(value: object) -> object:
    return _fields(value) if dataclasses.is_dataclass(value) else value


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}


@_plain.register
def _(value: Statement) -> object:
    return value.as_json()


@_plain.register
def _(value: Filter) -> object:
    return {name: each for name, each in _fields(value).items() if each}


@_plain.register
def _(value: Entry) -> object:
    return {name: _plain(getattr(value, name)) for name in _ENTRY_KEYS}


@_plain.register
def _(value: Seen) -> object:
    return {**_fields(value), **{name: _plain(dict(getattr(value, name))) for name in ("outcomes", "services", "actions")}}


@_plain.register
def _(value: datetime) -> object:
    return zulu(value)


@_plain.register
def _(value: Enum) -> object:
    return value.value


@_plain.register
def _(value: str) -> object:
    # A file's name need not be Unicode, and JSON can hold nothing else.
    return value.value if isinstance(value, Enum) else value.encode("utf-8", "backslashreplace").decode()


@_plain.register(dict)
def _(value: Any) -> object:
    return {str(_plain(str(key))): _plain(each) for key, each in value.items()}


@_plain.register(tuple)
@_plain.register(list)
def _(value: Any) -> object:
    return [_plain(each) for each in value]
