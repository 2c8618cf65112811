"""What a server says no to, and two histories under one name: told in the store's own words, and nothing is lost or overwritten."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fault.test_clock_jumps import HOUR, faked_clock, set_offset
from tests.support.agent_process import until
from tests.support.bucket_site import LOCKED, PLAIN, QUICK, BucketSite, assert_each_once, attempts, bucket_name
from tests.support.object_servers.rgw import Rgw, allow
from tests.support.oracle import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        yield server


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """Return a name of the test's own."""
    return bucket_name(request)


def test_wrong_credentials_are_told_in_the_store_s_own_words_and_nothing_is_lost(tmp_path: Path, rgw: Rgw, bucket: str) -> None:
    rgw.bucket(bucket, lock="compliance")
    site = BucketSite(tmp_path, rgw, bucket, store=LOCKED, seal=QUICK, shutdown_grace="1s")
    right = dict(site.environment)
    ids = write(site.log, 0, 100)
    for name, wrong, words in (
        ("AWS_SECRET_ACCESS_KEY", "not-the-secret", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "NOBODY", "InvalidAccessKeyId"),
    ):
        site.environment = {**right, name: wrong}
        with site.run() as agent:
            until(lambda words=words: words in str((site.status() or {}).get("store_problems")), words)  # type: ignore[misc]
            until(lambda: attempts(site)["refused"] >= 3, "further attempts")
            assert not site.is_ready()
            assert words in site.get("/readyz")[1]
            assert words in agent.log
            assert agent.stop() == 0, agent.log
    assert site.versions() == {}
    site.environment = right
    with site.run() as agent:
        site.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
    assert_each_once(site, ids)


def test_a_full_server_is_told_and_gets_everything_once_there_is_room(tmp_path: Path, rgw: Rgw, bucket: str) -> None:
    rgw.bucket(bucket, lock="compliance")
    site = BucketSite(tmp_path, rgw, bucket, store=LOCKED, seal=QUICK)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        site.wait_for(agent, ids)
        rgw.quota(bucket, max_objects=0)
        ids += write(site.log, 100, 200)
        until(lambda: "QuotaExceeded" in str((site.status() or {}).get("store_problems")), "the store's own words")
        until(lambda: attempts(site)["refused"] >= 3, "further attempts")
        rgw.lift_quota(bucket)
        site.wait_for(agent, ids)
        until(site.is_ready, "an agent that is ready again")
        assert agent.stop() == 0, agent.log
    assert_each_once(site, ids)


def test_a_bucket_that_is_not_there_yet_is_waited_for(tmp_path: Path, rgw: Rgw, bucket: str) -> None:
    site = BucketSite(tmp_path, rgw, bucket, store=LOCKED, seal=QUICK)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        until(lambda: "NoSuchBucket" in str((site.status() or {}).get("store_problems")), "the store's own words")
        rgw.bucket(bucket, lock="compliance")
        site.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
    assert_each_once(site, ids)


def test_a_bucket_without_a_lock_gets_nothing_until_that_is_allowed_and_then_it_is_a_standing_warning(
    tmp_path: Path, rgw: Rgw, bucket: str
) -> None:
    rgw.bucket(bucket)
    site = BucketSite(tmp_path, rgw, bucket, store={"retention": {"days": 400, "by": "object"}}, seal=QUICK)
    where = site.settings["stores"][0]
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        until(lambda: "with a retention of its own" in str((site.status() or {}).get("store_problems")), "a refusal that says why")
        site.configure(stores=[{**where, "retention": {"days": 400}}])
        until(lambda: "has no lock" in str((site.status() or {}).get("store_problems")), "a refusal that says why")
        assert not site.is_ready()
        assert site.versions() == {}
        site.configure(stores=[{**{key: value for key, value in where.items() if key != "retention"}, "allow_unlocked": True}])
        site.wait_for(agent, ids)
        until(site.is_ready, "an agent that is ready")
        warned = [reason for reason in (site.status() or {})["reasons"] if reason["name"] == "guarantees of store main"]
        assert [reason["severity"] for reason in warned] == ["warning"]
        assert "allow_unlocked" in warned[0]["detail"]
        assert site.metrics()['trailseal_store_weaknesses{store="main"}'] == 1
        assert site.metrics()['trailseal_store_locked{store="main"}'] == 0
        assert agent.stop() == 0, agent.log
    assert_each_once(site, ids)


def test_each_object_can_ask_for_its_own_retention(tmp_path: Path, rgw: Rgw, bucket: str) -> None:
    rgw.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    site = BucketSite(tmp_path, rgw, bucket, store={"retention": {"days": 30, "by": "object"}}, seal=QUICK)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        site.wait_for(agent, ids)
        assert site.metrics()['trailseal_store_lock_seconds{store="main"}'] >= 30 * 86400
        assert agent.stop() == 0, agent.log
    for key, (version,) in site.versions().items():
        head = site.client.head_object(Bucket=bucket, Key=key, VersionId=version)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert (head["ObjectLockRetainUntilDate"] - head["LastModified"]).days in {30, 31}
    assert_each_once(site, ids)


def test_a_lock_weaker_than_the_policy_is_shipped_to_and_warned_of(tmp_path: Path, rgw: Rgw, bucket: str) -> None:
    rgw.bucket(bucket, lock="governance", days=10)
    site = BucketSite(tmp_path, rgw, bucket, store=LOCKED, seal=QUICK)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        site.wait_for(agent, ids)
        (warned,) = [reason for reason in (site.status() or {})["reasons"] if reason["name"] == "guarantees of store main"]
        assert "10.0 days in governance mode; the policy asks for 400 days in compliance mode" in warned["detail"]
        assert agent.stop() == 0, agent.log


