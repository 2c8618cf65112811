"""Which hashes prove a leaf: compared with the definition of RFC 6962 over all leaves."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NotVerifiedError, ProofError
from agent.reader.evidence.path import Subtree, assemble, block_levels, frontier_subtrees, plan
from agent.trail.merkle import Frontier, inclusion_proof, root_of, verify_inclusion

HASHES = [sha256(b"leaf %d" % number).digest() for number in range(2100)]


def nodes_of(size: int) -> dict[Subtree, bytes]:
    """Return what an index keeps of a tree: the roots of whole subtrees of 256 leaves and more."""
    return {
        Subtree(level, position): root_of(HASHES[position << level : (position + 1) << level])
        for level in range(8, size.bit_length())
        for position in range(size >> level)
    }


def proof_of(index: int, size: int) -> tuple[bytes, ...]:
    wanted = plan(index, size)
    levels = block_levels(HASHES[wanted.block.first : wanted.block.end])
    return assemble(wanted, levels, nodes_of(size), Frontier.empty().extend(HASHES[:size]))


@given(st.data())
def test_every_leaf_of_every_tree_gets_the_proof_of_the_definition(data):
    size = data.draw(st.integers(1, len(HASHES)))
    index = data.draw(st.integers(0, size - 1))
    proof = proof_of(index, size)
    assert proof == inclusion_proof(HASHES[:size], index)
    verify_inclusion(index, size, HASHES[index], proof, root_of(HASHES[:size]))


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 258, 511, 512, 513, 768, 1023, 1024, 1025, 2048])
def test_every_leaf_of_trees_around_whole_tiles_gets_its_proof(size):
    for index in {0, 1, size // 2, size - 2, size - 1, min(255, size - 1), min(256, size - 1)} & set(range(size)):
        assert proof_of(index, size) == inclusion_proof(HASHES[:size], index)


def test_at_most_256_leaves_are_read_and_they_hold_the_leaf():
    for size in (1, 300, 2**20 + 77, 2**62 + 5):
        for index in (0, size // 3, size - 1):
            block = plan(index, size).block
            assert block.first <= index < block.end <= size
            assert block.end - block.first <= 256


def test_a_leaf_that_is_not_in_the_tree_has_no_plan():
    for index, size in ((-1, 4), (4, 4), (0, 0)):
        with pytest.raises(ProofError, match="has no leaf"):
            plan(index, size)


def test_a_node_that_the_index_lost_is_named():
    wanted = plan(0, 1024)
    levels = block_levels(HASHES[:256])
    known = nodes_of(1024)
    del known[Subtree(8, 1)]
    with pytest.raises(NotVerifiedError, match="the leaves 256 to 511"):
        assemble(wanted, levels, known, Frontier.empty().extend(HASHES[:1024]))


def test_the_frontier_of_eleven_leaves_is_eight_two_and_one():
    assert frontier_subtrees(11) == (Subtree(3, 0), Subtree(1, 4), Subtree(0, 10))
