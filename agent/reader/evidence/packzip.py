"""Read a pack that somebody else made: a zip file that may be anything.

Invariants: nothing is unpacked to a disk; no entry is read beyond a limit; what cannot be read is a `FormatError`, whatever a zip
library says to it. This module must not judge what is in an entry.
"""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Final, Self

from ...errors import ConfigError, FormatError
from . import packing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_ENTRIES: Final = packing.MAX_EVENTS + 20_000
MAX_ENTRY_BYTES: Final = 8 << 30
_CHUNK_BYTES: Final = 1 << 20
_FAILURES: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, OverflowError)


class PackFile:
    """Be an open pack; a context manager.

    Attributes:
        sizes: The size of every entry, by name, as the zip states it.
        twice: The names that several entries have.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ConfigError: It cannot be read, is no zip file, or has too many entries.
        """
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), hint="Check the path.") from error
        except (zipfile.BadZipFile, *_FAILURES) as error:
            raise ConfigError(
                f"not a zip file: {error}", file=str(path), hint="Was it transferred whole? A pack is one .zip file."
            ) from error
        infos = self._archive.infolist()
        if len(infos) > MAX_ENTRIES:
            self._archive.close()
            raise ConfigError(f"it has {len(infos):,} entries, more than any pack", file=str(path), hint="Is this a pack?")
        self.sizes: dict[str, int] = {}
        self.twice: list[str] = []
        for info in infos:
            if info.filename in self.sizes:
                self.twice.append(info.filename)
            self.sizes[info.filename] = info.file_size

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._archive.close()

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Return an entry's bytes.

        Raises:
            FormatError: There is no such entry, it cannot be read, or it is larger than the limit.
        """
        with self.open(name) as file:
            raw = _guarded(name, file, limit_bytes + 1)
        if len(raw) > limit_bytes:
            raise FormatError(f"{name} has more than {limit_bytes} bytes")
        return raw

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Yield an entry to read from; what reading it raises becomes a `FormatError`."""
        if name not in self.sizes:
            raise FormatError(f"{name} is missing")
        try:
            file = self._archive.open(name)
        except _FAILURES as error:
            raise FormatError(f"{name} cannot be read: {error}") from error
        with file:
            yield file

    def hash(self, name: str) -> str:
        """Return the SHA-256 of an entry in hex (FormatError if it cannot be read)."""
        hashed, size = sha256(), 0
        with self.open(name) as file:
            while piece := _guarded(name, file, _CHUNK_BYTES):
                size += len(piece)
                if size > MAX_ENTRY_BYTES:
                    raise FormatError(f"{name} has more than {MAX_ENTRY_BYTES} bytes")
                hashed.update(piece)
        return hashed.hexdigest()

    def lines(self, name: str, limit_bytes: int) -> Iterator[bytes]:
        """Yield an entry's lines without their newlines.

        Raises:
            FormatError: It cannot be read, a line is longer than the limit, or the last one has no newline.
        """
        with self.open(name) as file:
            while True:
                try:
                    line = file.readline(limit_bytes + 2)
                except _FAILURES as error:
                    raise FormatError(f"{name} cannot be read: {error}") from error
                if not line:
                    return
                if not line.endswith(b"\n"):
                    raise FormatError(f"{name} does not end with a whole line, or has one of more than {limit_bytes} bytes")
                yield line[:-1]


def _guarded(name: str, file: IO[bytes], size: int) -> bytes:
    try:
        return file.read(size)
    except _FAILURES as error:
        raise FormatError(f"{name} cannot be read: {error}") from error
