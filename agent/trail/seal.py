"""Seals: the objects that commit a batch. A manifest line, an empty line, and a C2SP tlog-proof of that manifest.

Invariants: a seal's bytes are built once and kept verbatim; :func:`parse_seal` accepts no bytes but those. The manifest
is the newest leaf of the tree its checkpoint signs, so the proof is the tree's frontier before it, and one seal is
enough to check the manifest and to carry the trail on. This module must not decide whom to trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ..errors import FormatError, IntegrityError, ProofError
from .checkpoint import Checkpoint
from .manifest import Manifest, decode_manifest, encode_manifest
from .merkle import Frontier, leaf_hash, leaf_hashes
from .note import parse_note, sign_note
from .proof import TlogProof

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .note import SigningKey, VerifierKey

_BLANK: Final = b"\n\n"


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal.

    Attributes:
        manifest_line: The manifest's exact bytes, the leaf.
        manifest: The same, read.
        proof: The inclusion proof with the signed checkpoint.
        raw: The object's exact bytes.
    """

    manifest_line: bytes
    manifest: Manifest
    proof: TlogProof
    raw: bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the object in hex, which the next manifest names as ``previous``."""
        return sha256(self.raw).hexdigest()

    def frontier(self) -> Frontier:
        """Return the tree's frontier after this seal, from which the trail goes on (ProofError if it does not fit)."""
        return Frontier.from_newest_leaf(self.manifest.seq + 1, leaf_hash(self.manifest_line), self.proof.hashes)

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint as the seal states it, not verified."""
        return Checkpoint.parse(parse_note(self.proof.note).text)


def build_seal(manifest: Manifest, frontier_before: Frontier, origin: str, signers: Sequence[SigningKey]) -> tuple[Seal, Frontier]:
    """Seal a batch.

    Args:
        manifest: The batch's manifest.
        frontier_before: The tree after the batch's records and before the manifest.
        origin: The trail's origin.
        signers: The epoch's key; in batch 0 also the enrolment key, where there is one.

    Returns:
        The seal, and the tree's frontier after it.

    Raises:
        IntegrityError: The manifest's seq is not the tree's size.
        FormatError: The manifest, the origin or the signers cannot be written.
    """
    if manifest.seq != frontier_before.size:
        raise IntegrityError(f"the manifest has the seq {manifest.seq}, the tree has {frontier_before.size} leaves")
    line = encode_manifest(manifest)
    after = frontier_before.append(leaf_hash(line))
    note = sign_note(Checkpoint(origin, after.size, after.root()).text(), signers)
    proof = TlogProof(manifest.seq, frontier_before.proof_of_next_leaf(), note)
    return Seal(line, manifest, proof, line + _BLANK + proof.encode()), after


def prove_records(frontier_before: Frontier, lines: Sequence[bytes], seal: Seal, positions: Sequence[int]) -> list[TlogProof]:
    """Return the proof of some records of a batch in the tree that the batch's checkpoint signs.

    Args:
        frontier_before: The tree before the batch.
        lines: All record lines of the batch, in their order.
        seal: The batch's seal.
        positions: Indices in `lines`, from 0, of the records to prove.

    Raises:
        IntegrityError: The batch does not begin where the frontier ends.
        ProofError: There is no such record.
    """
    if frontier_before.size + len(lines) != seal.manifest.seq:
        raise IntegrityError(
            f"{len(lines)} records after {frontier_before.size} leaves do not lead to a manifest with the seq {seal.manifest.seq}"
        )
    proofs = frontier_before.inclusion_proofs(leaf_hashes([*lines, seal.manifest_line]), positions)
    return [TlogProof(frontier_before.size + at, proof, seal.proof.note) for at, proof in zip(positions, proofs, strict=True)]


def parse_seal(raw: bytes) -> Seal:
    """Read a seal; its syntax is checked, its proof and signatures are not.

    Args:
        raw: The object's exact bytes.

    Raises:
        FormatError: They are not a seal in its only spelling.
    """
    line, blank, rest = raw.partition(_BLANK)
    if not blank:
        raise FormatError("the seal has no empty line after its manifest")
    manifest = decode_manifest(line)
    proof = TlogProof.parse(rest)
    if proof.extra is not None:
        raise FormatError("the seal's proof has extra data, which nothing authenticates")
    signed_by = [(signature.name, signature.key_id) for signature in parse_note(proof.note).signatures]
    if len(set(signed_by)) < len(signed_by):
        # It would verify; but a seal has one spelling, and nothing follows the newest one to show that a line was added.
        raise FormatError("the seal's checkpoint is signed twice with the same key")
    if line + _BLANK + proof.encode() != raw:
        raise FormatError("the seal is not written in its only spelling")
    return Seal(line, manifest, proof, raw)


def open_seal(seal: Seal, origin: str, keys: Collection[VerifierKey]) -> tuple[Checkpoint, frozenset[VerifierKey]]:
    """Check a seal against the trail it should belong to.

    Args:
        seal: The seal.
        origin: The origin of the trail.
        keys: The keys that may speak for this origin; with none, everything but the signatures is checked.

    Returns:
        The checkpoint, and the keys whose signatures were verified. With an empty set nothing is proven: anybody could
        have made this seal. The caller decides what that means.

    Raises:
        FormatError: The checkpoint is malformed.
        ProofError: The manifest is not the newest leaf of the signed tree, the origin is another, or the signature of a
            known key is wrong.
    """
    checkpoint, verified = seal.proof.check(seal.manifest_line, keys, origin)
    if seal.proof.index != seal.manifest.seq or checkpoint.size != seal.manifest.seq + 1:
        raise ProofError(f"the seal of batch {seal.manifest.batch} does not end in its own manifest")
    return checkpoint, verified
