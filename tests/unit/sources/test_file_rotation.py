from __future__ import annotations

import gzip
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from agent.sources.file import TailSettings
from agent.sources.file.reader import Reader, Step
from tests.support.tail_bench import Bench, turn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    await bench.stop()


async def test_lines_are_separated_and_a_partial_line_waits_for_its_rest(bench: Bench):
    bench.write(audit=2, text="plain\n")
    bench.write(text='{"half":')
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.sink.data == b"plain\n"
    bench.write(text="1}\n")
    await bench.drain()
    assert bench.sink.data == b'plain\n{"half":1}\n'
    assert bench.gaps() == []


async def test_progress_joins_up_and_accounts_for_every_byte(bench: Bench):
    for _ in range(3):
        bench.write(audit=2, text="plain\n")
        await bench.drain()
    steps = [one for append in bench.intake.durable for one in append.progress]
    assert [one.from_offset for one in steps] == [0, *(one.to_offset for one in steps[:-1])]
    assert steps[-1].to_offset == bench.path.stat().st_size
    assert sum(one.lines for one in steps) == sum(one.audit + one.observability for one in steps) == 9


async def test_rotation_is_followed_while_running(bench: Bench):
    bench.write(audit=2)
    await bench.drain()
    bench.write(audit=2)
    turn(bench.path)
    bench.write(audit=2)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_two_rotations_between_two_looks_lose_nothing(bench: Bench):
    bench.write(audit=1)
    await bench.drain()
    for _ in range(3):
        bench.write(audit=2)
        turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written


@pytest.mark.parametrize("rotations", [1, 2, 4])
async def test_rotations_while_the_agent_was_down(bench: Bench, rotations: int):
    bench.write(audit=3)
    await bench.drain()
    await bench.stop()
    for _ in range(rotations):
        bench.write(audit=2)
        turn(bench.path)
    bench.write(audit=2)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_files_that_were_finished_are_not_read_again(bench: Bench):
    for _ in range(3):
        bench.write(audit=2)
        await bench.drain()
        turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    await bench.stop()
    bench.write(audit=1)
    turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written


async def test_a_file_that_came_and_was_rotated_while_the_agent_was_down_is_read(bench: Bench):
    bench.write(audit=2)
    await bench.drain()
    turn(bench.path)
    await bench.drain()
    await bench.drain()
    await bench.stop()
    bench.write(audit=2)
    turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_the_last_line_without_newline_counts_once_the_file_is_rotated_away(bench: Bench):
    bench.write(audit=1)
    bench.write(text=bench.next_audit())
    await bench.drain()
    assert bench.ids() == bench.written[:1]
    turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert sorted(bench.ids()) == sorted(bench.written)


async def test_a_writer_that_has_not_noticed_the_rotation_is_still_read(tmp_path: Path):
    bench = Bench(tmp_path, TailSettings(eof_hold_seconds=0, linger_seconds=60))
    with bench.path.open("ab", buffering=0) as old:
        bench.write(audit=1)
        await bench.drain()
        turn(bench.path)
        bench.write(audit=1)
        await bench.drain()
        old.write(bench.next_audit().encode() + b"\n")
        await bench.drain()
    assert bench.ids() == bench.written
    await bench.stop()


