"""The bulk algorithms against RFC 6962 §2.1 as it is written: recursive, slow and obviously right."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ProofError
from agent.trail.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hashes,
    root_of,
    verify_consistency,
    verify_inclusion,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

sizes = st.integers(0, 130)
positive_sizes = st.integers(1, 130)


def hashes_of(size: int) -> list[bytes]:
    return leaf_hashes(b"%d" % n for n in range(size))


def split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def naive_root(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return sha256(b"\x01" + naive_root(hashes[:k]) + naive_root(hashes[k:])).digest()


def naive_path(m: int, hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if m < k:
        return [*naive_path(m, hashes[:k]), naive_root(hashes[k:])]
    return [*naive_path(m - k, hashes[k:]), naive_root(hashes[:k])]


def naive_subproof(m: int, hashes: Sequence[bytes], *, known: bool = True) -> list[bytes]:
    if m == len(hashes):
        return [] if known else [naive_root(hashes)]
    k = split(len(hashes))
    if m <= k:
        return [*naive_subproof(m, hashes[:k], known=known), naive_root(hashes[k:])]
    return [*naive_subproof(m - k, hashes[k:], known=False), naive_root(hashes[:k])]


def naive_frontier(hashes: Sequence[bytes]) -> list[bytes]:
    nodes, at = [], 0
    for bit in reversed(range(len(hashes).bit_length())):
        if len(hashes) >> bit & 1:
            nodes.append(naive_root(hashes[at : at + (1 << bit)]))
            at += 1 << bit
    return nodes


@given(sizes, sizes)
def test_extending_in_two_steps_gives_the_tree_of_the_definition(first, second):
    hashes = hashes_of(first + second)
    frontier = Frontier.empty().extend(hashes[:first]).extend(hashes[first:])
    assert frontier.size == len(hashes)
    assert list(frontier.nodes) == naive_frontier(hashes)
    assert frontier.root() == root_of(hashes) == naive_root(hashes)


@given(sizes)
def test_appending_one_by_one_equals_extending(size):
    one_by_one = Frontier.empty()
    for hashed in hashes_of(size):
        one_by_one = one_by_one.append(hashed)
    assert one_by_one == Frontier.empty().extend(hashes_of(size))
    assert Frontier.decode(one_by_one.encode()) == one_by_one


@given(sizes)
def test_the_newest_leaf_and_its_proof_give_the_frontier_back(size):
    hashes = hashes_of(size + 1)
    before = Frontier.empty().extend(hashes[:size])
    proof = before.proof_of_next_leaf()
    assert proof == inclusion_proof(hashes, size)
    assert Frontier.from_newest_leaf(size + 1, hashes[size], proof) == before.append(hashes[size])


@given(positive_sizes, st.data())
def test_inclusion_proofs_are_those_of_the_definition_and_verify(size, data):
    index = data.draw(st.integers(0, size - 1))
    hashes = hashes_of(size)
    proof = inclusion_proof(hashes, index)
    assert list(proof) == naive_path(index, hashes)
    verify_inclusion(index, size, hashes[index], proof, naive_root(hashes))


@given(positive_sizes, st.data())
def test_consistency_proofs_are_those_of_the_definition_and_verify(size, data):
    first = data.draw(st.integers(1, size))
    hashes = hashes_of(size)
    proof = consistency_proof(hashes, first)
    assert list(proof) == naive_subproof(first, hashes)
    verify_consistency(first, size, naive_root(hashes[:first]), naive_root(hashes), proof)


def changed(proof: Sequence[bytes], data: st.DataObject) -> list[bytes]:
    """Change, drop, add or swap hashes so that the result is another proof."""
    other = sha256(b"other").digest()
    at = data.draw(st.integers(0, max(len(proof) - 1, 0)))
    candidates = [[*proof[:at], other, *proof[at:]], [*proof, other], [*proof, *proof[-1:], other]]
    if proof:
        bit = data.draw(st.integers(0, 255))
        flipped = bytearray(proof[at])
        flipped[bit // 8] ^= 1 << bit % 8
        candidates += [
            [*proof[:at], bytes(flipped), *proof[at + 1 :]],
            [*proof[:at], *proof[at + 1 :]],
            [*proof[:at], proof[at], *proof[at:]],
            [*proof[:at], proof[at][:-1], *proof[at + 1 :]],
        ]
    if len(proof) > 1:
        candidates.append(list(reversed(proof)))
    return data.draw(st.sampled_from([c for c in candidates if c != list(proof)]))


@given(positive_sizes, st.data())
def test_a_changed_inclusion_proof_is_refused(size, data):
    index = data.draw(st.integers(0, size - 1))
    hashes = hashes_of(size)
    wrong = changed(inclusion_proof(hashes, index), data)
    with pytest.raises(ProofError):
        verify_inclusion(index, size, hashes[index], wrong, naive_root(hashes))


@given(st.integers(2, 130), st.data())
def test_a_proof_for_another_leaf_size_or_root_is_refused(size, data):
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index))
    hashes = hashes_of(size)
    proof, root = inclusion_proof(hashes, index), naive_root(hashes)
    for arguments in (
        (other, size, hashes[index], proof, root),
        (index, size, hashes[other], proof, root),
        (index, size, hashes[index], proof, hashes[0]),
        (index, index, hashes[index], proof, root),
    ):
        with pytest.raises(ProofError):
            verify_inclusion(*arguments)


@given(positive_sizes, st.data())
def test_a_changed_consistency_proof_is_refused(size, data):
    first = data.draw(st.integers(1, size))
    hashes = hashes_of(size)
    wrong = changed(consistency_proof(hashes, first), data)
    with pytest.raises(ProofError):
        verify_consistency(first, size, naive_root(hashes[:first]), naive_root(hashes), wrong)


@given(st.integers(2, 130), st.data())
def test_a_rewritten_history_has_no_consistency_proof(size, data):
    first = data.draw(st.integers(1, size))
    rewritten = data.draw(st.integers(0, first - 1))
    old = hashes_of(size)
    new = [*old[:rewritten], sha256(b"rewritten").digest(), *old[rewritten + 1 :]]
    for proof in (consistency_proof(old, first), consistency_proof(new, first)):
        with pytest.raises(ProofError):
            verify_consistency(first, size, naive_root(old[:first]), naive_root(new), proof)
