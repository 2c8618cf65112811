"""Follow files from their first sight to their end: found, rotated, truncated, rolled back, lost, finished.

Invariants:
    - A file whose content is known is never read twice, whatever its name or inode became.
    - A refusal to look is no answer: where a name, a folder or a candidate cannot be looked at, nothing is concluded; the path
      stays as it was and is looked at again. Only after `PATIENCE` refusals in a row is what cannot be read left out of account.

This module must not read lines or wait for events; `tail` does.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ...trail.records import Certainty, GapCause
from . import discover
from .discover import Found
from .identity import Judgement, Sameness
from .lane import Lane
from .losses import unread_of
from .reader import Reader
from .recovery import Match, RacedError, Unclear, judge_at, locate, locate_all
from .roster import GONE, Roster, Shell
from .successors import Successors, first_seen_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...intake import Cursor
    from .context import Context
    from .identity import Key
    from .lane import Tailed

PATIENCE: Final = 20
_RACE: Final = "what was written between the copy and the truncation is in neither"


class Lifecycle:
    """Decide what becomes of the files of one source."""

    def __init__(self, context: Context, patterns: Sequence[str], shell: Shell) -> None:
        """Begin with no files.

        Args:
            context: What all readers share.
            patterns: Globs.
            shell: The running source.
        """
        self.roster = Roster(context, shell)
        self._context = context
        self._patterns = tuple(patterns)
        self._shell = shell
        self._refusals: dict[str, int] = {}
        self._successors = Successors(self.roster, shell, self._waits_for)

    @property
    def lanes(self) -> dict[str, Lane]:
        """Return the lanes by path."""
        return self.roster.lanes

    @property
    def files(self) -> dict[Key, Tailed]:
        """Return the files by device and inode."""
        return self.roster.files

    async def begin(self, cursors: Sequence[Cursor], finished: Sequence[Cursor]) -> None:
        """Find the files of the durable cursors again, state what is lost, and queue what was rotated meanwhile.

        Args:
            cursors: The unfinished ones.
            finished: Those of files that were read to their end, as far as they are remembered.
        """
        roster = self.roster
        for cursor in finished:
            roster.known.remember((cursor.device, cursor.inode), cursor)
        roster.scan = await self._shell.hop(self._context.wrapped.scan, self._patterns)
        read = frozenset((cursor.device, cursor.inode) for cursor in finished)
        for cursor, match in await self._shell.hop(locate_all, cursors, roster.scan, read):
            if isinstance(match, Unclear):
                unplaced = Found(cursor.path, roster.unplaced(), cursor.size_seen, first_seen_ns(cursor))
                roster.add(cursor.path, unplaced, cursor).rotated = True
            elif match is None and (archive := await self._successors.archive_of(cursor)) is not None:
                await self._found_again(cursor, Match(archive, Judgement(Sameness.SAME, 0)))
            elif match is None:
                await roster.give_up(cursor, Certainty.UNBOUNDED)
                # What was written since the file was first seen has come after it.
                lane = roster.lanes.setdefault(cursor.path, Lane(cursor.path))
                lane.last = Found("", (cursor.device, cursor.inode), cursor.size_seen, first_seen_ns(cursor))
            else:
                await self._found_again(cursor, match)
        await self._apply()

    async def _found_again(self, cursor: Cursor, match: Match) -> None:
        found = match.found
        home = self.roster.scan.by_path.get(cursor.path)
        tailed = self.roster.add(cursor.path, found, await self._goes_on(cursor, match))
        tailed.lane.note_folder(found)
        tailed.rotated = home is None or home.key != found.key

    async def _goes_on(self, cursor: Cursor, match: Match) -> Cursor:
        """Return the cursor of a file where it was found again."""
        found = match.found
        if match.judgement.sameness is Sameness.ROLLED_BACK:
            return await self.roster.go_back(cursor, match.judgement)
        own = (cursor.device, cursor.inode)
        home = self.roster.scan.by_path.get(cursor.path)
        if found.key != own and not cursor.rotated and home is not None and home.key == own:
            # The inode is still at the path, with other content: what was found is a copy made before a truncation.
            return replace(cursor, copied=True)
        return _rebound(cursor, found.key)

    async def rescan(self) -> None:
        """Look through the folders and follow what has changed."""
        self.roster.scan = await self._shell.hop(self._context.wrapped.scan, self._patterns)
        await self._apply()

    async def _apply(self) -> None:
        roster = self.roster
        strayed = await self._look_at_parked()
        unclear = set()
        for lane in list(roster.lanes.values()):
            try:
                await self._follow_lane(lane, strayed)
            except OSError as error:
                unclear.add(lane.path)
                self._refusals[lane.path] = self._refusals.get(lane.path, 0) + 1
                self._shell.unclear(lane.path, error)
            else:
                self._refusals.pop(lane.path, None)
                self._shell.unclear(lane.path, None)
        for key, names in roster.scan.names.items():
            # A path of which nothing is clear keeps its order: what is there now comes after what is not found yet.
            if key not in roster.files and unclear.isdisjoint(names):
                found = roster.scan.by_path[names[0]]
                if not await self._is_left_to_lane(found):
                    tailed = roster.add(found.path, found, await roster.resume_or_new(found, found.path))
                    # A refusal is met again at the next look at this lane.
                    with suppress(OSError):
                        await self._successors.queue_missed(tailed.lane, found)
        await roster.note_new()

    async def _is_left_to_lane(self, found: Found) -> bool:
        """Tell whether a file that the patterns name is, or may be, a copy of a log that is or was truncated.

        The log's own turn tells what it is (`changed`); taken for a log in its own right it would be read twice.
        """
        for path in discover.origins(found.path):
            lane = self.lanes.get(path)
            newest = lane.files[-1] if lane is not None and lane.files else None
            if newest is None or newest.rotated or not newest.reader.cursor.offset:
                continue
            home = self.roster.scan.by_path.get(path)
            try:
                if (await self._shell.hop(judge_at, newest.reader.cursor, found)).sameness is Sameness.SAME:
                    return True
                if home is not None and (await self._shell.hop(judge_at, newest.reader.cursor, home)).sameness is Sameness.OTHER:
                    self._wake(newest)
                    return True
            except RacedError:
                # The folder has changed, and is looked through again.
                return True
            except OSError:
                continue
        return False

    async def _follow_lane(self, lane: Lane, strayed: set[Tailed]) -> None:
        """Bring one path up to date with the newest look at the folders.

        Raises:
            OSError: The system refused to say what there is.
        """
        # The scan shows a name that cannot be looked at as if it were not there.
        home = self.roster.scan.by_path.get(lane.path) or await self._shell.hop(discover.look, lane.path)
        for tailed in list(lane.files):
            if home is not None and home.key == tailed.key and tailed.rotated and tailed.reader.fd is None:
                await self._tell_apart(tailed, home)
            if tailed in lane.files:
                await self._follow(tailed, home, strayed=tailed in strayed)
        newest = lane.files[-1].key if lane.files else None
        if home is None or home.key != newest:
            await self._successors.queue_later(lane)
        else:
            await self._successors.queue_copies(lane, home)
        if not lane.files and home is None:
            self.roster.lanes.pop(lane.path, None)

    async def _tell_apart(self, tailed: Tailed, home: Found) -> None:
        """Look elsewhere for a rotated file if the one that now has its inode is another: it was compressed or deleted."""
        judgement = await self._shell.hop(judge_at, tailed.reader.cursor, home)
        if judgement.sameness is Sameness.OTHER:
            await self.moved(tailed)

    async def _look_at_parked(self) -> set[Tailed]:
        """Look at the closed files that no pattern names, in one go, and return those that are not where they were."""
        parked = [tailed for tailed in self.files.values() if tailed.parked and tailed.key not in self.roster.scan.names]
        if not parked:
            return set()
        looks = await self._shell.hop(discover.look_at, [tailed.reader.path for tailed in parked])
        strayed = set()
        for tailed, found in zip(parked, looks, strict=True):
            if found is not None and found.key == tailed.key:
                tailed.seen = found
            else:
                strayed.add(tailed)
        return strayed

    async def _follow(self, tailed: Tailed, home: Found | None, *, strayed: bool) -> None:
        """Bring one file up to date with the newest look at the folders."""
        names = self.roster.scan.names.get(tailed.key, ())
        before, tailed.names = tailed.names, frozenset(names)
        if home is not None and home.key == tailed.key:
            tailed.rotated = False
            tailed.reader.amend(rotated=False)
            tailed.reader.path = home.path
        elif not tailed.rotated:
            stayed = sorted(before & tailed.names)
            if stayed and not tailed.settled:
                self.roster.move(tailed, stayed[0])
            else:
                tailed.rotated = True
                tailed.ended_at = None
                self._shell.ready(tailed.lane)
        if names:
            if tailed.reader.path not in names:
                tailed.reader.path = names[0]
            tailed.seen = self.roster.scan.by_path[names[0]]
            if tailed.seen.size != tailed.size:
                self._wake(tailed)
        elif not tailed.parked or (not strayed and tailed.seen.size != tailed.size):
            self._wake(tailed)
        elif not await self._may_go_on(tailed, strayed=strayed):
            await self.roster.finish(tailed)

    def _wake(self, tailed: Tailed) -> None:
        tailed.woken = True
        self._shell.ready(tailed.lane)

    def may_not_read(self, lane: Lane) -> bool:
        """Tell whether a lane of which it is not clear what became of it must wait, as what is there may not be what comes next.

        A file that is not found yet is looked for in its turn, so a lane with one has turns.
        """
        return self._waits_for(lane) and not any(tailed.is_unplaced for tailed in lane.files)

    def _waits_for(self, lane: Lane) -> bool:
        return self._refusals.get(lane.path, 0) < PATIENCE

    async def _search(self, tailed: Tailed, *, anew: bool) -> Match | None:
        """Look for a file among its siblings, but not among those that belong to other cursors.

        Args:
            tailed: The file.
            anew: Its inode holds something else now, so that it is not to be found there.

        Raises:
            OSError: It was not found, and something that may be it cannot be read.
        """
        taken = frozenset(key for key, other in self.files.items() if anew or other is not tailed)
        lane = tailed.lane
        cursor = tailed.reader.cursor
        match = await self._shell.hop(locate, cursor, taken, sorted(tailed.names), lane.folders)
        if not isinstance(match, Unclear):
            self._refusals.pop(lane.path, None)
            return match
        if self._waits_for(lane):
            self._refusals[lane.path] = self._refusals.get(lane.path, 0) + 1
            raise match.error
        return None

    async def changed(self, tailed: Tailed, judgement: Judgement) -> None:
        """Go on with a file that is not what it was: rolled back, or truncated and perhaps written anew.

        Raises:
            OSError: It may have been copied before, but what may be the copy cannot be read.
        """
        roster = self.roster
        cursor = tailed.reader.cursor
        path = tailed.reader.path
        if judgement.sameness is Sameness.ROLLED_BACK:
            self._shell.release(tailed)
            tailed.ended_at = None
            tailed.reader = Reader(self._context, await roster.go_back(cursor, judgement), path)
            return
        match = await self._search(tailed, anew=True)
        copies: list[tuple[Found, Cursor]] = []
        if match is not None and match.judgement.sameness is Sameness.SAME:
            here = await self._successors.around(tailed.lane)
            covered = match.found.key in roster.scan.names
            later = await self._successors.unread(tailed.lane, match.found, here, covered=covered, copied=True)
            cursor = replace(cursor, copied=True)
            starts = [await roster.resume_or_new(found, tailed.lane.path, copied=True) for found in later]
            copies = [(match.found, cursor), *zip(later, starts, strict=True)]
        # A copy that does not have all that was read is none to look for: what it has would be in the trail twice.
        tailed.lane.copies_after = match.found if copies and match is not None else None
        self._shell.release(tailed)
        tailed.ended_at = None
        accounted = max(cursor.offset, cursor.size_seen)
        tailed.reader = Reader(self._context, roster.fresh(cursor.path, tailed.key, 0), path, hole_from=accounted)
        tailed.began_empty = True
        for found, start in copies:
            roster.add(tailed.lane.path, found, start, before=tailed).rotated = True
        if copies:
            await roster.state(cursor, [], cursor, tailed.reader.cursor)
            await roster.note_new()
            return
        losses = unread_of(cursor, GapCause.TRUNCATED, Certainty.POSSIBLE, GONE[GapCause.TRUNCATED])
        await roster.end(cursor, losses, tailed.reader.cursor)

    async def moved(self, tailed: Tailed) -> None:
        """Find a file again whose name leads elsewhere and which is not open; state the loss if it cannot be found.

        Raises:
            OSError: It was not found, and something that may be it cannot be read.
        """
        cursor = tailed.reader.cursor
        match = await self._search(tailed, anew=False)
        if match is None:
            if tailed.settled:
                await self.roster.finish(tailed)
                return
            self.roster.remove(tailed)
            await self.roster.give_up(cursor, Certainty.POSSIBLE)
            return
        self.roster.place(tailed, match.found, await self._goes_on(cursor, match))

    async def ended(self, tailed: Tailed) -> None:
        """Note that a rotated file was read to its end, its last line included, as a copy's end is a truncation's gap."""
        tailed.settled = True
        if tailed.copied:
            # The copy is what will be met again, not the log it was made of.
            cursor = _rebound(tailed.reader.cursor, tailed.key)
            for other in tailed.lane.files:
                if other.reader.hole_from is not None:
                    other.reader.hole_from = cursor.offset
            losses = unread_of(cursor, GapCause.TRUNCATED, Certainty.POSSIBLE, _RACE)
            if tailed.reader.cut_from is not None:
                # The rest of a line that the copy ends in is lost, and with it what the line was.
                losses[-1] = losses[-1]._replace(start=tailed.reader.cut_from)
            self.roster.remove(tailed)
            await self.roster.end(cursor, losses)
        elif tailed.reader.fixed:
            await self.roster.finish(tailed)
        elif tailed.reader.amend(rotated=True):
            await self.roster.state(tailed.reader.cursor, [], tailed.reader.cursor)

    async def expire(self, tailed: Tailed) -> None:
        """Give a settled file up: finish its cursor, or only close it while something may still come of it.

        Raises:
            OSError: The system refused to say whether it is still there.
        """
        if tailed.names or await self._may_go_on(tailed, strayed=True):
            tailed.parked = True
            self._shell.release(tailed)
        else:
            await self.roster.finish(tailed)

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
        here = await self._successors.around(tailed.lane)
        found = next((one for one in here.siblings if one.key == tailed.key), None)
        if found is not None:
            tailed.reader.path = found.path
            tailed.seen = found
        return found is not None


def _rebound(cursor: Cursor, key: Key) -> Cursor:
    return replace(cursor, device=key[0], inode=key[1])
