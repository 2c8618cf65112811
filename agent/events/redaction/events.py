"""Redact one valid event: by its places, then by looks.

Invariants: what comes out is a valid event again, except for context that a rule drops; names in `Walk.names` hold no secret: keys
that were redacted stand there redacted, and keys that were dropped through a ``*`` stand there as ``*``; the work and the growth are
bounded. This module must not judge events.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..schema import MAX_EVENT_ID_CHARS, MAX_NAME_CHARS
from .rules import REDACTED
from .texts import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .rules import PathRule, PatternRule, Treatment

MAX_NAMES: Final = 64
MAX_NAME_PATH_CHARACTERS: Final = 200
MAX_GROWTH_BYTES: Final = 64 << 10
_LEFT_ALONE: Final = ("occurred_at", "outcome")
"""Fields of closed forms, which cannot hold a secret."""
_LARGEST_EXACT: Final = 1 << 63

_States = list[tuple["PathRule", int, bool]]
"""Rules whose path matches so far: the rule, how many of its segments, and whether one of them was matched by ``*``."""
_GONE: Final = object()


# What JSON, or another layer of spelling, may write otherwise than it stands in the text.
_OTHERWISE: Final = re.compile(r"[\"\\\x00-\x1f\x7f-\U0010ffff]|%[0-9a-fA-Fu]|&[#a-z]|[0-9a-fA-F]{12}")


class _TooLargeError(Exception):
    """An event would grow by more than `MAX_GROWTH_BYTES`."""


class Walk:
    """Walk through one event once."""

    def __init__(self, paths: Sequence[PathRule], patterns: Sequence[PatternRule]) -> None:
        """Take the rules."""
        self._paths, self._patterns = paths, patterns
        self._likely: Sequence[PatternRule] = patterns
        self._grown_bytes = 0
        self._names: list[str] = []
        self.values: list[tuple[str | bool, Treatment]] = []
        """Everything that a path rule took, as text (true and false as they are), for the original line."""
        self.looks: list[tuple[str, Treatment]] = []
        """Everything that a pattern found, for the original line."""
        self.lost = False
        """Whether something went of which the values are not known."""

    @property
    def names(self) -> tuple[str, ...]:
        """What was changed, in the order of the event; beyond `MAX_NAMES` of them, only the parts of the event they lie in."""
        names = dict.fromkeys(self._names)
        return tuple(names if len(names) <= MAX_NAMES else dict.fromkeys(map(_top, names)))

    def event(self, event: dict[str, Any], *, own_id: bool = False) -> bytes:
        """Return the redacted event.

        Args:
            event: The decoded event; it is changed. A name may be longer than the schema allows; then it may stay so.
            own_id: Whether its id is made of the line, so that what is found there is not from the line.
        """
        # What stands verbatim in an event cannot hold what no hint sees in the whole of it.
        verbatim = orjson.dumps(event) if self._patterns else b""
        self._likely = [rule for rule in self._patterns if rule.pattern.may_be_in(verbatim)]
        states: _States = [(rule, 0, False) for rule in self._paths]
        for name, value in event.items():
            if name in _LEFT_ALONE:
                continue
            limit = MAX_EVENT_ID_CHARS if name == "event_id" else MAX_NAME_CHARS
            named, looks = len(self._names), len(self.looks)
            try:
                event[name] = self._member(value, name, _next(states, name), limit)
            except _TooLargeError:
                # Thousands of tiny values, each of which grew into a pseudonym: more than a line may become.
                event[name] = {}
                self._names[named:] = [name]
                self._grown_bytes = 0
                self.lost = True
            if own_id and name == "event_id":
                del self.looks[looks:]
        return orjson.dumps(event)

    def _member(self, value: Any, path: str, states: _States, limit: int | None) -> Any:
        """Return what stands for a value; `_GONE` where its key goes too."""
        ended = next(((rule, starred) for rule, done, starred in states if done == len(rule.path)), None)
        if ended is not None and value is not None:
            return self._named(value, path, *ended)
        if isinstance(value, str):
            return self._text(value, path, limit)
        if isinstance(value, dict):
            return self._object(value, path, states, limit if path in {"actor", "target"} else None)
        if isinstance(value, list):
            return self._list(value, path, states)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._number(value, path)
        return value

    def _named(self, value: Any, path: str, rule: PathRule, starred: bool) -> Any:  # noqa: FBT001 -- as it stands in the states
        """Return what a path rule leaves of a value."""
        self._take(value, rule.treatment)
        if rule.treatment.action == "drop":
            self._name(".".join(rule.path) if starred else path)
            return _GONE
        self._name(path)
        treated = _treated(value, rule.treatment)
        self._grow(sum(map(len, filter(None, treated))) if isinstance(treated, list) else len(treated))
        return treated

    def _object(self, value: dict[str, Any], path: str, states: _States, limit: int | None) -> dict[str, Any]:
        made: dict[str, Any] = {}
        names = _Names(value)
        for key, member in value.items():
            shown = key if limit is not None else self._key(key)
            place = f"{path}.{shown}"
            if shown != key:
                self._name(place)
            kept = self._member(member, place, _next(states, key), limit)
            if kept is _GONE:
                continue
            made[key if shown == key else names.free(shown)] = kept
        return made

    def _list(self, value: list[Any], path: str, states: _States) -> list[Any]:
        made = []
        for index, member in enumerate(value):
            kept = self._member(member, f"{path}.{index}", _next(states, str(index)), None)
            if kept is not _GONE:
                made.append(kept)
        return made

    def _key(self, key: str) -> str:
        redacted = self._redact(key)
        return REDACTED if redacted is None else self._grown(key, redacted)

    def _text(self, value: str, path: str, limit: int | None) -> str:
        redacted = self._redact(value)
        if redacted is value:
            return value
        self._name(path)
        return REDACTED if redacted is None or (limit is not None and len(value) <= limit < len(redacted)) else self._grown(value, redacted)

    def _number(self, value: float, path: str) -> str | float:
        rules = self._likely if isinstance(value, int) else self._patterns
        if not rules:
            return value
        text = number_text(value)
        redacted = self._looked_through(text, rules)
        if redacted is text:
            return value
        self._name(path)
        return REDACTED if redacted is None else self._grown(text, redacted)

    def _redact(self, text: str) -> str | None:
        if not self._patterns:
            return text
        if _OTHERWISE.search(text) is not None:
            return self._looked_through(text, self._patterns)
        # Most texts have one layer and hold nothing.
        return self._looked_through(text, self._likely) if any(rule.pattern.find(text) for rule in self._likely) else text

    def _looked_through(self, text: str, rules: Sequence[PatternRule]) -> str | None:
        redacted = redact(text, rules, self.looks)
        self.lost = self.lost or redacted is None
        return redacted

    def _grown(self, before: str, after: str) -> str:
        """Return what stands for a text, once it is known that the event does not grow too large by it."""
        self._grow(len(after) - len(before))
        return after

    def _grow(self, size_bytes: int) -> None:
        self._grown_bytes += size_bytes
        if self._grown_bytes > MAX_GROWTH_BYTES:
            raise _TooLargeError

    def _take(self, value: Any, treatment: Treatment) -> None:
        """Remember every value below a place."""
        if isinstance(value, dict):
            for member in value.values():
                self._take(member, treatment)
        elif isinstance(value, list):
            for member in value:
                self._take(member, treatment)
        elif isinstance(value, (str, bool)):
            self.values.append((value, treatment))
        elif value is not None:
            self.values.append((number_text(value), treatment))

    def _name(self, path: str) -> None:
        while len(path) > MAX_NAME_PATH_CHARACTERS and "." in path:
            path = path.rpartition(".")[0]
        self._names.append(path)


def number_text(value: float) -> str:
    """Return a number as a person would write it: a whole one without point and exponent, however JSON spelled it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT:
        return str(int(value))
    return repr(value)