async def test_a_newer_file_is_not_read_before_what_its_writer_wrote_to_the_old_one(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.settings = TailSettings(eof_hold_seconds=60)
    real = Reader.step
    moves: list[bytes] = []

    def step(self: Reader, *, final: bool = False) -> Step:
        result = real(self, final=final)
        if moves and result.at_end and result.append is None:
            late, new = moves
            moves.clear()
            old.write(late)
            bench.path.write_bytes(new)
        return result

    monkeypatch.setattr(Reader, "step", step)
    with bench.path.open("ab", buffering=0) as old:
        bench.write(audit=2)
        await bench.drain()
        turn(bench.path)
        bench.path.touch()
        moves += [bench.next_audit().encode() + b"\n", bench.next_audit().encode() + b"\n"]
        await bench.drain()
        await bench.drain()
    assert moves == []
    assert bench.ids() == bench.written


async def test_a_file_that_comes_back_under_its_name_goes_on_where_it_was_left(bench: Bench):
    bench.write(audit=3)
    await bench.drain()
    away = bench.path.with_name("elsewhere")
    bench.path.rename(away)
    await bench.drain()
    assert [cursor.finished for cursor in bench.intake.all_cursors()] == [True]
    away.rename(bench.path)
    bench.write(audit=2)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_a_deleted_file_is_read_to_its_end(bench: Bench):
    bench.write(audit=1)
    await bench.drain()
    bench.write(audit=2)
    bench.path.unlink()
    await bench.drain()
    assert bench.ids() == bench.written
    await bench.stop()
    await bench.drain()
    assert bench.gaps() == []


async def test_a_file_that_vanished_while_the_agent_was_down_is_a_gap(bench: Bench):
    bench.write(audit=1, text="half")
    await bench.drain()
    await bench.stop()
    size = bench.path.stat().st_size
    bench.path.unlink()
    await bench.drain()
    known, unbounded = bench.gaps()
    assert (known["cause"], known["certainty"], known["from_offset"], known["to_offset"]) == ("vanished", "known", size - 4, size)
    assert (unbounded["cause"], unbounded["certainty"], unbounded["from_offset"], unbounded["to_offset"]) == (
        "vanished",
        "unbounded",
        size,
        None,
    )
    assert sum(append.bytes_lost for append in bench.intake.durable) == 4
    await bench.stop()
    await bench.drain()
    assert len(bench.gaps()) == 2


async def test_a_file_that_was_replaced_while_the_agent_was_down_is_a_gap_and_the_new_one_is_read(bench: Bench):
    bench.write(audit=1)
    await bench.drain()
    await bench.stop()
    bench.path.rename(bench.path.with_name("keep"))
    bench.write(audit=2)
    bench.path.with_name("keep").unlink()
    await bench.drain()
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("rotated_away", "unbounded")]
    assert bench.ids() == bench.written


@pytest.mark.parametrize("down", [False, True])
async def test_copytruncate_with_its_copy_loses_nothing_and_says_what_may_be_lost(bench: Bench, *, down: bool):
    bench.write(audit=2)
    await bench.drain()
    if down:
        await bench.stop()
    bench.write(audit=2)
    shutil.copyfile(bench.path, bench.path.with_name("app.log.1"))
    os.truncate(bench.path, 0)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "possible")]


@pytest.mark.parametrize("grown", [0, 1, 40])
async def test_truncation_without_a_copy_states_the_unread_bytes(bench: Bench, grown: int):
    bench.write(audit=3)
    await bench.drain()
    size = bench.path.stat().st_size
    bench.write(text="half")
    await bench.drain()
    os.truncate(bench.path, 0)
    bench.write(audit=grown)
    await bench.drain()
    assert [(gap["certainty"], gap["from_offset"], gap["to_offset"]) for gap in bench.gaps()] == [
        ("known", size, size + 4),
        ("possible", size + 4, None),
    ]
    assert bench.ids() == bench.written


async def test_truncation_while_the_agent_was_down_is_unbounded_without_a_copy(bench: Bench):
    bench.write(audit=3)
    await bench.drain()
    await bench.stop()
    os.truncate(bench.path, 0)
    bench.write(audit=9)
    await bench.drain()
    assert [(gap["cause"], gap["certainty"]) for gap in bench.gaps()] == [("truncated", "unbounded")]
    assert bench.ids() == bench.written


@pytest.mark.parametrize("unread", [0, 3])
async def test_the_hole_of_a_writer_that_kept_its_position_is_skipped(bench: Bench, unread: int):
    with bench.path.open("wb", buffering=0) as writer:
        writer.write(bench.next_audit().encode() + b"\n")
        await bench.drain()
        read = writer.tell()
        lost = [bench.next_audit().encode() + b"\n" for _ in range(unread)]
        writer.write(b"".join(lost))
        os.truncate(bench.path, 0)
        del bench.written[1:]
        writer.write(bench.next_audit().encode() + b"\n")
        await bench.drain()
    assert bench.ids() == bench.written
    holes = [gap for gap in bench.gaps() if gap["cause"] == "hole"]
    assert [(gap["from_offset"], gap["to_offset"]) for gap in holes] == ([(read, read + sum(map(len, lost)))] if unread else [])
    assert bench.intake.of_kind("quarantine") == []


