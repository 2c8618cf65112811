"""Compare two catalogs as an auditor would: what is expected now, what is expected no more, and is that weaker.

An entry is compared with what was in force for its name before, which may be a beginning such as ``auth.*``: a narrower entry that
demands less than the beginning which covered it weakens the catalog, though nothing but an entry was added.

Invariants: the answer does not depend on the order of entries; catalogs that judge every event alike give no weaker or stronger
change. This module must not open files.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from .catalog import Sensitivity

if TYPE_CHECKING:
    from .catalog import Catalog, Entry


class Direction(StrEnum):
    """Say what a change does to what is demanded."""

    WEAKER = "weaker"
    STRONGER = "stronger"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Hold what one field was and is.

    Attributes:
        name: ``category``, ``sensitivity``, ``privileged``, ``required_context`` or ``description``.
        old: As it was, as text; several contexts joined by ``, ``.
        new: As it is.
        direction: What that does.
    """

    name: str
    old: str
    new: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Change:
    """Hold one action that the two catalogs do not treat alike.

    Attributes:
        action: The entry's name.
        kind: Whether the entry came, went, or says something else.
        fields: What differs from the entry that was in force for the name, in the order of the file's keys.
        beside: For an entry that came or went: the beginning that covered, or now covers, the name; None if none does.
        direction: Weaker if anything about it is.
    """

    action: str
    kind: Literal["added", "removed", "changed"]
    fields: tuple[FieldChange, ...]
    beside: str | None
    direction: Direction


_RANKS = tuple(Sensitivity)


def compare(old: Catalog, new: Catalog) -> tuple[Change, ...]:
    """Return every difference, sorted by action.

    Args:
        old: What was expected.
        new: What is expected.
    """
    before = {entry.action: entry for entry in old.entries}
    after = {entry.action: entry for entry in new.entries}
    changes: list[Change] = []
    for action in sorted(before.keys() | after.keys()):
        was, now = before.get(action), after.get(action)
        if was is None and now is not None:
            covering = old.entry(action.removesuffix("*"))
            fields = () if covering is None else differences(covering, now)
            direction = Direction.STRONGER if covering is None else worst(fields)
            changes.append(Change(action, "added", fields, None if covering is None else covering.action, direction))
        elif now is None and was is not None:
            covering = new.entry(action.removesuffix("*"))
            fields = () if covering is None else differences(was, covering)
            direction = Direction.WEAKER if covering is None else worst(fields)
            changes.append(Change(action, "removed", fields, None if covering is None else covering.action, direction))
        elif was is not None and now is not None and (fields := differences(was, now)):
            changes.append(Change(action, "changed", fields, None, worst(fields)))
    return tuple(changes)


def differences(was: Entry, now: Entry) -> tuple[FieldChange, ...]:
    """Return the fields in which two entries differ, whatever their names, in the order of the file's keys."""
    found: list[FieldChange] = []
    if was.category != now.category:
        found.append(FieldChange("category", was.category, now.category, Direction.NEITHER))
    if was.sensitivity != now.sensitivity:
        lowered = _RANKS.index(now.sensitivity) < _RANKS.index(was.sensitivity)
        found.append(FieldChange("sensitivity", was.sensitivity, now.sensitivity, Direction.WEAKER if lowered else Direction.STRONGER))
    if was.privileged != now.privileged:
        direction = Direction.WEAKER if was.privileged else Direction.STRONGER
        found.append(FieldChange("privileged", str(was.privileged).lower(), str(now.privileged).lower(), direction))
    if set(was.required_context) != set(now.required_context):
        lost = set(was.required_context) - set(now.required_context)
        direction = Direction.WEAKER if lost else Direction.STRONGER
        found.append(FieldChange("required_context", ", ".join(was.required_context), ", ".join(now.required_context), direction))
    if was.description != now.description:
        found.append(FieldChange("description", was.description, now.description, Direction.NEITHER))
    return tuple(found)


def worst(fields: tuple[FieldChange, ...]) -> Direction:
    """Return weaker if any field is, else stronger if any is."""
    directions = {field.direction for field in fields}
    return next((each for each in (Direction.WEAKER, Direction.STRONGER) if each in directions), Direction.NEITHER)
