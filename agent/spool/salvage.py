"""Save what is sound of a damaged spool into a new one, and keep the damaged one aside.

What is saved, and why so:
    - sealed batches that continue what a store has confirmed without a hole: as they are, to be shipped as the very same bytes;
    - the records of sealed batches behind a hole, and blocks: as blocks, for the new epoch;
    - cursors, so that nothing is read twice, except those of files of which records are lost, or may be: such a file is read
      again from its start, because a duplicate (told by `event_id`) is better than a loss;
    - receipts, and the newest batch each store has confirmed;
    - what the lost head is known to have been (`StateLoss`). The sealer begins a new epoch with it, and a gap record.

Invariants: the damaged files are read, then moved, never written; the new spool is complete and durable before anything is
moved; whoever is killed starts over or goes on (aside.py). One body or batch is in memory at a time.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import DamagedStateError, SpoolFullError
from ..intake import Cursor
from ..trail.merkle import EMPTY_ROOT
from . import aside, tables
from .ballast import BALLAST_FILE
from .chain import newest_end, sort_out
from .connection import DATABASE_FILE, connect, refused, sync_folder, translated
from .inspection import close_reading, open_for_reading
from .remains import Remains, Wreck
from .rows import StateLoss
from .unsealing import unsealed

if TYPE_CHECKING:
    from pathlib import Path

    from .chain import Chain

MOST_ATTEMPTS: Final = 50
"""After so many that were cut short nothing is read of the damaged spool any more: better a stated loss than no start at all."""
PATIENT_ATTEMPTS: Final = 5
"""Up to so many, a place where the disk does not answer is left for the next attempt; after that it counts as lost."""
_GROUP_BYTES: Final = 8 << 20

_FileKey = tuple[str, str]


def finish(state: Path) -> None:
    """Do what is left of a salvage that was cut short behind the point of no return; nothing in all other cases."""
    salvaged = state / aside.SALVAGED_FILE
    if not salvaged.exists():
        return
    try:
        db = open_for_reading(salvaged)
        try:
            loss: StateLoss = tables.get_meta(db, "lost")
            folder = state / loss.kept_in
        finally:
            close_reading(db, salvaged)
    except (sqlite3.Error, DamagedStateError, AttributeError) as error:
        if isinstance(error, sqlite3.Error) and refused(error):
            raise translated(error, salvaged) from error
        folder = aside.new_folder(state)  # It is damaged as well; the start finds that out once it is in its place.
    aside.put_aside(state, folder)


def salvage(state: Path, why: str, now: str) -> None:
    """Replace a damaged spool by what is sound of it; `StateLoss` in the new one says so.

    Args:
        state: The state directory, whose lock the caller holds.
        why: What is wrong, one sentence.
        now: RFC 3339 UTC.

    Raises:
        SpoolFullError: The disk has no room for what is saved; nothing has changed.
        DurabilityError: The disk refused, or does not answer where it may do so at the next attempt; nothing has changed.
    """
    aside.remove_parts(state)
    # The ballast is room kept for exactly such a day; the opened spool takes it again.
    (state / BALLAST_FILE).unlink(missing_ok=True)
    attempt = aside.count_attempt(state)
    hopeless = attempt > MOST_ATTEMPTS
    part = state / aside.PART_FILE
    path = state / DATABASE_FILE
    wreck = Wreck(path, patient=attempt <= PATIENT_ATTEMPTS)
    try:
        found = Remains(uncounted=True, cursors_lost=True) if hopeless else _stock(wreck)
        folder = aside.new_folder(state)
        loss = StateLoss(why=why, at=now, kept_in=str(folder.relative_to(state)), saved="")
        try:
            with closing(connect(part)) as db:
                _write(db, wreck, found, loss, aside.read_note(state))
        except sqlite3.Error as error:
            raise translated(error, part) from error
    except SpoolFullError as error:
        aside.take_back_attempt(state)  # Waiting for room is no sign that the damage cannot be read.
        raise SpoolFullError(error.message, hint="Make room on the disk for a copy of the spool; nothing has changed yet.") from error
    finally:
        wreck.close()
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.rename(state / aside.SALVAGED_FILE)
    sync_folder(state)
    aside.put_aside(state, folder)


def _stock(wreck: Wreck) -> Remains:
    try:
        return wreck.take_stock()
    except sqlite3.Error:
        return Remains(uncounted=True, cursors_lost=True)


def _write(db: sqlite3.Connection, wreck: Wreck, found: Remains, loss: StateLoss, note: aside.Note | None) -> None:
    """Fill the new spool."""
    db.execute("PRAGMA synchronous=OFF").fetchall()  # Made durable as a whole, before it gets a name that counts.
    chain = sort_out(found)
    cursors, again = _cursors(found)
    origin, size, root = newest_end(found, chain)
    epochs = found.epochs
    if note is not None:
        newer = note.origin != origin and note.epochs > epochs and (epochs or found.head is None)
        if newer:  # All that is known of it is its name; the empty tree is the beginning of every trail.
            origin, size, root = note.origin, 0, EMPTY_ROOT
        epochs = max(epochs, note.epochs)
    db.execute("BEGIN")
    for store, confirmed in found.confirmed.items():
        tables.put_meta(db, tables.CONFIRMED + store, confirmed)
    tables.put_cursors(db, iter(cursors))
    kept = set(chain.keep)
    for batch_id, store, at in found.receipts:
        if batch_id in kept:
            tables.put_receipt(db, batch_id, store, at)
    records = _copy(db, wreck, chain, found)
    saved = _said(found, chain, records, len(cursors), again)
    if found.loss is not None:
        saved += f". Before that: {found.loss.why}; {found.loss.saved}"
    done = msgspec.structs.replace(loss, saved=saved, origin=origin, size=size, root=root)
    tables.put_meta(db, "epochs", epochs)
    tables.put_meta(db, "lost", done)
    db.execute("COMMIT")


def _copy(db: sqlite3.Connection, wreck: Wreck, chain: Chain, found: Remains) -> int:
    """Copy batches and blocks, one at a time; return how many records they hold."""
    size = records = 0

    def wrote(more: int) -> None:
        nonlocal size
        size += more
        if size > _GROUP_BYTES:
            db.execute("COMMIT")
            db.execute("BEGIN")
            size = 0

    for batch_id in sorted(chain.keep):
        batch = wreck.batch(batch_id).batch
        tables.insert_batch(db, batch, batch_id)
        records += batch.records
        wrote(tables.batch_bytes(batch))
    block_id = 1
    for batch_id in sorted(chain.unpack):
        meta, bodies = unsealed(wreck.batch(batch_id).batch)
        if bodies or meta.progress:
            wrote(tables.insert_block(db, block_id, meta, bodies))
            records += meta.records
            block_id += 1
    for old_id in sorted(found.block_metas):
        block = wreck.block(old_id)
        wrote(tables.insert_block(db, block_id, block.meta, block.bodies))
        records += block.meta.records
        block_id += 1
    return records


def _cursors(found: Remains) -> tuple[list[Cursor], int]:
    """Return the cursors to keep, and how many files are read again from their start instead.

    A stream's cursor is kept whatever was lost: its bytes cannot be read twice. One that is lost is made anew from what the
    sound batches and blocks account for.
    """
    reached: dict[_FileKey, int] = {}
    begun: set[_FileKey] = set()
    # If no batch is lost, the first one that is held goes on where those that have left ended.
    certain = not (found.torn_batches or found.uncounted)
    holes: set[_FileKey] = {(step.id, step.file_id or "") for torn in found.torn for step in torn}
    steps = [(True, step) for _, batch in sorted(found.progress.items()) for step in batch]
    steps += [(False, step) for _, meta in sorted(found.block_metas.items()) for step in meta.progress]
    streams: dict[_FileKey, Cursor] = {}
    for is_sealed, step in steps:
        key = (step.id, step.file_id or "")
        if step.from_offset is None or step.to_offset is None:
            continue
        if key in reached and reached[key] != step.from_offset:
            holes.add(key)
        if key not in reached and ((is_sealed and certain) or step.from_offset == 0):
            begun.add(key)
        reached[key] = step.to_offset
        if step.kind != "file" and step.file_id:
            end = step.to_offset
            streams[key] = Cursor(source=step.id, file_id=step.file_id, path=step.path or "", offset=end, size_seen=end)
    in_doubt = bool(found.unknown) or found.uncounted
    keep: list[Cursor] = []
    again = 0
    for cursor in found.cursors:
        key = (cursor.source, cursor.file_id)
        streams.pop(key, None)
        whole = key not in holes and (not in_doubt or (key in begun and reached.get(key) == cursor.offset))
        if whole or cursor.finished or not cursor.inode:
            keep.append(cursor)
        else:
            again += 1
    return [*keep, *streams.values()], again


def _said(found: Remains, chain: Chain, records: int, cursors: int, again: int) -> str:
    """Say what was saved and what was not."""
    batches = len(chain.keep) + len(chain.unpack)
    parts = [f"saved are {records} records in {len(found.block_metas)} blocks and {batches} sealed batches"]
    parts.append(f"and the positions in {cursors} files or streams")
    lost = len(found.torn) + found.unknown
    if lost or found.uncounted:
        parts.append(f"lost are {'at least ' if found.uncounted else ''}{lost} blocks or batches")
    if chain.passed:
        parts.append(f"{len(chain.passed)} sealed batches are in one store and cannot be in another")
    if again or found.cursors_lost:
        files = "some files are" if found.cursors_lost else f"{again} files are"
        parts.append(f"{files} read again from the start, so records of theirs may be in the trail twice")
    return "; ".join(parts)
