"""What an exporter, or somebody on the way, may do to a pack; each is found by `verify-pack`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from datetime import timedelta
from hashlib import sha256

import pytest
from click.testing import CliRunner

from agent.errors import ConfigError
from agent.reader.ask.filters import Filter
from agent.reader.evidence.offline.cli import verify_pack_command
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.packcheck import check_pack
from agent.reader.evidence.selecting import Question
from agent.reader.findings import Severity
from agent.reader.trustfile import TrustFile
from agent.trail.note import SigningKey
from tests.support.trail_factory import sample_trail

ENROLMENT = SigningKey.from_seed("acme-enrolment", sha256(b"enrolment").digest())


@pytest.fixture
def pack(indexed, tmp_path):
    """Return a function that makes a pack of sample trails, and whom to believe."""

    def make(*trails, trust=None, name="out.zip"):
        index, store = indexed(*trails, trust=trust)
        text = trust or "".join(trail.trust_line for trail in trails)
        believed = TrustFile.parse(text, "trust")
        now = max(trail.now for trail in trails) + timedelta(seconds=5)
        write_pack(tmp_path / name, index, store, Question(Filter()), trust=believed, now=now)
        return tmp_path / name, believed

    return make


def contents(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rewrite(path, files, *, honest_manifest=True):
    """Write a pack anew; with a manifest that fits, as a forger would."""
    if honest_manifest:
        lines = [f"{sha256(raw).hexdigest()}  {name}\n" for name, raw in sorted(files.items()) if name != "MANIFEST.sha256"]
        files = {**files, "MANIFEST.sha256": "".join(lines).encode()}
    with zipfile.ZipFile(path, "w") as opened:
        for name, raw in files.items():
            opened.writestr(name, raw)


def places(report, severity=Severity.TAMPERED):
    return [fault.place for fault in report.faults if fault.severity is severity]


def proofs_of(files):
    return sorted(name for name in files if name.startswith("proofs/"))


def test_an_event_with_one_other_byte_is_found(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    files["events.ndjson"] = files["events.ndjson"].replace(b'"denied"', b'"deniee"', 1)
    rewrite(path, files)
    report = check_pack(path, believed)
    assert report.severity is Severity.TAMPERED
    assert report.proven == report.events - 1


@pytest.mark.parametrize("name", ["README.md", "events.csv", "events.ndjson", "index.html", "keys.txt", "query.json", "completeness.json"])
def test_any_file_that_changed_on_the_way_is_named(pack, name):
    path, believed = pack(sample_trail())
    files = contents(path)
    files[name] += b"\n"
    rewrite(path, files, honest_manifest=False)
    report = check_pack(path, believed)
    assert name in places(report)


def test_a_proof_of_another_event_proves_nothing(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    first, second, *_ = proofs_of(files)
    files[first], files[second] = files[second], files[first]
    rewrite(path, files)
    report = check_pack(path, believed)
    assert set(places(report)) == {first, second}


def test_an_event_that_was_taken_out_is_missed(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    lines = files["events.ndjson"].splitlines(keepends=True)
    files["events.ndjson"] = b"".join(lines[:3] + lines[4:])
    rewrite(path, files)
    report = check_pack(path, believed)
    assert any("missing" in fault.message for fault in report.faults)
    assert any("no event" in fault.message for fault in report.faults)
    assert report.severity is Severity.TAMPERED


def test_an_event_without_a_proof_is_not_proven(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    gone = proofs_of(files)[0]
    del files[gone]
    rewrite(path, files)
    assert places(check_pack(path, believed)) == [gone]


def test_an_event_that_stands_twice_is_found(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    lines = files["events.ndjson"].splitlines(keepends=True)
    files["events.ndjson"] = b"".join([lines[0], *lines])
    query = json.loads(files["query.json"])
    query["events"] += 1
    query["trails"][0]["events"] += 1
    files["query.json"] = json.dumps(query).encode()
    rewrite(path, files)
    assert any("stands after" in fault.message for fault in check_pack(path, believed).faults)


def test_a_table_that_says_something_else_is_found(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    files["events.csv"] = files["events.csv"].replace(b"denied", b"success", 1)
    rewrite(path, files)
    assert places(check_pack(path, believed)) == ["events.csv"]


def test_a_page_that_is_not_ours_is_said_to_be_so(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    files["index.html"] = files["index.html"].replace(b"NOT proven", b"    proven")
    rewrite(path, files)
    report = check_pack(path, believed)
    assert report.page_is_ours is False
    assert report.severity is Severity.NOTICE


def test_a_pack_forged_under_another_key_is_not_verified(pack):
    path, _ = pack(sample_trail(signer_seed=b"thief"))
    assert check_pack(path, TrustFile.parse(sample_trail().trust_line, "trust")).severity is Severity.UNVERIFIED


def test_what_keys_txt_says_changes_nothing(pack):
    path, _ = pack(sample_trail())
    assert check_pack(path, TrustFile()).severity is Severity.UNVERIFIED


def test_keys_that_did_not_sign_are_found_in_keys_txt(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    files["keys.txt"] = sample_trail(signer_seed=b"thief").trust_line.encode()
    rewrite(path, files)
    assert places(check_pack(path, believed)) == ["keys.txt"]


def test_seals_of_another_trail_are_found(pack):
    path, believed = pack(sample_trail(), sample_trail(seed=b"other", service="console"))
    files = contents(path)
    openings = sorted(name for name in files if name.endswith("opening.seal"))
    files[openings[0]] = files[openings[1]]
    rewrite(path, files)
    report = check_pack(path, believed)
    assert openings[0] in places(report)
    assert report.proven == 12


def test_an_enrolment_key_is_enough(pack):
    path, believed = pack(sample_trail(enrolment=ENROLMENT), trust=f"demo/payments/*/* {ENROLMENT.verifier}\n")
    report = check_pack(path, believed)
    assert (report.severity, report.proven) == (Severity.NOTICE, 12)
    assert report.trails[0].vouched_by == ENROLMENT.verifier


def test_a_hidden_file_is_found(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    rewrite(path, {**files, "install.sh": b"rm -rf /"}, honest_manifest=False)
    assert places(check_pack(path, believed)) == ["install.sh"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_found(pack):
    path, believed = pack(sample_trail())
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("events.ndjson", b"{}\n")
    assert "events.ndjson" in places(check_pack(path, believed))


@pytest.mark.parametrize(
    "query",
    [b"", b"[]", b"{", b'{"format":1}', b'{"format":1,"events":-1,"trails":[]}', b"[" * 100_000, b'{"format":1,"events":3,"trails":[]}'],
)
def test_a_query_that_is_none_is_found(pack, query):
    path, believed = pack(sample_trail())
    rewrite(path, {**contents(path), "query.json": query})
    assert "query.json" in places(check_pack(path, believed))


@pytest.mark.parametrize("folder", ["../../etc", "a/b", "", "A"])
def test_a_folder_that_leads_elsewhere_is_refused(pack, folder):
    path, believed = pack(sample_trail())
    files = contents(path)
    query = json.loads(files["query.json"])
    query["trails"][0]["folder"] = folder
    rewrite(path, {**files, "query.json": json.dumps(query).encode()})
    assert "query.json" in places(check_pack(path, believed))


@pytest.mark.parametrize(
    "statement", [b"{}", b'{"statement":7}', b'{"statement":{"verdict":["complete"]}}', b'{"statement":{"verdict":"x"}}']
)
def test_a_statement_that_says_nothing_does_not_pass_for_complete(pack, statement):
    path, believed = pack(sample_trail())
    rewrite(path, {**contents(path), "completeness.json": statement})
    assert check_pack(path, believed).severity >= Severity.UNVERIFIED


def test_a_file_that_is_no_zip_is_a_usage_error(tmp_path):
    for raw in (b"", b"PK", b"not a zip" * 100):
        (tmp_path / "x.zip").write_bytes(raw)
        with pytest.raises(ConfigError, match="not a zip file"):
            check_pack(tmp_path / "x.zip", TrustFile())
    with pytest.raises(ConfigError, match="cannot be read"):
        check_pack(tmp_path / "none.zip", TrustFile())


@pytest.mark.parametrize("step", range(12))
def test_a_zip_with_flipped_bytes_ends_in_a_verdict(pack, step):
    path, believed = pack(sample_trail())
    raw = bytearray(path.read_bytes())
    for at in range(step * 7, len(raw), len(raw) // 5):
        raw[at] ^= 0xFF
    path.write_bytes(raw)
    try:
        report = check_pack(path, believed)
    except ConfigError:
        return
    assert report.severity is Severity.TAMPERED


def test_the_command_says_what_it_found_and_ends_with_it(pack, tmp_path):
    path, _ = pack(sample_trail())
    (tmp_path / "trust").write_text(sample_trail().trust_line)
    run = CliRunner().invoke
    good = run(verify_pack_command, [str(path), "--trust", str(tmp_path / "trust"), "--page", str(tmp_path / "own.html")])
    assert good.exit_code == 0
    assert good.stdout.splitlines()[-1] == "intact and stated complete: 12 of 12 events proven (exit 0)"
    assert (tmp_path / "own.html").read_bytes() == contents(path)["index.html"]
    unknown = run(verify_pack_command, [str(path)])
    assert (unknown.exit_code, "NOBODY vouches" in unknown.stdout) == (12, True)
    document = json.loads(run(verify_pack_command, [str(path), "--key", sample_trail().vkey, "--json"]).stdout)
    assert (document["verdict"], document["exit_code"], document["proven"], document["page_is_ours"]) == ("proven", 0, 12, True)
    files = contents(path)
    files["events.ndjson"] = files["events.ndjson"].replace(b"user-", b"\x1b[2J-", 1)
    rewrite(path, files)
    bad = run(verify_pack_command, [str(path), "--trust", str(tmp_path / "trust"), "--quiet", "--page", str(tmp_path / "bad.html")])
    assert not (tmp_path / "bad.html").exists()
    assert (bad.exit_code, bad.stdout) == (10, "tampered: 11 of 12 events fit their proofs and signatures (exit 10)\n")


def test_control_characters_in_a_pack_do_not_reach_the_terminal(pack):
    path, _ = pack(sample_trail())
    files = contents(path)
    query = json.loads(files["query.json"])
    query["query"] = "\x1b[2Jall is well\u202e"
    rewrite(path, {**files, "query.json": json.dumps(query).encode(), "x\x1b[1m": b""})
    said = CliRunner().invoke(verify_pack_command, [str(path)]).stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", said)


@pytest.mark.slow
def test_neither_a_database_nor_a_network_is_needed(pack, tmp_path):
    path, _ = pack(sample_trail())
    (tmp_path / "trust").write_text(sample_trail().trust_line)
    program = (
        "import sys\nfor name in ('duckdb', 'aiohttp', 'obstore', 'socket'): sys.modules[name] = None\n"
        "from agent.reader.evidence.offline.cli import verify_pack_command\nverify_pack_command(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), "--trust", str(tmp_path / "trust")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
