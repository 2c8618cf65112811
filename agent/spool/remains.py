"""Read what can still be read of a damaged spool, row by row.

Each row is asked for by its own key, so an unreadable page costs the rows on it and no others; which keys there are is found by
walking each table from both ends, and by asking for every id between the two.

Invariants: only rows whose stamps and sums are right are returned; nothing is written; memory holds one body or batch at a time.
Rows are taken through the tables only: free pages still hold what was shipped long ago and looks as sound as the rest.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ..errors import DamagedStateError, FormatError, IntegrityError, SpoolFullError
from ..trail.merkle import leaf_hash, verify_inclusion
from ..trail.seal import parse_seal
from . import tables
from .connection import refused, translated
from .inspection import close_reading, open_for_reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..intake import Cursor
    from ..trail.manifest import SourceProgress
    from .rows import BatchRow, Block, BlockMeta, Confirmed, Head, QueuedBatch, StateLoss

_MOST_IDS: Final = 1 << 20
"""How many ids between the two ends of a table are asked for one by one."""


@dataclass(slots=True)
class Remains:
    """What is sound in a damaged spool.

    Attributes:
        head: The head of its trail.
        epochs: How many epochs it knew of.
        loss: What it said itself of a spool before it.
        confirmed: By store, the newest batch it has confirmed.
        given_up: The trails whose batches were on their way back to blocks.
        cursors: The positions in sources.
        receipts: (batch id, store, time).
        batches: The batches that are sound, by id.
        block_metas: What the sound blocks hold, by id.
        torn: Descriptions of blocks, and stretches of batches, whose bodies are lost.
        progress: What the sound batches account for, by id.
        unknown: How many rows of blocks and batches are lost without a trace of what was in them.
        uncounted: Whether there may be more such rows.
        torn_batches: How many batches are among the lost.
        cursors_lost: Whether rows of cursors are lost.
    """

    head: Head | None = None
    epochs: int = 0
    loss: StateLoss | None = None
    confirmed: dict[str, Confirmed] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    cursors: list[Cursor] = field(default_factory=list)
    receipts: list[tuple[int, str, str]] = field(default_factory=list)
    batches: dict[int, BatchRow] = field(default_factory=dict)
    block_metas: dict[int, BlockMeta] = field(default_factory=dict)
    torn: list[tuple[SourceProgress, ...]] = field(default_factory=list)
    progress: dict[int, tuple[SourceProgress, ...]] = field(default_factory=dict)
    unknown: int = 0
    uncounted: bool = False
    torn_batches: int = 0
    cursors_lost: bool = False


class Wreck:
    """Read one damaged spool file; `close` it afterwards."""

    def __init__(self, path: Path, *, patient: bool = False) -> None:
        """Open the file, as far as that is possible; what is not there has no rows.

        Args:
            path: The damaged file.
            patient: Raise `DurabilityError` where the disk does not answer, because it may do so later; otherwise what is on such
                a place is lost.
        """
        self._path = path
        self._patient = patient
        self._db: sqlite3.Connection | None = None
        if path.exists() and path.stat().st_size:
            self._db = open_for_reading(path)

    def close(self) -> None:
        """Close the file, which was not changed."""
        if self._db is not None:
            close_reading(self._db, self._path)

    def take_stock(self) -> Remains:
        """Read everything but the bodies and the sealed bytes into memory, and check those."""
        found = Remains()
        self._read_meta(found)
        rows, broken = self._rows("cursors", "source, file_id, cursor", "source, file_id")
        for row in rows:
            try:
                found.cursors.append(tables.read_cursor(row))
            except DamagedStateError:
                broken = True
        found.cursors_lost = broken
        rows, broken = self._rows("receipts", "batch, store, at", "batch, store")
        for row in rows:
            with contextlib.suppress(DamagedStateError):
                found.receipts.append(tables.read_receipt(row))
        self._read_blocks(found)
        self._read_batches(found)
        return found

    def block(self, block_id: int) -> Block:
        """Return a block that `take_stock` has found sound."""
        return tables.read_block(self._row("blocks", "id, meta, sha256, bodies", block_id))

    def batch(self, batch_id: int) -> QueuedBatch:
        """Return a batch that `take_stock` has found sound."""
        return tables.read_batch(self._row("batches", "id, meta, seal, data", batch_id))

    def _read_meta(self, found: Remains) -> None:
        rows, _ = self._rows("meta", "key, value", "key")
        for key, stored in rows:
            try:
                value = tables.read_meta(key, stored)
            except DamagedStateError:
                continue
            if key == "head":
                found.head = value
            elif key == "epochs":
                found.epochs = value
            elif key == "lost":
                found.loss = value
            elif key.startswith(tables.CONFIRMED):
                found.confirmed[key.removeprefix(tables.CONFIRMED)] = value
            elif key.startswith(tables.GIVING_UP):
                found.given_up.add(value)

    def _read_blocks(self, found: Remains) -> None:
        ids, broken = self._ids("blocks")
        for block_id in ids:
            meta: BlockMeta | None = None
            try:
                meta = tables.read_block_meta(self._row("blocks", "meta", block_id)[0])
                self.block(block_id)
            except (sqlite3.Error, DamagedStateError):
                if meta is None:
                    found.unknown += 1
                else:
                    found.torn.append(meta.progress)
                continue
            found.block_metas[block_id] = meta
        found.uncounted |= broken
        # Ids are given one after the other and deleted from the front, so a hole is a row that went missing.
        found.unknown += ids[-1] - ids[0] + 1 - len(ids) if ids else 0

    def _read_batches(self, found: Remains) -> None:
        ids, broken = self._ids("batches")
        for batch_id in ids:
            try:
                meta = tables.read_batch_meta(self._row("batches", "meta", batch_id)[0])
            except (sqlite3.Error, DamagedStateError):
                found.unknown += 1
                found.torn_batches += 1
                continue
            try:
                found.progress[batch_id] = parse_seal(self.batch(batch_id).batch.seal).manifest.sources
            except (sqlite3.Error, DamagedStateError, FormatError):
                found.torn_batches += 1
                self._note_torn(found, batch_id)
                continue
            found.batches[batch_id] = meta
        found.uncounted |= broken

    def _note_torn(self, found: Remains, batch_id: int) -> None:
        """Note what a batch accounted for, from its seal, which is stored beside the data and may have outlived it."""
        try:
            seal = parse_seal(bytes(self._row("batches", "seal", batch_id)[0]))
            checkpoint = seal.checkpoint()
            verify_inclusion(seal.proof.index, checkpoint.size, leaf_hash(seal.manifest_line), seal.proof.hashes, checkpoint.root)
            found.torn.append(seal.manifest.sources)
        except (sqlite3.Error, IntegrityError, TypeError):
            found.unknown += 1

    def _row(self, table: str, columns: str, row_id: int) -> Any:
        if self._db is None:
            raise DamagedStateError("the spool is not there")
        rows, error = self._ask(self._db, f"SELECT {columns} FROM {table} WHERE id = ?", row_id)  # noqa: S608 -- names of our own
        if error is not None:
            raise error
        row = rows[0] if rows else None
        if row is None:
            raise DamagedStateError(f"row {row_id} of {table} is gone")
        return row

    def _rows(self, table: str, columns: str, order: str) -> tuple[list[Any], bool]:
        """Return the rows of a small table without ids, and whether some could not be read."""
        rows: dict[Any, Any] = {}
        broken = False
        for way in ("", " DESC"):
            keys = ", ".join(one + way for one in order.split(", "))
            walk = self._walk(f"SELECT {columns} FROM {table} ORDER BY {keys}")  # noqa: S608 -- names of our own
            for row in walk:
                if row is None:
                    broken = True
                    break
                rows[row[: order.count(",") + 1]] = row
            if not broken:
                break
        return list(rows.values()), broken

    def _ids(self, table: str) -> tuple[list[int], bool]:
        """Return every id that a table may have, in order, and whether some are unknown."""
        ends: list[set[int]] = []
        for way in ("", " DESC"):
            seen: set[int] = set()
            broken = False
            for row in self._walk(f"SELECT id FROM {table} ORDER BY id{way}"):  # noqa: S608 -- names of our own
                if row is None:
                    broken = True
                    break
                seen.add(row[0])
            if not broken:
                return sorted(seen), False
            ends.append(seen)
        front, back = ends
        if front and back and 0 < min(back) - max(front) < _MOST_IDS:
            # Between the last id from the front and the first from the back lies the damage, and there may be more behind it.
            return sorted(front | back | set(range(max(front) + 1, min(back)))), False
        return sorted(front | back), True

    def _walk(self, query: str) -> Iterator[Any]:
        """Yield rows, and None where the walk cannot go on."""
        if self._db is None:
            yield None
            return
        rows, error = self._ask(self._db, query)
        yield from rows
        if error is not None:
            yield None

    def _ask(self, db: sqlite3.Connection, query: str, *values: object) -> tuple[list[Any], sqlite3.Error | None]:
        """Return the rows up to the first that cannot be read, and why it cannot.

        A failure is asked about once more: SQLite calls a read that the system has refused damage, too.
        """
        rows: list[Any] = []
        failure: sqlite3.Error | None = None
        for _ in range(2):
            rows.clear()
            try:
                rows.extend(db.execute(query, values))
            except sqlite3.Error as error:
                reason = translated(error, self._path)
                if isinstance(reason, SpoolFullError) or (self._patient and refused(error)):
                    raise reason from error
                failure = error
            else:
                return rows, None
        return rows, failure
