"""Redact an original line: one that a mapping read, or that is quarantined.

Patterns are looked for in the line as a text, in all layers of its spelling, and so is everything that they found in the event that was
made of it: if that is not found, the line is given up. A path says nothing about a line by itself, so a line is
kept in spite of path rules only if it is JSON, and then without

- what stands under the names of the rule: anything at or below a key with the path's last name (of ``actor.id`` and ``target.id``: anything
  at or below ``actor`` and ``target``, but its ``type``), and a plain value where the path expects something to go on;
- each value that the rule took out of the event that was made of the line, wherever its text stands, in any case and any spelling. If it
  is not found, the mapping has changed it, and nobody can say where in the line it came from: the line is given up.

Anything else is given up. A key is compared without case. More goes than the rules name (that is the price), rather than less.

Invariants: linear in the line, and bounded in depth; what is given up is said. This module must not know how lines are recorded.
"""

from __future__ import annotations

import dataclasses
import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import orjson

from .texts import redact, searchable, seek
from .unfold import innermost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .rules import PathRule, PatternRule, Treatment
    from .spans import Span
    from .texts import Seeker

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 200
MIN_DIGITS: Final = 4
MAX_DIGITS: Final = 40
_SHORT_CHARACTERS: Final = 4
"""A shorter value is removed only where it stands as a word; as part of words it is everywhere."""

_TOKEN: Final = re.compile(
    r'[ \t\r\n\f\v]*(?:(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")|(?P<mark>[{}\[\]:,])|(?P<word>[^\s{}\[\]:,"]+))', re.DOTALL
)
_EXPONENT: Final = re.compile(r"(?<![\w.])([0-9]+)(?:\.([0-9]+)(?:[eE]\+?([0-9]{1,3}))?|[eE]\+?([0-9]{1,3}))(?![\w.])")


@dataclass(frozen=True, slots=True)
class _Literal:
    """Looks for the text of a value."""

    expression: re.Pattern[str]
    treatment: Treatment
    value: str

    @classmethod
    def of(cls, value: str, treatment: Treatment) -> _Literal:
        spellings = "|".join(map(_whatever_backslashes, sorted(filter(None, {value, innermost(value)}), key=len, reverse=True)))
        # What cannot be seen is nothing to look for; `(?!)` never matches.
        expression = f"(?:{spellings})" if spellings else "(?!)"
        if len(value) < _SHORT_CHARACTERS:
            expression = rf"(?<!\w){expression}(?!\w)"
        return cls(re.compile(expression, re.IGNORECASE), treatment, value)

    def find(self, text: str) -> list[Span]:
        return [found.span() for found in self.expression.finditer(text)]


def _whatever_backslashes(value: str) -> str:
    r"""Return an expression for a value of which a backslash may have been taken for a part of an escape."""
    parts = re.split(r"\\+", value)
    return r"\\*".join(map(re.escape, parts)) if any(parts) else r"\\+"


@dataclass(frozen=True, slots=True)
class _Places:
    """Looks at what was found beforehand, in the text as it stands."""

    text: str
    spans: list[Span]
    treatment: Treatment

    @property
    def value(self) -> None:
        return None

    def find(self, text: str) -> list[Span]:
        return self.spans if text == self.text else []


def redact_original(
    text: str,
    paths: Sequence[PathRule],
    seekers: Sequence[Seeker],
    values: Sequence[tuple[str | bool, Treatment]] = (),
) -> str | None:
    """Return the line without what the rules name.

    Args:
        text: The line; lone surrogates stand for bytes that are not UTF-8.
        paths: The source's path rules.
        seekers: The source's patterns, and what `known` returned.
        values: What the path rules took out of the event that was made of this line; empty where none was.

    Returns:
        The line; the same object where nothing applied; None where it has to be given up.
    """
    if not paths:
        return _redact(text, seekers)
    names = _Names.of(paths)
    reader = _Reader(text, names)
    if not (_is_json_without(text, names) or reader.read()):
        return None
    named = reader.found
    literals = _literals(text, named + reader.hidden, values)
    if literals is None:
        return None
    seekers = [*literals, *seekers]
    if not named:
        return _redact(text, seekers)
    made: list[str] = []
    place = 0
    for one in named:
        kept = _redact(text[place : one.start], seekers)
        if kept is None:
            return None
        made += (kept, json.dumps(one.treatment.of(one.value or "")))
        place = one.end
    kept = _redact(text[place:], seekers)
    return None if kept is None else "".join((*made, kept))


