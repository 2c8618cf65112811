"""What an administrator can do to versions and locks is found, named, and decides the level."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent.reader.findings import Code, Severity
from agent.reader.retention import Mode, Policy
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, Report, verify_store
from agent.trail.layout import seal_key
from tests.support.trail_factory import TrailFactory, sample_trail
from tests.unit.reader.versioned_bucket import DAYS, NOW, STORED, VersionedBucket, VersionedReader, attester_of

if TYPE_CHECKING:
    from collections.abc import Callable

DEMANDED = Policy(Mode.COMPLIANCE, timedelta(days=DAYS).total_seconds(), given=True)


@pytest.fixture
def trail() -> TrailFactory:
    return sample_trail()


@pytest.fixture
def bucket(trail) -> VersionedBucket:
    return VersionedBucket(trail.objects)


class Between:
    """Attest, and do something between the listing and the reading."""

    def __init__(self, attester: Any, act: Callable[[], object]) -> None:
        """Act after the listing."""
        self._attester, self._act = attester, act

    def begin(self, log: Any, now: datetime) -> None:
        self._attester.begin(log, now)
        self._act()

    def finish(self, log: Any) -> Any:
        return self._attester.finish(log)


def check(
    bucket: VersionedBucket,
    *trails: TrailFactory,
    options: dict[str, Any] | None = None,
    act: Callable[[], object] = lambda: None,
    **settings: Any,
) -> Report:
    reader = VersionedReader(bucket)
    trust = TrustFile.parse("".join(trail.trust_line for trail in trails), "trust")
    attester = Between(attester_of(bucket, reader.pins, **settings), act)
    return verify_store(reader, Options(trust=trust, **(options or {})), now=NOW, attester=attester)


def found(report: Report) -> dict[Code, int]:
    return dict(report.log.counts)


class TestLocked:
    @pytest.mark.parametrize("page", [1, 2, 3, 1000])
    def test_every_version_is_looked_at_whatever_the_pages(self, trail, page):
        bucket = VersionedBucket(trail.objects, page=page)
        report = check(bucket, trail)
        attestation = report.attestation
        assert (found(report), report.assurance, attestation.reason) == ({}, "locked", None)
        assert attestation.versions == attestation.looked_at == bucket.looks == len(trail.objects)
        assert attestation.shortest_seconds == DAYS * 86400
        assert attestation.first_lapses_at == STORED + timedelta(days=DAYS)
        assert (attestation.as_of, attestation.policy) == (NOW, Policy(Mode.COMPLIANCE, DAYS * 86400.0, given=False))

    def test_objects_of_no_trail_need_no_lock(self, trail, bucket):
        for key in ("readme", "trails/readme", "records/readme", "probes/demo/payments/web-1/2026-01-08"):
            bucket.put(key, b"", lock=None)
            bucket.hide(key)
        report = check(bucket, trail)
        assert (found(report), report.assurance) == ({}, "locked")

    def test_a_cosignature_needs_one(self, trail, bucket):
        bucket.put(seal_key(trail.origin, 0).replace(".seal", ".cosig.0a1b2c3d"), b"", lock=None)
        assert found(check(bucket, trail)) == {Code.RETENTION_WEAK: 1}

    def test_only_the_selected_trails_are_looked_at(self, trail):
        other = sample_trail(seed=b"other", service="orders")
        same_service = sample_trail(seed=b"third", instance="web-2")
        bucket = VersionedBucket(trail.objects | other.objects | same_service.objects, page=3)
        bucket.hide(seal_key(other.origin, 1))
        bucket.hide(next(key for key in same_service.objects if key.startswith("records/")))
        glob = "demo/payments/*/web-1"
        report = check(bucket, trail, options={"origin_glob": glob}, origin_glob=glob)
        assert (found(report), report.assurance, report.attestation.versions) == ({}, "locked", len(trail.objects))

    def test_a_server_s_clock_that_is_ahead_decides_whether_a_lock_is_in_force(self, trail):
        bucket = VersionedBucket(trail.objects, days=30)
        report = verify_store(
            reader := VersionedReader(bucket),
            Options(trust=TrustFile.parse(trail.trust_line, "trust")),
            now=NOW - timedelta(days=1),
            attester=attester_of(bucket, reader.pins),
        )
        assert found(report) == {Code.RETENTION_EXPIRED: len(trail.objects)}


class TestVersions:
    @pytest.mark.parametrize("page", [1, 1000])
    @pytest.mark.parametrize("which", ["seal", "newest", "data"])
    def test_a_delete_marker_is_tampering_and_the_oldest_version_is_verified(self, trail, which, page):
        bucket = VersionedBucket(trail.objects, page=page)
        data = next(key for key in trail.objects if key.startswith("records/"))
        bucket.hide({"seal": seal_key(trail.origin, 2), "newest": seal_key(trail.origin, 7), "data": data}[which])
        report = check(bucket, trail)
        assert (found(report), report.severity, report.records) == ({Code.DELETE_MARKER: 1}, Severity.TAMPERED, 13)
        assert report.assurance == "unanchored"
        assert report.trails[0].severity is Severity.TAMPERED

    def test_a_marker_that_was_covered_again_is_still_one(self, trail, bucket):
        key = seal_key(trail.origin, 2)
        bucket.hide(key, at=STORED)
        bucket.put(key, trail.objects[key])
        report = check(bucket, trail)
        assert found(report) == {Code.DELETE_MARKER: 1, Code.VERSION_REPEATED: 1}
        assert "was put on" in report.log.kept[0].message

    @pytest.mark.parametrize("raw", [b"short", None])
    def test_other_bytes_are_tampering_and_the_oldest_version_is_verified(self, trail, bucket, raw):
        key = seal_key(trail.origin, 2)
        bucket.put(key, raw or bytes(len(trail.objects[key])))
        report = check(bucket, trail)
        assert (found(report), report.assurance) == ({Code.VERSION_ALTERED: 1}, "unanchored")

    def test_the_same_bytes_again_are_a_notice(self, trail, bucket):
        key = seal_key(trail.origin, 2)
        bucket.put(key, trail.objects[key])
        bucket.put(key, trail.objects[key])
        report = check(bucket, trail)
        assert (found(report), report.assurance) == ({Code.VERSION_REPEATED: 2}, "locked")
        assert report.attestation.versions == len(trail.objects) + 2

    def test_versions_that_cannot_be_compared_are_not_verified(self, trail, bucket):
        key = seal_key(trail.origin, 2)
        bucket.put(key, trail.objects[key])
        bucket.refused.add("get_object")
        report = check(bucket, trail)
        assert (found(report), report.assurance) == ({Code.OBJECT_UNREADABLE: 1}, "unanchored")

    def test_a_key_with_too_many_versions_is_not_attested(self, trail, bucket, monkeypatch):
        monkeypatch.setattr("agent.reader.retention.MAX_ENTRIES", 3)
        key = seal_key(trail.origin, 2)
        for _ in range(3):
            bucket.put(key, trail.objects[key])
        report = check(bucket, trail)
        assert (found(report), report.assurance) == ({Code.NOT_ATTESTED: 1}, "unanchored")

    def test_a_trail_that_was_wholly_hidden_is_verified(self, trail, bucket):
        for key in trail.objects:
            bucket.hide(key)
        report = check(bucket, trail)
        assert (found(report), report.records) == ({Code.DELETE_MARKER: len(trail.objects)}, 13)


class TestRetention:
    @pytest.mark.parametrize(
        "lock", [None, ("compliance", timedelta(days=399)), ("governance", timedelta(days=500)), ("governance", timedelta(days=1))]
    )
    def test_less_than_the_policy_is_not_verified(self, trail, bucket, lock):
        key = seal_key(trail.origin, 2)
        bucket.entries = [entry for entry in bucket.entries if entry.key != key]
        bucket.put(key, trail.objects[key], lock=lock)
        report = check(bucket, trail)
        assert Code.RETENTION_WEAK in found(report)
        assert (report.severity, report.assurance) == (Severity.UNVERIFIED, "unanchored")

    @pytest.mark.parametrize(("missing_seconds", "code"), [(119, None), (121, Code.RETENTION_WEAK)])
    def test_two_minutes_less_are_allowed(self, trail, bucket, missing_seconds, code):
        bucket.lock = ("compliance", timedelta(days=DAYS, seconds=-missing_seconds))
        bucket.entries.clear()
        for key, raw in trail.objects.items():
            bucket.put(key, raw)
        assert set(found(check(bucket, trail))) == ({code} if code else set())

    def test_governance_never_makes_locked(self, trail):
        policy = Policy(Mode.GOVERNANCE, DEMANDED.seconds, given=True)
        for mode in ("governance", "compliance"):
            report = check(VersionedBucket(trail.objects, mode=mode), trail, demanded=policy)
            assert (found(report), report.assurance) == ({}, "unanchored")
            assert "governance" in str(report.attestation.reason)

    def test_what_is_over_is_a_notice(self, trail):
        bucket = VersionedBucket(trail.objects, days=10)
        report = check(bucket, trail)
        assert (set(found(report)), report.assurance) == ({Code.RETENTION_EXPIRED}, "unanchored")

    def test_a_level_that_was_demanded_and_not_reached_is_not_verified(self, trail):
        bucket = VersionedBucket(trail.objects, mode="governance")
        assert found(check(bucket, trail, options={"level": "locked"})) == {Code.LEVEL_NOT_REACHED: 1}
        assert found(check(VersionedBucket(trail.objects), trail, options={"level": "locked"})) == {}


class TestWhatCannotBeSeen:
    @pytest.mark.parametrize(
        "operation", ["connect", "get_bucket_versioning", "list_object_versions", "head_object", "get_object_retention"]
    )
    def test_it_is_a_notice_with_the_reason_and_no_level(self, trail, bucket, operation):
        bucket.refused.add(operation)
        report = check(bucket, trail)
        assert (found(report), report.assurance) == ({Code.NOT_ATTESTED: 1}, "unanchored")
        assert ("no way there" if operation == "connect" else "403") in str(report.attestation.reason)

    def test_a_policy_that_was_given_needs_no_look_at_the_bucket_s(self, trail, bucket):
        bucket.refused.add("get_object_lock_configuration")
        assert check(bucket, trail, demanded=DEMANDED).assurance == "locked"
        assert found(check(bucket, trail)) == {Code.NOT_ATTESTED: 1}

    def test_a_bucket_without_a_lock(self, trail):
        bucket = VersionedBucket(trail.objects, mode=None)
        assert found(check(bucket, trail)) == {Code.NOT_ATTESTED: 1}
        assert found(check(bucket, trail, demanded=DEMANDED)) == {Code.NOT_ATTESTED: 1, Code.RETENTION_WEAK: 1}
        bucket.hide(seal_key(trail.origin, 1))
        assert Code.DELETE_MARKER in found(check(bucket, trail))

    def test_an_exception_that_nobody_foresaw_does_not_leave_it_locked(self, trail, bucket):
        def fail(*_: object) -> None:
            raise RuntimeError("not foreseen")

        report = check(bucket, trail, advance=fail)
        assert (report.severity, report.assurance) == (Severity.UNVERIFIED, "unanchored")


class TestMeanwhile:
    def test_what_is_new_is_attested_when_it_was_read(self, trail, bucket):
        before = set(trail.objects)

        def go_on() -> None:
            trail.resume()
            trail.add(2)
            trail.stop()
            for key in trail.objects.keys() - before:
                bucket.put(key, trail.objects[key], at=NOW + timedelta(seconds=1))

        report = check(bucket, trail, act=go_on)
        assert (found(report), report.assurance, report.records) == ({}, "locked", 15)
        assert (report.attestation.versions, report.attestation.looked_at) == (len(before), len(before) + 4)

    def test_what_is_new_and_has_no_lock_is_not_verified(self, trail, bucket):
        def go_on() -> None:
            trail.resume()
            bucket.put(seal_key(trail.origin, 8), trail.objects[seal_key(trail.origin, 8)], at=NOW, lock=None)

        assert Code.RETENTION_WEAK in found(check(bucket, trail, act=go_on))

    def test_what_was_overwritten_is_compared(self, trail, bucket):
        key = seal_key(trail.origin, 7)
        report = check(bucket, trail, act=lambda: bucket.put(key, b"other", at=NOW))
        assert found(report)[Code.VERSION_ALTERED] == 1
        again = VersionedBucket(trail.objects)
        report = check(again, trail, act=lambda: again.put(key, trail.objects[key], at=NOW))
        assert (found(report), report.assurance) == ({Code.VERSION_REPEATED: 1}, "locked")

    def test_a_young_version_that_was_replaced_is_missed(self, trail):
        bucket = VersionedBucket({})
        key = seal_key(trail.origin, 7)
        entries = {name: bucket.put(name, raw, at=NOW - timedelta(seconds=5)) for name, raw in trail.objects.items()}

        def replace() -> None:
            bucket.remove(entries[key])
            bucket.put(key, trail.objects[key], at=NOW)

        report = check(bucket, trail, act=replace)
        assert (found(report), report.assurance) == ({Code.VERSION_GONE: 1}, "unanchored")
