"""Proofs of a pack that lead to other checkpoints than its seals hold."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

from agent.reader.evidence.packcheck import check_pack
from agent.reader.findings import Severity
from agent.trail.note import SigningKey, VerifierKey, parse_note, sign_note
from agent.trail.proof import TlogProof
from tests.support.trail_factory import TrailFactory, sample_trail
from tests.unit.reader.evidence.forging import contents, places, proofs_of, rewrite

ENROLMENT = SigningKey.from_seed("acme-enrolment", sha256(b"enrolment").digest())


def signed_anew(proof, signer):
    """Return a proof whose checkpoint says the same, signed by another key."""
    parsed = TlogProof.parse(proof)
    return replace(parsed, note=sign_note(parse_note(parsed.note).text, [signer])).encode()


def test_a_checkpoint_that_only_others_signed_proves_nothing_and_hides_no_other_fault(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    first, *_, last = proofs_of(files)
    files[first] = signed_anew(files[first], ENROLMENT)
    files[last] = b"no proof"
    rewrite(path, files)
    report = check_pack(path, believed)
    assert set(places(report)) == {first, last}
    assert report.proven == 10
    assert any("its checkpoint is not signed by demo/payments" in fault.message for fault in report.faults)


def grown():
    """Return a trail, and a function that goes on with it."""
    trail = TrailFactory()
    trail.add(40)

    def more():
        trail.add(2)
        trail.stop()

    return trail, more


def verifying(monkeypatch):
    """Return a list that gets every text whose signature is verified."""
    texts, verify = [], VerifierKey.verify

    def noted(self, text, signature):
        texts.append(text)
        return verify(self, text, signature)

    monkeypatch.setattr(VerifierKey, "verify", noted)
    return texts


def test_proofs_that_lead_to_an_older_checkpoint_hold_and_its_signature_is_verified_once(pack, monkeypatch):
    trail, more = grown()
    older, _ = pack(trail, name="older.zip")
    more()
    path, believed = pack(trail, name="newer.zip")
    files = {**contents(path), **{name: raw for name, raw in contents(older).items() if name.startswith("proofs/")}}
    rewrite(path, files)
    texts = verifying(monkeypatch)
    report = check_pack(path, believed)
    assert (report.severity, report.proven) == (Severity.NOTICE, 42)
    # The opening seal, the head, and the older checkpoint.
    assert (len(texts), len(set(texts))) == (3, 3)


def test_a_signature_that_is_wrong_in_many_proofs_is_looked_at_once_and_said_of_each(pack, monkeypatch):
    trail, more = grown()
    older, _ = pack(trail, name="older.zip")
    more()
    path, believed = pack(trail, name="newer.zip")
    thief = SigningKey.from_seed(str(trail.origin), sha256(b"thief").digest())
    proofs = {name: raw for name, raw in contents(older).items() if name.startswith("proofs/")}
    (note,) = {TlogProof.parse(raw).note for raw in proofs.values()}
    signed = note.replace(note.rpartition(b" ")[2], b64encode(trail.signer.verifier.key_id + thief.sign(b"x")) + b"\n")
    rewrite(path, {**contents(path), **{name: raw.replace(note, signed) for name, raw in proofs.items()}})
    texts = verifying(monkeypatch)
    report = check_pack(path, believed)
    assert set(places(report)) == set(proofs)
    assert report.proven == 2
    assert (len(texts), len(set(texts))) == (3, 3)
