"""What a bucket guarantees, from what its server shows of a probe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.config import BucketAddress, Retention, Store
from agent.errors import RefusedError, TransientError
from agent.stores.bucket.examine import FIRST, SECOND, WEAK_CREATE, find_exclusive, judge, lock_headers, weaker_lock
from agent.stores.bucket.look import Facts, read_facts, read_time

NOW = datetime(2026, 11, 27, 23, 59, 30, tzinfo=UTC)
DAY = 86_400


def store(provider: str = "s3", **settings: Any) -> Store:
    where = BucketAddress(provider, "audit", account="acc" if provider == "az" else "")  # type: ignore[arg-type]
    return Store(id="main", bucket=where, **settings)


def locked(days: float = 400.0, mode: str | None = "compliance", **facts: Any) -> Facts:
    until = NOW + timedelta(days=days) if mode else None
    shown: dict[str, Any] = {"status": 200, "date": NOW, "modified": NOW, "version": "v1", "lock_mode": mode, "locked_until": until}
    return Facts(**{**shown, **facts})


class Bucket:
    """Keep create-if-absent or not, and read or refuse to."""

    def __init__(self, *, exclusive: bool, readable: bool = True) -> None:
        """Begin empty."""
        self.exclusive, self.readable = exclusive, readable
        self.versions: list[bytes] = []

    async def create(self, _key: str, data: bytes) -> bool:
        if self.versions and self.exclusive:
            return False
        self.versions.append(data)
        return True

    async def read(self, _key: str) -> bytes | None:
        if not self.readable and not self.versions:
            message = "403"
            raise RefusedError(message)
        return self.versions[-1] if self.versions else None


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("exclusive", [True, False])
async def test_creating_a_probe_twice_shows_whether_create_if_absent_is_kept(*, exclusive: bool, readable: bool) -> None:
    bucket = Bucket(exclusive=exclusive, readable=readable)
    for _ in range(3):
        assert await find_exclusive("k", bucket.create, bucket.read) is exclusive
    # However often it is asked, a probe has one version, or two where create is weak.
    assert bucket.versions == ([FIRST] if exclusive else [FIRST, SECOND])


async def test_a_probe_that_was_cut_short_between_its_two_steps_is_taken_up_again() -> None:
    for exclusive in (True, False):
        bucket = Bucket(exclusive=exclusive)
        await bucket.create("k", FIRST)
        assert await find_exclusive("k", bucket.create, bucket.read) is exclusive


def test_a_lock_as_the_policy_wants_it_is_no_weakness() -> None:
    standing = judge(locked(), store(retention=Retention(days=400)), exclusive=True, now=NOW)
    assert (standing.exclusive, standing.lock_mode, standing.lock_seconds, standing.warnings) == (True, "compliance", 400 * DAY, ())
    assert judge(locked(1), store(), exclusive=True, now=NOW).warnings == ()


@pytest.mark.parametrize(
    ("facts", "settings", "warning"),
    [
        (locked(399), {"retention": Retention(days=400)}, "399.0 days in compliance mode; the policy asks for 400 days"),
        (locked(500, "governance"), {"retention": Retention(days=400)}, "500.0 days in governance mode; the policy asks for 400 days"),
        (locked(500, "governance"), {}, "which whoever has the right can lift"),
        (locked(mode=None), {"allow_unlocked": True}, "no lock"),
        (locked(mode=None, version=None), {"allow_unlocked": True}, "no lock"),
        (locked(date=NOW + timedelta(minutes=10)), {}, "600 s apart"),
        # A lock without a date, or one that is over, is none.
        (locked(locked_until=None), {"allow_unlocked": True}, "no lock"),
        (locked(-3), {"allow_unlocked": True}, "no lock"),
    ],
)
def test_what_is_weaker_is_warned_of(facts: Facts, settings: dict[str, Any], warning: str) -> None:
    standing = judge(facts, store(**settings), exclusive=True, now=NOW)
    assert len(standing.warnings) == 1
    assert warning in standing.warnings[0]


def test_governance_is_enough_where_the_policy_asks_for_it() -> None:
    policy = Retention(days=400, mode="governance")
    assert judge(locked(400, "governance"), store(retention=policy), exclusive=True, now=NOW).warnings == ()


def test_a_weak_create_is_warned_of() -> None:
    standing = judge(locked(), store(), exclusive=False, now=NOW)
    assert (standing.exclusive, standing.warnings) == (False, (WEAK_CREATE,))


@pytest.mark.parametrize("facts", [locked(mode=None), locked(mode=None, version=None), locked(locked_until=None), locked(-3)])
@pytest.mark.parametrize("settings", [{}, {"retention": Retention(days=400)}])
def test_a_bucket_without_a_lock_is_refused(facts: Facts, settings: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="nothing is shipped to it") as caught:
        judge(facts, store(**settings), exclusive=True, now=NOW)
    assert "allow_unlocked: true" in caught.value.hint


@pytest.mark.parametrize("provider", ["gs", "az"])
def test_a_lock_that_only_its_owner_sees_has_to_be_stated_and_is_then_warned_of(provider: str) -> None:
    unseen = Facts(status=200)
    (warning,) = judge(unseen, store(provider, retention=Retention(days=400)), exclusive=True, now=NOW).warnings
    assert "nothing attests the policy" in warning


def test_a_refused_look_says_so_if_the_clocks_are_apart() -> None:
    with pytest.raises(RefusedError, match=r"HTTP 403; this machine's clock and the store's are 600 s apart"):
        judge(Facts(status=403, date=NOW + timedelta(seconds=600)), store(), exclusive=True, now=NOW)


@pytest.mark.parametrize(("status", "kind"), [(403, RefusedError), (404, TransientError), (503, TransientError)])
def test_a_probe_that_cannot_be_looked_at_is_no_standing(status: int, kind: type[TransientError]) -> None:
    with pytest.raises(TransientError) as caught:
        judge(Facts(status=status), store(), exclusive=True, now=NOW)
    assert type(caught.value) is kind


def test_a_few_seconds_less_are_allowed_and_no_more() -> None:
    assert weaker_lock("compliance", 400 * DAY - 60, Retention(days=400)) == []
    assert weaker_lock("compliance", 400 * DAY - 600, Retention(days=400))


def test_the_headers_that_ask_for_retention_serve_a_day_and_are_never_too_short() -> None:
    settings = store(retention=Retention(days=30, by="object"))
    at_night, next_morning = lock_headers(settings, NOW), lock_headers(settings, NOW + timedelta(minutes=1))
    assert at_night == {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": "2026-12-28T00:00:00Z"}
    assert next_morning["x-amz-object-lock-retain-until-date"] == "2026-12-29T00:00:00Z"
    for moment in (NOW, NOW + timedelta(minutes=1), NOW.replace(hour=0, minute=0, second=0)):
        until = read_time(lock_headers(settings, moment)["x-amz-object-lock-retain-until-date"])
        assert until is not None
        assert timedelta(days=30) <= until - moment <= timedelta(days=31)
    assert lock_headers(store(retention=Retention(days=30)), NOW) == {}
    assert lock_headers(store(), NOW) == {}


def test_headers_of_three_clouds_are_read() -> None:
    amazon = read_facts(
        200,
        {
            "date": "Fri, 27 Nov 2026 23:59:30 GMT",
            "last-modified": "Fri, 27 Nov 2026 23:59:30 GMT",
            "x-amz-version-id": "v1",
            "x-amz-object-lock-mode": "COMPLIANCE",
            # Ceph's nanoseconds.
            "x-amz-object-lock-retain-until-date": "2028-01-01T23:59:30.086519217Z",
        },
    )
    assert amazon == locked()
    azure = read_facts(
        200, {"x-ms-immutability-policy-mode": "Locked", "x-ms-immutability-policy-until-date": "Sat, 01 Jan 2028 23:59:30 GMT"}
    )
    assert (azure.lock_mode, azure.locked_until) == ("compliance", amazon.locked_until)
    assert read_facts(200, {"x-ms-immutability-policy-mode": "Unlocked"}).lock_mode == "governance"
    assert read_facts(200, {"x-amz-version-id": "null"}).version is None
    assert read_time("9999-12-31T23:59:59-05:00") is None
    assert read_facts(200, {"date": "yesterday", "x-amz-object-lock-mode": "SOMETHING"}) == Facts(status=200)
