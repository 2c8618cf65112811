"""A bucket of Google or Azure: what is asked of it, and what the answers mean."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import MemoryStore

from agent.config import BucketAddress, Retention, Store
from agent.doctor import generic
from agent.doctor.facts import BucketFacts, Examined, Outcome, Tried
from agent.doctor.findings import OF_BUCKETS, Check, Finding, Verdict
from agent.doctor.generic import ask_bucket
from agent.doctor.generic_judge import judge_generic
from agent.vitals.standing import Standing

PROBE: Final = "probes/demo/payments/web-1/2026-01-08T1432"
YES: Final = Tried(Outcome.ALLOWED)
NO: Final = Tried(Outcome.REFUSED, "403 Forbidden")
SETTINGS: Final = Store(id="central", bucket=BucketAddress("gs", "audit"), retention=Retention(days=400))
SEEN: Final = Examined(standing=Standing(clock_offset_seconds=0.2, warnings=("the lock cannot be seen",)))
GOOD: Final = BucketFacts(
    examined=SEEN, probe=PROBE, create=YES, exclusive=True, read_own=YES, read_absent=NO, overwrite=NO, delete=NO, list_all=NO
)


def judged(settings: Store = SETTINGS, provider: str = "gs", **changed: Any) -> dict[Check, Finding]:
    """Return the findings for facts that differ from the good ones."""
    return {each.check: each for each in judge_generic(msgspec.structs.replace(GOOD, **changed), settings, provider, None)}


async def test_an_open_store_lets_the_doctor_do_everything_and_keeps_nothing_of_it() -> None:
    store, steps = MemoryStore(), list[str]()
    facts = await ask_bucket(store, PROBE, Examined(standing=None, trouble="no lock"), steps.append)
    assert facts.create.allowed
    assert facts.exclusive is True
    assert {facts.read_own, facts.overwrite, facts.delete, facts.list_all} == {YES}
    assert facts.read_absent.outcome is Outcome.ABSENT
    assert facts.gone
    assert steps
    assert obstore.list(store).collect() == []


async def test_a_store_that_cannot_be_written_to_is_asked_nothing_else() -> None:
    class Refusing:
        pass

    facts = await ask_bucket(Refusing(), PROBE, SEEN, lambda _: None)
    assert not facts.create.allowed
    assert facts.delete.said == "not asked"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PermissionDeniedError("Server returned non-2xx status code: 403 Forbidden: <Code>AccessDenied</Code>"), Outcome.REFUSED),
        (BaseError("Server returned non-2xx status code: 409 Conflict: <Code>BlobImmutableDueToPolicy</Code>"), Outcome.REFUSED),
        (AlreadyExistsError("Server returned non-2xx status code: 409 Conflict: <Code>BlobAlreadyExists</Code>"), Outcome.ABSENT),
        (AlreadyExistsError("Server returned non-2xx status code: 409 Conflict: <Code>BlobImmutableDueToPolicy</Code>"), Outcome.REFUSED),
        (BaseError("error sending request"), Outcome.UNCLEAR),
    ],
)
async def test_what_a_cloud_says_becomes_an_outcome(error: Exception, outcome: Outcome) -> None:
    async def request() -> None:
        raise error

    assert (await generic._try(request)).outcome is outcome


@pytest.mark.parametrize("provider", ["gs", "az"])
def test_what_these_clouds_do_not_show_is_not_said_to_be_well(provider: str) -> None:
    found = judged(provider=provider)
    assert tuple(found) == OF_BUCKETS
    hidden = (Check.OBJECT_LOCK, Check.DEFAULT_RETENTION, Check.NEW_OBJECT, Check.SHORTEN_RETENTION, Check.CHANGE_LOCK, Check.BUCKET_POLICY)
    assert {found[check].verdict for check in hidden} == {Verdict.NOT_TESTED}
    assert all(found[check].fix for check in hidden)
    assert {each.verdict for each in found.values()} == {Verdict.OK, Verdict.NOT_TESTED}


def test_credentials_that_replace_and_delete_are_bad() -> None:
    found = judged(overwrite=YES, delete=YES)
    assert (found[Check.OVERWRITE].verdict, found[Check.DELETE].verdict) == (Verdict.BAD, Verdict.BAD)
    assert "gcs/README.md" in found[Check.DELETE].fix


def test_a_bucket_that_the_agent_refuses_is_bad() -> None:
    found = judged(examined=Examined(standing=None, trouble="gs://audit shows no lock", hint="Give it one."))
    assert found[Check.OBJECT_LOCK].verdict is Verdict.BAD
