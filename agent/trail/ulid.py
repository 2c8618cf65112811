"""Lower-case ULIDs, the names of epochs and files (ULID specification: 48-bit milliseconds, 80 random bits).

Invariants: 26 characters of Crockford's base32 in lower case, so that they sort by time and fit into origins. This
module must not read the clock or draw randomness; both are arguments.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import FormatError

RANDOM_BYTES: Final = 10
MAX_MILLISECONDS: Final = 2**48 - 1
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 26
_RANDOM_CHARACTERS: Final = 16
_ULID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")


def new_ulid(milliseconds: int, randomness: bytes) -> str:
    """Return a ULID, 26 lower-case characters.

    Args:
        milliseconds: Unix time, 0 up to 2**48-1.
        randomness: 10 random bytes.

    Raises:
        FormatError: An argument is outside these bounds.
    """
    if not 0 <= milliseconds <= MAX_MILLISECONDS or len(randomness) != RANDOM_BYTES:
        raise FormatError("a ULID needs a time of 48 bits in milliseconds and 10 random bytes")
    number = milliseconds << 8 * RANDOM_BYTES | int.from_bytes(randomness, "big")
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def is_ulid(text: str) -> bool:
    """Tell whether the text is a ULID in lower case."""
    return _ULID.fullmatch(text) is not None


def ulid_milliseconds(text: str) -> int:
    """Return the Unix time in milliseconds that a ULID carries.

    Raises:
        FormatError: The text is not a lower-case ULID.
    """
    if not is_ulid(text):
        raise FormatError(f"{text!r} is not a lower-case ULID")
    milliseconds = 0
    for character in text[: _LENGTH - _RANDOM_CHARACTERS]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(character)
    return milliseconds
