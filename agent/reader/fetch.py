"""Reading a store: the narrow interface a verifier needs, and its implementations.

Invariants: nothing is ever written; an object is returned whole or not at all, and never beyond a size the caller names;
symbolic links and special files are not followed, so a store cannot point outside itself or make a reader hang, and a linked
folder below `trails/` or `records/` is an error, because what lies behind it would else be missing from a listing. Listing
holds no more than one folder's numbers in memory, and only where a trail is damaged. This module must not judge what it reads.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import FormatError, NotVerifiedError
from ..trail.layout import Origin, parse_seal_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TRAILS: Final = "trails"
RECORDS: Final = "records"
PRIVATE: Final = ".incoming"
_ORIGIN_DEPTH: Final = 4
_SEAL_NAME: Final = re.compile(r"([0-9]{12})\.seal")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says about one object.

    Attributes:
        key: The object's key.
        size: Its size in bytes.
        modified: When it was written, in seconds since 1970 by the store's clock.
    """

    key: str
    size: int
    modified: float


class StoreReader(Protocol):
    """Read what a store holds.

    Guarantees:
        Ordering: `origins` and `seals` are sorted; `objects` has no order.
        Completeness: an object that was there when a listing began and is still there is in it.
        Failure: what is there but cannot be read raises `NotVerifiedError`; it is never taken for absent. A listing raises it
            after everything else was yielded, so that one unreadable folder does not hide what is wrong in another.
    """

    name: str

    def origins(self) -> Iterator[Origin]:
        """Yield the origin of every trail that has a seal, in the order of its text."""
        ...

    def seals(self, origin: Origin) -> Iterator[int]:
        """Yield the numbers of the batches of which a seal is listed, ascending."""
        ...

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object below the folder ``prefix``; all objects when it is empty."""
        ...

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the object's exact bytes; None if there is no such object.

        Raises:
            NotVerifiedError: It is there but cannot be read, or is larger than the limit.
        """
        ...


