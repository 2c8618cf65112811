"""Say what about a catalog is allowed and yet worth a look, and what a mapping makes that a catalog does not expect.

Invariants: nothing here is an error; remarks come in the order of the entries. This module must not open files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .comparing import Direction, differences, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .catalog import Catalog
    from .merging import Merged, Place, Placed


@dataclass(frozen=True, slots=True)
class Remark:
    """Hold one thing that is worth a look.

    Attributes:
        kind: ``shadowed``: the entry is not in force, since another file's is. ``no_description``: a report cannot say what the action
            means. ``overlap``: a longer beginning judges some of the names instead, and it need not state as much, or comes from another
            file.
        action: The entry's name.
        place: Where the entry stands.
        other: The winner, or the longer beginning; None where there is none.
    """

    kind: Literal["shadowed", "no_description", "overlap"]
    action: str
    place: Place
    other: Placed | None


@dataclass(frozen=True, slots=True)
class Unmet:
    """Hold an event of a mapping that a catalog does not expect so.

    Attributes:
        action: The event's action.
        missing_context: The required context that the event lacks, so that it would be quarantined; None: no entry knows the action.
        example: The title of the example that shows it.
    """

    action: str
    missing_context: str | None
    example: str


def remarks(merged: Merged) -> Iterator[Remark]:
    """Yield what is worth a look."""
    for shadowed in merged.shadowed:
        yield Remark("shadowed", shadowed.loser.entry.action, shadowed.loser.place, shadowed.winner)
    for placed in merged.placed:
        if not placed.entry.description.strip():
            yield Remark("no_description", placed.entry.action, placed.place, None)
    beginnings = [placed for placed in merged.placed if placed.entry.action.endswith("*")]
    for placed in beginnings:
        for longer in beginnings:
            if longer is not placed and longer.entry.action.startswith(placed.entry.action[:-1]) and _is_doubtful(placed, longer):
                yield Remark("overlap", placed.entry.action, placed.place, longer)


def unmet(examples: Iterable[object], catalog: Catalog) -> Iterator[Unmet]:
    """Yield the events that a catalog does not expect, or not without more context; each action once for each reason.

    Args:
        examples: A mapping's examples, as its file has them (`Mapping.examples`).
        catalog: What is expected.
    """
    seen: set[tuple[str, str | None]] = set()
    for example in examples:
        event: Any = example.get("event") if isinstance(example, dict) else None
        if not isinstance(event, dict) or not isinstance(event.get("action"), str):
            continue
        action, context = event["action"], event.get("context")
        entry = catalog.entry(action)
        missing = None if entry is None else entry.missing_context(context if isinstance(context, dict) else {})
        if (entry is None or missing is not None) and (action, missing) not in seen:
            seen.add((action, missing))
            yield Unmet(action, missing, str(example["title"]) if isinstance(example, dict) and "title" in example else "")


def _is_doubtful(placed: Placed, longer: Placed) -> bool:
    """Tell whether a longer beginning may not have been meant.

    Who writes both in one file means the longer one; that it must state less, or is no privilege, is the slip to look for.
    """
    fields = differences(placed.entry, longer.entry)
    if placed.place.file != longer.place.file:
        return worst(fields) is not Direction.NEITHER
    return any(field.direction is Direction.WEAKER and field.name != "sensitivity" for field in fields)
