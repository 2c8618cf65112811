"""`trailseal verify s3://…` over a real S3 server with Object Lock: what an administrator does to a trail is seen, and called by its name.

Every test has a prefix of its own. The server is Ceph 16, whose PUT makes a further version where Amazon's would, and which lets
an administrator bypass a lock in governance mode.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agent.config import BucketAddress
from agent.reader.ahead import ReadAhead
from agent.reader.attest import BucketAttester
from agent.reader.bucket import BucketReader
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, verify_store
from agent.stores.bucket import Access
from agent.trail.layout import probe_key, seal_key
from tests.support.agent_process import TRAILSEAL, Verdict, free_port
from tests.support.object_servers.rgw import Credentials, Rgw
from tests.support.trail_factory import TrailFactory, sample_trail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.reader.findings import FindingLog
    from agent.reader.retention import Attestation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WITHOUT_EXTRA = "import sys; sys.modules['aiobotocore'] = None; from agent.cli import main; main()"


class Trail(NamedTuple):
    """A trail in a bucket.

    Attributes:
        server: The server.
        bucket: The bucket.
        prefix: What stands before its keys.
        made: What was stored.
        trust: The trust file.
    """

    server: Rgw
    bucket: str
    prefix: str
    made: TrailFactory
    trust: Path

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def client(self) -> Any:
        return self.server.client()

    def put(self, key: str, raw: bytes, **settings: Any) -> str:
        """Store an object as a further version; return its id."""
        version: str = self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=raw, **settings)["VersionId"]
        return version

    def put_all(self, made: TrailFactory, **settings: Any) -> None:
        client = self.client
        for key, raw in made.objects.items():
            client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=raw, **settings)

    def hide(self, key: str) -> None:
        """Put a delete marker on an object."""
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")

    def seal(self, batch: int) -> str:
        return seal_key(self.made.origin, batch)

    def data(self) -> str:
        return next(key for key in self.made.objects if key.startswith("records/"))

    def run(
        self,
        *options: str,
        keys: tuple[str, str] | None = None,
        command: tuple[str, ...] = (str(TRAILSEAL),),
        what: str = "verify",
        **environ: str,
    ) -> Any:
        """Run `verify`, or another command, as a user does, credentials and endpoint in the environment."""
        access, secret = keys or (self.server.admin.access_key, self.server.admin.secret_key)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": self.server.endpoint,
            **environ,
        }
        arguments = [*command, what, self.url, "--trust", str(self.trust), *options]
        return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=200, check=False)

    def verify(self, *options: str, **others: Any) -> Verdict:
        done = self.run("--json", *options, **others)
        assert done.stdout, f"verify {done.returncode}: {done.stderr}"
        return Verdict(done.returncode, json.loads(done.stdout))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as running:
        running.bucket("compliance", lock="compliance", days=400)
        running.bucket("governance", lock="governance", days=400)
        running.bucket("unlocked", versioned=True)
        running.client().create_bucket(Bucket="by-object", ObjectLockEnabledForBucket=True)
        yield running


@pytest.fixture(scope="module")
def reader(server: Rgw) -> Credentials:
    """Make a user who may list the bucket's objects and get them, and nothing else."""
    made = server.user("reader")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [made.principal]},
        "Action": ["s3:ListBucket", "s3:GetObject"],
        "Resource": ["arn:aws:s3:::compliance", "arn:aws:s3:::compliance/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    server.client().put_bucket_policy(Bucket="compliance", Policy=policy)
    return made


PREFIXES = itertools.count(1)


@pytest.fixture
def make(server: Rgw, tmp_path: Path) -> Callable[..., Trail]:
    def fill(bucket: str = "compliance", made: TrailFactory | None = None, **settings: Any) -> Trail:
        made = made or sample_trail()
        trust = tmp_path / "trust"
        trust.write_text(made.trust_line)
        trail = Trail(server, bucket, f"of-test-{next(PREFIXES)}", made, trust)
        trail.put_all(made, **settings)
        return trail

    return fill


def notices(verdict: Verdict) -> set[str]:
    return {finding["code"] for finding in verdict.findings(notices=True)} - verdict.codes()


class TestLocked:
    def test_a_trail_under_lock_is_intact_and_locked(self, make):
        trail = make()
        verdict = trail.verify("--level", "locked", "--retention", "400d")
        assert (verdict.code, verdict.report["findings"]) == (0, [])
        attestation = verdict.report["attestation"]
        assert verdict.report["assurance"] == "locked"
        assert attestation["versions"] == attestation["looked_at"] == len(trail.made.objects)
        assert attestation["policy"] == {"mode": "compliance", "retention_seconds": 400 * 86400.0, "given": True}
        assert abs(attestation["shortest_retention_seconds"] - 400 * 86400) < 5

    def test_the_policy_is_the_bucket_s_default_unless_one_is_given(self, make):
        trail = make()
        text = trail.run().stdout
        assert "Assurance: locked: " in text
        assert "policy 400 days in compliance mode, the bucket's" in text
        assert text.rstrip().endswith("intact and complete: 1 trail, 13 records (exit 0)")

    def test_trust_prints_the_keys_of_a_bucket(self, make):
        trail = make()
        keys = {"AWS_ACCESS_KEY_ID": trail.server.admin.access_key, "AWS_SECRET_ACCESS_KEY": trail.server.admin.secret_key}
        done = subprocess.run(
            [TRAILSEAL, "trust", trail.url, "--endpoint", trail.server.endpoint],
            capture_output=True,
            text=True,
            env=os.environ | keys,
            timeout=60,
            check=False,
        )
        assert trail.made.trust_line in done.stdout, done.stderr

    def test_probes_of_agents_belong_there(self, make):
        trail = make()
        trail.put(probe_key("demo", "payments", "web-1", "2026-01-08"), b"probe")
        verdict = trail.verify()
        assert (verdict.code, verdict.report["findings"]) == (0, [])


class TestTampering:
    @pytest.mark.parametrize("what", ["seal", "data"])
    def test_a_delete_marker_is_seen_and_the_oldest_version_read(self, make, what):
        trail = make()
        key = trail.seal(3) if what == "seal" else trail.data()
        trail.hide(key)
        verdict = trail.verify()
        assert (verdict.code, verdict.codes(), verdict.report["assurance"]) == (10, {"delete_marker"}, "unanchored")
        assert [finding["key"] for finding in verdict.findings()] == [key]
        assert verdict.report["records"] == 13
        assert verdict.report["trails"][0]["verdict"] == "tampered"

    def test_a_trail_of_which_every_object_was_deleted_is_still_verified(self, make):
        trail = make()
        for key in trail.made.objects:
            trail.hide(key)
        verdict = trail.verify()
        assert (verdict.code, verdict.codes()) == (10, {"delete_marker"})
        assert verdict.report["records"] == 13

    @pytest.mark.parametrize("what", ["seal", "newest seal", "data"])
    def test_a_second_version_with_other_bytes_is_seen_and_the_oldest_read(self, make, what):
        trail = make()
        key = {"seal": trail.seal(3), "newest seal": trail.seal(7), "data": trail.data()}[what]
        trail.put(key, b"something else")
        verdict = trail.verify()
        assert (verdict.code, verdict.codes(), verdict.report["assurance"]) == (10, {"version_altered"}, "unanchored")

    def test_without_attesting_another_version_is_what_the_trail_itself_shows(self, make):
        trail = make()
        trail.put(trail.seal(3), b"something else")
        verdict = trail.verify("--no-attest")
        assert verdict.code == 10
        assert "seal_malformed" in verdict.codes()

    def test_a_second_version_with_the_same_bytes_is_a_notice(self, make):
        trail = make()
        for key in (trail.seal(3), trail.data()):
            trail.put(key, trail.made.objects[key])
        verdict = trail.verify("--level", "locked")
        assert (verdict.code, verdict.codes(), notices(verdict)) == (0, set(), {"version_repeated"})
        assert verdict.report["attestation"]["versions"] == len(trail.made.objects) + 2

    def test_another_trail_s_tampering_does_not_touch_the_one_that_is_asked_for(self, make):
        trail = make()
        other = sample_trail(seed=b"other", service="orders")
        trail.put_all(other)
        trail.hide(seal_key(other.origin, 2))
        verdict = trail.verify("--origin", "demo/payments/*/*", "--level", "locked")
        assert (verdict.code, verdict.codes()) == (0, set())
        assert verdict.report["attestation"]["versions"] == len(trail.made.objects)
        assert trail.verify().code == 10


class TestRetention:
    def test_a_shortened_retention_is_not_verified(self, make):
        trail = make("governance")
        options = ("--retention", "400d", "--retention-mode", "governance")
        verdict = trail.verify(*options)
        assert (verdict.code, verdict.codes(), verdict.report["assurance"]) == (0, set(), "unanchored")
        assert "governance mode" in verdict.report["attestation"]["reason"]
        trail.client.put_object_retention(
            Bucket=trail.bucket,
            Key=f"{trail.prefix}/{trail.data()}",
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=30)},
            BypassGovernanceRetention=True,
        )
        for policy in (options, ()):
            verdict = trail.verify(*policy)
            assert (verdict.code, verdict.codes()) == (12, {"retention_weak"})
            assert [finding["key"] for finding in verdict.findings()] == [trail.data()]

    def test_a_longer_policy_than_the_bucket_s_is_not_met(self, make):
        verdict = make().verify("--retention", "500d")
        assert (verdict.code, verdict.codes(), verdict.report["assurance"]) == (12, {"retention_weak"}, "unanchored")

    def test_a_weaker_mode_is_not_verified(self, make):
        trail = make()
        until = datetime.now(UTC) + timedelta(days=500)
        trail.put(trail.seal(8), b"", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
        assert "retention_weak" in trail.verify().codes()

    def test_a_retention_that_is_over_is_a_notice_and_lowers_the_level(self, make):
        until = datetime.now(UTC) + timedelta(seconds=4)
        trail = make("by-object", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
        verdict = trail.verify("--retention", "1s")
        assert (verdict.code, notices(verdict)) == (0, {"retention_expired"})
        assert verdict.report["assurance"] == "unanchored"
        assert "over" in verdict.report["attestation"]["reason"]

    def test_without_a_default_and_a_policy_there_is_nothing_to_hold_locks_against(self, make):
        until = datetime.now(UTC) + timedelta(days=400, minutes=5)
        trail = make("by-object", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
        verdict = trail.verify()
        assert (verdict.code, verdict.report["assurance"]) == (0, "unanchored")
        assert "no policy" in verdict.report["attestation"]["reason"]
        assert trail.verify("--retention", "400d").report["assurance"] == "locked"

    def test_a_bucket_without_a_lock_is_unanchored(self, make):
        trail = make("unlocked")
        verdict = trail.verify()
        assert (verdict.code, verdict.codes(), notices(verdict)) == (0, set(), {"not_attested"})
        assert "has no Object Lock" in verdict.report["attestation"]["reason"]
        assert trail.verify("--level", "locked").codes() == {"level_not_reached"}
        assert trail.verify("--retention", "1d").codes() == {"retention_weak"}
        trail.hide(trail.seal(2))
        assert trail.verify().codes() == {"delete_marker"}


class TestWhatCannotBeSeen:
    def test_a_bucket_that_does_not_exist(self, make):
        done = make()._replace(bucket="nowhere").run()
        assert done.returncode == 12
        assert "404 Not Found: NoSuchBucket" in done.stderr
        assert "Check the bucket's name" in done.stderr

    @pytest.mark.parametrize(("wrong", "words"), [("access", "InvalidAccessKeyId"), ("secret", "SignatureDoesNotMatch")])
    def test_wrong_keys(self, make, wrong, words):
        trail = make()
        admin = trail.server.admin
        keys = ("WRONG", admin.secret_key) if wrong == "access" else (admin.access_key, "wrong")
        done = trail.run(keys=keys)
        assert done.returncode == 12
        assert words in done.stderr

    def test_a_server_that_is_down(self, make):
        done = make().run(AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
        assert done.returncode == 12
        assert "cannot list s3://compliance/" in done.stderr

    def test_who_may_not_list_versions_gets_no_level_but_a_verdict(self, make, reader):
        trail, keys = make(), reader[:2]
        verdict = trail.verify(keys=keys)
        assert (verdict.code, notices(verdict)) == (0, {"not_attested"})
        assert "403" in verdict.report["attestation"]["reason"]
        assert trail.verify("--level", "locked", keys=keys).code == 12

    def test_without_the_extra(self, make):
        trail = make()
        command = (sys.executable, "-c", WITHOUT_EXTRA)
        verdict = trail.verify(command=command)
        assert (verdict.code, notices(verdict), verdict.report["assurance"]) == (0, {"not_attested"}, "unanchored")
        assert "trailseal[attest]" in verdict.report["attestation"]["reason"]
        assert trail.verify("--level", "locked", command=command).codes() == {"level_not_reached"}

    def test_a_key_that_no_path_can_have_is_no_reason_to_call_the_trail_intact(self, make):
        trail = make()
        trail.put("records//x", b"")
        verdict = trail.verify()
        assert (verdict.code, verdict.codes()) == (12, {"object_unreadable"})


class _Between:
    """Does something after the versions were listed, before anything is read."""

    def __init__(self, attester: BucketAttester, act: Callable[[], object]) -> None:
        self._attester, self._act = attester, act

    def begin(self, log: FindingLog, now: datetime) -> None:
        self._attester.begin(log, now)
        self._act()

    def finish(self, log: FindingLog) -> Attestation:
        return self._attester.finish(log)


class TestWhileItIsWrittenTo:
    def check(self, trail: Trail, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", trail.server.admin.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", trail.server.admin.secret_key)
        access = Access(address=BucketAddress.parse(trail.url), endpoint=trail.server.endpoint)
        store = BucketReader(access)
        attester = BucketAttester(access, store.pins)
        options = Options(trust=TrustFile.load(trail.trust))
        with ReadAhead(store) as ahead:
            return verify_store(ahead, options, now=datetime.now(UTC), attester=_Between(attester, act))

    def test_what_was_stored_after_the_listing_is_verified_and_attested_when_it_is_read(self, make, monkeypatch):
        trail = make()
        before = len(trail.made.objects)

        def go_on() -> None:
            trail.made.resume()
            trail.made.add(3)
            trail.made.stop()
            for key in list(trail.made.objects)[before:]:
                trail.put(key, trail.made.objects[key])

        report = self.check(trail, go_on, monkeypatch)
        assert (report.severity.exit_code, report.assurance, report.records) == (0, "locked", 16)
        assert report.attestation.versions == before
        assert report.attestation.looked_at == before + 4

    def test_what_was_overwritten_after_the_listing_is_found(self, make, monkeypatch):
        trail = make()
        report = self.check(trail, lambda: trail.put(trail.seal(7), trail.made.objects[trail.seal(6)]), monkeypatch)
        assert report.log.counts["version_altered"] == 1
        assert report.assurance == "unanchored"

    def test_what_was_replaced_after_the_listing_is_found(self, make, monkeypatch):
        trail = make("governance")

        def replace() -> None:
            key = f"{trail.prefix}/{trail.seal(7)}"
            listed = trail.client.head_object(Bucket=trail.bucket, Key=key)["VersionId"]
            trail.put(trail.seal(7), trail.made.objects[trail.seal(7)])
            trail.client.delete_object(Bucket=trail.bucket, Key=key, VersionId=listed, BypassGovernanceRetention=True)

        report = self.check(trail, replace, monkeypatch)
        assert (report.severity.exit_code, report.log.counts["version_gone"]) == (10, 1)

    def test_a_live_trail_is_intact_and_locked(self, make):
        made = TrailFactory(start=datetime.now(UTC) - timedelta(seconds=20))
        trail = make(made=made)
        done = threading.Event()

        def write() -> None:
            client = trail.client
            while not done.is_set():
                before = set(made.objects)
                made.add(2, after_seconds=max(0.001, (datetime.now(UTC) - made.now).total_seconds()))
                # Data before its seal, as an agent does it.
                for key in sorted(set(made.objects) - before):
                    client.put_object(Bucket=trail.bucket, Key=f"{trail.prefix}/{key}", Body=made.objects[key])

        writer = threading.Thread(target=write)
        writer.start()
        with contextlib.ExitStack() as stack:
            stack.callback(writer.join)
            stack.callback(done.set)
            for _ in range(3):
                verdict = trail.verify("--level", "locked", "--fresh", "1m")
                assert (verdict.code, verdict.findings()) == (0, [])


def test_a_watcher_finds_the_newest_seal_in_a_bucket_and_is_not_taken_in_by_a_newer_one_of_somebody_else(
    make: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = make()
    expected = tmp_path / "expected.yaml"
    expected.write_text("trails: [{namespace: '*', service: '*', instance: '*', max_silence: 3650d}]", encoding="utf-8")

    def watch() -> tuple[int, dict[str, Any]]:
        done = trail.run("--expected", str(expected), "--json", what="watch")
        assert done.stdout, done.stderr
        (found,) = json.loads(done.stdout)["trails"]
        return done.returncode, found

    code, found = watch()
    newest = trail.made.batch - 1
    assert (code, found["batch"], found["origin"]) == (0, newest, str(trail.made.origin))
    assert abs(found["stored_at"] - time.time()) < 600
    trail.put(trail.seal(newest + 1), b"nonsense")
    code, found = watch()
    assert (code, found["batch"], found["state"]) == (10, newest + 1, "forged")
