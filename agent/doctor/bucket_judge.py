"""Say what the facts mean that every cloud's bucket shows. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..config import is_plain_http
from ..config.bucket import DAY_SECONDS
from ..stores.bucket.examine import CLOCK_SECONDS, weaker_lock
from .facts import Outcome
from .findings import Check, Finding, bad, note, ok, untested, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import Store as StoreSettings
    from .facts import BucketFacts

SKEW_SECONDS: Final = 600.0
"""How far the clocks may be apart; from 15 minutes on, S3 refuses what is signed."""
MEND_FIRST: Final = "Mend that first, and run the doctor again."
POLICIES: Final = "deploy/policies"


def unreachable(facts: BucketFacts, settings: StoreSettings) -> Finding | None:
    """Return the finding that the doctor could store nothing; None if it could.

    Args:
        facts: What was seen.
        settings: The store's settings.
    """
    if facts.create.allowed:
        return None
    said, trouble, hint = facts.create.said, facts.examined.trouble, facts.examined.hint
    if "locate credentials" in said:
        return bad(Check.REACHABLE, f"there are no credentials for {settings.place}", "docs/stores.md says where they are looked for.")
    if facts.create.refused:
        fix = f"Allow these credentials to create objects below probes/, trails/ and records/: {POLICIES}/README.md."
        return bad(Check.REACHABLE, f"{settings.place} answers, and refuses a new object: {said}", hint or fix)
    if trouble:
        return bad(Check.REACHABLE, trouble, hint or "Look at the endpoint, the name of the bucket, the network and the server.")
    return bad(Check.REACHABLE, f"no object could be created in {settings.place}: {said}", "Look at the endpoint and the credentials.")


def transport(endpoint: str | None) -> Finding:
    """Judge whether anybody on the way can read or change what is shipped.

    Args:
        endpoint: The server's URL, or None for the cloud's own.
    """
    if endpoint is None:
        return ok(Check.TRANSPORT, "TLS, to the cloud's own endpoint")
    if endpoint.startswith("https:"):
        return ok(Check.TRANSPORT, f"TLS, to {endpoint}")
    if not is_plain_http(endpoint):
        return note(Check.TRANSPORT, f"plain HTTP, to {endpoint} on this machine only")
    fix = "Give the server a certificate and use an https:// endpoint; then remove allow_http."
    return warning(Check.TRANSPORT, f"plain HTTP to {endpoint}: whoever is on the way reads what is shipped", fix)


def judge_any(facts: BucketFacts, settings: StoreSettings, endpoint: str | None) -> Iterator[Finding]:
    """Yield the findings that every bucket has once the doctor's object is there.

    Args:
        facts: What was seen; `unreachable` said None.
        settings: The store's settings.
        endpoint: The server's URL, or None for the cloud's own.
    """
    yield ok(Check.REACHABLE, f"{settings.place} took an object from these credentials")
    yield transport(endpoint)
    yield _clock(facts)
    yield _create(facts)
    yield _read_own(facts)
    yield _list(facts)


def _clock(facts: BucketFacts) -> Finding:
    offset = facts.clock_offset_seconds
    if offset is None and facts.examined.standing is not None:
        offset = facts.examined.standing.clock_offset_seconds
    if offset is None:
        return untested(Check.CLOCK, "the store did not tell its time", MEND_FIRST)
    seen = f"this machine's clock and the store's are {abs(offset):.1f} s apart"
    fix = "Let chrony or systemd-timesyncd set this machine's clock; every record bears its time."
    if abs(offset) > SKEW_SECONDS:
        return bad(Check.CLOCK, seen, fix)
    return warning(Check.CLOCK, seen, fix) if abs(offset) > CLOCK_SECONDS else ok(Check.CLOCK, seen)


def _create(facts: BucketFacts) -> Finding:
    if facts.exclusive is None:
        return untested(Check.CREATE, "it is not known whether a second creation is noticed", MEND_FIRST)
    if facts.exclusive:
        return ok(Check.CREATE, "exclusive: the server refuses a second creation under one key")
    return warning(
        Check.CREATE,
        "weak create: this server does not keep create-if-absent on this bucket, so each key is read before it is written",
        "Never run two agents under one identity; `verify` reports a second version. A server that keeps If-None-Match on versioned "
        "buckets has no such gap.",
    )


def _read_own(facts: BucketFacts) -> Finding:
    if not facts.read_own.allowed:
        fix = f"Allow s3:GetObject (or the cloud's like) below the agent's own prefixes: {POLICIES}/README.md, statement ReadOwnObjects."
        return bad(Check.READ_OWN, f"own objects cannot be read, so 'already there' cannot be compared: {facts.read_own.said}", fix)
    if facts.exclusive is False and facts.read_absent.outcome is not Outcome.ABSENT:
        return bad(
            Check.READ_OWN,
            f"of a key under which there is nothing the server says: {facts.read_absent.said or 'nothing'}; with a weak create the agent "
            "has to know, and ships nothing until it does",
            "Allow s3:ListBucket on the bucket, without a condition on the prefix: "
            f"{POLICIES}/ceph/bucket-policy.json, statement TellWhatIsAbsent.",
        )
    return ok(Check.READ_OWN, "own objects can be read, to compare what is already there")


def _list(facts: BucketFacts) -> Finding:
    if facts.list_all.refused:
        return ok(Check.LIST, "refused")
    if not facts.list_all.allowed:
        return untested(Check.LIST, facts.list_all.said, MEND_FIRST)
    if facts.exclusive is False:
        return note(Check.LIST, "these credentials see the names of all objects, as a weak create needs it here")
    fix = f"Take s3:ListBucket (or the cloud's like) from these credentials: {POLICIES}/README.md. The agent never lists."
    return warning(Check.LIST, "these credentials see the names of all objects, of other services too", fix)


def new_object(mode: str | None, seconds: float | None, settings: StoreSettings, unseen: str) -> Finding:
    """Judge the lock that a new object was found under.

    Args:
        mode: Its mode, or None.
        seconds: For how long it was locked, or None.
        settings: The store's settings.
        unseen: What to say where there is none.
    """
    fix = "Set the bucket's default retention to the policy, or let each object ask for it: retention: {days: N, by: object}."
    if mode is None or seconds is None:
        seen = f"a new object lies under no lock that can be seen{unseen}"
        return (warning if settings.allow_unlocked else bad)(Check.NEW_OBJECT, seen, fix)
    weaker = weaker_lock(mode, seconds, settings.retention)
    if weaker:
        return (warning if settings.retention is None else bad)(Check.NEW_OBJECT, weaker[0], fix)
    policy = settings.retention
    asked = "; the configuration asks for nothing" if policy is None else f"; the policy asks for {policy.days} days in {policy.mode} mode"
    return ok(Check.NEW_OBJECT, f"locked for {shown_days(seconds)} in {mode} mode{asked}")


def shown_days(seconds: float) -> str:
    """Return a length of time in days."""
    days = f"{seconds / DAY_SECONDS:.1f}".removesuffix(".0")
    return f"{days} day{'' if days == '1' else 's'}"


def overwrite(facts: BucketFacts, settings: StoreSettings, *, keeps_old: bool, left: str, fix: str) -> Finding:
    """Judge whether an object can be written over.

    Args:
        facts: What was seen.
        settings: The store's settings.
        keeps_old: Whether the older version stays, under a lock.
        left: What the test left behind, to be added.
        fix: How to forbid it.
    """
    if facts.overwrite.refused:
        return ok(Check.OVERWRITE, "refused")
    if not facts.overwrite.allowed:
        return untested(Check.OVERWRITE, facts.overwrite.said, MEND_FIRST)
    if keeps_old:
        seen = f"an object can be written over: the older version stays, locked, and `verify` finds the newer one{left}"
        return warning(Check.OVERWRITE, seen, fix)
    seen = f"an object can be written over, and what it held is gone{left}"
    return (warning if settings.allow_unlocked else bad)(Check.OVERWRITE, seen, f"Put a lock on the bucket (docs/stores.md). {fix}")