def known(text: str, patterns: Sequence[PatternRule], looks: Sequence[tuple[str, Treatment]]) -> Sequence[Seeker] | None:
    """Return what looks for everything that patterns found in the event; None if some of it is not found in the line.

    The mapping joined or decoded it then, and nobody can say where in the line it stands.

    Args:
        text: The line.
        patterns: The source's patterns.
        looks: What they found in the event that was made of it.
    """
    wanted = {value.casefold(): _Literal.of(value, treatment) for value, treatment in reversed(looks) if value.strip()}
    if not wanted:
        return []
    if len(wanted) > MAX_VALUES:
        return None
    literals = list(wanted.values())
    seekers: list[Seeker] = [*literals, *patterns]
    hits = seek(text, seekers)
    if hits is None:
        return None
    written = "\n".join(digits for _, digits in _spelled_numbers(text))
    seen = {hit.value.casefold() for hit in hits} | {written[start:end] for one in literals for start, end in one.find(written)}
    return literals if wanted.keys() <= seen else None


def _redact(text: str, seekers: Sequence[Seeker]) -> str | None:
    """Redact a text, and the numbers in it that are written with an exponent or an empty fraction."""
    numbers = _spelled_numbers(text)
    if not numbers:
        return redact(text, seekers)
    # Each on a line of its own, so that one look finds all.
    written = "\n".join(digits for _, digits in numbers)
    starts = list(accumulate((len(digits) + 1 for _, digits in numbers), initial=0))
    spelled = []
    for seeker in seekers:
        spans = [numbers[bisect_right(starts, start) - 1][0] for start, _ in seeker.find(written)]
        if spans:
            spelled.append(_Places(searchable(text), spans, dataclasses.replace(seeker.treatment, keep_last=0)))
    return redact(text, [*seekers, *spelled])


def _spelled_numbers(text: str) -> list[tuple[Span, str]]:
    """Find whole numbers such as 4.111111111111111e15, and what a reader of JSON takes them for."""
    found: list[tuple[Span, str]] = []
    for number in _EXPONENT.finditer(text):
        whole, fraction, exponent = number[1], number[2] or "", int(number[3] or number[4] or "0")
        length = len(whole) + exponent
        digits = (whole + fraction).ljust(length, "0")
        if MIN_DIGITS <= length <= MAX_DIGITS and not digits[length:].strip("0"):
            found.append((number.span(), digits[:length].lstrip("0")))
    return found


@dataclass(frozen=True, slots=True)
class _Named:
    """A value that stands under a name of a rule."""

    start: int
    end: int
    value: str | None
    """None for lists, objects, true, false and null."""
    treatment: Treatment


def _literals(text: str, named: list[_Named], values: Sequence[tuple[str | bool, Treatment]]) -> list[_Literal] | None:
    """Return what looks for every value that goes; None if one that must stand in the text does not."""
    wanted = {value: treatment for value, treatment in reversed(values) if isinstance(value, str) and value}
    if any(isinstance(value, bool) and not any(one.treatment == treatment for one in named) for value, treatment in values):
        return None
    under_names = {one.value: one.treatment for one in reversed(named) if one.value}
    if len(wanted.keys() | under_names.keys()) > MAX_VALUES:
        return None
    literals = {value: _Literal.of(value, treatment) for value, treatment in (under_names | wanted).items()}
    return list(literals.values()) if all(seek(text, [literals[value]]) for value in wanted) else None


@dataclass(frozen=True, slots=True)
class _Names:
    """The keys under which a rule's values stand in a line."""

    below: dict[str, Treatment]
    """Anything at or below these goes."""
    parties: dict[str, Treatment]
    """Each value at or below these goes, but the type."""
    plain: dict[str, Treatment]
    """A plain value at these goes: the rule expects it further down."""

    @classmethod
    def of(cls, paths: Sequence[PathRule]) -> _Names:
        names = cls({}, {}, {})
        for rule in paths:
            if rule.path[-1] == "id" and rule.path[0] != "context":
                names.parties.setdefault(rule.path[0], rule.treatment)
            else:
                names.below.setdefault(rule.last_name, rule.treatment)
            for name in rule.path[:-1]:
                names.plain.setdefault(name, rule.treatment)
        names.plain.pop("*", None)
        return names