def _treated(value: Any, treatment: Treatment) -> Any:
    """Return what stands for a whole value; a hash of a list is a list of hashes, so that equal elements stay equal."""
    if treatment.action == "hash":
        if isinstance(value, list) and not any(isinstance(member, (dict, list)) for member in value):
            return [None if member is None else treatment.of(_as_text(member)) for member in value]
        return treatment.of(_as_text(value))
    return treatment.of(value if isinstance(value, str) else "")


def _as_text(value: Any) -> str:
    """Return a value as text: of what is none, its JSON with sorted keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number_text(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _next(states: _States, key: str) -> _States:
    """Return the rules that still match one step further down; keys are compared without case, as DuckDB and Go read them."""
    folded = key.casefold()
    return [
        (rule, done + 1, starred or rule.path[done] == "*")
        for rule, done, starred in states
        if done < len(rule.path) and rule.path[done] in {folded, "*"}
    ]


class _Names:
    """Finds a key that no other has, whatever its case: two secrets can leave the same name behind."""

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = members
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}

    def free(self, name: str) -> str:
        self._used = self._used or {key.casefold() for key in self._members}
        free = name
        while free.casefold() in self._used:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            free = f"{name} {self._numbers[name]}"
        self._used.add(free.casefold())
        return free


def _top(path: str) -> str:
    """Return the part of an event that a path lies in."""
    return path if path.startswith(("actor.", "target.")) else path.partition(".")[0]
