"""Signed notes and their Ed25519 keys (C2SP signed-note, signature type 0x01).

Invariants: one note has one spelling (base64 and hex are canonical, no control characters), a signature by an unknown
key is ignored, a signature by a known key that fails is an error. Only Ed25519 is spoken; keys of other types are
refused, signatures of other types are unknown ones. This module must not decide which keys are trusted, and no text
form of a :class:`SigningKey` but :meth:`SigningKey.encode` shows its seed.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import FormatError, ProofError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MAX_SIGNATURES: Final = 100
MAX_NOTE_BYTES: Final = 1 << 20
KEY_ID_BYTES: Final = 4
_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_SECRET_PREFIX: Final = "PRIVATE+KEY+"  # noqa: S105 -- the form's first words, no secret
_SIGNATURE_LINE: Final = re.compile(r"— ([^ ]+) ([A-Za-z0-9+/]+={0,2})")
_HEX_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")


def decode_base64(text: str, what: str) -> bytes:
    """Decode standard base64 in its one canonical spelling (RFC 4648 §4).

    Args:
        text: The base64 text.
        what: What it is, for the message.

    Raises:
        FormatError: It has foreign characters, missing padding or bits set that decode to nothing.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = None
    if raw is None or base64.b64encode(raw).decode() != text:
        raise FormatError(f"{what} is not canonical base64")
    return raw


def is_key_name(name: str) -> bool:
    """Tell whether a key may have this name: not empty, no white space, no plus, no control character."""
    return bool(name) and not any(c.isspace() or c == "+" or c < " " for c in name) and not re.search(r"[\ud800-\udfff]", name)


def _key_id(name: str, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:KEY_ID_BYTES]


