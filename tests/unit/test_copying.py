"""Copying over stores in memory: what is written and in which order, where it stops, and what is left when it is killed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent.copying import Options, copy_store
from agent.copying.outcome import Cause
from agent.errors import NotVerifiedError, TransientError
from agent.reader.fetch import MemoryReader
from agent.trail.layout import parse_seal_key, seal_key
from agent.trail.manifest import Continues, ContinuesWhy
from agent.trail.seal import parse_seal
from tests.support.copying import (
    OBJECTS,
    Failing,
    KilledError,
    Recording,
    assert_a_beginning,
    clock_of,
    codes,
    copy,
    data_of,
    merged,
    other_trail,
    target_of,
    trust_of,
    verified,
)
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.trail.layout import Origin


class TestEverythingIsInOrder:
    @pytest.mark.parametrize("parallel", [1, 4])
    def test_everything_is_copied_data_before_its_seal_and_seals_in_order(self, parallel):
        trail, store = sample_trail(), Recording(parallel)
        report = copy(trail.objects, store, trail, trust=trust_of(trail))
        assert store.objects == trail.objects
        assert [parse_seal_key(key)[1] for key in store.created if key.startswith("trails/")] == list(range(8))
        for place, key in enumerate(store.created):
            data = parse_seal(store.objects[key]).manifest.data if key.startswith("trails/") else None
            assert data is None or store.created.index(data.key) < place
        [copied] = report.trails
        assert (report.exit_code, report.complete, report.log.kept) == (0, True, [])
        assert (copied.batches, copied.records, copied.created, copied.present) == (8, 13, OBJECTS, 0)
        assert copied.created_bytes == sum(map(len, trail.objects.values()))
        assert str(copied.trusted_by) == trail.vkey
        assert verified(store, trail).severity.exit_code == 0

    @pytest.mark.parametrize("newest", [None, lambda _: 7])
    def test_a_second_run_compares_everything_and_creates_nothing(self, newest):
        trail, store = sample_trail(), Recording()
        copy(trail.objects, store, trail)
        store.created, store.read_keys, store.attempts = [], [], 0
        report = copy(trail.objects, store, trail, newest=newest)
        assert (report.exit_code, report.trails[0].created, report.trails[0].present, store.created) == (0, 0, OBJECTS, [])
        assert sorted(store.read_keys) == sorted(trail.objects)
        # What is probably there is not sent in vain.
        assert store.attempts == (OBJECTS if newest is None else 0)

    def test_what_is_wrongly_thought_to_be_there_is_created(self):
        trail, store = sample_trail(), Recording()
        copy(trail.objects, store, trail, newest=lambda _: 99)
        assert store.objects == trail.objects

    def test_only_what_is_new_in_the_source_is_created(self):
        trail, store = TrailFactory(), Recording()
        trail.add(2)
        copy(trail.objects, store, trail)
        store.created = []
        trail.add(3)
        report = copy(trail.objects, store, trail)
        assert (report.trails[0].created, report.trails[0].present, store.objects) == (2, 3, trail.objects)

    def test_epochs_are_copied_in_the_order_of_their_links(self):
        # The older epoch's ULID is greater, as after a clock that was set back.
        older = TrailFactory(seed=b"older")
        older.add(2)
        older.close()
        newer = TrailFactory(
            seed=b"newer", start=older.now - timedelta(days=3), continues=older.link(), offsets=older.offsets, file_id=older.file_id
        )
        newer.add(2)
        newer.stop()
        store = Recording()
        report = copy(merged(newer, older), store, older, newer)
        assert [trail.origin for trail in report.trails] == [older.origin, newer.origin]
        assert store.created[0] == seal_key(older.origin, 0)
        assert (report.exit_code, report.log.kept) == (0, [])

    def test_only_trails_that_match_are_copied(self):
        trail, other, store = sample_trail(), other_trail(), Recording()
        report = copy(merged(trail, other), store, trail, origin_glob="demo/payments/*/*")
        assert (store.objects, report.exit_code, len(report.trails)) == (trail.objects, 0, 1)

    def test_a_later_epoch_alone_can_be_copied(self):
        first, second = two_epochs()
        store = Recording()
        report = copy(merged(first, second), store, second, origin_glob=str(second.origin))
        assert (store.objects, report.exit_code) == (second.objects, 0)
        assert {finding.code.value for finding in report.log.kept} == {"link_unchecked"}

    def test_losses_that_a_trail_states_are_copied_and_said_by_the_verification(self):
        trail, store = TrailFactory(), Recording()
        trail.add(2, gaps=1)
        trail.heartbeat(after_seconds=900)
        trail.stop()
        report = copy(trail.objects, store, trail)
        assert (store.objects, report.exit_code, report.complete) == (trail.objects, 0, True)
        verification = verified(store, trail)
        assert (verification.severity.exit_code, codes(verification)) == (11, {"gap", "silence"})

    def test_cosignatures_are_copied_after_the_seals(self):
        trail, store = sample_trail(), Recording()
        cosignatures = {
            seal_key(trail.origin, batch).replace(".seal", ".cosig.0a1b2c3d"): b"cosignature of %d" % batch for batch in (0, 5, 7)
        }
        objects = cosignatures | trail.objects
        report = copy(objects, store, trail)
        assert (store.objects, report.trails[0].cosignatures) == (objects, 3)
        assert store.created[-3:] == list(cosignatures)
        assert copy(objects, store, trail).trails[0].created == 0

    def test_a_seal_that_the_listing_skipped_is_looked_for_again(self):
        trail, store = sample_trail(), Recording()

        class Racing(MemoryReader):
            def seals(self, origin: Origin) -> Iterator[int]:
                return iter([0, 1, 3, 4, 7])

        assert copy(Racing(trail.objects), store, trail).exit_code == 0
        assert store.objects == trail.objects


class TestKilled:
    @pytest.mark.parametrize("parallel", [1, 4])
    def test_at_any_create_the_trails_verify_and_a_second_run_completes_them(self, parallel):
        first, second = two_epochs()
        other = other_trail()
        trails, objects = (first, second, other), merged(first, second, other)
        for at in range(1, len(objects) + 1):
            store = Recording(parallel, killed_at=at)
            with pytest.raises(KilledError):
                copy(objects, store, *trails)
            assert len(store.objects) < len(objects)
            assert_a_beginning(store)
            if any(key.startswith("trails/") for key in store.objects):
                verification = verified(store, *trails)
                assert verification.severity.exit_code in (0, 11), verification.log.kept
                assert codes(verification) <= {"data_in_flight", "unclosed", "head_in_future"}
            again = copy(objects, store, *trails)
            assert (again.exit_code, store.objects) == (0, objects)
            assert sum(trail.present for trail in again.trails) > 0 or at <= parallel + 1
            assert verified(store, *trails).severity.exit_code == 0

    def test_cancelled_it_leaves_a_beginning(self):
        trail, store = sample_trail(), Recording(4)

        async def cut_short() -> None:
            reader, target = MemoryReader(trail.objects), target_of(store)
            task = asyncio.create_task(copy_store(reader, target, Options(), now=clock_of(trail)))
            while len(store.objects) < 4:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cut_short())
        assert len(store.objects) < OBJECTS
        assert_a_beginning(store)
        assert copy(trail.objects, store, trail).exit_code == 0
        assert store.objects == trail.objects


def alter_data(trail: TrailFactory, objects: dict[str, bytes]) -> None:
    key = data_of(trail, 3)
    objects[key] = objects[key][:-1] + b"!"


def alter_seal(trail: TrailFactory, objects: dict[str, bytes]) -> None:
    key = seal_key(trail.origin, 3)
    objects[key] = objects[key].replace(b'"count":', b'"Count":')


def remove_seal(trail: TrailFactory, objects: dict[str, bytes]) -> None:
    del objects[seal_key(trail.origin, 3)]


def remove_data(trail: TrailFactory, objects: dict[str, bytes]) -> None:
    del objects[data_of(trail, 3)]


class TestTheSourceIsDamaged:
    @pytest.mark.parametrize("damage", [alter_data, alter_seal, remove_seal, remove_data])
    @pytest.mark.parametrize("parallel", [1, 4])
    def test_that_trail_stops_before_the_damage_and_the_others_go_on(self, damage, parallel):
        trail, other, store = sample_trail(), other_trail(), Recording(parallel)
        objects = merged(trail, other)
        damage(trail, objects)
        report = copy(objects, store, trail, other)
        stopped, whole = sorted(report.trails, key=lambda copied: copied.stop is None)
        assert (report.exit_code, report.complete) == (10, False)
        assert stopped.stop is not None
        assert (stopped.origin, stopped.batches, stopped.stop.batch, stopped.stop.cause) == (trail.origin, 3, 3, Cause.DAMAGED)
        assert (whole.origin, whole.batches) == (other.origin, 8)
        assert seal_key(trail.origin, 2) in store.objects
        assert {key for key in store.objects if key.startswith("trails/") and parse_seal_key(key)[1] > 2} == {
            seal_key(other.origin, batch) for batch in range(3, 8)
        }
        assert {key: raw for key, raw in store.objects.items() if key in other.objects} == other.objects
        assert all(store.objects[key] == merged(trail, other)[key] for key in store.objects)

    def test_cosignatures_are_copied_of_what_was_copied(self):
        trail, store = sample_trail(), Recording()
        objects = trail.objects | {seal_key(trail.origin, batch).replace(".seal", ".cosig.0a1b2c3d"): b"signed" for batch in (2, 3)}
        alter_seal(trail, objects)
        assert copy(objects, store, trail).exit_code == 10
        assert [key for key in store.objects if ".cosig." in key] == [seal_key(trail.origin, 2).replace(".seal", ".cosig.0a1b2c3d")]

    def test_what_the_target_has_of_it_is_left_alone(self):
        trail, store = sample_trail(), Recording()
        copy(trail.objects, store, trail)
        objects = dict(trail.objects)
        alter_seal(trail, objects)
        assert copy(objects, store, trail).exit_code == 10
        assert store.objects == trail.objects

    def test_a_later_epoch_goes_on_and_no_link_is_wrongly_accused(self):
        first, second = two_epochs()
        objects, store = merged(first, second), Recording()
        del objects[seal_key(first.origin, 1)]
        report = copy(objects, store, first, second)
        assert [trail.batches for trail in report.trails] == [1, 4]
        # The data of the seal that was removed has none, which is so.
        assert {finding.code.value for finding in report.log.kept} == {"seal_missing", "data_unsealed"}
        assert codes(verified(store, first, second)) == {"tail_missing"}

    def test_a_wrong_link_is_reported(self):
        first = TrailFactory(seed=b"first")
        first.close()
        wrong = Continues(str(first.origin), first.frontier.size, "00" * 32, ContinuesWhy.REOPENED)
        second = TrailFactory(seed=b"second", start=first.now, continues=wrong)
        second.stop()
        report = copy(merged(first, second), Recording(), first, second)
        assert (report.exit_code, [finding.code.value for finding in report.log.kept]) == (10, ["link_wrong"])

    def test_what_cannot_be_read_ends_the_trail_and_is_not_verified(self):
        trail, other, store = sample_trail(), other_trail(), Recording()

        class Forbidding(MemoryReader):
            def read(self, key: str, limit_bytes: int) -> bytes | None:
                if key == seal_key(trail.origin, 2):
                    raise NotVerifiedError("cannot read it")
                return super().read(key, limit_bytes)

        report = copy(Forbidding(merged(trail, other)), store, trail, other)
        stopped = next(copied for copied in report.trails if copied.stop)
        assert stopped.stop is not None
        assert (report.exit_code, stopped.batches, stopped.stop.cause) == (12, 2, Cause.NOT_VERIFIED)
        assert stopped.stop.why == "object_unreadable: cannot read it"
        assert set(other.objects) < set(store.objects)

    @pytest.mark.parametrize("error", [NotVerifiedError("cannot list it"), ZeroDivisionError("a defect")])
    def test_a_listing_that_fails_ends_the_trail_and_is_not_verified(self, error):
        trail, store = sample_trail(), Recording()

        class Breaking(MemoryReader):
            def seals(self, origin: Origin) -> Iterator[int]:
                yield from (0, 1, 2)
                raise error

        report = copy(Breaking(trail.objects), store, trail)
        [copied] = report.trails
        assert copied.stop is not None
        assert (report.exit_code, copied.batches, copied.stop.batch, copied.stop.cause) == (12, 3, 3, Cause.NOT_VERIFIED)

    def test_trails_found_before_the_listing_failed_are_copied(self):
        trail, store = sample_trail(), Recording()

        class Breaking(MemoryReader):
            def origins(self) -> Iterator[Origin]:
                yield trail.origin
                raise NotVerifiedError("cannot list the rest")

        report = copy(Breaking(trail.objects), store, trail)
        assert (report.exit_code, report.complete, store.objects) == (12, False, trail.objects)

    def test_an_empty_source_is_not_verified_and_the_target_is_not_touched(self):
        store = Failing(TransientError("nobody should ask"))
        report = copy({}, store, TrailFactory())
        assert (report.exit_code, store.attempts, report.trails) == (12, 0, ())
        assert report.log.kept[0].code.value == "store_empty"


class TestTrust:
    def test_without_a_trust_file_everything_in_order_is_copied_and_nothing_vouched_for(self):
        trail, store = sample_trail(), Recording()
        report = copy(trail.objects, store, trail)
        assert (report.exit_code, report.trails[0].trusted_by, str(report.trails[0].key)) == (0, None, trail.vkey)
        assert store.objects == trail.objects

    def test_what_a_trust_file_does_not_vouch_for_is_not_copied(self):
        trail, other, store = sample_trail(), other_trail(), Recording()
        report = copy(merged(trail, other), store, trail, other, trust=trust_of(trail))
        assert (report.exit_code, report.complete, store.objects) == (12, False, trail.objects)
        stop = next(copied.stop for copied in report.trails if copied.origin == other.origin)
        assert stop is not None
        assert (stop.batch, stop.cause) == (0, Cause.NOT_VERIFIED)
        assert stop.why.startswith("key_unknown: the trust file does not vouch for the key demo/orders/")
