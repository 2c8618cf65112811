"""Transactions of the spool, on SQLite; synchronous, for exactly one thread.

Invariants:
    - Every public method that writes is one `BEGIN IMMEDIATE … COMMIT` with synchronous=FULL in WAL mode: when it
      returns, its effect survives a power cut; when it raises, or the process dies in it, nothing of it happened.
    - `blocks` holds record bodies that are in no batch yet, in the order of `id`; `batches` holds sealed bytes exactly
      as they will be stored. A body is in one of the two, never in both and never in neither.
    - Every row is checked whenever it is read back (tables.py): what rotted on the disk is found before it is sealed, sent to
      a store or taken for a position in a source.

No policy lives here: bounds, retries and waiting are commits.py's and queue.py's; how the file is opened is connection.py's.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from ..errors import DamagedStateError
from . import tables
from .connection import DATABASE_FILE, connect, translated
from .inspection import inspect, problems, read_through
from .rows import Confirmed, block_of
from .tables import CONFIRMED, GIVING_UP, ROW_OVERHEAD_BYTES
from .unsealing import unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ..intake import Append, Cursor
    from .rows import Block, BlockMeta, Head, NewBatch, QueuedBatch, StateLoss

_BEFORE_ALL_BLOCKS = -(2**62)


def _sound(state: Path) -> sqlite3.Connection:
    """Look at a spool and open it."""
    inspect(state)
    path = state / DATABASE_FILE
    try:
        return connect(path)
    except sqlite3.Error as error:
        raise translated(error, path) from error


class Database:
    """Own the connection to one spool file; every method must be called from the thread that opened it."""

    def __init__(self, state: Path) -> None:
        """Open or create the spool in a state directory whose lock the caller holds.

        Raises:
            StateError: The file may not be written, or is of a newer format.
            DamagedStateError: It is not what an agent left there; nothing was changed (salvage.py is for that).
            DurabilityError: The disk does not answer.
        """
        self.path = state / DATABASE_FILE
        try:
            self._db = _sound(state)
        except DamagedStateError:
            # SQLite takes a read that fails for damage (SQLITE_IOERR_CORRUPTFS becomes SQLITE_CORRUPT in a statement). Damage is
            # what is there twice, in a file of which every byte can be read.
            read_through(state)
            self._db = _sound(state)

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

    def head(self) -> Head | None:
        """Return the trail's head, or None in a new or salvaged spool."""
        head: Head | None = tables.get_meta(self._db, "head")
        return head

    def lost(self) -> StateLoss | None:
        """Return what was lost with the spool before this one, until an epoch has begun that says so."""
        loss: StateLoss | None = tables.get_meta(self._db, "lost")
        return loss

    def epochs(self) -> int:
        """Count the epochs that were begun in this state directory."""
        return int(tables.get_meta(self._db, "epochs") or 0)

    def given_up(self) -> list[str]:
        """Return the origins whose batches are on their way back to blocks; see `requeue_last`."""
        return [tables.get_meta(self._db, key) for (key,) in self._db.execute("SELECT key FROM meta") if key.startswith(GIVING_UP)]

    def confirmed(self, store: str) -> Confirmed | None:
        """Return the newest batch that a store has confirmed."""
        confirmed: Confirmed | None = tables.get_meta(self._db, CONFIRMED + store)
        return confirmed

    def note_confirmed(self, store: str, confirmed: Confirmed) -> None:
        """Write down the newest batch that a store has, where it did not get it from this spool."""
        with self._transaction() as db:
            tables.put_meta(db, CONFIRMED + store, confirmed)

    def known_elsewhere(self, origins: Iterable[str]) -> bool:
        """Say whether any store has confirmed a batch of one of these trails."""
        names = set(origins)
        keys = [key for (key,) in self._db.execute("SELECT key FROM meta") if key.startswith(CONFIRMED)]
        return any(tables.get_meta(self._db, key).origin in names for key in keys)

    def cursors(self) -> list[Cursor]:
        """Return every cursor, finished ones included."""
        return [tables.read_cursor(row) for row in self._db.execute("SELECT source, file_id, cursor FROM cursors")]

    def held(self) -> tuple[int, int]:
        """Count what the spool holds: (bytes as the bound counts them, records)."""
        held_bytes = held_records = 0
        for meta, size in self._db.execute("SELECT meta, length(bodies) FROM blocks"):
            held_bytes += size + ROW_OVERHEAD_BYTES
            held_records += tables.read_block_meta(meta).records
        for meta, size in self._db.execute("SELECT meta, length(seal) + coalesce(length(data), 0) FROM batches"):
            held_bytes += size + ROW_OVERHEAD_BYTES
            held_records += tables.read_batch_meta(meta).records
        return held_bytes, held_records

    def oldest_observed(self, after_block: int | None = None, after_batch: int = 0) -> str | None:
        """Return when the oldest record still held was read, RFC 3339 UTC; None if no record is held.

        Args:
            after_block: Leave blocks up to this id out of account (the batch that is being cut).
            after_batch: Leave batches up to this id out of account (a store has them).
        """
        for (raw,) in self._db.execute("SELECT meta FROM batches WHERE id > ? ORDER BY id", (after_batch,)):
            batch = tables.read_batch_meta(raw)
            if batch.records:
                return batch.observed_min
        first = _BEFORE_ALL_BLOCKS if after_block is None else after_block
        for (raw,) in self._db.execute("SELECT meta FROM blocks WHERE id > ? ORDER BY id", (first,)):
            block = tables.read_block_meta(raw)
            if block.records:
                return block.observed_min
        return None

    def blocks_after(self, last_id: int | None, limit_bytes: int) -> list[Block]:
        """Read the blocks behind `last_id` in order, at least one if there is any, up to about `limit_bytes`.

        Raises:
            DamagedStateError: A block's bytes are not the ones that were spooled.
        """
        found: list[Block] = []
        size = 0
        query = "SELECT id, meta, sha256, bodies FROM blocks WHERE id > ? ORDER BY id"
        for row in self._db.execute(query, (_BEFORE_ALL_BLOCKS if last_id is None else last_id,)):
            block = tables.read_block(row)
            found.append(block)
            size += len(block.bodies)
            if size >= limit_bytes:
                break
        return found

    def next_batch(self, after_id: int) -> QueuedBatch | None:
        """Return the first sealed batch behind `after_id`, or None.

        Raises:
            DamagedStateError: Its bytes are not the ones that were sealed.
        """
        row = self._db.execute("SELECT id, meta, seal, data FROM batches WHERE id > ? ORDER BY id LIMIT 1", (after_id,)).fetchone()
        return None if row is None else tables.read_batch(row)

    def last_receipted(self, store: str) -> int:
        """Return the id of the newest batch still held that a store has confirmed, 0 if none."""
        row = self._db.execute("SELECT max(batch) FROM receipts WHERE store = ?", (store,)).fetchone()
        return int(row[0] or 0)

    def waiting(self, after_batch: int = 0) -> int:
        """Count the sealed batches behind an id that wait for receipts."""
        return int(self._db.execute("SELECT count(*) FROM batches WHERE id > ?", (after_batch,)).fetchone()[0])

    # ---- writing -------------------------------------------------------------------------------------------------

    def append(self, appends: Sequence[Append], split_bytes: int = 1 << 20) -> int:
        """Make appends durable in one transaction: bodies, progress and cursors together (write order, step 1).

        Args:
            appends: What to add, in order.
            split_bytes: Begin a new row once the bodies reach this size.

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
                rows.append(tables.block_row(*block_of(group)))
                group, group_bytes = [], 0
        if group:
            rows.append(tables.block_row(*block_of(group)))
        # Only the newest cursor of each file counts; older ones would be overwritten in the same transaction.
        newest = {(c.source, c.file_id): c for a in appends for c in a.cursors}
        with self._transaction() as db:
            db.executemany("INSERT INTO blocks (meta, sha256, bodies) VALUES (?, ?, ?)", rows)
            tables.put_cursors(db, iter(newest.values()))
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
            tables.insert_batch(db, batch)
            tables.put_meta(db, "head", head)
        return freed, tables.batch_bytes(batch)

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
            tables.put_receipt(db, batch_id, store, at)
            done = Confirmed(origin=batch.origin, number=batch.number, size=batch.size, root=batch.root, sealed_at=batch.sealed_at, at=at)
            tables.put_meta(db, CONFIRMED + store, done)
            have = {row[0] for row in db.execute("SELECT store FROM receipts WHERE batch = ?", (batch_id,))}
            if not have.issuperset((*required, *optional)):
                return 0
            tables.drop_batch(db, batch_id)
        return tables.batch_bytes(batch)

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
            tables.drop_batch(db, batch_id)
        return tables.batch_bytes(tables.read_batch(row).batch)

    def settle(self, stores: Iterable[str]) -> None:
        """Let every batch go that all of these stores have confirmed: another store that was waited for may be gone."""
        needed = set(stores)
        have: dict[int, set[str]] = {}
        for batch_id, store in self._db.execute("SELECT batch, store FROM receipts"):
            have.setdefault(batch_id, set()).add(store)
        with self._transaction() as db:
            for batch_id in (one for one, confirmed in have.items() if confirmed >= needed):
                tables.drop_batch(db, batch_id)

    def unshipped_origins(self) -> list[str]:
        """Return the trails that have batches here, the oldest first."""
        rows = self._db.execute("SELECT meta FROM batches ORDER BY id")
        return list(dict.fromkeys(tables.read_batch_meta(row[0]).origin for row in rows))

    # ---- epochs --------------------------------------------------------------------------------------------------

    def open_epoch(
        self,
        batch: NewBatch,
        head: Head,
        *,
        give_up: Sequence[str] = (),
        required: Iterable[str] = (),
        first: tuple[BlockMeta, bytes] | None = None,
    ) -> None:
        """Begin a new trail with its batch 0; what a salvaged spool says of the one before it is thereby said.

        Args:
            batch: Batch 0 of the new epoch, already sealed.
            head: The head after it.
            give_up: Origins whose batches become blocks again (fork); see `give_up`.
            required: The stores whose receipt counts as confirmation.
            first: A block that goes before every waiting one, such as the statement of a loss.
        """
        with self._transaction() as db:
            self._give_up(db, give_up, required)
            if first is not None:
                tables.insert_block(db, tables.first_block_id(db), *first)
            tables.insert_batch(db, batch)
            tables.put_meta(db, "head", head)
            tables.put_meta(db, "epochs", self.epochs() + 1)
            db.execute("DELETE FROM meta WHERE key = 'lost'")

    def give_up(self, origins: Sequence[str], required: Iterable[str]) -> None:
        """Give up trails in favour of blocks rebuilt from what no required store has confirmed; `requeue_last` does that."""
        with self._transaction() as db:
            self._give_up(db, origins, required)

    def _give_up(self, db: sqlite3.Connection, origins: Sequence[str], required: Iterable[str]) -> None:
        confirmed = {row[0] for store in required for row in db.execute("SELECT batch FROM receipts WHERE store = ?", (store,))}
        for origin in origins:
            tables.put_meta(db, GIVING_UP + origin, origin)
        for batch_id, origin in self._batches_by_origin(db):
            if origin in origins and batch_id in confirmed:
                tables.drop_batch(db, batch_id)

    def requeue_last(self) -> bool:
        """Turn the newest batch of the trails that were given up into a block before all others, in one transaction.

        From the newest to the oldest, each goes before the last one, so their order is kept; whoever is killed in between
        goes on at the next start, because the trails' names stay noted until the last batch is done. Nothing may be cut
        meanwhile.

        Returns:
            Whether there was one; False ends it.
        """
        with self._transaction() as db:
            given_up = set(self.given_up())
            batch_id = next((one for one, origin in self._batches_by_origin(db) if origin in given_up), None)
            if batch_id is None:
                db.execute("DELETE FROM meta WHERE substr(key, 1, ?) = ?", (len(GIVING_UP), GIVING_UP))
                return False
            row = db.execute("SELECT id, meta, seal, data FROM batches WHERE id = ?", (batch_id,)).fetchone()
            meta, bodies = unsealed(tables.read_batch(row).batch)
            if bodies or meta.progress:
                tables.insert_block(db, tables.first_block_id(db), meta, bodies)
            tables.drop_batch(db, batch_id)
        return True

    def _batches_by_origin(self, db: sqlite3.Connection) -> list[tuple[int, str]]:
        """Return (id, origin) of every batch, the newest first."""
        return [(row[0], tables.read_batch_meta(row[1]).origin) for row in db.execute("SELECT id, meta FROM batches ORDER BY id DESC")]

    # ---- upkeep --------------------------------------------------------------------------------------------------

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
        """Check the file's structure and every row; an empty list means sound."""
        return problems(self._db, deep=True)
