"""Say what the facts of an S3 bucket mean. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..stores.bucket.examine import weaker_lock
from .bucket_judge import MEND_FIRST, POLICIES, judge_any, new_object, overwrite, shown_days, transport, unreachable
from .facts import Outcome
from .findings import OF_BUCKETS, Check, Finding, bad, note, ok, only, untested, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Store as StoreSettings
    from .facts import S3Facts, Tried

_AS_ADMIN: Final = "An administrator's credentials can read it: AWS_PROFILE=ADMIN trailseal doctor --config FILE."
_ACTIONS: Final = {
    Check.DELETE: "s3:DeleteObject",
    Check.DELETE_VERSION: "s3:DeleteObjectVersion",
    Check.READ_OTHERS: "s3:GetObject on more than the agent's own prefixes",
    Check.WRITE_OTHERS: "s3:PutObject on more than the agent's own prefixes",
    Check.CHANGE_VERSIONING: "s3:PutBucketVersioning",
    Check.CHANGE_LOCK: "s3:PutBucketObjectLockConfiguration",
    Check.CHANGE_LIFECYCLE: "s3:PutLifecycleConfiguration",
}
_CONDITIONAL: Final = (
    "On Amazon S3 deny writes without If-None-Match: "
    f"{POLICIES}/aws/bucket-policy.json, statement DenyUnconditionalWrites. Elsewhere nothing forbids it."
)
_DENY: Final = f"Deny it in the bucket's policy: {POLICIES}/aws/bucket-policy.json, statement"


def judge_s3(facts: S3Facts, settings: StoreSettings, endpoint: str | None) -> tuple[Finding, ...]:
    """Return a finding for every check of a bucket.

    Args:
        facts: What was seen.
        settings: The store's settings.
        endpoint: The server's URL, or None for Amazon's.
    """
    gone = unreachable(facts, settings)
    if gone is not None:
        return only([gone, transport(endpoint)], OF_BUCKETS, "no object of the doctor's could be stored", MEND_FIRST)
    found = [*judge_any(facts, settings, endpoint), *_bucket(facts, settings), *_rights(facts, settings), *_changes(facts)]
    return only(found, OF_BUCKETS, "not asked", MEND_FIRST)


def _bucket(facts: S3Facts, settings: StoreSettings) -> Iterator[Finding]:
    name = "BUCKET" if settings.bucket is None else settings.bucket.bucket
    yield _versioning(facts, settings, name)
    yield _object_lock(facts, settings)
    yield _default_retention(facts, settings, name)
    said = facts.examined.trouble
    hidden = "; on Amazon S3 it is seen with s3:GetObjectRetention" if facts.lock_mode is None and facts.version is not None else ""
    yield new_object(facts.lock_mode, facts.lock_seconds, settings, f" ({said})" if said else hidden)
    if facts.encryption is not None:
        yield ok(Check.ENCRYPTION, f"a new object is encrypted by the server ({facts.encryption})")
    elif facts.bucket_encryption.allowed:
        yield ok(Check.ENCRYPTION, f"the bucket's default is {facts.bucket_encryption.said}")
    else:
        rule = '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}'
        fix = f"aws s3api put-bucket-encryption --bucket {name} --server-side-encryption-configuration '{rule}'"
        yield warning(Check.ENCRYPTION, "the server shows no encryption of a new object", f"{fix}, or encrypt the server's disks.")


def _versioning(facts: S3Facts, settings: StoreSettings, name: str) -> Finding:
    if facts.versioning.allowed and facts.versioning.said == "Enabled":
        return ok(Check.VERSIONING, "on")
    if facts.version is not None:
        return ok(Check.VERSIONING, "a new object has a version; the setting itself may not be read")
    fix = f"aws s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled, then Object Lock (docs/stores.md)."
    seen = "off: what is written over or deleted is gone"
    return (warning if settings.allow_unlocked else bad)(Check.VERSIONING, seen, fix)


def _object_lock(facts: S3Facts, settings: StoreSettings) -> Finding:
    if facts.lock.allowed:
        return ok(Check.OBJECT_LOCK, "Object Lock is on")
    if facts.lock_mode is not None:
        return ok(Check.OBJECT_LOCK, "a new object is locked; the bucket's own setting may not be read")
    fix = f"Make a bucket with Object Lock, or switch it on for this one: docs/stores.md, and {POLICIES}/aws/README.md."
    if facts.lock.outcome is Outcome.ABSENT:
        seen = "Object Lock is off: whoever has the right can delete and replace what is stored"
        return (warning if settings.allow_unlocked else bad)(Check.OBJECT_LOCK, seen, fix)
    seen = f"no lock is seen: neither on a new object nor in the bucket's settings ({facts.lock.said})"
    return (warning if settings.allow_unlocked else bad)(Check.OBJECT_LOCK, seen, f"{fix} {facts.examined.hint}".strip())


def _default_retention(facts: S3Facts, settings: StoreSettings, name: str) -> Finding:
    policy, check = settings.retention, Check.DEFAULT_RETENTION
    mode, days = ("COMPLIANCE", 400) if policy is None else (policy.mode.upper(), policy.days)
    rule = f'{{"ObjectLockEnabled":"Enabled","Rule":{{"DefaultRetention":{{"Mode":"{mode}","Days":{days}}}}}}}'
    fix = f"aws s3api put-object-lock-configuration --bucket {name} --object-lock-configuration '{rule}'"
    if facts.lock.outcome is Outcome.ABSENT:
        return untested(check, "without Object Lock there is none", "See object_lock.")
    if not facts.lock.allowed:
        return untested(check, f"it may not be read ({facts.lock.said}); new_object shows what comes of it", _AS_ADMIN)
    if facts.default_mode is None or facts.default_seconds is None:
        if policy is not None and policy.by == "object":
            return note(check, "none: each object asks for its own, as the configuration says")
        return bad(check, "none: a new object that asks for nothing is not locked", fix)
    weaker = weaker_lock(facts.default_mode, facts.default_seconds, policy)
    if weaker and not (policy is not None and policy.by == "object"):
        return (warning if policy is None else bad)(check, weaker[0].replace("a new object is", "by default an object is"), fix)
    return ok(check, f"{shown_days(facts.default_seconds)} in {facts.default_mode} mode")


def _rights(facts: S3Facts, settings: StoreSettings) -> Iterator[Finding]:
    left = "; the test put a second version on the doctor's object" if facts.replaced and facts.version else ""
    locked = facts.version is not None and facts.lock_mode is not None
    yield overwrite(facts, settings, keeps_old=locked, left=left, fix=_CONDITIONAL)
    yield _delete(facts)
    yield _delete_version(facts)
    yield _shorten(facts, settings)
    fix = f"Narrow their policy to the agent's own prefixes: {POLICIES}/aws/agent-policy.json, CreateOwnObjects and ReadOwnObjects."
    seen = f"these credentials read what other services stored, such as {facts.read_others.said}"
    yield _right(Check.READ_OTHERS, facts.read_others, bad, seen, fix)
    seen = f"these credentials may write under another service's name ({facts.write_others.said}; nothing was stored)"
    yield _right(Check.WRITE_OTHERS, facts.write_others, bad, seen, fix)


def _right(check: Check, tried: Tried, make: Callable[[Check, str, str], Finding], seen: str, fix: str) -> Finding:
    """Return ok where something is refused, `not tested` where nobody can tell, and what `make` makes where it is allowed."""
    if tried.refused:
        return ok(check, "refused")
    if not tried.allowed:
        why = tried.said or "the server gave no clear answer"
        return untested(check, why, f"Look whether a policy gives these credentials {_ACTIONS[check]}.")
    return make(check, seen, fix)


def _delete(facts: S3Facts) -> Finding:
    if facts.version is None:
        seen = f"these credentials delete objects; the doctor's own {'is gone' if facts.gone else 'was not'}"
    elif facts.marker_left:
        seen = "these credentials hide objects behind a delete marker; one was put on the doctor's own object and could not be removed"
    else:
        seen = "these credentials hide objects behind a delete marker; the test left none"
    return _right(Check.DELETE, facts.delete, bad, seen, f"{_DENY} DenyDeletes, and take s3:DeleteObject from these credentials.")


def _delete_version(facts: S3Facts) -> Finding:
    check, words = Check.DELETE_VERSION, facts.delete_version.said.lower()
    fix = f"{_DENY} DenyDeletes, and take s3:DeleteObjectVersion from these credentials."
    if facts.version is None:
        return untested(check, "without versioning there are none", "See delete.")
    if facts.delete_version.refused and ("lock" in words or "worm" in words):
        return warning(check, "refused by the lock alone: these credentials may delete versions, and can as soon as the lock ends", fix)
    return _right(check, facts.delete_version, bad, "these credentials delete a version for good; the doctor's own object is gone", fix)


def _shorten(facts: S3Facts, settings: StoreSettings) -> Finding:
    check, fix = Check.SHORTEN_RETENTION, f"{_DENY} DenyRetentionChanges."
    if facts.shorten.allowed:
        left = "; the doctor's object keeps the shorter one" if facts.shortened_left else "; the test put it back"
        return bad(check, f"these credentials shorten the retention of an object{left}", f"{fix} Use compliance mode.")
    if facts.set_retention.allowed:
        if settings.retention is not None and settings.retention.by == "object":
            return note(check, "refused; these credentials may set a retention, as by: object needs it, and lengthen one")
        return warning(check, "refused; but these credentials may set and lengthen an object's retention, which the agent never does", fix)
    if facts.shorten.refused:
        return ok(check, "refused, as is setting one at all")
    return untested(check, facts.shorten.said, "See new_object.")


def _changes(facts: S3Facts) -> Iterator[Finding]:
    locked = facts.lock_mode is not None
    fix = f"{_DENY} DenyBucketChanges."
    seen = "these credentials set the bucket's versioning" + (
        "; the lock keeps it from being suspended" if locked else ", and can suspend it"
    )
    yield _right(Check.CHANGE_VERSIONING, facts.change_versioning, warning if locked else bad, seen, fix)
    seen = "these credentials write the lock's settings, and can lower the default retention of what comes (it was written as it was)"
    yield _right(Check.CHANGE_LOCK, facts.change_lock, bad, seen, fix)
    yield _lifecycle(facts)
    seen = "these credentials write the lifecycle's rules, and can let everything expire (they were written as they were)"
    yield _right(Check.CHANGE_LIFECYCLE, facts.change_lifecycle, bad, seen, fix)
    yield _policy(facts, fix)


def _lifecycle(facts: S3Facts) -> Finding:
    check = Check.LIFECYCLE
    if facts.lifecycle.outcome is Outcome.ABSENT:
        return ok(check, "no rule deletes anything")
    if not facts.lifecycle.allowed:
        return untested(check, f"it may not be read ({facts.lifecycle.said})", _AS_ADMIN)
    if not facts.expiring:
        return ok(check, "no rule deletes anything")
    names = ", ".join(facts.expiring[:3])
    fix = "Remove the rule, or let it begin after the retention ends and keep it away from what an auditor still needs."
    return warning(check, f"rules delete objects, or hide them behind delete markers, which `verify` reports: {names}", fix)


def _policy(facts: S3Facts, fix: str) -> Finding:
    check = Check.BUCKET_POLICY
    if facts.read_policy.outcome is Outcome.ABSENT:
        seen = "the bucket has none, so every identity of the account does what its own policy says"
        return warning(check, seen, f"Put {POLICIES}/aws/bucket-policy.json on it.")
    if facts.read_policy.refused:
        return ok(check, "may not be read; writing it is never tried")
    if not facts.read_policy.allowed:
        return untested(check, facts.read_policy.said, _AS_ADMIN)
    return warning(check, "these credentials read the bucket's policy; whether they may write it is never tried", fix)
