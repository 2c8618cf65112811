from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import FormatError, NotVerifiedError, ProofError
from agent.trail.checkpoint import Checkpoint
from agent.trail.merkle import inclusion_proof, leaf_hashes, root_of
from agent.trail.note import SigningKey, sign_note
from agent.trail.proof import TlogProof

KEY = SigningKey.from_seed("example.com/log", bytes(range(32)))
LEAVES = [b"leaf %d" % n for n in range(7)]
HASHES = leaf_hashes(LEAVES)
NOTE = sign_note(Checkpoint("example.com/log", 7, root_of(HASHES)).text(), [KEY])
PROOF = TlogProof(3, inclusion_proof(HASHES, 3), NOTE)


def test_a_proof_is_written_as_the_specification_shows():
    example = json.loads((Path(__file__).parents[2] / "vectors" / "c2sp" / "examples.json").read_text())["proof"]
    proof = TlogProof(example["index"], tuple(b64decode(hashed) for hashed in example["hashes"]), NOTE, b"page")
    expected = "\n".join([example["first_line"], "extra cGFnZQ==", f"index {example['index']}", *example["hashes"], "", ""])
    assert proof.encode() == expected.encode() + NOTE
    assert TlogProof.parse(proof.encode()) == proof


def test_a_proof_shows_that_a_leaf_is_in_the_signed_tree():
    proof = TlogProof.parse(PROOF.encode())
    checkpoint = proof.verify(LEAVES[3], [KEY.verifier], "example.com/log")
    assert checkpoint == Checkpoint("example.com/log", 7, root_of(HASHES))


def test_the_proof_of_the_only_leaf_has_no_hashes():
    note = sign_note(Checkpoint("o", 1, root_of(HASHES[:1])).text(), [KEY])
    proof = TlogProof(0, (), note)
    assert proof.encode() == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + note
    assert TlogProof.parse(proof.encode()).verify(LEAVES[0], [KEY.verifier]).size == 1


def test_another_leaf_is_not_proven():
    with pytest.raises(ProofError):
        PROOF.verify(LEAVES[4], [KEY.verifier])


def test_the_same_leaf_is_not_proven_at_another_index():
    with pytest.raises(ProofError):
        replace(PROOF, index=2).verify(LEAVES[3], [KEY.verifier])


def test_a_checkpoint_of_another_origin_is_refused():
    with pytest.raises(ProofError, match="belongs to"):
        PROOF.verify(LEAVES[3], [KEY.verifier], "example.com/other")


def test_without_a_known_signature_nothing_is_verified():
    stranger = SigningKey.from_seed("example.com/stranger", bytes(32))
    for keys in ([], [stranger.verifier]):
        with pytest.raises(NotVerifiedError):
            PROOF.verify(LEAVES[3], keys)
        assert PROOF.check(LEAVES[3], keys)[1] == frozenset()


def test_a_signed_text_that_is_no_checkpoint_is_refused():
    with pytest.raises(FormatError):
        replace(PROOF, note=sign_note("hello\n", [KEY])).verify(LEAVES[3], [KEY.verifier])


RAW = PROOF.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        RAW[1:],
        RAW.replace(b"@v1", b"@v2"),
        RAW.replace(b"index 3", b"index 03"),
        RAW.replace(b"index 3", b"index  3"),
        RAW.replace(b"index 3", b"index"),
        RAW.replace(b"index 3\n", b""),
        RAW.replace(b"index 3\n", b"index 3\nindex 3\n"),
        RAW.replace(b"index 3\n", b"index 3\nextra AA==\n"),
        RAW.replace(b"index 3\n", b"extra AA\nindex 3\n"),
        RAW.replace(b"index 3\n", b"extra AA==\nextra AA==\nindex 3\n"),
        RAW.replace(b"index 3\n", b"index 3\nAAAA\n"),
        RAW.replace(b"index 3\n", b"index 3\n\n"),
        RAW.replace(b"index 3\n", b"index 3\n" + b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n" * 64),
        RAW.replace(b"index 3\n", "index 3é\n".encode()),
        RAW.replace(b"\n\n", b"\n", 1),
        RAW[:-1],
        RAW + b"\n",
    ],
)
def test_bytes_that_are_no_proof_are_refused(raw):
    with pytest.raises(FormatError):
        TlogProof.parse(raw)
