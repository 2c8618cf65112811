"""Bring a spool of format 1, whose rows had no stamps, up to date.

Invariant: it runs inside the caller's transaction, so a spool is of one format or of the other, never of both. What cannot be
read raises, and the file is dealt with as damaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import tables
from .stamps import stamped, sum_of

if TYPE_CHECKING:
    import sqlite3


def upgrade(db: sqlite3.Connection) -> None:
    """Put a stamp behind every value and a sum beside every batch."""
    for key, value in db.execute("SELECT key, value FROM meta").fetchall():
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (stamped(value, key), key))
    for source, file_id, cursor in db.execute("SELECT source, file_id, cursor FROM cursors").fetchall():
        db.execute("UPDATE cursors SET cursor = ? WHERE source = ? AND file_id = ?", (stamped(cursor, source, file_id), source, file_id))
    for (block_id,) in db.execute("SELECT id FROM blocks").fetchall():
        (meta,) = db.execute("SELECT meta FROM blocks WHERE id = ?", (block_id,)).fetchone()
        db.execute("UPDATE blocks SET meta = ? WHERE id = ?", (stamped(meta), block_id))
    for (batch_id,) in db.execute("SELECT id FROM batches").fetchall():
        meta, seal, data = db.execute("SELECT meta, seal, data FROM batches WHERE id = ?", (batch_id,)).fetchone()
        row = tables.with_payload(meta, sum_of(seal, data))
        db.execute("UPDATE batches SET meta = ? WHERE id = ?", (row, batch_id))
    for batch_id, store, at in db.execute("SELECT batch, store, at FROM receipts").fetchall():
        tables.put_receipt(db, batch_id, store, at)
    if db.execute("SELECT 1 FROM meta WHERE key = 'head'").fetchone() is not None:
        tables.put_meta(db, "epochs", 1)
