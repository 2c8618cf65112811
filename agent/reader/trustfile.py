"""Trust files: which keys may speak for which trails.

Invariants: a key counts only for origins its own pattern matches; a line that cannot be read is an error with file and
line, never skipped, because a skipped line would change a verdict in silence. This module must not verify signatures.

One binding a line, ``<origin pattern> <vkey>``, ``#`` begins a comment. The pattern has the four parts of an origin,
``namespace/service/epoch/instance``; in each part ``*``, ``?`` and ``[…]`` match as in file names, never across a slash.
The key is an epoch's own, or a service's enrolment key that signed the trail's first checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from ..errors import ConfigError, FormatError
from ..trail.layout import seal_key
from ..trail.note import VerifierKey, parse_note
from ..trail.seal import parse_seal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .fetch import StoreReader

MAX_SEAL_BYTES: Final = 16 << 20
_ORIGIN_PARTS: Final = 4


def matches_origin(pattern: str, origin: str) -> bool:
    """Tell whether an origin matches a pattern of four parts."""
    parts, names = pattern.split("/"), origin.split("/")
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def is_origin_pattern(pattern: str) -> bool:
    """Tell whether a text is a pattern of four parts, none of them empty."""
    parts = pattern.split("/")
    return len(parts) == _ORIGIN_PARTS and all(parts)


def fingerprint(key: VerifierKey) -> str:
    """Return the SHA-256 of the public key in groups of four hex digits, for two people to compare."""
    digits = sha256(key.public_key).hexdigest()
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


@dataclass(frozen=True, slots=True)
class Binding:
    """One line: the keys of trails that match the pattern."""

    pattern: str
    key: VerifierKey


@dataclass(frozen=True, slots=True)
class TrustFile:
    """Whom to believe.

    Attributes:
        bindings: In the order of the file; none means that nobody is trusted.
    """

    bindings: tuple[Binding, ...] = ()

    @classmethod
    def parse(cls, text: str, file: str) -> Self:
        """Read a trust file's text.

        Args:
            text: The text.
            file: Its path as the user wrote it, for messages.

        Raises:
            ConfigError: A line has another form, or a key does not belong to its id.
        """
        # Not splitlines(): what an editor shows as one line, such as a comment with U+2028 in it, must be one line here.
        return cls(tuple(_binding(line, file, number) for number, line in enumerate(text.split("\n"), 1) if _words(line)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a trust file.

        Raises:
            ConfigError: It cannot be read, or a line of it is wrong.
        """
        try:
            return cls.parse(path.read_text("utf-8-sig"), str(path))
        except OSError as error:
            raise ConfigError(f"cannot read the trust file: {error.strerror}", file=str(path), hint="Check the path.") from error
        except UnicodeDecodeError as error:
            raise ConfigError("the trust file is not UTF-8 text", file=str(path), hint="Save it as UTF-8.") from error

    def keys_for(self, origin: str) -> tuple[VerifierKey, ...]:
        """Return the keys that are bound to an origin."""
        return tuple(dict.fromkeys(binding.key for binding in self.bindings if matches_origin(binding.pattern, origin)))


def _words(line: str) -> list[str]:
    """Split a line; a word that begins with # ends it (a vkey may contain # only elsewhere)."""
    words: list[str] = []
    for word in line.split():
        if word.startswith("#"):
            break
        words.append(word)
    return words


def _binding(line: str, file: str, number: int) -> Binding:
    words = _words(line)
    hint = "Write `<namespace>/<service>/<epoch>/<instance> <vkey>`, as `trailseal trust STORE` prints it."
    if len(words) != 2 or not is_origin_pattern(words[0]):
        raise ConfigError("not an origin pattern of four parts and a verifier key", file=file, line=number, hint=hint)
    try:
        return Binding(words[0], VerifierKey.parse(words[1]))
    except FormatError as error:
        raise ConfigError(error.message, file=file, line=number, hint=hint) from error


def trust_lines(store: StoreReader) -> Iterator[str]:
    """Yield the lines of a trust file that would trust every key in a store, for a person to check.

    Args:
        store: The store; the first seal of every trail is read, nothing is verified.

    Yields:
        Comments with fingerprints, and one binding for every trail. Other signatures on a first checkpoint (enrolment)
        are named in comments only: a note holds their name and id, not their key.
    """
    yield f"# Keys found in {store.name}. Nothing was verified: compare each fingerprint with the owner of the service."
    for origin in store.origins():
        yield ""
        raw = store.read(seal_key(origin, 0), MAX_SEAL_BYTES)
        if raw is None:
            yield f"# {origin}: the first seal is missing, so the key is unknown"
            continue
        try:
            seal = parse_seal(raw)
            key = VerifierKey.parse(str(seal.manifest.key))
            signatures = parse_note(seal.proof.note).signatures
        except FormatError as error:
            yield f"# {origin}: {error.message}"
            continue
        yield f"# opened {seal.manifest.sealed_at}; SHA-256 of the key:"
        yield f"#   {fingerprint(key)}"
        for signature in signatures:
            if (signature.name, signature.key_id) != (key.name, key.key_id):
                yield f"# also signed by {signature.name}, key id {signature.key_id.hex()} (an enrolment key?); its owner has the key"
        yield f"{origin} {key}"
