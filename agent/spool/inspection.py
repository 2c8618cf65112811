"""Tell whether a spool is what an agent left there, without changing a byte of it.

What is not is *damaged*, and salvaged (salvage.py). What cannot be looked at, because of permissions, a newer format or a disk
that does not answer, is refused: that is no damage, and setting it aside would make a passing trouble a lasting one.

Invariants: the database is opened for reading only and closed again, so what is found damaged is set aside as it was found.
SQLite itself would empty the write-ahead log into the database as it closes.
"""

from __future__ import annotations

import os
import re
import sqlite3
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ..errors import DamagedStateError, DurabilityError, SpoolFullError, StateError
from . import aside, tables
from .connection import DATABASE_FILE, FORMAT, PAGE_BYTES, is_refusal, refusal, refused, translated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_ALWAYS: Final = ((0, _MAGIC), (16, PAGE_BYTES.to_bytes(2, "big")), (18, b"\x02\x02"), (20, b"\x00\x40\x20\x20"))
_WITH_TABLES: Final = ((44, b"\0\0\0\4"), (56, b"\0\0\0\1"))
"""Fields of the header (sqlite.org/fileformat2.html section 1.3) in which a flipped bit makes SQLite refuse, or read otherwise; the
second ones are zero until there are tables."""
_LAST_PLAUSIBLE_FORMAT: Final = 1000
_STEP_BYTES: Final = 1 << 20
_CODE: Final = re.compile(r"error code[= ](\d+)")
_UNREAD: Final = re.compile(r"failed to get page \d+")
"""How `PRAGMA quick_check` words a page that it was kept from reading; one with a wrong number it calls invalid."""
DEEP_BYTES: Final = 64 << 20
"""A spool up to this size is read as a whole before it is used; of a larger one, rotten bodies are found when they are sealed or sent."""


def inspect(state: Path) -> None:
    """Look at the spool of a state directory whose lock the caller holds.

    Raises:
        DamagedStateError: It is not what an agent left there.
        StateError: It may not be read, or is of a newer format.
        DurabilityError: The disk does not answer, or what is needed to look is short; the next start looks again.
    """
    try:
        _inspect(state)
    except OSError as error:
        raise refusal(state / DATABASE_FILE, error, "look at") from error
    except MemoryError as error:
        raise DurabilityError(f"there is no memory to look at {state / DATABASE_FILE}") from error


def _inspect(state: Path) -> None:
    path = state / DATABASE_FILE
    noted = aside.suspicion(state)
    note = aside.read_note(state)
    log = path.with_name(f"{DATABASE_FILE}-wal")
    header = _header(path)
    if not header:
        if noted is not None:
            raise DamagedStateError(noted)
        if note is not None or (log.exists() and log.stat().st_size):
            raise DamagedStateError(f"the spool {path} is gone, and what lies beside it says that there was one")
        return
    if note is None and path.with_name(f"{DATABASE_FILE}-journal").exists():
        return  # Killed while it was made; SQLite takes that back when it is opened.
    wrong = any(not header.startswith(value, at) for at, value in _ALWAYS)
    if wrong or any(not header.startswith((value, bytes(4)), at) for at, value in _WITH_TABLES):
        raise DamagedStateError(f"the spool {path} does not begin as an SQLite database of ours")
    try:
        _inspect_tables(path, note, deep=noted is not None or path.stat().st_size <= DEEP_BYTES)
    except SpoolFullError:
        if noted is not None:
            raise
        return  # No room even to look; what is read later is checked all the same.
    if noted is not None and aside.was_unfounded(state):
        raise DamagedStateError(noted)  # Twice in a row: whatever it is, it is not seen from here and will not go away.


def _header(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, _HEADER_BYTES, 0)
    finally:
        os.close(fd)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a spool file so that nothing of it changes; text that is not UTF-8 is no error."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    db.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    return db


def close_reading(db: sqlite3.Connection, path: Path) -> None:
    """Close what `open_for_reading` opened, and remove what SQLite made for it: the index of the log, and an empty log."""
    db.close()
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and not log.stat().st_size:
        log.unlink()


