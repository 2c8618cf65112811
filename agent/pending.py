"""The batch that is being built, and a sealed one turned back into blocks.

Invariants: a pending batch holds whole blocks in the spool's order; what it counts is exactly what its blocks say. `unsealed`
is the inverse of the cut but for the numbers: the same bodies in the same order, the same progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .spool.rows import BlockMeta, join_progress
from .trail.batch import BatchBuilder, read_data
from .trail.manifest import RecordCounts, Totals, Window
from .trail.records import strip_seq
from .trail.seal import parse_seal

if TYPE_CHECKING:
    from .spool import Block, QueuedBatch
    from .trail.manifest import SourceProgress
    from .trail.merkle import Frontier


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


def unsealed(queued: QueuedBatch) -> tuple[BlockMeta, bytes]:
    """Turn a sealed batch back into a block: the same bodies, without their numbers, and the same progress."""
    manifest = parse_seal(queued.batch.seal).manifest
    bodies = b""
    if queued.batch.data is not None and manifest.data is not None:
        lines = read_data(queued.batch.data, manifest.data.raw_bytes)
        bodies = b"".join(strip_seq(line)[1] + b"\n" for line in lines)
    window = manifest.window
    observed = manifest.sealed_at
    meta = BlockMeta(
        observed_min=observed if window is None else window.observed_min,
        observed_max=observed if window is None else window.observed_max,
        records=manifest.records.count,
        events=manifest.records.events,
        quarantined=manifest.records.quarantined,
        gaps=manifest.records.gaps,
        bytes_lost=queued.batch.bytes_lost,
        occurred_min=None if window is None else window.occurred_min,
        occurred_max=None if window is None else window.occurred_max,
        progress=manifest.sources,
    )
    return meta, bodies
