"""Follow files from their first sight to their end: found, rotated, truncated, rolled back, lost, finished.

Invariants: every end of a cursor is one append, with the gap records that belong to it; a file whose content is known is
never read twice, whatever its name or inode became. This module must not read lines or wait for events; `tail` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from msgspec.structs import replace

from ...intake import Cursor
from ...trail.records import Certainty, GapCause
from ...trail.ulid import RANDOM_BYTES, new_ulid
from . import discover
from .appends import time_text
from .discover import Found, Scan
from .handle import GZIP_SUFFIX
from .identity import Judgement, Sameness
from .known import Known
from .lane import Lane, Tailed
from .losses import gap_append, unread_of
from .reader import Context, Reader
from .recovery import locate, locate_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...intake import Append
    from .discover import Around
    from .identity import Key

_T = TypeVar("_T")
_RACE: Final = "what was written between the copy and the truncation is in neither"
_GONE: Final = {
    GapCause.TRUNCATED: "the file was truncated and no copy of its content was found",
    GapCause.ROTATED_AWAY: "the path leads to another file and the old one was not found among its siblings",
    GapCause.VANISHED: "the file is gone and was not found among its siblings",
}


class Shell(Protocol):
    """What the lifecycle asks of the running source."""

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


class Lifecycle:
    """Own the lanes of one source."""

    def __init__(self, context: Context, patterns: Sequence[str], shell: Shell) -> None:
        """Begin with no files.

        Args:
            context: What all readers share.
            patterns: Globs.
            shell: The running source.
        """
        self.lanes: dict[str, Lane] = {}
        self.files: dict[Key, Tailed] = {}
        self.scan = Scan()
        self._context = context
        self._patterns = tuple(patterns)
        self._shell = shell
        self._known = Known(shell.hop)
        self._newest_id = 0
        self._new: list[Cursor] = []

    async def begin(self, cursors: Sequence[Cursor]) -> None:
        """Find the files of the durable cursors again, state what is lost, and queue what was rotated meanwhile."""
        self.scan = await self._shell.hop(self._context.wrapped.scan, self._patterns)
        for cursor, match in await self._shell.hop(locate_all, cursors, self.scan):
            if match is None:
                await self._give_up(cursor, Certainty.UNBOUNDED)
                continue
            found = match.found
            home = self.scan.by_path.get(cursor.path)
            if match.judgement.sameness is Sameness.ROLLED_BACK:
                tailed = self._add(cursor.path, found, await self._go_back(cursor, match.judgement))
            else:
                copied = found.key != (cursor.device, cursor.inode) and home is not None and home.key == (cursor.device, cursor.inode)
                tailed = self._add(cursor.path, found, cursor if copied else _rebound(cursor, found.key))
                # Where the inode is still at the path with other content, what was found is a copy made before a truncation.
                tailed.copied = copied
            tailed.rotated = home is None or home.key != found.key
        for lane in list(self.lanes.values()):
            await self._queue_later(lane)
        await self._apply()

    async def rescan(self) -> None:
        """Look through the folders and follow what has changed."""
        self.scan = await self._shell.hop(self._context.wrapped.scan, self._patterns)
        await self._apply()

    async def _apply(self) -> None:
        scan = self.scan
        strayed = await self._look_at_parked()
        for lane in list(self.lanes.values()):
            home = scan.by_path.get(lane.path)
            for tailed in list(lane.files):
                await self._follow(tailed, home, strayed=tailed in strayed)
            newest = lane.files[-1].key if lane.files else None
            if home is None or home.key != newest:
                await self._queue_later(lane)
            if not lane.files and home is None:
                del self.lanes[lane.path]
        for key, names in scan.names.items():
            if key not in self.files:
                found = scan.by_path[names[0]]
                self._add(found.path, found, await self._resume_or_new(found, found.path))
        await self._note_new()

    async def _look_at_parked(self) -> set[Tailed]:
        """Look at the closed files that no pattern names, in one go, and return those that are not where they were."""
        parked = [tailed for tailed in self.files.values() if tailed.parked and tailed.key not in self.scan.names]
        if not parked:
            return set()
        shown = await self._shell.hop(discover.look_at, [tailed.reader.path for tailed in parked])
        strayed = set()
        for tailed, found in zip(parked, shown, strict=True):
            if found is not None and found.key == tailed.key:
                tailed.seen = found
            else:
                strayed.add(tailed)
        return strayed

    async def _note_new(self) -> None:
        """Make the cursors of files seen for the first time durable, so that they are missed if they go unread."""
        if self._new:
            first, new = self._new[0], tuple(self._new)
            self._new.clear()
            await self._shell.submit(gap_append(first, (), new, self._now()))

    async def _follow(self, tailed: Tailed, home: Found | None, *, strayed: bool) -> None:
        """Bring one file up to date with the newest look at the folders."""
        names = self.scan.names.get(tailed.key, ())
        before, tailed.names = tailed.names, frozenset(names)
        if home is not None and home.key == tailed.key:
            tailed.rotated = False
            tailed.reader.path = home.path
        elif not tailed.rotated:
            stayed = sorted(before & tailed.names)
            if stayed and not tailed.settled:
                self._move(tailed, stayed[0])
            else:
                tailed.rotated = True
                tailed.ended_at = None
                self._shell.ready(tailed.lane)
        if names:
            if tailed.reader.path not in names:
                tailed.reader.path = names[0]
            tailed.seen = self.scan.by_path[names[0]]
            if tailed.seen.size != tailed.size:
                tailed.woken = True
                self._shell.ready(tailed.lane)
        elif tailed.parked:
            if not strayed and tailed.seen.size != tailed.size:
                tailed.woken = True
                self._shell.ready(tailed.lane)
            elif not await self._may_go_on(tailed, strayed=strayed):
                await self._finish(tailed)
        else:
            tailed.woken = True
            self._shell.ready(tailed.lane)

    def _move(self, tailed: Tailed, path: str) -> None:
        """Let a file that lost one of its names go on under another one it had before."""
        tailed.lane.files.remove(tailed)
        tailed.lane = self.lanes.setdefault(path, Lane(path))
        tailed.lane.files.append(tailed)
        tailed.reader.path = path
        tailed.reader.rename(path)
        self._shell.ready(tailed.lane)

    async def _queue_later(self, lane: Lane) -> None:
        """Queue the rotated files that were written after the lane's newest one and were never seen at its path."""
        newest = lane.files[-1] if lane.files else None
        if newest is not None and not newest.rotated:
            return
        key = newest.key if newest is not None else lane.last.key if lane.last is not None else None
        if key is None:
            return
        here = await self._shell.hop(discover.around, lane.path)
        mark = next((one for one in here.siblings if one.key == key), None)
        if mark is None:
            mark = lane.last if newest is None else await self._shell.hop(_shown, newest)
        for found in await self._unread(lane, mark, here, covered=key in self.scan.names):
            tailed = self._add(lane.path, found, await self._resume_or_new(found, lane.path))
            tailed.rotated = True
            # Between copies that a truncation left behind there are only more of them.
            tailed.copied = newest is not None and newest.copied

    async def _unread(self, lane: Lane, after: Found | None, here: Around, *, covered: bool) -> list[Found]:
        """Return the rotated files after one of a lane, oldest first, that were not and will not be read otherwise.

        Args:
            lane: The lane.
            after: The file after which to begin.
            here: The lane's path and what is beside it. The newest scan may be older: what it saw at the path may have been
                rotated since, and is then one of those that are returned.
            covered: The patterns name rotated files too, so that the lane's own are not in lanes by themselves.
        """

        def known(one: Found) -> bool:
            if one.key in self.files or (here.home is not None and one.key == here.home.key):
                return True
            names = self.scan.names.get(one.key, ())
            return bool(names) and not covered and lane.path not in names

        candidates = discover.later(lane.path, after, here.siblings, known)
        return [found for found in candidates if not await self._known.was_read(lane, found)]

    async def _resume_or_new(self, found: Found, path: str) -> Cursor:
        """Return where to begin in a file that is in no lane: where it was left, if it is one that was read before."""
        ended = await self._known.resume(found)
        if ended is not None:
            return ended
        # The size of a compressed file says nothing about the size of what is in it.
        fresh = self._fresh(path, found.key, 0 if found.path.endswith(GZIP_SUFFIX) else found.size)
        self._new.append(fresh)
        return fresh

    def _fresh(self, path: str, key: Key, size: int) -> Cursor:
        return Cursor(source=self._context.source, file_id=self._new_id(), path=path, device=key[0], inode=key[1], size_seen=size)

    def _new_id(self) -> str:
        """Return a ULID; within one source they sort by the order in which they were given."""
        self._newest_id = max(self._newest_id + 1, int(self._context.clock.now().timestamp() * 1000))
        return new_ulid(self._newest_id, os.urandom(RANDOM_BYTES))

    def _add(self, path: str, found: Found, cursor: Cursor, *, before: Tailed | None = None) -> Tailed:
        lane = self.lanes.setdefault(path, Lane(path))
        tailed = Tailed(Reader(self._context, cursor, found.path, key=found.key), lane, found)
        tailed.names = frozenset(self.scan.names.get(found.key, ()))
        lane.files.insert(len(lane.files) if before is None else lane.files.index(before), tailed)
        self.files[found.key] = tailed
        self._shell.ready(lane)
        return tailed

    async def changed(self, tailed: Tailed, judgement: Judgement) -> None:
        """Go on with a file that is not what it was: rolled back, or truncated and perhaps written anew."""
        cursor = tailed.reader.cursor
        path = tailed.reader.path
        self._shell.release(tailed)
        tailed.ended_at = None
        if judgement.sameness is Sameness.ROLLED_BACK:
            tailed.reader = Reader(self._context, await self._go_back(cursor, judgement), path)
            return
        match = await self._shell.hop(locate, cursor, frozenset(self.files))
        accounted = max(cursor.offset, cursor.size_seen)
        tailed.reader = Reader(self._context, self._fresh(cursor.path, tailed.key, 0), path, hole_from=accounted)
        if match is not None and match.judgement.sameness is Sameness.SAME:
            here = await self._shell.hop(discover.around, tailed.lane.path)
            later = await self._unread(tailed.lane, match.found, here, covered=match.found.key in self.scan.names)
            copies = [(match.found, cursor), *[(found, await self._resume_or_new(found, tailed.lane.path)) for found in later]]
            for found, begin in copies:
                copy = self._add(tailed.lane.path, found, begin, before=tailed)
                copy.rotated = copy.copied = True
            await self._shell.submit(gap_append(cursor, (), (tailed.reader.cursor,), self._now()))
            await self._note_new()
            return
        losses = unread_of(cursor, GapCause.TRUNCATED, Certainty.POSSIBLE, _GONE[GapCause.TRUNCATED])
        await self._shell.submit(gap_append(cursor, losses, (_finished(cursor), tailed.reader.cursor), self._now()))

    async def moved(self, tailed: Tailed) -> None:
        """Find a file again whose name leads elsewhere and which is not open; state the loss if it cannot be found."""
        cursor = tailed.reader.cursor
        taken = frozenset(key for key, other in self.files.items() if other is not tailed)
        match = await self._shell.hop(locate, cursor, taken, sorted(tailed.names))
        if match is None:
            if tailed.settled:
                await self._finish(tailed)
                return
            self._remove(tailed)
            await self._give_up(cursor, Certainty.POSSIBLE)
            return
        del self.files[tailed.key]
        if match.judgement.sameness is Sameness.ROLLED_BACK:
            cursor = await self._go_back(cursor, match.judgement)
        tailed.reader = Reader(self._context, _rebound(cursor, match.found.key), match.found.path)
        self.files[match.found.key] = tailed
        tailed.rotated = match.found.path != tailed.lane.path

    async def ended(self, tailed: Tailed) -> None:
        """Note that a rotated file was read to its end, its last line included, as a copy's end is a truncation's gap."""
        tailed.settled = True
        if tailed.copied:
            cursor = tailed.reader.cursor
            losses = unread_of(cursor, GapCause.TRUNCATED, Certainty.POSSIBLE, _RACE)
            for other in tailed.lane.files:
                if other.reader.hole_from is not None:
                    other.reader.hole_from = cursor.offset
            self._remove(tailed)
            await self._shell.submit(gap_append(cursor, losses, (_finished(cursor),), self._now()))
        elif tailed.reader.fixed:
            await self._finish(tailed)

    async def expire(self, tailed: Tailed) -> None:
        """Give a settled file up: finish its cursor, or only close it while something may still come of it."""
        if tailed.names or await self._may_go_on(tailed, strayed=True):
            tailed.parked = True
            self._shell.release(tailed)
        else:
            await self._finish(tailed)

    async def _may_go_on(self, tailed: Tailed, *, strayed: bool) -> bool:
        """Tell whether a renamed file is the newest one of its lane to be rotated, and is still there.

        If it has no successor yet, one that comes and goes would be missed if it were forgotten. If it has, its writer may not
        have noticed the rotation, and writes to it until it is told.
        """
        files = tailed.lane.files
        if any(other.rotated for other in files[files.index(tailed) + 1 :]):
            return False
        if not strayed:
            return True
        here = await self._shell.hop(discover.around, tailed.lane.path)
        found = next((one for one in here.siblings if one.key == tailed.key), None)
        if found is not None:
            tailed.reader.path = found.path
            tailed.seen = found
        return found is not None

    async def _finish(self, tailed: Tailed) -> None:
        """End a settled file's cursor; what it was seen to have grown by since it was closed is lost if it cannot be read."""
        cursor = tailed.reader.cursor
        self._remove(tailed)
        grown = tailed.seen.size if tailed.parked and not tailed.seen.path.endswith(GZIP_SUFFIX) else 0
        losses = unread_of(replace(cursor, size_seen=grown), GapCause.VANISHED, None, _GONE[GapCause.VANISHED])
        await self._shell.submit(gap_append(cursor, losses, (_finished(cursor),), self._now()))

    def _remove(self, tailed: Tailed) -> None:
        tailed.lane.last = _shown(tailed)
        tailed.lane.files.remove(tailed)
        del self.files[tailed.key]
        self._shell.release(tailed)
        self._known.remember(tailed.key, tailed.reader.cursor)

    async def _give_up(self, cursor: Cursor, beyond: Certainty) -> None:
        """State that nothing more of a file can be read, and end its cursor."""
        home = self.scan.by_path.get(cursor.path)
        if home is None:
            cause = GapCause.VANISHED
        else:
            cause = GapCause.TRUNCATED if home.key == (cursor.device, cursor.inode) else GapCause.ROTATED_AWAY
        nothing_seen = not cursor.offset and not cursor.size_seen and beyond is Certainty.POSSIBLE
        losses = [] if nothing_seen else unread_of(cursor, cause, beyond, _GONE[cause])
        await self._shell.submit(gap_append(cursor, losses, (_finished(cursor),), self._now()))

    async def _go_back(self, cursor: Cursor, judgement: Judgement) -> Cursor:
        """State that a file was rolled back, and return the cursor of what it is now, at the newest mark that still fits."""
        anchors = tuple(anchor for anchor in cursor.anchors if anchor.offset <= judgement.offset)
        again = replace(cursor, file_id=self._new_id(), offset=judgement.offset, size_seen=judgement.offset, anchors=anchors)
        detail = f"the file is as it was when it was shorter; it is read again from byte {judgement.offset} as file {again.file_id}"
        losses = unread_of(cursor, GapCause.ROLLED_BACK, Certainty.POSSIBLE, detail)
        await self._shell.submit(gap_append(cursor, losses, (_finished(cursor), again), self._now()))
        return again

    def _now(self) -> str:
        return time_text(self._context.clock.now())


def _shown(tailed: Tailed) -> Found:
    """Return an open file as it is now, a closed one as it was last seen: its name may lead to another one by now."""
    return tailed.seen if tailed.reader.fd is None else tailed.reader.look()


def _finished(cursor: Cursor) -> Cursor:
    return replace(cursor, finished=True)


def _rebound(cursor: Cursor, key: Key) -> Cursor:
    return replace(cursor, device=key[0], inode=key[1])
