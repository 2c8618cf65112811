"""Find the file a cursor speaks of, wherever rotation has put it.

Invariants: content decides; device and inode, then age, then plain before compressed only say who is asked first. A file is
given to one cursor at most. Everything here runs on the reading thread and leaves no descriptor open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .discover import Found, look, siblings
from .handle import open_handle
from .identity import Judgement, Sameness, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ...intake import Cursor
    from .discover import Scan
    from .identity import Key

_NOTHING = Judgement(Sameness.OTHER, 0)


@dataclass(frozen=True, slots=True)
class Match:
    """The file of a cursor.

    Attributes:
        found: Where it is.
        judgement: Whether it is the same or was rolled back, and where to read on.
    """

    found: Found
    judgement: Judgement


def judge_at(cursor: Cursor, found: Found) -> Judgement:
    """Compare one file with a cursor; a file that cannot be read is another."""
    try:
        handle = open_handle(found.path)
    except OSError:
        return _NOTHING
    try:
        size = handle.size()
        return judge(cursor, handle.key, 2**62 if size is None else size, handle.read)
    except OSError:
        return _NOTHING
    finally:
        handle.close()


def locate(cursor: Cursor, taken: Collection[Key], names: Sequence[str] = ()) -> Match | None:
    """Look for a cursor's file under its path, its siblings' and other names.

    Args:
        cursor: What is remembered.
        taken: Files that belong to other cursors.
        names: Further names to try, such as those under which the patterns find the inode.

    Returns:
        The first file with the same content; failing that, the file itself as it was before; None if there is neither.
    """
    at_path = look(cursor.path)
    further = [found for found in map(look, names) if found is not None]
    candidates = ([] if at_path is None else [at_path]) + further + siblings(cursor.path)
    own = (cursor.device, cursor.inode)
    candidates.sort(key=lambda found: found.key != own)
    rolled_back = None
    seen = set(taken)
    for found in candidates:
        if found.key in seen:
            continue
        seen.add(found.key)
        judgement = judge_at(cursor, found)
        if judgement.sameness is Sameness.SAME:
            return Match(found, judgement)
        if judgement.sameness is Sameness.ROLLED_BACK and rolled_back is None and found.path == cursor.path:
            rolled_back = Match(found, judgement)
    return rolled_back


def locate_all(cursors: Sequence[Cursor], scan: Scan) -> list[tuple[Cursor, Match | None]]:
    """Look for the files of all cursors, those whose inode still fits first, so that equal beginnings do not mix them up.

    Returns:
        Every cursor with its match, in the order of the file ids (oldest file first).
    """
    taken: set[Key] = set()
    matches: dict[str, Match] = {}
    ordered = sorted(cursors, key=lambda cursor: cursor.file_id)
    for cursor in ordered:
        own = (cursor.device, cursor.inode)
        for path in (cursor.path, *scan.names.get(own, ())):
            found = look(path)
            if found is None or found.key != own or own in taken:
                continue
            judgement = judge_at(cursor, found)
            if judgement.sameness is Sameness.SAME:
                matches[cursor.file_id] = Match(found, judgement)
                taken.add(own)
            break
    for cursor in ordered:
        if cursor.file_id in matches:
            continue
        match = locate(cursor, taken, scan.names.get((cursor.device, cursor.inode), ()))
        if match is not None:
            matches[cursor.file_id] = match
            taken.add(match.found.key)
    return [(cursor, matches.get(cursor.file_id)) for cursor in ordered]
