"""Put several catalogs together, and say which entry won over which.

An action's name decides: two entries belong together when their names are the same text. What names mean (an exact one before a
beginning, a longer beginning before a shorter one) is `Catalog.entry`'s affair, after the merging.

Invariants: a file's own entry wins over included ones; of a list, a later catalog wins over an earlier one; two included entries
that differ are a conflict unless the including file has its own entry; entries that say the same are neither. What lost is kept, so
that it can be shown. This module must not open files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .catalog import Entry


class Place(NamedTuple):
    """Name where an entry stands.

    Attributes:
        file: The file's path.
        line: Counted from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        """Return it as editors understand it, ``file:line``."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Placed:
    """Hold an entry and where it stands."""

    entry: Entry
    place: Place


@dataclass(frozen=True, slots=True)
class Shadowed:
    """Say that an entry is not in force, since another one of the same name is.

    Attributes:
        loser: The entry that is not in force.
        winner: The one that took its place; it says something else.
    """

    loser: Placed
    winner: Placed


@dataclass(frozen=True, slots=True)
class Conflict:
    """Say that two included files disagree about one action, and that the including file does not decide.

    Attributes:
        first: The entry of the file included first.
        second: The other one.
    """

    first: Placed
    second: Placed


@dataclass(frozen=True, slots=True)
class Merged:
    """Hold what one or several catalog files say together.

    Attributes:
        placed: The entries in force, each name once.
        shadowed: Entries that others replaced.
    """

    placed: tuple[Placed, ...] = ()
    shadowed: tuple[Shadowed, ...] = ()

    def catalog(self) -> Catalog:
        """Return the catalog of the entries in force."""
        return Catalog(tuple(placed.entry for placed in self.placed))


def say_the_same(one: Entry, other: Entry) -> bool:
    """Tell whether two entries of one name mean the same; the order of the required context means nothing."""
    return _meaning(one) == _meaning(other)


def merge_included(own: Sequence[Placed], included: Sequence[Merged]) -> tuple[Merged, tuple[Conflict, ...]]:
    """Put a file's own entries before those of the files it includes.

    Args:
        own: The file's own entries; each name once.
        included: What the included files say, in their order.

    Returns:
        The whole, in which of two entries in conflict the first stands; and the conflicts.
    """
    chosen = {placed.entry.action: placed for placed in own}
    decided = frozenset(chosen)
    shadowed: dict[Shadowed, None] = {}
    conflicts: list[Conflict] = []
    for merged in included:
        shadowed.update(dict.fromkeys(merged.shadowed))
        for placed in merged.placed:
            standing = chosen.setdefault(placed.entry.action, placed)
            if say_the_same(standing.entry, placed.entry):
                continue
            if placed.entry.action in decided:
                shadowed[Shadowed(placed, standing)] = None
            else:
                conflicts.append(Conflict(standing, placed))
    return Merged(tuple(chosen.values()), tuple(shadowed)), tuple(conflicts)


def merge_listed(catalogs: Sequence[Merged]) -> Merged:
    """Put catalogs of a list together; a later one wins."""
    chosen: dict[str, Placed] = {}
    shadowed: dict[Shadowed, None] = {}
    for merged in catalogs:
        shadowed.update(dict.fromkeys(merged.shadowed))
        for placed in merged.placed:
            standing = chosen.setdefault(placed.entry.action, placed)
            if not say_the_same(standing.entry, placed.entry):
                shadowed[Shadowed(standing, placed)] = None
                chosen[placed.entry.action] = placed
    return Merged(tuple(chosen.values()), tuple(shadowed))


def _meaning(entry: Entry) -> tuple[object, ...]:
    return (entry.category, entry.sensitivity, entry.privileged, frozenset(entry.required_context), entry.description)
