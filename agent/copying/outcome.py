"""What a copying did: counts, where a trail stopped and why, and the exit code.

Invariants: the exit code is the worst of all that happened; what was not copied, or not verified though it was asked for, is never 0.
This module must not look at a store.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from ..reader.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ..reader.findings import FindingLog
    from ..reader.verify import Report as Verification
    from ..trail.layout import Origin
    from ..trail.note import VerifierKey

FAILED: Final = 1
_WORST_FIRST: Final = (Severity.TAMPERED.exit_code, FAILED, Severity.UNVERIFIED.exit_code, Severity.INCOMPLETE.exit_code, 0)


class Cause(StrEnum):
    """Why a trail was not copied to its end."""

    DAMAGED = "damaged"
    """The source's batch is not what was sealed."""
    NOT_VERIFIED = "not_verified"
    """The source's batch cannot be read, or the trust file does not vouch for the trail's key."""
    CONFLICT = "conflict"
    """The target holds other bytes under the same key."""

    @property
    def exit_code(self) -> int:
        """What it ends with when nothing is worse."""
        return (Severity.UNVERIFIED if self is Cause.NOT_VERIFIED else Severity.TAMPERED).exit_code


class Stop(NamedTuple):
    """Say where a trail was not copied further.

    Attributes:
        batch: The first batch that was not copied.
        cause: Why, from a closed list.
        key: The object concerned.
        why: One sentence for a person.
    """

    batch: int
    cause: Cause
    key: str
    why: str


@dataclass(slots=True)
class TrailOutcome:
    """What became of one trail; filled in while it is copied.

    Attributes:
        origin: The trail.
        batches: How many batches are in the target now, counted from the first; in a dry run, would be.
        records: The records in them.
        created: How many objects were created.
        created_bytes: The bytes in those.
        present: How many objects were there already, with the same bytes.
        cosignatures: How many of the objects are cosignatures.
        key: The epoch's key.
        trusted_by: The key of the trust file that vouches for it; None if none does.
        stop: Where it stopped before its end, if it did.
    """

    origin: Origin
    batches: int = 0
    records: int = 0
    created: int = 0
    created_bytes: int = 0
    present: int = 0
    cosignatures: int = 0
    key: VerifierKey | None = None
    trusted_by: VerifierKey | None = None
    stop: Stop | None = None


class Failure(NamedTuple):
    """Say why the target takes nothing more, or cannot be read, in its own words.

    Attributes:
        message: What happened.
        hint: What a person can do.
    """

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a copying.

    Attributes:
        source: The source's name.
        target: The target's name.
        dry_run: Whether nothing was to be written.
        began: When it began, aware, in UTC.
        trails: One entry for every trail that was begun, in the order of copying.
        log: What was found in the source.
        probes: How many probes of agents lie in the source; they are not copied.
        warnings: What is weaker in the target than it should be, one sentence each.
        failure: Why the target was given up, if it was.
        verification: The verification of the target; None if there was none.
        unread: Why the target could not be verified, if it was to be and could not.
    """

    source: str
    target: str
    dry_run: bool
    began: datetime
    trails: tuple[TrailOutcome, ...]
    log: FindingLog
    probes: int = 0
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    verification: Verification | None = None
    unread: Failure | None = None

    @property
    def exit_code(self) -> int:
        """The worst of copying and verifying: 10, 1, 12, 11 or 0."""
        codes = set(self._codes())
        return next(code for code in _WORST_FIRST if code in codes)

    def _codes(self) -> Iterator[int]:
        yield 0
        # What a sound trail says of its own losses was copied with it; the verification says it of the target.
        if self.log.worst > Severity.INCOMPLETE:
            yield self.log.worst.exit_code
        yield from (trail.stop.cause.exit_code for trail in self.trails if trail.stop is not None)
        if self.failure is not None:
            yield FAILED
        if self.verification is not None:
            yield self.verification.severity.exit_code
        if self.unread is not None:
            yield Severity.UNVERIFIED.exit_code

    @property
    def complete(self) -> bool:
        """Whether every trail was copied to its end."""
        return self.failure is None and self.log.worst <= Severity.INCOMPLETE and all(trail.stop is None for trail in self.trails)
