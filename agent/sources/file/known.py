"""Remember the files that were read to their end and have left their lane, so that none of them is read again.

Invariants: what is remembered is bounded, the oldest goes first; content decides, an inode only says whose content to compare.
This module must not decide what happens to a file; `lifecycle` does.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from .handle import GZIP_SUFFIX
from .identity import Judgement, Sameness
from .recovery import RacedError, is_twin, judge_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...intake import Cursor
    from .discover import Found
    from .identity import Key
    from .lane import Lane, Tailed

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
_REMEMBERED: Final = 4096


class Hop(Protocol):
    """Run a function on the reading thread."""

    async def __call__(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Return what the function returns."""
        ...


class Known:
    """Know the last cursors of files that were read to their end."""

    def __init__(self, hop: Hop) -> None:
        """Begin with none.

        Args:
            hop: Runs what opens files.
        """
        self._hop = hop
        self._ended: OrderedDict[Key, Cursor] = OrderedDict()
        self._twins: OrderedDict[Found, None] = OrderedDict()

    def remember(self, key: Key, cursor: Cursor) -> None:
        """Note where a file was left."""
        self._ended[key] = cursor
        _trim(self._ended)

    async def resume(self, found: Found) -> Cursor | None:
        """Return where a file was left, and forget it; None if it is not one that was read."""
        ended = self._ended.pop(found.key, None)
        if ended is not None and ended.offset and (await self._judge(ended, found)).sameness is Sameness.SAME:
            return ended
        return None

    async def was_read(self, lane: Lane, found: Found, *, strict: bool = True) -> bool:
        """Tell whether a file was read to its end, or is the compressed twin of one of the lane that was or is being read.

        Args:
            lane: The lane it would belong to.
            found: The file.
            strict: Whether it may be said that it cannot be told; else a file that cannot be read is no twin.

        Raises:
            OSError: It cannot be told, as a file cannot be read.
        """
        ended = self._ended.get(found.key)
        if ended is not None and ended.offset == found.size and (await self._judge(ended, found)).sameness is Sameness.SAME:
            return True
        if not found.path.endswith(GZIP_SUFFIX):
            return False
        if found in self._twins:
            return True
        plain = [(one.reader.cursor, _openable(one)) for one in lane.files]
        plain += [(cursor, "") for cursor in self._ended.values() if cursor.path == lane.path and cursor.offset]
        try:
            for cursor, path in plain:
                if await self._hop(is_twin, found, cursor, path):
                    self._twins[found] = None
                    _trim(self._twins)
                    return True
        except RacedError:
            # It is looked for again with the next change of the folder, which this is.
            return True
        except OSError:
            if strict:
                raise
        return False

    async def archive_of(self, tailed: Tailed, siblings: Sequence[Found]) -> Found | None:
        """Return the compressed file that has taken a file's place; None if there is none.

        Raises:
            OSError: It cannot be told.
        """
        for found in siblings:
            if found.path.endswith(GZIP_SUFFIX):
                try:
                    if await self._hop(is_twin, found, tailed.reader.cursor, _openable(tailed)):
                        return found
                except RacedError:
                    raise BlockingIOError(errno.EAGAIN, "the names beside the file are changing") from None
        return None

    async def _judge(self, cursor: Cursor, found: Found) -> Judgement:
        try:
            return await self._hop(judge_at, cursor, found)
        except RacedError:
            return Judgement(Sameness.OTHER, 0)


def _openable(tailed: Tailed) -> str:
    """Return a path by which a file can be opened, also if it has no name any more."""
    return tailed.reader.path if tailed.reader.fd is None else f"/proc/self/fd/{tailed.reader.fd}"


def _trim(remembered: OrderedDict[_K, _V]) -> None:
    if len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
