"""What every intake says of a source's cursors: the unfinished ones, the finished ones, and nothing of other sources."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.errors import SpoolFullError
from agent.intake import Append, Cursor
from agent.spool import Database, Spool
from tests.support.batches import OBSERVED
from tests.support.memory_intake import MemoryIntake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.intake import Intake

OPEN = Cursor(source="app", file_id="01jh2k8q9r3wabcdefghjkmnp1", path="/var/log/app.log", inode=7, offset=10, size_seen=10)
DONE = Cursor(
    source="app", file_id="01jh2k8q9r3wabcdefghjkmnp2", path="/var/log/app.log.1", inode=8, offset=20, size_seen=20, finished=True
)
OTHER = Cursor(
    source="web", file_id="01jh2k8q9r3wabcdefghjkmnp3", path="/var/log/web.log.1", inode=9, offset=30, size_seen=30, finished=True
)


@asynccontextmanager
async def running(state: Path) -> AsyncIterator[Spool]:
    spool = Spool(state, 1 << 26)
    await spool.open()
    committing = asyncio.create_task(spool.run())
    try:
        yield spool
    finally:
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await spool.close()


async def take(intake: Intake, *cursors: Cursor) -> None:
    durable = await intake.submit(Append(observed_at=OBSERVED, cursors=cursors))
    await intake.flush()
    await durable


def told(intake: Intake, source: str) -> tuple[Sequence[Cursor], Sequence[Cursor]]:
    return intake.cursors(source), intake.finished(source)


async def check(intake: Intake) -> None:
    assert told(intake, "app") == ([OPEN], [DONE])
    assert told(intake, "web") == ([], [OTHER])
    assert told(intake, "nobody") == ([], [])


@pytest.mark.parametrize("kind", ["memory", "spool, opened again", "spool, asked to look again"])
async def test_an_intake_tells_finished_cursors_from_unfinished_ones(kind: str, tmp_path: Path) -> None:
    if kind == "memory":
        memory = MemoryIntake()
        await take(memory, OPEN, DONE, OTHER)
        await check(memory)
        return
    async with running(tmp_path) as spool:
        await take(spool, OPEN, DONE, OTHER)
        if kind.endswith("look again"):
            assert told(spool, "app") == ([], [])
            await spool.recall()
            await check(spool)
            return
    async with running(tmp_path) as spool:
        await check(spool)


async def test_a_cursor_that_is_finished_later_changes_sides(tmp_path: Path) -> None:
    async with running(tmp_path) as spool:
        await take(spool, OPEN)
        await spool.recall()
        assert told(spool, "app") == ([OPEN], [])
        await take(spool, DONE, Cursor(source="app", file_id=OPEN.file_id, path="/var/log/app.log.2", offset=10, finished=True))
        await spool.recall()
        assert {cursor.file_id for cursor in spool.finished("app")} == {OPEN.file_id, DONE.file_id}
        assert spool.cursors("app") == []


async def test_a_full_disk_puts_off_the_forgetting_and_not_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as spool:
        await take(spool, OPEN, DONE)

    def full(_db: Database) -> None:
        message = "database or disk is full"
        raise SpoolFullError(message)

    monkeypatch.setattr(Database, "forget_finished", full)
    async with running(tmp_path) as spool:
        assert told(spool, "app") == ([OPEN], [DONE])
