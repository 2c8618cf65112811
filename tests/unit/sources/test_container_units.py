"""Container logs whose lines join to units: interleaved streams, pieces, rotation, the end's patience, and what is too long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agent.events.mappings.joining import Joining
from agent.sources.container.envelope import ContainerEnvelope
from agent.sources.container.units import UnitEnvelope
from agent.sources.envelope import Ending
from agent.sources.lines import Overlong, Passed, Whole
from tests.support.container_logs import ContainerBench, envelope, pieces
from tests.support.joined_units import has_tag, raws
from tests.support.tail_bench import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.sources.envelope import Taken
    from agent.sources.lines import Piece

LIMIT = 200
START = Joining("start", r"^\d+ ", max_lines=5, patience_seconds=300)
SAME = Joining("same", r"id=(\d+)", "end$", patience_seconds=300)


def take(*lines: bytes, joining: Joining = START, ending: Ending = Ending.WAIT, in_bulk: bool = True) -> Taken:
    of = UnitEnvelope(ContainerEnvelope({"pod": "p"}, has_tag, LIMIT, 20, in_bulk=in_bulk), joining)
    return of.take([Whole(0, b"".join(lines))], 0, "", None, ending)


def units(given: Sequence[Piece], joining: Joining = START) -> list[bytes]:
    """Return what pieces are: units as the separator would find them, what passes, what is stated."""
    found: list[bytes] = []
    for piece in given:
        match piece:
            case Whole(_, data, places):
                spans = joining.units(data)
                assert places is not None
                at, _ = places.of(spans)
                assert all(start + extent <= following for (start, extent), (following, _) in pairwise(at))
                found += [data[start:end] for start, end in spans]
            case Passed(_, data, _):
                found.append(b"passed " + data)
            case Overlong(_, length, _, _, _, _, _):
                found.append(b"%d bytes" % length)
    return found


def full(*texts: bytes, stream: str = "stderr") -> list[bytes]:
    return [envelope(text, stream) for text in texts]


@pytest.mark.parametrize("in_bulk", [True, False])
def test_the_last_unit_waits_and_the_file_is_settled_before_it(in_bulk):
    lines = full(b"1 a", b"  b", b"2 c", b"  d")
    taken = take(*lines, in_bulk=in_bulk)
    assert units(taken.pieces) == [b"1 a\n  b"]
    assert taken.settled == len(b"".join(lines[:2]))
    assert taken.rest is not None
    assert units(taken.rest.waiting) == [b"2 c\n  d"]
    assert units(take(*lines, ending=Ending.CUT, in_bulk=in_bulk).pieces) == [b"1 a\n  b", b"2 c\n  d"]


@pytest.mark.parametrize("in_bulk", [True, False])
def test_a_unit_lies_from_its_first_line_to_its_last(in_bulk):
    lines = full(b"1 a", b"  b", b"", b"2 c")
    (piece,) = take(*lines, in_bulk=in_bulk).pieces
    assert isinstance(piece, Whole)
    assert piece.places is not None
    assert piece.places.of([(0, len(piece.data) - 1)])[0] == [(0, len(b"".join(lines[:3])) - 1)]


@pytest.mark.parametrize("in_bulk", [True, False])
def test_a_line_of_the_other_stream_ends_a_unit_and_begins_one(in_bulk):
    lines = [*full(b"1 a", b"  b"), *full(b"  c", b"  d", stream="stdout"), *full(b"  e", b"2 f")]
    taken = take(*lines, in_bulk=in_bulk)
    assert units(taken.pieces) == [b"1 a\n  b", b"  c\n  d", b"  e"]
    whose = [members for piece in taken.pieces if isinstance(piece, Whole) and piece.places for members in piece.places.of([(0, 1)])[1]]
    assert [b"stdout" in member for member in whose] == [False, True, False]


def test_equal_groups_in_both_streams_are_two_units():
    lines = [*full(b"id=1 a", b"id=1 b"), *full(b"id=1 c", stream="stdout"), *full(b"id=1 end", b"id=1 d")]
    assert units(take(*lines, joining=SAME).pieces, SAME) == [b"id=1 a\nid=1 b", b"id=1 c", b"id=1 end"]


def test_a_unit_that_has_ended_does_not_wait():
    lines = full(b"id=1 a", b"id=1 end")
    taken = take(*lines, joining=SAME)
    assert units(taken.pieces, SAME) == [b"id=1 a\nid=1 end"]
    assert (taken.settled, taken.rest) == (len(b"".join(lines)), None)


def test_a_waiting_unit_whose_pieces_others_interrupt_is_read_again_from_its_first_piece():
    first, last = pieces(b"2 " + b"y" * 40, 30, "stderr")
    lines = [*full(b"1 a"), first, *full(b"1 out", b"3 out", stream="stdout"), last]
    taken = take(*lines)
    assert units(taken.pieces) == [b"1 a"]
    assert taken.settled == len(lines[0])
    assert taken.rest is not None
    assert units(taken.rest.waiting) == [b"1 out", b"3 out", b"2 " + b"y" * 40]


def test_no_unit_is_cut_in_two_by_the_place_up_to_which_a_file_is_settled():
    first, last = pieces(b"2 " + b"y" * 40, 30, "stderr")
    lines = [*full(b"1 out", stream="stdout"), first, *full(b"  goes on", stream="stdout"), last]
    taken = take(*lines)
    assert (taken.pieces, taken.settled) == ((), 0)
    earlier = full(b"0 earlier", stream="stdout")
    taken = take(*earlier, *lines)
    assert units(taken.pieces) == [b"0 earlier"]
    assert taken.settled == len(earlier[0])
    assert units(take(*earlier, *lines, ending=Ending.FINAL).pieces) == [b"0 earlier", b"1 out\n  goes on", b"2 " + b"y" * 40]


def test_a_line_in_no_envelope_is_a_unit_and_ends_one():
    taken = take(*full(b"1 a"), b"  odd\n", *full(b"  b", b"2 c"))
    assert units(taken.pieces) == [b"1 a", b"  odd", b"  b"]


@pytest.mark.parametrize("tag", [b"AUDIT", b"plain"])
def test_units_over_the_limits_are_stated_or_pass(tag):
    many = [b"1 " + tag, *[b"  y"] * 5]
    large = [b"2 " + tag, b"  " + b"z" * LIMIT]
    taken = take(*full(b"0 a", *many, *large, b"3 b", b"4 c"))
    stated = [b"\n".join(lines) for lines in (many, large)]
    if tag == b"plain":
        assert units(taken.pieces) == [b"0 a", b"passed " + stated[0] + b"\n", b"passed " + stated[1] + b"\n", b"3 b"]
        return
    assert units(taken.pieces) == [b"0 a", b"%d bytes" % len(stated[0]), b"%d bytes" % len(stated[1]), b"3 b"]
    first = taken.pieces[1]
    assert isinstance(first, Overlong)
    begin = len(envelope(b"0 a", "stderr"))
    assert (first.offset, first.extent) == (begin, len(b"".join(full(*many))) - 1)
    assert (first.sha256, first.head) == (sha256(stated[0]).hexdigest(), stated[0][:20])
    assert b"stderr" in first.member


def bench_of(folder: Path, joining: Joining = START, **changes: float) -> ContainerBench:
    return ContainerBench(folder, replace(AT_ONCE, **changes), joining=joining)  # type: ignore[arg-type]


async def test_a_unit_that_a_crash_cut_in_two_is_there_once_and_whole(tmp_path: Path):
    bench = bench_of(tmp_path)
    bench.log.write(*full(b"1 AUDIT", b"  a"))
    await bench.drain()
    await bench.crash()
    bench.log.write(*full(b"  b", b"2 AUDIT"))
    await bench.drain()
    await bench.stop()
    bench.log.write(*full(b"  c", b"3 x"))
    await bench.drain()
    assert raws(bench.intake.records()) == ["1 AUDIT\n  a\n  b", "2 AUDIT\n  c"]
    await bench.stop()


@pytest.mark.parametrize("packed", [False, True])
async def test_a_unit_at_a_files_end_is_made_durable_with_what_follows_in_the_next_one(tmp_path: Path, *, packed: bool):
    bench = bench_of(tmp_path)
    bench.log.write(*full(b"1 AUDIT", b"  a"))
    await bench.drain()
    bench.log.rotate()
    bench.log.write(*full(b"  AUDIT b", b"2 AUDIT", b"3 x"))
    bench.log.rotate(pack=packed)
    bench.log.write(*full(b"4 x"))
    await bench.drain()
    await bench.drain()
    assert raws(bench.intake.records()) == ["1 AUDIT\n  a", "  AUDIT b", "2 AUDIT"]
    assert bench.gaps() == []
    await bench.stop()


async def test_a_removed_logs_last_unit_is_complete(tmp_path: Path):
    bench = bench_of(tmp_path)
    bench.log.write(*full(b"1 AUDIT", b"  a"))
    await bench.drain()
    bench.log.path.unlink()
    await bench.drain()
    await bench.drain()
    assert raws(bench.intake.records()) == ["1 AUDIT\n  a"]
    await bench.stop()


async def test_a_unit_with_which_nobody_goes_on_is_complete_after_its_own_patience(tmp_path: Path):
    bench = bench_of(tmp_path, replace(START, patience_seconds=0.05), unfinished_seconds=3600)
    bench.log.write(*full(b"1 AUDIT", b"  a"))
    stop = asyncio.Event()
    running = asyncio.create_task(bench.source().run(stop))
    async with asyncio.timeout(10):
        while not bench.intake.records():
            await asyncio.sleep(0.005)
    assert raws(bench.intake.records()) == ["1 AUDIT\n  a"]
    bench.log.write(*full(b"2 AUDIT"), *pieces(b"  unfinished " + b"y" * 40, 20, "stderr")[:1])
    await asyncio.sleep(0.3)
    # What may go on with it is unfinished, and that has more patience.
    assert len(bench.intake.records()) == 1
    bench.log.write(*pieces(b"  unfinished " + b"y" * 40, 20, "stderr")[1:])
    async with asyncio.timeout(10):
        while len(bench.intake.records()) < 2:
            await asyncio.sleep(0.005)
    assert raws(bench.intake.records())[1] == "2 AUDIT\n  unfinished " + "y" * 40
    stop.set()
    await running
