"""Which hashes prove one leaf in a tree, and where each of them is to be had.

An inclusion proof (RFC 6962 §2.1.1) has three parts. Close to the leaf are subtrees of a few leaves: they are computed from the
leaves themselves. Above are whole subtrees of 256 leaves and more: an index keeps their roots. What touches the tree's right edge
follows from the frontier that the newest seal holds. Invariants: a plan asks for at most 256 leaves, whatever the tree's size, and
its leaves form one perfect subtree. This module is pure, and must not read a store or an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ...errors import NotVerifiedError, ProofError
from ...trail.merkle import Frontier, node_hash
from ..index.tiles import LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Subtree(NamedTuple):
    """The leaves from ``position << level`` on, ``1 << level`` of them, or fewer at the tree's right edge."""

    level: int
    position: int

    @property
    def first(self) -> int:
        """The index of its first leaf."""
        return self.position << self.level

    @property
    def end(self) -> int:
        """The index after its last leaf, were it whole."""
        return (self.position + 1) << self.level


@dataclass(frozen=True, slots=True)
class Plan:
    """How one leaf is proven.

    Attributes:
        index: The leaf.
        size: The number of leaves of the tree.
        block: The perfect subtree whose leaves have to be read, 256 of them at most; it holds the leaf.
        path: The subtrees beside the leaf's way to the root, the lowest first.
        nodes: Those of them whose roots an index has to give.
    """

    index: int
    size: int
    block: Subtree
    path: tuple[Subtree, ...]
    nodes: tuple[Subtree, ...]


def plan(index: int, size: int) -> Plan:
    """Find out what proves a leaf.

    Args:
        index: The leaf's index, from 0.
        size: The number of leaves of the tree.

    Raises:
        ProofError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    edge = frontier_subtrees(size)
    holder = next(subtree for subtree in edge if subtree.first <= index < subtree.end)
    level = min(LEVEL, holder.level)
    block = Subtree(level, index >> level)
    path: list[Subtree] = []
    at = 0
    while (size - 1) >> at:
        beside = Subtree(at, (index >> at) ^ 1)
        if beside.first < size:
            path.append(beside)
        at += 1
    # Below the block's own level everything beside the way lies in the block; what is not whole, or part of the edge, the frontier gives.
    nodes = tuple(subtree for subtree in path if subtree.level >= level and subtree.end <= size and subtree not in edge)
    return Plan(index, size, block, tuple(path), nodes)


def frontier_subtrees(size: int) -> tuple[Subtree, ...]:
    """Return the perfect subtrees that a tree of this size is made of, the largest (leftmost) first."""
    return tuple(Subtree(level, (size >> level) - 1) for level in reversed(range(size.bit_length())) if size >> level & 1)


def block_levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the hashes of a perfect subtree level by level, from its leaf hashes up to its root.

    Args:
        leaves: The leaf hashes; their number is a power of two.
    """
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below), 2)])
    return levels


def assemble(wanted: Plan, levels: Sequence[Sequence[bytes]], nodes: Mapping[Subtree, bytes], frontier: Frontier) -> tuple[bytes, ...]:
    """Put an inclusion proof together.

    Args:
        wanted: The plan.
        levels: `block_levels` of the leaf hashes of the plan's block.
        nodes: The roots that the plan's ``nodes`` ask for; others may be among them.
        frontier: The frontier of the tree.

    Returns:
        The proof, the leaf's sibling first; it is not verified.

    Raises:
        NotVerifiedError: A node that the plan asks for is not there.
    """
    edge = dict(zip(frontier_subtrees(frontier.size), frontier.nodes, strict=True))
    proof: list[bytes] = []
    for beside in wanted.path:
        if beside.level < wanted.block.level:
            proof.append(levels[beside.level][beside.position - (wanted.block.first >> beside.level)])
        elif beside in edge:
            proof.append(edge[beside])
        elif beside.end > wanted.size:
            proof.append(_fold([root for subtree, root in edge.items() if subtree.first >= beside.first]))
        elif beside in nodes:
            proof.append(nodes[beside])
        else:
            raise NotVerifiedError(
                f"leaf {wanted.index} cannot be proven: the index has no hash for the leaves {beside.first} to {beside.end - 1}",
                hint="Something of this trail is missing in the store, or the index is damaged; `trailseal verify STORE` says which.",
            )
    return tuple(proof)


def _fold(nodes: Sequence[bytes]) -> bytes:
    """Return the root over what perfect subtrees at the right edge hold, the leftmost first."""
    root, *larger = reversed(nodes)
    for node in larger:
        root = node_hash(node, root)
    return root
