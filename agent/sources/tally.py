"""Add up what the pieces of one stream gave until they are handed to the intake.

Invariants: lines are counted in the step that ends them, and `lines` is always `audit` plus observability lines; pieces
that pass through keep their order. Pure: no files, clock or event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..trail.records import QuarantineReason, oversize_body
from .lines import Overlong, Passed, Whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .base import BlockSeparator
    from .lines import Piece


@dataclass(slots=True)
class Tally:
    """What some pieces gave.

    Attributes:
        bodies: Record bodies, each followed by a newline.
        records: How many bodies.
        quarantined: How many of them are quarantine.
        lines: Lines that ended.
        passed_lines: Those of them that are observability.
        passed: The bytes that pass through, in order.
        reasons: Quarantine reasons and how often each occurred.
        times: The earliest and latest times of the events of each block.
    """

    bodies: list[bytes] = field(default_factory=list)
    records: int = 0
    quarantined: int = 0
    lines: int = 0
    passed_lines: int = 0
    passed: list[bytes] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)


class Tallier:
    """Tally the pieces of one stream, in order. One instance serves one stream and one thread at a time."""

    def __init__(self, source: str, separator: BlockSeparator) -> None:
        """Begin at the start of a line.

        Args:
            source: The source's id.
            separator: Separates blocks of whole lines.
        """
        self._source = source
        self._separator = separator
        self._passing = False

    def tally(self, pieces: Iterable[Piece], observed_at: str, *, final: bool = False) -> Tally:
        """Separate pieces and add them up.

        Args:
            pieces: From the line cutter.
            observed_at: When the bytes were read, RFC 3339 in UTC.
            final: No piece follows: an over-long line that is still passing through ends here.
        """
        tally = Tally()
        for piece in pieces:
            match piece:
                case Whole(offset, data):
                    self._whole(tally, offset, data, observed_at)
                case Passed(_, data, _):
                    tally.passed.append(data)
                    self._passing = True
                    if data.endswith(b"\n"):
                        self._end_passing(tally)
                case Overlong(_, length, sha256, head, late):
                    if late and self._passing:
                        self._end_passing(tally)
                    tally.bodies += (oversize_body(self._source, observed_at, head, length, sha256), b"\n")
                    tally.records += 1
                    tally.quarantined += 1
                    # A line that was passed through and is recorded as well counts as audit, and once.
                    tally.lines += not late
                    tally.passed_lines -= late
                    reason = QuarantineReason.TOO_LONG.value
                    tally.reasons[reason] = tally.reasons.get(reason, 0) + 1
        if final and self._passing:
            self._end_passing(tally)
        return tally

    def _end_passing(self, tally: Tally) -> None:
        self._passing = False
        tally.lines += 1
        tally.passed_lines += 1

    def _whole(self, tally: Tally, offset: int, data: bytes, observed_at: str) -> None:
        done = self._separator.separate(data, offset, observed_at)
        tally.bodies.append(done.bodies)
        tally.records += done.records
        tally.quarantined += done.quarantined
        tally.lines += done.lines
        tally.passed_lines += done.observability_lines
        if done.observability:
            tally.passed.append(done.observability)
        for reason, count in done.reasons.items():
            tally.reasons[reason] = tally.reasons.get(reason, 0) + count
        tally.times += [moment for moment in (done.occurred_min, done.occurred_max) if moment is not None]
