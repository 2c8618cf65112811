"""A disk that is full: who waits, who gets the ballast's room, and how the spool comes out of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.errors import SpoolFullError
from agent.intake import Append, Cursor
from agent.spool import Database, Spool
from agent.spool.ballast import BALLAST_BYTES, BALLAST_FILE, Ballast
from agent.spool.connection import CHECKPOINT_BYTES, DATABASE_FILE
from tests.support.batches import append_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

LARGEST_TRANSACTION_BYTES = 7 << 20
"""A group of appends or a batch of 4 MiB, with a block and a line over the mark."""


def refusing(method: Callable[..., Any], times: int, calls: list[bool], ballast: Path) -> Callable[..., Any]:
    """Return the method, which finds the disk full so many times, and notes at each call whether the ballast is there."""

    def wrapper(self: Database, *arguments: Any, **options: Any) -> Any:
        calls.append(ballast.exists())
        if len(calls) <= times:
            message = "database or disk is full"
            raise SpoolFullError(message)
        return method(self, *arguments, **options)

    return wrapper


def test_the_ballast_is_larger_than_what_a_checkpoint_may_need() -> None:
    assert BALLAST_BYTES > CHECKPOINT_BYTES + LARGEST_TRANSACTION_BYTES


async def test_what_frees_room_gets_the_ballasts_room_at_once_and_the_ballast_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(Database, "settle", refusing(Database.settle, 1, calls, tmp_path / BALLAST_FILE))
    spool = Spool(tmp_path, 1 << 26)
    await spool.open()
    await spool.settle(["main"])
    assert calls == [True, False]
    assert (tmp_path / BALLAST_FILE).stat().st_size == BALLAST_BYTES
    await spool.close()


async def test_an_append_never_gets_the_ballasts_room_and_waits_until_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str | None] = []
    calls: list[bool] = []
    monkeypatch.setattr(Database, "append", refusing(Database.append, 2, calls, tmp_path / BALLAST_FILE))
    monkeypatch.setattr("agent.spool.commits.RETRY_SECONDS", (0.01,))
    spool = Spool(tmp_path, 1 << 26, on_full=said.append)
    await spool.open()
    committing = asyncio.create_task(spool.run())
    async with asyncio.timeout(10):
        await (await spool.submit(append_of(0, 1)))
        assert calls == [True, True, True]
        assert "full" in str(said[0])
        spool._ballast.drop()
        room = iter([False, False, True])
        monkeypatch.setattr(spool._ballast, "place", lambda: next(room))
        await (await spool.submit(append_of(1, 1)))
        assert len(calls) == 4
        assert next(room, None) is None
        while said[-1] is not None:
            await asyncio.sleep(0.01)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    await spool.close()


async def test_without_the_ballast_only_what_states_something_is_committed_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str | None] = []
    monkeypatch.setattr("agent.spool.commits.RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(Ballast, "place", lambda _: False)
    spool = Spool(tmp_path, 1 << 26, on_full=said.append)
    await spool.open()
    committing = asyncio.create_task(spool.run())
    cursor = Cursor(source="app", file_id="01hqzzzzzzzzzzzzzzzzzzzzzz", path="stdout")
    beginning = Append(observed_at="2026-01-08T14:00:00.000000Z", cursors=(cursor,), small=True)
    async with asyncio.timeout(10):
        waiting = [await spool.submit(append) for append in (beginning, append_of(0, 1), beginning)]
        await waiting[0]
        while not said:
            await asyncio.sleep(0.01)
        assert [each.file_id for each in await spool.read(Database.cursors)] == [cursor.file_id]
        assert not any(isinstance(each, asyncio.Future) and each.done() for each in waiting[1:])
        assert spool.held_records == 0
        monkeypatch.undo()
        await waiting[1]
        await waiting[2]
        while said[-1] is not None:
            await asyncio.sleep(0.01)
    assert spool.held_records == 1
    assert len(said) == 2
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    await spool.close()


def test_an_empty_spool_gives_its_room_back_to_the_disk(tmp_path: Path) -> None:
    db = Database(tmp_path)
    for step in range(8):
        db.append([append_of(step * 100, 100, padding=8000)])
    db._db.execute("DELETE FROM blocks")
    db.shrink()
    before = (tmp_path / DATABASE_FILE).stat().st_size
    db.shrink(rebuild=True)
    assert (tmp_path / DATABASE_FILE).stat().st_size < before / 10
    assert (tmp_path / f"{DATABASE_FILE}-wal").stat().st_size == 0
    assert db.problems() == []
    db.close()
