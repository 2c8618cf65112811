from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from agent.vitals.clock import SystemClock
from tests.support.tail_bench import Bench, copy, copy_and_truncate

if TYPE_CHECKING:
    from pathlib import Path

    from agent.intake import Append


@pytest.fixture
async def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    await bench.stop()


async def test_a_truncation_while_the_copy_of_the_one_before_waits_to_be_read_is_seen(bench: Bench):
    bench.write(audit=5)
    await bench.drain()
    bench.write(audit=5)
    copy_and_truncate(bench.path)
    bench.write(audit=5)
    source = bench.source()
    await source._life.rescan()
    while source._queue and not any(tailed.copied for tailed in source._life.files.values()):
        await source._turn(source._queue.popleft())
    (anew,) = [tailed for tailed in source._life.files.values() if not tailed.rotated]
    assert anew.reader.cursor.offset == 0
    anew.reader.has_more()
    bench.write(audit=5)
    copy_and_truncate(bench.path)
    bench.write(audit=1)
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written


@pytest.mark.parametrize("down", [False, True])
async def test_truncations_of_a_log_that_was_empty_when_it_was_seen_are_noticed_by_their_copies(bench: Bench, *, down: bool):
    bench.path.touch()
    await bench.drain()
    if down:
        await bench.stop()
    for _ in range(3):
        bench.write(audit=5)
        copy_and_truncate(bench.path)
    bench.write(audit=1)
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert {(gap["cause"], gap["certainty"]) for gap in bench.gaps()} == {("truncated", "possible")}


async def test_a_copy_that_is_being_made_of_an_unread_log_is_not_read_beside_it(bench: Bench):
    bench.path.touch()
    await bench.drain()
    await bench.stop()
    bench.write(audit=5)
    shutil.copyfile(bench.path, bench.path.with_name("app.log.1"))
    await bench.drain()
    assert bench.ids() == bench.written
    os.truncate(bench.path, 0)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("down", [False, True])
async def test_a_copy_that_is_being_made_beside_those_of_earlier_truncations_is_not_read_beside_its_log(
    bench: Bench, *, down: bool, ahead: bool
):
    """`ahead`: the agent has read lines that the copy does not have."""
    bench.clock = SystemClock()
    bench.write(audit=2)
    await bench.drain()
    if down:
        await bench.stop()
    for _ in range(2):
        bench.write(audit=2)
        copy_and_truncate(bench.path)
    bench.write(audit=3)
    copy(bench.path)
    await bench.drain()
    bench.write(audit=1)
    if ahead:
        await bench.drain()
    lost = [] if ahead else bench.written[-1:]
    await asyncio.sleep(0.02)
    os.truncate(bench.path, 0)
    bench.write(audit=2)
    for _ in range(3):
        await bench.drain()
    assert bench.ids() == [one for one in bench.written if one not in lost]
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "possible")] * 3


async def test_a_line_that_the_copy_cuts_lies_in_the_gap_of_the_race(bench: Bench):
    bench.write(audit=3)
    await bench.drain()
    bench.write(audit=1)
    start = bench.path.stat().st_size
    bench.write(text='{"cut":')
    copy_and_truncate(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert [(gap["certainty"], gap["from_offset"], gap["to_offset"]) for gap in bench.gaps()] == [("possible", start, None)]


class DiedError(Exception):
    """The agent is gone."""


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("empty", [False, True])
async def test_what_truncations_may_have_cost_is_stated_wherever_the_agent_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, empty: bool, down: bool
):
    appends_left, survived = 0, False
    while not survived:
        folder = tmp_path / str(appends_left)
        folder.mkdir()
        bench = Bench(folder)
        bench.path.touch()
        bench.write(audit=0 if empty else 2)
        await bench.drain()
        if down:
            await bench.stop()
        for _ in range(3):
            bench.write(audit=2)
            copy_and_truncate(bench.path)
        bench.write(audit=1)
        with monkeypatch.context() as context:
            die_after(context, bench, appends_left)
            try:
                await bench.drain()
                survived = True
            except DiedError:
                await bench.crash()
        for _ in range(2):
            await bench.drain()
        await bench.stop()
        assert bench.ids() == bench.written, f"died after {appends_left} appends"
        stated = [gap["file_id"] for gap in bench.gaps() if (gap["cause"], gap["certainty"]) == ("truncated", "possible")]
        assert (len(stated), len(set(stated)), len(bench.gaps())) == (3, 3, 3), f"died after {appends_left} appends: {bench.gaps()}"
        appends_left += 1
    assert appends_left > 5


def die_after(monkeypatch: pytest.MonkeyPatch, bench: Bench, appends: int) -> None:
    """Let the agent die at the append after the next so many, which is lost."""
    left = appends
    real = bench.intake.submit

    async def submit(append: Append) -> Any:
        nonlocal left
        if left <= 0:
            raise DiedError
        left -= 1
        return await real(append)

    monkeypatch.setattr(bench.intake, "submit", submit)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("times", [1, 3])
async def test_copies_that_the_patterns_name_are_read_once_and_in_order(tmp_path: Path, *, times: int, down: bool):
    bench = Bench(tmp_path, patterns=("app.log*",))
    bench.write(audit=2)
    await bench.drain()
    if down:
        await bench.stop()
    for _ in range(times):
        bench.write(audit=2)
        copy_and_truncate(bench.path)
    bench.write(audit=1)
    for _ in range(2):
        await bench.drain()
    await bench.stop()
    assert bench.ids() == bench.written
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "possible")] * times


async def test_a_copy_that_is_being_made_and_that_the_patterns_name_is_not_read_beside_the_log(tmp_path: Path):
    bench = Bench(tmp_path, patterns=("app.log*",))
    bench.write(audit=2)
    await bench.drain()
    bench.write(audit=2)
    shutil.copyfile(bench.path, bench.path.with_name("app.log.1"))
    await bench.drain()
    bench.write(audit=1)
    await bench.drain()
    os.truncate(bench.path, 0)
    bench.write(audit=1)
    await bench.drain()
    await bench.stop()
    assert bench.ids() == bench.written