def _parse_key(text: str, what: str) -> tuple[str, bytes, bytes]:
    """Split ``name+hex id+base64(0x01 || 32 bytes)``; the id is checked by the caller."""
    name, _, rest = text.partition("+")
    key_id, _, material = rest.partition("+")
    if not is_key_name(name) or not _HEX_KEY_ID.fullmatch(key_id):
        raise FormatError(f"{what} does not have the form name+id+base64")
    raw = decode_base64(material, what)
    if raw[:1] != _ED25519 or len(raw) != 1 + _KEY_BYTES:
        raise FormatError(f"{what} is not an Ed25519 key (type 0x01)")
    return name, bytes.fromhex(key_id), raw[1:]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name, C2SP's *vkey*.

    Attributes:
        name: The key's name, as signature lines give it.
        key_id: The first 4 bytes of SHA-256(name, newline, 0x01, public key).
        public_key: The 32 bytes of the Ed25519 public key (RFC 8032 §5.1.5).
    """

    name: str
    key_id: bytes
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse a name or an id that does not belong to the key (FormatError)."""
        if not is_key_name(self.name) or len(self.public_key) != _KEY_BYTES or self.key_id != _key_id(self.name, self.public_key):
            raise FormatError("the verifier key's name, id and public key do not belong together")

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read ``<name>+<hex id>+<base64(0x01 || public key)>``.

        Raises:
            FormatError: It has another form, is of another type, or its id is not the one its key has.
        """
        return cls(*_parse_key(vkey, "the verifier key"))

    def __str__(self) -> str:
        """Return the vkey form."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the 64-byte signature over the text is this key's (RFC 8032 §5.1.7)."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """A private Ed25519 key with its name; signing is deterministic (RFC 8032 §5.1.6)."""

    __slots__ = ("_private", "_seed", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        """Derive the key from its seed.

        Args:
            name: The key's name; see :func:`is_key_name`.
            seed: 32 random bytes.

        Raises:
            FormatError: The name or the seed's length is not allowed.
        """
        if not is_key_name(name) or len(seed) != _KEY_BYTES:
            raise FormatError("a signing key needs a name without spaces or plus signs and a seed of 32 bytes")
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = self._private.public_key().public_bytes_raw()
        self.verifier = VerifierKey(name, _key_id(name, public_key), public_key)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Return the key with this name and 32-byte seed (FormatError as for the constructor)."""
        return cls(name, seed)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PRIVATE+KEY+<name>+<hex id>+<base64(0x01 || seed)>``.

        Raises:
            FormatError: It has another form, is of another type, or its id is not the one its key has.
        """
        if not text.startswith(_SECRET_PREFIX):
            raise FormatError("the signing key does not begin with PRIVATE+KEY+")
        name, key_id, seed = _parse_key(text.removeprefix(_SECRET_PREFIX), "the signing key")
        key = cls(name, seed)
        if key.verifier.key_id != key_id:
            raise FormatError("the signing key's id does not belong to it")
        return key

    def encode(self) -> str:
        """Return the secret form that :meth:`parse` reads; keep it where only the agent can read it."""
        material = base64.b64encode(_ED25519 + self._seed).decode()
        return f"{_SECRET_PREFIX}{self.verifier.name}+{self.verifier.key_id.hex()}+{material}"

    def sign(self, text: bytes) -> bytes:
        """Return the 64-byte signature over the text."""
        return self._private.sign(text)

    def __repr__(self) -> str:
        """Name the key without its seed."""
        return f"SigningKey({self.verifier})"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note: who claims to have signed, and the signature's bytes (not verified)."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note's text (with its final newline) and its signatures, none of them verified yet."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """Return the note's only spelling."""
        lines = [
            f"— {signature.name} {base64.b64encode(signature.key_id + signature.signature).decode()}\n" for signature in self.signatures
        ]
        return f"{self.text}\n{''.join(lines)}".encode()


def sign_note(text: str, signers: Sequence[SigningKey]) -> bytes:
    """Return the note with this text and one signature of every signer, in their order.

    Args:
        text: The text, ending in a newline, without other control characters.
        signers: At least one key.

    Raises:
        FormatError: The text or the number of signers is not allowed in a note.
    """
    raw = _checked_text(text)
    signatures = tuple(Signature(key.verifier.name, key.verifier.key_id, key.sign(raw)) for key in signers)
    note = Note(text, signatures).encode()
    parse_note(note)
    return note


def _checked_text(text: str) -> bytes:
    if not text.endswith("\n"):
        raise FormatError("the note's text does not end in a newline")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise FormatError("the note's text is not Unicode text") from None


def parse_note(raw: bytes) -> Note:
    """Read a signed note without verifying it (C2SP signed-note, "Format").

    Args:
        raw: The note's exact bytes, at most 1 MiB.

    Raises:
        FormatError: It is not UTF-8, holds control characters, ends without a newline, has no signature or more than
            100 of them, or a signature line has another spelling than the canonical one.
    """
    if len(raw) > MAX_NOTE_BYTES or _CONTROL.search(raw):
        raise FormatError("the note is too long or holds control characters")
    try:
        whole = raw.decode()
    except UnicodeDecodeError:
        raise FormatError("the note is not UTF-8") from None
    head, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise FormatError("the note has no signature lines, or no newline at its end")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise FormatError(f"the note has more than {MAX_SIGNATURES} signatures")
    return Note(head + "\n", tuple(_parse_signature(line) for line in lines))


def _parse_signature(line: str) -> Signature:
    found = _SIGNATURE_LINE.fullmatch(line)
    if not found or not is_key_name(found[1]):
        raise FormatError("the note has a line that is not a signature after its last empty line")
    raw = decode_base64(found[2], "the note's signature")
    if len(raw) <= KEY_ID_BYTES:
        raise FormatError("the note has a signature that is too short")
    return Signature(found[1], raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def open_note(raw: bytes, keys: Collection[VerifierKey]) -> tuple[Note, frozenset[VerifierKey]]:
    """Read a note and verify the signatures of the known keys (C2SP signed-note, "Signatures").

    Args:
        raw: The note's exact bytes.
        keys: The known keys. Signatures that share only the name or only the id with one of them are ignored.

    Returns:
        The note, and the keys whose signatures were verified. The set may be empty: the caller decides what that means.

    Raises:
        FormatError: The bytes are not a note.
        ProofError: A signature of a known key is wrong.
    """
    note = parse_note(raw)
    text = note.text.encode()
    verified: set[VerifierKey] = set()
    for signature in note.signatures:
        for key in keys:
            if (key.name, key.key_id) != (signature.name, signature.key_id):
                continue
            if not key.verify(text, signature.signature):
                raise ProofError(f"the signature of {key.name} (key id {key.key_id.hex()}) does not verify")
            verified.add(key)
    return note, frozenset(verified)
