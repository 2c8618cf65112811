"""A damaged spool: what is found, what is saved of it, and what is refused instead."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.errors import DamagedStateError, DurabilityError, SpoolFullError, StateError
from agent.spool import Database, Spool
from agent.spool.aside import DAMAGED_FOLDER, NOTE_FILE, read_note
from agent.spool.connection import DATABASE_FILE, translated
from agent.spool.salvage import MOST_ATTEMPTS, salvage
from agent.trail.manifest import ContinuesWhy
from agent.trail.seal import parse_seal
from tests.support.batches import append_of
from tests.support.spools import change, event_numbers, fill, opened, shipped, waiting_lines

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = "2026-01-08T14:40:00.000000Z"


def rot(state: Path, table: str, column: str, row_id: int, place: int = 200) -> None:
    """Change one byte of a value where it lies on the disk."""
    with closing(sqlite3.connect(state / DATABASE_FILE)) as db, closing(db.blobopen(table, column, row_id)) as blob:
        blob.seek(place % len(blob))
        flipped = bytes([blob.read(1)[0] ^ 4])
        blob.seek(place % len(blob))
        blob.write(flipped)
        db.commit()


async def test_a_rotten_block_costs_its_records_and_no_others(tmp_path: Path) -> None:
    origin = await fill(tmp_path, batches=2, blocks=3)
    rot(tmp_path, "blocks", "bodies", 2)
    async with opened(tmp_path) as (spool, sealer):
        lines = await waiting_lines(spool)
        assert event_numbers(lines) == [0, 1, 2, 3, 4, 5, 8, 9]
        (gap,) = [msgspec.json.decode(b'{"seq":0' + line) for line in lines if b'"kind":"gap"' in line]
        assert (gap["source"], gap["cause"], gap["certainty"]) == ("*", "state_lost", "unbounded")
        assert "lost are 1 blocks" in gap["detail"]
        # The old trail is shipped as it was, up to its head; the new one continues it there.
        kept = await shipped(spool)
        assert kept == [(origin, number) for number in range(3)] + [(sealer.head.origin, 0)]
        last = await spool.next_batch(2)
        opening = await spool.next_batch(3)
        assert last is not None
        assert opening is not None
        link: Any = parse_seal(opening.batch.seal).manifest.continues
        assert (link.why, link.origin, link.size, link.root) == (
            ContinuesWhy.STATE_LOST, origin, last.batch.size, last.batch.root.hex(),
        )  # fmt: skip
    assert not (tmp_path / "suspect").exists()
    (kept_in,) = (tmp_path / DAMAGED_FOLDER).iterdir()
    assert kept_in.joinpath(DATABASE_FILE).stat().st_size > 0


async def test_batches_behind_a_rotten_one_are_unpacked_because_they_can_never_be_shipped(tmp_path: Path) -> None:
    origin = await fill(tmp_path, batches=5, blocks=1)
    rot(tmp_path, "batches", "data", 3)
    async with opened(tmp_path) as (spool, sealer):
        assert await shipped(spool) == [(origin, 0), (origin, 1), (sealer.head.origin, 0)]
        assert event_numbers(await waiting_lines(spool)) == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]


async def test_what_a_store_has_confirmed_is_never_put_back(tmp_path: Path) -> None:
    await fill(tmp_path, batches=4, blocks=0)
    db = Database(tmp_path)
    for batch_id in (1, 2, 3):
        queued = db.next_batch(batch_id - 1)
        assert queued is not None
        # A second store lacks them all, so they are still held.
        db.receipt(batch_id, queued.batch, "main", NOW, ["main", "other"], [])
    db.close()
    rot(tmp_path, "batches", "data", 2)
    async with opened(tmp_path) as (spool, sealer):
        kept = [number for origin, number in await shipped(spool) if origin != sealer.head.origin]
        assert kept == [0]
        assert event_numbers(await waiting_lines(spool)) == [4, 5, 6, 7]


async def test_a_lost_head_is_found_again_among_the_batches(tmp_path: Path) -> None:
    origin = await fill(tmp_path, batches=2, blocks=1)
    change(tmp_path, "DELETE FROM meta WHERE key = 'head'")
    async with opened(tmp_path) as (spool, sealer):
        opening = await spool.next_batch(3)
        assert opening is not None
        link: Any = parse_seal(opening.batch.seal).manifest.continues
        assert (link.origin, link.size > 0) == (origin, True)
        assert event_numbers(await waiting_lines(spool)) == [0, 1, 2, 3, 4, 5]
        assert sealer.head.origin != origin


@pytest.mark.parametrize("gone", ["deleted", "emptied", "overwritten"])
async def test_of_a_database_that_is_gone_the_trails_name_is_still_known(tmp_path: Path, gone: str) -> None:
    origin = await fill(tmp_path, batches=2, blocks=1)
    path = tmp_path / DATABASE_FILE
    path.unlink()
    if gone != "deleted":
        path.write_bytes(b"" if gone == "emptied" else b"not a database" * 5000)
    async with opened(tmp_path) as (spool, sealer):
        opening = await spool.next_batch(0)
        assert opening is not None
        link: Any = parse_seal(opening.batch.seal).manifest.continues
        assert (link.origin, link.size) == (origin, 0)
        note = read_note(tmp_path)
        assert note is not None
        assert (note.origin, note.epochs) == (sealer.head.origin, 2)


async def test_a_database_older_than_the_newest_trail_opens_no_second_successor(tmp_path: Path) -> None:
    first = await fill(tmp_path / "s", batches=1, blocks=0)
    old = shutil.copy(tmp_path / "s" / DATABASE_FILE, tmp_path / "old")
    rot(tmp_path / "s", "batches", "data", 2)
    async with opened(tmp_path / "s") as (_, sealer):
        second = sealer.head.origin
    shutil.copy(old, tmp_path / "s" / DATABASE_FILE)
    async with opened(tmp_path / "s") as (spool, sealer):
        trails = [origin for origin, _ in await shipped(spool)]
        assert trails[-1] not in {first, second}
        opening = await spool.next_batch(trails.index(sealer.head.origin))
        assert opening is not None
        link: Any = parse_seal(opening.batch.seal).manifest.continues
        assert link.origin == second


async def test_a_rotten_cursor_is_not_believed(tmp_path: Path) -> None:
    await fill(tmp_path, batches=0, blocks=1)
    change(tmp_path, "UPDATE cursors SET cursor = cast(replace(cast(cursor AS TEXT), '\"offset\":4', '\"offset\":9') AS BLOB)")
    with pytest.raises(DamagedStateError, match="is not what was written"):
        Database(tmp_path)


async def test_a_batch_that_rots_while_the_agent_runs_is_not_sent_and_salvaged_at_the_next_start(tmp_path: Path) -> None:
    await fill(tmp_path, batches=2, blocks=0)
    async with opened(tmp_path) as (spool, _):
        await spool.read(lambda db: db._db.execute("UPDATE batches SET data = x'00' WHERE id = 2"))
        with pytest.raises(DamagedStateError, match="is not what was sealed"):
            await spool.next_batch(1)
    async with opened(tmp_path) as (spool, _):
        assert event_numbers(await waiting_lines(spool)) == [2, 3]


def snapshot(state: Path) -> dict[str, bytes]:
    return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}


class Killed(BaseException):
    """Stands for a kill: nobody handles it."""


def dies_at(monkeypatch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Let the process die right before its n-th rename, fsync, unlink or folder."""
    steps: list[str] = []

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            steps.append(name)
            if len(steps) == step:
                raise Killed(name)
            return real(*arguments, **options)

        return call

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "unlink"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, dying(name, getattr(owner, name)))
    return steps


