"""Run a Ceph cluster of one disk with its S3 gateway, on the loopback interface: a real server with Object Lock.

One monitor, one OSD and one radosgw, with nothing from /etc/ceph and no rights of root. `memstore` is there in under two
seconds and forgets everything when it is killed; `bluestore` takes some seconds and keeps what it acknowledged.

What Ceph 16 does differently from Amazon S3, as far as it matters here, is asserted in
`tests/integration/test_object_servers.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import signal
import uuid
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.object_servers import Daemons, lasting_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CONFIGURATION: Final = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
ms async op threads = 1
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
run dir = {folder}/run
crash dir = {folder}/run
pid file =
# The path of a socket may have 107 bytes, and pytest's folders are deep.
admin socket =
log file =
debug rocksdb = 0/0
# How long the others wait before they try again, when they were there before the monitor.
mon client hunt interval = 0.2

[mon]
mon data = {folder}/mon
mon data avail crit = 1
mon allow pool size one = true
mon max pg per osd = 2000
# One monitor agrees with itself; there is nobody to wait for.
paxos propose interval = 0.05
paxos min wait = 0.01
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon memory autotune = false

[osd]
osd data = {folder}/osd
osd objectstore = {backend}
osd crush update on start = false
osd class update on start = false
osd op num shards = 1
osd op num threads per shard = 2
memstore device bytes = {device_bytes}
bluestore block size = {device_bytes}
bluestore cache autotune = false
bluestore cache size = 33554432
bluestore fsck on mkfs = false
# The disk is opened and closed several times before it is used, and each time waits for the end of one poll.
bdev aio poll ms = 10

[client]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw thread pool size = 32
rgw dynamic resharding = false
rgw enable lc threads = false
rgw enable gc threads = false
# How long it goes on asking a disk's former process before it looks whether there is a new one.
objecter tick interval = 0.2
"""

DEVICE_BYTES: Final = 4 << 30
"""The size of the disk, a file with holes."""


class Credentials(NamedTuple):
    """Be a user's keys, and the name by which a bucket's policy grants that user rights."""

    access_key: str
    secret_key: str
    principal: str


