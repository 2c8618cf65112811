"""The commands `prove` and `verify-proof`: files, words and exit codes."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from click.testing import CliRunner

from agent.reader.evidence.cli import prove_command
from agent.reader.evidence.offline.cli import verify_proof_command
from agent.trail.note import SigningKey
from tests.support.trail_factory import TrailFactory, sample_trail, write_store

ENROLMENT = SigningKey.from_seed("acme-enrolment", sha256(b"enrolment").digest())


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder with a store, its trust file, and its trail."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    trail = sample_trail()
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    return trail


def run(command, *words):
    return CliRunner().invoke(command, [str(word) for word in words])


def test_a_proof_is_written_and_checked_without_the_store(site, tmp_path):
    made = run(prove_command, "store", str(site.origin), 3, "--trust", "trust")
    assert (made.exit_code, made.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.glob("payments-*")) == ["payments-3.leaf", "payments-3.tlog-proof"]
    (tmp_path / "store").rename(tmp_path / "away")
    checked = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", "payments-3.leaf", "--trust", "trust")
    assert checked.exit_code == 0
    assert "Proven: seq 3 of" in checked.stdout
    assert str(site.origin) in checked.stdout
    assert "evt-00000002" in checked.stdout


def test_a_key_on_the_command_line_is_enough(site):
    run(prove_command, "store", "demo/payments/*/*", 3, "--trust", "trust")
    checked = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", "payments-3.leaf", "--key", site.vkey)
    assert checked.exit_code == 0


def test_a_proof_by_event_id_is_of_that_event(site, tmp_path):
    made = run(prove_command, "store", "--event-id", "evt-00000005", "--trust", "trust")
    assert made.exit_code == 0
    (leaf,) = tmp_path.glob("*.leaf")
    assert json.loads(leaf.read_bytes())["event"]["event_id"] == "evt-00000005"


def test_an_event_id_that_several_events_have_lists_them(site, tmp_path):
    other = TrailFactory(seed=b"other", service="console")
    other.add(6)
    other.stop()
    write_store(other.objects, tmp_path / "store")
    made = run(prove_command, "store", "--event-id", "evt-00000002", "--trust", "trust")
    assert made.exit_code == 2
    assert str(site.origin) in made.stderr
    assert str(other.origin) in made.stderr
    assert not list(tmp_path.glob("*.leaf"))


@pytest.mark.parametrize(("seq", "kind"), [(0, "manifest"), (10, "quarantine")])
def test_records_that_are_no_events_are_proven_by_their_number(site, seq, kind):
    made = run(prove_command, "store", "demo/*/*/web-1", seq, "--trust", "trust")
    checked = run(verify_proof_command, f"payments-{seq}.tlog-proof", "--leaf", f"payments-{seq}.leaf", "--trust", "trust")
    assert (made.exit_code, checked.exit_code) == (0, 0)
    assert f"kind        {kind}" in checked.stdout


def test_a_pattern_that_matches_several_trails_lists_them(site, tmp_path):
    other = sample_trail(seed=b"other", instance="web-2")
    write_store(other.objects, tmp_path / "store")
    made = run(prove_command, "store", "demo/payments/*/*", 1, "--trust", "trust")
    assert made.exit_code == 2
    assert "2 trails match" in made.stderr
    assert run(prove_command, "store", "demo/none/*/*", 1).exit_code == 12


def test_an_unknown_event_id_proves_nothing(site):
    made = run(prove_command, "store", "--event-id", "evt-x", "--trust", "trust")
    assert made.exit_code == 12


def test_an_event_id_whose_bytes_are_no_text_is_a_usage_error(site, tmp_path):
    made = run(prove_command, "store", "--event-id", "evt-\udcff", "--trust", "trust")
    assert (made.exit_code, made.exception.__class__) == (2, SystemExit)
    assert "--event-id: the id is not valid Unicode" in made.stderr
    assert not list(tmp_path.glob("*.leaf"))


def test_an_origin_whose_bytes_are_no_text_is_one_that_is_not_there(site):
    made = run(prove_command, "store", "demo/\udcff/*/*", 1, "--trust", "trust")
    assert (made.exit_code, made.exception.__class__) == (12, SystemExit)
    assert "the index has no trail demo/\\udcff/*/*" in made.stderr


def test_files_that_are_there_are_not_overwritten(site, tmp_path):
    (tmp_path / "payments-3.leaf").write_bytes(b"mine")
    made = run(prove_command, "store", str(site.origin), 3, "--trust", "trust")
    assert made.exit_code == 2
    assert (tmp_path / "payments-3.leaf").read_bytes() == b"mine"
    assert not (tmp_path / "payments-3.tlog-proof").exists()
    assert run(prove_command, "store", str(site.origin), 3, "--trust", "trust", "--force").exit_code == 0


def test_a_proof_under_a_key_that_nobody_vouches_for_is_written_but_not_verified(site):
    made = run(prove_command, "store", str(site.origin), 3)
    assert made.exit_code == 12
    assert "Nobody vouches for this key" in made.stdout
    checked = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", "payments-3.leaf")
    assert checked.exit_code == 12
    assert "nobody here vouches" in checked.stderr


def test_a_store_that_changed_after_it_was_indexed_is_tampering(site, tmp_path):
    assert run(prove_command, "store", str(site.origin), 3, "--trust", "trust").exit_code == 0
    data = next((tmp_path / "store" / "records").rglob("*.zst"))
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    made = run(prove_command, "store", str(site.origin), 3, "--trust", "trust", "--force")
    assert made.exit_code == 10
    assert data.name in made.stderr


def test_a_changed_leaf_is_tampering_also_in_json(site, tmp_path):
    run(prove_command, "store", str(site.origin), 3, "--trust", "trust")
    leaf = tmp_path / "payments-3.leaf"
    leaf.write_bytes(leaf.read_bytes().replace(b"denied", b"granted"))
    checked = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", leaf, "--trust", "trust")
    assert checked.exit_code == 10
    as_json = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", leaf, "--trust", "trust", "--json")
    assert as_json.exit_code == 10
    assert json.loads(as_json.stdout)["verdict"] == "tampered"


def test_json_says_what_was_proven(site):
    run(prove_command, "store", str(site.origin), 3, "--trust", "trust")
    checked = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", "payments-3.leaf", "--trust", "trust", "--json")
    document = json.loads(checked.stdout)
    assert (document["verdict"], document["seq"], document["origin"]) == ("proven", 3, str(site.origin))
    assert document["leaf"]["event"]["outcome"] == "denied"


def test_a_line_cut_out_with_its_newline_is_the_same_leaf(site, tmp_path):
    run(prove_command, "store", str(site.origin), 3, "--trust", "trust")
    leaf = tmp_path / "payments-3.leaf"
    leaf.write_bytes(leaf.read_bytes() + b"\n")
    assert run(verify_proof_command, "payments-3.tlog-proof", "--leaf", leaf, "--trust", "trust").exit_code == 0
    leaf.write_bytes(leaf.read_bytes() + b"\n")
    assert run(verify_proof_command, "payments-3.tlog-proof", "--leaf", leaf, "--trust", "trust").exit_code == 10


def test_a_proof_of_an_enrolled_trail_carries_what_the_enrolment_key_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    trail = sample_trail(enrolment=ENROLMENT)
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(f"demo/payments/*/* {ENROLMENT.verifier}\n")
    assert run(prove_command, "store", str(trail.origin), 3, "--trust", "trust").exit_code == 0
    checked = run(verify_proof_command, "payments-3.tlog-proof", "--leaf", "payments-3.leaf", "--trust", "trust")
    assert checked.exit_code == 0
    assert "enrolled by" in checked.stdout


@pytest.mark.parametrize(
    "words", [["store"], ["store", "a/b/c/d"], ["store", "a/b/c/d", "3", "--event-id", "x"], ["store", "a/b/c/d", "-3"]]
)
def test_a_record_is_named_in_one_way(site, words):
    assert run(prove_command, *words).exit_code == 2


def test_files_that_are_not_there_and_files_that_are_no_proof_say_so(site, tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\0not a proof")
    assert run(verify_proof_command, "none", "--leaf", "x").exit_code == 2
    assert run(verify_proof_command, "x", "--leaf", "x", "--key", "nonsense").exit_code == 2
    checked = run(verify_proof_command, "x", "--leaf", "x", "--key", site.vkey)
    assert (checked.exit_code, "does not begin" in checked.stderr) == (10, True)


def test_control_characters_of_an_event_do_not_reach_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    from agent.trail.manifest import ManifestReason, Window
    from agent.trail.records import event_bodies
    from tests.support.trail_factory import stamp

    trail = TrailFactory()
    at = stamp(trail.now)
    line = (
        b'{"stream":"audit","event_id":"e\\u001b[2J","occurred_at":"%b","actor":{"type":"user","id":"\\u202eroot"},"action":"a.b",'
        b'"target":{"type":"t","id":"i"},"outcome":"success"}'
    ) % at.encode()
    window = Window(at, at, at, at)
    trail.seal(ManifestReason.AGE, after_seconds=1, bodies=event_bodies("app", at, [line], None), counts={"events": 1}, window=window)
    trail.stop()
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    made = run(prove_command, "store", str(trail.origin), 1, "--trust", "trust")
    checked = run(verify_proof_command, "payments-1.tlog-proof", "--leaf", "payments-1.leaf", "--trust", "trust")
    assert (made.exit_code, checked.exit_code) == (0, 0)
    for said in (made.stdout, checked.stdout):
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "\\x1b[2J" in said
