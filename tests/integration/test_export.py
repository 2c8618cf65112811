"""Evidence from the command line, as processes: what the real agent wrote, and the request of an auditor, answered and checked."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Site, believe, trailseal
from tests.support.evidence_store import write_store
from tests.support.object_servers.rgw import Rgw
from tests.support.trail_factory import sample_trail

if TYPE_CHECKING:
    from tests.support.evidence_facts import Written

pytestmark = pytest.mark.slow

SINCE, UNTIL = "2026-03-01", "2026-06-01"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Keep the indexes of these tests among themselves."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Written:
    """Write the store of a company: five months, three services."""
    return write_store(tmp_path_factory.mktemp("company"), events=3000)


@pytest.fixture(scope="module")
def grants(company, tmp_path_factory):
    """Answer the request "all role grants between March and May, with approval evidence for each"."""
    pack = tmp_path_factory.mktemp("grants") / "grants.zip"
    words = ("--action", "role.grant", "--since", SINCE, "--until", UNTIL)
    beside = ("--correlate", "context.approval_id", "--counterpart", "role.approve")
    made = trailseal("export", company.store, "--trust", company.trust, *words, *beside, "--pack", pack)
    assert (made.returncode, made.stderr) == (0, "")
    return pack


def unpacked(pack, folder):
    with zipfile.ZipFile(pack) as opened:
        opened.extractall(folder)
    return Path(folder)


def events_of(pack):
    with zipfile.ZipFile(pack) as opened:
        return [json.loads(line) for line in opened.read("events.ndjson").splitlines()]


def test_the_request_of_an_auditor_is_answered_with_every_grant_and_its_approval(company, grants):
    wanted = [grant for grant in company.grants if SINCE <= grant.occurred_at.isoformat() < UNTIL]
    assert wanted
    packed = {line["event"]["event_id"] for line in events_of(grants)}
    assert {grant.event_id for grant in wanted} <= packed
    assert {grant.approval_event_id for grant in wanted if grant.approval_event_id} <= packed
    with zipfile.ZipFile(grants) as opened:
        pairs = {row["event_id"]: row for row in csv.DictReader(io.StringIO(opened.read("pairs.csv").decode()))}
        document = json.loads(opened.read("completeness.json"))
    assert pairs.keys() == {grant.event_id for grant in wanted}
    for grant in wanted:
        assert ("role.approve success" in pairs[grant.event_id]["counterparts"]) == (grant.approval_event_id is not None)
    assert document["statement"]["verdict"] == "complete"
    assert document["correlation"]["matched"] == len(wanted)


def test_the_pack_is_checked_where_there_is_no_store_and_no_network(company, grants, tmp_path):
    words = ["verify-pack", str(grants), "--trust", str(company.trust), "--json"]
    program = ["unshare", "--net", "--map-root-user", shutil.which("env") or "env", "--", TRAILSEAL, *words]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["events"] == document["proven"] == len(events_of(grants))
    assert document["stated"] == "complete"


def test_a_pack_with_one_changed_event_is_tampered(company, grants, tmp_path):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(grants) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            raw = source.read(name)
            target.writestr(name, raw.replace(b'"outcome":"denied"', b'"outcome":"failed"', 1) if name == "events.ndjson" else raw)
    done = trailseal("verify-pack", bad, "--trust", company.trust)
    assert done.returncode == 10
    assert "tampered" in done.stdout.splitlines()[-1]


def test_every_proof_of_a_pack_is_one_for_verify_proof(company, grants, tmp_path):
    folder = unpacked(grants, tmp_path)
    query = json.loads((folder / "query.json").read_bytes())
    lines = iter((folder / "events.ndjson").read_bytes().splitlines(keepends=True))
    for trail in query["trails"]:
        first = next(lines)
        for _ in range(trail["events"] - 1):
            next(lines)
        (folder / "record").write_bytes(first)
        proof = folder / "proofs" / trail["folder"] / f"{json.loads(first)['seq']}.tlog-proof"
        done = trailseal("verify-proof", proof, "--leaf", folder / "record", "--trust", company.trust, "--origin", trail["origin"])
        assert done.returncode == 0, done.stderr


def test_the_steps_of_the_readme_prove_a_record_with_openssl_and_sha256sum(grants, tmp_path):
    folder = unpacked(grants, tmp_path)
    readme = (folder / "README.md").read_text()
    (script,) = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    (folder / "check.sh").write_text(script)
    query = json.loads((folder / "query.json").read_bytes())
    trail = query["trails"][0]
    lines = (folder / "events.ndjson").read_bytes().splitlines(keepends=True)[: trail["events"]]
    key = next(line for line in (folder / "keys.txt").read_text().splitlines() if line.startswith(trail["origin"]))[-44:]

    def check(record, number, vkey=key):
        (folder / "record").write_bytes(record)
        proof = folder / "proofs" / trail["folder"] / f"{number}.tlog-proof"
        return subprocess.run(["sh", "check.sh", proof, "record", vkey], cwd=folder, capture_output=True, text=True, check=False)

    for line in (lines[0], lines[len(lines) // 2], lines[-1]):
        done = check(line, json.loads(line)["seq"])
        assert (done.returncode, done.stderr) == (0, "")
        assert "is in the tree of" in done.stdout
        assert "Signature Verified Successfully" in done.stdout
    seq = json.loads(lines[0])["seq"]
    assert check(lines[0].replace(b"role.", b"rule."), seq).returncode == 10
    other = next(line for line in (folder / "keys.txt").read_text().splitlines() if line.startswith(query["trails"][1]["origin"]))[-44:]
    assert check(lines[0], seq, other).returncode == 1
    assert subprocess.run(["sha256sum", "--check", "--quiet", "MANIFEST.sha256"], cwd=folder, check=False).returncode == 0


def test_what_the_real_agent_wrote_is_proven_and_packed(tmp_path):
    site = Site(tmp_path)
    with site.run() as agent:
        agent.ready()
        for number in range(5):
            with site.log.open("ab") as log:
                log.write(loggen.block(number * 90, 90, audit_every=1))
            site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    trust = believe(site.store, tmp_path / "trust")
    wanted = loggen.event_id(333)
    proven = trailseal("prove", site.store, "--event-id", wanted, "--trust", trust, "--out", tmp_path)
    assert (proven.returncode, proven.stderr) == (0, "")
    (leaf,) = tmp_path.glob("*.leaf")
    (proof,) = tmp_path.glob("*.tlog-proof")
    made = trailseal("export", site.store, "--trust", trust, "--action", "data.*", "--pack", tmp_path / "out.zip", "--quiet")
    assert made.returncode == 0, made.stderr
    shutil.rmtree(site.store)
    checked = trailseal("verify-proof", proof, "--leaf", leaf, "--trust", trust, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["leaf"]["event"]["event_id"] == wanted
    report = json.loads(trailseal("verify-pack", tmp_path / "out.zip", "--trust", trust, "--json").stdout)
    expected = sum(loggen.audit_line(number).count(b'"action":"data.export"') for number in range(450))
    assert (report["events"], report["proven"], report["exit_code"]) == (expected, expected, 0)


def test_a_gap_is_stated_and_strict_makes_it_the_exit_code(tmp_path):
    planted = write_store(tmp_path, events=1500, clean=False)
    words = ("export", planted.store, "--trust", planted.trust, "--action", "auth.*", "--pack", tmp_path / "out.zip")
    made = trailseal(*words)
    assert made.returncode == 0, made.stderr
    assert "the answer is incomplete" in made.stdout
    assert trailseal(*words).returncode == 2
    assert trailseal(*words, "--force", "--strict").returncode == 11
    checked = trailseal("verify-pack", tmp_path / "out.zip", "--trust", planted.trust)
    assert checked.returncode == 11
    assert checked.stdout.splitlines()[-1].startswith("intact, but stated incomplete")


@pytest.mark.parametrize(
    "words",
    [
        ("--no-refresh", "--pack", "x.zip"),
        ("--counterpart", "role.*", "--pack", "x.zip"),
        ("--since", "yesterday", "--pack", "x.zip"),
        ("--limit", "0", "--pack", "x.zip"),
        ("--category", "authorization", "--pack", "x.zip"),
        (),
    ],
)
def test_wrong_words_are_a_usage_error_and_write_nothing(company, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    trailseal("index", company.store, "--trust", company.trust)
    assert trailseal("export", company.store, "--trust", company.trust, *words).returncode == 2
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.timeout(240)
def test_a_bucket_is_proven_from_and_a_replaced_object_in_it_is_found(tmp_path):
    """An administrator of the bucket removes a data object and its lock-less versions, and puts another in its place."""
    trail = sample_trail()
    trust = tmp_path / "trust"
    trust.write_text(trail.trust_line)
    with Rgw(tmp_path / "rgw") as server:
        server.bucket("audit", versioned=True)
        client = server.client()
        for key, raw in trail.objects.items():
            client.put_object(Bucket="audit", Key=f"production/{key}", Body=raw)
        environment = os.environ | {
            "AWS_ACCESS_KEY_ID": server.admin.access_key,
            "AWS_SECRET_ACCESS_KEY": server.admin.secret_key,
            "AWS_ENDPOINT_URL": server.endpoint,
        }

        def run(*words):
            program = [TRAILSEAL, *map(str, words), "--trust", str(trust)]
            return subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

        made = run("export", "s3://audit/production", "--pack", "out.zip")
        assert made.returncode == 0, made.stderr
        proven = run("prove", "s3://audit/production", str(trail.origin), "3")
        assert proven.returncode == 0, proven.stderr
        data = next(key for key in trail.objects if key.startswith("records/"))
        for version in client.list_object_versions(Bucket="audit", Prefix=f"production/{data}")["Versions"]:
            client.delete_object(Bucket="audit", Key=version["Key"], VersionId=version["VersionId"])
        client.put_object(Bucket="audit", Key=f"production/{data}", Body=trail.objects[data][:-1] + b"\0")
        changed = run("prove", "s3://audit/production", str(trail.origin), "3", "--force")
        assert changed.returncode == 10
        assert data in changed.stderr
    assert run("verify-pack", "out.zip").returncode == 0
    assert run("verify-proof", "payments-3.tlog-proof", "--leaf", "payments-3.leaf").returncode == 0
