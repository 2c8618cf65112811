"""A stream whose lines join to units: how long the last one waits, and that a worker's death neither breaks nor doubles one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.relay.wire import CONFIRMED, encode_data, encode_end, encode_gap
from tests.support.joined_units import START, raws
from tests.support.stream_worker import Intake, Worker

NEVER = replace(START, patience_seconds=300)
FIRST = b"1 AUDIT\n  a\n"


async def test_a_unit_is_acknowledged_once_it_is_complete() -> None:
    worker = Worker(Intake(), joining=NEVER)
    assert await worker.numbers(1) == [0]
    worker.send(encode_data(FIRST[:9]))
    worker.send(encode_data(FIRST[9:] + b"2"))
    worker.send(encode_data(b" AUDIT\n"))
    assert await worker.numbers(1) == [len(FIRST)]
    assert raws(worker.intake.records) == ["1 AUDIT\n  a"]
    worker.send(encode_end())
    assert await worker.numbers(2) == [len(FIRST) + 8, CONFIRMED]
    assert await worker.ended()
    assert raws(worker.intake.records) == ["1 AUDIT\n  a", "2 AUDIT"]
    assert worker.intake.ranges == [(0, len(FIRST)), (len(FIRST), len(FIRST) + 8)]


async def test_a_unit_with_which_nobody_goes_on_is_complete_after_a_while() -> None:
    worker = Worker(Intake(), joining=START)
    await worker.numbers(1)
    worker.send(encode_data(FIRST))
    assert await worker.numbers(1) == [len(FIRST)]
    assert raws(worker.intake.records) == ["1 AUDIT\n  a"]
    worker.send(encode_data(b"2 x\n  AUDIT b\n") + encode_end())
    assert await worker.ended()
    assert raws(worker.intake.records)[1:] == ["2 x\n  AUDIT b"]


async def test_a_begun_line_that_may_go_on_keeps_a_unit_waiting_but_not_for_the_streams_end() -> None:
    worker = Worker(Intake(), joining=START)
    await worker.numbers(1)
    worker.send(encode_data(FIRST + b"  be"))
    await asyncio.sleep(0.3)
    assert worker.intake.records == []
    worker.send(encode_end())
    assert await worker.ended()
    assert raws(worker.intake.records) == ["1 AUDIT\n  a\n  be"]


async def test_the_next_worker_is_sent_the_unit_again() -> None:
    worker = Worker(Intake(), joining=NEVER)
    await worker.numbers(1)
    worker.send(encode_data(b"0 AUDIT\n" + FIRST))
    assert await worker.numbers(1) == [8]
    worker.run.cancel()
    await asyncio.gather(worker.run, return_exceptions=True)
    worker.vanish()
    again = Worker(Intake(worker.intake.newest), joining=NEVER, base=8)
    assert await again.numbers(1) == [8]
    again.send(encode_data(FIRST + b"  more\n") + encode_end())
    assert await again.ended()
    assert raws(again.intake.records) == ["1 AUDIT\n  a\n  more"]


async def test_a_parent_that_vanishes_ends_the_last_unit() -> None:
    worker = Worker(Intake(), joining=NEVER)
    worker.send(encode_data(FIRST))
    worker.vanish()
    assert not await worker.ended()
    assert raws(worker.intake.records) == ["1 AUDIT\n  a"]
    assert [record["kind"] for record in worker.intake.records] == ["quarantine", "gap"]


async def test_before_bytes_that_were_thrown_away_whole_lines_are_a_unit_and_a_begun_line_is_lost() -> None:
    worker = Worker(Intake(), joining=NEVER)
    worker.send(encode_data(FIRST + b"  beg") + encode_gap(len(FIRST) + 5, 100) + encode_data(b"  AUDIT\n") + encode_end())
    assert await worker.ended()
    unit, gap, rest = worker.intake.records
    assert unit["raw"] == "1 AUDIT\n  a"
    assert (gap["certainty"], gap["from_offset"], gap["to_offset"]) == ("known", len(FIRST), 100)
    assert rest["raw"] == "  AUDIT"


async def test_bytes_thrown_away_inside_a_unit_over_the_limit_leave_a_statement_of_what_there_was() -> None:
    worker = Worker(Intake(), joining=NEVER)
    unit = b"1 AUDIT" + b"\n  more" * 600
    worker.send(encode_data(unit + b"\n") + encode_gap(len(unit) + 1, len(unit) + 100) + encode_data(b"2 AUDIT\n") + encode_end())
    assert await worker.ended()
    long, gap, rest = worker.intake.records
    assert (long["reason"], long["length"]) == ("too_long", len(unit))
    assert (gap["from_offset"], gap["to_offset"]) == (len(unit) + 1, len(unit) + 100)
    assert rest["raw"] == "2 AUDIT"


async def test_a_unit_larger_than_the_parent_can_hold_does_not_stop_the_stream() -> None:
    worker = Worker(Intake(), joining=NEVER)
    await worker.numbers(1)
    lines = b"1 AUDIT" + (b"\n  " + b"y" * 60_000) * 40
    sent = 0
    for start in range(0, len(lines), 50_000):
        worker.send(encode_data(lines[start : start + 50_000]))
        sent += len(lines[start : start + 50_000])
        await asyncio.sleep(0.01)
    worker.send(encode_data(b"\n2 x\n") + encode_end())
    assert await worker.ended()
    (long,) = worker.intake.records
    assert (long["reason"], long["length"]) == ("too_long", len(lines))
