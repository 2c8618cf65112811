"""Hold one open file, plain or gzip-compressed, and read it by position.

Invariants: a handle is on a regular file, never on a FIFO or device (opening does not block); reads have no position that
two callers could disturb. Foreign errors leave as OSError. This module must not interpret what it reads.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .identity import Key

GZIP_SUFFIX: Final = ".gz"
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_STRIDE: Final = 1024 * 1024


class Handle(Protocol):
    """Read one file.

    Attributes:
        key: Device and inode.
        fd: The descriptor, for watches.
        fixed: The content cannot grow any more (compressed).
    """

    key: Key
    fd: int
    fixed: bool

    def size(self) -> int | None:
        """Return the content's size in bytes, None while a compressed file was not read to its end."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return up to so many bytes from an offset; fewer at the end, or where the system stops short of it.

        Raises:
            OSError: The read failed, or a compressed file is damaged or cut off.
        """
        ...

    def close(self) -> None:
        """Give the descriptor back; closing twice does nothing."""
        ...


class PlainHandle:
    """Read a file as it lies on the disk."""

    fixed = False

    def __init__(self, path: str) -> None:
        """Open a regular file, through symbolic links.

        Raises:
            OSError: It cannot be opened or is not a regular file.
        """
        self.fd = os.open(path, _FLAGS)
        status = os.fstat(self.fd)
        self.key: Key = (status.st_dev, status.st_ino)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(f"{path} is not a regular file")

    def size(self) -> int:
        """Return the size in bytes."""
        return os.fstat(self.fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return up to so many bytes from an offset.

        A read that stops short is not continued: the file may be truncated and written anew between the two halves.
        """
        return os.pread(self.fd, length, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class GzipHandle:
    """Read the content of a gzip file (RFC 1952) by position.

    Reading forward is cheap; one stretch behind the newest position stays in memory so that a line's beginning can be
    read again. Going farther back decompresses from the start.
    """

    fixed = True

    def __init__(self, path: str) -> None:
        """Open a regular file, through symbolic links.

        Raises:
            OSError: It cannot be opened or is not a regular file.
        """
        self._plain = PlainHandle(path)
        self.key = self._plain.key
        self.fd = self._plain.fd
        self._size: int | None = None
        self._rewind()

    def _rewind(self) -> None:
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._stream = gzip.GzipFile(fileobj=os.fdopen(self.fd, "rb", closefd=False))
        self._kept = b""
        self._kept_at = 0

    def size(self) -> int | None:
        """Return the content's size, None until it was read to the end."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return up to so many bytes of the content from an offset."""
        if offset < self._kept_at:
            self._rewind()
        end = offset + length
        while self._kept_at + len(self._kept) < end:
            try:
                more = self._stream.read(_STRIDE)
            except (EOFError, zlib.error) as error:
                raise OSError(f"the compressed file is damaged or not complete yet: {error}") from error
            if not more:
                self._size = self._kept_at + len(self._kept)
                break
            drop = max(0, min(offset - self._kept_at, len(self._kept)))
            self._kept = self._kept[drop:] + more
            self._kept_at += drop
        start = offset - self._kept_at
        return self._kept[max(start, 0) : max(start, 0) + length] if start <= len(self._kept) else b""

    def close(self) -> None:
        """Give the descriptor back."""
        self._plain.close()
        self.fd = -1


def open_handle(path: str) -> Handle:
    """Open a file for reading by position, looking through gzip compression by the name's ending.

    Raises:
        OSError: It cannot be opened or is not a regular file.
    """
    return GzipHandle(path) if path.endswith(GZIP_SUFFIX) else PlainHandle(path)