async def test_a_rolled_back_file_is_read_again_from_the_newest_mark_that_fits(bench: Bench):
    for _ in range(4):
        bench.write(audit=3)
        await bench.drain()
    mark = bench.intake.all_cursors()[0].anchors[1].offset
    await bench.stop()
    os.truncate(bench.path, mark + 10)
    bench.write(text="\n")
    bench.write(audit=1)
    await bench.drain()
    gap = bench.gaps()[0]
    assert (gap["cause"], str(mark) in gap["detail"]) == ("rolled_back", True)
    assert bench.ids() == bench.written
    progress = [one for append in bench.intake.durable for one in append.progress]
    assert progress[-1].from_offset == mark
    assert progress[-1].file_id != progress[0].file_id


async def test_a_compressed_rotated_file_is_continued_from_the_cursor(bench: Bench):
    bench.write(audit=300)
    await bench.drain()
    await bench.stop()
    bench.write(audit=300)
    with gzip.open(bench.path.with_name("app.log.2.gz"), "wb") as packed:
        packed.write(bench.path.read_bytes())
    bench.path.unlink()
    bench.write(audit=5)
    bench.path.rename(bench.path.with_name("app.log.1"))
    bench.write(audit=5)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_a_short_compressed_file_that_was_never_seen_is_read_whole(bench: Bench):
    bench.write(audit=2)
    await bench.drain()
    await bench.stop()
    bench.path.rename(bench.path.with_name("app.log.2"))
    packed = bench.path.with_name("app.log.1.gz")
    packed.write_bytes(gzip.compress(bench.next_audit().encode() + b"\n"))
    bench.write(audit=1)
    os.utime(bench.path.with_name("app.log.2"), (1, 1))
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []


async def test_a_great_hole_with_nothing_behind_it_is_no_line(bench: Bench):
    bench.write(audit=1)
    await bench.drain()
    size = bench.path.stat().st_size
    os.truncate(bench.path, 0)
    os.truncate(bench.path, size + 500_000)
    await bench.drain()
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.sink.data == b""
    assert [(gap["cause"], gap["from_offset"], gap["to_offset"]) for gap in bench.gaps()] == [
        ("truncated", size, None),
        ("hole", size, size + 500_000),
    ]


async def test_an_inode_used_again_is_another_file(bench: Bench):
    bench.write(audit=2)
    await bench.drain()
    inode = bench.path.stat().st_ino
    await bench.stop()
    content = bench.path.read_bytes()
    bench.path.with_name("app.log.1").write_bytes(content)
    os.truncate(bench.path, 0)
    bench.write(audit=4)
    assert bench.path.stat().st_ino == inode
    await bench.drain()
    assert bench.ids() == bench.written


async def test_patterns_that_match_rotated_names_read_every_file_once(tmp_path: Path):
    bench = Bench(tmp_path, patterns=["app.log*"])
    for _ in range(4):
        bench.write(audit=2)
        await bench.drain()
        turn(bench.path)
        bench.write(audit=1)
        await bench.drain()
    await bench.stop()
    turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
    await bench.stop()


async def test_an_empty_file_seen_once_is_found_after_it_was_filled_and_rotated_while_the_agent_was_down(bench: Bench):
    bench.write(audit=1)
    await bench.drain()
    turn(bench.path)
    bench.path.touch()
    await bench.drain()
    await bench.stop()
    assert [cursor.offset for cursor in bench.intake.cursors("app") if cursor.inode == bench.path.stat().st_ino] == [0]
    bench.write(audit=2)
    turn(bench.path)
    bench.write(audit=1)
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
