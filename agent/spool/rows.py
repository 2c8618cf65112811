"""The values the spool keeps, and how neighbouring ones are merged; no SQL here.

Invariants: all of them are frozen; progress of one file or stream joins up, or is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import IntegrityError
from ..trail.manifest import SourceProgress, Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..intake import Append


class BlockMeta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describe one block of bodies: what it counts and which stretch of which sources it accounts for."""

    observed_min: str
    observed_max: str
    records: int = 0
    events: int = 0
    quarantined: int = 0
    gaps: int = 0
    bytes_lost: int = 0
    occurred_min: str | None = None
    occurred_max: str | None = None
    progress: tuple[SourceProgress, ...] = ()


class Block(msgspec.Struct, frozen=True):
    """Be one row of `blocks`: bodies (each ended by a newline), their description, and what they cost the bound."""

    id: int
    meta: BlockMeta
    bodies: bytes
    held_bytes: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Be the newest sealed state of the trail, and what the next seal needs.

    Attributes:
        origin: The trail's name, epoch included.
        signing_key: The epoch's private key (C2SP-style private form); never leaves the state directory.
        batch: Number of the newest batch.
        size: Leaves in the tree after it.
        frontier: The tree's encoded frontier (agent.trail.merkle.Frontier.encode).
        root: Root hash at `size`.
        seal_sha256: Hex SHA-256 of the newest seal's bytes, the next manifest's `previous`.
        reason: The newest manifest's reason; anything but `stop` or `close` means an unclean end.
        sealed_at: RFC 3339 UTC time of the newest seal.
        totals: Cumulative totals up to and including the newest batch.
    """

    origin: str
    signing_key: str
    batch: int
    size: int
    frontier: bytes
    root: bytes
    seal_sha256: str
    reason: str
    sealed_at: str
    totals: Totals


class BatchMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a sealed batch without its bytes: what stands in its row's `meta`."""

    origin: str
    number: int
    reason: str
    sealed_at: str
    size: int
    root: bytes
    records: int
    raw_bytes: int
    bytes_lost: int
    observed_min: str | None
    seal_key: str
    data_key: str | None


class BatchRow(BatchMeta, frozen=True, kw_only=True):
    """Be what stands in a batch's row beside its bytes: the description, and the sum of those bytes (stamps.sum_of)."""

    payload: bytes = b""


class NewBatch(BatchMeta, frozen=True, kw_only=True):
    """Be a batch at the moment of its cut: the bytes to store under the keys that were computed once."""

    seal: bytes
    data: bytes | None


class QueuedBatch(msgspec.Struct, frozen=True):
    """Be a sealed batch that waits for receipts; `id` orders batches across epochs."""

    id: int
    batch: NewBatch


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """Be the newest batch a store has confirmed: the kept receipt."""

    origin: str
    number: int
    size: int
    root: bytes
    sealed_at: str
    at: str


class StateLoss(msgspec.Struct, frozen=True, kw_only=True):
    """Be what a salvaged spool says of the one before it, until a new epoch has begun that says so in the trail.

    Attributes:
        why: What was wrong, one sentence.
        at: When it was found, RFC 3339 UTC.
        kept_in: The folder in the state directory that holds what was set aside.
        saved: What was salvaged and what was not, one sentence.
        origin: The trail of the old head; None if not even its name is known.
        size: The newest size of that trail that a store has or will get.
        root: The root there.
    """

    why: str
    at: str
    kept_in: str
    saved: str
    origin: str | None = None
    size: int = 0
    root: bytes = b""


def block_of(appends: Sequence[Append]) -> tuple[BlockMeta, bytes]:
    """Merge appends, in order, into one block; progress of one file or stream that joins up becomes one entry.

    Args:
        appends: At least one append.

    Returns:
        The block's description and its bodies.
    """
    merged: dict[tuple[str, str | None], SourceProgress] = {}
    for append in appends:
        for step in append.progress:
            key = (step.id, step.file_id)
            before = merged.get(key)
            merged[key] = step if before is None else join_progress(before, step)
    occurred_min = [a.occurred_min for a in appends if a.occurred_min is not None]
    occurred_max = [a.occurred_max for a in appends if a.occurred_max is not None]
    # The window a manifest states is that of its records; appends that only move a cursor have no part in it.
    observed = [a.observed_at for a in appends if a.records] or [a.observed_at for a in appends]
    meta = BlockMeta(
        observed_min=min(observed),
        observed_max=max(observed),
        records=sum(a.records for a in appends),
        events=sum(a.events for a in appends),
        quarantined=sum(a.quarantined for a in appends),
        gaps=sum(a.gaps for a in appends),
        bytes_lost=sum(a.bytes_lost for a in appends),
        occurred_min=min(occurred_min, default=None),
        occurred_max=max(occurred_max, default=None),
        progress=tuple(merged.values()),
    )
    return meta, appends[0].bodies if len(appends) == 1 else b"".join(a.bodies for a in appends)


def join_progress(first: SourceProgress, second: SourceProgress) -> SourceProgress:
    """Add two neighbouring stretches of one file or stream.

    Raises:
        IntegrityError: The second does not begin where the first ended; a source broke its promise.
    """
    if first.to_offset != second.from_offset:
        message = (
            f"progress of {first.path} ({first.file_id}) does not join up: "
            f"it ended at byte {first.to_offset} and goes on at {second.from_offset}"
        )
        raise IntegrityError(message)
    return SourceProgress(
        id=first.id,
        kind=first.kind,
        path=second.path,
        file_id=first.file_id,
        from_offset=first.from_offset,
        to_offset=second.to_offset,
        lines=first.lines + second.lines,
        audit=first.audit + second.audit,
        observability=first.observability + second.observability,
        quarantined=first.quarantined + second.quarantined,
    )
