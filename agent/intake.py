"""What a source hands to the spool, and what it gets back: the one frozen value of the writing side.

Invariants:
    - An `Append` is all or nothing: its record bodies, the progress it accounts for and the cursors after it
      become durable in one transaction, or none of them does.
    - Appends of one intake become durable in the order in which `submit` returned.
    - A source's cursor never runs ahead of what is durable: a crash makes it read again what was not committed.

This module holds types only; it must not open files, look at the clock or know who implements `Intake`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from .trail.manifest import SourceProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence


class Anchor(msgspec.Struct, frozen=True, array_like=True):
    """Say which bytes a file had just before a position.

    Attributes:
        offset: The position, in bytes from the start.
        sha256: Hex SHA-256 of the (at most) 256 bytes before it.
    """

    offset: int
    sha256: str


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the position up to which one file or stream of a source is durable, and how to recognise it.

    Attributes:
        source: The source's id from the configuration.
        file_id: ULID given when the file or stream was first seen; the name of this one byte sequence.
        path: Where it was last seen (a path, or the stream's name).
        device: st_dev, 0 for streams.
        inode: st_ino, 0 for streams.
        offset: Bytes that are accounted for, counted from the start.
        size_seen: The largest size ever seen, in bytes; what is known to be lost if it vanishes.
        head_bytes: How many bytes `head_sha256` covers: min(1024, offset).
        head_sha256: Hex SHA-256 of the first `head_bytes` bytes.
        anchors: Newest first; the first one is at `offset` (absent while offset is 0).
        finished: Read to its end and never looked for again; the row is dropped some time later.
        rotated: The file was seen to have lost its name to another one, so what lies in its inode at that name is not it.
        copied: The file is a copy that was made of another before that was truncated; at its end that race's gap is stated.
        token: The position in the words of whoever keeps the data, where a number is not enough (a journal's own cursor).
    """

    source: str
    file_id: str
    path: str
    device: int = 0
    inode: int = 0
    offset: int = 0
    size_seen: int = 0
    head_bytes: int = 0
    head_sha256: str = ""
    anchors: tuple[Anchor, ...] = ()
    finished: bool = False
    rotated: bool = False
    copied: bool = False
    token: str = ""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Carry what one step of a source adds.

    Attributes:
        bodies: Record bodies (see agent/trail/records.py), each followed by a newline; empty if nothing was audit.
        records: How many bodies there are (events + quarantined + gaps).
        events: Valid events among them.
        quarantined: Quarantine records among them.
        gaps: Gap records among them.
        bytes_lost: Bytes the gap records state as lost with certainty `known`.
        progress: What moved, per file or stream: the offsets join up with the previous append of that file_id.
        cursors: The cursors after this append, one per file or stream that moved or was finished. With records there is a step
            of progress or a cursor, which says whose they are.
        observed_at: RFC 3339 UTC time at which the bytes were read.
        occurred_min: The earliest `occurred_at` among the events, RFC 3339 UTC with microseconds; None without events.
        occurred_max: The latest one.
        small: It has next to no bytes and is rare (a stream's beginning, its end, a loss), so it need not wait for the spool's bound.
        reasons: Quarantine reasons and how often each occurred (for metrics only).
        outcomes: Events by (category, outcome) (for metrics only).
    """

    bodies: bytes = b""
    records: int = 0
    events: int = 0
    quarantined: int = 0
    gaps: int = 0
    bytes_lost: int = 0
    progress: tuple[SourceProgress, ...] = ()
    cursors: tuple[Cursor, ...] = ()
    observed_at: str
    occurred_min: str | None = None
    occurred_max: str | None = None
    small: bool = False
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    outcomes: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)


class Sealed(msgspec.Struct, frozen=True):
    """Be a batch whose cut has just become durable, for those who wait for it.

    Attributes:
        seal: The seal object's bytes.
        data: The data object's bytes; None without records.
        frontier_before: The tree's encoded frontier before the batch (agent.trail.merkle.Frontier.encode).
    """

    seal: bytes
    data: bytes | None
    frontier_before: bytes


SealListeners: TypeAlias = set[Callable[[Sealed], None]]
"""Who is told of each durable cut, on the event loop; a listener returns at once. Empty while nobody waits, and then free."""


class Intake(Protocol):
    """Accept appends and make them durable, in order.

    Guarantees:
        Ordering: appends become durable in the order of their `submit` calls.
        Durability: `submit` returning means *accepted*, not durable; awaiting what it returned means durable
            (the fsync succeeded). Once accepted, an append is either made durable or the process ends.
        Back-pressure: `submit` waits while the queue or the spool is full (`when_full: block`).
        Grouping: appends without records may wait up to a second for company; `flush` does not return before
            everything accepted so far is durable.
        Cancellation: a `submit` cancelled while it waits has not accepted the append.

    Attributes:
        listeners: Who is told of each durable cut; whoever waits for one puts itself in, and takes itself out again.
    """

    listeners: SealListeners

    def cursors(self, source: str) -> Sequence[Cursor]:
        """Return the unfinished cursors of one source as they were when the spool was opened, or last asked to look again."""
        ...

    def finished(self, source: str) -> Sequence[Cursor]:
        """Return the finished cursors of one source that are still remembered, as of the same moment as `cursors`.

        They tell a file that was read to its end from one that was never seen. The oldest are forgotten when there are many, so
        that one is not among them proves nothing.
        """
        ...

    async def submit(self, append: Append) -> Awaitable[None]:
        """Accept one append; the awaitable it returns resolves once it is durable.

        Raises:
            DurabilityError: The disk refused; the process is ending.
        """
        ...

    def has_room(self, size_bytes: int = 0) -> bool:
        """Say whether a submit with so many bytes of bodies would be accepted at once (`when_full: gap` asks first)."""
        ...

    async def flush(self) -> None:
        """Wait until everything accepted so far is durable."""
        ...
