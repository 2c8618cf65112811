"""A long outage with a small spool: heartbeats leave the room that gap records and the next cut need."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from agent.intake import Append
from agent.sealer import Sealer
from agent.spool import Spool
from agent.spool.commits import RESERVE
from agent.trail.manifest import ManifestReason
from agent.trail.records import Certainty, GapCause, gap_body
from tests.support.batches import IDENTITY, OBSERVED, POLICY, append_of
from tests.support.spools import CLOCK, shipped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from agent.spool import NewBatch

MAX_BYTES = 256 << 10
FAST = msgspec.structs.replace(POLICY, heartbeat_seconds=0.002, max_age_seconds=0.001)


@asynccontextmanager
async def sealing(state: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Spool, list[NewBatch]]]:
    """Run a spool and a sealer without a store."""
    monkeypatch.setattr("agent.sealer.CROWDED_SECONDS", 0.002)
    monkeypatch.setattr("agent.sealer.READ_DELAY_SECONDS", 0.0)
    sealed: list[NewBatch] = []
    spool = Spool(state, MAX_BYTES)
    await spool.open()
    sealer = Sealer(spool, IDENTITY, FAST, CLOCK, on_sealed=sealed.append)
    await sealer.begin()
    tasks = [asyncio.create_task(spool.run()), asyncio.create_task(sealer.run())]
    try:
        async with asyncio.timeout(50):
            yield spool, sealed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await spool.close()


async def until_crowded(spool: Spool) -> None:
    while not spool.is_crowded:
        await asyncio.sleep(0.005)


def gap() -> Append:
    body = gap_body("app", OBSERVED, GapCause.TRUNCATED, Certainty.KNOWN, 0, 10, "cut off")
    return Append(bodies=body + b"\n", records=1, gaps=1, bytes_lost=10, observed_at=OBSERVED)


async def test_heartbeats_stop_short_of_the_bound_and_a_gap_record_still_finds_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sealing(tmp_path, monkeypatch) as (spool, sealed):
        await until_crowded(spool)
        await asyncio.sleep(0.2)
        before = len(sealed)
        await asyncio.sleep(0.3)
        assert len(sealed) == before, "a hundred heartbeats were due"
        assert spool.held_bytes < MAX_BYTES - MAX_BYTES // (4 * RESERVE)
        await (await spool.submit(gap()))
        while len(sealed) == before:
            await asyncio.sleep(0.005)
        assert [(batch.reason, batch.records) for batch in sealed[before:]] == [(ManifestReason.AGE, 1)]
        assert spool.held_bytes < MAX_BYTES


async def test_heartbeats_go_on_as_soon_as_a_store_takes_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sealing(tmp_path, monkeypatch) as (spool, sealed):
        await until_crowded(spool)
        await asyncio.sleep(0.2)
        before = len(sealed)
        while (queued := await spool.next_batch(0)) is not None and len(sealed) < before + 3:
            await spool.receipt(queued, "main", OBSERVED, ["main"], [])
        while len(sealed) < before + 3:
            await asyncio.sleep(0.005)
        assert {batch.reason for batch in sealed[before:]} == {ManifestReason.HEARTBEAT}
        numbers = [batch.number for batch in sealed]
        assert numbers == list(range(len(numbers))), "what was put off leaves no hole"


async def test_records_alone_do_not_put_a_heartbeat_off(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MAX_BYTES)
    await spool.open()
    committing = asyncio.create_task(spool.run())
    await (await spool.submit(append_of(0, 1, padding=100_000)))
    await spool.resize(1000)
    assert (spool.is_crowded, await shipped(spool)) == (False, []), "what is not sealed waits for the sealer and for no store"
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    await spool.close()
