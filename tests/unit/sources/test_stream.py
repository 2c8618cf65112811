"""A stream source takes each byte once, whatever earlier workers and parents left behind."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import pytest

from agent.errors import DurabilityError
from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.relay.wire import (
    CONFIRMED,
    ENVIRONMENT_KEY,
    encode_data,
    encode_end,
    encode_gap,
)
from agent.separator import Separator
from agent.sources.stream import InheritedStream, StreamSource, inherited_streams
from tests.support.stream_worker import STREAM, Clock, Intake, Sink, Worker

if TYPE_CHECKING:
    from agent.intake import Cursor

EARLIER = "01k7x6521nqvrn4qxjf4y6qbca"
AUDIT = b'{"stream":"audit"}\n'


async def cursors_after(raw: bytes) -> list[Cursor]:
    """Return the unfinished cursors a worker leaves that is cut off after these frames."""
    intake = Intake()
    worker = Worker(intake)
    await worker.numbers(1)
    worker.send(raw)
    await worker.numbers(1)
    worker.run.cancel()
    await asyncio.gather(worker.run, return_exceptions=True)
    worker.vanish()
    return intake.newest


async def test_a_stream_is_opened_read_acknowledged_and_finished() -> None:
    intake = Intake()
    worker = Worker(intake)
    assert await worker.numbers(1) == [0]
    assert [(cursor.offset, cursor.finished) for cursor in intake.newest] == [(0, False)]
    worker.send(encode_data(b"one\n" + AUDIT + b"tw"))
    assert await worker.numbers(1) == [4 + len(AUDIT)]
    worker.send(encode_data(b"o\nlast") + encode_end())
    end = 4 + len(AUDIT) + 4 + 4
    assert await worker.numbers(3) == [end - 4, end, CONFIRMED]
    assert await worker.ended()
    assert worker.sink.data == b"one\ntwo\nlast"
    assert [record["raw"].encode() for record in intake.records] == [AUDIT[:-1]]
    assert [(cursor.file_id, cursor.path, cursor.offset, cursor.finished) for cursor in intake.newest] == [(STREAM, "stdout", end, True)]


async def test_what_is_durable_already_is_skipped() -> None:
    cursors = await cursors_after(encode_data(AUDIT * 3 + b"beg"))
    intake = Intake(cursors)
    worker = Worker(intake)
    assert await worker.numbers(1) == [3 * len(AUDIT)]
    for byte in AUDIT * 3 + b"begin\n":
        worker.send(encode_data(bytes([byte])))
    worker.send(encode_end())
    assert await worker.ended()
    assert intake.records == []
    assert worker.sink.data == b"begin\n"
    assert intake.ranges == [(3 * len(AUDIT), 3 * len(AUDIT) + 6)]


async def test_a_confirmed_stream_ends_at_once() -> None:
    worker = Worker(Intake(), base=10, end=10, confirmed=True)
    assert await worker.ended()
    assert worker.intake.appends == []


async def test_an_end_that_became_durable_unconfirmed_is_not_read_again() -> None:
    worker = Worker(Intake(), base=10, end=10)
    assert await worker.numbers(1) == [CONFIRMED]
    assert await worker.ended()
    assert worker.intake.appends == []


async def test_an_empty_stream_is_opened_and_finished() -> None:
    worker = Worker(Intake(), end=0)
    worker.send(encode_end())
    assert await worker.ended()
    assert [(cursor.offset, cursor.finished) for cursor in worker.intake.newest] == [(0, True)]


async def test_an_earlier_stream_without_an_end_is_stated_and_finished() -> None:
    (cursor,) = await cursors_after(encode_data(AUDIT))
    intake = Intake([type(cursor)(source="app", file_id=EARLIER, path="stdout", offset=cursor.offset)])
    worker = Worker(intake)
    worker.send(encode_end())
    assert await worker.ended()
    (gap,) = intake.records
    assert (gap["cause"], gap["certainty"], gap["from_offset"], gap["to_offset"]) == ("worker_crashed", "possible", len(AUDIT), None)
    assert gap["file_id"] == EARLIER
    assert {cursor.file_id: cursor.finished for cursor in intake.newest} == {EARLIER: True, STREAM: True}


async def test_a_parent_that_vanishes_is_stated_after_what_it_sent() -> None:
    worker = Worker(Intake())
    worker.send(encode_data(AUDIT + AUDIT[:-1]))
    worker.vanish()
    assert not await worker.ended()
    *lines, gap = worker.intake.records
    assert len(lines) == 2
    assert (gap["cause"], gap["certainty"], gap["from_offset"], gap["to_offset"]) == (
        "worker_crashed",
        "possible",
        2 * len(AUDIT) - 1,
        None,
    )
    assert [cursor.finished for cursor in worker.intake.newest] == [True]


async def test_a_parent_that_vanishes_before_the_header_leaves_nothing() -> None:
    ours, theirs = socket.socketpair()
    rule = FieldRule()
    separator = Separator("app", rule, Validator(rule), keep_observability=True, has_offsets=False)
    intake = Intake()
    source = StreamSource(InheritedStream("app", "stdout", theirs.detach()), separator, rule.is_audit, intake, Sink(), Clock())
    ours.close()
    assert not await source.run(asyncio.Event())
    assert intake.appends == []


async def test_bytes_the_parent_threw_away_are_one_gap_with_the_line_they_cut() -> None:
    worker = Worker(Intake())
    worker.send(encode_data(AUDIT + b"cut he") + encode_gap(len(AUDIT) + 6, 100) + encode_data(b"next\n") + encode_end())
    assert await worker.ended()
    gap = worker.intake.records[1]
    assert (gap["cause"], gap["certainty"], gap["from_offset"], gap["to_offset"]) == ("spool_full", "known", len(AUDIT), 100)
    assert worker.intake.ranges == [(0, len(AUDIT)), (len(AUDIT), 100), (100, 105)]
    assert worker.sink.data == b"next\n"
    assert sum(append.bytes_lost for append in worker.intake.appends) == 100 - len(AUDIT)


async def test_a_gap_that_is_durable_is_not_stated_again_but_for_what_was_added() -> None:
    cursors = await cursors_after(encode_gap(0, 50))
    for end, ranges in ((50, []), (80, [(50, 80)])):
        worker = Worker(Intake(cursors))
        worker.send(encode_gap(0, end) + encode_data(b"x\n") + encode_end())
        assert await worker.ended()
        assert worker.intake.ranges == [*ranges, (end, end + 2)]
        assert len(worker.intake.records) == len(ranges)


async def test_bytes_that_were_given_up_unstated_are_possibly_lost() -> None:
    cursors = await cursors_after(encode_data(AUDIT))
    worker = Worker(Intake(cursors), base=1000)
    worker.send(encode_data(b"x\n") + encode_end())
    assert await worker.ended()
    (gap,) = worker.intake.records
    assert (gap["certainty"], gap["from_offset"], gap["to_offset"]) == ("possible", len(AUDIT), 1000)
    assert worker.intake.ranges == [(len(AUDIT), 1000), (1000, 1002)]


async def test_a_full_spool_with_gap_is_stated_when_there_is_room_again() -> None:
    worker = Worker(Intake(), when_full="gap")
    await worker.numbers(1)
    worker.intake.room = False
    worker.send(encode_data(b"before\n"))
    await worker.numbers(1)
    worker.send(encode_data(AUDIT * 2 + b"seen\n"))
    assert await worker.numbers(1) == [7 + 2 * len(AUDIT) + 5]
    assert worker.sink.data == b"before\nseen\n"
    assert worker.intake.records == []
    worker.intake.room = True
    worker.send(encode_data(AUDIT) + encode_end())
    assert await worker.ended()
    gap, line = worker.intake.records
    assert gap["detail"].startswith("2 audit lines")
    assert (gap["certainty"], gap["from_offset"], gap["to_offset"]) == ("known", 7, 7 + 2 * len(AUDIT) + 5)
    assert line["kind"] == "quarantine"
    progress = [part for append in worker.intake.appends for part in append.progress]
    assert sum(part.lines for part in progress) == 5
    assert [part.from_offset for part in progress] == [0, *(part.to_offset for part in progress[:-1])]


async def test_losses_of_the_worker_and_of_its_parent_are_one_loss() -> None:
    worker = Worker(Intake(), when_full="gap")
    await worker.numbers(1)
    worker.intake.room = False
    first = AUDIT + b"seen\n"
    worker.send(encode_data(first))
    await worker.numbers(1)
    worker.send(encode_gap(len(first), len(first) + 50) + encode_data(AUDIT) + encode_gap(len(first + AUDIT) + 50, len(first + AUDIT) + 60))
    await worker.numbers(2)
    assert worker.intake.records == []
    worker.intake.room = True
    worker.send(encode_end())
    assert await worker.ended()
    (gap,) = worker.intake.records
    assert gap["detail"] == (
        f"2 audit lines of {2 * len(AUDIT)} bytes between these offsets were given up while the spool was full; "
        "the relay threw away 60 bytes while the agent took none"
    )
    assert sum(append.bytes_lost for append in worker.intake.appends) == 2 * len(AUDIT) + 60
    assert worker.intake.ranges == [(0, len(first + AUDIT) + 60)]


async def test_block_waits_for_room_until_it_is_told_to_hurry() -> None:
    worker = Worker(Intake())
    await worker.numbers(1)
    worker.intake.room = False
    worker.send(encode_data(AUDIT) + encode_data(b"seen\n" + AUDIT) + encode_end())
    await asyncio.sleep(0.1)
    assert not worker.run.done()
    assert worker.intake.records == []
    worker.hurry()
    assert await worker.ended()
    (gap,) = worker.intake.records
    assert (gap["cause"], gap["certainty"], gap["detail"].split(" between")[0]) == (
        "spool_full",
        "known",
        f"2 audit lines of {2 * len(AUDIT)} bytes",
    )
    assert worker.sink.data == b"seen\n"
    assert [cursor.finished for cursor in worker.intake.newest] == [True]


async def test_a_hurry_costs_nothing_where_there_is_room() -> None:
    worker = Worker(Intake())
    await worker.numbers(1)
    worker.hurry()
    await asyncio.sleep(0.05)
    worker.send(encode_data(AUDIT) + encode_end())
    assert await worker.ended()
    assert [record["kind"] for record in worker.intake.records] == ["quarantine"]


async def test_an_end_that_is_not_the_writers_is_stated() -> None:
    worker = Worker(Intake())
    worker.send(encode_data(AUDIT) + encode_end(cut=True))
    assert await worker.ended()
    gap = worker.intake.records[-1]
    assert (gap["cause"], gap["certainty"], gap["from_offset"], gap["to_offset"]) == ("unreadable", "possible", len(AUDIT), None)
    assert [cursor.finished for cursor in worker.intake.newest] == [True]


async def test_a_disk_that_refuses_ends_the_source_with_its_own_error() -> None:
    worker = Worker(Intake())
    await worker.numbers(1)
    worker.intake.failing = True
    worker.send(encode_data(AUDIT))
    with pytest.raises(DurabilityError):
        await worker.ended()


def test_streams_are_found_in_the_environment() -> None:
    assert inherited_streams({}) == []
    told = json.dumps([{"source": "app", "channel": "stderr", "fd": 7}])
    assert inherited_streams({ENVIRONMENT_KEY: told}) == [InheritedStream("app", "stderr", 7)]
