"""The Merkle tree of RFC 6962 §2.1: hashes, the compact frontier, inclusion and consistency proofs.

Invariants: a :class:`Frontier` is an immutable value that holds the roots of the perfect subtrees its size is made of
(one for every 1 bit of the size, the largest and leftmost first), so a trail of any length is carried on in at most 64
hashes. Bulk functions work level by level on whole lists, because a Python call per node would cost more than SHA-256.
This module must not know what a leaf means.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Final, Self

from ..errors import FormatError, ProofError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**63 - 1
EMPTY_ROOT: Final[bytes] = sha256(b"").digest()
_SIZE_BYTES: Final = 8


def leaf_hash(leaf: bytes) -> bytes:
    """Return the 32-byte hash of one leaf, ``SHA-256(0x00 || leaf)`` (RFC 6962 §2.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node, ``SHA-256(0x01 || left || right)`` (RFC 6962 §2.1)."""
    return sha256(b"\x01" + left + right).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hashes of many leaves, in their order."""
    return [sha256(b"\x00" + leaf).digest() for leaf in leaves]


def _parents(hashes: Sequence[bytes]) -> list[bytes]:
    """Hash neighbours in pairs; an odd last hash is left out."""
    pairs = iter(hashes)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over these leaf hashes (RFC 6962 §2.1); :data:`EMPTY_ROOT` for none."""
    return Frontier.empty().extend(hashes).root()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    Attributes:
        size: The number of leaves, 0 up to 2**63-1.
        nodes: The roots of the perfect subtrees of ``size``, the largest (leftmost) first; 32 bytes each.
    """

    size: int
    nodes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Refuse a number of nodes that does not fit the size (FormatError)."""
        if not 0 <= self.size <= MAX_SIZE or len(self.nodes) != self.size.bit_count():
            raise FormatError(f"a frontier of {len(self.nodes)} nodes cannot have the size {self.size}")

    @classmethod
    def empty(cls) -> Self:
        """Return the frontier of the tree without leaves."""
        return cls(0, ())

    def append(self, hashed: bytes) -> Self:
        """Return the frontier after one more leaf hash."""
        nodes = list(self.nodes)
        for _ in range(((self.size + 1) & -(self.size + 1)).bit_length() - 1):
            hashed = node_hash(nodes.pop(), hashed)
        nodes.append(hashed)
        return type(self)(self.size + 1, tuple(nodes))

    def extend(self, hashes: Sequence[bytes]) -> Self:
        """Return the frontier after these leaf hashes, in their order.

        At every level the new hashes, with the old node of that level before them where there is one, start at an even
        index. Pairs move up; one that is left alone is the new node of its level.
        """
        old = list(self.nodes)
        new: list[bytes] = []
        size, level = self.size, hashes
        while level:
            if size & 1:
                level = [old.pop(), *level]
            if len(level) & 1:
                new.append(level[-1])
            level = _parents(level)
            size >>= 1
        return type(self)(self.size + len(hashes), (*old, *reversed(new)))

    def root(self) -> bytes:
        """Return the root of the tree (RFC 6962 §2.1), 32 bytes."""
        if not self.nodes:
            return EMPTY_ROOT
        root, *larger = reversed(self.nodes)
        for node in larger:
            root = node_hash(node, root)
        return root

    def proof_of_next_leaf(self) -> tuple[bytes, ...]:
        """Return the inclusion proof that a leaf appended right now would have (RFC 6962 §2.1.1).

        Such a leaf is the last of its tree, so everything beside its path lies on its left: the nodes, lowest first.
        """
        return self.nodes[::-1]

    @classmethod
    def from_newest_leaf(cls, size: int, hashed: bytes, proof: Sequence[bytes]) -> Self:
        """Rebuild the frontier of a tree from the inclusion proof of its last leaf.

        Args:
            size: The number of leaves, the newest one included.
            hashed: The newest leaf's hash.
            proof: The inclusion proof of the leaf at index ``size - 1``, as RFC 6962 §2.1.1 orders it.

        Raises:
            ProofError: The proof has another number of hashes than such a leaf's proof has.
        """
        if not 1 <= size <= MAX_SIZE or len(proof) != (size - 1).bit_count() or any(len(h) != HASH_BYTES for h in proof):
            raise ProofError(f"the proof does not fit the last leaf of a tree of {size} leaves")
        return cls(size - 1, tuple(reversed(proof))).append(hashed)

    def inclusion_proofs(self, hashes: Sequence[bytes], positions: Iterable[int]) -> list[tuple[bytes, ...]]:
        """Return the proofs that some of the next leaves have in the tree that ends with the last of them (RFC 6962 §2.1.1).

        What stands left of a new leaf's path is a node of this frontier or made of new leaves alone, so neither the old
        leaves nor their hashes are needed.

        Args:
            hashes: The leaf hashes that follow this tree, in their order.
            positions: Indices in `hashes`, from 0, of the leaves to prove.

        Raises:
            ProofError: There is no such leaf among the new ones.
        """
        nodes = [self.size + position for position in positions]
        if any(not self.size <= node < self.size + len(hashes) for node in nodes):
            raise ProofError(f"the {len(hashes)} new leaves do not hold every leaf that is to be proven")
        proofs: list[list[bytes]] = [[] for _ in nodes]
        old, start, level = list(self.nodes), self.size, hashes
        while old or len(level) > 1:
            if start & 1:
                # The subtree before the new nodes of this level is perfect, and so a node of the frontier.
                start, level = start - 1, [old.pop(), *level]
            for proof, node in zip(proofs, nodes, strict=True):
                if (node ^ 1) - start < len(level):
                    proof.append(level[(node ^ 1) - start])
            level = [*_parents(level), *level[len(level) & ~1 :]]
            start, nodes = start >> 1, [node >> 1 for node in nodes]
        return [tuple(proof) for proof in proofs]

    def encode(self) -> bytes:
        """Return the size as 8 bytes, big-endian, followed by the nodes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.nodes)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what :meth:`encode` wrote.

        Raises:
            FormatError: The bytes are not exactly one frontier.
        """
        if len(raw) < _SIZE_BYTES or (len(raw) - _SIZE_BYTES) % HASH_BYTES:
            raise FormatError(f"a frontier cannot have {len(raw)} bytes")
        nodes = tuple(raw[at : at + HASH_BYTES] for at in range(_SIZE_BYTES, len(raw), HASH_BYTES))
        return cls(int.from_bytes(raw[:_SIZE_BYTES], "big"), nodes)


def inclusion_proof(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the inclusion proof of one leaf, its sibling first (RFC 6962 §2.1.1, ``PATH``).

    Args:
        hashes: All leaf hashes of the tree.
        index: The leaf's index, from 0.

    Raises:
        ProofError: There is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise ProofError(f"a tree of {len(hashes)} leaves has no leaf {index}")
    proof: list[bytes] = []
    level = hashes
    while len(level) > 1:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        # A node without a sibling moves up unchanged, which is RFC 6962's split at the largest power of two.
        level = [*_parents(level), *level[len(level) & ~1 :]]
        index >>= 1
    return tuple(proof)


def _sides(node: int, last: int) -> list[bool]:
    """Tell for every hash of the path from a node up to the root whether it stands on the left (RFC 9162 §2.1.3.2).

    Args:
        node: The node's index in its level.
        last: The index of the level's last node.
    """
    sides: list[bool] = []
    while last:
        on_the_left = bool(node & 1) or node == last
        sides.append(on_the_left)
        if on_the_left:
            # On the right edge, skip the levels on which this subtree has no sibling.
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        node, last = node >> 1, last >> 1
    return sides


def verify_inclusion(index: int, size: int, hashed: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf at ``index`` is in the tree of ``size`` leaves with this root (RFC 9162 §2.1.3.2).

    Args:
        index: The leaf's index, from 0.
        size: The number of leaves of the tree.
        hashed: The leaf's hash.
        proof: The hashes beside the leaf's path, its sibling first.
        root: The tree's root.

    Raises:
        ProofError: It is not, or the proof has a hash too many, too few, or of the wrong length.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    if len(hashed) != HASH_BYTES or any(len(h) != HASH_BYTES for h in proof):
        raise ProofError(f"the inclusion proof of leaf {index} holds something that is not a SHA-256 hash")
    sides = _sides(index, size - 1)
    for sibling, on_the_left in zip(proof, sides, strict=False):
        hashed = node_hash(sibling, hashed) if on_the_left else node_hash(hashed, sibling)
    if len(proof) != len(sides) or hashed != root:
        raise ProofError(f"leaf {index} is not in the tree of {size} leaves with the root {root.hex()}")


def consistency_proof(hashes: Sequence[bytes], first: int) -> tuple[bytes, ...]:
    """Return the proof that the tree's first ``first`` leaves are an older state of it (RFC 6962 §2.1.2, ``PROOF``).

    Args:
        hashes: All leaf hashes of the newer tree.
        first: The size of the older tree, at least 1 and at most ``len(hashes)``.

    Raises:
        ProofError: The older size is outside these bounds.
    """
    if not 0 < first <= len(hashes):
        raise ProofError(f"a tree of {len(hashes)} leaves has no proof that it extends one of {first}")
    parts: list[tuple[bytes, ...]] = []
    begin, end, older_is_known = 0, len(hashes), True
    while first != end - begin:
        split = 1 << (end - begin - 1).bit_length() - 1
        if first <= split:
            parts.append((root_of(hashes[begin + split : end]),))
            end = begin + split
        else:
            parts.append((root_of(hashes[begin : begin + split]),))
            begin, first, older_is_known = begin + split, first - split, False
    if not older_is_known:
        parts.append((root_of(hashes[begin:end]),))
    return tuple(chain.from_iterable(reversed(parts)))


def verify_consistency(first_size: int, second_size: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the second tree begins with all leaves of the first (RFC 9162 §2.1.4.2).

    Args:
        first_size: The older tree's size, at least 1: an empty tree is consistent with anything and proves nothing.
        second_size: The newer tree's size, not smaller.
        first_root: The older tree's root.
        second_root: The newer tree's root.
        proof: What :func:`consistency_proof` returns.

    Raises:
        ProofError: It does not, or the proof has a hash too many, too few, or of the wrong length.
    """
    if not 0 < first_size <= second_size <= MAX_SIZE:
        raise ProofError(f"no proof can show that a tree of {second_size} leaves extends one of {first_size}")
    failure = ProofError(f"the tree of {second_size} leaves does not extend the one of {first_size}")
    if first_size == second_size:
        if proof or first_root != second_root:
            raise failure
        return
    # Where the older tree is one perfect subtree, its root is the first hash of the path and is left out of the proof.
    path = list(proof) if first_size & (first_size - 1) else [first_root, *proof]
    height = ((first_size & -first_size) - 1).bit_length()
    sides = _sides((first_size - 1) >> height, (second_size - 1) >> height)
    if len(path) != 1 + len(sides) or any(len(h) != HASH_BYTES for h in path):
        raise failure
    older = newer = path[0]
    for sibling, on_the_left in zip(path[1:], sides, strict=True):
        if on_the_left:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
        else:
            newer = node_hash(newer, sibling)
    if older != first_root or newer != second_root:
        raise failure
