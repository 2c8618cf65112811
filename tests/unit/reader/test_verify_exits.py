"""The exit codes that an auditor relies on, each from a store on disk through the command itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from click.testing import CliRunner

from agent.reader.cli import trust_command, verify_command
from agent.trail.layout import seal_key
from tests.support.trail_factory import TrailFactory, sample_trail, write_store

if TYPE_CHECKING:
    from pathlib import Path


def run(tmp_path: Path, objects: dict[str, bytes], trust: str, *options: str) -> tuple[int, dict[str, Any]]:
    write_store(objects, tmp_path / "store")
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "trust").write_text(trust)
    command = [str(tmp_path / "store"), "--trust", str(tmp_path / "trust"), "--json", *options]
    result = CliRunner().invoke(verify_command, command)
    report = orjson.loads(result.output)
    assert report["exit_code"] == result.exit_code
    return result.exit_code, report


def codes(report: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in report["findings"]}


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.fixture
def trail() -> TrailFactory:
    return sample_trail()


def test_an_intact_trail_exits_0(tmp_path, trail):
    status, report = run(tmp_path, trail.objects, trail.trust_line)
    assert (status, report["findings"]) == (0, [])
    assert (report["records"], report["trails"][0]["events"], report["trails"][0]["quarantined"]) == (13, 12, 1)
    assert report["assurance"] == "unanchored"


def test_a_byte_flipped_in_a_data_object_exits_10_and_names_it(tmp_path, trail):
    key = next(key for key in trail.objects if key.startswith("records/"))
    status, report = run(tmp_path, trail.objects | {key: flipped(trail.objects[key], 40)}, trail.trust_line)
    assert status == 10
    found = report["findings"][0]
    assert (found["code"], found["key"], found["batch"], found["first_seq"], found["last_seq"]) == ("data_altered", key, 1, 1, 4)
    assert codes(report) == {"data_altered"}


def test_a_byte_flipped_in_a_manifest_exits_10_and_names_the_batch(tmp_path, trail):
    key = seal_key(trail.origin, 3)
    raw = trail.objects[key].replace(b'"lines":6', b'"lines":7')
    assert raw != trail.objects[key]
    status, report = run(tmp_path, trail.objects | {key: raw}, trail.trust_line)
    assert status == 10
    assert {finding["batch"] for finding in report["findings"]} == {3}


def test_a_byte_flipped_in_a_checkpoint_exits_10_and_names_the_batch(tmp_path, trail):
    key = seal_key(trail.origin, 3)
    raw = trail.objects[key]
    signature = raw.rindex(b" ") + 12
    changed = raw[:signature] + (b"A" if raw[signature : signature + 1] != b"A" else b"B") + raw[signature + 1 :]
    status, report = run(tmp_path, trail.objects | {key: changed}, trail.trust_line)
    assert status == 10
    assert "signature_wrong" in codes(report)
    assert 3 in {finding["batch"] for finding in report["findings"]}


def test_a_batch_removed_in_the_middle_exits_10_and_names_it(tmp_path, trail):
    key = seal_key(trail.origin, 2)
    status, report = run(tmp_path, {k: raw for k, raw in trail.objects.items() if k != key}, trail.trust_line)
    assert status == 10
    assert [(finding["code"], finding["batch"]) for finding in report["findings"]] == [("seal_missing", 2)]


def test_two_batches_swapped_exit_10_and_both_are_named(tmp_path, trail):
    one, other = seal_key(trail.origin, 2), seal_key(trail.origin, 3)
    swapped = trail.objects | {one: trail.objects[other], other: trail.objects[one]}
    status, report = run(tmp_path, swapped, trail.trust_line)
    assert status == 10
    assert {finding["batch"] for finding in report["findings"] if finding["code"] == "seal_misplaced"} == {2, 3}


def test_two_data_objects_swapped_exit_10(tmp_path, trail):
    one, other = (key for key in list(trail.objects) if key.startswith("records/") and "0000001-" not in key)
    swapped = trail.objects | {one: trail.objects[other], other: trail.objects[one]}
    status, report = run(tmp_path, swapped, trail.trust_line)
    assert (status, codes(report)) == (10, {"data_altered"})


def test_a_seal_copied_from_another_trail_exits_10(tmp_path, trail):
    other = sample_trail(seed=b"other", instance="web-2")
    copied = trail.objects | {seal_key(trail.origin, 3): other.objects[seal_key(other.origin, 3)]}
    status, report = run(tmp_path, copied, trail.trust_line + other.trust_line)
    assert status == 10
    assert "seal_misplaced" in codes(report)


def test_a_removed_data_object_exits_10(tmp_path, trail):
    key = next(key for key in trail.objects if key.startswith("records/"))
    status, report = run(tmp_path, {k: raw for k, raw in trail.objects.items() if k != key}, trail.trust_line)
    assert (status, codes(report)) == (10, {"data_missing"})


def live_trail(seconds_ago: float) -> TrailFactory:
    trail = TrailFactory(start=datetime.now(UTC) - timedelta(seconds=seconds_ago), heartbeat_seconds=60)
    trail.add(3)
    trail.heartbeat(after_seconds=60)
    return trail


def test_a_live_trail_with_a_fresh_head_exits_0(tmp_path):
    trail = live_trail(70)
    assert run(tmp_path, trail.objects, trail.trust_line)[0] == 0


def test_the_newest_seal_removed_exits_11_when_the_one_before_is_older_than_three_heartbeats(tmp_path):
    trail = live_trail(3600)
    trail.stop()
    trail.objects.pop(seal_key(trail.origin, trail.batch - 1))
    status, report = run(tmp_path, trail.objects, trail.trust_line)
    assert (status, codes(report)) == (11, {"unclosed"})


def test_a_source_gap_exits_11_and_says_which_bytes(tmp_path, trail):
    trail.resume()
    trail.add(1, gaps=1)
    trail.stop()
    status, report = run(tmp_path, trail.objects, trail.trust_line)
    assert (status, codes(report)) == (11, {"gap"})
    finding = report["findings"][0]
    assert finding["first_seq"] is not None
    assert "truncated, known" in finding["message"]


def test_an_empty_store_exits_12(tmp_path):
    status, report = run(tmp_path, {}, "")
    assert (status, codes(report)) == (12, {"store_empty"})


def test_a_store_that_is_not_there_exits_12(tmp_path):
    result = CliRunner().invoke(verify_command, [str(tmp_path / "nowhere")])
    assert result.exit_code == 12
    assert "nowhere" in result.output


def test_an_unknown_key_exits_12_and_all_else_is_checked(tmp_path, trail):
    stranger = TrailFactory(seed=b"stranger")
    status, report = run(tmp_path, trail.objects, f"*/*/*/* {stranger.vkey}\n")
    assert (status, codes(report)) == (12, {"key_unknown"})
    assert trail.vkey in report["findings"][0]["message"]
    assert report["records"] == 13


def test_without_a_trust_file_tampering_is_still_found_and_wins(tmp_path, trail):
    write_store(trail.objects, tmp_path)
    assert CliRunner().invoke(verify_command, [str(tmp_path)]).exit_code == 12
    key = next(key for key in trail.objects if key.startswith("records/"))
    (tmp_path / key).write_bytes(b"nothing")
    result = CliRunner().invoke(verify_command, [str(tmp_path)])
    assert result.exit_code == 10
    assert "nothing vouches for the key" in " ".join(result.output.split())


def test_a_key_bound_to_another_origin_is_unknown_here(tmp_path, trail):
    assert run(tmp_path, trail.objects, f"demo/other/*/* {trail.vkey}\n")[0] == 12


def test_what_trust_prints_is_a_trust_file_that_verifies(tmp_path, trail):
    write_store(trail.objects, tmp_path / "store")
    printed = CliRunner().invoke(trust_command, [str(tmp_path / "store")])
    assert printed.exit_code == 0
    assert trail.trust_line in printed.output
    assert run(tmp_path, {}, printed.output)[0] == 0


def test_fresh_demands_a_fresh_head_of_a_stopped_trail_but_not_of_a_closed_one(tmp_path, trail):
    status, report = run(tmp_path, trail.objects, trail.trust_line, "--fresh", "5m")
    assert (status, codes(report)) == (11, {"not_fresh"})
    trail.resume()
    trail.close()
    assert run(tmp_path, trail.objects, trail.trust_line, "--fresh", "5m")[0] == 0


def test_an_origin_pattern_that_matches_nothing_exits_12(tmp_path, trail):
    status, report = run(tmp_path, trail.objects, trail.trust_line, "--origin", "demo/other/*/*")
    assert (status, codes(report)) == (12, {"store_empty"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trust", "missing"], "missing: cannot read the trust file"),
        (["--expected", "missing"], "missing: cannot read the expected file"),
        (["--fresh", "soon"], "is not a duration"),
        (["--origin", "demo"], "four parts"),
    ],
)
def test_a_wrong_command_line_exits_2_with_one_clear_line(tmp_path, options, words):
    result = CliRunner().invoke(verify_command, [str(tmp_path), *options])
    assert result.exit_code == 2
    assert words in result.output


def test_a_url_this_version_cannot_read_exits_2():
    result = CliRunner().invoke(verify_command, ["https://gateway.example/trail"])
    assert result.exit_code == 2
    assert "or a bucket: s3://, gs:// or az://" in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--retention-mode", "governance"], "give both"),
        (["--retention", "1d", "--no-attest"], "--no-attest leaves out"),
        (["--retention", "1d"], "is a folder"),
        (["--endpoint", "https://s3.example.com"], "is no bucket"),
    ],
)
def test_options_that_contradict_each_other_exit_2(tmp_path, trail, options, words):
    result = CliRunner().invoke(verify_command, [str(write_store(trail.objects, tmp_path / "store")), *options])
    assert (result.exit_code, words in result.output) == (2, True), result.output


def test_a_level_that_a_folder_cannot_have_exits_12(tmp_path, trail):
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    arguments = [str(tmp_path / "store"), "--trust", str(tmp_path / "trust"), "--level"]
    assert CliRunner().invoke(verify_command, [*arguments, "unanchored"]).exit_code == 0
    result = CliRunner().invoke(verify_command, [*arguments, "locked"])
    assert (result.exit_code, "level_not_reached" in result.output) == (12, True), result.output


def test_the_report_for_a_person_fits_80_columns_and_ends_with_the_verdict(tmp_path, trail):
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    result = CliRunner().invoke(verify_command, [str(tmp_path / "store"), "--trust", str(tmp_path / "trust")], env={"COLUMNS": "80"})
    lines = result.output.rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "intact and complete: 1 trail, 13 records (exit 0)"
    assert "\x1b" not in result.output


def test_quiet_prints_the_closing_line_only(tmp_path, trail):
    write_store(trail.objects, tmp_path)
    result = CliRunner().invoke(verify_command, [str(tmp_path), "--quiet"])
    assert result.output == "not verified: 1 trail, 13 records (exit 12)\n"
