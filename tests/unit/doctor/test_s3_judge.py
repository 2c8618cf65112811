"""What the facts of an S3 bucket mean, without a bucket."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from agent.config import BucketAddress, Retention, Store
from agent.config.bucket import DAY_SECONDS
from agent.doctor.facts import Examined, Outcome, S3Facts, Tried
from agent.doctor.findings import OF_BUCKETS, Check, Finding, Verdict
from agent.doctor.s3_judge import judge_s3
from agent.vitals.standing import Standing

YES: Final = Tried(Outcome.ALLOWED)
NO: Final = Tried(Outcome.REFUSED, "403: AccessDenied")
ABSENT: Final = Tried(Outcome.ABSENT, "404: NoSuchKey")
UNCLEAR: Final = Tried(Outcome.UNCLEAR, "501: NotImplemented")

SETTINGS: Final = Store(id="central", bucket=BucketAddress("s3", "audit"), retention=Retention(days=400))
ACCEPTED: Final = Store(id="central", bucket=BucketAddress("s3", "audit"), allow_unlocked=True)
GOOD: Final = S3Facts(
    examined=Examined(standing=Standing(lock_mode="compliance", lock_seconds=400.0 * DAY_SECONDS, clock_offset_seconds=0.1)),
    probe="probes/demo/payments/web-1/2026-01-08T1432",
    create=YES,
    exclusive=True,
    read_own=YES,
    read_absent=NO,
    overwrite=NO,
    delete=NO,
    list_all=NO,
    version="v1",
    lock_mode="compliance",
    lock_seconds=400.0 * DAY_SECONDS,
    encryption="AES256",
    versioning=NO,
    lock=NO,
    bucket_encryption=NO,
    delete_version=NO,
    set_retention=NO,
    shorten=NO,
    digest_checked=True,
    read_others=NO,
    write_others=NO,
    change_versioning=NO,
    change_lock=NO,
    lifecycle=NO,
    change_lifecycle=NO,
    read_policy=NO,
)
UNLOCKED: Final[dict[str, Any]] = {"version": None, "lock_mode": None, "lock_seconds": None, "lock": ABSENT}


def judged(settings: Store = SETTINGS, endpoint: str | None = None, **changed: Any) -> dict[Check, Finding]:
    """Return the findings for facts that differ from the good ones."""
    return {each.check: each for each in judge_s3(msgspec.structs.replace(GOOD, **changed), settings, endpoint)}


def test_least_privilege_on_a_locked_bucket_has_nothing_to_mend() -> None:
    found = judged()
    assert tuple(found) == OF_BUCKETS
    assert {check for check, each in found.items() if each.verdict not in (Verdict.OK, Verdict.NOT_TESTED)} == set()
    assert {check for check, each in found.items() if each.verdict is Verdict.NOT_TESTED} == {Check.DEFAULT_RETENTION, Check.LIFECYCLE}


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({"overwrite": YES}, Check.OVERWRITE, Verdict.WARNING),
        ({"overwrite": YES, **UNLOCKED}, Check.OVERWRITE, Verdict.BAD),
        ({"delete": YES}, Check.DELETE, Verdict.BAD),
        ({"delete": UNCLEAR}, Check.DELETE, Verdict.NOT_TESTED),
        ({"delete_version": YES}, Check.DELETE_VERSION, Verdict.BAD),
        ({"delete_version": Tried(Outcome.REFUSED, "403: AccessDenied: forbidden by object lock")}, Check.DELETE_VERSION, Verdict.WARNING),
        ({"set_retention": YES}, Check.SHORTEN_RETENTION, Verdict.WARNING),
        ({"set_retention": YES, "shorten": YES}, Check.SHORTEN_RETENTION, Verdict.BAD),
        ({"list_all": YES}, Check.LIST, Verdict.WARNING),
        ({"list_all": YES, "exclusive": False, "read_absent": ABSENT}, Check.LIST, Verdict.NOTE),
        ({"exclusive": False, "read_absent": ABSENT}, Check.CREATE, Verdict.WARNING),
        ({"exclusive": False, "read_absent": ABSENT}, Check.READ_OWN, Verdict.OK),
        ({"exclusive": False}, Check.READ_OWN, Verdict.BAD),
        ({"exclusive": None}, Check.CREATE, Verdict.NOT_TESTED),
        ({"read_own": NO}, Check.READ_OWN, Verdict.BAD),
        ({"read_others": YES}, Check.READ_OTHERS, Verdict.BAD),
        ({"write_others": YES}, Check.WRITE_OTHERS, Verdict.BAD),
        ({"change_versioning": YES}, Check.CHANGE_VERSIONING, Verdict.WARNING),
        ({"change_versioning": YES, "lock_mode": None}, Check.CHANGE_VERSIONING, Verdict.BAD),
        ({"change_lock": YES}, Check.CHANGE_LOCK, Verdict.BAD),
        ({"change_lifecycle": YES}, Check.CHANGE_LIFECYCLE, Verdict.BAD),
        ({"lifecycle": YES}, Check.LIFECYCLE, Verdict.OK),
        ({"lifecycle": YES, "expiring": ("old",)}, Check.LIFECYCLE, Verdict.WARNING),
        ({"read_policy": YES}, Check.BUCKET_POLICY, Verdict.WARNING),
        ({"read_policy": ABSENT}, Check.BUCKET_POLICY, Verdict.WARNING),
        ({"encryption": None}, Check.ENCRYPTION, Verdict.WARNING),
        ({"encryption": None, "bucket_encryption": Tried(Outcome.ALLOWED, "AES256")}, Check.ENCRYPTION, Verdict.OK),
        ({"lock_seconds": 30.0 * DAY_SECONDS}, Check.NEW_OBJECT, Verdict.BAD),
        ({"lock_mode": "governance"}, Check.NEW_OBJECT, Verdict.BAD),
        (UNLOCKED, Check.NEW_OBJECT, Verdict.BAD),
        (UNLOCKED, Check.OBJECT_LOCK, Verdict.BAD),
        (UNLOCKED, Check.VERSIONING, Verdict.BAD),
        (UNLOCKED, Check.DEFAULT_RETENTION, Verdict.NOT_TESTED),
        ({"lock": YES}, Check.DEFAULT_RETENTION, Verdict.BAD),
        ({"lock": YES, "default_mode": "compliance", "default_seconds": 30.0 * DAY_SECONDS}, Check.DEFAULT_RETENTION, Verdict.BAD),
        ({"lock": YES, "default_mode": "compliance", "default_seconds": 400.0 * DAY_SECONDS}, Check.DEFAULT_RETENTION, Verdict.OK),
        ({"examined": Examined(standing=Standing(clock_offset_seconds=90.0))}, Check.CLOCK, Verdict.WARNING),
        ({"examined": Examined(standing=Standing(clock_offset_seconds=-700.0))}, Check.CLOCK, Verdict.BAD),
    ],
)
def test_each_departure_has_its_verdict_and_a_fix(changed: dict[str, Any], check: Check, verdict: Verdict) -> None:
    found = judged(**changed)[check]
    assert found.verdict is verdict
    assert bool(found.fix) == (verdict not in (Verdict.OK, Verdict.NOTE))


def test_what_the_configuration_accepts_is_a_warning_but_never_the_right_to_delete() -> None:
    found = judged(ACCEPTED, overwrite=YES, delete=YES, **UNLOCKED)
    lacking = (Check.VERSIONING, Check.OBJECT_LOCK, Check.NEW_OBJECT, Check.OVERWRITE)
    assert {found[check].verdict for check in lacking} == {Verdict.WARNING}
    assert found[Check.DELETE].verdict is Verdict.BAD


def test_a_retention_that_each_object_asks_for_needs_no_default_and_the_right_to_set_it() -> None:
    settings = msgspec.structs.replace(SETTINGS, retention=Retention(days=400, by="object"))
    found = judged(settings, lock=YES, set_retention=YES)
    assert found[Check.DEFAULT_RETENTION].verdict is Verdict.NOTE
    assert found[Check.SHORTEN_RETENTION].verdict is Verdict.NOTE


@pytest.mark.parametrize(
    ("endpoint", "verdict"),
    [
        (None, Verdict.OK),
        ("https://s3.example.com", Verdict.OK),
        ("http://127.0.0.1:9000", Verdict.NOTE),
        ("http://s3.example.com", Verdict.WARNING),
    ],
)
def test_the_way_to_the_store_is_judged_by_its_url(endpoint: str | None, verdict: Verdict) -> None:
    assert judged(endpoint=endpoint)[Check.TRANSPORT].verdict is verdict


@pytest.mark.parametrize(
    ("create", "trouble", "seen"),
    [
        (NO, "", "refuses a new object"),
        (UNCLEAR, "cannot create s3://audit: Connection refused", "Connection refused"),
        (Tried(Outcome.UNCLEAR, "Unable to locate credentials"), "403 Forbidden", "no credentials"),
        (UNCLEAR, "", "501"),
    ],
)
def test_without_an_object_of_its_own_nothing_else_is_said_to_be_well(create: Tried, trouble: str, seen: str) -> None:
    found = judged(create=create, examined=Examined(standing=None, trouble=trouble))
    assert found.pop(Check.REACHABLE).verdict is Verdict.BAD
    assert seen in judged(create=create, examined=Examined(standing=None, trouble=trouble))[Check.REACHABLE].seen
    del found[Check.TRANSPORT]
    assert {each.verdict for each in found.values()} == {Verdict.NOT_TESTED}


def test_what_a_test_left_behind_is_said() -> None:
    assert "could not be removed" in judged(delete=YES, marker_left=True)[Check.DELETE].seen
    assert "second version" in judged(overwrite=YES, replaced=True)[Check.OVERWRITE].seen
    assert "keeps the shorter" in judged(shorten=YES, shortened_left=True)[Check.SHORTEN_RETENTION].seen
    assert msgspec.structs.replace(GOOD, version=None, delete=YES).gone
    assert not msgspec.structs.replace(GOOD, version=None, delete=Tried(Outcome.ALLOWED, "only a condition stopped it")).gone
    assert not msgspec.structs.replace(GOOD, delete=YES).gone
