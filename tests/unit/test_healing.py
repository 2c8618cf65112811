"""An optional store that was away gets what it missed before anything newer, from a store that has it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from agent.errors import DamagedStateError, FormatError, TransientError
from agent.healing import _may_pass
from agent.stores import MemoryStore
from agent.trail.layout import Origin, seal_key
from agent.trail.manifest import ContinuesWhy
from tests.support.batches import FlakyStore, append_of
from tests.support.writing_side import Rig, event_ids, rig, seals

if TYPE_CHECKING:
    from pathlib import Path

    from agent.intake import Append

SMALL = 1 << 20


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once, or nearly so: nobody waits for a store that answers by now."""
    monkeypatch.setattr("agent.placing.LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr("agent.healing.LONGEST_WAIT_SECONDS", 0.05)


async def spool(r: Rig, append: Append) -> int:
    """Make an append durable; return where the next one begins."""
    await (await r.spool.submit(append))
    return append.progress[0].to_offset or 0


async def fill(r: Rig, steps: int, *, offset: int = 0, first: int = 0) -> int:
    """Spool more than half of a small spool holds, so that batches leave without the optional store."""
    for step in range(steps):
        append = append_of((first + step) * 100, 100, offset=offset, padding=600)
        await r.spool.submit(append)
        offset = append.progress[0].to_offset or 0
    return offset


async def until_shipped(r: Rig) -> None:
    """Wait until what is spooled is sealed and in the required stores; sealing goes on."""
    async with asyncio.timeout(20):
        while await r.spool.read(lambda db: db.blocks_after(None, 1)):
            await asyncio.sleep(0.02)
        await r.shipper.drained()


async def fork(r: Rig, store: MemoryStore, append: Append) -> int:
    """Let another writer under the same name be faster, so that a new epoch begins; return where the next append begins."""
    forked = r.sealer.head.origin
    intruder = seal_key(Origin.parse(forked), r.sealer.head.batch + 1)
    store.objects[intruder] = b"somebody else's seal"
    offset = await spool(r, append)
    async with asyncio.timeout(20):
        while r.sealer.head.origin == forked:
            await asyncio.sleep(0.01)
    await until_shipped(r)
    del store.objects[intruder]
    return offset


async def until_same(one: MemoryStore, other: MemoryStore) -> None:
    async with asyncio.timeout(20):
        while one.objects != other.objects:
            await asyncio.sleep(0.02)


async def test_what_left_the_spool_without_it_is_copied_before_anything_newer(tmp_path: Path) -> None:
    main, spare = MemoryStore("main"), FlakyStore("spare")
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        offset = await spool(r, append_of(0, 1))
        await until_shipped(r)
        await until_same(spare, main)
        spare.down = True
        await fill(r, 60, offset=offset, first=1)
        await r.end()
        assert len(main.objects) > len(spare.objects) + 20
        spare.down = False
        await until_same(spare, main)
    placed = [key for key in spare.created if key.endswith(".seal")]
    assert placed == sorted(placed)
    for seal in next(iter(seals(spare).values())):
        if seal.manifest.data is not None:
            origin = Origin.parse(seal.checkpoint().origin)
            assert spare.created.index(seal.manifest.data.key) < spare.created.index(seal_key(origin, seal.manifest.batch))


async def test_a_store_that_never_had_anything_gets_the_trail_from_its_beginning(tmp_path: Path) -> None:
    main, new = MemoryStore("main"), FlakyStore("new")
    async with rig(tmp_path / "s", [main]) as r:
        await (await r.spool.submit(append_of(0, 3)))
        await r.end()
    async with rig(tmp_path / "s", [main], [new]) as r:
        await (await r.spool.submit(append_of(3, 3, offset=10_000)))
        await r.end()
        await until_same(new, main)


async def test_a_restart_in_the_midst_of_healing_ends_in_the_same_store(tmp_path: Path) -> None:
    main, spare = MemoryStore("main"), FlakyStore("spare")
    spare.down = True
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        await fill(r, 60)
        await r.end()
        missing = len(main.objects)
        spare.down = False
        async with asyncio.timeout(20):
            while len(spare.created) < 5:
                await asyncio.sleep(0)
    assert 5 <= len(spare.objects) < missing
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        await r.end()
        await until_same(spare, main)
    ((_, trail),) = seals(spare).items()
    assert len(event_ids(spare, trail)) == 6000


async def test_the_way_so_far_is_remembered_so_that_a_restart_does_not_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.healing.NOTED_EVERY", 1)
    main, spare = MemoryStore("main"), FlakyStore("spare")
    spare.down = True
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        await fill(r, 60)
        await r.end()
        spare.down = False
        await until_same(spare, main)
    spare.created.clear()
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        await r.end()
        known = await r.spool.confirmed("spare")
        assert known is not None
        assert known.number >= len(seals(main)[known.origin]) - 3


async def test_a_hole_over_several_epochs_is_filled_along_their_links(tmp_path: Path) -> None:
    main, spare = FlakyStore("main"), FlakyStore("spare")
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        offset = await spool(r, append_of(0, 2))
        await until_shipped(r)
        await until_same(spare, main)
        spare.down = True
        for turn in range(2):
            offset = await fork(r, main, append_of(10 + turn * 2, 2, offset=offset))
        await fill(r, 60, offset=offset, first=1)
        await r.end()
        spare.down = False
        async with asyncio.timeout(20):
            while {name: len(found) for name, found in seals(spare).items()} != {name: len(found) for name, found in seals(main).items()}:
                await asyncio.sleep(0.05)
    trails = seals(spare)
    assert len(trails) == 3
    links = [found[0].manifest.continues for found in trails.values()]
    assert [getattr(link, "why", None) for link in links].count(ContinuesWhy.FORK) == 2
    for origin, found in seals(main).items():
        assert [seal.raw for seal in trails[origin]] == [seal.raw for seal in found]


async def test_a_batch_that_is_not_what_its_seal_says_is_not_copied(tmp_path: Path) -> None:
    main, spare = MemoryStore("main"), FlakyStore("spare")
    spare.down = True
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        await fill(r, 60)
        await r.end()
        ((origin, trail),) = seals(main).items()
        broken = next(seal for seal in trail if seal.manifest.data is not None)
        assert broken.manifest.data is not None
        kept = main.objects[broken.manifest.data.key]
        main.objects[broken.manifest.data.key] = kept[:-1] + bytes([kept[-1] ^ 1])
        spare.down = False
        await asyncio.sleep(0.5)
        assert seal_key(Origin.parse(origin), broken.manifest.batch) not in spare.objects
        assert broken.manifest.data.key not in spare.objects
        main.objects[broken.manifest.data.key] = kept
        await until_same(spare, main)


class Unmounted(FlakyStore):
    """Say of everything that it is not there, as a directory does whose disk is not mounted."""

    gone = False
    reads = 0

    async def read(self, key: str) -> bytes | None:
        """Read, or find nothing."""
        self.reads += self.gone
        return None if self.gone else await super().read(key)


async def test_a_required_store_that_is_not_the_one_it_was_is_not_believed_that_an_epoch_is_gone(tmp_path: Path) -> None:
    main, spare = Unmounted("main"), FlakyStore("spare")
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        offset = await spool(r, append_of(0, 1))
        await until_shipped(r)
        await until_same(spare, main)
        spare.down = True
        for turn in range(2):
            offset = await fork(r, main, append_of(9000 + turn * 2, 2, offset=offset))
            offset = await fill(r, 50, offset=offset, first=turn * 50 + 1)
            await until_shipped(r)
    main.gone, spare.down = True, False
    async with rig(tmp_path / "s", [main], [spare]) as r:
        async with asyncio.timeout(10):
            while main.reads < 20:
                await asyncio.sleep(0.02)
        assert any("it lacks batches" in str(why) for store, why in r.noted.troubles if store == "spare")
        main.gone = False
        await r.end()
        async with asyncio.timeout(20):
            while seal_counts(spare) != seal_counts(main):
                await asyncio.sleep(0.05)
    assert len(seal_counts(main)) == 3


def seal_counts(store: MemoryStore) -> dict[str, int]:
    """Return how many seals of each trail a store has, whatever is missing."""
    return Counter(key.rpartition("/")[0] for key in store.objects if key.endswith(".seal"))


async def test_a_store_that_was_optional_and_is_required_now_gets_what_it_missed(tmp_path: Path) -> None:
    main, spare = FlakyStore("main"), FlakyStore("spare")
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        offset = await spool(r, append_of(0, 1))
        await until_shipped(r)
        await until_same(spare, main)
        spare.down = True
        await fill(r, 60, offset=offset, first=1)
        await r.end()
    spare.down = False
    async with rig(tmp_path / "s", [main, spare], max_bytes=SMALL) as r:
        await r.end()
    assert spare.objects == main.objects


async def test_waiting_for_another_store_is_no_standstill(tmp_path: Path) -> None:
    main, spare = Unmounted("main"), FlakyStore("spare")
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        offset = await spool(r, append_of(0, 1))
        await until_shipped(r)
        await until_same(spare, main)
        spare.down = True
        await fill(r, 60, offset=offset, first=1)
        await r.end()
    spare.down, main.gone = False, True
    async with rig(tmp_path / "s", [main, spare], max_bytes=SMALL) as r:
        await spool(r, append_of(9000, 2, offset=10_000_000))
        await r.sealer.finish(close=False)
        async with asyncio.timeout(20):
            while not any("it lacks batches" in str(why) for store, why in r.noted.troubles if store == "spare"):
                await asyncio.sleep(0.02)
            waiting, moved = r.shipper.work("spare")
            while r.shipper.work("spare")[1] == moved:
                await asyncio.sleep(0.02)
        assert waiting
        main.gone = False
        await r.end_of_shipping()
    assert spare.objects == main.objects


async def test_a_seal_that_its_successor_does_not_name_is_not_copied_nor_anything_after_it(tmp_path: Path) -> None:
    main, spare = MemoryStore("main"), FlakyStore("spare")
    spare.down = True
    async with rig(tmp_path / "s", [main], [spare], max_bytes=SMALL) as r:
        await fill(r, 60)
        await r.end()
        ((origin, _),) = seals(main).items()
        key = seal_key(Origin.parse(origin), 5)
        kept = main.objects[key]
        digit = kept.index(b'"monotonic_ns":') + len(b'"monotonic_ns":')
        main.objects[key] = kept[:digit] + b"9" + kept[digit + 1 :]
        spare.down = False
        async with asyncio.timeout(20):
            while not any("the next seal names" in str(why) for _, why in r.noted.troubles):
                await asyncio.sleep(0.02)
        assert key not in spare.objects
        assert seal_key(Origin.parse(origin), 4) in spare.objects
        main.objects[key] = kept
        await until_same(spare, main)


async def test_a_beginning_that_is_gone_everywhere_does_not_keep_a_new_store_empty(tmp_path: Path) -> None:
    main, new = MemoryStore("main"), FlakyStore("new")
    async with rig(tmp_path / "s", [main]) as r:
        await spool(r, append_of(0, 3))
        await r.end()
        del main.objects[seal_key(Origin.parse(r.sealer.head.origin), 0)]
    async with rig(tmp_path / "s", [main], [new]) as r:
        await spool(r, append_of(3, 3, offset=10_000))
        await r.end()
        async with asyncio.timeout(20):
            while seal_key(Origin.parse(r.sealer.head.origin), r.sealer.head.batch) not in new.objects:
                await asyncio.sleep(0.02)


async def test_a_damaged_state_is_not_taken_for_something_that_passes() -> None:
    assert not _may_pass(DamagedStateError("rotten"))
    assert _may_pass(FormatError("another store's seal"))
    assert _may_pass(TransientError("503"))


async def test_an_optional_store_gets_a_new_trail_while_no_required_store_answers(tmp_path: Path) -> None:
    main, spare = FlakyStore("main"), FlakyStore("spare")
    main.down = True
    async with rig(tmp_path / "s", [main], [spare]) as r:
        await (await r.spool.submit(append_of(0, 2)))
        await r.sealer.finish(close=False)
        async with asyncio.timeout(20):
            while len(seals(spare).get(r.sealer.head.origin, ())) < 2:
                await asyncio.sleep(0.02)
        assert not main.objects
        main.down = False
        await r.end()
    assert main.objects == spare.objects
