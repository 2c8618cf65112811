"""The inner nodes of a trail's tree that an index keeps, so that a leaf can be proven without reading the whole trail.

Kept are the roots of all perfect subtrees of 256 leaves and more: two hashes for 256 leaves. What lies below is computed from
one or two data objects. Invariants: nodes are complete up to the last whole 256 leaves; what is pending fits a few KiB and is
enough to go on. This module is pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ...trail.merkle import Frontier, node_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LEVEL: Final = 8
"""The lowest level that is kept: a node of it stands for ``1 << LEVEL`` leaves."""
TILE_LEAVES: Final = 1 << LEVEL


class Node(NamedTuple):
    """A perfect subtree's root: the leaves from ``position << level`` on, ``1 << level`` of them."""

    level: int
    position: int
    hash: bytes


class Pending(msgspec.Struct, frozen=True):
    """What is not part of a whole subtree yet, to be kept and gone on from.

    Attributes:
        size: The leaves so far.
        leaves: The hashes of the last ``size % 256`` leaves.
        left: The roots of whole subtrees whose right neighbour is not whole yet, the lowest last.
    """

    size: int = 0
    leaves: tuple[bytes, ...] = ()
    left: tuple[tuple[int, bytes], ...] = ()


class Tiles:
    """Takes leaf hashes in their order and gives the nodes they complete."""

    def __init__(self, pending: Pending | None = None) -> None:
        """Begin with the empty tree, or where another one stood."""
        begun = pending or Pending()
        self._size = begun.size
        self._leaves = list(begun.leaves)
        self._left = list(begun.left)

    @property
    def pending(self) -> Pending:
        """What is needed to go on."""
        return Pending(self._size, tuple(self._leaves), tuple(self._left))

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._size

    def extend(self, hashes: Sequence[bytes]) -> Iterator[Node]:
        """Take more leaf hashes, and yield the nodes that are complete with them."""
        leaves = [*self._leaves, *hashes]
        tile = (self._size - len(self._leaves)) >> LEVEL
        whole = len(leaves) >> LEVEL << LEVEL
        for at in range(0, whole, TILE_LEAVES):
            yield from self._complete(tile, Frontier.empty().extend(leaves[at : at + TILE_LEAVES]).root())
            tile += 1
        self._leaves = leaves[whole:]
        self._size += len(hashes)

    def _complete(self, position: int, root: bytes) -> Iterator[Node]:
        level = LEVEL
        yield Node(level, position, root)
        while position & 1:
            _, left = self._left.pop()
            root = node_hash(left, root)
            level, position = level + 1, position >> 1
            yield Node(level, position, root)
        self._left.append((level, root))
