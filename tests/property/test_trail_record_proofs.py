"""Proofs of leaves in the newest part of a tree, from the frontier before it, against RFC 6962's own definition of them."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ProofError
from agent.trail.merkle import Frontier, verify_inclusion


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1, over leaf hashes."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m < k:
        return [*path(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree_hash(leaves[:k])]


def hashes(count: int) -> list[bytes]:
    return [sha256(b"%d" % number).digest() for number in range(count)]


@given(old=st.integers(0, 300), new=st.integers(1, 150), data=st.data())
def test_the_proofs_are_those_of_the_definition(old, new, data):
    leaves = hashes(old + new)
    positions = data.draw(st.lists(st.integers(0, new - 1), max_size=6))
    proofs = Frontier.empty().extend(leaves[:old]).inclusion_proofs(leaves[old:], positions)
    assert [list(proof) for proof in proofs] == [path(old + position, leaves) for position in positions]
    for position, proof in zip(positions, proofs, strict=True):
        verify_inclusion(old + position, old + new, leaves[old + position], proof, tree_hash(leaves))


@pytest.mark.parametrize("old", range(20))
@pytest.mark.parametrize("new", range(1, 20))
def test_every_leaf_of_every_small_tree(old, new):
    leaves = hashes(old + new)
    proofs = Frontier.empty().extend(leaves[:old]).inclusion_proofs(leaves[old:], range(new))
    assert [list(proof) for proof in proofs] == [path(old + position, leaves) for position in range(new)]


@pytest.mark.parametrize("position", [-1, 3])
def test_only_new_leaves_can_be_proven(position):
    with pytest.raises(ProofError, match="do not hold every leaf"):
        Frontier.empty().extend(hashes(5)).inclusion_proofs(hashes(3), [position])
