"""Find what was rotated, or copied and truncated, after the newest file of a lane that is known, and queue it.

Invariants: what is queued here is read between the lane's newest file and what is at its path now; what was read before, under
whatever name, is not queued. This module must not end a cursor; `lifecycle` does.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ...trail.records import Certainty, GapCause
from ...trail.ulid import ulid_milliseconds
from . import discover
from .appends import Loss
from .discover import Found
from .identity import digest
from .lane import Lane
from .recovery import beginning_of, held_folder, is_copy_of
from .roster import Roster, Shell, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...intake import Cursor
    from .discover import Around
    from .lane import Tailed

_BETWEEN: Final = "the file is deleted already; others that came after it may have been, too, before {0} was seen"


class Successors:
    """Look around a path for files that came after the one that was seen last."""

    def __init__(self, roster: Roster, shell: Shell, strict: Callable[[Lane], bool]) -> None:
        """Look for the files of one source.

        Args:
            roster: The files.
            shell: The running source.
            strict: Whether a refusal to look at a lane's files is still waited out.
        """
        self._roster = roster
        self._shell = shell
        self._strict = strict

    async def around(self, lane: Lane) -> Around:
        """Look at a lane's path, at the names beside it, and into the folders its rotated files were found in."""
        for tailed in lane.files:
            if tailed.rotated and tailed.reader.fd is not None:
                folder = await self._shell.hop(held_folder, tailed.reader.fd)
                if folder is not None:
                    lane.folders |= {folder}
        return await self._shell.hop(discover.around, lane.path, lane.folders)

    async def archive_of(self, cursor: Cursor) -> Found | None:
        """Return the rotated file that a log has become which was empty when it was last seen; None if that cannot be said.

        It has no content to be found by. Rotation deletes the oldest first: where a file from before it is still there, nothing
        after that was deleted, and the oldest of those that were not read is it.
        """
        if cursor.offset or cursor.size_seen or cursor.head_bytes:
            return None
        lane = self._roster.lanes.get(cursor.path) or Lane(cursor.path)
        seen = Found("", (cursor.device, cursor.inode), 0, first_seen_ns(cursor))
        try:
            here = await self.around(lane)
            older = any([await self._is_read(lane, one) for one in here.siblings])
            later = await self.unread(lane, seen, here, covered=seen.key in self._roster.scan.names) if older else []
        except OSError:
            return None
        return later[0] if later else None

    async def _is_read(self, lane: Lane, found: Found) -> bool:
        """Tell whether a sibling was read, to its end or as far as the lane's earlier cursors say."""
        own = self._roster.files.get(found.key)
        return (own is not None and own.lane is lane) or await self._roster.known.was_read(lane, found)

    async def queue_later(self, lane: Lane) -> None:
        """Queue the rotated files that were written after the lane's newest one and were never seen at its path."""
        newest = lane.files[-1] if lane.files else None
        if newest is not None and not newest.rotated:
            return
        key = newest.key if newest is not None else lane.last.key if lane.last is not None else None
        if key is None:
            return
        if newest is not None and newest.is_unplaced:
            raise BlockingIOError(errno.EAGAIN, "an earlier file is not found again yet")
        here = await self.around(lane)
        mark = next((one for one in here.siblings if one.key == key), None)
        if mark is None and newest is not None:
            mark = await self._roster.known.archive_of(newest, here.siblings)
        deleted = mark is None and newest is not None
        if mark is None:
            mark = lane.last if newest is None else shown(newest)
        # Between copies that a truncation left behind there are only more of them, and where the inode is at the path still.
        copied = newest.copied if newest is not None else here.home is not None and here.home.key == key
        lane.copies_after = mark if copied else None
        unread = await self.unread(lane, mark, here, covered=key in self._roster.scan.names, copied=copied)
        for found in unread:
            self._roster.add(lane.path, found, await self._roster.resume_or_new(found, lane.path, copied=copied)).rotated = True
        if deleted and unread and newest is not None:
            cursor = newest.reader.cursor
            start = max(cursor.offset, cursor.size_seen)
            detail = _BETWEEN.format(unread[0].path)
            await self._roster.state(cursor, [Loss(GapCause.ROTATED_AWAY, Certainty.POSSIBLE, start, None, detail)])

    async def queue_copies(self, lane: Lane, home: Found) -> None:
        """Queue the copies of what a log held and lost by truncation between its first sight, when it was empty, and its first line.

        Nothing about the log itself tells of them: nobody saw how it began.
        """
        newest = lane.files[-1]
        if newest.began_empty and newest.looked_ns != home.modified_ns:
            mark = lane.copies_after or Found("", home.key, 0, first_seen_ns(newest.reader.cursor))
            await self._queue_copies(lane, home, mark)

    async def queue_missed(self, lane: Lane, home: Found) -> None:
        """Queue the copy of what a log held when its folder was looked through, and lost before its own first look was taken.

        So it may be where the log is new in its lane. The copies that its lane had already were looked for before that.

        Raises:
            OSError: The system refused to say what there is.
        """
        newest = lane.files[-1]
        if lane.copies_after is not None:
            newest.began_empty = True
            await self._queue_copies(lane, home, lane.copies_after)
        elif not newest.reader.cursor.offset and newest.reader.cursor.size_seen < home.size:
            newest.began_empty = True
            await self._queue_copies(lane, home, Found("", home.key, 0, home.modified_ns - 1))

    async def _queue_copies(self, lane: Lane, home: Found, mark: Found) -> None:
        newest = lane.files[-1]
        # In this order: what is there after this look at its beginning is noticed when it changes.
        beginning = await self._shell.hop(beginning_of, home)
        if beginning:
            newest.reader.begins(beginning)
        here = await self.around(lane)
        cursor = newest.reader.cursor
        older = False
        for found in await self.unread(lane, mark, here, covered=False, copied=True):
            if not await self._shows_truncation(found, newest, home):
                start = await self._roster.resume_or_new(found, lane.path, copied=True)
                self._roster.add(lane.path, found, start, before=newest).rotated = older = True
        if older:
            self._roster.renew(newest)
        newest.looked_ns = home.modified_ns
        newest.began_empty = not cursor.head_bytes
        if not newest.began_empty:
            lane.copies_after = None

    async def _shows_truncation(self, found: Found, newest: Tailed, home: Found) -> bool:
        """Tell whether a copy is of what a log held when it was looked into, and the log has been truncated since.

        The log's own turn finds that out, and the copy; queued here as well it would be read twice.
        """
        cursor = newest.reader.cursor
        head = (await self._shell.hop(beginning_of, found))[: cursor.head_bytes]
        if not cursor.head_bytes or digest(head) != cursor.head_sha256:
            return False
        now = (await self._shell.hop(beginning_of, home))[: cursor.head_bytes]
        return digest(now) != cursor.head_sha256

    async def unread(self, lane: Lane, after: Found | None, here: Around, *, covered: bool, copied: bool = False) -> list[Found]:
        """Return the rotated files after one of a lane, oldest first, that were not and will not be read otherwise.

        Args:
            lane: The lane.
            after: The file after which to begin.
            here: The lane's path and what is beside it. The newest scan may be older: what it saw at the path may have been
                rotated since, and is then one of those that are returned.
            covered: The patterns name rotated files too, so that the lane's own are not in lanes by themselves.
            copied: They are copies; one of what the log holds now is being made, and is found once the log is truncated.

        Raises:
            OSError: A compressed file cannot be read, so that it cannot be told.
        """

        def known(one: Found) -> bool:
            if one.key in self._roster.files or (here.home is not None and one.key == here.home.key):
                return True
            names = self._roster.scan.names.get(one.key, ())
            return bool(names) and not covered and lane.path not in names

        candidates = discover.later(lane.path, after, here.siblings, known)
        strict = self._strict(lane)
        files = [found for found in candidates if not await self._roster.known.was_read(lane, found, strict=strict)]
        if not copied or here.home is None:
            return files
        return [found for found in files if not await self._shell.hop(is_copy_of, found, here.home)]


def first_seen_ns(cursor: Cursor) -> int:
    """Return when a file was seen first, nanoseconds since the epoch."""
    return ulid_milliseconds(cursor.file_id) * 1_000_000
