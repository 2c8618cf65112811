"""A file whose lines join to units: what is complete when, and that a crash, a rotation or a late line breaks or doubles none."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from agent.events.mappings.joining import Joining
from agent.sources.file import TailSettings, wake
from tests.support.joined_units import START, TRACE, UnitBench
from tests.support.tail_bench import AT_ONCE, copy_and_truncate, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 1000
SMALL = TailSettings(block_bytes=1500, line_limit=LIMIT, head_bytes=100, eof_hold_seconds=0, linger_seconds=0, rescan_seconds=0.05)
"""Less than what may be left over of a unit and a line: the reader has to see to it that it gets on."""

NEVER = Joining("start", r"^\d+ ", patience_seconds=300)


@asynccontextmanager
async def running(bench: UnitBench):
    stop = asyncio.Event()
    task = asyncio.create_task(bench.source().run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await task
        bench._source = None


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_unit_waits_until_another_begins_and_the_cursor_stands_before_it(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("1 AUDIT\n  a\n2 AUDIT\n")
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a"]
    assert bench.cursor_offset() == len("1 AUDIT\n  a\n")
    bench.append("  b\n3")
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a"]
    bench.append(" AUDIT\n")
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a", "2 AUDIT\n  b"]
    assert bench.intake.of_kind("quarantine")[1]["at"] == [12, len("2 AUDIT\n  b")]
    await bench.stop()


async def test_a_unit_that_a_crash_cut_in_two_is_there_once_and_whole(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("1 AUDIT\n  a\n")
    await bench.drain()
    await bench.crash()
    bench.append("  b\n2 AUDIT\n")
    bench.intake.held = True
    source = asyncio.create_task(bench.drain())
    await asyncio.sleep(0.05)
    source.cancel()
    await asyncio.gather(source, return_exceptions=True)
    await bench.crash()
    bench.intake.held = False
    bench.append("  c\n3 x\n")
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a\n  b", "2 AUDIT\n  c"]
    await bench.stop()


async def test_nobody_goes_on_with_a_unit_so_it_is_complete(tmp_path: Path):
    bench = UnitBench(tmp_path, START)
    bench.append("1 AUDIT\n  a\n")
    async with running(bench):
        await until(lambda: bench.units() == ["1 AUDIT\n  a"])
        bench.append("2 AUDIT\n")
        await until(lambda: len(bench.units()) == 2)
        bench.append("  late\n3 AUDIT\n  b\n")
        await until(lambda: len(bench.units()) == 3)
    # What came too late is a unit of its own, and passes here.
    assert bench.units() == ["1 AUDIT\n  a", "2 AUDIT", "3 AUDIT\n  b"]
    assert bench.sink.data == b"  late\n"
    assert bench.cursor_offset() == bench.path.stat().st_size


async def test_a_unit_that_grows_goes_on_waiting(tmp_path: Path):
    bench = UnitBench(tmp_path, replace(START, patience_seconds=0.5))
    lines = [f"  {number}\n" for number in range(30)]
    bench.append("1 AUDIT\n")
    async with running(bench):
        for line in lines:
            bench.append(line)
            await asyncio.sleep(0.03)
        await until(lambda: len(bench.units()) > 0)
    assert bench.units() == ["1 AUDIT\n" + "".join(lines).removesuffix("\n")]


async def test_a_line_that_was_begun_and_may_go_on_with_a_unit_keeps_it_waiting(tmp_path: Path):
    bench = UnitBench(tmp_path, START)
    bench.append("1 AUDIT\n  be")
    async with running(bench):
        await asyncio.sleep(0.3)
        assert bench.units() == []
        bench.append("gun\n")
        await until(lambda: bench.units() == ["1 AUDIT\n  begun"])
        bench.append("2 AUDIT\n3 beg")
        await until(lambda: len(bench.units()) == 2)
    assert bench.units()[1] == "2 AUDIT"
    assert bench.cursor_offset() == bench.path.stat().st_size - len("3 beg")


async def test_at_a_stop_the_last_unit_is_complete_but_not_the_line_that_was_begun(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("1 AUDIT\n  a\n  half")
    async with running(bench):
        await until(lambda: bench.cursor_offset() == 0 and bool(bench.intake.all_cursors()))
        assert bench.units() == []
    assert bench.units() == ["1 AUDIT\n  a"]
    assert bench.cursor_offset() == len("1 AUDIT\n  a\n")


async def test_a_unit_does_not_go_on_in_the_next_file(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER, patterns=("*.log",))
    bench.append("1 AUDIT\n  a\n")
    await bench.drain()
    turn(bench.path)
    bench.append("  AUDIT b\n2 AUDIT\n3 x\n")
    await bench.drain()
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a", "  AUDIT b", "2 AUDIT"]
    assert bench.gaps() == []
    await bench.stop()


async def test_a_rotated_files_last_unit_comes_before_the_units_of_the_next_one(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER, replace(AT_ONCE, eof_hold_seconds=3600, linger_seconds=3600))
    bench.append("1 AUDIT\n  a\n")
    await bench.drain()
    turn(bench.path)
    bench.append("2 AUDIT\n3 AUDIT\n")
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a", "2 AUDIT"]
    await bench.stop()


async def test_what_is_in_a_rotated_file_is_complete_with_its_last_line(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("1 AUDIT\n  a\n  no newline")
    await bench.drain()
    turn(bench.path)
    await bench.drain()
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a\n  no newline"]
    await bench.stop()


async def test_a_unit_that_waited_when_its_log_was_truncated_is_found_in_the_copy(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("1 AUDIT\n2 AUDIT\n  a\n")
    await bench.drain()
    copy_and_truncate(bench.path)
    bench.append("3 AUDIT\n4 x\n")
    await bench.drain()
    await bench.drain()
    assert bench.units() == ["1 AUDIT", "2 AUDIT\n  a", "3 AUDIT"]
    await bench.stop()


async def test_a_unit_that_waited_when_its_log_was_truncated_without_a_copy_is_a_gap(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("1 AUDIT\n2 AUDIT\n  a\n")
    await bench.drain()
    with bench.path.open("r+b") as file:
        file.truncate(0)
    bench.append("3 AUDIT\n")
    await bench.drain()
    await bench.drain()
    assert bench.units()[:1] == ["1 AUDIT"]
    gaps = [(gap["certainty"], gap["from_offset"], gap["to_offset"]) for gap in bench.gaps()]
    assert gaps == [("known", 8, 20), ("possible", 20, None)]
    await bench.stop()


@pytest.mark.parametrize("shift", range(-4, 5))
async def test_what_goes_on_exactly_at_a_blocks_end_goes_on(tmp_path: Path, shift: int):
    bench = UnitBench(tmp_path, TRACE, SMALL)
    block = 2 * LIMIT + 2
    filler = "f\n" * (block // 2 - 20)
    first = "AUDIT " + "y" * (block - len(filler) - 12 + shift)
    bench.append(filler + first + "\n more\n\tmore\nz\n")
    await bench.drain()
    await bench.drain()
    assert bench.units() == [first + "\n more\n\tmore"]
    await bench.stop()


async def test_a_carriage_return_belongs_to_its_line(tmp_path: Path):
    bench = UnitBench(tmp_path, TRACE)
    bench.append(b"AUDIT\r\n\tat\r\n\r\nz\r\n")
    await bench.drain()
    assert bench.units() == ["AUDIT\r\n\tat\r\n\r"]
    await bench.stop()


@pytest.mark.parametrize("audit", [True, False])
async def test_a_unit_of_ten_megabytes_is_stated_and_holds_the_cursor(tmp_path: Path, *, audit: bool):
    bench = UnitBench(tmp_path, NEVER)
    unit = b"1 " + (b"AUDIT" if audit else b"plain") + b"".join(b"\n  %06d " % number + b"y" * 8000 for number in range(1300))
    bench.append(b"0 AUDIT\n" + unit + b"\n")
    await bench.drain()
    assert bench.units() == ["0 AUDIT"]
    assert bench.cursor_offset() == 8
    await bench.crash()
    bench.append(b"2 AUDIT\n3 x\n")
    bench.sink.data = b""
    await bench.drain()
    assert bench.units() == ["0 AUDIT", f"{len(unit)} bytes", "2 AUDIT"] if audit else ["0 AUDIT", "2 AUDIT"]
    if audit:
        assert bench.intake.of_kind("quarantine")[1]["sha256"] == sha256(unit).hexdigest()
        assert bench.sink.data == b""
    else:
        assert bench.sink.data == unit + b"\n"
    await bench.stop()


async def test_a_unit_of_a_hundred_thousand_lines_is_one_statement(tmp_path: Path):
    bench = UnitBench(tmp_path, TRACE)
    unit = b"AUDIT" + b"\n\tat x" * 100_000
    bench.append(unit + b"\nAUDIT\nz\n")
    await bench.drain()
    assert bench.units() == [f"{len(unit)} bytes", "AUDIT"]
    (progress,) = [progress for append in bench.intake.durable for progress in append.progress if progress.quarantined]
    assert (progress.lines, progress.audit) == (2, 2)
    await bench.stop()


async def test_a_unit_over_the_limit_that_nobody_goes_on_with_is_stated_after_its_patience(tmp_path: Path):
    bench = UnitBench(tmp_path, START, SMALL)
    unit = "1 AUDIT" + "\n  more" * 1000
    bench.append(unit + "\n")
    async with running(bench):
        await until(lambda: bench.units() == [f"{len(unit)} bytes"])
    assert bench.cursor_offset() == bench.path.stat().st_size


async def test_units_that_fill_blocks_do_not_keep_the_reader_from_going_on(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER, SMALL)
    units = [f"{number} AUDIT\n" + "  more\n" * 140 + "  end" for number in range(30)]
    bench.append("".join(unit + "\n" for unit in units) + "x" * LIMIT)
    await bench.drain()
    assert bench.units() == units[:-1]
    bench.append("\n31 x\n")
    await bench.drain()
    assert bench.units() == [*units[:-1], f"{len(units[-1]) + 1 + LIMIT} bytes"]
    await bench.stop()


async def test_a_unit_is_complete_in_time_though_its_file_had_to_be_closed(tmp_path: Path):
    bench = UnitBench(tmp_path, replace(START, patience_seconds=0.3), replace(SMALL, max_open=1), patterns=("*.log",))
    others = [tmp_path / f"{name}.log" for name in "bcd"]
    bench.append("1 AUDIT\n  a\n")
    for number, other in enumerate(others):
        other.write_text(f"{number + 2} AUDIT\n  a\n")
    async with running(bench):
        await until(lambda: len(bench.units()) == 4)
    assert sorted(bench.units()) == [f"{number} AUDIT\n  a" for number in range(1, 5)]


async def test_a_unit_at_the_end_of_what_was_rotated_and_compressed_is_complete(tmp_path: Path):
    bench = UnitBench(tmp_path, NEVER)
    bench.append("0 x\n1 AUDIT\n  a\n")
    await bench.drain()
    await bench.crash()
    bench.append("  b\n2 AUDIT\n  no newline")
    turn(bench.path)
    rotated = bench.path.with_name("app.log.1")
    rotated.with_name("app.log.1.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    bench.append("3 AUDIT\n4 x\n")
    await bench.drain()
    await bench.drain()
    assert bench.units() == ["1 AUDIT\n  a\n  b", "2 AUDIT\n  no newline", "3 AUDIT"]
    await bench.stop()


async def test_where_nothing_reports_a_change_a_unit_is_complete_in_time_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(wake, "Inotify", refuse)
    bench = UnitBench(tmp_path, START, replace(SMALL, poll_seconds=0.02))
    async with running(bench):
        bench.append("1 AUDIT\n  a\n")
        await until(lambda: bench.units() == ["1 AUDIT\n  a"])
