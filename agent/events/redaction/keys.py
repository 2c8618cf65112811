"""Hold the key of pseudonyms: what turns a value into a name that stays the same and tells nothing.

A pseudonym is ``hmac-sha256:<key id>:<value>``, the value being the first 16 bytes of HMAC-SHA-256 (RFC 2104) over the text
in UTF-8, in base32 (RFC 4648 section 6) in small letters without padding: 26 characters, none of which means anything to a
shell, a URL or a glob. 16 bytes are enough that two values never meet by chance, and short enough to stand in every record.

The key id is the first 8 hex digits of SHA-256 over a label of its own and the key. To find the key behind an id is to search
all keys, just as behind one pseudonym of a known value; 32 bits of an id cannot even confirm what was guessed. So the id may
stand in every record and manifest, and says which key a reader needs.

Invariants: a key has at least 32 bytes; its secret is in no representation of it. This module must not read files or variables.
"""

from __future__ import annotations

import hmac
from base64 import b32encode, b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from ...errors import ConfigError

MIN_KEY_BYTES: Final = 32
PREFIX: Final = "hmac-sha256:"
_ID_LABEL: Final = b"trailseal pseudonym key id\x00"
_ID_CHARACTERS: Final = 8
_PSEUDONYM_BYTES: Final = 16
_HINT: Final = "Make one with `trailseal keygen --pseudonym FILE`."


@dataclass(frozen=True, slots=True)
class PseudonymKey:
    """Make pseudonyms and keyed digests.

    Attributes:
        secret: At least `MIN_KEY_BYTES` bytes.
        id: Eight hex digits that name the key and do not tell it.
    """

    secret: bytes = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        """Refuse a key that could be guessed (ConfigError), and derive its id."""
        if len(self.secret) < MIN_KEY_BYTES:
            raise ConfigError(f"a pseudonym key has at least {MIN_KEY_BYTES} bytes, and this one has {len(self.secret)}", hint=_HINT)
        object.__setattr__(self, "id", sha256(_ID_LABEL + self.secret).hexdigest()[:_ID_CHARACTERS])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key as its file holds it: base64 on one line.

        Raises:
            ConfigError: It is not base64, or too short. The message never holds the text.
        """
        try:
            secret = b64decode(text.strip(), validate=True)
        except (Base64Error, ValueError) as error:
            raise ConfigError("a pseudonym key is one line of base64, and this is not", hint=_HINT) from error
        return cls(secret)

    def pseudonym(self, value: str) -> str:
        """Return the pseudonym of a text; equal texts have equal ones."""
        # A lone surrogate can stand in what is no valid event; it must not stop anything here.
        mac = hmac.digest(self.secret, value.encode("utf-8", "surrogatepass"), "sha256")
        return f"{PREFIX}{self.id}:{_base32(mac[:_PSEUDONYM_BYTES])}"

    def digest(self, raw: bytes) -> str:
        """Return the whole HMAC-SHA-256 of a line that is not kept, in lower-case hex: whoever has line and key can check it."""
        return hmac.digest(self.secret, raw, "sha256").hex()


def _base32(data: bytes) -> str:
    return b32encode(data).decode("ascii").rstrip("=").lower()
