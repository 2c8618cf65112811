"""What parent and worker say to each other over one socket per stream. Private: both ends are always the same version.

Parent to worker: one header, a JSON object on one line ended by a newline (keys: see `Header`), then frames. A frame
is one letter, the payload's length in four bytes, big-endian, and the payload:

    D   payload: the stream's next bytes, 1 to 65,536 of them
    G   payload: two 8-byte big-endian stream offsets, `from` and `to`: these bytes were read and thrown away
    E   no payload: the stream's orderly end; nothing follows
    C   no payload: as E, but the parent closed a pipe that somebody still held open

Worker to parent: 8-byte big-endian numbers. A number N says that all bytes before stream offset N are durable, or
stated as lost, or passed on; the first one says that the worker is at work. `CONFIRMED` says that the end itself is
durable and nothing about this stream is left to do.

A socket that ends without E or C means that the parent died: bytes it held are lost.

Beside the socket there is a pipe from parent to worker for the one order that must not queue behind data: the byte `HURRY`
says that there is no time left to wait for room in the spool; what finds none is to be stated as lost.

Invariants: offsets count every byte of the stream from its first one, thrown away or not, so they survive the worker.
The module does no input or output and imports nothing of the package.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT_KEY: Final = "TRAILSEAL_RELAY"
CONFIRMED: Final = 2**64 - 1
HURRY: Final = b"!"
MAX_DATA_BYTES: Final = 65_536

_DATA: Final = ord("D")
_GAP: Final = ord("G")
_END: Final = ord("E")
_CUT: Final = ord("C")
_PREFIX: Final = struct.Struct("!BI")
_RANGE: Final = struct.Struct("!QQ")
_NUMBER: Final = struct.Struct("!Q")


class Header(NamedTuple):
    """Name the stream and say where the bytes that follow begin.

    Attributes:
        stream: The stream's ULID, given by the parent when it started; the cursor's file_id.
        source: The source's id from the configuration.
        channel: ``stdin``, ``stdout`` or ``stderr``.
        base: Stream offset of the first byte that follows.
        end: Stream offset of the end, where the parent has seen it already.
        buffer_bytes: How many unacknowledged bytes the parent holds before it stops reading.
        confirmed: An earlier worker has confirmed the end; no frame follows.
        respawns: How often the parent has started a worker anew.
    """

    stream: str
    source: str
    channel: str
    base: int
    end: int | None
    buffer_bytes: int
    confirmed: bool
    respawns: int


class Data(NamedTuple):
    """Carry the stream's next bytes; a frame that arrived in parts is handed on in parts."""

    payload: bytes


class Gap(NamedTuple):
    """State that the bytes from `start` up to `end` (stream offsets) were thrown away."""

    start: int
    end: int


class End(NamedTuple):
    """State the stream's end; `cut` when the parent closed the pipe while somebody still held it open."""

    cut: bool = False


Frame = Data | Gap | End


def encode_header(header: Header) -> bytes:
    """Return the header's line, with its newline."""
    return json.dumps(header._asdict(), separators=(",", ":")).encode() + b"\n"


def encode_data(payload: bytes | memoryview) -> bytes:
    """Return a D frame around 1 to `MAX_DATA_BYTES` bytes."""
    return _PREFIX.pack(_DATA, len(payload)) + payload


def encode_gap(start: int, end: int) -> bytes:
    """Return a G frame for the stream offsets from `start` up to `end`."""
    return _PREFIX.pack(_GAP, _RANGE.size) + _RANGE.pack(start, end)


def encode_end(*, cut: bool = False) -> bytes:
    """Return the E frame, or with `cut` the C frame."""
    return _PREFIX.pack(_CUT if cut else _END, 0)


def encode_number(number: int) -> bytes:
    """Return an acknowledgement's 8 bytes."""
    return _NUMBER.pack(number)


class NumberReader:
    """Read acknowledgements out of pieces of any size."""

    def __init__(self) -> None:
        """Begin between two numbers."""
        self._rest = b""

    def feed(self, piece: bytes) -> list[int]:
        """Return the numbers that `piece` completes, in order."""
        raw = self._rest + piece
        whole = len(raw) - len(raw) % _NUMBER.size
        self._rest = raw[whole:]
        return [number for (number,) in _NUMBER.iter_unpack(raw[:whole])]


class FrameReader:
    """Read the header and the frames out of pieces of any size."""

    def __init__(self) -> None:
        """Begin before the header."""
        self.header: Header | None = None
        self._rest = b""
        self._data_left = 0

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Yield what `piece` completes; `header` is set before the first frame is.

        Args:
            piece: The next bytes from the socket.

        Raises:
            ValueError: The bytes are not of this protocol.
        """
        raw = self._rest + piece if self._rest else piece
        position = 0
        if self.header is None:
            newline = raw.find(b"\n")
            if newline < 0:
                self._rest = raw
                return
            self.header = Header(**json.loads(raw[:newline]))
            position = newline + 1
        while position < len(raw):
            if self._data_left:
                payload = raw[position : position + self._data_left]
                position += len(payload)
                self._data_left -= len(payload)
                yield Data(payload)
                continue
            if len(raw) - position < _PREFIX.size:
                break
            letter, length = _PREFIX.unpack_from(raw, position)
            if letter == _DATA:
                self._data_left = length
            elif letter == _GAP and length == _RANGE.size:
                if len(raw) - position < _PREFIX.size + length:
                    break
                yield Gap(*_RANGE.unpack_from(raw, position + _PREFIX.size))
                position += length
            elif letter in {_END, _CUT} and length == 0:
                yield End(letter == _CUT)
            else:
                raise ValueError(f"relay protocol: unknown frame {letter} of {length} bytes")
            position += _PREFIX.size
        self._rest = raw[position:]
