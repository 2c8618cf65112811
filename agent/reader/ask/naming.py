"""Names that have to differ from each other: of columns, of folders.

Invariants: names that differ in case only are the same, as they are to a database and to some file systems; the time it takes grows with
the number of names and not faster. This module is pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Names:
    """Hands out names, each once: one that comes again gets a number behind it."""

    def __init__(self, joint: str = "_") -> None:
        """Begin with none taken.

        Args:
            joint: What stands between a name and its number.
        """
        self._joint = joint
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Return the name, or, where it is taken, the name with the first number that makes it another."""
        folded, made = name.casefold(), name
        number = self._next.get(folded, 2)
        while made.casefold() in self._taken:
            made, number = f"{name}{self._joint}{number}", number + 1
        self._next[folded] = number
        self._taken.add(made.casefold())
        return made


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in their order, those that come again with a number."""
    taken = Names()
    return tuple(taken.take(name) for name in names)
