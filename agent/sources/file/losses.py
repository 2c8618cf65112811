"""State what of a file was lost.

Invariants: bytes up to the largest size ever seen that were not read are lost for certain (`known`); beyond it the loss is
`possible` while the agent was looking on (what a copytruncate races away with) and `unbounded` where it was not. Every loss
is one gap record, in the append that also ends or moves the cursor. Pure: no files, clock or network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...trail.records import Certainty
from .appends import FileTally, Loss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...intake import Append, Cursor
    from ...trail.records import GapCause


def unread_of(cursor: Cursor, cause: GapCause, beyond: Certainty | None, detail: str) -> list[Loss]:
    """Return the losses when nothing more of a file can be read.

    Args:
        cursor: How far it was read, and how large it was seen.
        cause: What happened to it.
        beyond: How sure a loss is beyond the largest size seen; None where there can be none.
        detail: A sentence for the auditor.
    """
    losses = []
    end = max(cursor.offset, cursor.size_seen)
    if end > cursor.offset:
        losses.append(Loss(cause, Certainty.KNOWN, cursor.offset, end, detail))
    if beyond is not None:
        losses.append(Loss(cause, beyond, end, None, detail))
    return losses


def gap_append(cursor: Cursor, losses: Iterable[Loss], cursors: Iterable[Cursor], observed_at: str) -> Append:
    """Return the append that states losses of one file and moves cursors.

    Args:
        cursor: The file's last cursor: its id and name go into the records.
        losses: What was lost; may be empty.
        cursors: The cursors after this.
        observed_at: Now, RFC 3339 in UTC.
    """
    tally = FileTally(cursor, observed_at)
    accounted = cursor.offset
    for loss in losses:
        tally.add_loss(loss)
        if loss.start == accounted and loss.end is not None:
            accounted = loss.end
    return tally.append(accounted, cursors)
