from __future__ import annotations

import asyncio
import gzip
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from agent.intake import Append, Cursor
from agent.sources.file import TailSettings, handle, reader
from tests.support.tail_bench import Bench, copy_and_truncate, turn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    await bench.stop()


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("times", [1, 3])
async def test_files_rotated_into_another_folder_are_read(bench: Bench, *, times: int, down: bool):
    bench.write(audit=5)
    await bench.drain()
    if down:
        await bench.stop()
    folder = bench.folder / "old"
    folder.mkdir()
    for number in range(times):
        bench.write(audit=5)
        bench.path.rename(folder / f"app.log.{number + 1}")
        bench.path.touch()
    bench.write(audit=1)
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


@pytest.mark.parametrize("keep", [1, 2])
async def test_files_that_came_and_were_deleted_between_two_looks_are_stated(bench: Bench, keep: int):
    bench.write(audit=5)
    await bench.drain()
    for _ in range(keep + 3):
        bench.write(audit=5)
        turn(bench.path)
        bench.path.with_name(f"app.log.{keep + 1}").unlink(missing_ok=True)
    bench.write(audit=1)
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written[:10] + bench.written[-5 * keep - 1 :]
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("rotated_away", "possible")]


@pytest.mark.parametrize("unread", [0, 5])
async def test_what_came_after_a_file_that_is_gone_is_read_at_the_next_start(bench: Bench, unread: int):
    bench.write(audit=5)
    await bench.drain()
    await bench.stop()
    bench.write(audit=unread)
    lost = bench.written[5:]
    turn(bench.path)
    held = bench.path.with_name("app.log.1").open("rb")
    bench.path.with_name("app.log.1").unlink()
    for _ in range(3):
        bench.write(audit=3)
        turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    held.close()
    assert bench.ids() == [one for one in bench.written if one not in lost]
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("rotated_away", "unbounded")]


@pytest.mark.parametrize(
    ("deleted", "stated"),
    # The older one has a gap of its own: nobody knows what it got before it was deleted.
    [((), 0), (("app.log.2",), 2), (("app.log.1.gz",), 1), (("app.log.2", "app.log.1.gz"), 2)],
)
async def test_a_log_that_was_empty_when_seen_is_its_archive_if_nothing_older_was_deleted(
    bench: Bench, deleted: tuple[str, ...], stated: int
):
    bench.write(audit=2)
    await bench.drain()
    turn(bench.path)
    bench.path.touch()
    await bench.drain()
    await bench.drain()
    await bench.stop()
    bench.write(audit=2)
    lost = bench.written[2:] if "app.log.1.gz" in deleted else []
    turn(bench.path)
    rotated = bench.path.with_name("app.log.1")
    held = rotated.open("rb")
    rotated.with_name("app.log.1.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    for name in deleted:
        bench.path.with_name(name).unlink()
    bench.write(audit=1)
    await bench.drain()
    held.close()
    assert bench.ids() == [one for one in bench.written if one not in lost]
    assert [gap["certainty"] for gap in bench.gaps()] == ["unbounded"] * stated


async def test_what_was_read_to_its_end_before_is_not_read_again_beside_a_file_that_is_gone(bench: Bench):
    for _ in range(3):
        bench.write(audit=3)
        await bench.drain()
        turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    await bench.drain()
    await bench.stop()
    held = [path.open("rb") for path in bench.folder.iterdir()]
    bench.path.unlink()
    for path in bench.folder.iterdir():
        os.utime(path)
    bench.write(audit=1)
    await bench.drain()
    for file in held:
        file.close()
    assert bench.ids() == bench.written


async def test_a_file_known_by_its_first_bytes_only_is_found_again_in_another_inode(bench: Bench):
    bench.write(audit=2)
    source = bench.source()
    await source._begin()
    await bench.stop()
    assert [cursor.offset for cursor in bench.intake.cursors("app")] == [0]
    shutil.copyfile(bench.path, bench.path.with_name("app.log.1"))
    held = bench.path.open("rb")
    bench.path.unlink()
    bench.write(audit=1)
    await bench.drain()
    held.close()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_more_files_than_may_be_open_come_to_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = 0
    real = handle.open_handle

    def counting(path: str) -> Any:
        nonlocal opened
        opened += 1
        return real(path)

    monkeypatch.setattr(reader, "open_handle", counting)
    bench = Bench(tmp_path, TailSettings(max_open=4, rescan_seconds=60))
    for number in range(12):
        bench.write(audit=1, path=tmp_path / f"{number}.log")
    stop = asyncio.Event()
    task = asyncio.create_task(bench.source().run(stop))
    async with asyncio.timeout(20):
        while len(bench.ids()) < 12:
            await asyncio.sleep(0.01)
    before = opened
    await asyncio.sleep(1)
    assert opened - before <= 12
    stop.set()
    await task


REFUSALS = ["listing", "stat", "open", "read"]


@pytest.mark.parametrize("refused", REFUSALS)
@pytest.mark.parametrize("step", ["start", "rotated", "truncated", "compressed"])
async def test_a_refusal_to_look_concludes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, *, refused: str, step: str):
    bench.settings = TailSettings(eof_hold_seconds=0, linger_seconds=0, retry_seconds=(0.05, 0.1), poll_seconds=0.02)
    bench.write(audit=3)
    await bench.drain()
    if step == "start":
        await bench.stop()
    bench.write(audit=3)
    if step == "truncated":
        copy_and_truncate(bench.path)
    else:
        turn(bench.path)
        bench.write(audit=2)
        turn(bench.path)
    bench.write(audit=1)
    refuse(monkeypatch, refused, str(bench.folder))
    try:
        for _ in range(3):
            await bench.drain()
    finally:
        monkeypatch.undo()
    for _ in range(3):
        await asyncio.sleep(0.15)
        await bench.drain()
    assert bench.ids() == bench.written
    assert [gap["certainty"] for gap in bench.gaps()] == (["possible"] if step == "truncated" else [])
    assert not any(dict(bench.problems).values())


