"""How each value lies in its table: one row in, one row out, stamped and checked.

Invariants: nothing is returned that is not what was written (`DamagedStateError`); no transaction is begun or ended here, so
that whoever calls decides what changes together. The shape of the tables is connection.py's.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..errors import DamagedStateError
from ..intake import Cursor
from .packing import intact, packed, unpacked
from .rows import BatchMeta, BatchRow, Block, BlockMeta, Confirmed, Head, NewBatch, QueuedBatch, StateLoss
from .stamps import stamped, sum_of, unstamped

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

T = TypeVar("T")

ROW_OVERHEAD_BYTES: Final = 512
"""What a row costs beside its blobs, for the bound (rounded up)."""
CONFIRMED: Final = "confirmed:"
GIVING_UP: Final = "giving_up:"
"""Prefixes of `meta` keys: a store's newest confirmed batch; an origin whose batches go back to blocks, one by one."""

encode: Final = msgspec.json.Encoder().encode
_TYPES: Final[dict[str, Any]] = {"format": int, "epochs": int, "head": Head, "lost": StateLoss, CONFIRMED: Confirmed, GIVING_UP: str}
_decoders: Final = {key: msgspec.json.Decoder(kind) for key, kind in _TYPES.items()}
_decode_cursor: Final = msgspec.json.Decoder(Cursor)
_decode_block: Final = msgspec.json.Decoder(BlockMeta)
_decode_batch: Final = msgspec.json.Decoder(BatchRow)


def _decoded(decoder: msgspec.json.Decoder[T], stored: object, *keys: object) -> T:
    value = unstamped(stored, *keys)
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedStateError(f"a row of the spool ({keys!r}) cannot be read: {error}") from error


# ---- meta --------------------------------------------------------------------------------------------------------------


def put_meta(db: sqlite3.Connection, key: str, value: object) -> None:
    """Write one value of `meta`, over an older one."""
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, stamped(encode(value), key)))


def read_meta(key: object, stored: object) -> Any:
    """Return one value of `meta`.

    Raises:
        DamagedStateError: It is not what was written.
    """
    name = str(key)
    kind = next((one for one in _TYPES if name == one or (one.endswith(":") and name.startswith(one))), None)
    if kind is None:
        raise DamagedStateError(f"the spool's meta table has a row {key!r} that nobody wrote")
    return _decoded(_decoders[kind], stored, key)


def get_meta(db: sqlite3.Connection, key: str) -> Any:
    """Return the value under a key of `meta`; None if there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else read_meta(key, row[0])


# ---- cursors -----------------------------------------------------------------------------------------------------------


def put_cursors(db: sqlite3.Connection, cursors: Iterator[Cursor]) -> None:
    """Write cursors over older ones of the same files."""
    db.executemany(
        "INSERT OR REPLACE INTO cursors (source, file_id, cursor) VALUES (?, ?, ?)",
        ((one.source, one.file_id, stamped(encode(one), one.source, one.file_id)) for one in cursors),
    )


def read_cursor(row: Any) -> Cursor:
    """Return a cursor from its row (source, file_id, cursor).

    Raises:
        DamagedStateError: It is not what was written.
    """
    return _decoded(_decode_cursor, row[2], row[0], row[1])


# ---- blocks ------------------------------------------------------------------------------------------------------------


def block_row(meta: BlockMeta, bodies: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the columns meta, sha256 and bodies of a block."""
    stored = packed(bodies)
    return stamped(encode(meta)), hashlib.sha256(stored).digest(), stored


def insert_block(db: sqlite3.Connection, block_id: int, meta: BlockMeta, bodies: bytes) -> int:
    """Write one block under an id of the caller's; return what it costs the bound, in bytes."""
    row = block_row(meta, bodies)
    db.execute("INSERT INTO blocks (id, meta, sha256, bodies) VALUES (?, ?, ?, ?)", (block_id, *row))
    return len(row[2]) + ROW_OVERHEAD_BYTES


