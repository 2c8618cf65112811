"""What an address says: filters, places and numbers, read strictly.

Invariants: what cannot be read is refused with a sentence that names the field and nothing of the index; an empty field is as if it were
not there. This module must not ask an index.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError
from ..ask.filters import Filter
from .problems import Malformed

if TYPE_CHECKING:
    from multidict import MultiMapping

MANY: Final = ("actor", "action", "target", "outcome", "service", "category")
ONE: Final = ("text", "since", "until")
_MAX_VALUES: Final = 20
MAX_CHARACTERS: Final = 1024
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?Z?")
_LITERAL: Final = re.compile(r"[*?\[]|\A\s|(?<=\s)\s|\s\Z")


def texts(given: MultiMapping[str], name: str) -> tuple[str, ...]:
    """Return the values of a field, without empty ones.

    Raises:
        Malformed: There are too many, or one is too long or no text.
    """
    values = tuple(dict.fromkeys(value.strip() for value in given.getall(name, []) if value.strip()))
    if len(values) > _MAX_VALUES or any(len(value) > MAX_CHARACTERS for value in values):
        raise Malformed(f"Too many or too long values for {name}.")
    if not all(map(_is_text, values)):
        raise Malformed(f"A value for {name} is not text.")
    return values


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(given: MultiMapping[str], name: str) -> str | None:
    """Return the one value of a field; None without one.

    Raises:
        Malformed: There are several, or it is too long or no text.
    """
    values = texts(given, name)
    if len(values) > 1:
        raise Malformed(f"Give one value for {name}.")
    return values[0] if values else None


def moment(given: MultiMapping[str], name: str) -> datetime | None:
    """Return a time: a day or a moment, in UTC.

    Raises:
        Malformed: It is no such time.
    """
    value = text(given, name)
    if value is None:
        return None
    if not _TIME.fullmatch(value):
        raise Malformed(f"Write {name} as 2026-03-01 or 2026-03-01T14:30, in UTC.")
    try:
        return datetime.fromisoformat(value.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        raise Malformed(f"There is no such day or time: {name}.") from None


def whole(given: MultiMapping[str], name: str, *, most: int, default: int) -> int:
    """Return a number from 0 to a bound.

    Raises:
        Malformed: It is none.
    """
    value = text(given, name)
    if value is None:
        return default
    if not value.isascii() or not value.isdigit() or len(value) > 19 or int(value) > most:
        raise Malformed(f"{name} must be a whole number from 0 to {most}.")
    return int(value)


def read_filter(given: MultiMapping[str]) -> Filter:
    """Return what is asked for.

    Raises:
        Malformed: A field cannot be read.
    """
    try:
        return Filter(
            **{name: texts(given, name) for name in MANY},
            text=text(given, "text"),
            since=moment(given, "since"),
            until=moment(given, "until"),
        )
    except ConfigError as error:
        # Its sentence is about what was written, not about what there is.
        raise Malformed(f"{error.message}. {error.hint}") from error


def pairs(asked: Filter) -> list[tuple[str, str]]:
    """Return a filter as the fields of an address; the same filter always makes the same."""
    made = [(name, value) for name in MANY for value in getattr(asked, name)]
    made += [("text", asked.text)] if asked.text else []
    made += [(name, written(value)) for name in ("since", "until") if (value := getattr(asked, name)) is not None]
    return made


def written(time: datetime) -> str:
    """Return a time as a field holds it."""
    plain = time.astimezone(UTC).replace(tzinfo=None)
    if plain.hour or plain.minute or plain.second or plain.microsecond:
        return plain.isoformat(timespec="auto" if plain.microsecond or plain.second else "minutes")
    return plain.date().isoformat()


def exactly(value: str) -> str:
    """Return the pattern that matches this text alone; spaces at its ends survive being read as a field."""
    return _LITERAL.sub(lambda found: f"[{found[0]}]", value)
