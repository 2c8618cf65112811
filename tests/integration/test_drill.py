"""`trailseal drill` as a process: over what real agents wrote, over a store in use, and over a bucket; the original is never written to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Site, believe, trailseal, until, verify
from tests.support.evidence_store import write_store
from tests.support.object_servers.rgw import Rgw
from tests.support.trail_factory import sample_trail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.evidence_facts import Written

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLS_THAT_WRITE = """
import os, sys
WATCHED = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.utime", "os.truncate", "os.link", "os.symlink", "os.chmod", "os.chown")
root, seen = os.path.realpath(sys.argv.pop(1)), open(sys.argv.pop(1), "a")
def note(event, arguments):
    if event not in WATCHED and event != "open":
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
        print("read" if inside(arguments[0]) else "", file=seen, flush=True)
        return
    for argument in arguments:
        if inside(argument):
            print(event, argument, file=seen, flush=True)
def inside(argument):
    if isinstance(argument, os.PathLike):
        argument = os.fspath(argument)
    if isinstance(argument, bytes):
        argument = os.fsdecode(argument)
    return isinstance(argument, str) and os.path.realpath(argument).startswith(root + os.sep)
sys.addaudithook(note)
from agent.cli import main
sys.exit(main())
"""
"""Runs the command line, and writes to a file every call that opens, changes or makes something below a folder."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Write the store of a company with a gap and a silence in it."""
    until = datetime(2026, 3, 15, tzinfo=UTC)
    return write_store(tmp_path_factory.mktemp("company"), events=2000, until=until, clean=False)