async def test_a_salvage_killed_at_any_step_is_done_again_or_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = await fill(tmp_path / "made", batches=2, blocks=2)
    rot(tmp_path / "made", "blocks", "bodies", 2)
    damaged = (tmp_path / "made" / DATABASE_FILE).read_bytes()
    for step in range(1, 60):
        state = Path(shutil.copytree(tmp_path / "made", tmp_path / f"killed-{step}"))
        with monkeypatch.context() as patched:
            steps = dies_at(patched, step)
            try:
                salvage(state, "a test", NOW)
            except Killed:
                died = True
            else:
                died = False
        async with opened(state) as (spool, sealer):
            assert event_numbers(await waiting_lines(spool)) == [0, 1, 2, 3, 4, 5], steps
            assert [one for one in await shipped(spool) if one[0] == origin] == [(origin, number) for number in range(3)], steps
            assert sealer.head.origin != origin
        (kept,) = (state / DAMAGED_FOLDER).iterdir()
        assert (kept / DATABASE_FILE).read_bytes() == damaged, steps
        assert {path.name for path in state.iterdir() if path.is_file()} <= {DATABASE_FILE, "ballast", "lock", NOTE_FILE}, steps
        if not died:
            assert step > 10
            return
    pytest.fail("the salvage has no end")


