"""Room on the disk that nobody uses, kept for the moment when there is none left.

SQLite needs room even for the transaction that frees some. The ballast is a file with reserved blocks; when the disk is
full it is removed, and sealing and shipping, which make the spool smaller, go on. Appends wait until it is back in place.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from .connection import CHECKPOINT_BYTES

if TYPE_CHECKING:
    from pathlib import Path

BALLAST_FILE: Final = "ballast"
BALLAST_BYTES: Final = CHECKPOINT_BYTES + (8 << 20)
"""More than a checkpoint can make the database grow by: a full write-ahead log, and the largest transaction after it."""


class Ballast:
    """Hold the ballast of one state directory; used on the spool's thread.

    Attributes:
        in_place: Whether its room is held now.
    """

    def __init__(self, state: Path) -> None:
        """Name the state directory; nothing is written yet."""
        self._path = state / BALLAST_FILE
        self.in_place = False

    def place(self) -> bool:
        """Take the ballast's room; say whether it could be had, or never can (a file system without reservations)."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, BALLAST_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        self.in_place = True
        return True

    def drop(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)
        self.in_place = False
