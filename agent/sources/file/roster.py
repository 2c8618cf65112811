"""Hold the files of one source in their lanes, and write what begins or ends a cursor.

Invariants: every end of a cursor is one append, with the gap records that belong to it; a file is in one lane, and under one
(device, inode), only. This module must not decide what has become of a file; `lifecycle` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from msgspec.structs import replace

from ...intake import Cursor
from ...trail.records import Certainty, GapCause
from ...trail.ulid import RANDOM_BYTES, new_ulid
from .appends import time_text
from .discover import Scan
from .handle import GZIP_SUFFIX
from .identity import digest
from .known import Known
from .lane import Lane, Tailed
from .losses import gap_append, unread_of
from .reader import Reader
from .recovery import first_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...intake import Append
    from .appends import Loss
    from .context import Context
    from .discover import Found
    from .identity import Judgement, Key

_T = TypeVar("_T")
GONE: Final = {
    GapCause.TRUNCATED: "the file was truncated and no copy of its content was found",
    GapCause.ROTATED_AWAY: "the path leads to another file and the old one was not found among its siblings",
    GapCause.VANISHED: "the file is gone and was not found among its siblings",
}


class Shell(Protocol):
    """What the files' bookkeeping asks of the running source."""

    async def hop(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run a function on the reading thread."""
        ...

    async def submit(self, append: Append, tailed: Tailed | None = None) -> None:
        """Hand an append to the intake."""
        ...

    def ready(self, lane: Lane) -> None:
        """Put a lane in line for a turn."""
        ...

    def release(self, tailed: Tailed) -> None:
        """Close a file and stop watching it."""
        ...

    def unclear(self, path: str, error: OSError | None) -> None:
        """Report that it cannot be told what has become of a path, so that it is looked at again soon; None once it can."""
        ...


class Roster:
    """Own the lanes of one source.

    Attributes:
        lanes: By path.
        files: By device and inode.
        scan: What the patterns named at the last look.
        known: Files that were read to their end.
    """

    def __init__(self, context: Context, shell: Shell) -> None:
        """Begin with no files.

        Args:
            context: What all readers share.
            shell: The running source.
        """
        self.lanes: dict[str, Lane] = {}
        self.files: dict[Key, Tailed] = {}
        self.scan = Scan()
        self.known = Known(shell.hop)
        self.context = context
        self.shell = shell
        self._newest_id = 0
        self._new: list[Cursor] = []
        self._unplaced = 0

    def now(self) -> str:
        """Return the time of day, RFC 3339 in UTC."""
        return time_text(self.context.clock.now())

    async def resume_or_new(self, found: Found, path: str, *, copied: bool = False) -> Cursor:
        """Return where to begin in a file that is in no lane: where it was left, if it is one that was read before.

        Args:
            found: The file.
            path: Its lane's.
            copied: It is a copy of what the lane's log was before a truncation.
        """
        ended = await self.known.resume(found)
        if ended is not None:
            return replace(ended, finished=False, copied=copied)
        beginning, size = await self.shell.hop(first_look, found)
        # The size of a compressed file says nothing about the size of what is in it.
        size = 0 if found.path.endswith(GZIP_SUFFIX) else size
        fresh = replace(self.fresh(path, found.key, size, beginning), copied=copied)
        self._new.append(fresh)
        return fresh

    def fresh(self, path: str, key: Key, size: int, beginning: bytes = b"") -> Cursor:
        """Return the cursor of a file that was not read yet, known again by its first bytes, where it has some."""
        return Cursor(
            source=self.context.source,
            file_id=self._new_id(),
            path=path,
            device=key[0],
            inode=key[1],
            size_seen=size,
            head_bytes=len(beginning),
            head_sha256=digest(beginning) if beginning else "",
        )

    def _new_id(self) -> str:
        """Return a ULID; within one source they sort by the order in which they were given."""
        self._newest_id = max(self._newest_id + 1, int(self.context.clock.now().timestamp() * 1000))
        return new_ulid(self._newest_id, os.urandom(RANDOM_BYTES))

    def renew(self, tailed: Tailed) -> None:
        """Give a file of which nothing was read yet another id, as others were found that were written before it.

        The order of the ids is all that tells a later start in which order the files of a lane were written.
        """
        cursor = tailed.reader.cursor
        if not cursor.offset:
            tailed.reader.amend(file_id=self._new_id())
            self._new += [replace(cursor, finished=True), tailed.reader.cursor]

    async def note_new(self) -> None:
        """Make the cursors of files seen for the first time durable, so that they are missed if they go unread."""
        if self._new:
            first, new = self._new[0], tuple(self._new)
            self._new.clear()
            await self.shell.submit(gap_append(first, (), new, self.now()))

    def unplaced(self) -> Key:
        """Return a key that no file has, for one of which it is not clear where it is."""
        self._unplaced += 1
        return (-1, self._unplaced)

    def add(self, path: str, found: Found, cursor: Cursor, *, before: Tailed | None = None) -> Tailed:
        """Put a file into its lane, last or before another one."""
        lane = self.lanes.setdefault(path, Lane(path))
        tailed = Tailed(Reader(self.context, cursor, found.path, key=found.key), lane, found)
        tailed.names = frozenset(self.scan.names.get(found.key, ()))
        tailed.began_empty = not cursor.offset and not cursor.head_bytes
        lane.files.insert(len(lane.files) if before is None else lane.files.index(before), tailed)
        self.files[found.key] = tailed
        self.shell.ready(lane)
        return tailed

    def place(self, tailed: Tailed, found: Found, cursor: Cursor) -> None:
        """Let a file go on where it was found."""
        if self.files.get(tailed.key) is tailed:
            del self.files[tailed.key]
        self.shell.release(tailed)
        tailed.reader = Reader(self.context, cursor, found.path, key=found.key)
        tailed.seen = found
        self.files[found.key] = tailed
        tailed.lane.note_folder(found)
        tailed.rotated = found.path != tailed.lane.path

    def move(self, tailed: Tailed, path: str) -> None:
        """Let a file that lost one of its names go on under another one it had before."""
        tailed.lane.files.remove(tailed)
        tailed.lane = self.lanes.setdefault(path, Lane(path))
        tailed.lane.files.append(tailed)
        tailed.reader.path = path
        tailed.reader.amend(path=path)
        self.shell.ready(tailed.lane)

    def remove(self, tailed: Tailed) -> None:
        """Take a file out of its lane, and remember it."""
        tailed.lane.last = shown(tailed)
        tailed.lane.files.remove(tailed)
        if self.files.get(tailed.key) is tailed:
            del self.files[tailed.key]
        self.shell.release(tailed)
        self.known.remember(tailed.key, tailed.reader.cursor)

    async def finish(self, tailed: Tailed) -> None:
        """End a settled file's cursor; what it was seen to have grown by since it was closed is lost if it cannot be read."""
        cursor = tailed.reader.cursor
        self.remove(tailed)
        grown = tailed.seen.size if tailed.parked and not tailed.seen.path.endswith(GZIP_SUFFIX) else 0
        losses = unread_of(replace(cursor, size_seen=grown), GapCause.VANISHED, None, GONE[GapCause.VANISHED])
        await self.end(cursor, losses)

    async def give_up(self, cursor: Cursor, beyond: Certainty) -> None:
        """State that nothing more of a file can be read, and end its cursor."""
        home = self.scan.by_path.get(cursor.path)
        if home is None:
            cause = GapCause.VANISHED
        else:
            truncated = cursor.copied or home.key == (cursor.device, cursor.inode)
            cause = GapCause.TRUNCATED if truncated else GapCause.ROTATED_AWAY
        nothing_seen = not cursor.offset and not cursor.size_seen and beyond is Certainty.POSSIBLE
        await self.end(cursor, [] if nothing_seen else unread_of(cursor, cause, beyond, GONE[cause]))

    async def go_back(self, cursor: Cursor, judgement: Judgement) -> Cursor:
        """State that a file was rolled back, and return the cursor of what it is now, at the newest mark that still fits."""
        anchors = tuple(anchor for anchor in cursor.anchors if anchor.offset <= judgement.offset)
        again = replace(cursor, file_id=self._new_id(), offset=judgement.offset, size_seen=judgement.offset, anchors=anchors)
        detail = f"the file is as it was when it was shorter; it is read again from byte {judgement.offset} as file {again.file_id}"
        await self.end(cursor, unread_of(cursor, GapCause.ROLLED_BACK, Certainty.POSSIBLE, detail), again)
        return again

    async def end(self, cursor: Cursor, losses: list[Loss], successor: Cursor | None = None) -> None:
        """Finish a cursor with what was lost of its file, and begin that of what came after it."""
        finished = replace(cursor, finished=True)
        await self.shell.submit(gap_append(cursor, losses, (finished,) if successor is None else (finished, successor), self.now()))

    async def state(self, cursor: Cursor, losses: list[Loss], *cursors: Cursor) -> None:
        """State losses, or begin cursors, without ending one."""
        await self.shell.submit(gap_append(cursor, losses, cursors or (cursor,), self.now()))


def shown(tailed: Tailed) -> Found:
    """Return an open file as it is now, a closed one as it was last seen: its name may lead to another one by now."""
    try:
        return tailed.seen if tailed.reader.fd is None else tailed.reader.look()
    except OSError:
        return tailed.seen
