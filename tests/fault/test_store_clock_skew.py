"""A store that refuses because the clocks differ is asked again with the same bytes, and its own words are told to everybody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.errors import TransientError
from agent.sealer import Sealer
from agent.shipper import Shipper
from agent.spool import Spool
from agent.stores import MemoryStore
from agent.vitals.clock import ManualClock
from tests.support.batches import IDENTITY, POLICY, Noted, append_of

if TYPE_CHECKING:
    from pathlib import Path

    from agent.shipper import ForkFoundError

SKEWED = "RequestTimeTooSkewed: the difference between the request time and the store's time is too large"


class SkewedStore(MemoryStore):
    """Refuse as an object store does whose clock is another, so many times."""

    def __init__(self, times: int) -> None:
        """Begin to refuse."""
        super().__init__("bucket")
        self.left = times
        self.asked: list[tuple[str, bytes]] = []

    async def create(self, key: str, data: bytes) -> bool:
        """Refuse, or create."""
        self.asked.append((key, data))
        if self.left:
            self.left -= 1
            raise TransientError(SKEWED, hint="Set the clock (NTP).")
        return await super().create(key, data)


async def test_a_store_that_calls_the_clock_wrong_is_asked_again_with_the_same_bytes_and_quoted(tmp_path: Path) -> None:
    store, noted, clock = SkewedStore(3), Noted(), ManualClock(datetime(2026, 1, 8, 14, 33, tzinfo=UTC))
    spool = Spool(tmp_path, 1 << 26)
    await spool.open()
    sealer = Sealer(spool, IDENTITY, POLICY, clock)
    await sealer.begin()

    async def no_fork(fork: ForkFoundError) -> None:
        raise fork

    shipper = Shipper(spool, [store], [], clock, noted, sealer.abandoned.__contains__, no_fork)
    tasks = [asyncio.create_task(part.run()) for part in (spool, sealer, shipper)]
    try:
        await (await spool.submit(append_of(0, 10)))
        await sealer.finish(close=False)
        async with asyncio.timeout(30):
            await shipper.drained()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await spool.close()
    assert len(set(store.asked[:4])) == 1
    assert noted.outcomes.count(("bucket", "transient")) == 3
    assert [why for _, why in noted.troubles] == [SKEWED, SKEWED, SKEWED, None]
    assert noted.confirmations
    assert noted.forks == []
