from __future__ import annotations

import json
from base64 import b64decode
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from agent.errors import FormatError, ProofError
from agent.trail.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    leaf_hashes,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS: Final = Path(__file__).parents[2] / "vectors" / "rfc6962"


def probes(kind: str) -> list[Any]:
    loaded = json.loads((VECTORS / f"{kind}.json").read_text())
    return [pytest.param(probe, id=probe["file"].removesuffix(".json")) for probe in loaded]


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / "tree.json").read_text())
    return loaded


def test_hashes_are_the_published_ones(tree):
    assert EMPTY_ROOT.hex() == tree["hashes"]["empty_root"]
    assert leaf_hash(b"").hex() == tree["hashes"]["leaf_of_nothing"]
    assert leaf_hash(b"L123456").hex() == tree["hashes"]["leaf_L123456"]
    assert node_hash(b"N123", b"N456").hex() == tree["hashes"]["node_N123_N456"]


def test_roots_and_frontiers_of_the_published_tree(tree):
    hashes = leaf_hashes(bytes.fromhex(leaf) for leaf in tree["leaves"])
    assert [h.hex() for h in hashes] == tree["levels"][0]
    frontier = Frontier.empty()
    for size, root in enumerate(tree["roots"]):
        assert root_of(hashes[:size]).hex() == root
        assert frontier.root().hex() == root
        if size < len(hashes):
            frontier = frontier.append(hashes[size])
    compact = {3: [(1, 0), (0, 2)], 5: [(2, 0), (0, 4)], 6: [(2, 0), (1, 2)], 7: [(2, 0), (1, 2), (0, 6)], 8: [(3, 0)]}
    for size, nodes in compact.items():
        expected = [tree["levels"][level][place] for level, place in nodes]
        assert [node.hex() for node in Frontier.empty().extend(hashes[:size]).nodes] == expected


@pytest.mark.parametrize("probe", probes("inclusion"))
def test_published_inclusion_probe(probe):
    proof = [b64decode(hashed) for hashed in probe["proof"] or []]
    arguments = probe["leafIdx"], probe["treeSize"], b64decode(probe["leafHash"]), proof, b64decode(probe["root"])
    refused = pytest.raises(ProofError) if probe["wantErr"] else nullcontext()
    with refused:
        verify_inclusion(*arguments)


@pytest.mark.parametrize("probe", probes("consistency"))
def test_published_consistency_probe(probe):
    proof = [b64decode(hashed) for hashed in probe["proof"] or []]
    arguments = probe["size1"], probe["size2"], b64decode(probe["root1"]), b64decode(probe["root2"]), proof
    refused = pytest.raises(ProofError) if probe["wantErr"] else nullcontext()
    with refused:
        verify_consistency(*arguments)


def test_a_frontier_is_not_changed_by_appending():
    before = Frontier.empty().extend(leaf_hashes([b"a", b"b", b"c"]))
    nodes = before.nodes
    after = before.append(leaf_hash(b"d"))
    assert (before.size, before.nodes) == (3, nodes)
    assert (after.size, len(after.nodes)) == (4, 1)


def test_the_empty_frontier_has_the_root_of_nothing_and_extends_by_nothing():
    empty = Frontier.empty()
    assert empty.root() == EMPTY_ROOT
    assert empty.extend([]) == empty
    assert empty.proof_of_next_leaf() == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8 + b"x" * 31,
        b"\0" * 7 + b"\1",
        b"\0" * 7 + b"\3" + b"x" * 32,
        b"\0" * 7 + b"\1" + b"x" * 64,
        b"\x80" + b"\0" * 7 + b"x" * 32,
    ],
)
def test_bytes_that_are_no_frontier_are_refused(raw):
    with pytest.raises(FormatError):
        Frontier.decode(raw)


def test_an_encoded_frontier_is_its_size_and_its_nodes():
    frontier = Frontier.empty().extend(leaf_hashes([b"a", b"b", b"c"]))
    assert frontier.encode() == b"\0" * 7 + b"\3" + b"".join(frontier.nodes)
    assert Frontier.decode(frontier.encode()) == frontier


@pytest.mark.parametrize(("size", "hashes"), [(0, 0), (1, 1), (4, 1), (4, 3), (5, 2), (2**63, 63)])
def test_a_proof_of_another_length_makes_no_frontier(size, hashes):
    with pytest.raises(ProofError):
        Frontier.from_newest_leaf(size, leaf_hash(b"x"), [leaf_hash(b"y")] * hashes)


def test_a_proof_with_a_short_hash_makes_no_frontier():
    with pytest.raises(ProofError):
        Frontier.from_newest_leaf(2, leaf_hash(b"x"), [b"short"])


@pytest.mark.parametrize("index", [-1, 3])
def test_no_inclusion_proof_for_a_leaf_that_is_not_there(index):
    with pytest.raises(ProofError):
        inclusion_proof(leaf_hashes([b"a", b"b", b"c"]), index)


@pytest.mark.parametrize("first", [0, -1, 4])
def test_no_consistency_proof_from_a_size_that_never_was(first):
    with pytest.raises(ProofError):
        consistency_proof(leaf_hashes([b"a", b"b", b"c"]), first)


def test_an_inner_node_cannot_pass_as_a_leaf():
    left, right = leaf_hashes([b"a", b"b"])
    assert leaf_hash(left + right) != node_hash(left, right)
