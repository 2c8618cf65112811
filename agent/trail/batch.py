"""Batches: record bodies numbered, hashed and compressed as they arrive, and the way back to lines.

Invariants: the data object is one zstd frame (RFC 8878) with a content checksum that holds every record line with a
newline after it, and nothing else; what is hashed into the tree are the lines of that object. Reading is bounded: it
never holds more than one zstd block (128 KiB) besides the lines of it. This module must not know what is in a body.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Final

import zstandard

from ..errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .merkle import Frontier

ZSTD_LEVEL: Final = 3
MAX_WINDOW_BYTES: Final = 1 << 23
_BODY_START: Final = b',"kind":"'
_CHECKSUM_BYTES: Final = 4
_BLOCK_HEADER_BYTES: Final = 3
_RLE, _RESERVED = 1, 3


@dataclass(frozen=True, slots=True)
class Cut:
    """A finished batch, before its manifest.

    Attributes:
        data: The data object's bytes; None for a batch without records.
        raw_bytes: The size of the record lines with their newlines.
        count: The number of records.
        frontier: The tree after them.
    """

    data: bytes | None
    raw_bytes: int
    count: int
    frontier: Frontier

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the data object in hex; None for a batch without records."""
        return None if self.data is None else sha256(self.data).hexdigest()


class BatchBuilder:
    """Builds one batch block by block. Not safe for use by two threads at once.

    Attributes:
        count: The records added so far.
        raw_bytes: The bytes of their lines so far, newlines included.
        frontier: The tree after them.
    """

    __slots__ = ("_compressor", "_finished", "_parts", "count", "frontier", "raw_bytes")

    def __init__(self, frontier: Frontier) -> None:
        """Begin after the tree's present size; record *i* of the batch gets the seq ``frontier.size + i``."""
        self.frontier = frontier
        self.count = 0
        self.raw_bytes = 0
        self._parts: list[bytes] = []
        self._compressor = zstandard.ZstdCompressor(
            level=ZSTD_LEVEL, write_checksum=True, write_content_size=False, write_dict_id=False
        ).compressobj()
        self._finished = False

    def add(self, bodies_block: bytes) -> None:
        """Add the next records.

        Args:
            bodies_block: Record bodies, each with a newline after it.

        Raises:
            IntegrityError: The block is not made of record bodies, or the batch is finished.
        """
        self._refuse_if_finished()
        if not bodies_block:
            return
        bodies = bodies_block.split(b"\n")
        if bodies.pop() or not all([body.startswith(_BODY_START) for body in bodies]):  # noqa: C419 -- a list is twice as fast here
            raise IntegrityError("a block of the spool is not made of record bodies")
        lines = [b'{"seq":%d%b' % numbered for numbered in enumerate(bodies, self.frontier.size)]
        count = len(bodies)
        del bodies  # A block's worth of memory, which compressing needs now.
        self.frontier = self.frontier.extend([sha256(b"\x00" + line).digest() for line in lines])
        lines.append(b"")
        raw = b"\n".join(lines)
        self._parts.append(self._compressor.compress(raw))
        self.count += count
        self.raw_bytes += len(raw)

    def finish(self) -> Cut:
        """End the batch; the builder cannot be used again (IntegrityError)."""
        self._refuse_if_finished()
        self._finished = True
        data = b"".join((*self._parts, self._compressor.flush())) if self.count else None
        self._parts.clear()
        return Cut(data, self.raw_bytes, self.count, self.frontier)

    def _refuse_if_finished(self) -> None:
        if self._finished:
            raise IntegrityError("this batch is finished; begin the next one with its frontier")


def _zstd_blocks(data: bytes) -> Iterator[bytes]:
    """Split one zstd frame into its header, its blocks and its checksum (RFC 8878 §3.1.1).

    Walking the block headers is what bounds memory, as no block decompresses to more than 128 KiB, and what tells
    trailing bytes and second frames from the end of the data.
    """
    try:
        parameters = zstandard.get_frame_parameters(data)
        at = zstandard.frame_header_size(data)
    except zstandard.ZstdError as error:
        raise FormatError(f"the data object is not a zstd frame: {error}") from error
    if not parameters.has_checksum or parameters.dict_id:
        raise FormatError("the data object has no checksum, or needs a dictionary")
    yield data[:at]
    last = False
    while not last:
        header = int.from_bytes(data[at : at + _BLOCK_HEADER_BYTES], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        end = at + _BLOCK_HEADER_BYTES + (1 if kind == _RLE else size)
        if kind == _RESERVED or end > len(data):
            raise FormatError("the data object ends early, or holds a block of an unknown type")
        yield data[at:end]
        at = end
    if len(data) != at + _CHECKSUM_BYTES:
        raise FormatError("the data object is not exactly one zstd frame")
    yield data[at:]


def read_blocks(data: bytes, max_raw_bytes: int) -> Iterator[list[bytes]]:
    """Yield the record lines of a data object, without newlines, some hundreds at a time.

    Args:
        data: The object's exact bytes.
        max_raw_bytes: How many bytes it may decompress to; the manifest's ``raw_bytes``.

    Raises:
        FormatError: It is not exactly one intact zstd frame of lines, or is longer than allowed. Raised as soon as it is
            found, so lines may have been yielded before.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
    raw_bytes = 0
    begun: list[bytes] = []
    for part in _zstd_blocks(data):
        try:
            raw = decompressor.decompress(part)
        except zstandard.ZstdError as error:
            raise FormatError(f"the data object is damaged: {error}") from error
        raw_bytes += len(raw)
        if raw_bytes > max_raw_bytes:
            raise FormatError(f"the data object decompresses to more than {max_raw_bytes} bytes")
        if b"\n" not in raw:
            # Joined once and not at every block, which would take a time that grows with the square of the line's length.
            begun.append(raw)
            continue
        lines = b"".join((*begun, raw)).split(b"\n")
        begun = [lines.pop()]
        if b"" in lines:
            raise FormatError("the data object holds an empty line")
        yield lines
    if not decompressor.eof or any(begun):
        raise FormatError("the data object does not end with a whole line")


def read_data(data: bytes, max_raw_bytes: int) -> Iterator[bytes]:
    """Yield the record lines of a data object one by one; see :func:`read_blocks`."""
    return chain.from_iterable(read_blocks(data, max_raw_bytes))
