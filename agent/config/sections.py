"""Read mappings into Structs, by the readers in their annotations, and lists of them.

Invariants: an unknown key, a missing one and one that stands in the wrong place is an error with file, line and key. This module must not
know the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

import msgspec

from .values import Reader, did_you_mean, listed

if TYPE_CHECKING:
    from .document import Node

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Section(Generic[S]):
    """Read a mapping into a Struct, by the readers in its annotations."""

    struct: type[S]

    def read(self, node: Node) -> S:
        """Return the Struct; its own checks (`__post_init__`) may refuse the combination of values."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(self.struct)}
        if node.kind != "mapping":
            raise node.error(f"must be a mapping with {listed(tuple(fields))}, not {node.shown}")
        values: dict[str, Any] = {}
        for name, child in node.pairs():
            if name not in fields:
                hint = did_you_mean(name, tuple(fields)) or f"Known here: {', '.join(fields)}."
                raise child.error("unknown key", hint)
            values[fields[name].name] = reader_of(fields[name].type).read(child)
        for name, field in fields.items():
            if field.required and field.name not in values:
                raise node.child(name).error("this key is missing")
        try:
            return self.struct(**values)
        except ValueError as error:
            raise node.error(str(error)) from error


@dataclass(frozen=True)
class Sections(Generic[S]):
    """Read a list of mappings with different ids."""

    struct: type[S]

    def read(self, node: Node) -> tuple[S, ...]:
        """Return the Structs in the file's order."""
        if node.kind != "list":
            raise node.error(f"must be a list, not {node.shown}", "Begin each entry with a hyphen, as in - {id: …}.")
        section, lines = Section(self.struct), dict[str, int]()
        values: list[S] = []
        for each in node.elements():
            value = section.read(each)
            name = getattr(value, "id")  # noqa: B009 - which Struct it is, only the annotation knows
            if name in lines:
                raise each.error(f'the id "{name}" is taken; first in line {lines[name]}', "Give each its own id.")
            lines[name] = each.line
            values.append(value)
        return tuple(values)


def reader_of(annotation: Any) -> Reader:
    """Return the reader that a setting's annotation names: the first extra of `Annotated`, or the (optional) Struct itself."""
    if get_origin(annotation) is Annotated:
        reader: Reader = get_args(annotation)[1]
        return reader
    return Section(next((each for each in get_args(annotation) if each is not type(None)), annotation))
