"""Turn a sealed batch back into a block, so that another epoch can number its records anew.

Invariant: `unsealed` is the inverse of the cut but for the numbers: the same bodies in the same order, the same progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..trail.batch import read_data
from ..trail.record_lines import strip_seq
from ..trail.seal import parse_seal
from .rows import BlockMeta

if TYPE_CHECKING:
    from .rows import NewBatch


def unsealed(batch: NewBatch) -> tuple[BlockMeta, bytes]:
    """Return the block of a batch: the same bodies, without their numbers, and the same progress.

    Raises:
        FormatError: The seal or the data is not what a cut makes.
    """
    manifest = parse_seal(batch.seal).manifest
    bodies = b""
    if batch.data is not None and manifest.data is not None:
        lines = read_data(batch.data, manifest.data.raw_bytes)
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
        bytes_lost=batch.bytes_lost,
        occurred_min=None if window is None else window.occurred_min,
        occurred_max=None if window is None else window.occurred_max,
        progress=manifest.sources,
    )
    return meta, bodies
