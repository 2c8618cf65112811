"""A machine whose agent ships to a bucket on a real server; what the bucket holds is mirrored for the oracle to read.

The mirror takes the oldest version of each key, as a verifier does, and says which keys have more than one.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from tests.support.agent_process import Agent, Site, Verdict, trailseal, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from tests.support.object_servers.rgw import Credentials, Rgw


QUICK: Final = {"max_age": "100ms", "heartbeat": "1s"}
"""Seals that make a test short."""
LOCKED: Final[dict[str, Any]] = {"retention": {"days": 400}}
PLAIN: Final[dict[str, Any]] = {"allow_unlocked": True}
"""A store's further settings, for a bucket with a lock and for one without."""


class BucketSite(Site):
    """Be a site with one required store, `main`, in a bucket."""

    def __init__(
        self,
        folder: Path,
        rgw: Rgw,
        bucket: str,
        *,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        store: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """Write the configuration.

        `endpoint` is a proxy's, if the way leads over one; `credentials` are the admin's by default; `store` adds settings to
        the store; `settings` as for `Site`.
        """
        self.rgw, self.bucket = rgw, bucket
        who = credentials or rgw.admin
        self.environment = {"AWS_ACCESS_KEY_ID": who.access_key, "AWS_SECRET_ACCESS_KEY": who.secret_key}
        self.client = rgw.client()
        self._known: set[str] = set()
        main = {"id": "main", "bucket": f"s3://{bucket}", "endpoint": endpoint or rgw.endpoint, **(store or {})}
        super().__init__(folder, **{"stores": [main], **settings})

    def run(self, *arguments: str, **options: Any) -> Agent:
        """Start the agent with the credentials in its environment."""
        return super().run(*arguments, **{"env": {**os.environ, **self.environment}, **options})

    def versions(self) -> dict[str, list[str]]:
        """Return the versions of every key but those of probes, the oldest first; a delete marker is `DELETED`."""
        found: dict[str, list[tuple[Any, str]]] = {}
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            for each in page.get("Versions", []):
                found.setdefault(each["Key"], []).append((each["LastModified"], each["VersionId"]))
            for each in page.get("DeleteMarkers", []):
                found.setdefault(each["Key"], []).append((each["LastModified"], "DELETED"))
        # The list has the newest first, and a second may hold several.
        return {key: [version for _, version in reversed(each)] for key, each in found.items() if not key.startswith("probes/")}

    def mirror(self) -> None:
        """Bring what is new in the bucket into the store's folder."""
        for key, versions in self.versions().items():
            if key not in self._known:
                answer = self.client.get_object(Bucket=self.bucket, Key=key, VersionId=versions[0])
                path = self.store / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(answer["Body"].read())
                self._known.add(key)

    def wait_for(self, agent: Agent, ids: Sequence[str], seconds: float = 120.0) -> None:
        """Wait until the stores have confirmed so many events, and nothing waits."""

        def there() -> bool:
            status = self.status() or {}
            head, spool = status.get("head") or {}, status.get("spool") or {}
            return agent.process.poll() is not None or (head.get("events", 0) >= len(ids) and spool.get("batches_waiting") == 0)

        until(there, f"{len(ids)} events confirmed; {agent.log[-2000:]}", seconds, step_seconds=0.1)
        assert agent.process.poll() is None, agent.log

    def verify(self, *options: str) -> Verdict:
        """Verify the bucket itself, believing the keys found in it, with the admin's rights."""
        os.environ.update(AWS_ACCESS_KEY_ID=self.rgw.access_key, AWS_SECRET_ACCESS_KEY=self.rgw.secret_key)
        where, at = f"s3://{self.bucket}", ("--endpoint", self.rgw.endpoint)
        trust = self.folder / "trust.txt"
        printed = trailseal("trust", where, *at)
        assert printed.returncode == 0, printed.stderr
        trust.write_text(printed.stdout, encoding="utf-8")
        done = trailseal("verify", where, *at, "--json", "--trust", trust, *options)
        assert done.stdout, f"verify {done.returncode}: {done.stderr}"
        return Verdict(done.returncode, json.loads(done.stdout))


def bucket_name(request: pytest.FixtureRequest) -> str:
    """Return the name of a bucket of the test's own."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_"))
    return f"{words[:30]}-{crc32(request.node.name.encode()):08x}"


def assert_each_once(site: BucketSite, ids: Sequence[str]) -> None:
    """Check the oracle, and that a second version, which a lost reply may leave where create is weak, has the same bytes."""
    site.mirror()
    found = site.trails.event_ids()
    assert (len(set(ids) - set(found)), sum(count - 1 for count in Counter(found).values())) == (0, 0)
    for key, versions in site.versions().items():
        for version in versions[1:]:
            same = site.client.get_object(Bucket=site.bucket, Key=key, VersionId=version)["Body"].read()
            assert same == (site.store / key).read_bytes(), key
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def attempts(site: BucketSite) -> dict[str, float]:
    """Return how many attempts at the store ended in which way."""
    found = re.compile(r'trailseal_store_attempts_total{outcome="(\w+)",store="main"}')
    return {match[1]: value for name, value in site.metrics().items() if (match := found.fullmatch(name))}
