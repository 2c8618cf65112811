"""`trailseal copy` as a user runs it: between folders, into and out of buckets of a real S3 server, killed in the midst and run again."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agent.trail.layout import seal_key
from tests.support.agent_process import TRAILSEAL, Site, believe, until, verify
from tests.support.object_servers.rgw import Rgw, allow
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PREFIXES = itertools.count(1)


class Copied(NamedTuple):
    """Be what `copy` said: its exit code, its JSON document, and stderr."""

    code: int
    report: dict[str, Any]
    errors: str

    @property
    def words(self) -> str:
        """Why TO takes nothing more."""
        return f"{self.report['failure']['message']} {self.report['failure']['hint']}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as running:
        running.bucket("locked", lock="compliance", days=400)
        running.bucket("unlocked")
        running.client().create_bucket(Bucket="by-object", ObjectLockEnabledForBucket=True)
        yield running


@pytest.fixture
def prefix() -> str:
    return f"of-test-{next(PREFIXES)}"


def environment(server: Rgw | None, keys: tuple[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    if server is None:
        return kept
    access, secret = keys or (server.access_key, server.secret_key)
    return kept | {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": server.endpoint}


def copy(source: object, target: object, *options: object, server: Rgw | None = None, keys: tuple[str, str] | None = None) -> Copied:
    arguments = [TRAILSEAL, "copy", str(source), str(target), "--json", *map(str, options)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(server, keys), timeout=150, check=False)
    assert done.stdout, f"copy {done.returncode}: {done.stderr}"
    return Copied(done.returncode, json.loads(done.stdout), done.stderr)


def verify_bucket(server: Rgw, where: str, trust: Path, *options: str) -> tuple[int, dict[str, Any]]:
    arguments = [TRAILSEAL, "verify", where, "--json", "--trust", str(trust), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(server), timeout=100, check=False)
    return done.returncode, json.loads(done.stdout)


def store_of(folder: Path, *trails: TrailFactory) -> tuple[Path, Path]:
    """Write trails below a folder; return the store and its trust file."""
    for trail in trails:
        write_store(trail.objects, folder / "from")
    trust = folder / "trust"
    trust.write_text("".join(trail.trust_line for trail in trails))
    return folder / "from", trust


def long_trail(batches: int = 300) -> TrailFactory:
    trail = TrailFactory()
    for _ in range(batches):
        trail.add(2)
    trail.close()
    return trail


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file() and ".incoming" not in path.parts
    }


def keys_below(server: Rgw, bucket: str, prefix: str) -> list[str]:
    """Return the key of every version below a prefix, so that a key with two stands there twice."""
    pages = server.client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return [entry["Key"].removeprefix(f"{prefix}/") for page in pages for entry in page.get("Versions", ())]


def trails_and_records(keys: list[str]) -> list[str]:
    return sorted(key for key in keys if not key.startswith("probes/"))


def kill_midway(arguments: list[str], environ: dict[str, str], begun: Any) -> None:
    with subprocess.Popen(arguments, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        until(lambda: running.poll() is not None or begun(), "some batches in the target", step_seconds=0.005)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "it was over before it could be killed"


class TestBetweenFolders:
    def test_killed_in_the_midst_it_leaves_a_beginning_and_the_next_run_completes_it(self, tmp_path):
        trail = long_trail()
        source, trust = store_of(tmp_path, trail)
        target = tmp_path / "to"
        for seals in (20, 120):
            kill_midway(
                [TRAILSEAL, "copy", str(source), str(target), "--trust", str(trust)],
                environment(None),
                lambda seals=seals: (target / seal_key(trail.origin, seals)).exists(),
            )
            verdict = verify(target, trust)
            # It ends in no stop, and the sample is old.
            assert (verdict.code, verdict.codes()) == (11, {"unclosed"})
        copied = copy(source, target, "--trust", trust)
        assert (copied.code, copied.report["verification"]["exit_code"]) == (0, 0)
        assert copied.report["present"] > 240
        assert copied.report["created"] + copied.report["present"] == len(trail.objects)
        assert files(target) == trail.objects
        assert verify(target, trust).code == 0
        again = copy(source, target, "--trust", trust)
        assert (again.code, again.report["created"], again.report["present"]) == (0, 0, len(trail.objects))

    def test_what_a_person_sees(self, tmp_path):
        source, trust = store_of(tmp_path, *two_epochs())
        run = [TRAILSEAL, "copy", str(source), (tmp_path / "to").as_uri(), "--trust", str(trust)]
        dry = subprocess.run([*run, "--dry-run"], capture_output=True, text=True, timeout=60, check=False)
        assert dry.stdout.endswith("9 objects to create (10.2 kB), 0 there already; nothing was written (exit 0)\n")
        assert not (tmp_path / "to").exists()
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "intact and complete: 2 trails, 8 records (exit 0)\n" in done.stdout
        last = "copied: 2 trails, 9 objects created (10.2 kB), 0 there already; intact and complete (exit 0)\n"
        assert done.stdout.endswith(last)
        quiet = subprocess.run([*run, "--quiet"], capture_output=True, text=True, timeout=60, check=False)
        assert quiet.stdout == "copied: 2 trails, 0 objects created (0 bytes), 9 there already; intact and complete (exit 0)\n"

    def test_the_help_teaches_with_examples(self):
        done = subprocess.run([TRAILSEAL, "copy", "--help"], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0
        assert "trailseal copy /srv/trail /mnt/backup/trail --trust trust.txt" in done.stdout

    def test_damage_is_not_copied_and_a_contradiction_not_overwritten(self, tmp_path):
        trail, other = sample_trail(), sample_trail(seed=b"other", service="orders")
        source, trust = store_of(tmp_path, trail, other)
        target = tmp_path / "to"
        damaged = source / seal_key(trail.origin, 3)
        damaged.write_bytes(damaged.read_bytes().replace(b'"records"', b'"Records"'))
        contradiction = target / seal_key(other.origin, 2)
        contradiction.parent.mkdir(parents=True)
        contradiction.write_bytes(b"something else")
        copied = copy(source, target, "--trust", trust)
        assert copied.code == 10
        causes = {entry["origin"]: (entry["stopped"]["batch"], entry["stopped"]["cause"]) for entry in copied.report["trails"]}
        assert causes == {str(trail.origin): (3, "damaged"), str(other.origin): (2, "conflict")}
        assert contradiction.read_bytes() == b"something else"
        assert not (target / seal_key(trail.origin, 3)).exists()

    def test_without_trust_it_copies_and_nobody_vouches(self, tmp_path):
        source, _ = store_of(tmp_path, sample_trail())
        copied = copy(source, tmp_path / "to")
        assert (copied.code, copied.report["complete"], copied.report["trails"][0]["trusted_by"]) == (12, True, None)
        assert copy(source, tmp_path / "to", "--no-verify").code == 0

    @pytest.mark.parametrize("where", ["to/below", "to"])
    def test_a_folder_that_may_not_be_written_to_is_said_at_once(self, tmp_path, where):
        source, trust = store_of(tmp_path, sample_trail())
        (tmp_path / "to").write_text("a file where a folder should be")
        run = [TRAILSEAL, "copy", str(source), str(tmp_path / where), "--trust", str(trust), "--json"]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        if where == "to":
            assert (done.returncode, "is not a folder" in done.stderr) == (2, True)
        else:
            assert (done.returncode, "Not a directory" in json.loads(done.stdout)["failure"]["message"]) == (1, True)

    def test_the_trail_of_a_running_agent_is_copied_as_far_as_it_is(self, tmp_path):
        site = Site(tmp_path / "site")
        site.log.write_text("")
        event = sample_event()
        with site.run() as agent:
            agent.ready()
            for number in range(20):
                with site.log.open("a") as log:
                    log.write(event.replace("e-1", f"e-{number}") + "\n")
            site.wait_drained(site.log.stat().st_size)
            trust = believe(site.store, tmp_path / "trust")
            copied = copy(site.store, tmp_path / "to", "--trust", trust)
            assert (copied.code, copied.report["trails"][0]["records"]) == (0, 20)
            assert agent.stop() == 0
        again = copy(site.store, tmp_path / "to", "--trust", trust)
        assert again.code == 0
        assert again.report["verification"]["trails"][0]["state"] == "stopped"
        assert files(tmp_path / "to") == files(site.store)


def sample_event() -> str:
    return json.dumps(
        {
            "stream": "audit",
            "event_id": "e-1",
            "occurred_at": "2026-01-08T14:32:08Z",
            "actor": {"type": "user", "id": "u-1"},
            "action": "auth.login",
            "target": {"type": "account", "id": "a-1"},
            "outcome": "success",
            "context": {"ip": "203.0.113.7"},
        }
    )


class TestBuckets:
    def test_into_a_locked_bucket_killed_and_completed_each_key_has_one_version(self, server, prefix, tmp_path):
        trail = long_trail(120)
        source, trust = store_of(tmp_path, trail)
        where = f"s3://locked/{prefix}"
        kill_midway(
            [TRAILSEAL, "copy", str(source), where, "--trust", str(trust)],
            environment(server),
            lambda: len(keys_below(server, "locked", prefix)) > 60,
        )
        code, verdict = verify_bucket(server, where, trust)
        assert (code, {found["code"] for found in verdict["findings"]} - {"data_in_flight"}) == (11, {"unclosed"})
        copied = copy(source, where, "--trust", trust, server=server)
        assert copied.code == 0, copied
        assert copied.report["created"] + copied.report["present"] == len(trail.objects)
        assert copied.report["present"] > 0
        # Ceph 16 does not keep create-if-absent on versioned buckets.
        assert "weak create" in copied.report["warnings"][0]
        again = copy(source, where, "--trust", trust, server=server)
        assert (again.code, again.report["created"], again.report["present"]) == (0, 0, len(trail.objects))
        assert trails_and_records(keys_below(server, "locked", prefix)) == sorted(trail.objects)
        code, verdict = verify_bucket(server, where, trust, "--level", "locked", "--retention", "400d")
        assert (code, verdict["findings"]) == (0, [])

    def test_out_of_a_bucket_into_a_folder_and_into_another_bucket(self, server, prefix, tmp_path):
        first, second = two_epochs()
        source, trust = store_of(tmp_path, first, second)
        where = f"s3://locked/{prefix}"
        assert copy(source, where, "--trust", trust, server=server).code == 0
        assert copy(where, tmp_path / "to", "--trust", trust, server=server).code == 0
        assert files(tmp_path / "to") == first.objects | second.objects
        copied = copy(where, f"s3://locked/{prefix}-2", "--trust", trust, server=server)
        assert (copied.code, copied.report["created"], copied.report["probes"]) == (0, 9, 1)
        assert trails_and_records(keys_below(server, "locked", f"{prefix}-2")) == sorted(first.objects | second.objects)

    def test_a_dry_run_leaves_nothing_in_the_bucket(self, server, prefix, tmp_path):
        source, trust = store_of(tmp_path, sample_trail())
        copied = copy(source, f"s3://locked/{prefix}", "--trust", trust, "--dry-run", server=server)
        assert (copied.code, copied.report["created"]) == (0, 11)
        assert keys_below(server, "locked", prefix) == []

    def test_a_bucket_without_a_lock_is_refused_unless_that_is_allowed(self, server, prefix, tmp_path):
        source, trust = store_of(tmp_path, sample_trail())
        where = f"s3://unlocked/{prefix}"
        refused = copy(source, where, "--trust", trust, server=server)
        assert (refused.code, refused.report["created"], refused.report["complete"]) == (1, 0, False)
        assert "so it has no lock; nothing is shipped to it" in refused.words
        assert "--allow-unlocked" in refused.words
        allowed = copy(source, where, "--trust", trust, "--allow-unlocked", server=server)
        assert (allowed.code, allowed.report["created"]) == (0, 11)
        assert "no lock: whoever owns the bucket" in allowed.report["warnings"][0]

    def test_each_object_can_ask_for_its_lock(self, server, prefix, tmp_path):
        source, trust = store_of(tmp_path, sample_trail())
        where = f"s3://by-object/{prefix}"
        assert copy(source, where, "--trust", trust, server=server).code == 1
        copied = copy(source, where, "--trust", trust, "--to-retention", 400, "--to-retention-by", "object", server=server)
        assert copied.code == 0
        code, verdict = verify_bucket(server, where, trust, "--level", "locked", "--retention", "400d")
        assert (code, verdict["assurance"]) == (0, "locked")

    def test_other_bytes_in_the_bucket_are_a_contradiction(self, server, prefix, tmp_path):
        trail = sample_trail()
        source, trust = store_of(tmp_path, trail)
        key = seal_key(trail.origin, 4)
        server.client().put_object(Bucket="locked", Key=f"{prefix}/{key}", Body=b"something else")
        copied = copy(source, f"s3://locked/{prefix}", "--trust", trust, server=server)
        assert copied.code == 10
        assert (copied.report["trails"][0]["stopped"]["cause"], copied.report["trails"][0]["batches"]) == ("conflict", 4)
        assert keys_below(server, "locked", prefix).count(key) == 1

    def test_wrong_keys_are_said_at_once_in_the_store_s_words(self, server, prefix, tmp_path):
        source, trust = store_of(tmp_path, sample_trail())
        copied = copy(source, f"s3://locked/{prefix}", "--trust", trust, server=server, keys=(server.access_key, "wrong"))
        assert (copied.code, "SignatureDoesNotMatch" in copied.words) == (1, True)

    def test_who_may_create_and_not_list_is_told_what_is_missing(self, server, tmp_path):
        actions = ("s3:PutObject", "s3:GetObject", "s3:GetObjectRetention")
        writer = server.user("writer")
        source, trust = store_of(tmp_path, sample_trail())
        for bucket, lock in (("creating-locked", "compliance"), ("creating", None)):
            server.bucket(bucket, lock=lock)
            server.client().put_bucket_policy(Bucket=bucket, Policy=allow(writer, bucket, actions=actions))
        # On a versioned bucket create is weak, so it has to be asked first, and the server says "forbidden" of what is not there.
        copied = copy(source, "s3://creating-locked", "--trust", trust, server=server, keys=writer[:2])
        assert (copied.code, copied.report["created"]) == (1, 0)
        assert "give it s3:ListBucket. Run the command again" in copied.words, copied.words
        # Elsewhere everything can be copied, and not verified.
        copied = copy(source, "s3://creating", "--trust", trust, "--allow-unlocked", server=server, keys=writer[:2])
        assert (copied.code, copied.report["complete"], copied.report["created"]) == (12, True, 11)
        assert "403" in copied.report["unread"]["message"]
        again = copy(source, "s3://creating", "--trust", trust, "--allow-unlocked", "--no-verify", server=server, keys=writer[:2])
        assert (again.code, again.report["present"]) == (0, 11)
