"""Say of every row whether it is what was written.

SQLite has no checksums of its own: a flipped bit in a row is handed out as if it had been written so, and a cursor with one
digit changed would skip bytes of a file without a word. So each small value ends in a stamp, and each large one has its sum in
a stamped value beside it. A stamp covers the row's key as well, because a key can rot into another one.

Invariants: pure; what `unstamped` returns is byte for byte what was given to `stamped`.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ..errors import DamagedStateError

STAMP_BYTES: Final = 16


def sum_of(*parts: bytes | None) -> bytes:
    """Return a 16-byte sum (BLAKE2b, RFC 7693) over parts, None among them; their boundaries count."""
    digest = hashlib.blake2b(digest_size=STAMP_BYTES)
    for part in parts:
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()


def stamped(value: bytes, *keys: str) -> bytes:
    """Return a value with the stamp behind it that binds it to its row's keys."""
    return value + sum_of(value, *map(str.encode, keys))


def unstamped(stored: object, *keys: object) -> bytes:
    """Return the value that `stamped` was given.

    Raises:
        DamagedStateError: The value, its type or its row's key is not what was written.
    """
    if isinstance(stored, bytes):
        value, stamp = stored[:-STAMP_BYTES], stored[-STAMP_BYTES:]
        encoded = (key.encode("utf-8", "surrogatepass") if isinstance(key, str) else None for key in keys)
        if stamp == sum_of(value, *encoded):
            return value
    raise DamagedStateError(f"a row of the spool ({', '.join(map(repr, keys)) or 'without a key'}) is not what was written")