async def test_what_makes_every_salvage_die_does_not_hold_up_the_agent_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(tmp_path, batches=1, blocks=1)

    def dies(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("agent.spool.remains.Wreck.take_stock", dies)
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(Killed):
            salvage(tmp_path, "a test", NOW)
    salvage(tmp_path, "a test", NOW)
    async with opened(tmp_path) as (spool, _):
        assert event_numbers(await waiting_lines(spool)) == []
    (kept,) = (tmp_path / DAMAGED_FOLDER).iterdir()
    monkeypatch.undo()
    shutil.copy(kept / DATABASE_FILE, tmp_path / DATABASE_FILE)
    (tmp_path / NOTE_FILE).unlink()
    async with opened(tmp_path) as (spool, _):
        assert event_numbers(await waiting_lines(spool)) == [0, 1, 2, 3]


async def test_a_disk_without_room_for_the_salvaged_spool_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(tmp_path, batches=1, blocks=2)
    rot(tmp_path, "blocks", "bodies", 2)
    before = snapshot(tmp_path)

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("agent.spool.salvage.tables.insert_block", full)
    spool = Spool(tmp_path, 1 << 26)
    with pytest.raises(SpoolFullError, match="full"):
        await spool.open()
    await spool.close()
    after = snapshot(tmp_path)
    assert {name: after[name] for name in (DATABASE_FILE, NOTE_FILE)} == {name: before[name] for name in (DATABASE_FILE, NOTE_FILE)}
    monkeypatch.undo()
    async with opened(tmp_path) as (spool, _):
        assert event_numbers(await waiting_lines(spool)) == [0, 1, 2, 3]


def test_a_newer_format_is_refused_and_not_taken_for_damage(tmp_path: Path) -> None:
    Database(tmp_path).close()
    change(tmp_path, "DELETE FROM meta")
    change(tmp_path, "PRAGMA user_version=3")
    before = snapshot(tmp_path)
    with pytest.raises(StateError, match="format 3") as caught:
        Database(tmp_path)
    assert caught.value.exit_code == 2
    assert snapshot(tmp_path) == before


def test_a_rotten_format_number_is_damage_because_it_is_written_twice(tmp_path: Path) -> None:
    Database(tmp_path).close()
    change(tmp_path, "PRAGMA user_version=6")
    with pytest.raises(DamagedStateError, match="format 6 and 2"):
        Database(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind", "code"), [(errno.EACCES, StateError, 2), (errno.EROFS, StateError, 2), (errno.EIO, DurabilityError, 1)]
)
def test_a_file_that_cannot_be_opened_is_refused_and_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StateError | DurabilityError], code: int
) -> None:
    Database(tmp_path).close()
    real = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(DATABASE_FILE):
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(kind) as caught:
        Database(tmp_path)
    assert caught.value.exit_code == code
    monkeypatch.undo()
    Database(tmp_path).close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_that_fails_for_want_of_room_is_a_full_disk_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    assert isinstance(translated(error, tmp_path / DATABASE_FILE), DurabilityError)

    def refusing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refusing)
    assert isinstance(translated(error, tmp_path / DATABASE_FILE), SpoolFullError)
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    assert isinstance(translated(error, tmp_path / DATABASE_FILE), DurabilityError)
    assert list(tmp_path.iterdir()) == []


async def test_a_spool_of_format_1_is_brought_up_to_date_with_everything_in_it(tmp_path: Path) -> None:
    origin = await fill(tmp_path, batches=2, blocks=2)
    for statement in (
        "UPDATE meta SET value = substr(value, 1, length(value) - 16)",
        "UPDATE cursors SET cursor = substr(cursor, 1, length(cursor) - 16)",
        "UPDATE blocks SET meta = substr(meta, 1, length(meta) - 16)",
        "UPDATE batches SET meta = substr(meta, 1, length(meta) - 16)",
        "DELETE FROM meta WHERE key IN ('format', 'epochs')",
        "PRAGMA user_version=1",
    ):
        change(tmp_path, statement)
    (tmp_path / NOTE_FILE).unlink()
    async with opened(tmp_path) as (spool, sealer):
        assert sealer.head.origin == origin
        assert spool.lost is None
        assert event_numbers(await waiting_lines(spool)) == list(range(8))
        assert await spool.read(Database.problems) == []
        await spool.read(lambda db: db.append([append_of(8, 1, offset=10_000)]))
    Database(tmp_path).close()
