"""Find the file a cursor speaks of, wherever rotation has put it.

Invariants: content decides; device and inode, then age, then plain before compressed only say who is asked first. A file is
given to one cursor at most. Everything here runs on the reading thread and leaves no descriptor open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .discover import Found, around, look
from .handle import open_handle
from .identity import Judgement, Sameness, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ...intake import Cursor
    from .discover import Scan
    from .handle import Handle
    from .identity import Key

_NOTHING: Final = Judgement(Sameness.OTHER, 0)
_SEARCHES: Final = 50
_STRIDE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Match:
    """The file of a cursor.

    Attributes:
        found: Where it is.
        judgement: Whether it is the same or was rolled back, and where to read on.
    """

    found: Found
    judgement: Judgement


class RacedError(Exception):
    """A name led to another file, or to none, when it was opened: whoever asked has to look again."""


def judge_at(cursor: Cursor, found: Found) -> Judgement:
    """Compare one file with a cursor.

    A file that cannot be read is another one, unless its inode is the cursor's: then it is taken for the same until it can
    be read, as a refusal says nothing about its content.

    Raises:
        RacedError: The name does not lead to the file any more.
    """
    try:
        handle = open_handle(found.path)
    except FileNotFoundError:
        raise RacedError(found.path) from None
    except OSError:
        return _unreadable(cursor, found)
    try:
        if handle.key != found.key:
            raise RacedError(found.path)
        size = handle.size()
        return judge(cursor, handle.key, 2**62 if size is None else size, handle.read)
    except OSError:
        return _unreadable(cursor, found)
    finally:
        handle.close()


def _unreadable(cursor: Cursor, found: Found) -> Judgement:
    return Judgement(Sameness.SAME, cursor.offset) if found.key == (cursor.device, cursor.inode) else _NOTHING


def locate(cursor: Cursor, taken: Collection[Key], names: Sequence[str] = ()) -> Match | None:
    """Look for a cursor's file under its path, its siblings' and other names.

    Names may shift while they are looked at; the search begins anew until it was not disturbed or has found the file.

    Args:
        cursor: What is remembered.
        taken: Files that belong to other cursors.
        names: Further names to try, such as those under which the patterns find the inode.

    Returns:
        The first file with the same content; failing that, the file itself as it was before; None if there is neither.
    """
    match = None
    for _ in range(_SEARCHES):
        match, raced = _search(cursor, taken, names)
        if not raced or (match is not None and match.judgement.sameness is Sameness.SAME):
            break
    return match


def _search(cursor: Cursor, taken: Collection[Key], names: Sequence[str]) -> tuple[Match | None, bool]:
    """Look once; say also whether a name led elsewhere meanwhile."""
    here = around(cursor.path)
    further = [found for found in map(look, names) if found is not None]
    candidates = ([] if here.home is None else [here.home]) + further + [*here.siblings]
    own = (cursor.device, cursor.inode)
    candidates.sort(key=lambda found: found.key != own)
    rolled_back = None
    raced = False
    seen = set(taken)
    for found in candidates:
        if found.key in seen:
            continue
        seen.add(found.key)
        try:
            judgement = judge_at(cursor, found)
        except RacedError:
            raced = True
            continue
        if judgement.sameness is Sameness.SAME:
            return Match(found, judgement), raced
        if judgement.sameness is Sameness.ROLLED_BACK and rolled_back is None and found.path == cursor.path:
            rolled_back = Match(found, judgement)
    return rolled_back, raced


def is_twin(packed: Found, cursor: Cursor, plain: str) -> bool:
    """Tell whether a compressed file holds what was, or is being, read under a cursor.

    Args:
        packed: The compressed file.
        cursor: The position in the plain file.
        plain: Where the plain file can be opened; it is compared byte for byte while the cursor stands at 0.

    Raises:
        RacedError: The name does not lead to the compressed file any more.
    """
    if cursor.offset:
        return judge_at(cursor, packed).sameness is Sameness.SAME
    handles: list[Handle] = []
    try:
        handles += (open_handle(packed.path), open_handle(plain))
        left, right = handles
        offset = 0
        while (data := left.read(offset, _STRIDE)) == right.read(offset, _STRIDE):
            if not data:
                return offset > 0
            offset += len(data)
    except FileNotFoundError:
        raise RacedError(packed.path) from None
    except OSError:
        return False
    else:
        return False
    finally:
        for handle in handles:
            handle.close()


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
            try:
                judgement = judge_at(cursor, found)
            except RacedError:
                continue
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