class Rgw:
    """Be one S3 server of its own; leaving the `with` block ends it."""

    def __init__(self, folder: Path, *, backend: Literal["memstore", "bluestore"] = "memstore", port: int | None = None) -> None:
        """Name the folder that holds everything, and the port if it matters; nothing is started yet."""
        self.folder = folder
        self.backend: Final = backend
        self.port: Final = port or lasting_port()
        self.endpoint: Final = f"http://127.0.0.1:{self.port}"
        self.admin: Final = _new_credentials("admin")
        self.access_key: Final = self.admin.access_key
        self.secret_key: Final = self.admin.secret_key
        self._conf = folder / "ceph.conf"
        self._monitor_port = lasting_port()
        self._daemons = Daemons(folder / "logs", {"CEPH_CONF": str(self._conf), "CEPH_ARGS": ""})
        self._was_killed = False
        self._session = botocore.session.Session()
        self._clients = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Make the cluster and the admin's user; return when requests are answered."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._daemons)
            stack.enter_context(self._clients)
            self._make_cluster()
            self.start()
            self._make_user("admin", self.admin)
            self._end = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the clients and kill the daemons; the folder keeps their logs."""
        self._end.close()

    def client(self, credentials: Credentials | None = None, *, endpoint: str | None = None, **settings: Any) -> Any:
        """Return a botocore S3 client with the admin's keys or others, without retries.

        `endpoint` is a proxy's, if the way leads over one; `settings` go to botocore's Config.
        """
        who = credentials or self.admin
        made = self._session.create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            config=Config(
                **{
                    "s3": {"addressing_style": "path"},
                    "retries": {"total_max_attempts": 1},
                    "connect_timeout": 5,
                    "read_timeout": 30,
                    # Ceph 16 knows neither the newer checksums nor the trailers that carry them.
                    "request_checksum_calculation": "when_required",
                    "response_checksum_validation": "when_required",
                    **settings,
                }
            ),
        )
        self._clients.callback(made.close)
        return made

    def bucket(
        self, name: str, *, lock: Literal["compliance", "governance"] | None = None, days: int = 400, versioned: bool = False
    ) -> str:
        """Make the admin's bucket, with a default retention if `lock` says which; return its name."""
        client = self.client()
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock is not None)
        if lock is not None:
            retention = {"Mode": lock.upper(), "Days": days}
            client.put_object_lock_configuration(
                Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
            )
        elif versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def user(self, name: str) -> Credentials:
        """Make a further user, who may do nothing in the admin's buckets until a bucket's policy says so.

        What a user writes is that user's: not even the admin may read it, unless the policy names the admin as well.
        """
        return self._make_user(name, _new_credentials(name))

    def quota(self, bucket: str, *, max_bytes: int | None = None, max_objects: int | None = None) -> None:
        """Limit a bucket: what would exceed it is refused (403 QuotaExceeded); 0 objects makes it full at once."""
        limits = {"max-size": max_bytes, "max-objects": max_objects}
        options = [f"--{name}={limit}" for name, limit in limits.items() if limit is not None]
        assert options, "a quota limits bytes or objects"
        self._admin("quota", "set", "--quota-scope=bucket", f"--bucket={bucket}", *options)
        self._admin("quota", "enable", "--quota-scope=bucket", f"--bucket={bucket}")

    def lift_quota(self, bucket: str) -> None:
        """Let a bucket grow again."""
        self._admin("quota", "set", "--quota-scope=bucket", f"--bucket={bucket}", "--max-size=-1", "--max-objects=-1")
        self._admin("quota", "disable", "--quota-scope=bucket", f"--bucket={bucket}")

    def kill(self) -> None:
        """Kill all three daemons at once, as a power cut would."""
        self._was_killed = True
        self._daemons.end(signal.SIGKILL)

    def start(self) -> None:
        """Start the daemons on the data that is there, and wait until requests are answered."""
        assert self.backend == "bluestore" or not self._was_killed, "memstore has forgotten everything; take bluestore"
        for name, *arguments in (
            ("mon", "ceph-mon", "-i", "a"),
            ("osd", "ceph-osd", "-i", "0", "--no-mon-config"),
            # It waits by itself for the other two.
            ("rgw", "radosgw", "-n", "client.rgw", "--no-mon-config"),
        ):
            self._daemons.start(name, *arguments, "-d", "-c", self._conf)
        self._daemons.wait(self._answers, f"radosgw answers at {self.endpoint}")

    def pids(self) -> dict[str, int]:
        """Return the daemons' process ids: `mon`, `osd`, `rgw`."""
        return self._daemons.pids()

    def _make_cluster(self) -> None:
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd", "rgw", "run"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "keyring").touch()
        self._conf.write_text(
            CONFIGURATION.format(
                fsid=fsid,
                folder=self.folder,
                backend=self.backend,
                device_bytes=DEVICE_BYTES,
                port=self.port,
                monitor_port=self._monitor_port,
            ),
            encoding="utf-8",
        )
        monitors, disks = self.folder / "monmap", self.folder / "osdmap"
        run = self._daemons.run
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{self._monitor_port}]", monitors)
        # A map with its disk in it saves asking the monitor for one.
        run("osdmaptool", "-c", self._conf, "--createsimple", "1", "--clobber", disks)
        run("ceph-mon", "-c", self._conf, "-i", "a", "--mkfs", "--monmap", monitors, "--osdmap", disks)
        run("ceph-osd", "-c", self._conf, "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()), "--no-mon-config")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5.0)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        return False

    def _admin(self, *arguments: str) -> Any:
        printed = self._daemons.run("radosgw-admin", "-c", self._conf, *arguments)
        return json.loads(printed) if printed else None

    def _make_user(self, name: str, credentials: Credentials) -> Credentials:
        keys = (f"--access-key={credentials.access_key}", f"--secret-key={credentials.secret_key}")
        self._admin("user", "create", f"--uid={name}", f"--display-name={name}", *keys)
        return credentials


def allow(who: Credentials, bucket: str, prefix: str = "", actions: Sequence[str] = ("s3:PutObject", "s3:GetObject")) -> str:
    """Return the policy of a bucket that lets one user do some things to the keys under a prefix, and nobody anything else."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [who.principal]},
        "Action": list(actions),
        # Rights such as s3:ListBucket are rights on the bucket, the others on its objects.
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{prefix}*"],
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    """Make a call of a client that the server must refuse; return the answer's status and code."""
    try:
        call(**arguments)
    except ClientError as refused:
        return refused.response["ResponseMetadata"]["HTTPStatusCode"], refused.response["Error"]["Code"]
    raise AssertionError(f"not refused: {arguments}")


def _new_credentials(name: str) -> Credentials:
    return Credentials(secrets.token_hex(10).upper(), secrets.token_hex(20), f"arn:aws:iam:::user/{name}")
