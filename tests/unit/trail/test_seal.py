from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import msgspec
import pytest

from agent.errors import FormatError, IntegrityError, NotVerifiedError, ProofError
from agent.trail.batch import read_data
from agent.trail.checkpoint import Checkpoint
from agent.trail.layout import Origin
from agent.trail.merkle import Frontier, inclusion_proof, leaf_hash, leaf_hashes, root_of
from agent.trail.note import sign_note
from agent.trail.proof import TlogProof
from agent.trail.seal import build_seal, open_seal, parse_seal
from tests.unit.trail.samples import ENROLMENT_KEY, KEY, ORIGIN, following, opening

OPEN, AFTER_OPEN = opening(signers=(KEY, ENROLMENT_KEY))
SEAL, AFTER, CUT = following(OPEN, AFTER_OPEN, 5)
KEYS = frozenset({KEY.verifier, ENROLMENT_KEY.verifier})


def test_a_seal_is_a_manifest_an_empty_line_and_a_proof():
    assert SEAL.raw == SEAL.manifest_line + b"\n\n" + SEAL.proof.encode()
    assert parse_seal(SEAL.raw) == SEAL
    assert TlogProof.parse(SEAL.raw.partition(b"\n\n")[2]).verify(SEAL.manifest_line, [KEY.verifier]).origin == str(ORIGIN)


def test_a_seal_opens_with_the_keys_that_signed_it():
    checkpoint, verified = open_seal(parse_seal(OPEN.raw), str(ORIGIN), KEYS)
    assert (checkpoint.size, verified) == (1, KEYS)
    checkpoint, verified = open_seal(parse_seal(SEAL.raw), str(ORIGIN), KEYS)
    assert (checkpoint.size, checkpoint.root, verified) == (7, AFTER.root(), frozenset({KEY.verifier}))
    assert SEAL.checkpoint() == checkpoint


def test_without_keys_a_seal_is_checked_and_proves_nothing():
    assert open_seal(SEAL, str(ORIGIN), [])[1] == frozenset()
    with pytest.raises(NotVerifiedError):
        SEAL.proof.verify(SEAL.manifest_line, [])


def test_the_root_is_the_root_over_every_leaf():
    records = read_data(CUT.data or b"", CUT.raw_bytes)
    leaves = leaf_hashes([OPEN.manifest_line, *records, SEAL.manifest_line])
    assert len(leaves) == 7
    assert SEAL.checkpoint().root == root_of(leaves)
    assert SEAL.proof.hashes == inclusion_proof(leaves, 6)


def test_one_seal_carries_the_trail_on():
    assert parse_seal(SEAL.raw).frontier() == AFTER
    resumed, after, _ = following(parse_seal(SEAL.raw), parse_seal(SEAL.raw).frontier(), 2)
    assert (resumed.manifest.previous, after.size) == (SEAL.sha256, 10)


def test_the_hash_of_a_seal_is_what_the_next_manifest_names():
    assert OPEN.sha256 == sha256(OPEN.raw).hexdigest() == SEAL.manifest.previous


def test_a_manifest_is_sealed_only_at_its_own_place():
    with pytest.raises(IntegrityError):
        build_seal(SEAL.manifest, AFTER_OPEN, str(ORIGIN), [KEY])
    with pytest.raises(IntegrityError):
        build_seal(SEAL.manifest, AFTER, str(ORIGIN), [KEY])


def test_a_seal_needs_a_signer():
    with pytest.raises(FormatError):
        build_seal(SEAL.manifest, CUT.frontier, str(ORIGIN), [])


def test_a_seal_of_another_trail_is_refused():
    other = Origin(ORIGIN.namespace, ORIGIN.service, ORIGIN.epoch, "host-2")
    with pytest.raises(ProofError, match="belongs to"):
        open_seal(SEAL, str(other), KEYS)


def test_a_checkpoint_that_is_not_the_manifests_own_is_refused():
    later, _, _ = following(SEAL, AFTER, 3)
    for spliced in (replace(SEAL, proof=later.proof), replace(later, proof=SEAL.proof)):
        with pytest.raises(ProofError):
            open_seal(spliced, str(ORIGIN), KEYS)


def test_a_valid_proof_that_is_not_of_the_newest_leaf_is_refused():
    hashes = [leaf_hash(OPEN.manifest_line), leaf_hash(b"another leaf")]
    note = sign_note(Checkpoint(str(ORIGIN), 2, root_of(hashes)).text(), [KEY])
    sealed_too_late = replace(OPEN, proof=TlogProof(0, inclusion_proof(hashes, 0), note))
    assert sealed_too_late.proof.verify(OPEN.manifest_line, [KEY.verifier]).size == 2
    with pytest.raises(ProofError, match="its own manifest"):
        open_seal(sealed_too_late, str(ORIGIN), KEYS)


def test_a_manifest_at_another_index_is_refused():
    moved = replace(SEAL, manifest=msgspec.structs.replace(SEAL.manifest, seq=5))
    with pytest.raises(ProofError, match="its own manifest"):
        open_seal(moved, str(ORIGIN), KEYS)


def test_extra_data_that_nothing_authenticates_is_refused():
    with pytest.raises(FormatError, match="extra"):
        parse_seal(SEAL.manifest_line + b"\n\n" + replace(SEAL.proof, extra=b"x").encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        SEAL.manifest_line,
        SEAL.manifest_line + b"\n\n",
        SEAL.raw.replace(b"\n\n", b"\n", 1),
        SEAL.raw.replace(b"\n\n", b"\n\n\n", 1),
        SEAL.raw.replace(b"\n", b"\r\n"),
        b"\n" + SEAL.raw,
        SEAL.raw + b"\n",
        SEAL.raw[:-1],
        SEAL.raw + SEAL.raw,
        SEAL.raw.replace(f"{ORIGIN}\n7\n".encode(), f"{ORIGIN}\n7\n".encode() + b"extension\n"),
        b"\xef\xbb\xbf" + SEAL.raw,
    ],
    ids=lambda raw: f"{len(raw)} bytes",
)
def test_bytes_that_are_no_seal_are_refused(raw):
    assert raw != SEAL.raw or not raw
    with pytest.raises(FormatError):
        parse_seal(raw)


def rejected(raw: bytes, keys: frozenset[object]) -> bool:
    """Tell whether nobody can take these bytes for the seal: malformed, disproven, or not signed by all who signed it."""
    try:
        return open_seal(parse_seal(raw), str(ORIGIN), KEYS)[1] != keys
    except (FormatError, ProofError):
        return True


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
@pytest.mark.parametrize("seal", [OPEN, SEAL], ids=["two signatures", "one signature"])
def test_no_byte_of_a_seal_can_change(seal, bit):
    keys = open_seal(seal, str(ORIGIN), KEYS)[1]
    assert not rejected(seal.raw, keys)
    survived = [at for at in range(len(seal.raw)) if not rejected(seal.raw[:at] + bytes([seal.raw[at] ^ bit]) + seal.raw[at + 1 :], keys)]
    assert survived == []


def test_a_frontier_does_not_come_out_of_a_seal_whose_proof_has_another_length():
    with pytest.raises(ProofError):
        replace(SEAL, proof=replace(SEAL.proof, hashes=(*SEAL.proof.hashes, bytes(32)))).frontier()
    assert Frontier.decode(SEAL.frontier().encode()) == AFTER


def test_a_seal_whose_signature_line_stands_twice_is_refused():
    signature = SEAL.raw.splitlines(keepends=True)[-1]
    with pytest.raises(FormatError, match="signed twice"):
        parse_seal(SEAL.raw + signature)
