"""Checking a proof offline: what a thief, a forger and a careless person would hand over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from agent.errors import FormatError, NotVerifiedError, ProofError
from agent.reader.evidence.checking import check_proof, read_opening
from agent.reader.evidence.proofs import TrailProver, read_head
from agent.reader.trustfile import TrustFile
from agent.trail.layout import seal_key
from agent.trail.note import SigningKey, sign_note
from agent.trail.proof import TlogProof
from tests.support.trail_factory import sample_trail

ENROLMENT = SigningKey.from_seed("acme-enrolment", sha256(b"enrolment").digest())


@pytest.fixture
def proven(indexed):
    """Return a function that makes a trail, and the proof of one leaf of it."""

    def make(seq=2, **arguments):
        trail = sample_trail(**arguments)
        index, store = indexed(trail)
        (one,) = TrailProver(index, store, read_head(index, str(trail.origin))).prove([seq])
        return trail, one

    return make


def trusting(text):
    return TrustFile.parse(text, "trust")


def test_a_proof_is_checked_with_the_epochs_key(proven):
    trail, one = proven()
    checked = check_proof(one.proof, one.leaf, trusting(trail.trust_line))
    assert (checked.seq, checked.checkpoint.origin) == (2, str(trail.origin))
    assert checked.signed_by == checked.vouched_by == trail.signer.verifier


@pytest.mark.parametrize("at", [0, 40, -2])
def test_a_leaf_with_one_other_byte_is_not_in_the_tree(proven, at):
    trail, one = proven()
    leaf = bytearray(one.leaf)
    leaf[at] ^= 1
    with pytest.raises(ProofError, match="not in the tree"):
        check_proof(one.proof, bytes(leaf), trusting(trail.trust_line))


def test_a_proof_with_another_hash_too_few_or_too_many_is_refused(proven):
    trail, one = proven()
    hashes = one.proof.hashes
    for changed in ((bytes(32), *hashes[1:]), hashes[1:], (*hashes, bytes(32))):
        with pytest.raises(ProofError):
            check_proof(replace(one.proof, hashes=changed), one.leaf, trusting(trail.trust_line))


def test_a_proof_for_another_index_is_refused(proven):
    trail, one = proven()
    with pytest.raises(ProofError):
        check_proof(replace(one.proof, index=one.proof.index + 1), one.leaf, trusting(trail.trust_line))


def test_a_signature_with_one_other_bit_is_wrong(proven):
    trail, one = proven()
    head, _, line = one.proof.note.rpartition(b" ")
    note = head + b" " + bytes([*line[:20], line[20] ^ 3, *line[21:]])
    with pytest.raises((ProofError, FormatError)):
        check_proof(replace(one.proof, note=note), one.leaf, trusting(trail.trust_line))


def test_without_trust_nothing_is_proven(proven):
    _, one = proven()
    with pytest.raises(NotVerifiedError, match="nobody here vouches"):
        check_proof(one.proof, one.leaf, TrustFile())


def test_a_key_that_is_trusted_for_another_service_does_not_count(proven):
    trail, one = proven()
    with pytest.raises(NotVerifiedError):
        check_proof(one.proof, one.leaf, trusting(f"demo/console/*/* {trail.vkey}\n"))


def test_a_forged_trail_under_the_same_name_is_not_verified(proven):
    """A thief signs a trail of the same name with a key of his own, and puts that key's opening seal along."""
    trail, _ = proven()
    thief, forged = proven(signer_seed=b"thief")
    assert trail.origin == thief.origin
    for extra in (None, thief.objects[seal_key(thief.origin, 0)], trail.objects[seal_key(trail.origin, 0)]):
        with pytest.raises((NotVerifiedError, ProofError)):
            check_proof(replace(forged.proof, extra=extra), forged.leaf, trusting(trail.trust_line))


def test_an_enrolment_key_vouches_through_the_opening_seal(proven):
    trail, one = proven(enrolment=ENROLMENT)
    trust = trusting(f"demo/payments/*/* {ENROLMENT.verifier}\n")
    opening = trail.objects[seal_key(trail.origin, 0)]
    with pytest.raises(NotVerifiedError):
        check_proof(one.proof, one.leaf, trust)
    carried = check_proof(TlogProof.parse(replace(one.proof, extra=opening).encode()), one.leaf, trust)
    given = check_proof(one.proof, one.leaf, trust, opening=opening)
    for checked in (carried, given):
        assert (checked.signed_by, checked.vouched_by) == (trail.signer.verifier, ENROLMENT.verifier)


def test_a_thief_cannot_borrow_the_enrolment_of_another_epoch(proven):
    trail, _ = proven(enrolment=ENROLMENT)
    thief, forged = proven(seed=b"thief")
    trust = trusting(f"demo/payments/*/* {ENROLMENT.verifier}\n")
    with pytest.raises(ProofError):
        check_proof(replace(forged.proof, extra=trail.objects[seal_key(trail.origin, 0)]), forged.leaf, trust)
    assert thief.origin != trail.origin


def test_a_thief_cannot_borrow_the_enrolment_of_the_same_epoch(proven):
    trail, _ = proven(enrolment=ENROLMENT)
    _, forged = proven(signer_seed=b"thief")
    trust = trusting(f"demo/payments/*/* {ENROLMENT.verifier}\n")
    with pytest.raises((ProofError, NotVerifiedError)):
        check_proof(forged.proof, forged.leaf, trust, opening=trail.objects[seal_key(trail.origin, 0)])


def test_extra_bytes_that_are_no_seal_are_passed_over(proven):
    trail, one = proven()
    assert check_proof(replace(one.proof, extra=b"anything"), one.leaf, trusting(trail.trust_line)).seq == 2
    with pytest.raises(NotVerifiedError):
        check_proof(replace(one.proof, extra=b"anything"), one.leaf, trusting(f"*/*/*/* {ENROLMENT.verifier}\n"))


def test_another_trail_than_the_one_asked_for_is_refused(proven):
    trail, one = proven()
    assert check_proof(one.proof, one.leaf, trusting(trail.trust_line), origin_glob="demo/payments/*/*").seq == 2
    with pytest.raises(ProofError, match="does not match"):
        check_proof(one.proof, one.leaf, trusting(trail.trust_line), origin_glob="demo/console/*/*")


def test_a_leaf_that_calls_itself_another_number_is_refused(proven):
    """A key's owner may sign any tree; a record that stands elsewhere than it says is no record of the format."""
    trail, one = proven()
    leaf = b'{"seq":9,"kind":"event"}'
    from agent.trail.checkpoint import Checkpoint
    from agent.trail.merkle import leaf_hash

    note = sign_note(Checkpoint(str(trail.origin), 1, leaf_hash(leaf)).text(), [trail.signer])
    with pytest.raises(FormatError, match="calls itself seq 9"):
        check_proof(TlogProof(0, (), note), leaf, trusting(trail.trust_line))
    assert one.seq == 2


def test_a_seal_of_a_later_batch_opens_nothing():
    trail = sample_trail()
    with pytest.raises(FormatError, match="opens no trail"):
        read_opening(trail.objects[seal_key(trail.origin, 1)], str(trail.origin), ())


def test_an_opening_seal_of_another_trail_is_refused():
    trail, other = sample_trail(), sample_trail(seed=b"other", start=sample_trail().now + timedelta(days=1))
    with pytest.raises(ProofError, match="belongs to"):
        read_opening(other.objects[seal_key(other.origin, 0)], str(trail.origin), ())
