"""The batch that is being built, and the sealed one that becomes of it.

Invariants: a pending batch holds whole blocks in the spool's order; what it counts is exactly what its blocks say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .spool.rows import BlockMeta, Head, NewBatch, join_progress
from .trail.batch import BatchBuilder
from .trail.layout import seal_key
from .trail.manifest import RecordCounts, Totals, Window
from .trail.records import STATE_SOURCE, Certainty, GapCause, gap_body
from .trail.seal import build_seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spool import Block, StateLoss
    from .trail.layout import Origin
    from .trail.manifest import Manifest, SourceProgress
    from .trail.merkle import Frontier
    from .trail.note import SigningKey


class Pending:
    """Gather what the batch being built holds and accounts for."""

    def __init__(self, frontier: Frontier) -> None:
        """Begin behind the tree's present leaves."""
        self.builder = BatchBuilder(frontier)
        self.metas: list[BlockMeta] = []
        self.progress: dict[tuple[str, str | None], SourceProgress] = {}
        self.through: int | None = None
        self.held_bytes = 0
        self.first_record_at: float | None = None

    def joins(self, block: Block) -> bool:
        """Say whether a block goes on where this batch's sources are; records put back after a fork may not."""
        steps = ((self.progress.get((step.id, step.file_id)), step) for step in block.meta.progress)
        return all(before is None or before.to_offset == step.from_offset for before, step in steps)

    def note(self, block: Block, now: float) -> None:
        """Count a block whose bodies were added to the builder."""
        self.through = block.id
        self.held_bytes += block.held_bytes
        self.metas.append(msgspec.structs.replace(block.meta, progress=()))
        for step in block.meta.progress:
            key = (step.id, step.file_id)
            before = self.progress.get(key)
            self.progress[key] = step if before is None else join_progress(before, step)
        if block.meta.records and self.first_record_at is None:
            self.first_record_at = now

    def total(self, field: str) -> int:
        """Sum one count over the blocks."""
        return sum(getattr(meta, field) for meta in self.metas)

    def counts(self, first_seq: int) -> RecordCounts:
        """Return the records by kind, the first of which has this seq."""
        return RecordCounts(
            first_seq=first_seq,
            count=self.builder.count,
            events=self.total("events"),
            quarantined=self.total("quarantined"),
            gaps=self.total("gaps"),
        )

    def totals(self, before: Totals) -> Totals:
        """Return the trail's sums with this batch, from those without it."""
        return Totals(
            records=before.records + self.builder.count,
            events=before.events + self.total("events"),
            quarantined=before.quarantined + self.total("quarantined"),
            gaps=before.gaps + self.total("gaps"),
            lines=before.lines + sum(step.lines for step in self.progress.values()),
            observability=before.observability + sum(step.observability for step in self.progress.values()),
            bytes_lost=before.bytes_lost + self.total("bytes_lost"),
        )

    def window(self) -> Window | None:
        """Return the times of the records; None without records."""
        with_records = [m for m in self.metas if m.records]
        if not with_records:
            return None
        return Window(
            occurred_min=min((m.occurred_min for m in with_records if m.occurred_min), default=None),
            occurred_max=max((m.occurred_max for m in with_records if m.occurred_max), default=None),
            observed_min=min(m.observed_min for m in with_records),
            observed_max=max(m.observed_max for m in with_records),
        )


def loss_block(loss: StateLoss, now: str) -> tuple[BlockMeta, bytes]:
    """Return the block with the gap record that says what was lost with a state.

    Args:
        loss: What was lost.
        now: RFC 3339 UTC.
    """
    detail = f"{loss.why}; {loss.saved}; the damaged state is kept in {loss.kept_in}"
    body = gap_body(STATE_SOURCE, now, GapCause.STATE_LOST, Certainty.UNBOUNDED, None, None, detail)
    return BlockMeta(observed_min=now, observed_max=now, records=1, gaps=1), body + b"\n"


def sealed(
    manifest: Manifest,
    frontier: Frontier,
    origin: Origin,
    signers: Sequence[SigningKey],
    signing_key: str,
    data: bytes | None,
    bytes_lost: int,
) -> tuple[NewBatch, Head]:
    """Sign a batch; return it with the head after it.

    Args:
        manifest: Its manifest.
        frontier: The tree with its records, without the manifest.
        origin: The trail's name.
        signers: The epoch's key, and on batch 0 the enrolment key where there is one.
        signing_key: The epoch's key as the spool keeps it.
        data: The data object's bytes; None without records.
        bytes_lost: What its gap records state as lost for certain.
    """
    seal, after = build_seal(manifest, frontier, str(origin), signers)
    root = after.root()
    batch = NewBatch(
        origin=str(origin),
        number=manifest.batch,
        reason=manifest.reason,
        sealed_at=manifest.sealed_at,
        size=after.size,
        root=root,
        records=manifest.records.count,
        raw_bytes=0 if manifest.data is None else manifest.data.raw_bytes,
        bytes_lost=bytes_lost,
        observed_min=None if manifest.window is None else manifest.window.observed_min,
        seal_key=seal_key(origin, manifest.batch),
        data_key=None if manifest.data is None else manifest.data.key,
        seal=seal.raw,
        data=data,
    )
    head = Head(
        origin=str(origin),
        signing_key=signing_key,
        batch=manifest.batch,
        size=after.size,
        frontier=after.encode(),
        root=root,
        seal_sha256=seal.sha256,
        reason=manifest.reason,
        sealed_at=manifest.sealed_at,
        totals=manifest.totals,
    )
    return batch, head
