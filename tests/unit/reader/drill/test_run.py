"""A drill finds every tampering, fails where a verifier is blind or confused, and leaves the copy as it was."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from agent.errors import NotVerifiedError
from agent.reader.chain import TrailChecker
from agent.reader.drill.catalogue import CATALOGUE, NOT_IN_A_FOLDER
from agent.reader.drill.forge import with_manifest
from agent.reader.drill.store_copy import digest
from agent.reader.drill.values import Expectation, Outcome
from agent.reader.findings import Code, FindingLog, Severity
from agent.reader.trustfile import TrustFile
from agent.trail.layout import seal_key
from agent.trail.manifest import encode_manifest
from agent.trail.seal import parse_seal
from tests.support.golden_trails import golden_trails, trust_lines
from tests.support.index_truth import objects_of
from tests.support.trail_factory import START, TrailFactory, sample_trail
from tests.unit.reader.drill.scene import company, copy_of, drill, long_trail, named, naming, outcomes


@pytest.fixture(scope="module")
def exercised(tmp_path_factory):
    trails = company()
    return drill(copy_of(tmp_path_factory.mktemp("company"), *trails), *trails)


@pytest.mark.parametrize("tampering", CATALOGUE, ids=lambda tampering: tampering.name)
def test_every_tampering_of_the_catalogue_is_done_and_ends_as_it_should(exercised, tampering):
    result = outcomes(exercised)[tampering.name]
    wanted = Outcome.CAUGHT if tampering.expectation is Expectation.CAUGHT else Outcome.AS_DOCUMENTED
    assert result.outcome is wanted, (result.done, result.found)
    if wanted is Outcome.CAUGHT:
        assert any(finding.code in tampering.must for finding in result.found)
        assert all(finding.code in tampering.must | tampering.may for finding in result.found)
        assert result.exit_code in {0, 10, 11, 12}
        worst = max(finding.severity for finding in result.found)
        assert result.exit_code == max(worst, exercised.control.severity).exit_code


def test_a_drill_counts_what_it_tried_and_puts_everything_back(exercised):
    assert exercised.tried == exercised.caught == sum(entry.expectation is Expectation.CAUGHT for entry in CATALOGUE)
    assert not exercised.failed
    assert not exercised.faults
    assert exercised.restored


def test_names_are_unique_and_every_entry_says_what_it_is_for():
    names = Counter([*(entry.name for entry in CATALOGUE), *(entry.name for entry in NOT_IN_A_FOLDER)])
    assert max(names.values()) == 1
    assert all(entry.wants and entry.must and not entry.must & entry.may for entry in CATALOGUE)
    assert all(entry.remedy for entry in CATALOGUE if entry.expectation is Expectation.LIMIT)
    assert all(entry.why for entry in NOT_IN_A_FOLDER)


def test_the_catalogue_provokes_every_code_for_tampering_that_a_folder_can_show(exercised):
    """Versions and delete markers are all that a folder has not."""
    found = {finding.code for result in exercised.results for finding in result.found}
    unprovoked = {code for code in Code if code.severity is Severity.TAMPERED} - found
    assert unprovoked == {Code.DELETE_MARKER, Code.VERSION_ALTERED, Code.VERSION_GONE}


@pytest.mark.parametrize("name", sorted(golden_trails()))
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_missed_or_misread_in_the_golden_stores(tmp_path, name, seed):
    trails = golden_trails()[name]
    exercise = drill(copy_of(tmp_path, *trails), *trails, seed=seed, trust=TrustFile.parse(trust_lines(name, trails), "trust"))
    odd = {
        result.tampering.name: result for result in exercise.results if result.outcome in (Outcome.MISSED, Outcome.MISREAD, Outcome.FAULT)
    }
    assert not odd
    assert exercise.tried == exercise.caught > 60
    assert exercise.restored


# ---- a verifier that does not see ---------------------------------------------------------------------------------------------


def test_a_verifier_that_looks_at_the_first_signature_only_fails_the_drill(tmp_path, monkeypatch):
    trails = (long_trail(),)
    copy = copy_of(tmp_path, *trails)
    look = TrailChecker._check_signatures
    monkeypatch.setattr(TrailChecker, "_check_signatures", lambda self, seal: look(self, seal) if seal.manifest.batch == 0 else True)
    exercise = drill(copy, *trails, catalogue=named("sign-one", "sign-all", "rewrite", "heartbeat-forge"))
    assert exercise.failed
    assert exercise.caught == 0


@pytest.mark.parametrize("code", sorted({code for entry in CATALOGUE for code in entry.must if entry.expectation is Expectation.CAUGHT}))
def test_a_verifier_that_never_says_one_of_the_codes_fails_the_drill(tmp_path, monkeypatch, code):
    trails = company()
    copy = copy_of(tmp_path, *trails)
    add = FindingLog.add
    monkeypatch.setattr(FindingLog, "add", lambda self, finding: None if finding.code is code else add(self, finding))
    able = tuple(entry for entry in CATALOGUE if code in entry.must and entry.expectation is Expectation.CAUGHT)
    blind = drill(copy, *trails, catalogue=able)
    others = {result.tampering.name for result in blind.results if result.tampering.must != {code}}
    missed = {result.tampering.name for result in blind.results if result.outcome.failed}
    # An entry that may be told by another code, too, may still be told by that.
    assert missed | others == {entry.name for entry in able}
    assert missed


def test_a_verifier_that_does_not_look_at_the_data_fails_the_drill(tmp_path, monkeypatch):
    trails = (long_trail(),)
    copy = copy_of(tmp_path, *trails)
    blind = lambda self, manifest, report: None  # noqa: E731 -- as short as the mistake would be
    monkeypatch.setattr(TrailChecker, "_read_data", blind)
    exercise = drill(copy, *trails, catalogue=named("data-bit", "data-delete", "event-edit"))
    assert {result.outcome for result in exercise.results} == {Outcome.MISSED}
    assert exercise.failed
    assert exercise.caught == 0


def test_a_tampering_that_is_taken_for_another_one_fails_the_drill(tmp_path):
    trails = (long_trail(),)
    (entry,) = named("data-delete")
    mistaken = replace(entry, must=frozenset({Code.DATA_ALTERED}), may=frozenset())
    (result,) = drill(copy_of(tmp_path, *trails), *trails, catalogue=(mistaken,)).results
    assert result.outcome is Outcome.MISREAD
    assert result.outcome.failed


def test_a_finding_about_another_place_does_not_count(tmp_path):
    trails = (long_trail(),)
    (entry,) = named("data-delete")

    def elsewhere(site):
        return replace(entry.act(site), batches=frozenset({10**6}))

    (result,) = drill(copy_of(tmp_path, *trails), *trails, catalogue=(replace(entry, act=elsewhere),)).results
    assert result.outcome is Outcome.MISSED
    assert result.codes == ("data_missing",)


def test_a_tampering_that_changes_nothing_is_not_caught(tmp_path):
    trails = (long_trail(),)
    (entry,) = named("data-delete")
    idle = replace(entry, act=lambda site: replace(entry.act(site), objects={}))
    exercise = drill(copy_of(tmp_path, *trails), *trails, catalogue=(idle,))
    assert [result.outcome for result in exercise.results] == [Outcome.MISSED]


def test_an_error_of_the_program_is_neither_caught_nor_hidden(tmp_path):
    trails = (long_trail(),)

    def stumble(_site):
        raise IndexError("no such thing")

    exercise = drill(copy_of(tmp_path, *trails), *trails, catalogue=(replace(CATALOGUE[0], act=stumble), CATALOGUE[1]))
    assert [result.outcome for result in exercise.results] == [Outcome.FAULT, Outcome.CAUGHT]
    assert (exercise.tried, exercise.faults) == (1, 1)
    assert exercise.results[0].done == "IndexError: no such thing"


# ---- stores that are not as they should be --------------------------------------------------------------------------------------


def test_in_a_store_that_is_damaged_already_only_what_is_added_counts(tmp_path):
    trails = (long_trail(),)
    objects = objects_of(*trails)
    (key,) = [key for key in objects if key.startswith("records/") and "00000000000000000001-" in key]
    objects[key] = objects[key][:-1] + b"?"
    exercise = drill(copy_of(tmp_path, *trails, objects=objects), *trails)
    assert exercise.control.severity is Severity.TAMPERED
    assert exercise.control.codes["data_altered"] == 1
    assert not exercise.failed, [(result.tampering.name, result.found) for result in exercise.results if result.outcome.failed]
    assert exercise.caught > 40
    assert exercise.restored


def test_a_damage_of_a_kind_that_is_found_too_often_to_be_kept_hides_no_miss(tmp_path):
    """More than fifty silences: which of them are kept shifts when a batch goes, and no shifted one may count for or against."""
    trail = TrailFactory(seed=b"silent")
    for _ in range(60):
        trail.add(2, after_seconds=600)
    trail.stop()
    exercise = drill(copy_of(tmp_path, trail), trail, catalogue=named("batch-delete", "data-delete", "silence"))
    assert {name: result.outcome for name, result in outcomes(exercise).items()} == {
        "batch-delete": Outcome.CAUGHT,
        "data-delete": Outcome.CAUGHT,
        # One more silence cannot be told from those that are there: neither caught nor missed.
        "silence": Outcome.NOT_TRIED,
    }


def test_a_trail_with_a_hole_is_tampered_with_where_it_can_be(tmp_path):
    trails = (long_trail(), sample_trail())
    objects = objects_of(*trails)
    del objects[seal_key(trails[0].origin, 4)]
    exercise = drill(copy_of(tmp_path, *trails, objects=objects), *trails)
    assert not exercise.failed, [(result.tampering.name, result.found) for result in exercise.results if result.outcome.failed]
    assert exercise.origins[0] == str(trails[1].origin)


def test_a_store_that_nobody_vouches_for_is_no_ground_for_a_drill(tmp_path):
    trail = sample_trail()
    with pytest.raises(NotVerifiedError, match="vouched for"):
        drill(copy_of(tmp_path, trail), trail, trust=TrustFile())


def test_what_the_trail_has_no_place_for_is_said_and_not_counted(tmp_path):
    trail = TrailFactory(seed=b"bare")
    trail.heartbeat()
    trail.stop()
    exercise = drill(copy_of(tmp_path, trail), trail)
    untried = outcomes(exercise)["event-edit"]
    assert untried.outcome is Outcome.NOT_TRIED
    assert "no batch with 1 events" in untried.done
    assert 0 < exercise.tried == exercise.caught < 50


# ---- stores that want to harm whoever drills them --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["absolute", "above", "deep", "folder", "seal"])
def test_a_seal_that_names_another_place_for_its_data_leads_nowhere(tmp_path, place):
    trails = (long_trail(), sample_trail(seed=b"sound"))
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o640)
    keys = {
        "absolute": str(victim),
        "above": "../victim",
        "deep": "records/../../victim",
        "folder": "trails/demo",
        "seal": seal_key(trails[1].origin, 1),
    }
    objects = naming(keys[place], trails[0]) | trails[1].objects
    copy = copy_of(tmp_path, *trails, objects=objects)
    before = state_of(victim)
    exercise = drill(copy, *trails)
    harmed = drill(copy, trails[0], origin_glob=str(trails[0].origin))
    assert state_of(victim) == before
    assert exercise.origins[0] == str(trails[1].origin)
    for one in (exercise, harmed):
        assert one.restored
        assert one.faults == 0
        assert not one.failed, [(result.tampering.name, result.found) for result in one.results if result.outcome.failed]
    assert exercise.tried > 40
    assert {outcomes(harmed)[name].outcome for name in ("data-delete", "data-bit", "batch-delete")} == {Outcome.NOT_TRIED}


def test_a_trail_that_somebody_planted_cannot_name_what_is_removed_with_it(tmp_path):
    trail, planted = long_trail(), long_trail(seed=b"planted", start=START + timedelta(days=30))
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    before = state_of(victim)
    entries = named("instance-delete", "instance-delete-unasked", "epoch-delete", "batch-splice")
    for number, key in enumerate((str(victim), "../victim", "trails", max(trail.objects))):
        copy = copy_of(tmp_path / str(number), trail, planted, objects=trail.objects | naming(key, planted))
        outside = copy.parent / "victim"
        outside.write_bytes(b"as precious")
        exercise = drill(copy, trail, catalogue=entries)
        assert state_of(victim) == before
        assert outside.read_bytes() == b"as precious"
        assert outcomes(exercise)["instance-delete"].outcome is Outcome.CAUGHT
        assert exercise.restored


def test_a_folder_in_the_place_of_a_data_object_is_not_tampered_with(tmp_path):
    trails = (long_trail(),)
    objects = objects_of(*trails)
    for key in sorted(key for key in objects if key.startswith("records/")):
        del objects[key]
        objects[f"{key}/file"] = b"?"
    exercise = drill(copy_of(tmp_path, *trails, objects=objects), *trails)
    assert outcomes(exercise)["data-delete"].outcome is Outcome.NOT_TRIED
    assert exercise.restored
    assert exercise.faults == 0


def test_a_head_with_a_huge_number_costs_neither_memory_nor_time(tmp_path):
    trails = (long_trail(),)
    objects = objects_of(*trails)
    head = parse_seal(objects[seal_key(trails[0].origin, trails[0].batch - 1)])
    huge = 10**12 - 1
    line = encode_manifest(msgspec.structs.replace(head.manifest, batch=huge))
    objects[seal_key(trails[0].origin, huge)] = with_manifest(head.raw, line)
    copy = copy_of(tmp_path, *trails, objects=objects)
    tracemalloc.start()
    try:
        exercise = drill(copy, *trails)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 200 << 20
    assert exercise.restored
    assert exercise.faults == 0


def state_of(path):
    status = path.stat()
    return path.read_bytes(), status.st_ino, status.st_mode, status.st_mtime_ns


# ---- repeating, restoring ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_does_the_same_and_another_one_does_not(tmp_path):
    trails = (long_trail(),)
    copy = copy_of(tmp_path, *trails)
    some = CATALOGUE[:12]
    first, second, other = (drill(copy, *trails, seed=seed, catalogue=some) for seed in (5, 5, 6))
    assert [result.done for result in first.results] == [result.done for result in second.results]
    assert [result.done for result in first.results] != [result.done for result in other.results]


def test_leaving_one_out_does_not_change_what_is_done_in_the_others(tmp_path):
    trails = (long_trail(),)
    copy = copy_of(tmp_path, *trails)
    every = drill(copy, *trails, catalogue=CATALOGUE[:6])
    fewer = drill(copy, *trails, catalogue=CATALOGUE[3:6])
    assert [result.done for result in every.results[3:]] == [result.done for result in fewer.results]


@pytest.mark.parametrize("name", ["data-bit", "batch-delete", "file-plant", "folder-link", "lie-counts"])
def test_a_drill_that_is_broken_off_leaves_the_copy_as_it_was(tmp_path, name):
    trails = (long_trail(),)
    copy = copy_of(tmp_path, *trails)
    before = digest(copy)
    kept: list[str] = []

    def break_off(tampering, change, _report):
        kept.append(tampering.name)
        # It is broken off while the tampering is there: in the copy, or in the stand-in beside it.
        place = next(folder for folder in (copy, tmp_path / "copy-stand-in-0") if _is_there(folder, change))
        assert (place == copy) is (name != "lie-counts")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drill(copy, *trails, catalogue=named(name), keep=break_off)
    assert kept == [name]
    assert digest(copy) == before


def _is_there(folder, change):
    files = all(
        (folder / key).read_bytes() == raw if raw is not None else not (folder / key).exists() for key, raw in change.objects.items()
    )
    return files and all((folder / link).is_symlink() for link in change.linked)


def test_only_trails_that_match_are_tampered_with(tmp_path):
    trails = company()
    exercise = drill(copy_of(tmp_path, *trails), *trails, origin_glob="demo/orders/*/*", catalogue=named("data-bit", "sign-one"))
    assert exercise.origins == (str(trails[1].origin),)
    assert all(str(trails[1].origin) in {finding.origin for finding in result.found} for result in exercise.results)