class StoreProber(Protocol):
    """Look at single places of a store: what a watcher needs. Methods may be called by several threads.

    Guarantees: what is there but cannot be read raises `NotVerifiedError`; it is never taken for absent.
    """

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; none if it is not there."""
        ...

    def stored_at(self, key: str) -> float | None:
        """Return when an object was written, in seconds since 1970 by the store's clock; None if there is no such object."""
        ...

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`."""
        ...


class OpenStore(StoreReader, StoreProber, Protocol):
    """Be a store that can be read whole or looked at."""


def too_large(key: str, size: int, limit_bytes: int) -> NotVerifiedError:
    """Return the error for an object that is larger than anything that belongs there."""
    return NotVerifiedError(f"{key} has {size} bytes; a verifier reads no more than {limit_bytes} of such an object")


def _numbers(numbers: Iterable[int]) -> tuple[int, int]:
    """Return how many numbers there are and the greatest one (-1 for none)."""
    count, greatest = 0, -1
    for number in numbers:
        count += 1
        greatest = max(greatest, number)
    return count, greatest


def is_far(store: StoreReader) -> bool:
    """Tell whether a store answers late, so that it is worth reading ahead in it with threads."""
    return not isinstance(store, DirectoryReader)


class DirectoryReader:
    """Read a directory store.

    The store's private folder of temporary files (`.incoming`) is skipped. Links and special files are listed with the
    size 0, so that they are reported, and count as absent when they are read.
    """

    def __init__(self, root: Path) -> None:
        """Open the store.

        Args:
            root: The store's folder.

        Raises:
            NotVerifiedError: There is no such folder.
        """
        try:
            there = root.is_dir()
        except OSError as error:
            raise NotVerifiedError(
                f"cannot look at {root}: {error.strerror}", hint="Read permission is needed on the whole store."
            ) from error
        if not there:
            raise NotVerifiedError(f"there is no store at {root}: not a folder", hint="Check the path of STORE.")
        self.name = str(root)
        self._root = os.fspath(root)
        self._plain_folder = ""

    def origins(self) -> Iterator[Origin]:
        """Yield the trails with a seal; see `StoreReader`."""
        self._refuse_links(TRAILS)
        failures: list[NotVerifiedError] = []
        for parts in self._folders(TRAILS, _ORIGIN_DEPTH, failures):
            try:
                origin = Origin.parse("/".join(parts))
            except FormatError:
                continue
            try:
                if any(True for _ in self._seal_numbers(origin)):
                    yield origin
            except NotVerifiedError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def folders(self, path: str) -> list[str]:
        """Return the folders in a folder; see `StoreProber`."""
        if not os.path.isdir(self._root):  # noqa: PTH112 -- never raises, as Path.is_dir does
            raise NotVerifiedError(f"there is no store at {self._root} any more", hint="Is something not mounted?")
        self._refuse_links(path)
        failures: list[NotVerifiedError] = []
        names = [name for (name,) in self._folders(path, 1, failures)]
        if failures:
            raise failures[0]
        return names

    def stored_at(self, key: str) -> float | None:
        """Return when an object was written; see `StoreProber`."""
        self._refuse_links(key.rpartition("/")[0] or ".")
        try:
            status = os.lstat(f"{self._root}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise NotVerifiedError(
                f"cannot look at {key}: {error.strerror}", hint="Read permission is needed on the whole store."
            ) from error
        return status.st_mtime if stat.S_ISREG(status.st_mode) else None

    def _folders(self, path: str, depth: int, failures: list[NotVerifiedError]) -> Iterator[tuple[str, ...]]:
        """Yield the folders so many levels below a folder, sorted; what cannot be listed is noted and passed over."""
        names: list[str] = []
        try:
            with self._scan(f"{self._root}/{path}") as entries:
                names += [entry.name for entry in entries if _is_folder(entry, path, failures)]
        except NotVerifiedError as error:
            failures.append(error)
        for name in sorted(names):
            if depth == 1:
                yield (name,)
            else:
                yield from ((name, *rest) for rest in self._folders(f"{path}/{name}", depth - 1, failures))

    def _refuse_links(self, folder: str) -> None:
        """Refuse a folder that is, or lies behind, a symbolic link (NotVerifiedError)."""
        if folder == self._plain_folder:
            return
        path = self._root
        for part in folder.split("/"):
            path = f"{path}/{part}"
            if os.path.islink(path):  # noqa: PTH114 -- Path.is_symlink raises where nobody may look; opening says that better
                raise _is_link(path.removeprefix(f"{self._root}/"))
        # Neighbours in a trail share a folder, so remembering one is enough.
        self._plain_folder = folder

    def _scan(self, path: str) -> os._ScandirIterator[str] | _NoEntries:
        try:
            return os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return _NoEntries()
        except OSError as error:
            raise NotVerifiedError(f"cannot list {path}: {error.strerror}", hint="Read permission is needed on the whole store.") from error

    def _seal_numbers(self, origin: Origin) -> Iterator[int]:
        with self._scan(f"{self._root}/{TRAILS}/{origin}") as entries:
            for entry in entries:
                found = _SEAL_NAME.fullmatch(entry.name)
                if found:
                    yield int(found[1])

    def seals(self, origin: Origin) -> Iterator[int]:
        """Yield the batches' numbers; see `StoreReader`. Only a trail with holes costs memory, 8 bytes a seal."""
        count, greatest = _numbers(self._seal_numbers(origin))
        if count == greatest + 1:
            return iter(range(count))
        return iter(sorted(array("Q", self._seal_numbers(origin))))

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects; see `StoreReader`."""
        if prefix:
            self._refuse_links(prefix)
        folders = [prefix]
        failures: list[NotVerifiedError] = []
        while folders:
            folder = folders.pop()
            try:
                yield from self._objects_in(folder, folders, failures)
            except NotVerifiedError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _objects_in(self, folder: str, folders: list[str], failures: list[NotVerifiedError]) -> Iterator[ObjectInfo]:
        """Yield a folder's own objects, and add the folders in it to ``folders``."""
        with self._scan(f"{self._root}/{folder}") as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}" if folder else entry.name
                if _is_folder(entry, folder, failures):
                    if key != PRIVATE:
                        folders.append(key)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise NotVerifiedError(f"cannot look at {key}: {error.strerror}") from error
                yield ObjectInfo(key, status.st_size if stat.S_ISREG(status.st_mode) else 0, status.st_mtime)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`."""
        self._refuse_links(key.rpartition("/")[0] or ".")
        try:
            descriptor = os.open(f"{self._root}/{key}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise NotVerifiedError(f"cannot read {key}: {error.strerror}", hint="Read permission is needed on the whole store.") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            if status.st_size > limit_bytes:
                raise too_large(key, status.st_size, limit_bytes)
            # One byte more than its size, so that an object that is still growing is not taken for a whole one.
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                raw = file.read(status.st_size + 1)
        except OSError as error:
            raise NotVerifiedError(f"cannot read {key}: {error.strerror}", hint="Check the disk below the store.") from error
        finally:
            os.close(descriptor)
        if len(raw) != status.st_size:
            raise NotVerifiedError(f"{key} changed its size while it was read", hint="Objects are written once; verify again.")
        return raw


def _is_link(folder: str) -> NotVerifiedError:
    return NotVerifiedError(f"{folder} is a symbolic link, so what lies behind it was not read", hint="Put the folder itself there.")


def _is_folder(entry: os.DirEntry[str], parent: str, failures: list[NotVerifiedError]) -> bool:
    """Tell whether an entry is a folder; a link to one is an object, and a failure where a store's own folders belong."""
    key = f"{parent}/{entry.name}".lstrip("/")
    if entry.is_symlink() and key.split("/")[0] in (TRAILS, RECORDS) and _leads_to_a_folder(entry):
        failures.append(_is_link(key))
    return entry.is_dir(follow_symlinks=False)


