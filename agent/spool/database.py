"""Transactions of the spool, on SQLite; synchronous, for exactly one thread.

Invariants:
    - Every public method that writes is one `BEGIN IMMEDIATE … COMMIT` with synchronous=FULL in WAL mode: when it
      returns, its effect survives a power cut; when it raises, or the process dies in it, nothing of it happened.
    - `blocks` holds record bodies that are in no batch yet, in the order of `id`; `batches` holds sealed bytes exactly
      as they will be stored. A body is in one of the two, never in both and never in neither.
    - A block's SHA-256 is checked whenever it is read back: a rotten page is found before it is sealed.

No policy lives here: bounds, retries and waiting are queue.py's; how the file is opened is connection.py's.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import IntegrityError, StateError
from ..intake import Cursor
from .connection import DATABASE_FILE, connect, translated
from .packing import intact, packed, unpacked
from .rows import BatchMeta, Block, BlockMeta, Confirmed, Head, NewBatch, QueuedBatch, block_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ..intake import Append

ROW_OVERHEAD_BYTES = 512
"""What a row costs beside its blobs, for the bound (rounded up)."""

_BEFORE_ALL_BLOCKS = -(2**62)


_encode = msgspec.json.Encoder().encode
_decode_block_meta = msgspec.json.Decoder(BlockMeta).decode
_decode_batch_meta = msgspec.json.Decoder(BatchMeta).decode
_decode_cursor = msgspec.json.Decoder(Cursor).decode
_decode_head = msgspec.json.Decoder(Head).decode
_decode_confirmed = msgspec.json.Decoder(Confirmed).decode


class Database:
    """Own the connection to one spool file; every method must be called from the thread that opened it."""

    def __init__(self, state: Path) -> None:
        """Open or create the spool in a state directory whose lock the caller holds.

        Raises:
            StateError: The file is of another format, or SQLite cannot read it.
        """
        self.path = state / DATABASE_FILE
        try:
            self._db = connect(self.path)
        except sqlite3.DatabaseError as error:
            message = f"cannot open the spool {self.path}: {error}"
            hint = "Keep the state directory as evidence, and start with an empty one; the store shows where the old trail ended."
            raise StateError(message, hint=hint) from error
        except OSError as error:
            message = f"cannot open the spool {self.path}: {error.strerror or error}"
            raise StateError(message, hint="Give the state directory to the agent's user, on a disk that works and has room.") from error

    def close(self) -> None:
        """Checkpoint the write-ahead log and close the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one durable transaction and translate SQLite's errors by what to do about them."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise translated(error, self.path) from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:  # The first error tells what is wrong; SQLite rolls back by itself when the file is reopened.
                return

    # ---- reading -------------------------------------------------------------------------------------------------

    def _meta(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def head(self) -> Head | None:
        """Return the trail's head, or None in a new state directory."""
        raw = self._meta("head")
        return None if raw is None else _decode_head(raw)

    def confirmed(self, store: str) -> Confirmed | None:
        """Return the newest batch that a store has confirmed."""
        raw = self._meta(f"confirmed:{store}")
        return None if raw is None else _decode_confirmed(raw)

    def cursors(self) -> list[Cursor]:
        """Return every cursor, finished ones included."""
        return [_decode_cursor(row[0]) for row in self._db.execute("SELECT cursor FROM cursors")]

    def held(self) -> tuple[int, int]:
        """Count what the spool holds: (bytes as the bound counts them, records)."""
        held_bytes = held_records = 0
        for meta, size in self._db.execute("SELECT meta, length(bodies) FROM blocks"):
            held_bytes += size + ROW_OVERHEAD_BYTES
            held_records += _decode_block_meta(meta).records
        for meta, size in self._db.execute("SELECT meta, length(seal) + coalesce(length(data), 0) FROM batches"):
            held_bytes += size + ROW_OVERHEAD_BYTES
            held_records += _decode_batch_meta(meta).records
        return held_bytes, held_records

    def oldest_observed(self, after_block: int | None = None) -> str | None:
        """Return when the oldest record still held was read, RFC 3339 UTC; None if no record is held.

        Args:
            after_block: Leave blocks up to this id out of account (the batch that is being cut).
        """
        for (raw,) in self._db.execute("SELECT meta FROM batches ORDER BY id"):
            batch = _decode_batch_meta(raw)
            if batch.records:
                return batch.observed_min
        first = _BEFORE_ALL_BLOCKS if after_block is None else after_block
        for (raw,) in self._db.execute("SELECT meta FROM blocks WHERE id > ? ORDER BY id", (first,)):
            block = _decode_block_meta(raw)
            if block.records:
                return block.observed_min
        return None

    def blocks_after(self, last_id: int | None, limit_bytes: int) -> list[Block]:
        """Read the blocks behind `last_id` in order, at least one if there is any, up to about `limit_bytes`.

        Raises:
            IntegrityError: A block's bytes are not the ones that were spooled.
        """
        found: list[Block] = []
        size = 0
        query = "SELECT id, meta, sha256, bodies FROM blocks WHERE id > ? ORDER BY id"
        for block_id, meta, digest, bodies in self._db.execute(query, (_BEFORE_ALL_BLOCKS if last_id is None else last_id,)):
            if not intact(bodies, digest):
                message = f"block {block_id} of the spool {self.path} is not what was written: its SHA-256 differs"
                raise IntegrityError(message, hint="The disk or the memory is failing. Keep the state directory as evidence.")
            block = Block(block_id, _decode_block_meta(meta), unpacked(bodies), len(bodies) + ROW_OVERHEAD_BYTES)
            found.append(block)
            size += len(block.bodies)
            if size >= limit_bytes:
                break
        return found

    def next_batch(self, after_id: int) -> QueuedBatch | None:
        """Return the first sealed batch behind `after_id`, or None."""
        row = self._db.execute("SELECT id, meta, seal, data FROM batches WHERE id > ? ORDER BY id LIMIT 1", (after_id,)).fetchone()
        return None if row is None else _queued(row)

    def last_receipted(self, store: str) -> int:
        """Return the id of the newest batch still held that a store has confirmed, 0 if none."""
        row = self._db.execute("SELECT max(batch) FROM receipts WHERE store = ?", (store,)).fetchone()
        return int(row[0] or 0)

    def waiting(self) -> int:
        """Count the sealed batches that wait for receipts."""
        return int(self._db.execute("SELECT count(*) FROM batches").fetchone()[0])

    # ---- writing -------------------------------------------------------------------------------------------------

    def append(self, appends: Sequence[Append], split_bytes: int = 1 << 20) -> int:
        """Make appends durable in one transaction: bodies, progress and cursors together (write order, step 1).

        Args:
            appends: In order; neighbours are merged into blocks of at least `split_bytes`.
            split_bytes: Where a block ends, in bytes.

        Returns:
            The bytes that were added, as the bound counts them.
        """
        rows: list[tuple[bytes, bytes, bytes]] = []
        group: list[Append] = []
        group_bytes = 0
        for append in appends:
            group.append(append)
            group_bytes += len(append.bodies)
            if group_bytes >= split_bytes:
                rows.append(_row(*block_of(group)))
                group, group_bytes = [], 0
        if group:
            rows.append(_row(*block_of(group)))
        # Only the newest cursor of each file counts; older ones would be overwritten in the same transaction.
        newest = {(c.source, c.file_id): c for a in appends for c in a.cursors}
        with self._transaction() as db:
            db.executemany("INSERT INTO blocks (meta, sha256, bodies) VALUES (?, ?, ?)", rows)
            db.executemany(
                "INSERT OR REPLACE INTO cursors (source, file_id, cursor) VALUES (?, ?, ?)",
                [(c.source, c.file_id, _encode(c)) for c in newest.values()],
            )
        return sum(len(row[2]) + ROW_OVERHEAD_BYTES for row in rows)

    def cut(self, batch: NewBatch, head: Head, through_block: int | None) -> tuple[int, int]:
        """Replace the blocks of a batch by the sealed batch and move the head (write order, step 2).

        Args:
            batch: The sealed bytes and their keys.
            head: The head after it.
            through_block: Id of the last block that is in the batch; None if it holds no block.

        Returns:
            (bytes freed, bytes added), as the bound counts them.
        """
        freed = 0
        with self._transaction() as db:
            if through_block is not None:
                query = "SELECT coalesce(sum(length(bodies) + ?), 0) FROM blocks WHERE id <= ?"
                freed = db.execute(query, (ROW_OVERHEAD_BYTES, through_block)).fetchone()[0]
                db.execute("DELETE FROM blocks WHERE id <= ?", (through_block,))
            self._insert_batch(db, batch)
            self._put_meta(db, "head", _encode(head))
        return freed, _batch_bytes(batch)

    def receipt(self, batch_id: int, batch: NewBatch, store: str, at: str, required: Iterable[str], optional: Iterable[str]) -> int:
        """Record a store's receipt and let the batch go when every store that must have it has it (step 5).

        Args:
            batch_id: The batch's id in this spool.
            batch: The batch.
            store: The store that confirmed.
            at: RFC 3339 UTC time of the confirmation.
            required: Ids of the stores that must confirm before the batch leaves.
            optional: Ids of further stores the batch still waits for.

        Returns:
            The bytes that were freed, 0 while the batch stays.
        """
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM batches WHERE id = ?", (batch_id,)).fetchone() is None:
                return 0  # Given up after a fork while the store was writing it: its records are in a new epoch already.
            db.execute("INSERT OR REPLACE INTO receipts (batch, store, at) VALUES (?, ?, ?)", (batch_id, store, at))
            done = Confirmed(origin=batch.origin, number=batch.number, size=batch.size, root=batch.root, sealed_at=batch.sealed_at, at=at)
            self._put_meta(db, f"confirmed:{store}", _encode(done))
            have = {row[0] for row in db.execute("SELECT store FROM receipts WHERE batch = ?", (batch_id,))}
            if not have.issuperset((*required, *optional)):
                return 0
            self._drop_batch(db, batch_id)
        return _batch_bytes(batch)

    def release(self, batch_id: int, required: Iterable[str]) -> int:
        """Let a batch go that optional stores have not confirmed; the caller says so to the operator.

        Returns:
            The bytes that were freed; 0 if a required receipt is missing, or the batch is gone.
        """
        with self._transaction() as db:
            have = {row[0] for row in db.execute("SELECT store FROM receipts WHERE batch = ?", (batch_id,))}
            row = db.execute("SELECT id, meta, seal, data FROM batches WHERE id = ?", (batch_id,)).fetchone()
            if row is None or not have.issuperset(required):
                return 0
            self._drop_batch(db, batch_id)
        return _batch_bytes(_queued(row).batch)

    def settle(self, stores: Iterable[str]) -> None:
        """Let every batch go that all of these stores have confirmed: another store that was waited for may be gone."""
        needed = set(stores)
        have: dict[int, set[str]] = {}
        for batch_id, store in self._db.execute("SELECT batch, store FROM receipts"):
            have.setdefault(batch_id, set()).add(store)
        with self._transaction() as db:
            for batch_id in (one for one, confirmed in have.items() if confirmed >= needed):
                self._drop_batch(db, batch_id)

    def unconfirmed(self, origin: str, required: Iterable[str]) -> list[QueuedBatch]:
        """Return the batches of one trail that no required store has confirmed, in order."""
        confirmed = {row[0] for store in required for row in self._db.execute("SELECT batch FROM receipts WHERE store = ?", (store,))}
        rows = self._db.execute("SELECT id, meta, seal, data FROM batches ORDER BY id")
        queued = (_queued(row) for row in rows)
        return [q for q in queued if q.batch.origin == origin and q.id not in confirmed]

    def open_epoch(
        self, batch: NewBatch, head: Head, *, abandon: str | None = None, requeue: Sequence[tuple[BlockMeta, bytes]] = ()
    ) -> None:
        """Begin a new trail with its batch 0; after a fork, give up what was sealed under the old name.

        Args:
            batch: Batch 0 of the new epoch, already sealed.
            head: The head after it.
            abandon: The origin whose unsent batches leave the queue (fork); None keeps everything that is queued.
            requeue: Blocks rebuilt from those batches; they go before every waiting block, in the given order.
        """
        with self._transaction() as db:
            if abandon is not None:
                self._abandon(db, abandon, requeue)
            self._insert_batch(db, batch)
            self._put_meta(db, "head", _encode(head))

    def requeue(self, abandon: str, requeue: Sequence[tuple[BlockMeta, bytes]]) -> None:
        """Give up an earlier epoch's batches and put the blocks rebuilt from them before every waiting block."""
        with self._transaction() as db:
            self._abandon(db, abandon, requeue)

    def _abandon(self, db: sqlite3.Connection, origin: str, requeue: Sequence[tuple[BlockMeta, bytes]]) -> None:
        rows = db.execute("SELECT id, meta FROM batches").fetchall()
        for batch_id in (row[0] for row in rows if _decode_batch_meta(row[1]).origin == origin):
            self._drop_batch(db, batch_id)
        first = db.execute("SELECT coalesce(min(id), 1) FROM blocks").fetchone()[0]
        for position, (meta, bodies) in enumerate(requeue):
            values = (first - len(requeue) + position, *_row(meta, bodies))
            db.execute("INSERT INTO blocks (id, meta, sha256, bodies) VALUES (?, ?, ?, ?)", values)

    def forget_finished(self, keep: int = 1024) -> None:
        """Drop cursors of finished files once there are more than `keep` of them (oldest file_id first)."""
        finished = sorted(c.file_id for c in self.cursors() if c.finished)
        if len(finished) > keep:
            with self._transaction() as db:
                db.executemany("DELETE FROM cursors WHERE file_id = ?", [(file_id,) for file_id in finished[:-keep]])

    def shrink(self, *, rebuild: bool = False) -> None:
        """Give disk space back as far as that can be had: empty the write-ahead log, and on request rebuild the file.

        Args:
            rebuild: Write the file anew without its free pages; for a spool that holds next to nothing.
        """
        # Without room for it nothing happens, and the file stays as sound as it was; the caller tries again.
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if rebuild:
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def problems(self) -> list[str]:
        """Check the file's structure and every block's SHA-256; an empty list means sound."""
        found = [row[0] for row in self._db.execute("PRAGMA quick_check") if row[0] != "ok"]
        for block_id, digest, bodies in self._db.execute("SELECT id, sha256, bodies FROM blocks ORDER BY id"):
            if not intact(bodies, digest):
                found.append(f"block {block_id}: SHA-256 differs from what was written")
        return found

    def _insert_batch(self, db: sqlite3.Connection, batch: NewBatch) -> None:
        fields = {name: getattr(batch, name) for name in BatchMeta.__struct_fields__}
        db.execute("INSERT INTO batches (meta, seal, data) VALUES (?, ?, ?)", (_encode(BatchMeta(**fields)), batch.seal, batch.data))

    def _drop_batch(self, db: sqlite3.Connection, batch_id: int) -> None:
        db.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
        db.execute("DELETE FROM receipts WHERE batch = ?", (batch_id,))

    def _put_meta(self, db: sqlite3.Connection, key: str, value: bytes) -> None:
        db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _row(meta: BlockMeta, bodies: bytes) -> tuple[bytes, bytes, bytes]:
    stored = packed(bodies)
    return _encode(meta), hashlib.sha256(stored).digest(), stored


def _queued(row: Any) -> QueuedBatch:
    meta = _decode_batch_meta(row[1])
    fields = {name: getattr(meta, name) for name in BatchMeta.__struct_fields__}
    return QueuedBatch(row[0], NewBatch(**fields, seal=row[2], data=row[3]))


def _batch_bytes(batch: NewBatch) -> int:
    return len(batch.seal) + len(batch.data or b"") + ROW_OVERHEAD_BYTES
