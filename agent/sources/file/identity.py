"""Decide whether a file is the one a cursor speaks of.

A file is known by its content (architecture.md, "Tail: what makes a file the same file"): the SHA-256 of its head and of
the 256 bytes before the cursor, with a few older marks behind it at growing distances. Device and inode only rank
candidates, except where nothing was read yet: then a file is known by its first bytes as they were seen first, and where it
had none, device and inode alone decide.

Invariants: a file that shrank below the cursor or holds other bytes before it is never taken for the same; marks are at
most eight, whatever the size. Pure: bytes come from a function that the caller passes; no files, clock or network here.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from ...intake import Anchor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from ...intake import Cursor

    ReadAt: TypeAlias = Callable[[int, int], bytes]
    """Return up to so many bytes (second) from an offset (first); fewer only at the file's end."""

    Key: TypeAlias = tuple[int, int]
    """st_dev and st_ino."""

HEAD_BYTES: Final = 1024
WINDOW_BYTES: Final = 256
_TELLING_BYTES: Final = 16
"""So many first bytes must be known to recognise an unread file that has another inode now."""
_DISTANCES: Final = (64 * 1024, 1024 * 1024, 16 * 1024 * 1024)


class Sameness(Enum):
    """What a look at a candidate says."""

    SAME = "same"
    """Its content up to the cursor is what was read."""
    ROLLED_BACK = "rolled back"
    """It is the file, as it was before: only an older mark still fits."""
    OTHER = "other"
    """It is another file, or was truncated."""


class Judgement(NamedTuple):
    """The answer about one candidate.

    Attributes:
        sameness: What it is.
        offset: Where to read on, in bytes; 0 for another file.
    """

    sameness: Sameness
    offset: int


def digest(data: bytes) -> str:
    """Return the hex SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def judge(cursor: Cursor, key: Key, size: int, read: ReadAt) -> Judgement:
    """Compare a candidate with a cursor.

    Args:
        cursor: What is remembered.
        key: The candidate's device and inode.
        size: Its size in bytes.
        read: Reads it.
    """
    if cursor.offset == 0:
        return Judgement(Sameness.SAME if _begins_alike(cursor, key, size, read) else Sameness.OTHER, 0)
    if size < cursor.head_bytes or digest(read(0, cursor.head_bytes)) != cursor.head_sha256:
        return Judgement(Sameness.OTHER, 0)
    for anchor in cursor.anchors:
        same = anchor.offset == cursor.offset
        # Below the head's end the head alone has said that nothing changed, so an older mark there explains nothing.
        if (same or anchor.offset >= cursor.head_bytes) and anchor.offset <= size and _fits(anchor, read):
            return Judgement(Sameness.SAME if same else Sameness.ROLLED_BACK, anchor.offset)
    return Judgement(Sameness.OTHER, 0)


def _begins_alike(cursor: Cursor, key: Key, size: int, read: ReadAt) -> bool:
    """Compare a file of which nothing was read yet with what it began with when it was seen first."""
    own = key == (cursor.device, cursor.inode)
    if not cursor.head_bytes or (not own and cursor.head_bytes < _TELLING_BYTES):
        return own
    return size >= cursor.head_bytes and digest(read(0, cursor.head_bytes)) == cursor.head_sha256


def _fits(anchor: Anchor, read: ReadAt) -> bool:
    length = min(WINDOW_BYTES, anchor.offset)
    return digest(read(anchor.offset - length, length)) == anchor.sha256


def anchor_at(offset: int, window: bytes) -> Anchor:
    """Return the mark for a position, given the (at most 256) bytes before it."""
    return Anchor(offset=offset, sha256=digest(window))


def with_anchor(anchors: Sequence[Anchor], newest: Anchor) -> tuple[Anchor, ...]:
    """Put a mark before the older ones and thin those out.

    Of each range of distances (up to 64 KiB, 1 MiB, 16 MiB, and beyond) the nearest and the farthest mark stay, so that
    the next range always finds one coming; beyond 16 MiB only the nearest does.
    """
    kept = [newest]
    older = [anchor for anchor in anchors if anchor.offset < newest.offset]
    low = 0
    for high in _DISTANCES:
        span = [anchor for anchor in older if low < newest.offset - anchor.offset <= high]
        kept += span if len(span) <= 1 else [span[0], span[-1]]
        low = high
    kept += [anchor for anchor in older if newest.offset - anchor.offset > low][:1]
    return tuple(kept)
