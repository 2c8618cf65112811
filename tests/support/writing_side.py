"""The writing side in one process: a real spool, sealer and shipper over stores that a test can see into."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.sealer import Sealer, SealPolicy
from agent.shipper import ForkFoundError, Shipper
from agent.spool import Spool
from agent.trail.batch import read_data
from agent.trail.layout import parse_seal_key
from agent.trail.note import VerifierKey
from agent.trail.seal import Seal, open_seal, parse_seal
from agent.vitals.clock import ManualClock
from tests.support.batches import IDENTITY, POLICY, Noted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.sealer import Identity
    from agent.stores import MemoryStore


@dataclass
class Rig:
    """A running writing side."""

    spool: Spool
    sealer: Sealer
    shipper: Shipper
    noted: Noted

    async def end(self, *, close: bool = False) -> None:
        """Flush, seal and ship everything."""
        await self.spool.flush()
        await self.sealer.finish(close=close)
        await self.end_of_shipping()

    async def end_of_shipping(self) -> None:
        """Ship everything that is sealed."""
        async with asyncio.timeout(20):
            await self.shipper.drained()


@asynccontextmanager
async def rig(
    state: Path,
    required: Sequence[MemoryStore],
    optional: Sequence[MemoryStore] = (),
    max_bytes: int = 1 << 26,
    identity: Identity = IDENTITY,
    policy: SealPolicy = POLICY,
) -> AsyncIterator[Rig]:
    state.mkdir(exist_ok=True)
    noted = Noted()
    clock = ManualClock(datetime(2026, 1, 8, 14, 33, tzinfo=UTC))
    spool = Spool(state, max_bytes)
    await spool.open()
    sealer = Sealer(spool, identity, policy, clock)
    await sealer.begin()
    required_ids = [store.id for store in required]

    async def on_fork(fork: ForkFoundError) -> None:
        noted.forks.append(fork)
        await sealer.fork(fork.queued.batch.origin, await spool.confirmed(fork.store), required_ids)

    shipper = Shipper(spool, required, optional, clock, noted, sealer.abandoned.__contains__, on_fork)
    tasks = [asyncio.create_task(part.run()) for part in (spool, sealer, shipper)]
    try:
        yield Rig(spool, sealer, shipper, noted)
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await spool.close()


def seals(store: MemoryStore) -> dict[str, list[Seal]]:
    """Return the store's seals by origin, in batch order, each checked against the epoch's own key."""
    trails: dict[str, list[Seal]] = {}
    for key in sorted(k for k in store.objects if k.endswith(".seal")):
        origin, _ = parse_seal_key(key)
        trails.setdefault(str(origin), []).append(parse_seal(store.objects[key]))
    for name, found in trails.items():
        own_key = found[0].manifest.key
        assert isinstance(own_key, str)
        for number, seal in enumerate(found):
            assert seal.manifest.batch == number
            _, verified = open_seal(seal, name, [VerifierKey.parse(own_key)])
            assert verified
            assert seal.manifest.previous == (None if number == 0 else found[number - 1].sha256)
    return trails


def event_ids(store: MemoryStore, trail: Sequence[Seal]) -> list[str]:
    """Return the event ids of a trail in order."""
    found = []
    for seal in trail:
        if seal.manifest.data is not None:
            lines = read_data(store.objects[seal.manifest.data.key], seal.manifest.data.raw_bytes)
            found += [line.split(b'"event_id":"')[1][:8].decode() for line in lines]
    return found
