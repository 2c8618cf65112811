"""A store in a directory of a local (or properly exported) file system.

How an object comes to be: a temporary file in `.incoming/` is written, made read-only and fsynced; link(2) gives it its
name, which fails if the name exists; the folders whose entries changed are fsynced; the temporary name is removed. A
crash at any point leaves either no object or the whole object, plus at most one temporary file, removed by the next
start. Writing in place (open with O_EXCL) would not do: a power cut leaves half an object, which looks like a fork.

What it does not do: protect objects from whoever owns the directory. The trail proves a change; it cannot prevent one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISDIR
from typing import Final

from ..errors import ConfigError, TransientError
from ..vitals.standing import PLAIN, Standing

INCOMING: Final = ".incoming"
_OBJECT_MODE: Final = 0o444
_STALE_SECONDS: Final = 3600.0


class DirectoryStore:
    """Store objects as read-only files below one directory; fulfils `agent.stores.base.Store`."""

    def __init__(self, store_id: str, root: str | Path) -> None:
        """Describe a store.

        Args:
            store_id: Its id from the configuration.
            root: The directory; created (with parents) by the first `create`.
        """
        self._id = store_id
        self._root = Path(root)
        # Two threads: one for the store's own writes, one for reads that must not wait behind an fsync.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix=f"store-{store_id}")
        self._known: set[Path] = set()
        self._identity: tuple[int, int] | None = None
        self._swept = False

    @property
    def id(self) -> str:
        """Return the store's id."""
        return self._id

    @property
    def parallel(self) -> int:
        """Return 1: a disk gains nothing."""
        return 1

    async def examine(self) -> Standing:
        """Return that it creates exclusively, by itself, and has no lock."""
        return PLAIN

    async def create(self, key: str, data: bytes) -> bool:
        """Create an object if there is none under the key; see Store.create."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._create, self._path(key), data)

    async def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None; see Store.read."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, self._path(key))

    async def close(self) -> None:
        """End the store's threads."""
        self._threads.shutdown(wait=False)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or any(part in (".", "..") or part.startswith(".") for part in parts):
            message = f"{key!r} is not an object key"
            raise ConfigError(message)
        return self._root.joinpath(*parts)

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated("read", path, error) from error

    def _create(self, path: Path, data: bytes) -> bool:
        try:
            if path.exists():
                # Its creator may have died between link and fsync: "already there" must be as durable as "created".
                _sync_folder(path.parent)
                return False
            self._recognise_root()
            self._make_folder(path.parent)
            incoming = self._root / INCOMING
            self._make_folder(incoming)
            if not self._swept:
                self._sweep(incoming)
            temporary = incoming / f"{os.getpid()}-{os.urandom(8).hex()}.tmp"
            try:
                _write(temporary, data)
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    _sync_folder(path.parent)
                    return False
                _sync_folder(path.parent)
            finally:
                with contextlib.suppress(OSError):  # The object counts; a left-over temporary name is swept later.
                    temporary.unlink()
        except OSError as error:
            # The folder may have been replaced under us (an unmounted disk); look at it anew next time.
            self._known.clear()
            raise _translated("create", path, error) from error
        return True

    def _recognise_root(self) -> None:
        """Refuse once, for the caller to look around, when the directory is not the one it was (unmounted, made anew)."""
        if self._identity is None:
            self._make_folder(self._root)
        try:
            found = self._root.stat()
        except FileNotFoundError:
            found = None
        identity = (found.st_dev, found.st_ino) if found is not None and S_ISDIR(found.st_mode) else None
        before, self._identity = self._identity, identity
        if before is not None and before != identity:
            self._identity = None
            self._known.clear()
            message = f"the directory {self._root} of store {self._id} was unmounted, removed or replaced"
            raise TransientError(message, hint="Mount it, or put it back; it is tried again by itself.")

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and its parents so that their names survive a power cut."""
        if folder in self._known and folder.is_dir():
            return
        # Below the root also for a folder that is there: whoever made it may have died before its fsync, or be about to.
        if not folder.is_dir() or self._root in folder.parents:
            self._make_folder(folder.parent)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o755)
            _sync_folder(folder.parent)
        self._known.add(folder)

    def _sweep(self, incoming: Path) -> None:
        """Remove temporary files nobody can be writing any more: several agents may share the directory."""
        horizon = time.time() - _STALE_SECONDS
        for leftover in incoming.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if leftover.stat().st_mtime < horizon:
                    leftover.unlink()
        self._swept = True


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fchmod(fd, _OBJECT_MODE)
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _translated(operation: str, path: Path, error: OSError) -> TransientError:
    hint = None
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"Give the agent's user the right to create files below {path.parent}; it is tried again by itself."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "The store's disk is full; make room. It is tried again by itself."
    return TransientError(f"cannot {operation} {path}: {error.strerror or error}", hint=hint)
