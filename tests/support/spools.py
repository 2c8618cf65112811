"""Make spools with sealed batches and blocks in them, without an agent, for tests that damage or rebuild them."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from agent.sealer import Sealer
from agent.spool import Spool
from agent.spool.connection import DATABASE_FILE
from agent.trail.batch import read_data
from agent.trail.seal import parse_seal
from agent.vitals.clock import ManualClock
from tests.support.batches import IDENTITY, POLICY, append_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.stores import MemoryStore

CLOCK: Final = ManualClock(datetime(2026, 1, 8, 14, 33, tzinfo=UTC))


@asynccontextmanager
async def opened(state: Path) -> AsyncIterator[tuple[Spool, Sealer]]:
    """Open a spool and begin its trail; nothing runs by itself."""
    state.mkdir(exist_ok=True)
    spool = Spool(state, 1 << 26)
    await spool.open()
    try:
        sealer = Sealer(spool, IDENTITY, POLICY, CLOCK)
        await sealer.begin()
        yield spool, sealer
    finally:
        await spool.close()


async def fill(state: Path, *, batches: int, blocks: int, per_block: int = 2, padding: int = 0) -> str:
    """Seal batches of two events each, and leave blocks of two unsealed; return the trail's name.

    Each event's number is its place among all; nothing of it has been shipped.
    """
    async with opened(state) as (spool, sealer):
        offset = number = 0
        for step in range(batches + blocks):
            append = append_of(number, per_block, offset=offset, padding=padding)
            await spool.read(lambda db, append=append: db.append([append]))  # type: ignore[misc]
            number, offset = number + per_block, append.progress[0].to_offset or 0
            if step < batches:
                await sealer.finish(close=False)
        return sealer.head.origin


def change(state: Path, statement: str, *values: object) -> None:
    """Change the database behind the agent's back."""
    with closing(sqlite3.connect(state / DATABASE_FILE)) as db:
        db.execute(statement, values)
        db.commit()


async def shipped(spool: Spool) -> list[tuple[str, int]]:
    """Return (origin, number) of the batches that wait, in order."""
    found, last = [], 0
    while (queued := await spool.next_batch(last)) is not None:
        found.append((queued.batch.origin, queued.batch.number))
        last = queued.id
    return found


async def waiting_lines(spool: Spool) -> list[bytes]:
    """Return the record lines and bodies that the spool holds: of its batches, then of its blocks."""
    lines: list[bytes] = []
    last = 0
    while (queued := await spool.next_batch(last)) is not None:
        if queued.batch.data is not None:
            lines += read_data(queued.batch.data, 1 << 24)
        last = queued.id
    blocks = await spool.blocks_after(None, 1 << 30)
    return lines + [line for block in blocks for line in block.bodies.splitlines()]


def event_numbers(lines: list[bytes]) -> list[int]:
    """Return the numbers of the events among record lines or bodies."""
    return [int(line.split(b'"event_id":"e-')[1][:6]) for line in lines if b'"event_id"' in line]


def sealed_numbers(store: MemoryStore) -> list[int]:
    """Return the numbers of the events that the seals in a store name, sorted; what a fork left behind is not among them."""
    seals = [parse_seal(raw) for key, raw in store.objects.items() if key.endswith(".seal")]
    data = [store.objects[seal.manifest.data.key] for seal in seals if seal.manifest.data is not None]
    return sorted(number for raw in data for number in event_numbers(list(read_data(raw, 1 << 24))))
