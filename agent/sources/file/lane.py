"""Keep the files of one path in the order in which they were written.

A lane is a path and its files: rotated ones first, oldest first, the one that is at the path last. A file is *rotated* once
its path leads elsewhere or nowhere; *settled* once it then stayed at its end for the hold time and its last line was taken
as it is; *parked* once it is settled and closed, but still named by the patterns or the newest of the lane to be rotated:
then its writer may not have noticed, and it is looked at again with every look at the folder.

Invariants: a file is in one lane only; its place there never changes. This module holds state only; `tail` moves it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..envelope import Ending

if TYPE_CHECKING:
    from .context import Context
    from .discover import Found
    from .identity import Key
    from .reader import Reader, Step


class Turn(Enum):
    """What came of asking one file."""

    MOVED = auto()
    AT_END = auto()
    BUSY = auto()
    REFUSED = auto()


@dataclass(slots=True, eq=False)
class Tailed:
    """One file that is being read.

    Attributes:
        reader: Reads it.
        lane: Where it belongs.
        rotated: Its path leads to another file or to none.
        names: All names under which the patterns found it; empty if they do not.
        seen: What the last look at a name of it showed.
        ended_at: Since when (loop time) it has been at its end without growing.
        size: Its size at the last step, in bytes.
        settled: It was rotated and read to its end for good, as far as anyone can tell.
        parked: It is settled and closed.
        linger_until: When (loop time) a settled file is given up.
        woken: Something was written since the last step.
        pending: Appends that are not durable yet.
        retry_at: Not to be tried before that (loop time).
        retry_seconds: The next pause after that.
        began_empty: It was empty when it was seen first, and copies of what it may have held since were not looked for yet.
        looked_ns: The log's time of modification when copies of what it held before were last looked for.
        waits_until: Until when (loop time) lines of it wait behind an unfinished one, or for more of their unit.
        waits_as_unit: It is for more of their unit that they wait.
        comes_back_at: When (loop time) these are looked at again.
        left: A successor had something to read before this one was read last, so its writer has moved on.
    """

    reader: Reader
    lane: Lane
    seen: Found
    rotated: bool = False
    names: frozenset[str] = frozenset()
    ended_at: float | None = None
    size: int = -1
    settled: bool = False
    parked: bool = False
    linger_until: float = 0.0
    woken: bool = True
    pending: int = 0
    retry_at: float = 0.0
    retry_seconds: float = 0.0
    began_empty: bool = False
    looked_ns: int = -1
    waits_until: float | None = None
    waits_as_unit: bool = False
    comes_back_at: float = 0.0
    left: bool = False

    @property
    def key(self) -> Key:
        """Device and inode."""
        return self.reader.key

    @property
    def copied(self) -> bool:
        """Whether it is a copy of what a file was before it was truncated."""
        return self.reader.cursor.copied

    @property
    def is_unplaced(self) -> bool:
        """Whether it is not clear yet where the file is."""
        return self.key[0] < 0

    @property
    def resting(self) -> bool:
        """Whether nothing is expected of it until it is woken."""
        return self.settled and not self.woken


@dataclass(slots=True, eq=False)
class Lane:
    """One path and its files.

    Attributes:
        path: The path.
        files: Oldest first.
        last: The newest file that was read to its end and left the lane.
        queued: It is in line for a turn.
        folders: Other folders into which its files were seen to be rotated.
        copies_after: Its log was truncated: copies of what it held after this file, and before it was looked into again, are
            looked for once more then.
    """

    path: str
    files: list[Tailed] = field(default_factory=list)
    last: Found | None = None
    queued: bool = False
    folders: frozenset[str] = frozenset()
    copies_after: Found | None = None

    def note_folder(self, found: Found) -> None:
        """Remember where a file was found, if it is not beside the path."""
        folder = os.path.dirname(found.path)  # noqa: PTH120 -- as in discover
        if folder != os.path.dirname(self.path):  # noqa: PTH120
            self.folders |= {folder}


def follow(tailed: Tailed, previous: Tailed) -> bool:
    """Let a file know what the one before it in its lane leaves to it; return False as long as that is not known."""
    unwrapping, before = tailed.reader.unwrapping, previous.reader.unwrapping
    return unwrapping is None or before is None or unwrapping.follow(before)


def is_unfinished(tailed: Tailed) -> bool:
    """Tell whether a file that was read to its end still has something to leave to its successor."""
    return tailed.reader.unwrapping is not None and tailed.reader.unwrapping.unfinished


def choose_ending(tailed: Tailed, now: float, *, final: bool, stopping: bool) -> None:
    """Say what becomes of what a file ends with: a line in envelopes whose last piece is not there, or a unit that may go on.

    Args:
        tailed: The file.
        now: Loop time.
        final: Nothing will be added to the file.
        stopping: The source is about to end; what is not recorded now may not be there at the next start.
    """
    ending = Ending.CUT if tailed.waits_until is not None and now >= tailed.waits_until else Ending.WAIT
    if tailed.reader.unwrapping is not None:
        is_last = tailed is tailed.lane.files[-1]
        ending = Ending.FINAL if final and is_last else ending
    elif stopping or (tailed.rotated and tailed.left):
        ending = Ending.FINAL
    tailed.reader.ending = ending


def comes_back(tailed: Tailed, now: float, context: Context, step: Step) -> float | None:
    """Note until when lines at a file's end wait, and return when (loop time) to look at them again; None if that is arranged.

    Args:
        tailed: The file.
        now: Loop time.
        context: Tells how long they wait.
        step: What the file gave now.
    """
    if not step.waiting:
        tailed.waits_until = None
        return None
    # A unit waits for more since it grew; what stands behind an unfinished line must not wait for ever because there is more of it.
    grown = step.unit and step.size != tailed.size
    until = tailed.waits_until
    if until is None or grown or step.append is not None or step.unit is not tailed.waits_as_unit:
        until = now + context.patience_seconds(for_unit=step.unit)
    elif until <= now:
        return None
    tailed.waits_until = until
    tailed.waits_as_unit = step.unit
    # A file that grows all the time must not arrange for a look each time it does.
    if now < tailed.comes_back_at <= until:
        return None
    tailed.comes_back_at = until
    return until


def put_off(tailed: Tailed, now: float, pauses_seconds: tuple[float, float]) -> None:
    """Note that a file cannot be read, and when to try again.

    Args:
        tailed: The file.
        now: Loop time.
        pauses_seconds: The first and the longest pause.
    """
    first, longest = pauses_seconds
    tailed.retry_seconds = min(longest, tailed.retry_seconds * 2 or first)
    tailed.retry_at = now + tailed.retry_seconds
    tailed.woken = True
