"""Add up what the pieces of one source gave, until an append is made of them.

Invariants: a line is counted in the step that ends it, and `lines` is always records plus observability lines; bodies and
passed bytes keep the order of their lines. Pure: no files, clock or event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..trail.records import QuarantineReason
from .lines import Overlong, Passed, Whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ..separator import Separated
    from .base import BlockSeparator
    from .lines import Piece


@dataclass(slots=True)
class Tally:
    """What some pieces of one source gave.

    Attributes:
        source: The source's id.
        observed_at: When the bytes were read, RFC 3339 in UTC.
        with_at: Whether positions mean something to an auditor (files) and go into the records.
        bodies: Record bodies, each followed by a newline.
        records: How many bodies.
        quarantined: How many of them are quarantine.
        passed_lines: Lines that ended and are observability.
        passed: The bytes that pass through, in order.
        reasons: Quarantine reasons and how often each occurred.
        outcomes: Events by (category, outcome).
        times: The earliest and latest times of the events of each block.
    """

    source: str
    observed_at: str
    with_at: bool = False
    bodies: list[bytes] = field(default_factory=list)
    records: int = 0
    quarantined: int = 0
    passed_lines: int = 0
    passed: list[bytes] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """Lines that ended, records and observability."""
        return self.records + self.passed_lines

    @property
    def events(self) -> int:
        """Valid events among the records."""
        return self.records - self.quarantined

    def add(self, pieces: Iterable[Piece], separator: BlockSeparator) -> None:
        """Separate the pieces and count them."""
        for piece in pieces:
            match piece:
                case Whole():
                    self._add_lines(piece, separator)
                case Passed(_, data, last):
                    if data:
                        self.passed.append(data)
                    self.passed_lines += last
                case Overlong(offset, length, sha256, head, late, extent, member):
                    at = (offset, length if extent is None else extent) if self.with_at else None
                    self.add_quarantined(separator.overlong(self.observed_at, head, length, sha256, at, member), QuarantineReason.TOO_LONG)
                    # A line that was passed through and is recorded as well counts as audit, and once.
                    self.passed_lines -= late

    def add_quarantined(self, body: bytes, reason: QuarantineReason) -> None:
        """Count a record of quarantine."""
        self.bodies += (body, b"\n")
        self.records += 1
        self.quarantined += 1
        self._count(reason.value, 1)

    def _add_lines(self, lines: Whole, separator: BlockSeparator) -> None:
        self.add_separated(separator.separate(lines.data, lines.offset, self.observed_at, lines.places))

    def add_separated(self, done: Separated) -> None:
        """Count what lines, or units, were separated into."""
        self.bodies.append(done.bodies)
        self.records += done.records
        self.quarantined += done.quarantined
        self.passed_lines += done.observability_lines
        if done.observability:
            self.passed.append(done.observability)
        for reason, count in done.reasons.items():
            self._count(reason, count)
        for outcome, count in done.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.times += [moment for moment in (done.occurred_min, done.occurred_max) if moment is not None]

    def _count(self, reason: str, count: int) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + count
