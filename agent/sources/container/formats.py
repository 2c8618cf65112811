r"""Read the envelopes that container runtimes put around a service's lines.

Two formats, told apart line by line:

- CRI, written by containerd and CRI-O (Kubernetes, "CRI log format"): ``<RFC 3339 time> <stdout|stderr> <tags> <content>``,
  where the first of the tags, split at colons, is ``F`` for a full line or the end of one, ``P`` for a piece of one.
- json-file, written by Docker: ``{"log":"…\n","stream":"stdout","time":"…"}``; a log without a newline is a piece.

Invariants: no bytes raise an exception; what is no envelope is said to be none, never mended. CRI content is the service's own
bytes; a json-file's is the UTF-8 of its text, Docker having replaced what was not UTF-8. Pure, and the cost for the common case
(only full lines) is a few searches for a block, with one line at a time for the rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Stream = Literal["stdout", "stderr"]
STREAMS: Final[tuple[Stream, Stream]] = ("stdout", "stderr")

_TIME: Final = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}(?:Z|[+-][0-9:]{5}) "
_FULL: Final = re.compile(rb"\n" + _TIME + rb"std(?:out|err) F(?::[^ \n]*)? ")
_NOT_FULL: Final = re.compile(rb"\n(?!" + _FULL.pattern.removeprefix(rb"\n") + rb")(?!\Z)")
_CRI: Final = re.compile(_TIME + rb"(stdout|stderr) ([FP])(?::[^ \n]*)? ")


class Unwrapped(NamedTuple):
    """Be one line without its envelope.

    Attributes:
        stream: What the service wrote it to.
        partial: It is a piece that goes on in a later line of the same stream.
        content: The service's bytes, without a newline.
    """

    stream: Stream
    partial: bool
    content: bytes


class Bulk(NamedTuple):
    """Be many full lines without their envelopes.

    Attributes:
        data: The services' lines, each with its newline, one for every raw line.
        stream_of: Returns the stream of a line, given its number and where its raw line begins in the raw bytes.
    """

    data: bytes
    stream_of: Callable[[int, int], Stream]


class _JsonLine(msgspec.Struct, frozen=True, gc=False):
    """A line of Docker's json-file driver; further members (``attrs``) do not matter."""

    log: str
    stream: Stream
    time: str


_json_decoder: Final = msgspec.json.Decoder(_JsonLine)


def unwrap_line(raw: bytes) -> Unwrapped | None:
    """Take one raw line, given without its newline, out of its envelope; None if it has none."""
    if raw.startswith(b"{"):
        return _unwrap_json(raw)
    found = _CRI.match(raw)
    if found is None:
        return None
    return Unwrapped("stdout" if found[1] == b"stdout" else "stderr", found[2] == b"P", raw[found.end() :])


def _unwrap_json(raw: bytes) -> Unwrapped | None:
    try:
        line = _json_decoder.decode(raw)
        content = line.log.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    full = content.endswith(b"\n")
    content = content[:-1] if full else content
    # The driver splits at newlines; whoever wrote one inside is somebody else.
    return None if b"\n" in content else Unwrapped(line.stream, not full, content)


def bare(raw: bytes) -> bytes:
    """Return about what stands in the beginning of a raw line that is too long for any envelope, for a rule to bear.

    Escapes other than that of the quote stay as they are.
    """
    found = _CRI.match(raw)
    return raw[found.end() :] if found is not None else raw.removeprefix(b'{"log":"').replace(b'\\"', b'"')


def unwrap_full(raw: bytes) -> Bulk | None:
    """Take whole lines out of their envelopes if every single one is a full line of one format; None otherwise.

    Args:
        raw: One or more lines, each with its newline.
    """
    return _unwrap_full_json(raw) if raw.startswith(b"{") else _unwrap_full_cri(raw)


def _unwrap_full_cri(raw: bytes) -> Bulk | None:
    data, count = _FULL.subn(b"\n", b"\n" + raw)
    if count != raw.count(b"\n"):
        return None

    def stream_of(_number: int, start: int) -> Stream:
        found = _CRI.match(raw, start)
        return "stderr" if found is not None and found[1] == b"stderr" else "stdout"

    return Bulk(data[1:], stream_of)


def _unwrap_full_json(raw: bytes) -> Bulk | None:
    try:
        lines = _json_decoder.decode_lines(raw)
        logs = [line.log for line in lines]
        data = "".join(logs).encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not len(lines) == raw.count(b"\n") == data.count(b"\n") or not all(log.endswith("\n") for log in logs):
        return None
    # The lines themselves are not kept: they are as large as the block.
    streams = [line.stream for line in lines]
    return Bulk(data, lambda number, _start: streams[number])


def full_until(raw: bytes, start: int) -> int:
    """Return where the first line at or behind a line's start lies that is no full CRI line; the length if there is none.

    A line of json-file counts as one that is none.
    """
    if not start and not _FULL.match(b"\n" + raw[:256]):
        return 0
    found = _NOT_FULL.search(raw, max(0, start - 1))
    return len(raw) if found is None else found.start() + 1
