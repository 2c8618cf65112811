from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.sources.file import TailSettings, discover, recovery
from agent.sources.file.handle import open_handle
from tests.support.tail_bench import Bench, copy_and_truncate, turn

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
async def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    await bench.stop()


class Between:
    """Do something once, when a function of a module is called for the n-th time from now on: before it, or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        """Wrap the function."""
        self.real = getattr(module, name)
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None
        self.countdown = 0
        monkeypatch.setattr(module, name, self)

    def __call__(self, *arguments: Any) -> Any:
        self.countdown -= 1
        due = self.countdown < 0
        if due and (before := self.before) is not None:
            self.before = None
            before()
        result = self.real(*arguments)
        if due and (after := self.after) is not None:
            self.after = None
            after()
        return result


def rotate(bench: Bench, times: int) -> Callable[[], None]:
    """Return what writes to the log and rotates it so many times, and begins a new one."""

    def act() -> None:
        for _ in range(times):
            bench.write(audit=2)
            turn(bench.path)
        bench.write(audit=1)

    return act


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_files_rotated_right_after_a_look_at_the_folder_are_read_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, times: int, down: bool
):
    bench.write(audit=2)
    await bench.drain()
    if down:
        await bench.stop()
    turn(bench.path)
    bench.write(audit=1)
    scan = Between(monkeypatch, discover, "_look_if_possible")
    scan.after = rotate(bench, times)
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("countdown", range(12))
async def test_names_that_shift_while_a_folder_is_listed_hide_no_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, countdown: int, down: bool
):
    bench.write(audit=2)
    await bench.drain()
    if down:
        await bench.stop()
    rotate(bench, 3)()
    look = Between(monkeypatch, discover, "look")
    look.before = rotate(bench, 1)
    look.countdown = countdown
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


@pytest.mark.parametrize("countdown", range(4))
async def test_a_name_that_leads_elsewhere_when_it_is_opened_is_looked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, countdown: int
):
    bench.write(audit=2)
    await bench.drain()
    await bench.stop()
    rotate(bench, 2)()
    opening = Between(monkeypatch, recovery, "open_handle")
    opening.before = rotate(bench, 1)
    opening.countdown = countdown
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


@pytest.mark.parametrize("read_before", [0, 2, 4])
async def test_the_compressed_twin_of_a_file_that_was_read_is_not_read_again(tmp_path: Path, read_before: int):
    """Kubelet's and Docker's compression leaves the twin with the time of its making, logrotate's while it is being made."""
    bench = Bench(tmp_path, TailSettings(eof_hold_seconds=0, linger_seconds=0, retry_seconds=(0, 0)))
    bench.write(audit=read_before)
    await bench.drain()
    bench.write(audit=4 - read_before)
    content = bench.path.read_bytes()
    turn(bench.path)
    bench.write(audit=1)
    packed = bench.path.with_name("app.log.1.gz")
    whole = gzip.compress(content)
    packed.write_bytes(whole[:-9])
    await bench.drain()
    packed.write_bytes(whole)
    await bench.drain()
    bench.path.with_name("app.log.1").unlink()
    await bench.drain()
    packed.rename(bench.path.with_name("app.log.2.gz"))
    turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
    await bench.stop()


async def test_a_file_in_the_inode_of_a_finished_one_and_of_its_size_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.write(audit=2)
    await bench.drain()
    first = bench.path.stat()
    turn(bench.path)
    bench.write(audit=2)
    bench.path.with_name("app.log.1").unlink()
    await bench.drain()
    scan = Between(monkeypatch, discover, "_look_if_possible")
    reused = bench.path.with_name("app.log.1")

    def come_and_go() -> None:
        turn(bench.path)
        bench.write(audit=2)
        turn(bench.path)
        bench.write(audit=1)

    scan.before = come_and_go
    real = os.stat

    def stat(path: Any, *rest: Any, **more: Any) -> os.stat_result:
        status = real(path, *rest, **more)
        if str(path) != str(reused) or more:
            return status
        return os.stat_result((status.st_mode, first.st_ino, first.st_dev, *tuple(status)[3:]), {"st_mtime_ns": status.st_mtime_ns})

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(recovery, "open_handle", lambda path: _with_key(open_handle(path), str(reused), (first.st_dev, first.st_ino)))
    assert first.st_size == 2 * (first.st_size // 2)
    await bench.drain()
    monkeypatch.undo()
    await bench.drain()
    assert bench.ids() == bench.written


def _with_key(handle: Any, path: str, key: tuple[int, int]) -> Any:
    if str(Path(f"/proc/self/fd/{handle.fd}").readlink()) == path:
        handle.key = key
    return handle


async def test_copies_made_by_several_truncations_between_two_looks_are_all_read(bench: Bench):
    bench.write(audit=2)
    await bench.drain()
    for _ in range(3):
        bench.write(audit=2)
        for number in (2, 1):
            older = bench.path.with_name(f"app.log.{number}")
            if older.exists():
                older.rename(bench.path.with_name(f"app.log.{number + 1}"))
        shutil.copyfile(bench.path, bench.path.with_name("app.log.1"))
        os.truncate(bench.path, 0)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "possible")] * 3


async def test_copies_made_while_the_agent_was_down_state_what_each_race_may_have_cost(bench: Bench):
    bench.write(audit=2)
    await bench.drain()
    await bench.stop()
    for _ in range(2):
        bench.write(audit=2)
        older = bench.path.with_name("app.log.1")
        if older.exists():
            older.rename(bench.path.with_name("app.log.2"))
        shutil.copyfile(bench.path, bench.path.with_name("app.log.1"))
        os.truncate(bench.path, 0)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "possible")] * 2


# A log that is new to the agent, and longer again when it is opened, is as it is at that moment: its first sight.
@pytest.mark.parametrize(("before", "grown"), [(False, 0), (False, 1), (True, 0), (True, 1), (True, 30)])
async def test_a_truncation_between_two_looks_at_a_new_log_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, before: bool, grown: int
):
    if before:
        bench.write(audit=2)
        await bench.drain()
        await bench.stop()
        bench.write(audit=2)
        copy_and_truncate(bench.path)
    bench.write(audit=10)

    def truncate() -> None:
        copy_and_truncate(bench.path)
        bench.write(audit=grown)

    look = Between(monkeypatch, discover, "around" if before else "_look_if_possible")
    look.after = truncate
    for _ in range(2):
        await bench.drain()
    assert look.after is None
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "possible")] * (1 + before)


async def test_a_file_that_cannot_be_read_at_the_start_is_not_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.write(audit=2)
    await bench.drain()
    await bench.stop()
    bench.write(audit=2)
    turn(bench.path)
    bench.write(audit=1)
    real = os.open

    def refuse(path: object, *rest: int, **more: int) -> int:
        if path == str(bench.path.with_name("app.log.1")):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    source = bench.source()
    await source._begin()
    assert bench.gaps() == []
    monkeypatch.undo()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


@pytest.mark.parametrize("keep_time", [False, True])
async def test_a_file_whose_place_its_archive_took_is_not_missing(bench: Bench, *, keep_time: bool):
    bench.write(audit=2)
    await bench.drain()
    turn(bench.path)
    old = bench.path.with_name("app.log.1")
    status = old.stat()
    packed = bench.path.with_name("app.log.1.gz")
    packed.write_bytes(gzip.compress(old.read_bytes()))
    if keep_time:
        os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    old.unlink()
    for _ in range(2):
        bench.write(audit=2)
        turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
