"""Prove leaves of an indexed trail against its newest verified checkpoint.

The index says where a leaf lies and gives the hashes above it; the leaf itself, and its neighbours, are read from the store again.
Invariants: every proof was verified, inclusion and signature, before it is handed on; each object is read once, however many of
its leaves are asked for; memory holds the leaf hashes of the batches that overlap 256 leaves, and the lines that are wanted of them.
This module must not decide who is trusted, and must not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

from ...errors import NotVerifiedError, ProofError
from ...trail.layout import Origin
from ...trail.note import VerifierKey
from ...trail.proof import TlogProof
from ...trail.seal import Seal, open_seal, parse_seal
from .checking import read_opening
from .leaves import Leaves, Place, read_leaves
from .path import Plan, Subtree, assemble, block_levels, plan
from .proven import Proven

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...trail.merkle import Frontier
    from ..fetch import StoreReader
    from ..index import Index

_BLOCKS_AT_ONCE: Final = 16
"""For how many blocks of 256 leaves the index is asked at once: their plans, up to 4,096 of them, lie in memory (10 MiB) meanwhile."""
_ANEW: Final = "Make the index anew with `trailseal index STORE`; `trailseal verify STORE` says whether the store is sound."
_PLACES: Final = """SELECT DISTINCT b.batch, b.first_seq, b.size, b.seal_sha256 FROM batches b
    JOIN (SELECT unnest($firsts) AS first, unnest($ends) AS until) wanted ON b.first_seq < wanted.until AND b.size > wanted.first
    WHERE b.trail = $trail AND b.chained ORDER BY b.first_seq"""
_NODES: Final = """SELECT n.level, n.position, n.hash FROM nodes n
    JOIN (SELECT unnest($levels) AS level, unnest($positions) AS position) wanted
    ON n.level = wanted.level AND n.position = wanted.position WHERE n.trail = $trail"""


@dataclass(frozen=True, slots=True)
class Head:
    """What the proofs of a trail lead to.

    Attributes:
        origin: The trail.
        trail: Its number in the index.
        key: The epoch's key.
        opening: The opening seal's bytes.
        seal: The newest verified seal.
        frontier: The tree's frontier after it.
    """

    origin: Origin
    trail: int
    key: VerifierKey
    opening: bytes
    seal: Seal
    frontier: Frontier

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self.frontier.size


def read_head(index: Index, origin: str) -> Head:
    """Return the newest verified checkpoint of a trail, its signature verified again.

    Raises:
        NotVerifiedError: There is no such trail in the index, or nothing of it was verified.
        ProofError: What the index holds is not signed by the key it holds.
    """
    rows = index.rows("SELECT trail, key, opening, head_seal FROM trails WHERE origin = ?", [origin])
    if not rows:
        raise NotVerifiedError(f"the index has no trail {origin}", hint="`trailseal verify STORE` lists the trails; check the spelling.")
    trail, vkey, opening, head = rows[0]
    if vkey is None or opening is None or head is None:
        raise NotVerifiedError(
            f"nothing of the trail {origin} was verified, so nothing of it can be proven", hint="`trailseal verify STORE` says why."
        )
    key = VerifierKey.parse(vkey)
    seal = parse_seal(bytes(head))
    _, verified = open_seal(seal, origin, (key,))
    # Whoever changed the index could have put a key beside an opening seal that does not name it.
    if not verified or read_opening(bytes(opening), origin, ()).key != key:
        raise ProofError(
            f"the index's newest checkpoint of {origin} is not signed by the key that the trail's first seal names", hint=_ANEW
        )
    return Head(Origin.parse(origin), trail, key, bytes(opening), seal, seal.frontier())


class TrailProver:
    """Proves leaves of one trail."""

    def __init__(self, index: Index, store: StoreReader, head: Head) -> None:
        """Prepare.

        Args:
            index: The index.
            store: The store it is of.
            head: What the proofs lead to.
        """
        self._index, self._store, self._head = index, store, head
        self._known: dict[int, Leaves] = {}

    def prove(self, seqs: Sequence[int]) -> Iterator[Proven]:
        """Yield the proofs of some leaves.

        Args:
            seqs: The leaves, strictly ascending.

        Raises:
            IntegrityError: An object is not the one that was indexed; the message names it.
            NotVerifiedError: A leaf is beyond the newest checkpoint, an object cannot be read, or the index does not fit.
        """
        head = self._head
        if seqs and not 0 <= seqs[0] <= seqs[-1] < head.size:
            raise NotVerifiedError(
                f"seq {seqs[-1] if seqs[-1] >= head.size else seqs[0]} is not in the tree of {head.size} leaves that was verified of "
                f"{head.origin}",
                hint="It is not sealed yet, or something before it is missing or damaged; `trailseal verify STORE` says which.",
            )
        plans = (plan(seq, head.size) for seq in seqs)
        blocks = ((block, list(group)) for block, group in groupby(plans, key=lambda one: one.block))
        while chunk := list(islice(blocks, _BLOCKS_AT_ONCE)):
            yield from self._prove_blocks(chunk, seqs)

    def _prove_blocks(self, chunk: Sequence[tuple[Subtree, list[Plan]]], seqs: Sequence[int]) -> Iterator[Proven]:
        places = self._places([block for block, _ in chunk])
        nodes = self._nodes({node for _, plans in chunk for one in plans for node in one.nodes})
        for block, plans in chunk:
            leaves = self._read([place for place in places if place.first_seq < block.end and place.end > block.first], block, seqs)
            hashes = [
                hashed
                for one in leaves
                for hashed in one.hashes[max(block.first - one.place.first_seq, 0) : max(block.end - one.place.first_seq, 0)]
            ]
            if len(hashes) != block.end - block.first:
                raise NotVerifiedError(
                    f"the index does not know all of the leaves {block.first} to {block.end - 1} of {self._head.origin}", hint=_ANEW
                )
            lines = {seq: line for one in leaves for seq, line in one.lines.items()}
            levels = block_levels(hashes)
            for one in plans:
                yield self._proven(one, lines[one.index], assemble(one, levels, nodes, self._head.frontier))

    def _proven(self, one: Plan, leaf: bytes, hashes: tuple[bytes, ...]) -> Proven:
        head = self._head
        proof = TlogProof(one.index, hashes, head.seal.proof.note)
        try:
            proof.verify(leaf, (head.key,), str(head.origin))
        except ProofError as error:
            raise NotVerifiedError(
                f"seq {one.index} of {head.origin}: the index's hashes do not lead to the signed root: {error.message}", hint=_ANEW
            ) from error
        return Proven(one.index, leaf, proof)

    def _read(self, places: Sequence[Place], block: Subtree, seqs: Sequence[int]) -> list[Leaves]:
        """Return the leaves of the batches that overlap a block; those it shares with the block before are not read again."""
        kept = {}
        for place in places:
            known = self._known.get(place.batch)
            if known is None:
                known = read_leaves(self._store, self._head.origin, place, seqs)
            kept[place.batch] = known
        self._known = {batch: leaves for batch, leaves in kept.items() if leaves.place.end > block.end}
        return list(kept.values())

    def _places(self, blocks: Sequence[Subtree]) -> list[Place]:
        parameters = {"trail": self._head.trail, "firsts": [block.first for block in blocks], "ends": [block.end for block in blocks]}
        return [Place(*row) for row in self._index.rows(_PLACES, parameters)]

    def _nodes(self, wanted: set[Subtree]) -> dict[Subtree, bytes]:
        if not wanted:
            return {}
        levels, positions = zip(*wanted, strict=True)
        rows = self._index.rows(_NODES, {"trail": self._head.trail, "levels": list(levels), "positions": list(positions)})
        return {Subtree(level, position): bytes(hashed) for level, position, hashed in rows}
