"""A bucket store against a real server, where what is around it changes: files, proxies, locks, clocks; and what a lost request leaves."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore
import pytest

from agent.config import BucketAddress, Retention, Store
from agent.errors import RefusedError, TransientError
from agent.stores import BucketStore
from agent.vitals.clock import ManualClock, SystemClock
from tests.support.agent_process import trailseal
from tests.support.bucket_site import bucket_name
from tests.support.object_servers.proxy import Proxy
from tests.support.object_servers.rgw import Rgw
from tests.support.trail_factory import sample_trail

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

WHO = ("demo", "payments", "host-1")
CERTIFICATES = Path(botocore.__file__).with_name("cacert.pem")


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        yield server


@pytest.fixture(autouse=True)
def _credentials(rgw: Rgw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rgw.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rgw.secret_key)


@pytest.fixture
def bucket(request: pytest.FixtureRequest, rgw: Rgw) -> str:
    return rgw.bucket(bucket_name(request), lock="compliance", days=1)


def settings(rgw: Rgw, bucket: str, **more: Any) -> Store:
    return Store(**{"id": "main", "bucket": BucketAddress("s3", bucket), "endpoint": rgw.endpoint, **more})


def versions(rgw: Rgw, bucket: str, key: str) -> int:
    answer = rgw.client().list_object_versions(Bucket=bucket, Prefix=key)
    return len(answer.get("Versions", []))


async def test_credentials_that_are_put_right_in_their_file_are_used_without_a_restart(
    rgw: Rgw, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    text = f"[default]\naws_access_key_id = {rgw.access_key}\naws_secret_access_key = {{}}\n"
    file.write_text(text.format("expired"))
    store = BucketStore(settings(rgw, bucket), WHO, SystemClock())
    with pytest.raises(RefusedError, match="SignatureDoesNotMatch"):
        await store.examine()
    file.write_text(text.format(rgw.secret_key))
    assert (await store.examine()).lock_mode == "compliance"
    assert await store.create("k", b"1") is True


async def test_a_file_that_is_missing_when_the_day_changes_is_waited_for(rgw: Rgw, bucket: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CERTIFICATES.read_bytes())
    clock = ManualClock(datetime.now(UTC))
    store = BucketStore(settings(rgw, bucket, ca_file=str(ca), retention=Retention(days=2, by="object")), WHO, clock)
    assert await store.create("one", b"1") is True
    ca.unlink()
    clock.time += timedelta(days=1)
    with pytest.raises(TransientError, match="certificates"):
        await store.create("two", b"2")
    ca.write_bytes(CERTIFICATES.read_bytes())
    assert await store.create("two", b"2") is True


async def test_one_way_leads_to_a_store_whatever_stands_in_no_proxy(rgw: Rgw, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.0/8")
    store = BucketStore(settings(rgw, bucket), WHO, SystemClock())
    assert (await store.examine()).lock_mode == "compliance"
    assert await store.create("k", b"1") is True


async def test_a_lock_that_is_taken_off_is_seen_at_the_next_examination(rgw: Rgw, bucket: str) -> None:
    clock = ManualClock(datetime.now(UTC))
    assert (await BucketStore(settings(rgw, bucket), WHO, clock).examine()).lock_mode == "compliance"
    rgw.client().put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    clock.time += timedelta(minutes=10)
    with pytest.raises(RefusedError, match="shows no lock on a new object"):
        await BucketStore(settings(rgw, bucket), WHO, clock).examine()


async def test_examining_again_and_again_leaves_a_probe_every_ten_minutes_at_most(rgw: Rgw, request: pytest.FixtureRequest) -> None:
    bucket = rgw.bucket(bucket_name(request), versioned=True)
    clock = ManualClock(datetime(2026, 11, 27, 12, 0, tzinfo=UTC))
    for _ in range(12):
        with pytest.raises(RefusedError):
            await BucketStore(settings(rgw, bucket), WHO, clock).examine()
        clock.time += timedelta(minutes=1)
    # Two moments; of each probe two versions, because create is weak here.
    assert versions(rgw, bucket, "probes/") == 4


async def test_a_store_that_works_is_not_stopped_by_an_examination_that_fails_for_now(rgw: Rgw, bucket: str) -> None:
    with Proxy("127.0.0.1", rgw.port) as proxy:
        store = BucketStore(settings(rgw, bucket, endpoint=proxy.endpoint), WHO, SystemClock())
        before = await store.examine()
        store._believed_until = 0.0
        proxy.answer(503, b"", only="^HEAD")
        assert await store.examine() == before
        proxy.answer(503, b"")
        assert await store.examine() == before
        with pytest.raises(TransientError):
            await store.create("k", b"1")


async def test_a_request_that_lands_after_it_was_given_up_leaves_a_version_with_the_same_bytes_which_verify_explains(
    rgw: Rgw, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bucket = rgw.bucket(bucket_name(request), lock="compliance", days=400)
    trail = sample_trail()
    late = max(key for key in trail.objects if key.endswith(".seal"))
    with Proxy("127.0.0.1", rgw.port) as proxy:
        store = BucketStore(settings(rgw, bucket, endpoint=proxy.endpoint), WHO, SystemClock())
        for key, data in trail.objects.items():
            if key != late:
                await store.create(key, data)
        proxy.delay(2.0, "client")
        given_up = asyncio.create_task(store.create(late, trail.objects[late]))
        # Where create is weak the key is read first, which has that delay too.
        await asyncio.sleep(3.0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        proxy.pass_on()
        assert await store.create(late, trail.objects[late]) is True
        async with asyncio.timeout(20):
            while await asyncio.to_thread(versions, rgw, bucket, late) < 2:
                await asyncio.sleep(0.2)
    trust = tmp_path / "trust"
    trust.write_text(trail.trust_line, encoding="utf-8")
    done = trailseal("verify", f"s3://{bucket}", "--endpoint", rgw.endpoint, "--trust", trust, "--json", "--level", "locked")
    report = json.loads(done.stdout)
    assert (done.returncode, report["assurance"]) == (0, "locked"), report["findings"]
    assert "version_repeated" in report["counts"]
