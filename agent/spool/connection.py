"""The spool's SQLite file: how it is opened, and what its errors mean.

Traps of SQLite avoided here (each one measured): `secure_delete` off and `auto_vacuum` off (both rewrite pages that are
about to be reused anyway); 16 KiB pages (50 % more throughput on 1 MiB rows than 4 KiB ones); exclusive locking (no
shared-memory file, and a second process fails at once); WAL with synchronous=FULL, so that a commit is an fsync.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from ..errors import DamagedStateError, DurabilityError, SpoolFullError, StateError
from . import tables
from .upgrade import upgrade

if TYPE_CHECKING:
    from pathlib import Path

DATABASE_FILE = "spool.db"
FORMAT = 2
"""The tables of format 1 were the same, without stamps; such a spool is brought up to date when it is opened."""
PAGE_BYTES = 16 << 10
CHECKPOINT_BYTES = 16 << 20
"""How long the write-ahead log grows before it is emptied; the ballast (ballast.py) must be larger."""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (source TEXT, file_id TEXT, cursor BLOB NOT NULL, PRIMARY KEY (source, file_id)) WITHOUT ROWID;
CREATE TABLE blocks (id INTEGER PRIMARY KEY, meta BLOB NOT NULL, sha256 BLOB NOT NULL, bodies BLOB NOT NULL);
CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, meta BLOB NOT NULL, seal BLOB NOT NULL, data BLOB);
CREATE TABLE receipts (batch INTEGER, store TEXT, at TEXT NOT NULL, PRIMARY KEY (batch, store)) WITHOUT ROWID;
"""


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FOR_A_PERSON: Final = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
)
_REFUSALS: Final = frozenset(
    (
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY),
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_FULL),
    )
)
_READING: Final = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)
"""The second is what SQLite makes of EIO; it says so for want of a better word, and the file may be whole."""
_NEEDS_ROOM: Final = frozenset(
    (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP)
)
_PROBE_FILE: Final = "probe"
_PROBE_BYTES: Final = 64 << 10


def connect(path: Path) -> sqlite3.Connection:
    """Open or create a spool file that `inspect` has found sound.

    Raises:
        StateError: It cannot be created or written.
        sqlite3.Error: SQLite cannot read it.
    """
    try:
        # Created with the right mode before SQLite creates it with the umask's.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise refusal(path, error) from error
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def refusal(path: Path, error: OSError, done: str = "open") -> Exception:
    """Turn the system's refusal to open or read a file of the state into the error that says what to do.

    What a person has to mend is a `StateError`; what may be gone at the next start is a `DurabilityError`, and a full disk a
    `SpoolFullError`. None of them is damage.
    """
    message = f"cannot {done} {path}: {error.strerror or error}"
    if error.errno in _FULL:
        return SpoolFullError(message)
    if error.errno in _FOR_A_PERSON:
        return StateError(message, hint="Give the state directory to the agent's user, on a disk that works, can be written and has room.")
    return DurabilityError(f"the disk does not answer: {message}")


def refused(error: sqlite3.Error) -> bool:
    """Say whether SQLite was kept from reading, which tells nothing about what it would have read."""
    extended = getattr(error, "sqlite_errorcode", None) or 0
    return is_refusal(extended)


def is_refusal(extended: int) -> bool:
    """Say whether an (extended) result code of SQLite is the system's refusal rather than a word on the file's contents."""
    return extended & 0xFF in _REFUSALS and extended != sqlite3.SQLITE_IOERR_SHORT_READ


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Set the pragmas, make the tables of a new file, and bring one of an older format up to date."""
    for pragma in (
        f"page_size={PAGE_BYTES}",
        "locking_mode=EXCLUSIVE",
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=OFF",
        "auto_vacuum=NONE",
        "cache_size=-2048",
        "temp_store=MEMORY",
        f"wal_autocheckpoint={CHECKPOINT_BYTES // PAGE_BYTES}",
        "journal_size_limit=33554432",
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == FORMAT:
        return
    db.execute("BEGIN IMMEDIATE")
    if version == 0:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
    else:
        upgrade(db)
    tables.put_meta(db, "format", FORMAT)
    db.execute(f"PRAGMA user_version={FORMAT}")
    db.execute("COMMIT")
    # A new file name must survive a power cut as well as the file's bytes do.
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """Turn SQLite's error into one of ours, by what has to be done about it."""
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    # SQLite knows a full disk by ENOSPC only, and not when it makes the log's index; a quota comes as a failed write. Another
    # write has to explain these. All are rolled back before anything was acknowledged. A failed fsync is never asked twice.
    if code == sqlite3.SQLITE_FULL or (extended in _NEEDS_ROOM and _is_full(path.parent)):
        return SpoolFullError(f"the disk or the spool {path} is full: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or extended == sqlite3.SQLITE_IOERR_SHORT_READ:
        return DamagedStateError(f"the spool {path} is damaged: {error}")
    denied = code == sqlite3.SQLITE_CANTOPEN and any(not os.access(each, os.R_OK | os.W_OK) for each in path.parent.glob(f"{path.name}*"))
    if denied or code in (sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateError(f"cannot open the spool {path}: {error}", hint="Give the state directory to one agent, and to its user.")
    done = "opened" if code == sqlite3.SQLITE_CANTOPEN else "read" if extended in _READING else "written"
    return DurabilityError(f"the spool {path} could not be {done}: {error}")


def _is_full(folder: Path) -> bool:
    """Ask the disk for a little room, and say whether it refuses for want of it."""
    path = folder / _PROBE_FILE
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, bytes(_PROBE_BYTES), 0)
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)
    except OSError as error:
        return error.errno in _FULL
    return False
