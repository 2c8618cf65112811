"""Files beside the database: what tells that a spool is suspect, or was there at all, and where damaged ones are kept.

Invariants:
    - Nothing of a damaged spool is deleted or changed: its files go, whole, to `damaged/<time>/` in the state directory. They
      stay there until a person removes them.
    - Each step can be done again: whoever is killed between two of them goes on at the next start. The file `spool.db.salvaged`
      exists exactly while the damaged files are on their way; it is complete and durable before it gets that name.
    - The note `trail` is written after the epoch it names is durable, so it never names one that was not begun.

It must not open the database.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from .connection import DATABASE_FILE, sync_folder
from .stamps import sum_of

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED_FOLDER: Final = "damaged"
SUSPECT_FILE: Final = "suspect"
UNFOUNDED_FILE: Final = "suspect.unfounded"
NOTE_FILE: Final = "trail"
PART_FILE: Final = f"{DATABASE_FILE}.part"
SALVAGED_FILE: Final = f"{DATABASE_FILE}.salvaged"
ATTEMPTS_FILE: Final = "salvage.attempts"
_SIDES: Final = ("", "-wal", "-shm", "-journal")


class Note(msgspec.Struct, frozen=True):
    """Be what is remembered of the spool outside of it: the newest trail's name, and how many there were."""

    origin: str
    epochs: int


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Note).decode


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, over an older one, and make it durable."""
    part = path.with_name(f"{path.name}.new")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    part.rename(path)
    sync_folder(path.parent)


def note_trail(state: Path, origin: str, epochs: int) -> None:
    """Remember the newest trail outside of the spool; a disk that refuses does not hold up the agent."""
    value = _encode(Note(origin, epochs))
    with contextlib.suppress(OSError):
        if read_note(state) != Note(origin, epochs):
            write_durably(state / NOTE_FILE, value + b"\n" + sum_of(value).hex().encode() + b"\n")


def read_note(state: Path) -> Note | None:
    """Return what was remembered; None if nothing was, or if it cannot be relied on.

    Raises:
        OSError: It may be there, and cannot be read now.
    """
    try:
        value, stamp, _ = (state / NOTE_FILE).read_bytes().split(b"\n")
        return _decode(value) if stamp == sum_of(value).hex().encode() else None
    except (FileNotFoundError, ValueError, msgspec.DecodeError):
        return None


def suspect(state: Path, why: str) -> None:
    """Note, for the next start, that something in the spool is not what was written; a disk that refuses changes nothing."""
    with contextlib.suppress(OSError):
        write_durably(state / SUSPECT_FILE, why.encode("utf-8", "backslashreplace"))


def suspicion(state: Path) -> str | None:
    """Return what an earlier run noted; None if nothing.

    Raises:
        OSError: It may be there, and cannot be read now.
    """
    try:
        return (state / SUSPECT_FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def was_unfounded(state: Path) -> bool:
    """Say whether the run before the one that noted its suspicion began with one, too, of which nothing was found."""
    return (state / UNFOUNDED_FILE).exists()


def count_attempt(state: Path) -> int:
    """Note that a salvage begins; return how many have begun without coming to their end, this one included."""
    fd = os.open(state / ATTEMPTS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b".")
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def take_back_attempt(state: Path) -> None:
    """Let the newest attempt not count."""
    path = state / ATTEMPTS_FILE
    with contextlib.suppress(OSError):
        os.truncate(path, max(0, path.stat().st_size - 1))


def new_folder(state: Path) -> Path:
    """Name the folder for what is damaged now; a salvage that is done again names another one, and only the last is made."""
    stem = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}"
    return state / DAMAGED_FOLDER / stem


def put_aside(state: Path, folder: Path) -> None:
    """Move every file of the damaged spool to a folder, and the salvaged one into its place."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
    sync_folder(folder.parent)
    sync_folder(state)
    for name in (*(DATABASE_FILE + side for side in _SIDES), SUSPECT_FILE):
        if (state / name).exists():
            (state / name).rename(folder / name)
    sync_folder(folder)
    sync_folder(state)
    (state / SALVAGED_FILE).rename(state / DATABASE_FILE)
    (state / ATTEMPTS_FILE).unlink(missing_ok=True)
    sync_folder(state)


def remove_parts(state: Path) -> None:
    """Remove what a salvage that did not come to its end has written."""
    for name in (PART_FILE, *(PART_FILE + side for side in _SIDES)):
        (state / name).unlink(missing_ok=True)


def clean_up(state: Path) -> None:
    """Remove what is of no use once a sound spool is in its place."""
    remove_parts(state)
    if (state / SUSPECT_FILE).exists():  # It was looked at as a whole, and what was read wrongly then is read rightly now.
        (state / SUSPECT_FILE).rename(state / UNFOUNDED_FILE)
    else:
        (state / UNFOUNDED_FILE).unlink(missing_ok=True)
    for name in (ATTEMPTS_FILE, *(SALVAGED_FILE + side for side in _SIDES[1:])):
        (state / name).unlink(missing_ok=True)
