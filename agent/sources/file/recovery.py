"""Find the file a cursor speaks of, wherever rotation has put it.

Invariants: content decides; device and inode, then age, then plain before compressed only say who is asked first. A file is
given to one cursor at most. Everything here runs on the reading thread and leaves no descriptor open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .discover import Found, around, look, subfolders
from .handle import open_handle
from .identity import HEAD_BYTES, Judgement, Sameness, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ...intake import Cursor
    from .discover import Scan
    from .handle import Handle
    from .identity import Key

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


@dataclass(frozen=True, slots=True)
class Unclear:
    """A file was not found, but it may be one that could not be looked at.

    Attributes:
        error: The first refusal.
    """

    error: OSError


class RacedError(Exception):
    """A name led to another file, or to none, when it was opened: whoever asked has to look again."""


def judge_at(cursor: Cursor, found: Found) -> Judgement:
    """Compare one file with a cursor.

    A file that cannot be read but has the cursor's inode is taken for the same until it can be: a refusal says nothing about
    its content.

    Raises:
        RacedError: The name does not lead to the file any more.
        OSError: Another file cannot be read.
    """
    try:
        handle = open_handle(found.path)
        try:
            if handle.key != found.key:
                raise RacedError(found.path)
            size = handle.size()
            return judge(cursor, handle.key, 2**62 if size is None else size, handle.read)
        finally:
            handle.close()
    except FileNotFoundError:
        raise RacedError(found.path) from None
    except OSError:
        if found.key == (cursor.device, cursor.inode):
            return Judgement(Sameness.SAME, cursor.offset)
        raise


def locate(cursor: Cursor, taken: Collection[Key], names: Sequence[str] = (), folders: Collection[str] = ()) -> Match | Unclear | None:
    """Look for a cursor's file under its path, its siblings' and other names, and at last in the folders beside it.

    Names may shift while they are looked at; the search begins anew until it was not disturbed or has found the file.

    Args:
        cursor: What is remembered.
        taken: Files that belong to other cursors.
        names: Further names to try, such as those under which the patterns find the inode.
        folders: Further folders into which the path's files are rotated.

    Returns:
        The first file with the same content; failing that, the file itself as it was before; None if there is neither.
    """
    answer: Match | Unclear | None = None
    for _ in range(_SEARCHES):
        answer, raced = _search(cursor, taken, names, folders)
        if not raced or _is_same(answer):
            break
    if answer is None:
        further, _ = _search(cursor, taken, names, subfolders(cursor.path))
        return further if _is_same(further) else None
    return answer


def _is_same(answer: Match | Unclear | None) -> bool:
    return isinstance(answer, Match) and answer.judgement.sameness is Sameness.SAME


def _search(cursor: Cursor, taken: Collection[Key], names: Sequence[str], folders: Collection[str]) -> tuple[Match | Unclear | None, bool]:
    """Look once; say also whether a name led elsewhere meanwhile."""
    try:
        here = around(cursor.path, folders)
        further = [found for found in map(look, names) if found is not None]
    except OSError as error:
        return Unclear(error), False
    candidates = ([] if here.home is None else [here.home]) + further + [*here.siblings]
    own = (cursor.device, cursor.inode)
    candidates.sort(key=lambda found: found.key != own)
    fallback: Match | Unclear | None = None
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
        except OSError as error:
            fallback = fallback or Unclear(error)
            continue
        if judgement.sameness is Sameness.SAME:
            return Match(found, judgement), raced
        if judgement.sameness is Sameness.ROLLED_BACK and fallback is None and found.path == cursor.path:
            fallback = Match(found, judgement)
    return fallback, raced


def is_twin(packed: Found, cursor: Cursor, plain: str) -> bool:
    """Tell whether a compressed file holds what was, or is being, read under a cursor.

    Args:
        packed: The compressed file.
        cursor: The position in the plain file.
        plain: Where the plain file can be opened; it is compared byte for byte while the cursor stands at 0.

    Raises:
        RacedError: The name does not lead to the compressed file any more.
        OSError: One of them cannot be read.
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
    else:
        return False
    finally:
        for handle in handles:
            handle.close()


def locate_all(cursors: Sequence[Cursor], scan: Scan, read: Collection[Key] = frozenset()) -> list[tuple[Cursor, Match | Unclear | None]]:
    """Look for the files of all cursors, those whose inode still fits first, so that equal beginnings do not mix them up.

    Args:
        cursors: What is remembered.
        scan: What the patterns name.
        read: Files that were read to their end: none of them is taken for one of which only the beginning is known.

    Returns:
        Every cursor with its match, in the order of the file ids (oldest file first).
    """
    taken: set[Key] = set()
    matches: dict[str, Match | Unclear | None] = {}
    ordered = sorted(cursors, key=lambda cursor: cursor.file_id)
    for cursor in ordered:
        match = _at_own_inode(cursor, scan, taken)
        if match is not None:
            matches[cursor.file_id] = match
            taken.add(match.found.key)
    for cursor in ordered:
        if cursor.file_id in matches:
            continue
        own = (cursor.device, cursor.inode)
        answer = locate(cursor, taken if cursor.offset else taken | set(read), scan.names.get(own, ()))
        matches[cursor.file_id] = answer
        if isinstance(answer, Match):
            taken.add(answer.found.key)
    return [(cursor, matches[cursor.file_id]) for cursor in ordered]


def _at_own_inode(cursor: Cursor, scan: Scan, taken: Collection[Key]) -> Match | None:
    own = (cursor.device, cursor.inode)
    for path in (cursor.path, *scan.names.get(own, ())):
        try:
            found = look(path)
            if found is None or found.key != own or own in taken:
                continue
            judgement = judge_at(cursor, found)
        except (OSError, RacedError):
            continue
        return Match(found, judgement) if judgement.sameness is Sameness.SAME else None
    return None


def beginning_of(found: Found) -> bytes:
    """Return the first bytes of a file; none if it cannot be read now."""
    beginning, _ = first_look(found)
    return beginning


def first_look(found: Found) -> tuple[bytes, int]:
    """Return the first bytes of a file and its size, both of one content; no bytes, and the size it had, if it cannot be read now.

    A file may be truncated between two questions: the size that a look at its folder showed may be that of what it held before.
    """
    try:
        handle = open_handle(found.path)
        try:
            if handle.key != found.key:
                return b"", found.size
            beginning = handle.read(0, HEAD_BYTES)
            size = handle.size() or 0
            whole = len(beginning) == HEAD_BYTES and handle.read(0, HEAD_BYTES) == beginning
            return beginning, max(size, len(beginning)) if whole else len(beginning)
        finally:
            handle.close()
    except OSError:
        return b"", found.size


def is_copy_of(found: Found, home: Found) -> bool:
    """Tell whether a file is, as far as it goes, what a log holds now: a copy that is made of it before it is truncated.

    One that cannot be read is none: it is read, or reported, in its own turn.
    """
    handles: list[Handle] = []
    try:
        handles += (open_handle(found.path), open_handle(home.path))
        left, right = handles
        offset = 0
        while data := left.read(offset, HEAD_BYTES if not offset else _STRIDE):
            if right.read(offset, len(data)) != data:
                return False
            offset += len(data)
    except OSError:
        return False
    else:
        return offset > 0
    finally:
        for handle in handles:
            handle.close()


def held_folder(fd: int) -> str | None:
    """Return the folder in which an open file lies now, None if it was deleted."""
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 -- a Path would resolve nothing more
    except OSError:
        return None
    return None if path.endswith(" (deleted)") else os.path.dirname(path)  # noqa: PTH120
