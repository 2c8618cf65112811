"""What an exporter, or somebody on the way, may do to a pack; each is found by `verify-pack`."""

from __future__ import annotations

import json
import zipfile
from hashlib import sha256

import pytest

from agent.errors import ConfigError
from agent.reader.evidence.packcheck import check_pack
from agent.reader.evidence.proofs import TrailProver, read_head
from agent.reader.findings import Severity
from agent.reader.trustfile import TrustFile
from agent.trail.note import SigningKey
from tests.support.trail_factory import sample_trail
from tests.unit.reader.evidence.forging import contents, places, proofs_of, rewrite

ENROLMENT = SigningKey.from_seed("acme-enrolment", sha256(b"enrolment").digest())


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


def test_a_trail_that_is_listed_twice_is_refused_and_counts_nothing(pack):
    """The same events, seals and proofs again under another folder: each holds, and there would be twice as many."""
    path, believed = pack(sample_trail())
    files = contents(path)
    query = json.loads(files["query.json"])
    (trail,) = query["trails"]
    query["trails"] = [trail, {**trail, "folder": "again"}]
    query["events"] = 24
    again = {name.replace(trail["folder"], "again"): raw for name, raw in files.items() if f"/{trail['folder']}/" in name}
    header, *table = files["events.csv"].splitlines(keepends=True)
    doubled = {"events.ndjson": files["events.ndjson"] * 2, "events.csv": header + b"".join(table) * 2}
    rewrite(path, {**files, **again, **doubled, "query.json": json.dumps(query).encode()})
    report = check_pack(path, believed)
    assert report.severity is Severity.TAMPERED
    assert [(fault.place, fault.message) for fault in report.faults] == [("query.json", "it lists a trail twice")]
    assert report.proven == 0


@pytest.mark.parametrize(("seq", "kind"), [(10, "quarantine"), (0, "manifest")])
def test_a_leaf_that_is_no_event_does_not_count_as_one_however_well_it_is_proven(pack, indexed, seq, kind):
    trail = sample_trail()
    path, believed = pack(trail)
    index, store = indexed(trail)
    (proven,) = TrailProver(index, store, read_head(index, str(trail.origin))).prove([seq])
    assert json.loads(proven.leaf)["kind"] == kind
    files = contents(path)
    lines = [*files["events.ndjson"].splitlines(), proven.leaf]
    files["events.ndjson"] = b"".join(line + b"\n" for line in sorted(lines, key=lambda line: json.loads(line)["seq"]))
    query = json.loads(files["query.json"])
    query["events"] = query["trails"][0]["events"] = 13
    files |= {"query.json": json.dumps(query).encode(), f"proofs/{query['trails'][0]['folder']}/{seq}.tlog-proof": proven.proof.encode()}
    rewrite(path, files)
    report = check_pack(path, believed)
    assert (report.severity, report.proven) == (Severity.TAMPERED, 12)
    assert f"seq {seq} of {trail.origin} is no event" in [fault.message for fault in report.faults]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_pack_compressed_otherwise_than_packs_are_ends_in_a_verdict(pack, method):
    path, believed = pack(sample_trail())
    files = contents(path)
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, raw in files.items():
            opened.writestr(name, raw)
    report = check_pack(path, believed)
    assert report.severity is Severity.TAMPERED
    assert {"MANIFEST.sha256", "query.json"} <= set(places(report))
    assert report.proven == 0


def test_a_manifest_that_lists_more_files_than_any_pack_has_is_not_read_to_its_end(pack, monkeypatch):
    path, believed = pack(sample_trail())
    files = contents(path)
    files["MANIFEST.sha256"] += b"".join(b"0" * 64 + b"  x%d\n" % number for number in range(1000))
    rewrite(path, files, honest_manifest=False)
    monkeypatch.setattr("agent.reader.evidence.packcheck.MAX_ENTRIES", 500)
    faults = check_pack(path, believed).faults
    assert [(fault.place, fault.message) for fault in faults] == [("MANIFEST.sha256", "it lists more files than any pack has")]


def test_every_file_that_was_taken_out_is_named(pack):
    path, believed = pack(sample_trail())
    files = contents(path)
    gone = {*proofs_of(files)[:3], "README.md"}
    rewrite(path, {name: raw for name, raw in files.items() if name not in gone}, honest_manifest=False)
    assert gone <= set(places(check_pack(path, believed)))


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
