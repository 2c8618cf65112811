"""Look values up in what a line was parsed to, by path.

A path is names joined by dots; a number is the index of a list, and ``-1`` the last element; a name in quotes may hold dots.
Null and the empty text are *missing*, as what is not there is.

Invariants: a lookup never raises, whatever the line holds. Pure.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .place import Place

Root: TypeAlias = dict[str, Any]
"""What a line was parsed to, and the values named on the way."""

Getter: TypeAlias = "Callable[[Root], Any]"
"""Return a value, None if it is missing."""

ELEMENT: Final = "."
"""The name under which the element of a list is found while each of them is looked at."""

_LONGEST_PLANNED: Final = 3
MAX_NAME_CHARS: Final = 512
_SEGMENT: Final = re.compile(r'"(?P<quoted>[^"]+)"|(?P<plain>[^."{}|\s]+)')
_INDEX: Final = re.compile(r"-1|\d{1,4}")


def split_path(path: str, place: Place) -> tuple[str, ...]:
    """Split a path into names.

    Args:
        path: ``user.username``, ``annotations."a.b/c"``, ``items.0.name``; one that begins with a dot is of a list's element.
        place: Where it stands, for the message.

    Raises:
        ConfigError: It is no path.
    """
    names: list[str] = []
    position = 0
    if path.startswith("."):
        names.append(ELEMENT)
        if path == ".":
            return (ELEMENT,)
        position = 1
    while True:
        found = _SEGMENT.match(path, position)
        if found is None:
            raise place.error(f"{path!r} is no path", 'Names joined by dots; a name with dots or blanks in quotes: annotations."a.b/c".')
        names.append(found["quoted"] or found["plain"])
        position = found.end()
        if position == len(path):
            return tuple(names)
        if path[position] != ".":
            raise place.error(f"{path!r} is no path", "Names are joined by dots.")
        position += 1


class Plan(NamedTuple):
    """Say what a getter does, so that what is built of it need not call it: a call costs more than most of them do.

    Attributes:
        path: It looks this path up, of up to three names; empty if it does something else.
        constant: It always gives this value; None if it does not.
        choices: It gives the first of these that is there.
    """

    path: tuple[str, ...] = ()
    constant: Any = None
    choices: tuple[Getter, ...] = ()


UNKNOWN: Final = Plan()


def planned(get: Getter, plan: Plan) -> Getter:
    """Return a getter of which `plan_of` knows what it does."""
    get.__dict__["plan"] = plan
    return get


def plan_of(get: Getter) -> Plan:
    """Return what a getter does, as far as that is known."""
    plan = get.__dict__.get("plan", UNKNOWN)
    return plan if isinstance(plan, Plan) else UNKNOWN


def constant(value: Any) -> Getter:
    """Return the getter that always gives one value; None is never there."""
    return planned(lambda _: value, Plan(constant=value))


def getter(names: tuple[str, ...]) -> Getter:
    """Return the function that looks a path up."""
    if len(names) == 1:
        get = _one(*names)
    elif any(_INDEX.fullmatch(name) for name in names):
        return _general(names)
    else:
        get = _two(*names) if len(names) == 2 else _many(names)
    return planned(get, Plan(names)) if len(names) <= _LONGEST_PLANNED else get


def _one(name: str) -> Getter:
    def one(root: Root) -> Any:
        value = root.get(name)
        return None if value == "" else value

    return one


def _two(name: str, member: str) -> Getter:
    def two(root: Root) -> Any:
        value = root.get(name)
        if value.__class__ is not dict:
            return None
        value = value.get(member)
        return None if value == "" else value

    return two


def _many(names: tuple[str, ...]) -> Getter:
    *before, last = names

    def many(root: Root) -> Any:
        value: Any = root
        for name in before:
            value = value.get(name)
            if value.__class__ is not dict:
                return None
        value = value.get(last)
        return None if value == "" else value

    return many


def first_of(getters: Sequence[Getter]) -> Getter:
    """Return the function that gives the first value that is there."""
    choices: list[Getter] = []
    for get in getters:
        choices += plan_of(get).choices or (get,)
    plan = Plan(choices=tuple(choices))
    if len(choices) <= 1:
        return choices[0] if choices else constant(None)
    last = plan_of(choices[-1]).constant
    return planned(_first_of_any(_runs(choices if last is None else choices[:-1]), last), plan)


def _first_of_any(choices: Sequence[Getter], otherwise: Any) -> Getter:
    if len(choices) == 1 and otherwise is None:
        return choices[0]

    def first(root: Root) -> Any:
        for choice in choices:
            value = choice(root)
            if value is not None:
                return value
        return otherwise

    return first


def _runs(choices: Sequence[Getter]) -> list[Getter]:
    """Put paths that follow each other into one getter."""
    runs: list[Getter] = []
    for is_path, run in groupby(choices, key=lambda get: bool(plan_of(get).path)):
        together = list(run)
        runs += [_first_of_paths([plan_of(get).path for get in together])] if is_path and len(together) > 1 else together
    return runs


def _first_of_paths(paths: Sequence[tuple[str, ...]]) -> Getter:
    """Return the function for paths; those that follow each other in one object look it up once."""
    groups = [
        (before[0] if before else None, before[1] if len(before) > 1 else None, tuple(path[-1] for path in alike))
        for before, alike in groupby(paths, key=lambda path: path[:-1])
    ]

    def first(root: Root) -> Any:
        for name, middle, members in groups:
            inner: Any = root
            if name is not None:
                inner = root.get(name)
                if middle is not None and inner.__class__ is dict:
                    inner = inner.get(middle)
                if inner.__class__ is not dict:
                    continue
            if inner:
                for member in members:
                    value = inner.get(member)
                    if value is not None and value != "":
                        return value
        return None

    return first


def _general(names: tuple[str, ...]) -> Getter:
    steps = [(name, int(name) if _INDEX.fullmatch(name) else None) for name in names]

    def general(root: Root) -> Any:
        value: Any = root
        for name, index in steps:
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and index is not None and -1 <= index < len(value) and value:
                value = value[index]
            else:
                return None
        return None if value == "" else value

    return general


def as_text(value: object) -> str:
    """Return a value as text: text as it is, anything else as JSON."""
    if value.__class__ is str:
        return value
    return str(value) if value.__class__ is int else orjson.dumps(value).decode()
