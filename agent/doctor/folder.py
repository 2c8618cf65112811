"""Ask a directory store whether it can be written to durably, and look at whom it belongs to.

Invariants: as in the package; one small file a day is left under ``probes/``, written as the agent writes; nothing is deleted.
"""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING, Final

from ..errors import RefusedError, TrailsealError, TransientError
from ..stores import DirectoryStore
from .facts import FolderFacts
from .s3 import BODY

if TYPE_CHECKING:
    from ..config import Store as StoreSettings


_BY_ITSELF: Final = re.compile(r"; it is tried again by itself| It is tried again by itself\.")


async def ask_folder(settings: StoreSettings, probe: str, state: Path) -> FolderFacts:
    """Ask a directory store everything.

    Args:
        settings: The store's settings.
        probe: The key for the doctor's object.
        state: The agent's state directory.
    """
    root = Path(settings.directory or "/")
    store = DirectoryStore(settings.id, root)
    try:
        await store.create(probe, BODY)
        exclusive = not await store.create(probe, BODY)
        reads_back = await store.read(probe) == BODY
    except TrailsealError as error:
        return FolderFacts(trouble=error.message, hint=fix_of(error))
    finally:
        await store.close()
    # Reading the properties of three paths that were just used; there is nothing else for the loop to do.
    return _look(root, root / probe, state, exclusive=exclusive, reads_back=reads_back)


def fix_of(error: TrailsealError) -> str:
    """Return what an error says can be done, without what an agent does by itself and the doctor does not; empty if nothing is left."""
    return "" if error.hint in (TransientError.default_hint, RefusedError.default_hint) else _BY_ITSELF.sub("", error.hint)


def _look(root: Path, probe: Path, state: Path, *, exclusive: bool, reads_back: bool) -> FolderFacts:
    folder, room = root.stat(), os.statvfs(root)
    beside = state
    while not beside.exists() and beside != beside.parent:
        beside = beside.parent
    try:
        owner = pwd.getpwuid(folder.st_uid).pw_name
    except KeyError:
        owner = str(folder.st_uid)
    return FolderFacts(
        exclusive=exclusive,
        reads_back=reads_back,
        object_mode=S_IMODE(probe.stat().st_mode),
        folder_mode=S_IMODE(folder.st_mode),
        folder_owner=owner,
        owner_is_agent=folder.st_uid == os.geteuid(),
        same_disk=beside.stat().st_dev == folder.st_dev,
        free_bytes=room.f_bavail * room.f_frsize,
        total_bytes=room.f_blocks * room.f_frsize,
        free_names=room.f_favail if room.f_files else None,
    )
