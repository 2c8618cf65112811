"""The target of a copying, over stores in memory: what it contradicts, how it fails, what is not written, and how it is verified."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agent.copying.outcome import Cause
from agent.copying.run import AGAIN, NO_LOCK
from agent.copying.verifying import verify_copy
from agent.errors import RefusedError, TransientError
from agent.reader.fetch import MemoryReader
from agent.trail.layout import probe_key, seal_key
from agent.vitals.standing import Standing
from tests.support.copying import OBJECTS, Failing, Recording, clock_of, codes, copy, data_of, merged, other_trail, trust_of, verified
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs


class TestTheTargetContradicts:
    @pytest.mark.parametrize("newest", [None, lambda _: 7])
    @pytest.mark.parametrize("what", ["seal", "data"])
    @pytest.mark.parametrize("parallel", [1, 4])
    def test_that_trail_stops_nothing_is_overwritten_and_the_others_go_on(self, what, newest, parallel):
        trail, other, store = sample_trail(), other_trail(), Recording(parallel)
        key = seal_key(trail.origin, 3) if what == "seal" else data_of(trail, 3)
        store.objects[key] = b"something else"
        report = copy(merged(trail, other), store, trail, other, newest=newest)
        stopped = next(copied for copied in report.trails if copied.stop)
        assert stopped.stop is not None
        assert (report.exit_code, stopped.batches, stopped.stop.batch) == (10, 3, 3)
        assert (stopped.stop.cause, stopped.stop.key) == (Cause.CONFLICT, key)
        assert stopped.stop.why == f"the target holds other bytes under {key} than memory"
        assert store.objects[key] == b"something else"
        assert {seal_key(trail.origin, batch) for batch in (3, 4)} & set(store.objects) <= {key}
        assert set(other.objects) < set(store.objects)

    def test_a_cosignature_that_differs_is_a_contradiction(self):
        trail, store = sample_trail(), Recording()
        key = seal_key(trail.origin, 2).replace(".seal", ".cosig.0a1b2c3d")
        store.objects[key] = b"another"
        report = copy(trail.objects | {key: b"one"}, store, trail)
        assert (report.exit_code, store.objects[key]) == (10, b"another")


class TestTheTargetFails:
    def test_what_passes_is_tried_again_and_said_once(self):
        trail, said = sample_trail(), list[str]()
        store = Failing(TransientError("no answer"), TransientError("no answer"), TransientError("busy"))
        assert copy(trail.objects, store, trail, tell=said.append).exit_code == 0
        assert store.objects == trail.objects
        assert said == ["no answer; trying again for up to 5 minutes", "busy; trying again for up to 5 minutes"]

    def test_it_is_given_up_in_the_end_with_the_store_s_words(self):
        trail, other = sample_trail(), other_trail()
        store = Failing(*[TransientError("the disk is full")] * 3)
        report = copy(merged(trail, other), store, trail, other, patience_seconds=0.0)
        assert report.failure is not None
        assert (report.exit_code, report.failure.message, report.failure.hint) == (1, "the disk is full", AGAIN)
        assert (len(report.trails), store.objects) == (1, {})

    @pytest.mark.parametrize("hint", ["Make room; it is tried again by itself.", "Make room. It is tried again by itself.", "Make room."])
    def test_its_own_hint_is_kept_but_for_what_an_agent_would_do(self, hint):
        trail = sample_trail()
        report = copy(trail.objects, Failing(RefusedError("full", hint=hint)), trail)
        assert report.failure is not None
        assert report.failure.hint == f"Make room. {AGAIN}"

    def test_a_refusal_is_not_tried_again(self):
        trail, said = sample_trail(), list[str]()
        report = copy(trail.objects, Failing(RefusedError("403 Forbidden")), trail, tell=said.append)
        assert report.failure is not None
        assert (report.exit_code, report.failure.message, said) == (1, "403 Forbidden", [])

    def test_a_missing_right_in_a_folder_is_not_tried_again(self):
        error = TransientError("cannot create it: Permission denied")
        error.__cause__ = PermissionError(13, "Permission denied")
        report = copy(sample_trail().objects, Failing(error), sample_trail())
        assert report.exit_code == 1

    def test_a_bucket_without_a_lock_is_refused_with_what_can_be_done(self):
        class Unlocked(Recording):
            async def examine(self) -> Standing:
                raise RefusedError("it shows no lock", hint="or accept it with allow_unlocked: true.")

        store = Unlocked()
        report = copy(sample_trail().objects, store, sample_trail())
        assert report.failure is not None
        assert (report.exit_code, report.failure.hint, store.attempts) == (1, NO_LOCK, 0)

    def test_damage_in_the_source_is_worse_than_a_target_that_fails(self):
        trail, other = sample_trail(), other_trail()
        objects = merged(trail, other)
        del objects[seal_key(other.origin, 0)]
        report = copy(objects, Failing(RefusedError("403")), other, trail)
        assert (report.exit_code, report.failure is None) == (10, False)

    def test_an_object_that_is_there_and_not_found_is_tried_again(self):
        class Forgetful(Recording):
            async def create(self, key: str, data: bytes) -> bool:
                await super().create(key, data)
                return False

            async def read(self, key: str) -> bytes | None:
                found = await super().read(key)
                return None if self.read_keys.count(key) == 1 else found

        trail, store = sample_trail(), Forgetful()
        assert copy(trail.objects, store, trail).trails[0].present == OBJECTS

    def test_no_answer_is_tried_again(self, monkeypatch):
        monkeypatch.setattr("agent.copying.target.ATTEMPT_SECONDS", 0.01)

        class Hanging(Recording):
            async def create(self, key: str, data: bytes) -> bool:
                if not self.attempts:
                    self.attempts += 1
                    await asyncio.sleep(60)
                return await super().create(key, data)

        trail, store, said = sample_trail(), Hanging(), list[str]()
        assert copy(trail.objects, store, trail, tell=said.append).exit_code == 0
        assert said[0].startswith("the target: no answer within")

    def test_what_is_weaker_than_it_should_be_is_passed_on(self):
        class Weak(Recording):
            async def examine(self) -> Standing:
                return Standing(exclusive=False, warnings=("weak create",))

        assert copy(sample_trail().objects, Weak(), sample_trail()).warnings == ("weak create",)


class TestDryRun:
    def test_nothing_is_written_and_it_says_what_would_be(self):
        class NeverAsked(Recording):
            async def examine(self) -> Standing:
                raise AssertionError("examining writes a probe")

        trail, store = sample_trail(), NeverAsked()
        store.objects = {key: raw for key, raw in trail.objects.items() if key.startswith("records/")}
        before = dict(store.objects)
        report = copy(trail.objects, store, trail, dry_run=True)
        assert (report.exit_code, report.dry_run, report.trails[0].created, report.trails[0].present) == (0, True, 8, 3)
        assert (store.objects, store.attempts) == (before, 0)

    def test_it_sees_a_contradiction(self):
        trail, store = sample_trail(), Recording()
        store.objects[seal_key(trail.origin, 1)] = b"something else"
        assert copy(trail.objects, store, trail, dry_run=True).exit_code == 10


class TestWhatIsNotCopied:
    def test_objects_that_no_seal_names_are_counted_and_named(self):
        trail, store = sample_trail(), Recording()
        data = next(key for key in trail.objects if key.startswith("records/"))
        unsealed = data.replace("-00000000000000000001-", "-00000000000000000099-")
        probe = probe_key("demo", "payments", "web-1", "2026-01-08")
        too_large = seal_key(trail.origin, 0).replace(".seal", ".cosig.0a1b2c3d")
        extra = {unsealed: b"unsealed", "notes.txt": b"foreign", probe: b"probe"}
        report = copy(trail.objects | extra, store, trail)
        assert store.objects == trail.objects
        assert {finding.code.value: finding.key for finding in report.log.kept} == {
            "data_unsealed": unsealed,
            "foreign_object": "notes.txt",
        }
        assert (report.exit_code, report.probes) == (0, 1)
        report = copy(trail.objects | {too_large: b"x" * (65 << 10)}, store, trail)
        assert (report.exit_code, too_large in store.objects) == (12, False)

    def test_beside_a_pattern_nothing_else_is_looked_at(self):
        trail, store = sample_trail(), Recording()
        report = copy(trail.objects | {"notes.txt": b"foreign"}, store, trail, origin_glob="demo/*/*/*")
        assert report.log.kept == []

    def test_sealed_data_behind_a_damaged_seal_is_not_called_unsealed(self):
        trail, store = sample_trail(), Recording()
        objects = dict(trail.objects)
        del objects[seal_key(trail.origin, 2)]
        report = copy(objects, store, trail)
        assert "data_unsealed" not in report.log.counts


class TestVerifyingTheTarget:
    def test_trails_of_others_are_left_alone(self):
        trail, other, store = sample_trail(), other_trail(), Recording()
        copy(trail.objects, store, trail)
        damaged = dict(other.objects)
        del damaged[seal_key(other.origin, 2)]
        store.objects |= damaged | {"notes.txt": b"foreign"}
        verification = verified(store, trail)
        assert (verification.severity.exit_code, len(verification.trails), verification.log.kept) == (0, 1, [])

    def test_an_epoch_that_only_the_target_has_is_judged_with_the_one_it_continues(self):
        first = TrailFactory(seed=b"first")
        first.add(2)
        second = TrailFactory(
            seed=b"second", start=first.now + timedelta(hours=2), continues=first.link(), offsets=first.offsets, file_id=first.file_id
        )
        second.stop()
        store = Recording()
        copy(first.objects, store, first, second)
        store.objects |= second.objects
        now = clock_of(first, second)()
        trust = trust_of(first, second)
        verification = verify_copy(MemoryReader(store.objects), [first.origin], trust=trust, origin_glob=None, now=now)
        assert (verification.severity.exit_code, len(verification.trails)) == (0, 2)

    def test_a_link_to_what_the_pattern_left_out_is_no_link_into_nothing(self):
        first, second = two_epochs()
        store = Recording()
        store.objects = merged(first, second)
        verification = verified(store, second, origin_glob=str(second.origin))
        assert (verification.severity.exit_code, codes(verification)) == (0, {"link_unchecked"})

    def test_batches_that_only_the_target_has_are_verified_with_those_copied(self):
        trail, store = TrailFactory(), Recording()
        trail.add(2)
        old = dict(trail.objects)
        trail.add(3)
        trail.stop()
        # A new store beside an old one got what was sealed from then on.
        store.objects = {key: raw for key, raw in trail.objects.items() if key not in old}
        report = copy(old, store, trail)
        assert (report.exit_code, store.objects) == (0, trail.objects)
        assert verified(store, trail).severity.exit_code == 0

    def test_without_a_trust_file_it_is_not_verified(self):
        trail, store = sample_trail(), Recording()
        copy(trail.objects, store, trail)
        verification = verify_copy(MemoryReader(store.objects), [trail.origin], trust=None, origin_glob=None, now=clock_of(trail)())
        assert (verification.severity.exit_code, codes(verification)) == (12, {"key_unknown"})