@dataclass(slots=True)
class _Open:
    """A list or an object that is being read."""

    mark: str
    start: int
    key: str
    party: Treatment | None
    whole: Treatment | None


def _is_json_without(text: str, names: _Names) -> bool:
    """Tell, quickly, that a text is JSON and none of the names stands in it as a key or a value; false is no answer."""
    if not text.isascii() or "\\" in text:
        return False
    lower = text.lower()
    if any(f'"{name}"' in lower for group in (names.below, names.parties, names.plain) for name in group):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


class _Reader:
    """Reads one JSON text, and keeps what stands under the names of the rules: where, and the values.

    It is as lenient as a parser in the field might be: duplicate keys, any numbers and control characters are let through.

    Attributes:
        found: What is to be replaced, in the order of the text.
        hidden: The values inside of lists and objects that are replaced as a whole.
    """

    def __init__(self, text: str, names: _Names) -> None:
        self.found: list[_Named] = []
        self.hidden: list[_Named] = []
        self._text, self._names = text, names
        self._open: list[_Open] = []
        self._key = ""

    def read(self) -> bool:
        """Read it all; false if it is no JSON text."""
        expected = "value"
        place = 0
        end = len(self._text.rstrip(" \t\r\n\f\v"))
        try:
            while place < end:
                token = _TOKEN.match(self._text, place)
                if token is None:
                    return False
                expected = self._take(token, expected)
                if not expected:
                    return False
                place = token.end()
        except ValueError:
            return False
        return expected == "end"

    def _take(self, token: re.Match[str], expected: str) -> str:
        """Take one token, and return what may come next; nothing if it may not stand here."""
        if token.lastgroup == "mark":
            return self._mark(token["mark"], token, expected)
        if expected in {"value", "value or ]"}:
            self._scalar(token)
            return self._after()
        if expected in {"key", "key or }"} and token.lastgroup == "string":
            self._key = _decoded(token["string"]).casefold()
            return "colon"
        return ""

    def _mark(self, mark: str, token: re.Match[str], expected: str) -> str:
        inside = self._open[-1].mark if self._open else ""
        if mark in "{[" and expected in {"value", "value or ]"}:
            return self._begin(mark, token.start("mark"))
        if (mark == "}" and inside == "{" and expected in {"key or }", "comma"}) or (
            mark == "]" and inside == "[" and expected in {"value or ]", "comma"}
        ):
            return self._end(token.end())
        if mark == "," and expected == "comma":
            self._key = self._open[-1].key if inside == "[" else ""
            return "key" if inside == "{" else "value"
        return "value" if mark == ":" and expected == "colon" else ""

    def _after(self) -> str:
        return "comma" if self._open else "end"

    def _party(self) -> Treatment | None:
        return self._names.parties.get(self._key) or (self._open[-1].party if self._open else None)

    def _begin(self, mark: str, start: int) -> str:
        if len(self._open) >= MAX_DEPTH:
            return ""
        hidden = bool(self._open) and self._open[-1].whole is not None
        whole = self._open[-1].whole if hidden else self._names.below.get(self._key)
        self._open.append(_Open(mark, -1 if hidden else start, self._key, self._party(), whole))
        return "key or }" if mark == "{" else "value or ]"

    def _end(self, end: int) -> str:
        closed = self._open.pop()
        if closed.whole is not None and closed.start >= 0:
            self.found.append(_Named(closed.start, end, None, closed.whole))
        return self._after()

    def _scalar(self, token: re.Match[str]) -> None:
        whole = self._open[-1].whole if self._open else None
        party = self._party() if self._key != "type" else None
        treatment = whole or self._names.below.get(self._key) or party or self._names.plain.get(self._key)
        raw = token[token.lastgroup or ""]
        if treatment is not None and raw != "null":
            value = _decoded(raw) if token.lastgroup == "string" else None if raw in {"true", "false"} else raw
            found = _Named(token.start(token.lastgroup or ""), token.end(), value, treatment)
            (self.found if whole is None else self.hidden).append(found)


def _decoded(string: str) -> str:
    """Decode a JSON string (ValueError if it is none)."""
    if "\\" not in string:
        return string[1:-1]
    value = json.loads(string, strict=False)
    assert isinstance(value, str)  # noqa: S101 -- a text in quotes is nothing else
    return value