def first_block_id(db: sqlite3.Connection) -> int:
    """Return the id under which a block comes before all others."""
    return int(db.execute("SELECT coalesce(min(id), 1) FROM blocks").fetchone()[0]) - 1


def read_block_meta(stored: object) -> BlockMeta:
    """Return a block's description.

    Raises:
        DamagedStateError: It is not what was written.
    """
    return _decoded(_decode_block, stored)


def read_block(row: Any) -> Block:
    """Return a block from its row (id, meta, sha256, bodies).

    Raises:
        DamagedStateError: It is not what was written.
    """
    block_id, meta, digest, bodies = row
    if not intact(bodies, digest):
        raise DamagedStateError(f"block {block_id} of the spool is not what was written: its SHA-256 differs")
    return Block(block_id, read_block_meta(meta), unpacked(bodies), len(bodies) + ROW_OVERHEAD_BYTES)


# ---- batches and receipts ----------------------------------------------------------------------------------------------


def batch_bytes(batch: NewBatch) -> int:
    """Return what a sealed batch costs the bound."""
    return len(batch.seal) + len(batch.data or b"") + ROW_OVERHEAD_BYTES


def insert_batch(db: sqlite3.Connection, batch: NewBatch, batch_id: int | None = None) -> None:
    """Write a sealed batch, behind all others unless an id is given."""
    fields = {name: getattr(batch, name) for name in BatchMeta.__struct_fields__}
    meta = stamped(encode(BatchRow(**fields, payload=sum_of(batch.seal, batch.data))))
    db.execute("INSERT INTO batches (id, meta, seal, data) VALUES (?, ?, ?, ?)", (batch_id, meta, batch.seal, batch.data))


def with_payload(meta: bytes, payload: bytes) -> bytes:
    """Return the stamped column of a batch's description that had no sum of its bytes yet."""
    return stamped(encode(msgspec.structs.replace(_decode_batch.decode(meta), payload=payload)))


def drop_batch(db: sqlite3.Connection, batch_id: int) -> None:
    """Remove a batch and its receipts."""
    db.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
    db.execute("DELETE FROM receipts WHERE batch = ?", (batch_id,))


def read_batch_meta(stored: object) -> BatchRow:
    """Return a batch's description.

    Raises:
        DamagedStateError: It is not what was written.
    """
    return _decoded(_decode_batch, stored)


def read_batch(row: Any) -> QueuedBatch:
    """Return a sealed batch from its row (id, meta, seal, data).

    Raises:
        DamagedStateError: It is not what was sealed; such bytes must not get into a store, where nothing can be taken back.
    """
    batch_id, stored, seal, data = row
    meta = read_batch_meta(stored)
    if not isinstance(seal, bytes) or not isinstance(data, bytes | None) or sum_of(seal, data) != meta.payload:
        raise DamagedStateError(f"batch {meta.number} of {meta.origin} in the spool is not what was sealed")
    fields = {name: getattr(meta, name) for name in BatchMeta.__struct_fields__}
    return QueuedBatch(batch_id, NewBatch(**fields, seal=seal, data=data))


def put_receipt(db: sqlite3.Connection, batch_id: int, store: str, at: str) -> None:
    """Write a store's receipt."""
    stamp = sum_of(str(batch_id).encode(), store.encode(), at.encode()).hex()
    db.execute("INSERT OR REPLACE INTO receipts (batch, store, at) VALUES (?, ?, ?)", (batch_id, store, f"{at} {stamp}"))


def read_receipt(row: Any) -> tuple[int, str, str]:
    """Return batch id, store and time of a receipt from its row (batch, store, at).

    Raises:
        DamagedStateError: It is not what was written.
    """
    batch_id, store, stored = row
    at, _, stamp = str(stored).partition(" ")
    if stamp != sum_of(str(batch_id).encode(), str(store).encode("utf-8", "replace"), at.encode("utf-8", "replace")).hex():
        raise DamagedStateError(f"the receipt of {store!r} for row {batch_id!r} of the spool is not what was written")
    return batch_id, store, at
