"""What the doctor finds: the closed list of checks, the verdicts, and one finding's shape; docs/stores.md explains each check.

Invariants: a finding that is neither ok nor a note carries a fix; the exit code follows from the verdicts alone. This module must not
ask anything.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(StrEnum):
    """Say how a check went, from the best to the worst."""

    OK = "ok"
    NOTE = "note"
    NOT_TESTED = "not tested"
    WARNING = "warning"
    BAD = "BAD"


class Check(StrEnum):
    """Name what is checked."""

    REACHABLE = "reachable"
    TRANSPORT = "transport"
    CLOCK = "clock"
    CREATE = "create"
    READ_OWN = "read_own"
    VERSIONING = "versioning"
    OBJECT_LOCK = "object_lock"
    DEFAULT_RETENTION = "default_retention"
    NEW_OBJECT = "new_object"
    ENCRYPTION = "encryption"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    DELETE_VERSION = "delete_version"
    SHORTEN_RETENTION = "shorten_retention"
    LIST = "list"
    READ_OTHERS = "read_others"
    WRITE_OTHERS = "write_others"
    CHANGE_VERSIONING = "change_versioning"
    CHANGE_LOCK = "change_lock"
    LIFECYCLE = "lifecycle"
    CHANGE_LIFECYCLE = "change_lifecycle"
    BUCKET_POLICY = "bucket_policy"
    OWNERSHIP = "ownership"
    SAME_DISK = "same_disk"
    FREE_SPACE = "free_space"


OF_FOLDERS: Final = (
    Check.REACHABLE,
    Check.CREATE,
    Check.READ_OWN,
    Check.OBJECT_LOCK,
    Check.OWNERSHIP,
    Check.SAME_DISK,
    Check.FREE_SPACE,
)
"""What is checked of a directory store, in the order in which it is shown."""
OF_BUCKETS: Final = tuple(check for check in Check if check not in (Check.OWNERSHIP, Check.SAME_DISK, Check.FREE_SPACE))
"""What is checked of a bucket, likewise."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Be one line of the answer.

    Attributes:
        check: What was checked.
        verdict: How it went.
        seen: What was seen, or why nothing could be.
        fix: What to do, a sentence; empty where nothing has to be done.
    """

    check: Check
    verdict: Verdict
    seen: str
    fix: str = ""


def ok(check: Check, seen: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check=check, verdict=Verdict.OK, seen=seen)


def note(check: Check, seen: str) -> Finding:
    """Return something to know."""
    return Finding(check=check, verdict=Verdict.NOTE, seen=seen)


def untested(check: Check, why: str, fix: str) -> Finding:
    """Return that something could not be asked, with where to look instead."""
    return Finding(check=check, verdict=Verdict.NOT_TESTED, seen=why, fix=fix)


def warning(check: Check, seen: str, fix: str) -> Finding:
    """Return that something is weaker than it could be."""
    return Finding(check=check, verdict=Verdict.WARNING, seen=seen, fix=fix)


def bad(check: Check, seen: str, fix: str) -> Finding:
    """Return that something is not as was asked for, or lets what is stored be altered, removed or read by the wrong ones."""
    return Finding(check=check, verdict=Verdict.BAD, seen=seen, fix=fix)


def only(findings: Iterable[Finding], checks: tuple[Check, ...], why: str, fix: str) -> tuple[Finding, ...]:
    """Return findings in the order of the checks, and `not tested` for each check that has none.

    Args:
        findings: What was found.
        checks: What there is to check.
        why: Why the others could not be.
        fix: What to do so that they can.
    """
    found = {finding.check: finding for finding in findings}
    return tuple(found.get(check) or untested(check, why, fix) for check in checks)


class StoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """Be what was found of one store.

    Attributes:
        id: Its id in the configuration.
        kind: ``directory``, ``s3``, ``gs`` or ``az``.
        place: Where it is.
        required: Whether batches wait for it.
        probe: The key of the object that the doctor left there; empty if it left none.
        findings: In the order of the checks.
    """

    id: str
    kind: str
    place: str
    required: bool
    probe: str
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        """Return how many checks went so."""
        return sum(finding.verdict is verdict for finding in self.findings)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Be what was found of all stores.

    Attributes:
        file: The configuration file.
        checked_at: When, by this machine's clock.
        stores: In the order of the configuration.
    """

    file: str
    checked_at: datetime
    stores: tuple[StoreReport, ...]

    def count(self, verdict: Verdict) -> int:
        """Return how many checks of all stores went so."""
        return sum(store.count(verdict) for store in self.stores)

    @property
    def exit_code(self) -> int:
        """1 if anything is BAD, 0 otherwise."""
        return 1 if self.count(Verdict.BAD) else 0
