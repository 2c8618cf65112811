"""The leaves of indexed batches, read from the store again and checked again.

Invariants: a batch is only handed on if its seal still has the SHA-256 that was indexed and its data the SHA-256 that this seal
states, so its leaves are those that were verified; whatever differs is an error that names the object. One batch is read at a time,
and of it stay the leaf hashes and the lines that are wanted. This module must not judge signatures.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ...errors import FormatError, IntegrityError, NotVerifiedError
from ...trail.batch import read_data
from ...trail.layout import seal_key
from ...trail.merkle import leaf_hash, leaf_hashes
from ...trail.seal import parse_seal
from ..chain import MAX_DATA_BYTES, MAX_RAW_BYTES
from ..contents import expected_data_key
from ..trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...trail.layout import Origin
    from ...trail.manifest import Manifest
    from ..fetch import StoreReader

_CHANGED: Final = "The store was changed after it was indexed. Keep a copy of it as it is, and run `trailseal verify` on it."


@dataclass(frozen=True, slots=True)
class Place:
    """Where the index says a batch lies.

    Attributes:
        batch: Its number.
        first_seq: The seq of its first leaf.
        end: The seq after its manifest.
        seal_sha256: The SHA-256 of its seal's bytes, in hex.
    """

    batch: int
    first_seq: int
    end: int
    seal_sha256: str


@dataclass(frozen=True, slots=True)
class Leaves:
    """A batch's leaves.

    Attributes:
        place: Where they lie.
        hashes: The leaf hashes of its records and, last, its manifest.
        lines: The exact bytes of the leaves that were wanted, by seq.
    """

    place: Place
    hashes: Sequence[bytes]
    lines: dict[int, bytes]


def read_leaves(store: StoreReader, origin: Origin, place: Place, wanted: Sequence[int]) -> Leaves:
    """Read a batch again.

    Args:
        store: The store.
        origin: The trail.
        place: What the index says of the batch.
        wanted: The seqs whose bytes are wanted, ascending; those of other batches are passed over.

    Raises:
        IntegrityError: An object is gone, or is not the one that was indexed.
        NotVerifiedError: An object cannot be read, or the index contradicts the seal.
    """
    key = seal_key(origin, place.batch)
    raw = store.read(key, MAX_SEAL_BYTES)
    if raw is None:
        raise IntegrityError(f"{key} was in the store when it was indexed, and is gone", hint=_CHANGED)
    if sha256(raw).hexdigest() != place.seal_sha256:
        raise IntegrityError(f"{key} is not the seal that was indexed: its SHA-256 is now {sha256(raw).hexdigest()}", hint=_CHANGED)
    seal = parse_seal(raw)
    manifest = seal.manifest
    if (manifest.batch, manifest.records.first_seq, manifest.seq + 1) != (place.batch, place.first_seq, place.end):
        raise NotVerifiedError(
            f"the index places batch {place.batch} of {origin} elsewhere than its seal does", hint="Make the index anew."
        )
    lines = _records(store, origin, manifest)
    hashes = [*leaf_hashes(lines), leaf_hash(seal.manifest_line)]
    lines.append(seal.manifest_line)
    chosen = wanted[bisect_left(wanted, place.first_seq) : bisect_left(wanted, place.end)]
    return Leaves(place, hashes, {seq: lines[seq - place.first_seq] for seq in chosen})


def _records(store: StoreReader, origin: Origin, manifest: Manifest) -> list[bytes]:
    """Return the record lines of a batch, read from its data object."""
    data = manifest.data
    if data is None:
        return []
    if data.key != expected_data_key(origin, manifest):
        raise NotVerifiedError(f"batch {manifest.batch} of {origin} names {data.key!r}, which is no key of its data")
    if data.raw_bytes > MAX_RAW_BYTES:
        raise NotVerifiedError(f"{data.key} claims {data.raw_bytes} bytes; no more than {MAX_RAW_BYTES} are decompressed")
    raw = store.read(data.key, MAX_DATA_BYTES)
    if raw is None:
        raise IntegrityError(f"{data.key} was in the store when it was indexed, and is gone", hint=_CHANGED)
    if sha256(raw).hexdigest() != data.sha256:
        raise IntegrityError(f"{data.key} is not what was sealed: its SHA-256 is now {sha256(raw).hexdigest()}", hint=_CHANGED)
    try:
        lines = list(read_data(raw, data.raw_bytes))
    except FormatError as error:
        raise NotVerifiedError(f"{data.key}: {error.message}") from error
    if len(lines) != manifest.records.count:
        raise NotVerifiedError(f"{data.key} holds {len(lines)} records where its seal counts {manifest.records.count}")
    return lines
