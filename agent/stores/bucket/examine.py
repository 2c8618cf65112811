"""What a bucket guarantees, found out with an object of its own: a probe.

A probe is a few bytes under ``probes/<namespace>/<service>/<instance>/<moment>``, a new one every ten minutes if it is asked for that
often: after each start, after failures, and once an hour. Creating it twice shows whether the server keeps create-if-absent on this bucket
(Ceph RGW 16 does not on versioned ones); looking at it shows under which lock new objects really lie, whatever the bucket's settings
claim, and what time the store has. An older one would show an older lock.

Invariants: a bucket that shows no lock is refused unless that was allowed; a lock that is weaker than the policy is shipped to and
warned of, because holding events back protects them less than a weaker lock does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ...config.bucket import DAY_SECONDS
from ...errors import RefusedError, TransientError
from ...vitals.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ...config import Retention
    from ...config import Store as StoreSettings
    from .look import Facts

FIRST: Final = b"trailseal probe 1: created if absent\n"
SECOND: Final = b"trailseal probe 2: this replaced probe 1, so create-if-absent is not kept here\n"
SLACK_SECONDS: Final = 120.0
"""How much shorter than asked for a lock may be: clocks differ, and headers have whole seconds."""
CLOCK_SECONDS: Final = 60.0
"""How far our clock and the store's may be apart before it is warned of."""
WEAK_CREATE: Final = "weak create: this server does not keep create-if-absent on this bucket, so each key is looked at before it is written"


async def find_exclusive(key: str, create: Callable[[str, bytes], Awaitable[bool]], read: Callable[[str], Awaitable[bytes | None]]) -> bool:
    """Find out whether the store keeps create-if-absent.

    Args:
        key: The probe's key.
        create: Creates an object if absent, as the store does it.
        read: Returns an object's bytes or None.

    Raises:
        TransientError: The store does not answer, or refuses.
    """
    try:
        # Where the server is known to be weak, not one version more is left behind.
        if await read(key) == SECOND:
            return False
    except RefusedError:
        # Who may not list is told "forbidden" of what is not there, by S3 and Ceph alike.
        pass
    return not await create(key, FIRST) or not await create(key, SECOND)


def judge(facts: Facts, settings: StoreSettings, *, exclusive: bool, now: datetime) -> Standing:
    """Say what the store guarantees, or refuse it.

    Args:
        facts: What the store says of a fresh probe.
        settings: The store's settings.
        exclusive: Whether create-if-absent is kept.
        now: Our clock when the store answered.

    Raises:
        RefusedError: The bucket shows no lock, and that was not allowed.
        TransientError: The probe that was just written is not shown.
    """
    # The header has whole seconds, cut off, so half a one is missing on average.
    offset = None if facts.date is None else (facts.date - now).total_seconds() + 0.5
    apart = []
    if offset is not None and abs(offset) > CLOCK_SECONDS:
        apart.append(f"this machine's clock and the store's are {abs(offset):.0f} s apart")
    if facts.status >= 300:
        message = "; ".join((f"the probe in {settings.place} was written but cannot be looked at: HTTP {facts.status}", *apart))
        raise (RefusedError if facts.status == 403 else TransientError)(message)
    warnings = [*([] if exclusive else [WEAK_CREATE]), *apart]
    locked = facts.lock_mode is not None and facts.lock_seconds is not None and facts.lock_seconds > 0
    if settings.bucket is not None and settings.bucket.provider == "s3" and facts.version is None and not settings.allow_unlocked:
        raise _no_lock(settings, "is not versioned, so it has no lock")
    if not locked:
        if settings.bucket is not None and settings.bucket.provider != "s3" and settings.retention is not None:
            # Their locks belong to the bucket as a whole, and are shown to nobody who may only write.
            warnings.append(f"the lock of {settings.place} cannot be seen with the agent's rights; nothing attests the policy")
        elif not settings.allow_unlocked:
            raise _no_lock(settings, "shows no lock on a new object")
        else:
            warnings.append("no lock: whoever owns the bucket can delete and replace what is stored (allow_unlocked)")
    else:
        warnings += weaker_lock(facts.lock_mode, facts.lock_seconds, settings.retention)
    return Standing(
        exclusive=exclusive,
        lock_mode=facts.lock_mode if locked else None,
        lock_seconds=facts.lock_seconds if locked else None,
        lock_wanted_seconds=None if settings.retention is None else float(settings.retention.days * DAY_SECONDS),
        clock_offset_seconds=offset,
        certificate_until=None if facts.certificate_until is None else facts.certificate_until.timestamp(),
        warnings=tuple(warnings),
    )


def _no_lock(settings: StoreSettings, why: str) -> RefusedError:
    hint = (
        "Give the bucket Object Lock with a default retention, and the agent s3:GetObjectRetention to see it; or ask for it with "
        "retention: {days: N, by: object}; or accept it with allow_unlocked: true. It is tried again by itself."
    )
    return RefusedError(f"{settings.place} {why}; nothing is shipped to it", hint=hint)


def weaker_lock(mode: str | None, seconds: float | None, policy: Retention | None) -> list[str]:
    """Say in which way a lock is weaker than it should be; nothing if it is not, or if there is none at all.

    Args:
        mode: The lock's mode, or None.
        seconds: For how long it was given, or None.
        policy: What is asked for; None to ask only that nobody can lift it.
    """
    if mode is None or seconds is None:
        return []
    shown = f"{seconds / DAY_SECONDS:.1f} days in {mode} mode"
    if policy is None:
        return [f"a new object is locked for {shown}, which whoever has the right can lift"] if mode == "governance" else []
    if seconds < policy.days * DAY_SECONDS - SLACK_SECONDS or (policy.mode == "compliance" and mode == "governance"):
        return [f"a new object is locked for {shown}; the policy asks for {policy.days} days in {policy.mode} mode"]
    return []


def lock_headers(settings: StoreSettings, now: datetime) -> dict[str, str]:
    """Return the headers that ask for retention, for a day's objects; none where the bucket's default gives it.

    The date is rounded up to the end of a day, so that one set of headers serves until then and is never too short.
    """
    policy = settings.retention
    if policy is None or policy.by == "bucket":
        return {}
    until = (now + timedelta(days=policy.days + 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "x-amz-object-lock-mode": policy.mode.upper(),
        "x-amz-object-lock-retain-until-date": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
