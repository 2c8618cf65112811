"""Copy a store, or whole trails of it, into a folder of our own; change the copy, and put it back.

Invariants: the original is asked through a `StoreReader`, which cannot write, and every object is written anew: no hard link and no
reflink, so that no change of the copy can reach the original. Keys come from the store, or from what somebody
wrote into it: nothing is written, removed or linked at one that names no place inside the copy. Trails are copied whole, with those they
continue, or not at all.
What was changed is put back byte for byte, with its time. This module must not verify anything.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError, FormatError, NotVerifiedError
from ...trail.layout import Origin, parse_data_key, parse_seal_key, seal_key
from ..fetch import RECORDS, TRAILS, DirectoryReader, ObjectInfo
from ..leftovers import COSIGNATURE
from ..links import families, read_claims
from ..trustfile import matches_origin
from .values import UntriedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from ..fetch import StoreReader

OBJECT_LIMIT_BYTES: Final = 64 << 20
"""As much as a verifier reads of one object; a larger one is unreadable in the copy as in the original."""
MOST_HOLES: Final = 1_000
"""How many seals that a listing does not show are asked for in one trail."""
_AT_ONCE: Final = 16
_NO_SUCH_PLACE: Final = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL})
_Epoch = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is copied.

    Attributes:
        origins: The trails, sorted.
        whole: Whether that is everything in the store, objects that belong to no trail included.
        left_out: How many trails stay behind.
        total_bytes: How much it is.
    """

    origins: tuple[Origin, ...]
    whole: bool
    left_out: int
    total_bytes: int


class Narrowed:
    """A store, of which only some trails are seen: what the copy's verdict is compared with where the copy is not the whole."""

    def __init__(self, store: StoreReader, origins: Iterable[Origin]) -> None:
        """Show these trails of this store."""
        self.name = store.name
        self._store = store
        self._origins = tuple(sorted(origins, key=str))
        self._names = frozenset(map(str, self._origins))
        self._epochs = frozenset((origin.namespace, origin.service, origin.epoch) for origin in self._origins)

    def origins(self) -> Iterator[Origin]:
        """Yield the trails; see `StoreReader`."""
        return iter(self._origins)

    def seals(self, origin: Origin) -> Iterator[int]:
        """Yield the batches' numbers; see `StoreReader`."""
        return self._store.seals(origin)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects of these trails; see `StoreReader`."""
        return (info for info in self._store.objects(prefix) if self.holds(info.key))

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`."""
        return self._store.read(key, limit_bytes)

    def holds(self, key: str) -> bool:
        """Tell whether an object belongs to one of these trails."""
        owner = _owner(key)
        return owner in self._epochs or owner in self._names


def _owner(key: str) -> str | _Epoch | None:
    """Return whose object it is: a trail's (its origin), an epoch's (namespace, service, epoch), or nobody's."""
    try:
        if key.startswith("records/"):
            data = parse_data_key(key)
            return data.namespace, data.service, data.epoch
        found = COSIGNATURE.fullmatch(key)
        return str(parse_seal_key(f"{found[1]}.seal" if found else key)[0])
    except FormatError:
        return None


def plan(store: StoreReader, *, max_bytes: int, origin_glob: str | None) -> Plan:
    """Choose what to copy: everything if it fits, else whole families of trails, the largest that fit first.

    Args:
        store: The store.
        max_bytes: How many bytes may be copied.
        origin_glob: Copy the trails that match, and those they continue or are continued by; None to choose.

    Raises:
        NotVerifiedError: There is no trail, or none that matches.
        ConfigError: Not even one family fits.
    """
    origins = tuple(store.origins())
    if not origins:
        raise NotVerifiedError(f"no trail was found in {store.name}", hint="Check the store's address.")
    sizes: dict[str | _Epoch | None, int] = defaultdict(int)
    for info in store.objects(""):
        sizes[_owner(info.key)] += info.size
    total = sum(sizes.values())
    if origin_glob is None and total <= max_bytes:
        return Plan(origins, whole=True, left_out=0, total_bytes=total)
    groups = list(families(origins, read_claims(store, origins)))
    if origin_glob is not None:
        groups = [group for group in groups if any(matches_origin(origin_glob, str(origin)) for origin in group)]
        if not groups:
            raise NotVerifiedError(f"no trail in {store.name} matches {origin_glob}", hint="`trailseal trust STORE` lists the trails.")
    weights = {group: sum(map(sizes.__getitem__, _owners(group))) for group in groups}
    chosen: list[Origin] = []
    room = max_bytes
    for group in sorted(groups, key=lambda group: (-weights[group], str(group[0]))):
        if weights[group] <= room:
            room -= weights[group]
            chosen += group
        elif origin_glob is not None:
            _refuse(sum(weights.values()), max_bytes, "the trails that match, with those they continue,")
    if not chosen:
        _refuse(min(weights.values()), max_bytes, "the smallest trail, with those it continues,")
    return Plan(tuple(sorted(chosen, key=str)), whole=False, left_out=len(origins) - len(chosen), total_bytes=max_bytes - room)


