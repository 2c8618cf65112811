"""Know which named values of a mapping (``let``) are computed for which lines.

Invariants: a value is computed after those it is made of, and before whatever uses it. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from .expressions import Compiler
    from .place import Place
    from .values import Getter

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class NamedValues:
    """Know which named values are computed for every line, and which only where a rule that uses them holds.

    A name is taken for used wherever it stands, in whatever text: too often does no harm.

    Attributes:
        names: All of them.
        first: What is computed before any rule is tried.
    """

    def __init__(self, members: dict[str, object], place: Place, compiler: Compiler) -> None:
        """Compile them, and look who uses what.

        Args:
            members: The mapping.
            place: Where its ``let`` stands.
            compiler: Compiles their expressions.

        Raises:
            ConfigError: One is wrong.
        """
        named = self._named = _compile_all(members.get("let", {}), place, compiler)
        self.names = tuple(name for name, _ in named)
        let = members.get("let")
        given = let if isinstance(let, dict) else {}
        self._inside = {name: self._directly([value]) for name, value in given.items()}
        rules = members.get("rules")
        whens = [rule.get("when") for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
        self._first = self._used([members.get("pass"), *whens])
        self._common = members.get("event")
        self.first = self._chosen(self._first)

    def of_rule(self, rule: object) -> tuple[tuple[str, Getter], ...]:
        """Return what is computed only once a rule holds."""
        return self._chosen(self._used([rule, self._common]) - self._first)

    def _chosen(self, names: AbstractSet[str]) -> tuple[tuple[str, Getter], ...]:
        return tuple((name, get) for name, get in self._named if name in names)

    def _directly(self, data: object) -> set[str]:
        text = repr(data)
        return {name for name, _ in self._named if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)}

    def _used(self, data: object) -> set[str]:
        names = self._directly(data)
        while more := {inner for name in names for inner in self._inside[name]} - names:
            names |= more
        return names


def _compile_all(data: object, place: Place, compiler: Compiler) -> tuple[tuple[str, Getter], ...]:
    named: list[tuple[str, Getter]] = []
    for name, value in place.mapping(data).items():
        if not _NAME.fullmatch(name):
            raise place.at(name).error("must be a plain name")
        named.append((name, compiler.compile(value, place.at(name))))
    return tuple(named)
