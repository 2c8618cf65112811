"""How a block's bodies lie in the database: compressed where that pays.

SQLite copies a blob several times on its way to the disk and back (write-ahead log, checkpoint, overflow pages), and the
bound counts its bytes; a fast zstd pass makes all of that about six times smaller for audit JSON. Small blocks stay as they are:
each is a commit of its own, made by somebody who waits for it.

Invariants: `unpacked` undoes `packed` exactly; the two forms cannot be taken for one another, because bodies begin with a comma
and a zstd frame (RFC 8878 section 3.1.1) with its magic number. The SHA-256 of a block is that of the stored form.
"""

from __future__ import annotations

import hashlib
from typing import Final

import zstandard

PACK_FROM_BYTES: Final = 16 << 10
"""Smaller bodies are stored as they are."""
LEVEL: Final = 1
_MAGIC: Final = b"\x28\xb5\x2f\xfd"


def packed(bodies: bytes) -> bytes:
    """Return the form in which bodies are stored."""
    if len(bodies) < PACK_FROM_BYTES:
        return bodies
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(bodies)


def unpacked(stored: bytes) -> bytes:
    """Return the bodies of what `packed` made; its SHA-256 must have been checked before."""
    return zstandard.ZstdDecompressor().decompress(stored) if stored.startswith(_MAGIC) else stored


def intact(stored: object, digest: bytes) -> bool:
    """Say whether a stored block is what was written; a rotten page can change a value's type as well as its bytes."""
    return isinstance(stored, bytes) and hashlib.sha256(stored).digest() == digest