def _owners(group: Iterable[Origin]) -> set[str | _Epoch | None]:
    owners: set[str | _Epoch | None] = set()
    for origin in group:
        owners |= {str(origin), (origin.namespace, origin.service, origin.epoch)}
    return owners


def _refuse(size: int, max_bytes: int, what: str) -> None:
    raise ConfigError(
        f"{what} have {size:,} bytes; --max-bytes allows {max_bytes:,}",
        hint="Only whole trails are copied: raise --max-bytes, or choose a smaller trail with --origin.",
    )


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of copying.

    Attributes:
        missing: Keys of objects that cannot be read, are larger than a verifier reads, or are no files.
        listed_at: When the newest seals were copied: the moment by which the copy is judged.
    """

    missing: tuple[str, ...]
    listed_at: datetime


class _Copying:
    """One run of copying; a bucket answers late, so a few objects are under way at once."""

    def __init__(self, store: StoreReader, folder: Path, pool: ThreadPoolExecutor, advance: Callable[[int], None]) -> None:
        self._store, self._folder, self._pool, self._advance = store, folder, pool, advance
        self.missing: list[str] = []

    def copy(self, objects: Iterable[ObjectInfo]) -> None:
        waiting: deque[tuple[ObjectInfo, Future[bytes | None]]] = deque()
        for info in objects:
            waiting.append((info, self._pool.submit(self._store.read, info.key, OBJECT_LIMIT_BYTES)))
            if len(waiting) >= _AT_ONCE:
                self._take(*waiting.popleft())
        for info, future in waiting:
            self._take(info, future)

    def _take(self, info: ObjectInfo, future: Future[bytes | None]) -> None:
        try:
            raw = future.result()
        except NotVerifiedError:
            raw = None
        if raw is None or not is_inside(info.key):
            self.missing.append(info.key)
            return
        try:
            put(self._folder, info.key, raw, info.modified)
        except OSError as error:
            if error.errno not in _NO_SUCH_PLACE:
                raise ConfigError(f"cannot write the copy: {error.strerror}", hint="Look at the disk below TMPDIR.") from error
            # A bucket may hold keys that no folder can: too long, or one that is both an object and a folder.
            self.missing.append(info.key)
            return
        self._advance(len(raw))

    def fill(self, origins: Iterable[Origin], moment: datetime) -> None:
        """Copy seals that a listing did not show, because an agent wrote meanwhile."""
        copy = DirectoryReader(self._folder)
        for origin in origins:
            there = list(copy.seals(origin))
            holes = (seal_key(origin, batch) for batch in _holes(there))
            self.copy(ObjectInfo(key, 0, moment.timestamp()) for key in holes if self._store.read(key, OBJECT_LIMIT_BYTES) is not None)


def _holes(there: Iterable[int]) -> Iterator[int]:
    """Yield the numbers that are missing among these (ascending), at most `MOST_HOLES`, those of the shortest gaps first.

    What a listing missed is few in a row; a seal with a huge number, which anybody may have planted, makes a long gap.
    """
    gaps = sorted((range(before + 1, after) for before, after in pairwise((-1, *there))), key=len)
    return islice((batch for gap in gaps for batch in gap), MOST_HOLES)


def copy_store(
    store: StoreReader, chosen: Plan, folder: Path, *, clock: Callable[[], datetime], advance: Callable[[int], None] = lambda _: None
) -> Copied:
    """Write what a plan names into an empty folder.

    Seals are copied before data: whatever is sealed by then has its data, also while an agent writes.

    Args:
        store: The original.
        chosen: What to copy.
        folder: Where to; it exists.
        clock: Returns the time, aware, in UTC.
        advance: Called with the bytes that were written, now and then.

    Raises:
        ConfigError: The disk has too little room.
        NotVerifiedError: The store's listing fails.
    """
    free = shutil.disk_usage(folder).free
    if free < chosen.total_bytes * 1.1:
        raise ConfigError(
            f"the copy needs {chosen.total_bytes:,} bytes, and {folder} has room for {free:,}",
            hint="Set TMPDIR to a folder with more room, or choose fewer trails with --origin.",
        )
    seen = store if chosen.whole else Narrowed(store, chosen.origins)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="drill-copy") as pool:
        copying = _Copying(store, folder, pool, advance)
        copying.copy(seen.objects(TRAILS))
        listed_at = clock()
        copying.fill(chosen.origins, listed_at)
        copying.copy(seen.objects(RECORDS))
        if chosen.whole:
            copying.copy(info for info in seen.objects("") if not info.key.startswith((f"{TRAILS}/", f"{RECORDS}/")))
    return Copied(tuple(copying.missing), listed_at)


def is_inside(key: str) -> bool:
    """Tell whether a key, which comes from a store, names a place below a folder."""
    parts = key.split("/")
    return bool(key) and "\0" not in key and not any(part in ("", ".", "..") for part in parts)


def put(folder: Path, key: str, raw: bytes, modified: float) -> None:
    """Write an object as a new file, with its time.

    Args:
        folder: The copy.
        key: The object's key.
        raw: Its bytes.
        modified: When it was written, in seconds since 1970.

    Raises:
        UntriedError: The key names no place inside the folder.
        OSError: It cannot be written.
    """
    if not is_inside(key):
        raise _no_place(key)
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(raw)
    os.utime(path, (modified, modified))


def refuse_outside(folder: Path, keys: Iterable[str]) -> None:
    """Refuse to change anything where one of these keys is no place for an object of the copy.

    Raises:
        UntriedError: A key leads out of the folder, or names a folder in it.
    """
    for key in keys:
        if not is_inside(key) or (folder / key).is_dir():
            raise _no_place(key)


def _refuse_links_outside(names: Iterable[str]) -> None:
    for name in names:
        if not is_inside(name):
            raise _no_place(name)


def _no_place(key: str) -> UntriedError:
    return UntriedError(f"{key!r} is no place for an object of the copy")


def digest(folder: Path) -> str:
    """Return one SHA-256 over every object of a folder: its key, its time and its bytes.

    Raises:
        NotVerifiedError: Something of it cannot be read.
    """
    summed = sha256()
    reader = DirectoryReader(folder)
    for info in sorted(reader.objects(""), key=lambda info: info.key):
        raw = reader.read(info.key, OBJECT_LIMIT_BYTES) or b""
        summed.update(f"{info.key}\0{info.modified:.6f}\0{sha256(raw).hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return summed.hexdigest()


@contextmanager
def changed(folder: Path, objects: Mapping[str, bytes | None], *, linked: Iterable[str] = (), modified: float) -> Iterator[None]:
    """Change a copy, and put it back afterwards, whatever happens meanwhile.

    Args:
        folder: The copy.
        objects: The bytes to put under keys; None removes the object.
        linked: Folders of the copy to move away, and to put a symbolic link in the place of.
        modified: The time that what is put gets, in seconds since 1970.

    Raises:
        UntriedError: A key or a folder leads out of the copy, or a key names a folder in it; nothing was touched.
        OSError: Something cannot be changed, or put back.
    """
    refuse_outside(folder, objects)
    linked = tuple(linked)
    _refuse_links_outside(linked)
    before = {key: _kept(folder / key) for key in objects}
    moved = [(folder / name, folder.parent / f"{folder.name}-moved-{number}") for number, name in enumerate(linked)]
    made: list[Path] = []
    try:
        for key, raw in objects.items():
            if raw is not None:
                made += [parent for parent in (folder / key).parents if not parent.exists()]
            _set(folder, key, raw, modified)
        for place, aside in moved:
            place.rename(aside)
            place.symlink_to(aside, target_is_directory=True)
        yield
    finally:
        for place, aside in reversed(moved):
            if aside.exists():
                place.unlink(missing_ok=True)
                aside.rename(place)
        for key, kept in before.items():
            _set(folder, key, *(kept or (None, modified)))
        # Folders that only the tampering made would show in a listing of folders.
        for made_folder in sorted(set(made), key=lambda path: len(path.parts), reverse=True):
            if made_folder.is_dir() and not any(made_folder.iterdir()):
                made_folder.rmdir()


def _set(folder: Path, key: str, raw: bytes | None, modified: float) -> None:
    if raw is None:
        (folder / key).unlink(missing_ok=True)
    else:
        put(folder, key, raw, modified)


def _kept(path: Path) -> tuple[bytes, float] | None:
    try:
        return path.read_bytes(), path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
