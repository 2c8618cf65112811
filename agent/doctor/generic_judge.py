"""Say what the facts of a bucket of Google or Azure mean. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .bucket_judge import MEND_FIRST, POLICIES, judge_any, new_object, overwrite, transport, unreachable
from .findings import OF_BUCKETS, Check, Finding, bad, ok, only, untested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import Store as StoreSettings
    from .facts import BucketFacts

_GOOGLE: Final = (
    "gcloud storage buckets describe gs://BUCKET, and gcloud storage buckets get-iam-policy gs://BUCKET; "
    f"{POLICIES}/gcs/README.md says what there should be."
)
_AZURE: Final = (
    "az storage container immutability-policy show --account-name ACCOUNT --container-name CONTAINER, and "
    f"az role assignment list --assignee AGENT --all; {POLICIES}/azure/README.md says what there should be."
)
_WHERE: Final = {
    "gs": ("the agent's credentials do not show it on Google Cloud Storage", _GOOGLE),
    "az": ("the agent's credentials do not show it on Azure", _AZURE),
}


def judge_generic(facts: BucketFacts, settings: StoreSettings, provider: str, endpoint: str | None) -> tuple[Finding, ...]:
    """Return a finding for every check of a bucket.

    Args:
        facts: What was seen.
        settings: The store's settings.
        provider: ``gs`` or ``az``.
        endpoint: The server's URL, or None for the cloud's own.
    """
    gone = unreachable(facts, settings)
    if gone is not None:
        return only([gone, transport(endpoint)], OF_BUCKETS, "no object of the doctor's could be stored", MEND_FIRST)
    return only([*judge_any(facts, settings, endpoint), *_findings(facts, settings, provider)], OF_BUCKETS, *_WHERE[provider])


def _findings(facts: BucketFacts, settings: StoreSettings, provider: str) -> Iterator[Finding]:
    standing, (_, where) = facts.examined.standing, _WHERE[provider]
    mode = None if standing is None else standing.lock_mode
    if mode is not None and standing is not None:
        yield ok(Check.OBJECT_LOCK, "a new object is locked")
        yield new_object(mode, standing.lock_seconds, settings, "")
    elif facts.examined.trouble:
        yield bad(Check.OBJECT_LOCK, facts.examined.trouble, facts.examined.hint or where)
    elif settings.allow_unlocked:
        yield new_object(None, None, settings, " (allow_unlocked)")
    if facts.overwrite.refused:
        yield untested(Check.NEW_OBJECT, "its retention is not shown, but the doctor's object could not be written over", where)
    folder = "gcs" if provider == "gs" else "azure"
    instead = f"{POLICIES}/{folder}/README.md has the role to give these credentials instead."
    yield overwrite(facts, settings, keeps_old=mode is not None, left="; the doctor's own object was", fix=instead)
    if facts.delete.refused:
        yield ok(Check.DELETE, "refused")
    elif facts.delete.allowed:
        yield bad(Check.DELETE, "these credentials delete objects; the doctor's own is gone, or hidden behind a version", instead)
    else:
        yield untested(Check.DELETE, facts.delete.said, MEND_FIRST)
