"""Make the append of one block of one file: what its lines gave, and what was lost before them.

Invariants: bodies keep the order in which they were added. Pure: no files, clock or network.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from ...intake import Append
from ...trail.manifest import SourceProgress
from ...trail.records import Certainty, gap_body
from ..tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ...intake import Cursor
    from ...trail.records import GapCause

KIND: Final = "file"


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


class FileTally(Tally):
    """Count one block of one file, losses included."""

    def __init__(self, cursor: Cursor, observed_at: str, kind: str = KIND) -> None:
        """Begin with nothing.

        Args:
            cursor: The file's cursor before the block.
            observed_at: When the block was read, RFC 3339 in UTC.
            kind: What the manifest calls the source's kind.
        """
        super().__init__(cursor.source, observed_at, with_at=True)
        self.gaps = 0
        self._cursor = cursor
        self._kind = kind
        self._bytes_lost = 0

    def add_loss(self, loss: Loss) -> None:
        """Add a gap record."""
        cursor = self._cursor
        body = gap_body(
            cursor.source,
            self.observed_at,
            loss.cause,
            loss.certainty,
            loss.start,
            loss.end,
            loss.detail,
            cursor.file_id,
            cursor.path,
        )
        self.bodies += (body, b"\n")
        self.gaps += 1
        if loss.certainty is Certainty.KNOWN and loss.end is not None:
            self._bytes_lost += loss.end - loss.start

    def moves(self, to_offset: int) -> bool:
        """Tell whether there is something to append, if the file is accounted for up to an offset."""
        return to_offset > self._cursor.offset or self.gaps > 0

    def append(self, to_offset: int, cursors: Iterable[Cursor]) -> Append:
        """Return it all as one append.

        Args:
            to_offset: Up to where the file is accounted for with this block.
            cursors: The cursors after it.
        """
        cursor = self._cursor
        progress = SourceProgress(
            id=cursor.source,
            kind=self._kind,
            path=cursor.path,
            file_id=cursor.file_id,
            from_offset=cursor.offset,
            to_offset=to_offset,
            lines=self.lines,
            audit=self.records,
            observability=self.passed_lines,
            quarantined=self.quarantined,
        )
        return Append(
            bodies=b"".join(self.bodies),
            records=self.records + self.gaps,
            events=self.events,
            quarantined=self.quarantined,
            gaps=self.gaps,
            bytes_lost=self._bytes_lost,
            progress=(progress,) if to_offset > cursor.offset else (),
            cursors=tuple(cursors),
            observed_at=self.observed_at,
            occurred_min=time_text(min(self.times)) if self.times else None,
            occurred_max=time_text(max(self.times)) if self.times else None,
            reasons=self.reasons,
            outcomes=self.outcomes,
        )


def join(appends: Sequence[Append]) -> Append:
    """Return appends that must become durable together as one; all were observed at the same time.

    Args:
        appends: At least one, in the order of their records.
    """
    first = appends[0]
    if len(appends) == 1:
        return first
    reasons: Counter[str] = Counter()
    outcomes: Counter[tuple[str, str]] = Counter()
    for append in appends:
        reasons.update(append.reasons)
        outcomes.update(append.outcomes)
    return replace(
        first,
        bodies=b"".join(append.bodies for append in appends),
        records=sum(append.records for append in appends),
        events=sum(append.events for append in appends),
        quarantined=sum(append.quarantined for append in appends),
        gaps=sum(append.gaps for append in appends),
        bytes_lost=sum(append.bytes_lost for append in appends),
        progress=tuple(chain.from_iterable(append.progress for append in appends)),
        cursors=tuple(chain.from_iterable(append.cursors for append in appends)),
        occurred_min=min((append.occurred_min for append in appends if append.occurred_min is not None), default=None),
        occurred_max=max((append.occurred_max for append in appends if append.occurred_max is not None), default=None),
        reasons=dict(reasons),
        outcomes=dict(outcomes),
    )
