"""Check one proof offline: which event, in which tree, signed by whom, and who vouches for that key.

A checkpoint is signed by the key of its trail's epoch. A trust file may hold that key itself, or an enrolment key that signed the
trail's opening seal, in which the epoch's key stands; a proof may carry that opening seal along, in its ``extra`` line. Invariants:
a key counts only if the trust given here vouches for it, whatever a proof or a pack says of itself; nothing is asked of a store, an
index or a network. This module must not print.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from ...errors import FormatError, NotVerifiedError, ProofError
from ...trail.note import VerifierKey, open_note, parse_note
from ...trail.record_lines import strip_seq
from ...trail.seal import open_seal, parse_seal
from ..trustfile import matches_origin

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from ...trail.checkpoint import Checkpoint
    from ...trail.proof import TlogProof
    from ..trustfile import TrustFile

MAX_PROOF_BYTES: Final = 4 << 20
MAX_LEAF_BYTES: Final = 64 << 20
_NOBODY: Final = "Ask the service's owner for its key, compare the fingerprint, and pass it with --trust FILE or --key VKEY."


@dataclass(frozen=True, slots=True)
class Opening:
    """What a trail's first seal says, checked.

    Attributes:
        key: The epoch's key, which signs every checkpoint of the trail.
        vouched_by: The trusted key that signed the seal (it may be the epoch's own); None: nobody trusted did.
    """

    key: VerifierKey
    vouched_by: VerifierKey | None


@dataclass(frozen=True, slots=True)
class Checked:
    """A proof that holds.

    Attributes:
        checkpoint: Origin, tree size and root.
        seq: The leaf's index.
        leaf: The leaf's bytes.
        signed_by: The epoch's key, whose signature was verified.
        vouched_by: The key that was trusted: the same, or an enrolment key.
    """

    checkpoint: Checkpoint
    seq: int
    leaf: bytes
    signed_by: VerifierKey
    vouched_by: VerifierKey


def read_opening(raw: bytes, origin: str, trusted: Collection[VerifierKey]) -> Opening:
    """Check a trail's opening seal.

    Args:
        raw: The seal's exact bytes.
        origin: The trail it must belong to.
        trusted: The keys that may vouch for the trail.

    Raises:
        FormatError: It is no opening seal, or names no key.
        ProofError: It belongs to another trail, or a signature in it is wrong.
    """
    seal = parse_seal(raw)
    if seal.manifest.batch:
        raise FormatError(f"the seal of batch {seal.manifest.batch} opens no trail")
    key = VerifierKey.parse(str(seal.manifest.key))
    _, verified = open_seal(seal, origin, {key, *trusted})
    if key not in verified:
        raise ProofError(f"the opening seal of {origin} is not signed by the key it names")
    return Opening(key, next((trust for trust in trusted if trust in verified), None))


def check_proof(
    proof: TlogProof, leaf: bytes, trust: TrustFile, *, origin_glob: str | None = None, opening: bytes | None = None
) -> Checked:
    """Check a proof and everything it rests on.

    Args:
        proof: The proof.
        leaf: The leaf's exact bytes.
        trust: Whom to believe.
        origin_glob: The trails it may be of, as a pattern of four parts; any when None.
        opening: The trail's opening seal, where the trust is in an enrolment key; else the proof's own ``extra`` is looked at.

    Raises:
        FormatError: Something in it is malformed, or the leaf says it stands elsewhere.
        ProofError: The leaf is not in the tree, the trail is another, or a signature is wrong.
        NotVerifiedError: Nobody trusted vouches for the key that signed.
    """
    checkpoint, _ = proof.check(leaf, ())
    origin = checkpoint.origin
    if origin_glob is not None and not matches_origin(origin_glob, origin):
        raise ProofError(f"the proof is of the trail {origin}, which does not match {origin_glob}")
    seq, _ = strip_seq(leaf)
    if seq != proof.index:
        raise FormatError(f"the leaf calls itself seq {seq}; it is proven at {proof.index}")
    trusted = trust.keys_for(origin)
    _, verified = open_note(proof.note, trusted)
    direct = next((key for key in trusted if key in verified), None)
    if direct is not None:
        return Checked(checkpoint, seq, leaf, direct, direct)
    opened = _opening(proof, opening, origin, trusted)
    if opened is None or opened.vouched_by is None:
        signers = ", ".join(f"{signature.name} (key id {signature.key_id.hex()})" for signature in parse_note(proof.note).signatures)
        raise NotVerifiedError(f"the checkpoint of {origin} is signed by {signers}, for which nobody here vouches", hint=_NOBODY)
    _, verified = open_note(proof.note, (opened.key,))
    if opened.key not in verified:
        raise ProofError(f"the checkpoint is not signed by {opened.key.name} (key id {opened.key.key_id.hex()}), the key of its trail")
    return Checked(checkpoint, seq, leaf, opened.key, opened.vouched_by)


def _opening(proof: TlogProof, given: bytes | None, origin: str, trusted: Collection[VerifierKey]) -> Opening | None:
    if given is not None:
        return read_opening(given, origin, trusted)
    if proof.extra is None or not trusted:
        return None
    try:
        return read_opening(proof.extra, origin, trusted)
    except FormatError:
        # Anything may stand there: it is only of use if it is an opening seal.
        return None


def describe(leaf: bytes) -> dict[str, Any]:
    """Return what a leaf says, for showing: the fields of its event, or of what else it is; empty if it cannot be read.

    Args:
        leaf: The leaf's exact bytes.
    """
    try:
        said = msgspec.json.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
