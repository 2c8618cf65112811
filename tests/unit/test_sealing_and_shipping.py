"""From spooled records to confirmed batches: order, retries, forks; with a real spool and stores in memory."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.spool import Spool
from agent.stores import MemoryStore
from agent.trail.layout import Origin, parse_seal_key, seal_key
from agent.trail.manifest import ContinuesWhy, ManifestReason
from tests.support.batches import IDENTITY, POLICY, FlakyStore, append_of, quiet
from tests.support.writing_side import event_ids, rig, seals

if TYPE_CHECKING:
    from pathlib import Path

    from agent.vitals.standing import Standing


async def test_every_record_is_sealed_once_in_order_and_the_spool_is_empty_afterwards(tmp_path: Path) -> None:
    store = MemoryStore()
    async with rig(tmp_path / "s", [store]) as r:
        offset = 0
        for step in range(40):
            append = append_of(step * 50, 50, offset=offset)
            await r.spool.submit(append)
            offset = append.progress[0].to_offset or 0
        await r.end()
        assert (r.spool.held_bytes, r.spool.held_records, r.spool.waiting_batches) == (0, 0, 0)
    ((_, trail),) = seals(store).items()
    assert event_ids(store, trail) == [f"e-{n:06d}" for n in range(2000)]
    assert [trail[0].manifest.reason, trail[-1].manifest.reason] == [ManifestReason.OPEN, ManifestReason.STOP]
    assert any(seal.manifest.reason == ManifestReason.SIZE for seal in trail)
    assert trail[-1].manifest.totals.events == 2000
    ranges = [s for seal in trail for s in seal.manifest.sources]
    assert all(a.to_offset == b.from_offset for a, b in pairwise(ranges))


async def test_a_restart_resumes_the_epoch_and_says_whether_the_end_was_clean(tmp_path: Path) -> None:
    store = MemoryStore()
    async with rig(tmp_path / "s", [store]) as r:
        await (await r.spool.submit(append_of(0, 3)))
    async with rig(tmp_path / "s", [store]) as r:
        await r.end()
    async with rig(tmp_path / "s", [store]) as r:
        await r.end(close=True)
    ((_, trail),) = seals(store).items()
    resumed = [seal.manifest for seal in trail if seal.manifest.reason == ManifestReason.RESUME]
    assert [manifest.unclean for manifest in resumed] == [True, False]
    assert event_ids(store, trail) == ["e-000000", "e-000001", "e-000002"]
    assert trail[-1].manifest.reason == ManifestReason.CLOSE


async def test_after_close_a_new_epoch_continues_the_old_one(tmp_path: Path) -> None:
    store = MemoryStore()
    async with rig(tmp_path / "s", [store]) as r:
        await r.end(close=True)
    async with rig(tmp_path / "s", [store]) as r:
        await r.end()
    old, new = sorted(seals(store).values(), key=lambda trail: trail[0].manifest.continues is not None)
    link = new[0].manifest.continues
    assert link is not None
    assert link.why == ContinuesWhy.REOPENED  # type: ignore[union-attr]
    last = old[-1].checkpoint()
    assert (link.origin, link.size, link.root) == (last.origin, last.size, last.root.hex())  # type: ignore[union-attr]


@pytest.mark.parametrize("clean", [True, False])
async def test_under_another_name_the_old_trail_is_closed_and_the_new_one_continues_it(tmp_path: Path, *, clean: bool) -> None:
    store = MemoryStore()
    async with rig(tmp_path / "s", [store]) as r:
        if clean:
            await r.end()
        await (await r.spool.submit(append_of(0, 3)))
    renamed = msgspec.structs.replace(IDENTITY, instance="another-name")
    async with rig(tmp_path / "s", [store], identity=renamed) as r:
        await (await r.spool.submit(append_of(3, 2)))
        await r.end()
    old, new = sorted(seals(store).values(), key=lambda trail: trail[0].manifest.continues is not None)
    assert [seal.manifest.reason.value for seal in old] == ["open", *(["stop"] if clean else []), "resume", "age", "close"]
    last, link = old[-1].checkpoint(), new[0].manifest.continues
    assert (link.origin, link.size, link.root) == (last.origin, last.size, last.root.hex())  # type: ignore[union-attr]
    assert new[0].checkpoint().origin.endswith("/another-name")
    assert event_ids(store, old) + event_ids(store, new) == [f"e-{number:06d}" for number in range(5)]


async def test_a_refusing_store_is_retried_with_the_same_bytes_and_a_lost_reply_is_recognised(tmp_path: Path) -> None:
    store = FlakyStore()
    store.refuse, store.lose_replies = 2, 1
    async with rig(tmp_path / "s", [store]) as r:
        await r.spool.submit(append_of(0, 2))
        await r.end()
        outcomes = [outcome for _, outcome in r.noted.outcomes]
        assert outcomes.count("present") == 1
        assert outcomes.count("transient") == 3
        assert r.noted.troubles[0] == ("flaky", "503 Slow Down")
        assert r.noted.troubles[-1] == ("flaky", None)
    ((_, trail),) = seals(store).items()
    assert event_ids(store, trail) == ["e-000000", "e-000001"]


async def test_a_seal_is_never_created_before_its_data_or_its_predecessor(tmp_path: Path) -> None:
    store = FlakyStore()
    async with rig(tmp_path / "s", [store]) as r:
        for step in range(5):
            await (await r.spool.submit(append_of(step, 1, offset=0)))
            await r.sealer.finish(close=False)
        await r.end()
    ((_, trail),) = seals(store).items()
    order = {key: place for place, key in enumerate(store.created)}
    numbers = [parse_seal_key(key)[1] for key in store.created if key.endswith(".seal")]
    assert numbers == sorted(numbers)
    for seal in trail:
        if seal.manifest.data is not None:
            (key,) = (k for k in store.created if k.endswith(f"{seal.manifest.batch:012d}.seal"))
            assert order[seal.manifest.data.key] < order[key]


async def test_only_a_batch_confirmed_by_every_required_store_leaves_and_counts_as_heartbeat(tmp_path: Path) -> None:
    quick, slow = FlakyStore("quick"), FlakyStore("slow")
    slow.down = True
    async with rig(tmp_path / "s", [quick, slow]) as r:
        await r.spool.submit(append_of(0, 1))
        await r.spool.flush()
        await r.sealer.finish(close=False)
        async with asyncio.timeout(20):
            while len(r.noted.receipts) < 2:
                await asyncio.sleep(0.01)
        assert r.noted.confirmations == []
        assert r.spool.waiting_batches == 2
        slow.down = False
        async with asyncio.timeout(20):
            await r.shipper.drained()
            while len(r.noted.confirmations) < 2:
                await asyncio.sleep(0.01)
        assert r.noted.confirmations == [0, 1]
        assert r.spool.waiting_batches == 0
    assert quick.objects == slow.objects


async def test_other_bytes_under_our_key_open_a_new_epoch_and_nothing_unconfirmed_is_lost(tmp_path: Path) -> None:
    store = FlakyStore()
    async with rig(tmp_path / "s", [store]) as r:
        await r.spool.submit(append_of(0, 2))
        await r.end()
        forked, confirmed = r.sealer.head.origin, r.sealer.head.batch
        store.down = True
        append = append_of(2, 2, offset=r.spool.appended_bytes)
        await (await r.spool.submit(append))
        await r.sealer.finish(close=False)
        # Another writer under the same name was faster; a waiting block must stay behind the requeued ones.
        intruder = seal_key(Origin.parse(forked), confirmed + 1)
        assert intruder not in store.objects
        store.objects[intruder] = b"somebody else's seal"
        await (await r.spool.submit(append_of(4, 1, offset=append.progress[0].to_offset or 0)))
        store.down = False
        async with asyncio.timeout(20):
            while r.sealer.head.origin == forked:
                await asyncio.sleep(0.01)
        await r.end()
        assert r.sealer.head.origin != forked
        assert r.noted.forks[0].theirs == b"somebody else's seal"
    del store.objects[intruder]
    trails = seals(store)
    old = trails.pop(forked)
    ((_, new),) = trails.items()
    assert event_ids(store, old) == ["e-000000", "e-000001"]
    assert event_ids(store, new) == ["e-000002", "e-000003", "e-000004"]
    link = new[0].manifest.continues
    assert (link.why, link.origin, link.size) == (ContinuesWhy.FORK, forked, old[-1].manifest.seq + 1)  # type: ignore[union-attr]


async def test_a_full_spool_makes_submit_wait_until_the_store_has_taken_something(tmp_path: Path) -> None:
    store = FlakyStore()
    store.down = True
    said: list[str | None] = []
    async with rig(tmp_path / "s", [store], max_bytes=1 << 20) as r:
        r.spool._on_full = said.append
        offset = 0

        async def fill() -> None:
            nonlocal offset
            for step in range(60):
                append = append_of(step * 100, 100, offset=offset, padding=600)
                await r.spool.submit(append)
                offset = append.progress[0].to_offset or 0

        filling = asyncio.create_task(fill())
        async with asyncio.timeout(20):
            while not said:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert not filling.done()
        assert not r.spool.has_room(90_000)
        assert r.spool.held_bytes <= 1 << 20
        store.down = False
        async with asyncio.timeout(20):
            await filling
        await r.end()
        assert said[0] is not None
        assert said[-1] is None
    ((_, trail),) = seals(store).items()
    assert event_ids(store, trail) == [f"e-{n:06d}" for n in range(6000)]


async def test_an_optional_store_that_is_down_does_not_hold_batches_for_ever(tmp_path: Path) -> None:
    store, spare = MemoryStore("main"), FlakyStore("spare")
    spare.down = True
    async with rig(tmp_path / "s", [store], [spare], max_bytes=1 << 20) as r:
        offset = 0
        for step in range(80):
            append = append_of(step * 100, 100, offset=offset, padding=600)
            await r.spool.submit(append)
            offset = append.progress[0].to_offset or 0
        await r.end()
        assert r.spool.held_bytes <= 1 << 20
    ((_, trail),) = seals(store).items()
    assert len(event_ids(store, trail)) == 8000


async def test_silence_is_sealed_as_a_heartbeat_and_quiet_progress_rides_on_it(tmp_path: Path) -> None:
    store = MemoryStore()
    async with rig(tmp_path / "s", [store], policy=type(POLICY)(0.2, 65536, 0.3)) as r:
        await r.spool.submit(quiet(0, 1000))
        async with asyncio.timeout(20):
            while len(r.noted.confirmations) < 4:
                await asyncio.sleep(0.02)
        await r.end()
    ((_, trail),) = seals(store).items()
    beats = [seal.manifest for seal in trail if seal.manifest.reason == ManifestReason.HEARTBEAT]
    assert len(beats) >= 3
    assert all(manifest.data is None and manifest.records.count == 0 for manifest in beats)
    moved = [source for seal in trail for source in seal.manifest.sources]
    assert [(s.from_offset, s.to_offset, s.observability) for s in moved] == [(0, 1000, 3)]


async def test_flush_waits_for_a_commit_that_is_under_way(tmp_path: Path) -> None:
    async with rig(tmp_path / "s", [MemoryStore()]) as r:
        durable = await r.spool.submit(append_of(0, 1))
        # Let the committer take it out of the queue; it is on its way to the disk and not durable yet.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await r.spool.flush()
        assert asyncio.ensure_future(durable).done()
        assert r.spool.appended_bytes > 0


async def test_a_receipt_for_a_batch_that_was_given_up_changes_nothing(tmp_path: Path) -> None:
    store = FlakyStore()
    store.down = True
    async with rig(tmp_path / "s", [store]) as r:
        await (await r.spool.submit(append_of(0, 1)))
        await r.sealer.finish(close=False)
        late = await r.spool.next_batch(0)
        assert late is not None
        await r.sealer.fork(late.batch.origin, None, [store.id])
        held = r.spool.held_bytes
        await r.spool.receipt(late, store.id, "2026-01-08T14:33:00Z", [store.id], [])
        assert r.spool.held_bytes == held
        store.down = False
        await r.end()
        assert r.spool.held_bytes == 0
    trails = seals(store)
    assert [event_ids(store, trail) for trail in trails.values()] == [["e-000000"]]


async def test_nothing_follows_the_last_seal_of_a_run_however_long_the_stores_take(tmp_path: Path) -> None:
    store = MemoryStore()
    async with rig(tmp_path / "s", [store], policy=type(POLICY)(0.05, 65536, 0.05)) as r:
        await (await r.spool.submit(append_of(0, 2)))
        await r.end(close=True)
        await asyncio.sleep(0.4)
        await r.end_of_shipping()
    ((_, trail),) = seals(store).items()
    assert [seal.manifest.reason for seal in trail].count(ManifestReason.CLOSE) == 1
    assert trail[-1].manifest.reason == ManifestReason.CLOSE


async def test_a_fork_found_after_the_end_is_ended_in_the_new_epoch_as_well(tmp_path: Path) -> None:
    store = FlakyStore()
    store.down = True
    async with rig(tmp_path / "s", [store]) as r:
        forked = r.sealer.head.origin
        await (await r.spool.submit(append_of(0, 2)))
        await r.sealer.finish(close=True)
        intruder = seal_key(Origin.parse(forked), 1)
        store.objects[intruder] = b"somebody else's seal"
        store.down = False
        await r.end_of_shipping()
        assert r.noted.forks
        assert (r.spool.held_bytes, r.spool.held_records) == (0, 0)
    del store.objects[intruder]
    trails = seals(store)
    del trails[forked]
    ((_, new),) = trails.items()
    assert event_ids(store, new) == ["e-000000", "e-000001"]
    assert [seal.manifest.reason.value for seal in new] == ["open", "age", "close"]


async def test_records_a_crash_left_in_the_spool_are_sealed_at_their_age_and_not_at_the_next_heartbeat(tmp_path: Path) -> None:
    store = MemoryStore()
    spool = Spool(tmp_path, 1 << 26)
    await spool.open()
    await spool.read(lambda db: db.append([append_of(0, 2)]))
    await spool.close()
    async with rig(tmp_path, [store]) as r, asyncio.timeout(10):
        while r.spool.held_records:
            await asyncio.sleep(0.02)
    ((_, trail),) = seals(store).items()
    assert event_ids(store, trail) == ["e-000000", "e-000001"]
    assert trail[-1].manifest.reason == ManifestReason.AGE


async def test_records_put_back_behind_later_ones_get_a_batch_of_their_own(tmp_path: Path) -> None:
    one = append_of(0, 2)
    end = one.progress[0].to_offset or 0
    two = append_of(2, 2, offset=end)
    three = append_of(4, 2, offset=two.progress[0].to_offset or 0)
    store = MemoryStore()
    spool = Spool(tmp_path, 1 << 26)
    await spool.open()
    await spool.read(lambda db: db.append([two]))
    await spool.read(lambda db: db.append([one]))
    await spool.read(lambda db: db.append([three]))
    await spool.close()
    async with rig(tmp_path, [store]) as r:
        await r.end()
    ((_, trail),) = seals(store).items()
    assert event_ids(store, trail) == [f"e-{n:06d}" for n in (2, 3, 0, 1, 4, 5)]


async def test_batches_that_waited_for_a_store_which_was_taken_out_leave_the_spool(tmp_path: Path) -> None:
    kept, removed = MemoryStore("kept"), FlakyStore("removed")
    removed.down = True
    async with rig(tmp_path / "s", [kept, removed]) as r:
        await (await r.spool.submit(append_of(0, 2)))
        await r.sealer.finish(close=False)
        async with asyncio.timeout(10):
            while len(r.noted.receipts) < 2:
                await asyncio.sleep(0.01)
        assert r.spool.waiting_batches == 2
    async with rig(tmp_path / "s", [kept]) as r:
        await r.end()
        assert (r.spool.waiting_batches, r.spool.held_bytes, r.spool.held_records) == (0, 0, 0)


async def test_a_store_that_lost_what_it_confirmed_gets_nothing_until_it_has_it_again(tmp_path: Path) -> None:
    store = FlakyStore()
    async with rig(tmp_path / "s", [store]) as r:
        await r.end()
    mounted, store.objects = store.objects, {}
    async with rig(tmp_path / "s", [store]) as r:
        await (await r.spool.submit(append_of(0, 2)))
        async with asyncio.timeout(10):
            while not r.noted.troubles:
                await asyncio.sleep(0.01)
        assert "no longer has it" in str(r.noted.troubles[0][1])
        assert (store.objects, r.noted.receipts) == ({}, [])
        store.objects = mounted
        await r.end()
    ((_, trail),) = seals(store).items()
    assert event_ids(store, trail) == ["e-000000", "e-000001"]


async def test_two_required_stores_of_which_one_comes_and_goes_end_up_the_same(tmp_path: Path) -> None:
    steady, flapping = MemoryStore("steady"), FlakyStore("flapping")
    async with rig(tmp_path / "s", [steady, flapping]) as r:
        offset = 0
        for step in range(30):
            flapping.down, flapping.lose_replies = step % 3 == 0, step % 2
            append = append_of(step * 20, 20, offset=offset, padding=4000)
            await (await r.spool.submit(append))
            offset = append.progress[0].to_offset or 0
        flapping.down, flapping.lose_replies = False, 0
        await r.end()
        assert (r.spool.held_bytes, r.spool.held_records, r.spool.waiting_batches) == (0, 0, 0)
    assert steady.objects == flapping.objects
    ((_, trail),) = seals(steady).items()
    assert event_ids(steady, trail) == [f"e-{n:06d}" for n in range(600)]


class SlowlyExamined(MemoryStore):
    """Take as long to be examined as a test wants."""

    def __init__(self, store_id: str) -> None:
        """Begin quick."""
        super().__init__(store_id)
        self.may = asyncio.Event()
        self.may.set()
        self.waits = False

    async def examine(self) -> Standing:
        """Wait until it may."""
        self.waits = not self.may.is_set()
        await self.may.wait()
        self.waits = False
        return await super().examine()


async def test_nothing_is_sealed_under_a_name_that_was_given_up_while_another_store_was_being_examined(tmp_path: Path) -> None:
    one, two = FlakyStore("one"), SlowlyExamined("two")
    async with rig(tmp_path / "s", [one, two]) as r:
        append = append_of(0, 2)
        await (await r.spool.submit(append))
        await r.spool.flush()
        async with asyncio.timeout(20):
            while len(r.noted.confirmations) < 2:
                await asyncio.sleep(0.01)
        origin = r.sealer.head.origin
        one.objects[seal_key(Origin.parse(origin), r.sealer.head.batch + 1)] = b"somebody else's seal"
        # `two` is looked at anew before its next seal, and that takes until `one` has found the fork.
        r.shipper._placers["two"]._recognised_until = 0.0
        two.may.clear()
        one.down = True
        await (await r.spool.submit(append_of(2, 2, offset=append.progress[0].to_offset or 0)))
        async with asyncio.timeout(20):
            while not two.waits:
                await asyncio.sleep(0.01)
            one.down = False
            while r.sealer.head.origin == origin:
                await asyncio.sleep(0.01)
        two.may.set()
        await r.end()
    found = [event_id for trail in seals(two).values() for event_id in event_ids(two, trail)]
    assert sorted(found) == [f"e-{number:06d}" for number in range(4)]


async def test_a_seal_on_its_way_arrives_and_has_its_receipt_before_its_trail_is_given_up(tmp_path: Path) -> None:
    one, two = FlakyStore("one"), MemoryStore("two")
    on_its_way, may_arrive = asyncio.Event(), asyncio.Event()
    create = two.create

    async def slowly(key: str, data: bytes) -> bool:
        if key.endswith("2.seal"):
            on_its_way.set()
            await may_arrive.wait()
        return await create(key, data)

    two.create = slowly  # type: ignore[method-assign]
    async with rig(tmp_path / "s", [one, two]) as r:
        append = append_of(0, 2)
        await (await r.spool.submit(append))
        async with asyncio.timeout(20):
            while len(r.noted.confirmations) < 2:
                await asyncio.sleep(0.01)
        origin = r.sealer.head.origin
        one.objects[seal_key(Origin.parse(origin), 2)] = b"somebody else's seal"
        one.down = True
        await (await r.spool.submit(append_of(2, 2, offset=append.progress[0].to_offset or 0)))
        async with asyncio.timeout(20):
            await on_its_way.wait()
        one.down = False
        await asyncio.sleep(0.3)
        assert r.sealer.head.origin == origin
        may_arrive.set()
        async with asyncio.timeout(20):
            while r.sealer.head.origin == origin:
                await asyncio.sleep(0.01)
        await r.end()
    # What `two` has confirmed is not given another name.
    found = [event_id for trail in seals(two).values() for event_id in event_ids(two, trail)]
    assert sorted(found) == [f"e-{number:06d}" for number in range(4)]