def refuse(monkeypatch: pytest.MonkeyPatch, what: str, folder: str) -> None:
    """Let every call of one kind fail below a folder, except for the log itself while it is read."""
    module, name = {"listing": (os, "listdir"), "stat": (os, "stat"), "open": (os, "open"), "read": (os, "pread")}[what]
    real = getattr(module, name)

    def refusing(first: Any, *rest: Any, **more: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{first}") if what == "read" else str(first)  # noqa: PTH115
        if path.startswith(folder):
            raise OSError(5, "Input/output error")
        return real(first, *rest, **more)

    monkeypatch.setattr(module, name, refusing)


async def test_cursors_that_speak_of_no_file_are_left_alone(bench: Bench):
    bench.write(audit=1)
    await bench.drain()
    await bench.stop()
    foreign = Cursor(source="app", file_id="0" * 26, path="127.0.0.1:8080", offset=500, size_seen=900, token="socket")
    await bench.intake.submit(Append(cursors=(foreign,), observed_at="2026-01-08T14:32:07.000000Z"))
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
    assert foreign in bench.intake.cursors("app")


@pytest.mark.parametrize("began", [0, 3])
async def test_a_truncation_in_the_midst_of_a_read_mixes_no_two_contents(bench: Bench, monkeypatch: pytest.MonkeyPatch, began: int):
    bench.write(audit=began)
    await bench.drain()
    bench.write(audit=40)
    real = os.pread
    due = [True]

    def tear(fd: int, length: int, offset: int) -> bytes:
        data = real(fd, length, offset)
        if length > 4096 and due:
            due.clear()
            half = len(data) // 2
            copy_and_truncate(bench.path)
            bench.write(audit=60)
            return data[:half] + real(fd, length - half, offset + half)
        return data

    monkeypatch.setattr(os, "pread", tear)
    await bench.drain()
    await bench.drain()
    assert not due
    assert bench.ids() == bench.written
    assert bench.intake.of_kind("quarantine") == []
    assert {gap["certainty"] for gap in bench.gaps()} == {"possible"}


async def test_a_read_that_stops_short_of_the_end_ends_no_line(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.write(audit=20)
    turn(bench.path)
    bench.write(audit=1)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, min(length, 1500) if length > 4096 else length, offset))
    bench.patterns.append(str(bench.folder / "app.log.1"))
    await bench.drain()
    await bench.drain()
    assert sorted(bench.ids()) == sorted(bench.written)
    assert bench.intake.of_kind("quarantine") == []


async def test_a_look_at_a_closed_log_that_was_truncated_does_not_let_it_be_read_on(bench: Bench):
    bench.write(audit=5)
    await bench.drain()
    (tailed,) = bench.source()._life.files.values()
    tailed.reader.close()
    copy_and_truncate(bench.path)
    bench.write(audit=10)
    assert tailed.reader.has_more()
    step = tailed.reader.step()
    assert step.changed is not None
    assert step.append is None
    await bench.drain()
    assert bench.ids() == bench.written


async def test_a_stop_beside_a_file_that_cannot_be_read_has_not_reached_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.write(audit=1)
    stop = asyncio.Event()
    stop.set()
    with monkeypatch.context() as context:
        refuse(context, "open", str(bench.folder))
        assert await bench.source().run(stop) is False
    bench._source = None
    assert await bench.source().run(stop) is True
    bench._source = None
    assert bench.ids() == bench.written


async def test_a_log_is_not_read_on_while_it_is_not_clear_what_came_before(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.path.touch()
    await bench.drain()
    bench.write(audit=3)
    copy_and_truncate(bench.path)
    bench.write(audit=2)
    with monkeypatch.context() as context:
        refuse(context, "listing", str(bench.folder))
        await bench.drain()
        assert bench.ids() == []
    await bench.drain()
    assert bench.ids() == bench.written
