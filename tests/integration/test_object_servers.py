"""The servers that other tests rely on do what those tests take for granted, and the proxy spoils what it is told to.

Where Ceph 16 differs from Amazon S3, the difference is asserted too, so that a newer Ceph is noticed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import http.server
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError
from obstore.exceptions import AlreadyExistsError

from tests.support.agent_process import until
from tests.support.object_servers.azurite import Azurite
from tests.support.object_servers.proxy import Proxy
from tests.support.object_servers.rgw import Rgw, allow, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

WRITERS: Final = 6


def days(count: int) -> dt.datetime:
    """Return the time in so many days."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=count)


@pytest.fixture(scope="module")
def rgw(tmp_path_factory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        server.bucket("plain")
        server.bucket("versioned", versioned=True)
        server.bucket("locked", lock="compliance", days=400)
        server.bucket("governed", lock="governance", days=400)
        yield server


class TestRgw:
    def test_a_version_under_compliance_is_neither_deleted_nor_released_earlier(self, rgw: Rgw) -> None:
        s3 = rgw.client()
        version = {"Bucket": "locked", "Key": "kept", "VersionId": s3.put_object(Bucket="locked", Key="kept", Body=b"1")["VersionId"]}
        until_when = s3.head_object(**version)["ObjectLockRetainUntilDate"]
        assert days(399) < until_when < days(401)
        assert refusal(s3.delete_object, **version) == (403, "AccessDenied")
        assert refusal(s3.delete_object, **version, BypassGovernanceRetention=True) == (403, "AccessDenied")
        for mode, end in (("COMPLIANCE", days(1)), ("GOVERNANCE", days(800))):
            changed = {"Mode": mode, "RetainUntilDate": end}
            assert refusal(s3.put_object_retention, **version, Retention=changed, BypassGovernanceRetention=True) == (403, "AccessDenied")
        s3.put_object_retention(**version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": days(800)})
        # A marker hides the key, and the version stays.
        s3.delete_object(Bucket="locked", Key="kept")
        assert refusal(s3.get_object, Bucket="locked", Key="kept") == (404, "NoSuchKey")
        assert s3.get_object(**version)["Body"].read() == b"1"

    def test_governance_yields_to_whoever_may_bypass_it(self, rgw: Rgw) -> None:
        s3 = rgw.client()
        version = {"Bucket": "governed", "Key": "kept", "VersionId": s3.put_object(Bucket="governed", Key="kept", Body=b"1")["VersionId"]}
        assert refusal(s3.delete_object, **version) == (403, "AccessDenied")
        s3.delete_object(**version, BypassGovernanceRetention=True)
        assert refusal(s3.get_object, **version) == (404, "NoSuchKey")

    def test_versioning_of_a_locked_bucket_cannot_be_suspended(self, rgw: Rgw) -> None:
        s3, suspended = rgw.client(), {"Status": "Suspended"}
        assert refusal(s3.put_bucket_versioning, Bucket="locked", VersioningConfiguration=suspended) == (409, "InvalidBucketState")

    def test_a_plain_bucket_creates_if_absent_for_one_of_many_writers(self, rgw: Rgw) -> None:
        assert self.race(rgw, "plain") == [200] + [412] * (WRITERS - 1)

    @pytest.mark.parametrize("bucket", ["versioned", "locked"])
    def test_ceph_16_ignores_the_condition_where_there_are_versions(self, rgw: Rgw, bucket: str) -> None:
        assert self.race(rgw, bucket) == [200] * WRITERS

    def race(self, rgw: Rgw, bucket: str) -> list[int]:
        """Let several writers create the same key if it is absent; return their answers' statuses, sorted."""
        barrier = threading.Barrier(WRITERS)

        def write(client: Any) -> int:
            barrier.wait(10)
            try:
                done = client.put_object(Bucket=bucket, Key="raced", Body=b"1", IfNoneMatch="*")
            except ClientError as refused:
                done = refused.response
            return int(done["ResponseMetadata"]["HTTPStatusCode"])

        clients = [rgw.client() for _ in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as pool:
            return sorted(pool.map(write, clients))

    def test_a_body_that_is_not_the_signed_one_is_refused(self, rgw: Rgw) -> None:
        def tamper(request: Any, **_: Any) -> None:
            request.body = b"tampered"

        s3 = rgw.client()
        s3.meta.events.register("before-send.s3.PutObject", tamper)
        assert refusal(s3.put_object, Bucket="plain", Key="body", Body=b"original") == (400, "XAmzContentSHA256Mismatch")
        assert refusal(rgw.client().get_object, Bucket="plain", Key="body") == (404, "NoSuchKey")
        wrong = "AAAAAAAAAAAAAAAAAAAAAA=="
        assert refusal(rgw.client().put_object, Bucket="plain", Key="body", Body=b"1", ContentMD5=wrong) == (400, "BadDigest")
        # Ceph 16 ignores the newer checksums.
        rgw.client().put_object(Bucket="plain", Key="body", Body=b"1", ChecksumCRC32="AAAAAA==")

    def test_a_full_bucket_refuses_until_there_is_room(self, rgw: Rgw) -> None:
        s3, bucket = rgw.client(), rgw.bucket("small")
        s3.put_object(Bucket=bucket, Key="first", Body=b"1")
        for limit in ({"max_objects": 0}, {"max_objects": 1}, {"max_bytes": 4096}):
            rgw.quota(bucket, **limit)
            assert refusal(s3.put_object, Bucket=bucket, Key="second", Body=b"1") == (403, "QuotaExceeded")
            assert s3.get_object(Bucket=bucket, Key="first")["Body"].read() == b"1"
            rgw.lift_quota(bucket)
            s3.put_object(Bucket=bucket, Key="second", Body=b"1")
            s3.delete_object(Bucket=bucket, Key="second")

    def test_a_writer_can_do_no_more_than_the_policy_says(self, rgw: Rgw) -> None:
        writer = rgw.user("writer")
        s3 = rgw.client(writer)
        for bucket in ("plain", "locked"):
            assert refusal(s3.put_object, Bucket=bucket, Key="trails/a", Body=b"1") == (403, "AccessDenied")
            rgw.client().put_bucket_policy(Bucket=bucket, Policy=allow(writer, bucket, "trails/"))
            version = {"VersionId": s3.put_object(Bucket=bucket, Key="trails/a", Body=b"1").get("VersionId", "null")}
            assert s3.get_object(Bucket=bucket, Key="trails/a")["Body"].read() == b"1"
            assert refusal(s3.put_object, Bucket=bucket, Key="other/a", Body=b"1") == (403, "AccessDenied")
            assert refusal(s3.list_objects_v2, Bucket=bucket, Prefix="trails/") == (403, "AccessDenied")
            assert refusal(s3.delete_object, Bucket=bucket, Key="trails/a") == (403, "AccessDenied")
            assert refusal(s3.delete_object, Bucket=bucket, Key="trails/a", **version) == (403, "AccessDenied")
            # As with Amazon S3: who may not list is not told what is absent.
            assert refusal(s3.get_object, Bucket=bucket, Key="trails/absent") == (403, "AccessDenied")
            assert refusal(s3.head_object, Bucket=bucket, Key="trails/absent") == (403, "403")
        stranger = rgw.client(writer._replace(secret_key="guessed"))
        assert refusal(stranger.get_object, Bucket="plain", Key="trails/a") == (403, "SignatureDoesNotMatch")

    def test_ceph_16_lets_whoever_writes_choose_a_shorter_retention(self, rgw: Rgw) -> None:
        writer = rgw.user("chooser")
        rgw.client().put_bucket_policy(Bucket="locked", Policy=allow(writer, "locked", "trails/"))
        shorter = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": days(1)}
        rgw.client(writer).put_object(Bucket="locked", Key="trails/short", Body=b"1", **shorter)
        assert rgw.client(writer).head_object(Bucket="locked", Key="trails/short")["ObjectLockRetainUntilDate"] < days(2)

    def test_the_owner_of_a_bucket_reads_what_others_wrote_only_if_the_policy_says_so(self, rgw: Rgw) -> None:
        writer, owner = rgw.user("guest"), rgw.client()
        owner.put_bucket_policy(Bucket="governed", Policy=allow(writer, "governed", "trails/"))
        rgw.client(writer).put_object(Bucket="governed", Key="trails/guest", Body=b"1")
        assert refusal(owner.get_object, Bucket="governed", Key="trails/guest") == (403, "AccessDenied")
        owner.put_bucket_policy(Bucket="governed", Policy=allow(rgw.admin, "governed", "trails/"))
        assert owner.get_object(Bucket="governed", Key="trails/guest")["Body"].read() == b"1"

    def test_what_was_acknowledged_survives_a_kill_of_all_daemons(self, tmp_path: Path) -> None:
        with Rgw(tmp_path / "rgw", backend="bluestore") as server:
            s3, bucket = server.client(), server.bucket("kept", lock="compliance")
            for number in range(20):
                s3.put_object(Bucket=bucket, Key=f"{number:02d}", Body=b"%d" % number * 10_000)
            server.kill()
            with pytest.raises(EndpointConnectionError):
                s3.list_objects_v2(Bucket=bucket)
            server.start()
            assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 20
            for number in range(20):
                answer = s3.get_object(Bucket=bucket, Key=f"{number:02d}")
                assert answer["Body"].read() == b"%d" % number * 10_000
                assert answer["ObjectLockMode"] == "COMPLIANCE"

    def test_no_daemon_outlives_a_test_that_is_killed(self, tmp_path: Path) -> None:
        code = (
            "import json, pathlib, sys, time; from tests.support.object_servers.rgw import Rgw\n"
            "with Rgw(pathlib.Path(sys.argv[1])) as server: print(json.dumps(server.pids()), flush=True); time.sleep(60)"
        )
        test = subprocess.Popen([sys.executable, "-c", code, tmp_path / "rgw"], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert test.stdout is not None
        with test, test.stdout:
            pids = json.loads(test.stdout.readline()).values()
            assert all(map(is_running, pids))
            test.kill()
        until(lambda: not any(map(is_running, pids)), "no daemon of a killed test")


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def azurite(tmp_path_factory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


class TestAzurite:
    # The first time, it is installed.
    @pytest.mark.timeout(300)
    def test_a_blob_is_created_if_absent_by_one_of_many_writers(self, azurite: Azurite) -> None:
        store = azurite.store(azurite.container("created"))

        def write(number: int) -> int | None:
            try:
                store.put("trails/a", b"%d" % number, mode="create")
            except AlreadyExistsError:
                return None
            return number

        with ThreadPoolExecutor(WRITERS) as pool:
            (winner,) = [number for number in pool.map(write, range(WRITERS)) if number is not None]
        assert bytes(store.get("trails/a").bytes()) == b"%d" % winner
        assert [entry["path"] for page in store.list() for entry in page] == ["trails/a"]
        with pytest.raises(FileNotFoundError):
            store.head("trails/absent")

    def test_only_an_address_signed_for_reading_answers_to_a_look(self, azurite: Azurite) -> None:
        store = azurite.store(azurite.container("signed"))
        store.put("trails/a", b"1", mode="create")
        assert self.head(store, "GET", "trails/a") == 200
        assert self.head(store, "GET", "trails/absent") == 404
        # What obstore signs for HEAD grants no right at all.
        assert self.head(store, "HEAD", "trails/a") == 403

    def head(self, store: Any, signed_for: Any, key: str) -> int:
        address = urlsplit(obstore.sign(store, signed_for, key, dt.timedelta(minutes=1)))
        with contextlib.closing(http.client.HTTPConnection(address.netloc, timeout=10)) as connection:
            connection.request("HEAD", f"{address.path}?{address.query}")
            return connection.getresponse().status

    def test_it_has_no_immutability(self, azurite: Azurite) -> None:
        container = azurite.container("mutable")
        locked = {"x-ms-immutability-policy-until-date": "Fri, 01 Jan 2100 00:00:00 GMT", "x-ms-immutability-policy-mode": "Locked"}
        assert azurite.request("PUT", f"/{container}/a", b"1", {"x-ms-blob-type": "BlockBlob", **locked}).status == 201
        assert azurite.request("PUT", f"/{container}/a?comp=immutabilityPolicies", b"", locked).status == 501
        assert azurite.request("DELETE", f"/{container}/a").status == 202

    def test_it_keeps_what_it_has_when_it_is_ended_in_order(self, azurite: Azurite) -> None:
        store = azurite.store(azurite.container("kept"))
        store.put("a", b"1", mode="create")
        azurite.stop()
        azurite.start()
        assert bytes(store.get("a").bytes()) == b"1"


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answer every request with its own body, after having noted it."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class TestProxy:
    @pytest.fixture
    def bodies(self) -> list[bytes]:
        return []

    @pytest.fixture
    def proxy(self, bodies: list[bytes]) -> Iterator[Proxy]:
        handler = type("Handler", (Recorder,), {"bodies": bodies})
        quiet = type("Quiet", (http.server.ThreadingHTTPServer,), {"handle_error": lambda *_: None})
        with quiet(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            with Proxy("127.0.0.1", server.server_port) as between:
                yield between
            server.shutdown()
            thread.join(10)

    @pytest.fixture
    def line(self, proxy: Proxy) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
        yield connection
        connection.close()

    def put(self, line: http.client.HTTPConnection, body: bytes = b"body", key: str = "/key") -> tuple[int, bytes]:
        line.request("PUT", key, body)
        answer = line.getresponse()
        return answer.status, answer.read()

    def test_it_passes_requests_on_and_counts_them(self, proxy: Proxy, line: Any, bodies: list[bytes]) -> None:
        large = bytes(range(256)) * 12_000
        assert self.put(line) == (200, b"body")
        assert self.put(line, large) == (200, large)
        assert bodies == [b"body", large]
        assert (proxy.connections, proxy.requests, proxy.request_lines[0]) == (1, 2, "PUT /key HTTP/1.1")

    def test_it_refuses_and_takes_connections_again(self, proxy: Proxy, line: Any) -> None:
        self.put(line)
        proxy.refuse()
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            self.put(line)
        line.close()
        with pytest.raises(ConnectionRefusedError):
            self.put(line)
        proxy.refuse("reset")
        line.close()
        with pytest.raises(ConnectionResetError):
            self.put(line)
        proxy.pass_on()
        line.close()
        assert self.put(line) == (200, b"body")

    def test_a_lost_reply_comes_after_the_server_has_the_request(self, proxy: Proxy, line: Any, bodies: list[bytes]) -> None:
        proxy.swallow_replies(2, only="^PUT /key")
        assert self.put(line, key="/other") == (200, b"body")
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                self.put(line)
            line.close()
        assert bodies == [b"body"] * 3
        assert self.put(line) == (200, b"body")

    def test_a_reset_comes_after_so_many_bytes(self, proxy: Proxy, line: Any, bodies: list[bytes]) -> None:
        proxy.reset_after(1000, of="server")
        line.request("PUT", "/key", bytes(5000))
        with pytest.raises(ConnectionResetError):
            line.getresponse().read()
        line.close()
        assert bodies == [bytes(5000)]
        proxy.reset_after(1000, of="client")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            self.put(line, bytes(5_000_000))
        assert bodies == [bytes(5000)]

    def test_a_reply_is_cut_short_in_order(self, proxy: Proxy, line: Any) -> None:
        proxy.truncate_replies(1000)
        assert self.put(line, bytes(10)) == (200, bytes(10))
        line.request("PUT", "/key", bytes(5000))
        with pytest.raises(http.client.IncompleteRead):
            line.getresponse().read()

    def test_it_answers_by_itself(self, proxy: Proxy, line: Any, bodies: list[bytes]) -> None:
        proxy.answer(503, b"<Error/>", {"Retry-After": "1"}, times=2)
        line.request("PUT", "/key", b"body")
        answer = line.getresponse()
        assert (answer.status, answer.headers["Retry-After"], answer.read()) == (503, "1", b"<Error/>")
        assert self.put(line)[0] == 503
        assert self.put(line) == (200, b"body")
        assert bodies == [b"body"]
        proxy.answer(500, headers={"Connection": "close"})
        assert self.put(line) == (500, b"")
        assert (proxy.connections, proxy.requests) == (1, 4)

    @pytest.mark.parametrize("of", ["client", "server", None])
    def test_it_holds_messages_back(self, proxy: Proxy, line: Any, of: Any) -> None:
        proxy.delay(0.3, of)
        begun = time.monotonic()
        assert self.put(line) == (200, b"body")
        assert time.monotonic() - begun >= (0.6 if of is None else 0.3)

    def test_it_throttles(self, proxy: Proxy, line: Any) -> None:
        proxy.throttle(100_000)
        begun = time.monotonic()
        assert self.put(line, bytes(30_000)) == (200, bytes(30_000))
        assert time.monotonic() - begun >= 0.4

    def test_a_connection_is_closed_in_one_direction_or_falls_silent(self, proxy: Proxy, line: Any, bodies: list[bytes]) -> None:
        line.timeout = 0.5
        proxy.half_close()
        with pytest.raises(TimeoutError):
            self.put(line)
        line.close()
        proxy.half_close("client")
        with pytest.raises(http.client.RemoteDisconnected):
            self.put(line)
        line.close()
        proxy.half_close("server")
        assert self.put(line) == (200, b"body")
        assert bodies == [b"body"] * 3

    def test_a_store_keeps_what_it_wrote_when_the_reply_is_lost(self, rgw: Rgw) -> None:
        with Proxy("127.0.0.1", rgw.port) as proxy:
            s3 = rgw.client(endpoint=proxy.endpoint)
            proxy.swallow_replies(1)
            with pytest.raises(ConnectionClosedError):
                s3.put_object(Bucket="plain", Key="lost", Body=b"1", IfNoneMatch="*")
            assert refusal(s3.put_object, Bucket="plain", Key="lost", Body=b"1", IfNoneMatch="*") == (412, "PreconditionFailed")
            assert s3.get_object(Bucket="plain", Key="lost")["Body"].read() == b"1"
            proxy.answer(503)
            assert refusal(s3.put_object, Bucket="plain", Key="busy", Body=b"1")[0] == 503
            assert proxy.requests == 4
