"""The spool's SQLite file: how it is opened, and what its errors mean.

Traps of SQLite avoided here (each one measured): `secure_delete` off and `auto_vacuum` off (both rewrite pages that are
about to be reused anyway); 16 KiB pages (50 % more throughput on 1 MiB rows than 4 KiB ones); exclusive locking (no
shared-memory file, and a second process fails at once); WAL with synchronous=FULL, so that a commit is an fsync.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from ..errors import DurabilityError, IntegrityError, SpoolFullError, StateError

if TYPE_CHECKING:
    from pathlib import Path

DATABASE_FILE = "spool.db"
FORMAT = 1
PAGE_BYTES = 16 << 10
CHECKPOINT_BYTES = 16 << 20
"""How long the write-ahead log grows before it is emptied; the ballast (queue.py) must be larger."""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (source TEXT, file_id TEXT, cursor BLOB NOT NULL, PRIMARY KEY (source, file_id)) WITHOUT ROWID;
CREATE TABLE blocks (id INTEGER PRIMARY KEY, meta BLOB NOT NULL, sha256 BLOB NOT NULL, bodies BLOB NOT NULL);
CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, meta BLOB NOT NULL, seal BLOB NOT NULL, data BLOB);
CREATE TABLE receipts (batch INTEGER, store TEXT, at TEXT NOT NULL, PRIMARY KEY (batch, store)) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open or create a spool file.

    Raises:
        StateError: The file is of another format.
        sqlite3.DatabaseError: SQLite cannot read it.
        OSError: It cannot be created.
    """
    # Created with the right mode before SQLite creates it with the umask's.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Set the pragmas, make the tables of a new file, and refuse a file of another format."""
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
    if version == 0:
        db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={FORMAT};COMMIT;")
        # A new file name must survive a power cut as well as the file's bytes do.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    elif version != FORMAT:
        message = f"the spool {path} has format {version}; this version reads format {FORMAT}"
        raise StateError(message, hint="Use the version that wrote it to drain it, then start with an empty state directory.")


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """Turn SQLite's error into one of ours, by what has to be done about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return SpoolFullError(f"the disk or the spool {path} is full: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IntegrityError(f"the spool {path} is damaged: {error}")
    return DurabilityError(f"the spool {path} could not be written: {error}")
