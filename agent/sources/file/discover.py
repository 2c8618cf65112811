"""Find the files that patterns name, and the rotated names beside one.

Invariants: a file is its (device, inode), whatever its names and links; compressed files are never taken for logs in their
own right. This module must not open files; it looks at names and stat(2) only.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cmp_to_key, lru_cache, partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from .handle import GZIP_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .identity import Key

_COMPRESSED: Final = (GZIP_SUFFIX, ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")
_UNFINISHED: Final = ".tmp"
"""The kubelet compresses into such a file, which gets its name when it is complete."""
_MAGIC: Final = re.compile(r"[*?[]")
_TURNED: Final = re.compile(r"[.\-_~@](\d[\w.\-:+]*|old|bak|prev|previous|backup)")
_NUMBER: Final = re.compile(r"\d{1,5}")
_LOOKS: Final = 50
_SUBFOLDERS: Final = 4096
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_REST_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a look at its folder shows it.

    Attributes:
        path: The name it was found under.
        key: Device and inode.
        size: In bytes.
        modified_ns: Its last modification, nanoseconds since the epoch.
    """

    path: str
    key: Key
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What the patterns name at one moment.

    Attributes:
        by_path: Every name and its file.
        names: Every file's names, sorted.
    """

    by_path: dict[str, Found] = field(default_factory=dict)
    names: dict[Key, list[str]] = field(default_factory=dict)


def look(path: str) -> Found | None:
    """Return what a path leads to, None if that is nothing or not a regular file.

    Raises:
        OSError: The system refused to say; the file may be there all the same.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 -- thousands of names a scan; a Path object each would double its cost
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(path, (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


def look_at(paths: Iterable[str]) -> list[Found | None]:
    """Look at several paths; None also for one that cannot be looked at."""
    return [_look_if_possible(path) for path in paths]


def _look_if_possible(path: str) -> Found | None:
    try:
        return look(path)
    except OSError:
        return None


def scan(patterns: Iterable[str]) -> Scan:
    """Look for the files that the patterns (glob, with ``**``) name now; a folder that does not exist has none.

    What cannot be looked at is left out, so a name that is missing need not be gone: ask `look` before concluding that.
    """
    result = Scan()
    for pattern in patterns:
        for path in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 -- patterns may be absolute
            if path in result.by_path or path.endswith(_COMPRESSED):
                continue
            found = _look_if_possible(path)
            if found is not None:
                result.by_path[path] = found
                result.names.setdefault(found.key, []).append(path)
    return result


def folders(patterns: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the existing folders to watch for new names: those to watch alone, and those with all below them."""
    flat: set[str] = set()
    deep: set[str] = set()
    for pattern in patterns:
        folder = os.path.dirname(pattern) or "."  # noqa: PTH120 -- Path would fold the pattern's ".."
        before, double, _ = folder.partition("**")
        if double:
            base = os.path.dirname(before) or "."  # noqa: PTH120
            while _MAGIC.search(base):
                base = os.path.dirname(base) or "."  # noqa: PTH120
            if os.path.isdir(base):  # noqa: PTH112 -- never raises, as Path.is_dir does
                deep.add(base)
        else:
            named = glob.glob(folder) if _MAGIC.search(folder) else (folder,)  # noqa: PTH207
            flat.update(name for name in named if os.path.isdir(name))  # noqa: PTH112
    return frozenset(flat - deep), frozenset(deep)


@dataclass(frozen=True, slots=True)
class Around:
    """A path and the names beside it, as they were at one moment.

    Attributes:
        home: What the path itself led to.
        siblings: The other files whose name begins with the path's name or stem and goes on with a mark, not with a letter or digit;
            compressed ones last, newest first.
    """

    home: Found | None
    siblings: tuple[Found, ...]


def around(path: str, folders: Iterable[str] = ()) -> Around:
    """Look at a path and at the names beside it, again and again until two looks in a row agree on who has which name.

    A rotation renames one file after another, so that a single look may miss a file that was moved from a name not yet looked
    at to one that was, and take the younger ones for all there is. Where names never come to rest, every file that any look
    has found is returned.

    Args:
        path: The path.
        folders: Other folders in which files of this name lie once they are rotated.

    Raises:
        OSError: The system refused to say what there is.
    """
    own = os.path.dirname(path) or "."  # noqa: PTH120 -- as above
    searched = [own, *sorted(folder for folder in folders if not _same_folder(folder, own))]
    ever: dict[Key, Found] = {}
    before: dict[str, Key] | None = None
    home: Found | None = None
    beside: list[Found] = []
    for _ in range(_LOOKS):
        home, beside = look(path), _look_beside(path, searched)
        names = {one.path: one.key for one in (*beside, *([] if home is None else [home]))}
        if names == before:
            break
        before = names
        ever.update((one.key, one) for one in beside)
    else:
        beside = [one for one in ever.values() if home is None or one.key != home.key]
    return Around(home, tuple(sorted(beside, key=lambda one: (one.path.endswith(GZIP_SUFFIX), -one.modified_ns, one.path))))


def _same_folder(folder: str, other: str) -> bool:
    try:
        return os.path.samefile(folder, other)  # noqa: PTH121 -- as above
    except OSError:
        return False


def _look_beside(path: str, searched: Sequence[str]) -> list[Found]:
    base = os.path.basename(path)  # noqa: PTH119
    stem = os.path.splitext(base)[0] or base  # noqa: PTH122 -- as above
    usable = []
    for folder in searched:
        try:
            names = _names(folder)
        except OSError as error:
            if error.errno in _NOT_THERE:
                continue
            raise
        beside = takewhile(lambda name: name.startswith(stem), islice(names, bisect_left(names, stem), None))
        for name in beside:
            if name == base or name[len(stem) : len(stem) + 1].isalnum():
                continue
            if not name.endswith(GZIP_SUFFIX) and name.endswith((*_COMPRESSED, _UNFINISHED)):
                continue
            found = look(os.path.join(folder, name))  # noqa: PTH118
            if found is not None:
                usable.append(found)
    return usable


def _names(folder: str) -> Sequence[str]:
    """Return the names in a folder, sorted.

    A folder that has been at rest for a while is listed once for all the paths in it: with thousands of files that were all
    rotated while the agent was down, listing it anew for each would take minutes.

    Raises:
        OSError: The folder cannot be listed.
    """
    modified_ns = os.stat(folder).st_mtime_ns  # noqa: PTH116 -- as above
    if time.time_ns() - modified_ns < _REST_NANOSECONDS:
        return sorted(os.listdir(folder))  # noqa: PTH208
    return _names_at_rest(folder, modified_ns)


@lru_cache(maxsize=8)
def _names_at_rest(folder: str, _modified_ns: int) -> Sequence[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208


def subfolders(path: str) -> list[str]:
    """Return the folders beside a path, where some rotate to (logrotate's ``olddir``); none if they cannot be listed."""
    folder = os.path.dirname(path) or "."  # noqa: PTH120
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in islice(entries, _SUBFOLDERS) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def turned(path: str, name: str) -> str | None:
    """Return what rotation put into a path's name to make another, such as ``1`` or ``20260101``; None if it is not that."""
    base = os.path.basename(path)  # noqa: PTH119
    stem, extension = os.path.splitext(base)  # noqa: PTH122
    other = os.path.basename(name).removesuffix(GZIP_SUFFIX)  # noqa: PTH119
    for start, end in ((base, ""), (stem, extension)):
        if other.startswith(start) and other.endswith(end) and len(other) > len(start) + len(end):
            found = _TURNED.fullmatch(other[len(start) : len(other) - len(end)])
            if found:
                return found[1]
    return None


def origins(path: str) -> list[str]:
    """Return the paths of which a name may be a rotated one, such as ``app.log`` of ``app.log.1``, longest first."""
    folder, name = os.path.split(path)
    name = name.removesuffix(GZIP_SUFFIX)
    extension = os.path.splitext(name)[1]  # noqa: PTH122 -- as above
    starts = [name[:end] for end in range(len(name) - 1, 0, -1)]
    candidates = dict.fromkeys(start + ending for start in starts for ending in ("", extension))
    return [os.path.join(folder, one) for one in candidates if turned(one, name) is not None]  # noqa: PTH118


def later(path: str, after: Found | None, candidates: Sequence[Found], skip: Callable[[Found], bool]) -> list[Found]:
    """Return the rotated files of a path that were written after one of them, oldest first.

    Age is the time of the last modification. Where two share it (the clock of a file system has steps of milliseconds), the
    smaller rotation number or the greater date is the younger; so it is where one of them is compressed, as that may have made
    a file look younger than it is (the kubelet does not keep the time). A compressed file beside the plain one it is made of does not
    count: it may not be complete.

    Args:
        path: The name that is rotated.
        after: The file after which to begin, under the name it has now.
        candidates: The siblings that `around` found.
        skip: Tells files that are known already.
    """
    if after is None:
        return []
    names = {one.path for one in candidates}
    chosen = [
        one
        for one in candidates
        if one.key != after.key
        and one.size
        and turned(path, one.path) is not None
        and (not one.path.endswith(GZIP_SUFFIX) or one.path.removesuffix(GZIP_SUFFIX) not in names)
        and _compare(path, one, after) > 0
        and not skip(one)
    ]
    return sorted(chosen, key=cmp_to_key(partial(_compare, path)))


def _compare(path: str, one: Found, other: Found) -> int:
    """Return a number above 0 if one rotated file of a path is younger than another, below 0 if it is older."""
    left, right = _age(path, one), _age(path, other)
    if GZIP_SUFFIX in {one.path[-3:], other.path[-3:]} and (
        (left[1] < 0 and right[1] < 0) or (left[2][:8].isdigit() and right[2][:8].isdigit())
    ):
        left, right = (0, *left[1:]), (0, *right[1:])
    return (left > right) - (left < right)


def _age(path: str, one: Found) -> tuple[int, int, str]:
    """Return a key that sorts rotated files from the oldest to the youngest."""
    word = turned(path, one.path)
    if word is None:
        return one.modified_ns, 1, ""
    number = -int(word) if _NUMBER.fullmatch(word) else 0
    return one.modified_ns, number, word if not number else ""
