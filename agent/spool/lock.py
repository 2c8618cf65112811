"""Make sure that one state directory serves one agent.

The lock is an flock(2) on a file of its own, never on the database: closing any descriptor of the database in this
process would drop SQLite's own POSIX locks (sqlite.org/howtocorrupt.html §2.2). The kernel releases an flock when the
process ends, however it ends, so a stale lock cannot exist.

Invariant: when the lock's file is there, the name of the state directory, and of every folder above it on its file system, is
durable. A power cut would otherwise take the directory away with everything in it that was made durable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Self

from ..errors import StateInUseError
from .connection import refusal, sync_folder

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

LOCK_FILE = "lock"


class StateLock:
    """Hold the exclusive right to one state directory, from `acquire` until `release` or the process's end."""

    def __init__(self, state: Path) -> None:
        """Name the state directory; nothing is opened yet."""
        self._path = state / LOCK_FILE
        self._fd = -1

    def acquire(self) -> None:
        """Create the directory (mode 0700) if need be, durably, and take the lock without waiting.

        Raises:
            StateError: Another agent holds the lock, or the directory cannot be used.
            DurabilityError: The disk does not answer.
        """
        try:
            fd = self._open()
        except OSError as error:
            raise refusal(self._path.parent, error, "use the state directory") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            message = f"the state directory {self._path.parent} is in use by another agent (process {holder})"
            raise StateInUseError(message) from error
        self._fd = fd
        with contextlib.suppress(OSError):  # The holder's number is for the message above; a full disk must not prevent the start.
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # Whoever died before the names were durable has left no lock file, so they are made durable now.
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_names(self._path.parent.resolve())
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def release(self) -> None:
        """Give the lock back; doing it twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Acquire on entering."""
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release on leaving."""
        self.release()


def _sync_names(folder: Path) -> None:
    """Make the name of a folder durable, and those of the folders above it, up to where its file system is mounted."""
    device = folder.stat().st_dev
    for parent in folder.parents:
        if parent.stat().st_dev != device:
            return
        with contextlib.suppress(PermissionError):  # A folder that may not be listed is no folder we made.
            sync_folder(parent)
