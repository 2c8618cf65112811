"""Say what a directory store's facts mean. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .findings import OF_FOLDERS, Check, Finding, bad, note, ok, only, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .facts import FolderFacts

GIB: Final = 1 << 30
LOW_BYTES: Final = GIB
LOW_SHARE: Final = 0.05
EMPTY_BYTES: Final = 64 << 20
LOW_NAMES: Final = 10_000
_ALL_WRITES: Final = 0o002
_GROUP_WRITES: Final = 0o020
_STICKY: Final = 0o1000


def judge_folder(facts: FolderFacts, place: str) -> tuple[Finding, ...]:
    """Return a finding for every check of a directory store.

    Args:
        facts: What was seen.
        place: The folder.
    """
    found = (
        [bad(Check.REACHABLE, facts.trouble, facts.hint or f"Make {place} a folder that the agent's user can write to.")]
        if facts.trouble
        else list(_findings(facts, place))
    )
    return only(found, OF_FOLDERS, "nothing could be written", "Mend that first, and run the doctor again.")


def _findings(facts: FolderFacts, place: str) -> Iterator[Finding]:
    yield ok(Check.REACHABLE, "an object was written, synced to the disk and linked; so was its folder")
    if facts.exclusive:
        yield ok(Check.CREATE, "exclusive: a second creation under the same name was noticed")
    else:
        yield bad(Check.CREATE, "a second creation under the same name was not noticed", f"Put {place} on a local POSIX file system.")
    if facts.reads_back:
        yield ok(Check.READ_OWN, "what was written reads back")
    else:
        yield bad(
            Check.READ_OWN,
            "the probe holds other bytes than were written",
            "Somebody else writes here under this identity, or the disk lies.",
        )
    yield note(Check.OBJECT_LOCK, "a directory has no lock: whoever owns it, or is root here, can delete and replace what is stored")
    yield _ownership(facts, place)
    if facts.same_disk:
        yield warning(
            Check.SAME_DISK,
            "the store and the agent's state directory share one file system: one fault, or one full disk, takes both",
            "Mount another disk or another machine's export there, or add a second store.",
        )
    else:
        yield ok(Check.SAME_DISK, "another file system than the state directory's")
    yield _room(facts, place)


def _ownership(facts: FolderFacts, place: str) -> Finding:
    mode, who = f"{facts.folder_mode:04o}", facts.folder_owner
    if facts.folder_mode & _ALL_WRITES and not facts.folder_mode & _STICKY:
        return bad(
            Check.OWNERSHIP, f"the folder has mode {mode}: every user of this machine can delete what is in it", f"chmod go-w {place}"
        )
    if facts.object_mode & 0o222:
        return bad(
            Check.OWNERSHIP,
            f"objects are stored with mode {facts.object_mode:04o}, although the agent makes them read-only",
            "Use a file system that keeps permission bits.",
        )
    if not facts.owner_is_agent:
        seen = f"the folder belongs to {who}, not to who ran this; its owner can delete what is in it"
        return warning(Check.OWNERSHIP, seen, "Run the doctor as the agent's user; if you did, make sure that this owner is meant.")
    if facts.folder_mode & _GROUP_WRITES and not facts.folder_mode & _STICKY:
        return warning(Check.OWNERSHIP, f"the folder has mode {mode}: its group can delete what is in it", f"chmod g-w {place}")
    return ok(Check.OWNERSHIP, f"objects are read-only; the folder belongs to {who}, mode {mode}")


def _room(facts: FolderFacts, place: str) -> Finding:
    seen = f"{facts.free_bytes / GIB:.1f} of {facts.total_bytes / GIB:.1f} GiB are free"
    fix = f"Make room on the disk of {place}; nothing may be deleted from the trails themselves."
    if facts.free_names is not None and facts.free_names < LOW_NAMES:
        seen = f"only {facts.free_names} more files can be made (inodes)"
        return (bad if facts.free_names < 10 else warning)(Check.FREE_SPACE, seen, fix)
    if facts.free_bytes < EMPTY_BYTES:
        return bad(Check.FREE_SPACE, seen, fix)
    if facts.free_bytes < LOW_BYTES or facts.free_bytes < facts.total_bytes * LOW_SHARE:
        return warning(Check.FREE_SPACE, seen, fix)
    return ok(Check.FREE_SPACE, seen)
