"""A fork with a backlog: everything unconfirmed goes to a new epoch batch by batch, whoever is killed in between."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.sealer import Sealer
from agent.shipper import ForkFoundError, Shipper
from agent.spool import Database, Spool
from agent.trail.layout import Origin, seal_key
from agent.trail.manifest import Continues, ContinuesWhy
from agent.trail.seal import parse_seal
from tests.support.batches import IDENTITY, POLICY, FlakyStore, Noted
from tests.support.spools import CLOCK, event_numbers, fill, opened, sealed_numbers, shipped, waiting_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.stores import MemoryStore


@asynccontextmanager
async def shipping(state: Path, store: MemoryStore) -> AsyncIterator[Sealer]:
    """Run sealer and shipper until everything is shipped."""
    async with opened(state) as (spool, sealer):

        async def on_fork(fork: ForkFoundError) -> None:
            await sealer.fork(fork.queued.batch.origin, await spool.confirmed(fork.store), [store.id])

        shipper = Shipper(spool, [store], [], CLOCK, Noted(), sealer.abandoned.__contains__, on_fork)
        tasks = [asyncio.create_task(part.run()) for part in (spool, sealer, shipper)]
        yield sealer
        await sealer.finish(close=False)
        async with asyncio.timeout(30):
            await shipper.drained()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_fork_killed_between_any_two_batches_loses_and_doubles_nothing(tmp_path: Path) -> None:
    batches, blocks = 5, 2
    for steps in range(batches + 4):
        state = tmp_path / f"after-{steps}"
        origin = await fill(state, batches=batches, blocks=blocks)
        spool = Spool(state, 1 << 26)
        await spool.open()
        sealer = Sealer(spool, IDENTITY, POLICY, CLOCK)
        await sealer._open_epoch(Continues(origin, 0, "0" * 64, ContinuesWhy.FORK), give_up=[origin], required=["main"])
        done = [await spool.read(Database.requeue_last) for _ in range(steps)]
        await spool.close()  # As good as a kill: whatever was done is one transaction each.
        store = FlakyStore("main")
        async with opened(state) as (spool, sealer):
            assert {one for one, _ in await shipped(spool)} == {sealer.head.origin}, done
            assert event_numbers(await waiting_lines(spool)) == list(range(2 * (batches + blocks))), done
            assert await spool.read(Database.given_up) == []
        async with shipping(state, store):
            pass
        assert sealed_numbers(store) == list(range(2 * (batches + blocks)))


async def test_a_fork_with_a_large_backlog_holds_one_batch_in_memory(tmp_path: Path) -> None:
    batches, per_batch, padding = 24, 256, 4096
    origin = await fill(tmp_path, batches=batches, blocks=0, per_block=per_batch, padding=padding)
    async with opened(tmp_path) as (_, sealer):
        tracemalloc.start()
        await sealer.fork(origin, None, ["main"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < batches * per_batch * padding / 3, peak
    async with opened(tmp_path) as (spool, _):
        assert event_numbers(await waiting_lines(spool)) == list(range(batches * per_batch))


@pytest.mark.parametrize("confirmed", [0, 2])
async def test_a_fork_of_an_earlier_epoch_takes_the_later_ones_with_it_unless_a_store_has_them(tmp_path: Path, confirmed: int) -> None:
    store = FlakyStore("main")
    old = await fill(tmp_path, batches=4, blocks=0)
    async with opened(tmp_path) as (spool, sealer):
        await sealer.finish(close=True)
        for number in range(confirmed):
            queued = await spool.next_batch(number)
            assert queued is not None
            await spool.receipt(queued, "main", "2026-01-08T14:40:00Z", ["main"], [])
            store.objects[queued.batch.seal_key] = queued.batch.seal
            if queued.batch.data_key is not None and queued.batch.data is not None:
                store.objects[queued.batch.data_key] = queued.batch.data
    # Another writer was faster with the next batch.
    store.objects[seal_key(Origin.parse(old), confirmed)] = b"somebody else's seal"
    async with shipping(tmp_path, store) as sealer:
        middle = sealer.head.origin
        assert middle != old
        async with asyncio.timeout(20):
            while sealer.head.origin == middle:
                await asyncio.sleep(0.01)
    # The epoch in between claimed to continue a head that no store will ever have; it never came to be.
    assert not [key for key in store.objects if key.startswith(f"trails/{middle}/")]
    opening = parse_seal(store.objects[seal_key(Origin.parse(sealer.head.origin), 0)])
    link = opening.manifest.continues
    assert isinstance(link, Continues)
    assert (link.why, link.origin) == (ContinuesWhy.FORK, old)
    del store.objects[seal_key(Origin.parse(old), confirmed)]
    newest = parse_seal(store.objects[seal_key(Origin.parse(old), confirmed - 1)]) if confirmed else None
    assert link.size == (newest.manifest.seq + 1 if newest else 0)
    assert sealed_numbers(store) == list(range(8))