def read_through(state: Path) -> None:
    """Read every byte of a spool's files, whose database nobody has open, to see whether the disk gives them.

    Raises:
        StateError: They may not be read.
        DurabilityError: The disk does not answer.
    """
    path = state / DATABASE_FILE
    for each in (path, path.with_name(f"{DATABASE_FILE}-wal")):
        try:
            with each.open("rb", buffering=0) as file:
                while file.read(_STEP_BYTES):
                    pass
        except FileNotFoundError:
            continue
        except OSError as error:
            raise refusal(each, error, "read") from error


def _inspect_tables(path: Path, note: aside.Note | None, *, deep: bool) -> None:
    db = open_for_reading(path)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and note is None and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return
        _check_format(db, path, version)
        found = problems(db, stamps=version == FORMAT, deep=deep)
        if found:
            raise DamagedStateError(f"the spool {path} is damaged: {found[0]}")
        if note is not None and version == FORMAT and note.epochs > (tables.get_meta(db, "epochs") or 0):
            raise DamagedStateError(f"the spool {path} is older than {note.origin}, which was begun from this state directory")
    except sqlite3.Error as error:
        reason = translated(error, path)
        # What SQLite calls an error of the query, such as a table that is gone, is one of the file: the queries are ours.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_ERROR:
            reason = DamagedStateError(f"the spool {path} is damaged: {error}")
        raise reason from error
    finally:
        close_reading(db, path)


def _check_format(db: sqlite3.Connection, path: Path, version: int) -> None:
    try:
        row = tables.get_meta(db, "format")
    except DamagedStateError:
        row = None
    except sqlite3.DatabaseError as error:
        if refused(error):
            raise
        row = None
    if version > FORMAT and row != FORMAT and version < _LAST_PLAUSIBLE_FORMAT:
        message = f"the spool {path} has format {version}; this version reads format {FORMAT}"
        raise StateError(message, hint="Use the version that wrote it; to go back, drain it with that one and start with an empty state.")
    if (version, row) not in ((FORMAT, FORMAT), (1, None)):
        raise DamagedStateError(f"the spool {path} says that it has format {version} and {row}")


def problems(db: sqlite3.Connection, *, stamps: bool = True, deep: bool = False) -> list[str]:
    """Check a spool's structure and rows; an empty list means sound.

    Args:
        db: The connection.
        stamps: Whether its rows have stamps (format 2).
        deep: Read every body and every sealed batch too, and not only what describes them.

    Raises:
        sqlite3.Error: It cannot be read.
        DurabilityError: It cannot be read, in the words of SQLite's own check, which takes that for a finding.
    """
    found = [f"{row[0]}" for row in db.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    for one in found:
        code = _CODE.search(one)
        if _UNREAD.search(one) or (code is not None and is_refusal(int(code[1]))):
            raise DurabilityError(f"the spool could not be read: {one}")
    if found or not stamps:
        return found
    metas = _read_all(db, "SELECT key, value FROM meta", lambda row: (row[0], tables.read_meta(*row)), found)
    _read_all(db, "SELECT source, file_id, cursor FROM cursors", tables.read_cursor, found)
    receipts = _read_all(db, "SELECT batch, store, at FROM receipts", tables.read_receipt, found)
    if deep:
        blocks = _read_all(db, "SELECT id, meta, sha256, bodies FROM blocks ORDER BY id", lambda row: tables.read_block(row).id, found)
        batches = _read_all(db, "SELECT id, meta, seal, data FROM batches", lambda row: tables.read_batch(row).id, found)
    else:
        blocks = _read_all(db, "SELECT id, meta FROM blocks ORDER BY id", lambda row: (tables.read_block_meta(row[1]), row[0])[1], found)
        batches = _read_all(db, "SELECT meta FROM batches", lambda row: tables.read_batch_meta(row[0]).number, found)
    # Ids are given one after the other and deleted from the front, so a hole is a row that went missing.
    found += [f"blocks {one} to {other} are not there" for one, other in pairwise(blocks) if other != one + 1]
    keys = {key for key, _ in metas}
    if not keys & {"head", "lost"} and (batches or receipts or keys - {"format"}):
        found.append("the head of the trail is gone")
    return found


def _read_all(db: sqlite3.Connection, query: str, read: Callable[[Any], object], found: list[str]) -> list[Any]:
    values = []
    for row in db.execute(query):
        try:
            values.append(read(row))
        except DamagedStateError as error:
            found.append(error.message)
    return values
