"""The offline proof that one leaf is in a signed tree (C2SP tlog-proof).

Invariants: the checkpoint's note is kept verbatim, one proof has one spelling, and a proof that parses has only hashes
of 32 bytes. This module must not decide which keys speak for which origin; the caller passes both.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from ..errors import FormatError, NotVerifiedError, ProofError
from .checkpoint import Checkpoint, parse_decimal
from .merkle import HASH_BYTES, leaf_hash, verify_inclusion
from .note import decode_base64, open_note, parse_note

if TYPE_CHECKING:
    from collections.abc import Collection

    from .note import VerifierKey

_FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof with the signed checkpoint it leads to.

    Attributes:
        index: The leaf's index in the trail, from 0 (a seq).
        hashes: The inclusion proof, the leaf's sibling first; 32 bytes each (RFC 6962 §2.1.1).
        note: The signed checkpoint's exact bytes.
        extra: Opaque bytes that nothing authenticates, or None. Seals have none.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the proof's only spelling."""
        lines = [_FIRST_LINE]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(hashed).decode() for hashed in self.hashes]
        return "\n".join(lines).encode() + b"\n\n" + self.note

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read what :meth:`encode` returns; the checkpoint's syntax is checked, its signatures are not.

        Raises:
            FormatError: The bytes have another form.
        """
        head, blank, note = raw.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            lines = []
        if not blank or lines[:1] != [_FIRST_LINE]:
            raise FormatError(f"the proof does not begin with the line {_FIRST_LINE}")
        del lines[0]
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "), "the proof's extra data")
        if not lines or not lines[0].startswith("index "):
            raise FormatError("the proof has no index line")
        index = parse_decimal(lines[0].removeprefix("index "), "the proof's index")
        hashes = tuple(decode_base64(line, "a hash of the proof") for line in lines[1:])
        if len(hashes) > MAX_PROOF_HASHES or any(len(hashed) != HASH_BYTES for hashed in hashes):
            raise FormatError("the proof has too many hashes, or one that is not 32 bytes long")
        Checkpoint.parse(parse_note(note).text)
        return cls(index, hashes, note, extra)

    def check(self, leaf: bytes, keys: Collection[VerifierKey], origin: str | None = None) -> tuple[Checkpoint, frozenset[VerifierKey]]:
        """Check everything but the trust: inclusion, origin, and the signatures of the keys that are known.

        Args:
            leaf: The leaf's exact bytes.
            keys: The known keys; none is allowed.
            origin: The origin the checkpoint must name; any when None.

        Returns:
            The checkpoint, and the keys whose signatures were verified. With an empty set nothing is proven.

        Raises:
            FormatError: The checkpoint is malformed.
            ProofError: The leaf is not in the tree, the origin is another, or a known key's signature is wrong.
        """
        note, verified = open_note(self.note, keys)
        checkpoint = Checkpoint.parse(note.text)
        if origin is not None and checkpoint.origin != origin:
            raise ProofError(f"the checkpoint belongs to {checkpoint.origin}, not to {origin}")
        verify_inclusion(self.index, checkpoint.size, leaf_hash(leaf), self.hashes, checkpoint.root)
        return checkpoint, verified

    def verify(self, leaf: bytes, keys: Collection[VerifierKey], origin: str | None = None) -> Checkpoint:
        """Prove that the leaf is in a tree signed by one of the keys at least (C2SP tlog-proof, "Verifying").

        Args:
            leaf: The leaf's exact bytes.
            keys: The keys that may speak for the origin.
            origin: The origin the checkpoint must name; when None the caller must compare it.

        Raises:
            FormatError: The checkpoint is malformed.
            ProofError: The leaf is not in the tree, the origin is another, or a known key's signature is wrong.
            NotVerifiedError: None of the keys signed.
        """
        checkpoint, verified = self.check(leaf, keys, origin)
        if not verified:
            raise NotVerifiedError(f"no known key signed the checkpoint of {checkpoint.origin} at size {checkpoint.size}")
        return checkpoint
