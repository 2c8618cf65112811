"""Decide what becomes of the sealed batches of a damaged spool.

Seals are created in a store strictly in batch order, so a batch behind a lost one can never be shipped under its name: its
records need another. One that a store has confirmed is in the trail already, and must not get there twice.

Pure: no files, no database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..trail.merkle import EMPTY_ROOT

if TYPE_CHECKING:
    from .remains import Remains


@dataclass(slots=True)
class Chain:
    """What becomes of each batch.

    Attributes:
        keep: Ids of those that are shipped as the very same bytes.
        unpack: Ids of those whose records go to the new epoch, in order.
        passed: Ids of those that a store has, while another store can never get them: they stand behind a lost one.
    """

    keep: list[int] = field(default_factory=list)
    unpack: list[int] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)


def sort_out(found: Remains) -> Chain:
    """Sort the sound batches of every trail by what can be done with them."""
    chain = Chain()
    trails: dict[str, dict[int, int]] = {}
    for batch_id, meta in sorted(found.batches.items()):
        trails.setdefault(meta.origin, {})[meta.number] = batch_id
    order = [*trails] if found.head is None or found.head.origin in trails else [*trails, found.head.origin]
    for origin, by_number in trails.items():
        if origin in found.given_up:
            chain.unpack += by_number.values()
            continue
        lowest, highest = _confirmed(found, origin, order, min(by_number))
        first_lost = next((n for n in range(lowest + 1, max(by_number)) if n not in by_number), max(by_number) + 1)
        for number, batch_id in by_number.items():
            kind = chain.keep if number < first_lost else chain.passed if number <= highest else chain.unpack
            kind.append(batch_id)
    return chain


def _confirmed(found: Remains, origin: str, order: list[str], first_held: int) -> tuple[int, int]:
    """Return the newest batch of a trail that every store has confirmed, and the newest that any has; -1 for none."""
    beyond = 2**62
    numbers = []
    for confirmed in found.confirmed.values():
        if confirmed.origin == origin:
            numbers.append(confirmed.number)
        else:
            later = confirmed.origin in order and order.index(confirmed.origin) > order.index(origin)
            numbers.append(beyond if later else -1)
    if not numbers:
        # Which batches have left is not known. If none is lost, those before the first one have.
        certain = not (found.torn_batches or found.unknown or found.uncounted)
        return (first_held - 1, first_held - 1) if certain else (-1, -1)
    # A batch that is still held is one that some store lacks.
    return min(*numbers, first_held - 1), max(numbers)


def newest_end(found: Remains, chain: Chain) -> tuple[str | None, int, bytes]:
    """Return the newest trail's name, and the newest size and root of it that some store has or will get."""
    kept = [found.batches[batch_id] for batch_id in chain.keep]
    if found.head is not None:
        origin: str | None = found.head.origin
    elif found.batches:
        origin = found.batches[max(found.batches)].origin
    elif found.loss is not None:
        return found.loss.origin, found.loss.size, found.loss.root
    else:
        newest = max(found.confirmed.values(), key=lambda one: one.sealed_at, default=None)
        origin = None if newest is None else newest.origin
    ends = [(one.size, one.root) for one in kept if one.origin == origin]
    ends += [(one.size, one.root) for one in found.confirmed.values() if one.origin == origin]
    if ends:
        return origin, *max(ends)
    if found.head is not None and not (found.batches or found.torn_batches or found.unknown or found.uncounted):
        return origin, found.head.size, found.head.root
    return origin, 0, EMPTY_ROOT
