"""Add up what the pieces of one block gave, and make the append of it.

Invariants: bodies keep the order in which they were added; `lines` is always audit plus observability lines. Pure: no
files, clock or network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...intake import Append
from ...trail.manifest import SourceProgress
from ...trail.records import Certainty, gap_body, oversize_body
from ..lines import Passed, Whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ...intake import Cursor
    from ...trail.records import GapCause
    from ..base import BlockSeparator
    from ..lines import Piece

KIND = "file"


class Loss(NamedTuple):
    """One gap record to be.

    Attributes:
        cause: Why.
        certainty: How sure.
        start: First byte lost.
        end: One past the last; None where nobody knows.
        detail: A sentence for the auditor.
    """

    cause: GapCause
    certainty: Certainty
    start: int
    end: int | None
    detail: str


def time_text(moment: datetime) -> str:
    """Return a UTC time as RFC 3339 with microseconds and a Z."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Tally:
    """Count one block of one file."""

    def __init__(self, cursor: Cursor, observed_at: str) -> None:
        """Begin with nothing.

        Args:
            cursor: The file's cursor before the block.
            observed_at: When the block was read, RFC 3339 in UTC.
        """
        self.observability: list[bytes] = []
        self.gaps = 0
        self._cursor = cursor
        self._observed_at = observed_at
        self._bodies: list[bytes] = []
        self._audit = self._events = self._quarantined = 0
        self._bytes_lost = 0
        self._passed_lines = 0
        self._reasons: dict[str, int] = {}
        self._times: list[datetime] = []

    def add(self, pieces: Iterable[Piece], separator: BlockSeparator) -> None:
        """Separate the pieces' lines and count them."""
        for piece in pieces:
            if isinstance(piece, Whole):
                self._add_lines(piece, separator)
            elif isinstance(piece, Passed):
                self.observability.append(piece.data)
                self._passed_lines += piece.last
            else:
                at = (piece.offset, piece.length)
                self._bodies += (
                    oversize_body(self._cursor.source, self._observed_at, piece.head, piece.length, piece.sha256, at),
                    b"\n",
                )
                self._audit += 1
                self._quarantined += 1
                self._passed_lines -= piece.late
                self._reasons["too_long"] = self._reasons.get("too_long", 0) + 1

    def _add_lines(self, piece: Whole, separator: BlockSeparator) -> None:
        done = separator.separate(piece.data, piece.offset, self._observed_at)
        self._bodies.append(done.bodies)
        self._audit += done.records
        self._events += done.events
        self._quarantined += done.quarantined
        self._passed_lines += done.observability_lines
        if done.observability:
            self.observability.append(done.observability)
        for reason, count in done.reasons.items():
            self._reasons[reason] = self._reasons.get(reason, 0) + count
        self._times += [moment for moment in (done.occurred_min, done.occurred_max) if moment is not None]

    def add_loss(self, loss: Loss) -> None:
        """Add a gap record."""
        cursor = self._cursor
        body = gap_body(
            cursor.source,
            self._observed_at,
            loss.cause,
            loss.certainty,
            loss.start,
            loss.end,
            loss.detail,
            cursor.file_id,
            cursor.path,
        )
        self._bodies += (body, b"\n")
        self.gaps += 1
        if loss.certainty is Certainty.KNOWN and loss.end is not None:
            self._bytes_lost += loss.end - loss.start

    def append(self, to_offset: int, cursors: Iterable[Cursor]) -> Append:
        """Return it all as one append.

        Args:
            to_offset: Up to where the file is accounted for with this block.
            cursors: The cursors after it.
        """
        cursor = self._cursor
        progress = SourceProgress(
            id=cursor.source,
            kind=KIND,
            path=cursor.path,
            file_id=cursor.file_id,
            from_offset=cursor.offset,
            to_offset=to_offset,
            lines=self._audit + self._passed_lines,
            audit=self._audit,
            observability=self._passed_lines,
            quarantined=self._quarantined,
        )
        return Append(
            bodies=b"".join(self._bodies),
            records=self._audit + self.gaps,
            events=self._events,
            quarantined=self._quarantined,
            gaps=self.gaps,
            bytes_lost=self._bytes_lost,
            progress=(progress,) if to_offset > cursor.offset else (),
            cursors=tuple(cursors),
            observed_at=self._observed_at,
            occurred_min=time_text(min(self._times)) if self._times else None,
            occurred_max=time_text(max(self._times)) if self._times else None,
            reasons=self._reasons,
        )
