"""What the doctor saw of a store, without a judgement.

Invariants: plain values; what was not asked is said to be so (`UNASKED`). This module must not ask anything.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

import msgspec

from ..vitals.standing import Standing


class Outcome(Enum):
    """Say what came of a request."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    ABSENT = "absent"
    UNCLEAR = "unclear"


class Tried(msgspec.Struct, frozen=True):
    """Be a request that was tried.

    Attributes:
        outcome: What came of it.
        said: The server's words, or why nothing can be said.
    """

    outcome: Outcome
    said: str = ""

    @property
    def allowed(self) -> bool:
        """Whether it was allowed."""
        return self.outcome is Outcome.ALLOWED

    @property
    def refused(self) -> bool:
        """Whether it was forbidden."""
        return self.outcome is Outcome.REFUSED


UNASKED: Final = Tried(Outcome.UNCLEAR, "not asked")


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """Be what the agent itself finds when it looks at a store before it ships.

    Attributes:
        standing: What the store guarantees; None if it may not be shipped to.
        trouble: Why not, in one sentence.
        hint: What to do about that.
    """

    standing: Standing | None
    trouble: str = ""
    hint: str = ""


class BucketFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Be what any cloud's bucket shows to the agent's credentials.

    Attributes:
        examined: What the agent itself finds.
        probe: The key of the doctor's object, relative to the store.
        create: Whether that object is there: it was created, or had been within the same minute.
        exclusive: Whether creating it a second time was noticed; None if nobody knows.
        clock_offset_seconds: The store's clock minus ours, where the doctor saw it; None where only the agent's own look tells.
        read_own: Reading that object.
        read_absent: Reading an own key under which there is nothing.
        overwrite: Writing over that object without a condition.
        delete: Deleting that object without naming a version.
        list_all: Listing the whole store.
    """

    examined: Examined
    probe: str
    create: Tried
    exclusive: bool | None = None
    clock_offset_seconds: float | None = None
    read_own: Tried = UNASKED
    read_absent: Tried = UNASKED
    overwrite: Tried = UNASKED
    delete: Tried = UNASKED
    list_all: Tried = UNASKED

    @property
    def gone(self) -> bool:
        """Whether the doctor's object is no longer there."""
        return self.delete.allowed


class S3Facts(BucketFacts, frozen=True, kw_only=True):
    """Be what S3's own API shows besides.

    Attributes:
        version: The version of the doctor's object, or None.
        lock_mode: The mode of its retention, or None.
        lock_seconds: For how long it was locked when it was stored, or None.
        encryption: How the server says it is encrypted, or None.
        versioning: Reading the bucket's versioning; allowed says what it is.
        lock: Reading the bucket's lock; allowed says the default retention, in words.
        default_mode: The mode of the default retention, or None.
        default_seconds: Its length, or None.
        bucket_encryption: Reading the bucket's encryption.
        marker_left: Whether a delete marker could not be removed again.
        replaced: Whether the test of overwriting did replace the doctor's object, instead of being cut off by a wrong checksum.
        delete_version: Deleting the version of that object.
        set_retention: Setting its retention to what it is.
        shorten: Setting a shorter one, asking to go past governance mode.
        shortened_left: Whether the shorter one could not be undone.
        digest_checked: Whether the server refuses a body that does not fit its checksum, without which some tests would write.
        read_others: Reading an object of another service.
        write_others: Writing where another service would.
        change_versioning: Switching on versioning that is on.
        change_lock: Writing the lock's settings as they are.
        lifecycle: Reading the bucket's lifecycle.
        expiring: The names of its rules that delete something.
        change_lifecycle: Writing the lifecycle's rules as they are.
        read_policy: Reading the bucket's policy.
    """

    version: str | None = None
    lock_mode: Literal["compliance", "governance"] | None = None
    lock_seconds: float | None = None
    encryption: str | None = None
    versioning: Tried = UNASKED
    lock: Tried = UNASKED
    default_mode: Literal["compliance", "governance"] | None = None
    default_seconds: float | None = None
    bucket_encryption: Tried = UNASKED
    marker_left: bool = False
    replaced: bool = False
    delete_version: Tried = UNASKED
    set_retention: Tried = UNASKED
    shorten: Tried = UNASKED
    shortened_left: bool = False
    digest_checked: bool = False
    read_others: Tried = UNASKED
    write_others: Tried = UNASKED
    change_versioning: Tried = UNASKED
    change_lock: Tried = UNASKED
    lifecycle: Tried = UNASKED
    expiring: tuple[str, ...] = ()
    change_lifecycle: Tried = UNASKED
    read_policy: Tried = UNASKED

    @property
    def gone(self) -> bool:
        """Whether the doctor's object is no longer there."""
        return (self.version is None and self.delete == Tried(Outcome.ALLOWED)) or self.delete_version.allowed


class FolderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Be what a directory store shows.

    Attributes:
        trouble: Why a probe could not be created, made durable or read; empty if it could.
        hint: What to do about that.
        exclusive: Whether creating the probe a second time was noticed.
        reads_back: Whether it holds what was written.
        object_mode: The permission bits of the probe.
        folder_mode: The permission bits of the store's folder.
        folder_owner: The name or number of the folder's owner.
        owner_is_agent: Whether that is who runs this.
        same_disk: Whether the state directory lies on the same file system.
        free_bytes: Room for the agent's user.
        total_bytes: The file system's size.
        free_names: Files that can still be made; None where there is no such limit.
    """

    trouble: str = ""
    hint: str = ""
    exclusive: bool = False
    reads_back: bool = False
    object_mode: int = 0
    folder_mode: int = 0
    folder_owner: str = ""
    owner_is_agent: bool = False
    same_disk: bool = False
    free_bytes: int = 0
    total_bytes: int = 0
    free_names: int | None = None
