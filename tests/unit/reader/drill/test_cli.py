"""`trailseal drill` as an auditor calls it: the store is only read, and the exit code says what the last line says."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from agent.reader.chain import TrailChecker
from agent.reader.cli import verify_command
from agent.reader.drill import perform as perform_module
from agent.reader.drill import run as run_module
from agent.reader.drill import store_copy
from agent.reader.drill.cli import drill_command, ended_by_signals
from tests.support.index_truth import objects_of
from tests.support.trail_factory import sample_trail, write_store
from tests.unit.reader.drill.scene import company, long_trail, naming

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Path:
    trails = company()
    root = write_store(objects_of(*trails), tmp_path / "store")
    for path in root.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (tmp_path / "trust").write_text("".join(trail.trust_line for trail in trails))
    return root


def run(store: Path, *options: object) -> Result:
    arguments = [str(store), "--trust", str(store.parent / "trust"), *map(str, options)]
    return CliRunner().invoke(drill_command, arguments, env={"COLUMNS": "120"})


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return everything of a folder: bytes, times and modes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in files}


def test_a_drill_over_a_read_only_store_catches_everything_and_changes_nothing(store):
    for path in (store, *store.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folders = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_dir()}
    before = state(store)
    result = run(store)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith("all 75 tamperings that were tried were caught (exit 0, ")
    assert state(store) == before
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_dir()} == folders


def test_json_says_what_was_done_and_holds_no_other_text(store):
    result = run(store, "--json", "--seed", 3, "--actor", "user-0")
    document = json.loads(result.output)
    assert result.output.isascii()
    assert (document["exit_code"], result.exit_code) == (0, 0)
    assert (document["seed"], document["same"], document["restored"], document["whole"]) == (3, True, True, True)
    assert document["original"] == document["control"]
    assert document["timeline"]["actor"] == "user-0"
    assert [entry["kind"] for entry in document["timeline"]["entries"]].count("did") >= 1
    again = json.loads(run(store, "--json", "--seed", 3).output)
    # A few name the moment of the drill, which differs from run to run; what is touched does not.
    assert [re.sub(r"01[0-9a-z]{24}", "", entry["done"]) for entry in again["tamperings"]] == [
        re.sub(r"01[0-9a-z]{24}", "", entry["done"]) for entry in document["tamperings"]
    ]


def test_a_blind_verifier_ends_in_10_and_is_named(store, monkeypatch):
    monkeypatch.setattr(TrailChecker, "_read_data", lambda self, manifest, report: None)
    result = run(store)
    assert result.exit_code == 10
    assert "NOT CAUGHT: event-edit" in result.output
    assert result.output.splitlines()[-1].startswith("FAILED: ")


def test_quiet_prints_the_closing_line_only(store):
    result = run(store, "--quiet")
    assert len(result.output.splitlines()) == 1
    assert "exit 0" in result.output


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_the_report_is_written_to_be_filed(store, tmp_path, suffix):
    target = tmp_path / f"drill{suffix}"
    assert run(store, "--output", target, "--quiet").exit_code == 0
    text = target.read_text("utf-8")
    assert "Tampering drill of" in text
    assert "Reviewed by" in text
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "drill" in path.name] == [target.name]


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_a_report_that_is_there_is_refused_before_the_drill_begins_unless_it_may_be_replaced(store, tmp_path, monkeypatch, kind):
    target = tmp_path / "drill.md"
    (tmp_path / "elsewhere").write_text("precious")
    if kind == "file":
        target.write_text("last year's")
    else:
        target.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    with monkeypatch.context() as patched:
        patched.setattr(perform_module, "perform", lambda *_, **__: pytest.fail("the drill began"))
        result = run(store, "--output", target)
    assert result.exit_code == 2
    assert "it is there already" in result.output
    assert target.is_symlink() is (kind != "file")
    assert run(store, "--output", target, "--force", "--quiet", "--origin", "demo/orders/*/*").exit_code == 0
    assert "Tampering drill of" in target.read_text("utf-8")
    assert not target.is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_report_that_appears_while_the_drill_runs_is_not_replaced(store, tmp_path, monkeypatch):
    target = tmp_path / "drill.md"
    monkeypatch.setattr(perform_module, "reconstruct", lambda *_, **__: target.write_text("theirs") and None)
    result = run(store, "--output", target, "--origin", "demo/orders/*/*")
    assert result.exit_code == 2
    assert target.read_text() == "theirs"


@pytest.mark.parametrize("place", ["absolute", "above", "folder"])
def test_seals_that_name_another_place_end_the_drill_in_a_clear_verdict(tmp_path, place):
    trail = long_trail()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o640)
    before = victim.read_bytes(), victim.stat()
    key = {"absolute": str(victim), "above": "../../victim", "folder": "trails/demo"}[place]
    root = write_store(naming(key, trail), tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    result = run(root, "--keep", tmp_path / "kept", "--json", "--seed", 1)
    document = json.loads(result.output)
    failed = [
        (entry["name"], {found["code"] for found in entry["found"]}) for entry in document["tamperings"] if entry["outcome"].isupper()
    ]
    assert failed == []
    assert (result.exit_code, document["restored"], document["same"]) == (0, True, True)
    assert document["original"]["exit_code"] == 10
    after = victim.stat()
    assert victim.read_bytes() == before[0]
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before[1].st_ino, before[1].st_mode, before[1].st_mtime_ns)
    (untried,) = [entry for entry in document["tamperings"] if entry["name"] == "data-delete"]
    assert untried["outcome"] == "not tried"


# ---- ended from outside --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_by_an_exception_and_a_second_one_is_no_other(number):
    before = signal.getsignal(number)

    def drill():
        with ended_by_signals():
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGHUP)

    with pytest.raises(SystemExit) as ended:
        drill()
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_of_the_main_thread_no_signal_is_touched():
    seen = []

    def look():
        with ended_by_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_what_is_kept_shows_each_tampering_and_verifies_as_it_was_judged(store, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    kept.chmod(0o755)
    assert run(store, "--keep", kept, "--quiet").exit_code == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    # Each is documented in docs/drill.md.
    assert {re.sub(r"\d+$", "N", path.name) for path in kept.iterdir()} == {"copy", "copy-stand-in-N", "tampered"}
    original = {key: raw for key, (raw, *_) in state(store).items()}
    assert {key: raw for key, (raw, *_) in state(kept / "copy").items()} == original
    facts = json.loads((kept / "tampered/event-edit/drill.json").read_text())
    (changed,) = [path for path in (kept / "tampered/event-edit/objects").rglob("*") if path.is_file()]
    key = str(changed.relative_to(kept / "tampered/event-edit/objects"))
    assert changed.read_bytes() != original[key]
    # The auditor's own check: put it into a copy, and verify that.
    (kept / "copy" / key).write_bytes(changed.read_bytes())
    verified = CliRunner().invoke(verify_command, [str(kept / "copy"), "--trust", str(store.parent / "trust"), "--json"])
    assert verified.exit_code == facts["verify"]["exit_code"] == 10
    assert json.loads(verified.output)["counts"]["data_altered"] == facts["verify"]["counts"]["data_altered"] == 1
    gone = json.loads((kept / "tampered/batch-delete/drill.json").read_text())
    assert all(key in original for key in gone["removed"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "store/report.html"), "the report {} lies inside the store"),
        (("--keep", "store/kept"), "the folder to keep {} lies inside the store"),
        (("--keep", "store"), "the folder to keep {} lies inside the store"),
        (("--keep", "store/../store/trails/x"), "lies inside the store"),
        (("--output", "nowhere/report.html"), "there is no folder for the report"),
        (("--keep", "."), "is not empty"),
    ],
)
def test_nothing_is_written_into_the_store_nor_over_anything(store, options, words):
    option, place = options
    before = state(store.parent)
    result = run(store, option, store.parent / place)
    assert result.exit_code == 2, result.output
    assert words.format(store.parent / place) in result.output
    assert state(store.parent) == before


def test_a_temporary_folder_inside_the_store_is_refused(store, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(store / "trails"))
    result = run(store)
    assert result.exit_code == 2
    assert "the temporary folder" in result.output


def test_the_temporary_copy_is_removed(store, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    assert run(store, "--quiet").exit_code == 0
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (("--max-bytes", "1KiB"), 2, "--max-bytes allows 1,024"),
        (("--max-bytes", "lots"), 2, "is not a size such as"),
        (("--max-bytes", "0"), 2, "is not a size such as"),
        (("--origin", "a/b"), 2, "an origin has four parts"),
        (("--origin", "no/such/trail/here"), 12, "no trail in"),
        (("--output", "report.pdf"), 2, "the name ends in .html or .md"),
        (("--endpoint", "https://s3.example.com"), 2, "is no bucket"),
        (("--seed", "-1"), 2, "--seed"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(store, options, exit_code, words):
    result = run(store, *options)
    assert result.exit_code == exit_code
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_store_that_is_not_there_or_empty_is_no_ground(tmp_path):
    (tmp_path / "trust").write_text("")
    for folder in ("nowhere", "empty"):
        if folder == "empty":
            (tmp_path / folder).mkdir()
        result = run(tmp_path / folder)
        assert result.exit_code == 12, result.output


def test_a_store_that_nobody_vouches_for_is_no_ground(store):
    (store.parent / "trust").write_text("# nobody\n")
    result = run(store)
    assert result.exit_code == 12
    assert "vouched for" in result.output


def test_a_part_of_a_store_is_said_to_be_a_part(store):
    result = run(store, "--origin", "demo/orders/*/*", "--json")
    document = json.loads(result.output)
    assert result.exit_code == 0
    assert document["trails_left_out"] == 3
    assert any("3 trails were left out" in remark for remark in document["remarks"])
    assert all("/orders/" in origin for origin in document["tampered_trails"])


def test_a_damaged_store_is_said_to_be_damaged_and_can_still_be_drilled(tmp_path):
    trail = sample_trail()
    root = write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    damaged = next(path for path in sorted(root.rglob("*.zst")))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    result = run(root, "--json")
    document = json.loads(result.output)
    assert result.exit_code == 0, document["outcome"]
    assert document["original"]["exit_code"] == document["control"]["exit_code"] == 10
    assert "The store itself is tampered" in document["remarks"][0]


def test_a_copy_that_is_not_like_the_store_is_no_ground(store, monkeypatch):
    lost = next(path for path in sorted(store.rglob("*.zst")))
    monkeypatch.setattr(store_copy, "is_inside", lambda key: not key.endswith(lost.name))
    result = run(store)
    assert result.exit_code == 12
    assert "does not give the store's own verdict" in result.output


@pytest.mark.parametrize("module", [run_module, store_copy])
def test_a_disk_that_is_full_is_said_in_one_line(store, monkeypatch, module):
    def refuse(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "put", refuse)
    result = run(store)
    assert result.exit_code == 2
    assert "No space left on device" in result.output
    assert "Traceback" not in result.output