def test_an_agent_whose_clock_is_an_hour_off_is_refused_told_and_goes_on_when_it_is_set(tmp_path: Path, rgw: Rgw, bucket: str) -> None:
    rgw.bucket(bucket, lock="compliance")
    site = BucketSite(tmp_path, rgw, bucket, store=LOCKED, seal=QUICK)
    offset = tmp_path / "offset"
    set_offset(offset, HOUR)
    ids = write(site.log, 0, 100)
    with site.run(env={**faked_clock(offset), **site.environment}) as agent:
        until(lambda: "RequestTimeTooSkewed" in str((site.status() or {}).get("store_problems")), "the store's own words")
        assert "chrony" in agent.log
        set_offset(offset, 0)
        site.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
    site.mirror()
    assert site.trails.event_ids() == ids


@pytest.mark.parametrize("store", [PLAIN, LOCKED], ids=["plain", "locked"])
def test_a_state_restored_from_a_copy_is_found_out_as_a_fork(tmp_path: Path, rgw: Rgw, bucket: str, store: dict[str, Any]) -> None:
    rgw.bucket(bucket, lock="compliance" if store is LOCKED else None)
    site = BucketSite(tmp_path, rgw, bucket, store=store, seal=QUICK)
    saved = tmp_path / "saved"
    ids: list[str] = []
    for turn in range(3):
        ids += write(site.log, turn * 50, turn * 50 + 50)
        if turn == 2:
            shutil.rmtree(site.state)
            shutil.copytree(saved, site.state)
        with site.run() as agent:
            agent.ready()
            newest = ids[-1]
            until(lambda newest=newest: newest in mirrored(site), f"{newest} in the bucket")  # type: ignore[misc]
            if turn == 2:
                assert site.metrics()["trailseal_forks_total"] == 1
            assert agent.stop() == 0, agent.log
        if turn == 0:
            shutil.copytree(site.state, saved)
    assert set(mirrored(site)) == set(ids)
    assert all(len(versions) == 1 for versions in site.versions().values())
    assert sorted(path.suffix for path in (site.state / "evidence").iterdir()) == [".ours", ".theirs"]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def mirrored(site: BucketSite) -> list[str]:
    site.mirror()
    return site.trails.event_ids()


@pytest.mark.parametrize("store", [PLAIN, LOCKED], ids=["plain", "locked"])
def test_a_cloned_agent_that_runs_beside_its_twin_forks_and_nothing_of_either_is_lost(
    tmp_path: Path, rgw: Rgw, bucket: str, store: dict[str, Any]
) -> None:
    rgw.bucket(bucket, lock="compliance" if store is LOCKED else None)
    one = BucketSite(tmp_path / "one", rgw, bucket, store=store, seal=QUICK)
    ids = write(one.log, 0, 50, run="one")
    with one.run() as agent:
        one.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
    two = BucketSite(tmp_path / "two", rgw, bucket, store=store, seal=QUICK)
    shutil.copytree(one.state, two.state)
    with one.run() as first, two.run() as second:
        first.ready()
        second.ready()
        for turn in range(1, 5):
            for site, run in ((one, "one"), (two, "two")):
                ids += write(site.log, turn * 50, turn * 50 + 50, run=run)
            time.sleep(0.3)
        until(lambda: set(ids) <= set(mirrored(one)), "all events of both")
        assert one.metrics()["trailseal_forks_total"] + two.metrics()["trailseal_forks_total"] >= 1
        assert (first.stop(), second.stop()) == (0, 0)
    # A weak create leaves a moment for two writers: then a key has two versions, and the verifier says so.
    if all(len(versions) == 1 for versions in one.versions().values()):
        # The clone remembers its twin's log too, and reads it where it lies: what both read is there twice, under two names.
        assert set(mirrored(one)) == set(ids)
        assert one.verify().codes() <= {"two_successors", "restarted_unlinked", "link_wrong"}, one.verify().findings()
    else:
        assert store is LOCKED
        assert one.verify().code == 10


def test_an_agent_that_may_only_create_and_read_ships_where_create_is_kept_and_says_what_it_lacks_where_it_is_not(
    tmp_path: Path, rgw: Rgw, bucket: str
) -> None:
    limited = rgw.user(bucket[:20])
    rgw.bucket(bucket)
    rights = ("s3:PutObject", "s3:GetObject")
    rgw.client().put_bucket_policy(Bucket=bucket, Policy=allow(limited, bucket, actions=rights))
    site = BucketSite(tmp_path / "plain", rgw, bucket, store=PLAIN, seal=QUICK, credentials=limited)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        site.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
    locked = rgw.bucket(f"{bucket[:50]}-locked", lock="compliance")
    rgw.client().put_bucket_policy(Bucket=locked, Policy=allow(limited, locked, actions=(*rights, "s3:GetObjectRetention")))
    site = BucketSite(tmp_path / "locked", rgw, locked, store=LOCKED, seal=QUICK, credentials=limited)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        until(lambda: "AccessDenied" in str((site.status() or {}).get("store_problems")), "the store's own words")
        assert "give it s3:ListBucket" in agent.log
        more = allow(limited, locked, actions=(*rights, "s3:GetObjectRetention", "s3:ListBucket"))
        rgw.client().put_bucket_policy(Bucket=locked, Policy=more)
        site.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