def _leads_to_a_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:
        # It leads round in a circle, or where nobody may look.
        return True


class _NoEntries:
    """Stand for a folder that is not there."""

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(())

    def __exit__(self, *_: object) -> None:
        pass


class MemoryReader:
    """The in-memory twin of `DirectoryReader`: objects from a mapping, all written at one time unless said otherwise."""

    def __init__(self, objects: dict[str, bytes], *, modified: float = 0.0) -> None:
        """Read from this mapping of keys to bytes, which the caller may change between calls."""
        self.name = "memory"
        self.contents = objects
        self.modified: dict[str, float] = {}
        self._modified = modified

    def origins(self) -> Iterator[Origin]:
        """Yield the trails with a seal; see `StoreReader`."""
        found = {str(origin): origin for origin, _ in self._seals()}
        return (found[text] for text in sorted(found))

    def _seals(self) -> Iterator[tuple[Origin, int]]:
        for key in self.contents:
            try:
                yield parse_seal_key(key)
            except FormatError:
                continue

    def seals(self, origin: Origin) -> Iterator[int]:
        """Yield the batches' numbers; see `StoreReader`."""
        return iter(sorted(batch for owner, batch in self._seals() if owner == origin))

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects; see `StoreReader`."""
        for key, raw in list(self.contents.items()):
            if not prefix or key.startswith(f"{prefix}/"):
                yield ObjectInfo(key, len(raw), self.modified.get(key, self._modified))

    def folders(self, path: str) -> list[str]:
        """Return the folders in a folder; see `StoreProber`."""
        below = (key.removeprefix(f"{path}/") for key in list(self.contents) if key.startswith(f"{path}/"))
        return sorted({rest.partition("/")[0] for rest in below if "/" in rest})

    def stored_at(self, key: str) -> float | None:
        """Return when an object was written; see `StoreProber`."""
        return self.modified.get(key, self._modified) if key in self.contents else None

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`."""
        raw = self.contents.get(key)
        if raw is not None and len(raw) > limit_bytes:
            raise too_large(key, len(raw), limit_bytes)
        return raw
