"""Read a pack that somebody else made: a zip file that may be anything.

Invariants: nothing is unpacked to a disk; no entry is read beyond a limit, and never beyond the size that the zip states of it; all
entries together state no more than a pack may have, and the list of them has a bound before it is read, so that neither many small
entries nor few large ones take more time or memory than the largest honest pack. Only what a pack is written with is decompressed.
What cannot be read is a `FormatError`, whatever a zip library says to it. This module must not judge what is in an entry.
"""

from __future__ import annotations

import io
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
_MAX_DIRECTORY_BYTES: Final = 48 << 20
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK_BYTES: Final = 1 << 20
_FAILURES: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, OverflowError)


class _Bounded(io.BufferedReader):
    """A file of which only so much is read at once: the list of entries is, however long the zip says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return bytes, as many as asked for.

        Raises:
            BadZipFile: It is too much.
        """
        if size is None or size < 0:
            size = _MAX_DIRECTORY_BYTES
        if size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"a list of entries that has {size:,} bytes is none of a pack")
        return super().read(size)


class PackFile:
    """Be an open pack; a context manager.

    Attributes:
        sizes: The size of every entry, by name, as the zip states it.
        twice: The names that several entries have.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ConfigError: It cannot be read, is no zip file, has too many entries, or too much in them.
        """
        try:
            self._file = _Bounded(io.FileIO(path))
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), hint="Check the path.") from error
        try:
            self._archive = zipfile.ZipFile(self._file)
            self._refuse_what_no_pack_has(path)
        except _FAILURES as error:
            self._file.close()
            raise ConfigError(
                f"not a zip file: {error}", file=str(path), hint="Was it transferred whole? A pack is one .zip file."
            ) from error
        except ConfigError:
            self._file.close()
            raise
        self.sizes: dict[str, int] = {}
        self.twice: list[str] = []
        for info in self._archive.infolist():
            if info.filename in self.sizes:
                self.twice.append(info.filename)
            self.sizes[info.filename] = info.file_size

    def _refuse_what_no_pack_has(self, path: Path) -> None:
        infos = self._archive.infolist()
        if len(infos) > MAX_ENTRIES:
            raise ConfigError(f"it has {len(infos):,} entries, more than any pack", file=str(path), hint="Is this a pack?")
        stated = sum(info.file_size for info in infos)
        if stated > packing.MAX_PACK_BYTES:
            raise ConfigError(f"unpacked it has {stated:,} bytes, more than any pack", file=str(path), hint="Is this a pack?")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._archive.close()
        self._file.close()

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Return an entry's bytes.

        Raises:
            FormatError: There is no such entry, it cannot be read, or it is larger than the limit.
        """
        raw = bytearray()
        with self.open(name) as file:
            while piece := _guarded(name, file, _CHUNK_BYTES):
                raw += piece
                if len(raw) > limit_bytes:
                    raise FormatError(f"{name} has more than {limit_bytes} bytes")
        return bytes(raw)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Yield an entry to read from; what reading it raises becomes a `FormatError`."""
        if name not in self.sizes:
            raise FormatError(f"{name} is missing")
        if (method := self._archive.getinfo(name).compress_type) not in _METHODS:
            raise FormatError(f"{name} is compressed by method {method}, which no pack uses")
        try:
            file = self._archive.open(name)
        except _FAILURES as error:
            raise FormatError(f"{name} cannot be read: {error}") from error
        with file:
            yield file

    def hash(self, name: str) -> str:
        """Return the SHA-256 of an entry in hex (FormatError if it cannot be read)."""
        hashed = sha256()
        for piece in self.pieces(name):
            hashed.update(piece)
        return hashed.hexdigest()

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield an entry's bytes, some at a time, never none (FormatError if it cannot be read)."""
        with self.open(name) as file:
            while piece := _guarded(name, file, _CHUNK_BYTES):
                yield piece

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