def drill(store: Path | str, trust: Path, *options: str | Path, environment: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    arguments = [TRAILSEAL, "drill", str(store), "--trust", str(trust), "--json", *map(str, options)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280, check=False, env=os.environ | (environment or {}))
    assert done.stdout, f"drill {done.returncode}: {done.stderr}"
    return done.returncode, json.loads(done.stdout)


def failures(document: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [
        (entry["name"], entry["outcome"], [finding["code"] for finding in entry["found"]])
        for entry in document["tamperings"]
        if entry["outcome"] not in {"caught", "not caught, as documented", "not tried"}
    ]


def bytes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return every object with its time; what an agent is only about to write (`.incoming`) comes and goes, and is none."""
    files = (path for path in folder.rglob("*") if ".incoming" not in path.parts and path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_original_is_never_opened_for_writing(company, tmp_path):
    before, log = bytes_of(company.store), tmp_path / "calls"
    words = [
        company.store,
        log,
        "drill",
        company.store,
        "--trust",
        company.trust,
        "--keep",
        tmp_path / "kept",
        "--output",
        tmp_path / "drill.html",
    ]
    done = subprocess.run(
        [sys.executable, "-c", CALLS_THAT_WRITE, *map(str, words)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    calls = Counter(log.read_text().split("\n"))
    # The hook does see what happens there.
    assert calls["read"] > len(before)
    assert [call for call in calls if call not in {"", "read"}] == []
    assert bytes_of(company.store) == before
    assert (tmp_path / "drill.html").read_text("utf-8").startswith("<!doctype html>")


def test_the_audit_hook_would_see_a_write(company, tmp_path):
    """The test before this one proves something only if the hook works."""
    store, log = tmp_path / "store", tmp_path / "calls"
    store.mkdir()
    code = CALLS_THAT_WRITE.replace("from agent.cli import main", "main = lambda: open(root + '/x', 'w').close()")
    subprocess.run([sys.executable, "-c", code, str(store), str(log)], check=True, timeout=60)
    assert f"open {store}/x" in log.read_text()


def test_a_company_s_store_is_drilled_and_an_incident_reconstructed(company):
    code, document = drill(company.store, company.trust, "--actor", company.incident_actor, "--seed", "11")
    assert (code, failures(document)) == (0, [])
    assert document["tried"] == document["caught"] >= 70
    assert document["original"] == document["control"]
    assert {"gap", "silence"} <= set(document["control"]["counts"])
    timeline = document["timeline"]
    did = [entry for entry in timeline["entries"] if entry["kind"] == "did"]
    assert len(did) == company.by_actor[company.incident_actor] == sum(timeline["outcomes"].values())
    assert timeline["events"] == company.events
    assert [entry["at"] for entry in did] == sorted(entry["at"] for entry in did)


class Service(threading.Thread):
    """A service that goes on logging until it is told to end."""

    def __init__(self, site: Site) -> None:
        """Log into the site's file."""
        super().__init__()
        self.site, self.ended = site, threading.Event()

    def run(self) -> None:
        turn = 1
        with self.site.log.open("ab") as log:
            while not self.ended.wait(0.02):
                log.write(loggen.block(turn * 200, 200))
                log.flush()
                turn += 1


def test_a_store_that_an_agent_writes_to_meanwhile_is_drilled_all_the_same(tmp_path):
    site = Site(tmp_path, seal={"max_age": "100ms", "heartbeat": "10s"})
    site.log.write_bytes(loggen.block(0, 200))
    with site.run() as agent:
        agent.ready()
        service = Service(site)
        service.start()
        try:
            until(lambda: len(site.trails.seals()) > 8, "a trail to tamper with")
            trust = believe(site.store, tmp_path / "trust.txt")
            before = bytes_of(site.store)
            code, document = drill(site.store, trust, "--seed", "5")
            after = bytes_of(site.store)
        finally:
            service.ended.set()
            service.join()
        assert (code, failures(document)) == (0, []), document["outcome"]
        assert document["same"]
        # The agent went on; what was there before is what it was.
        assert len(after) > len(before)
        assert {key: after[key] for key in before} == before
        assert agent.stop() == 0, agent.log
    assert verify(site.store, trust).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("moment", ["*/copy/trails", "*/copy-stand-in-0"], ids=["copying", "tampering"])
def test_a_drill_that_is_ended_from_outside_leaves_no_copy(company, tmp_path, number, moment):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = [TRAILSEAL, "drill", str(company.store), "--trust", str(company.trust), "--quiet"]
    with subprocess.Popen(
        words, env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, restore_signals=True
    ) as running:
        until(lambda: any(temporary.glob(moment)), "a copy of the store", 60)
        running.send_signal(number)
        running.send_signal(number)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + number, said
    assert list(temporary.iterdir()) == []


def test_a_kept_tampering_is_caught_by_verify_run_by_hand(company, tmp_path):
    kept = tmp_path / "kept"
    code, _ = drill(company.store, company.trust, "--keep", kept)
    assert code == 0
    assert trailseal("verify", kept / "copy", "--trust", company.trust).returncode == 11
    for path in (kept / "tampered/rewrite/objects").rglob("*"):
        if path.is_file():
            target = kept / "copy" / path.relative_to(kept / "tampered/rewrite/objects")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    verdict = verify(kept / "copy", company.trust)
    assert verdict.code == 10
    assert "signature_wrong" in verdict.codes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as running:
        running.bucket("locked", lock="compliance", days=400)
        yield running


def test_a_locked_bucket_is_copied_and_drilled_and_no_version_is_added(server, tmp_path):
    trail = sample_trail()
    client = server.client()
    for key, raw in trail.objects.items():
        client.put_object(Bucket="locked", Key=f"here/{key}", Body=raw)
    (tmp_path / "trust").write_text(trail.trust_line)
    keys = {"AWS_ACCESS_KEY_ID": server.admin.access_key, "AWS_SECRET_ACCESS_KEY": server.admin.secret_key}

    def versions() -> list[tuple[str, str]]:
        listed = client.list_object_versions(Bucket="locked")
        return [(entry["Key"], entry["VersionId"]) for kind in ("Versions", "DeleteMarkers") for entry in listed.get(kind, [])]

    before = versions()
    options = ("--endpoint", server.endpoint, "--keep", tmp_path / "kept")
    code, document = drill("s3://locked/here", tmp_path / "trust", *options, environment=keys)
    assert (code, failures(document)) == (0, [])
    assert {"delete-marker", "second-version", "retention-short"} <= {entry["name"] for entry in document["not_tried"]}
    assert versions() == before
    copied = {
        str(path.relative_to(tmp_path / "kept/copy")): path.read_bytes() for path in (tmp_path / "kept/copy").rglob("*") if path.is_file()
    }
    assert copied == trail.objects
