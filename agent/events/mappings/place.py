"""Say where in a mapping's file something stands, for messages.

Invariants: every refusal of a mapping names its file and key. Pure.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ...errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Be a key of a file.

    Attributes:
        where: The file's name.
        key: The dotted key; empty for the whole.
    """

    where: str
    key: str = ""

    def at(self, name: object) -> Place:
        """Return the place of a member: a key's, or of an element where the name is a number."""
        if isinstance(name, int):
            return Place(self.where, f"{self.key}[{name}]")
        return Place(self.where, f"{self.key}.{name}" if self.key else str(name))

    def error(self, message: str, hint: str | None = None) -> ConfigError:
        """Return (not raise) the error for this place."""
        return ConfigError(message, file=self.where, key=self.key or None, hint=hint)

    def mapping(self, data: object, known: Sequence[str] | None = None) -> dict[str, object]:
        """Return data as a mapping of texts to values.

        Args:
            data: What a parser made of the file.
            known: The keys there may be; None if any may.

        Raises:
            ConfigError: It is none, or has another key.
        """
        if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
            raise self.error("must be a mapping of keys to values")
        for name in data:
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise self.at(name).error("is not a known key", f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}.")
        return data

    def elements(self, data: object) -> Iterator[tuple[Place, object]]:
        """Yield the elements of a list with their places (ConfigError if it is none)."""
        if not isinstance(data, (list, tuple)):
            raise self.error("must be a list")
        yield from ((self.at(index), element) for index, element in enumerate(data))

    def text(self, data: object) -> str:
        """Return a text that is not empty (ConfigError if it is none)."""
        if not isinstance(data, str) or not data:
            raise self.error("must be text, and not empty", "Quote what looks like a number." if data is not None else None)
        return data

    def texts(self, data: object) -> tuple[str, ...]:
        """Return a text, or a list of texts, as a tuple (ConfigError if it is neither)."""
        if isinstance(data, str):
            return (self.text(data),)
        return tuple(place.text(element) for place, element in self.elements(data))

    def whole(self, data: object, least: int, most: int) -> int:
        """Return a whole number within bounds (ConfigError if it is none)."""
        if not isinstance(data, int) or isinstance(data, bool) or not least <= data <= most:
            raise self.error(f"must be a whole number from {least} to {most}")
        return data

    def flag(self, data: object) -> bool:
        """Return true or false (ConfigError if it is neither)."""
        if not isinstance(data, bool):
            raise self.error("must be true or false")
        return data
