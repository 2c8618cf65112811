"""A container source over a tree of logs: links, rotation, unfinished lines across files, crashes and what is lost for good."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.container_logs import CONTAINER_ID, UID, ContainerBench, ContainerLog, envelope, pieces
from tests.support.tail_bench import AT_ONCE

if TYPE_CHECKING:
    from pathlib import Path

PATIENT = replace(AT_ONCE, eof_hold_seconds=60, linger_seconds=60)


@pytest.fixture
def bench(tmp_path: Path) -> ContainerBench:
    return ContainerBench(tmp_path)


def audit(bench: ContainerBench) -> bytes:
    return bench.next_audit().encode()


async def test_a_record_says_whose_line_it_is_and_where_it_was(bench: ContainerBench):
    bench.log.write(envelope(b"plain"), envelope(audit(bench), "stderr"))
    await bench.drain()
    (record,) = bench.intake.of_kind("event")
    assert list(record) == ["seq", "kind", "source", "container", "at", "observed_at", "event"]
    assert record["container"] == {
        "namespace": "shop",
        "pod": "web-1",
        "uid": UID,
        "container": "app",
        "restart_count": 0,
        "stream": "stderr",
    }
    assert record["at"] == [len(envelope(b"plain")), len(bench.log.path.read_bytes()) - len(envelope(b"plain")) - 1]
    assert bench.sink.data == b"plain\n"
    await bench.stop()


async def test_a_log_is_read_once_however_many_links_lead_to_it(tmp_path: Path):
    bench = ContainerBench(tmp_path, patterns=("containers/*.log", "pods/*/*/*.log", "other/*.log"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/also.log").symlink_to(bench.log.link)
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    bench.log.rotate()
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    assert bench.ids() == bench.written
    assert {record["container"]["id"] for record in bench.intake.of_kind("event")} == {CONTAINER_ID}
    assert {record["container"]["uid"] for record in bench.intake.of_kind("event")} == {UID}
    await bench.stop()


async def test_what_was_rotated_while_the_agent_was_down_is_found_beside_what_a_link_leads_to(tmp_path: Path):
    bench = ContainerBench(tmp_path, patterns=("containers/*.log",))
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    await bench.stop()
    bench.log.write(envelope(audit(bench)))
    bench.log.rotate()
    bench.log.write(envelope(audit(bench)))
    bench.log.rotate(pack=True)
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
    await bench.stop()


@pytest.mark.parametrize("packed", [False, True])
async def test_a_line_across_a_rotation_moves_both_cursors_in_one_append(bench: ContainerBench, *, packed: bool):
    raw = pieces(audit(bench), 60)
    bench.log.write(envelope(b"before"), *raw[:2], envelope(audit(bench), "stderr"))
    await bench.drain()
    assert bench.ids() == []
    if packed:
        await bench.crash()
        bench.log.rotate()
        bench.log.rotate(pack=True)
    else:
        bench.log.rotate()
    await bench.drain()
    assert bench.ids() == []
    bench.log.write(*raw[2:])
    await bench.drain()
    assert sorted(bench.ids()) == bench.written
    (append,) = [append for append in bench.intake.durable if append.records]
    assert append.records == 2
    assert len(append.cursors) >= 2
    assert len(append.progress) == 2
    assert bench.gaps() == []
    await bench.stop()


async def test_an_empty_successor_is_waited_for_however_long_nothing_comes(bench: ContainerBench):
    raw = pieces(audit(bench), 60)
    bench.log.write(raw[0])
    await bench.drain()
    bench.log.rotate()
    for _ in range(3):
        await bench.drain()
    bench.log.write(*raw[1:-1])
    bench.log.rotate()
    await bench.drain()
    await bench.crash()
    await bench.drain()
    assert bench.intake.records() == []
    bench.log.write(raw[-1])
    await bench.drain()
    assert bench.ids() == bench.written
    await bench.stop()


async def test_a_container_that_ended_inside_a_line_leaves_it_as_a_line_once_its_log_is_gone(tmp_path: Path):
    bench = ContainerBench(tmp_path)
    bench.log.write(envelope(audit(bench)), envelope(audit(bench), partial=True))
    await bench.drain()
    assert bench.ids() == bench.written[:1]
    bench.log.path.unlink()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.gaps() == []
    await bench.stop()


async def test_a_log_that_is_removed_unread_is_a_gap(bench: ContainerBench):
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    await bench.stop()
    bench.log.write(envelope(b"never read"))
    bench.log.path.unlink()
    await bench.drain()
    (gap,) = bench.gaps()
    assert (gap["cause"], gap["certainty"]) == ("vanished", "unbounded")
    await bench.stop()


async def test_one_stream_does_not_wait_for_ever_for_the_other(tmp_path: Path):
    bench = ContainerBench(tmp_path, replace(AT_ONCE, unfinished_seconds=0))
    bench.log.write(envelope(b"progress 10 %", partial=True), envelope(audit(bench), "stderr"))
    await bench.drain()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.sink.data == b"progress 10 %\n"
    await bench.crash()
    bench.log.write(envelope(b" 20 %"), envelope(audit(bench)))
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.sink.data == b"progress 10 %\n 20 %\n"
    assert bench.intake.of_kind("quarantine") == []
    await bench.stop()


async def test_an_audit_line_that_was_cut_is_quarantined_to_its_end_over_crash_and_rotation(tmp_path: Path):
    bench = ContainerBench(tmp_path, replace(AT_ONCE, unfinished_seconds=0))
    line = audit(bench)
    bench.log.write(envelope(line[:100], partial=True), envelope(b"error", "stderr"))
    await bench.drain()
    await bench.drain()
    await bench.crash()
    bench.log.rotate()
    await bench.drain()
    bench.log.write(envelope(line[100:]), envelope(audit(bench)))
    await bench.drain()
    kept = bench.intake.of_kind("quarantine")
    assert [record["reason"] for record in kept] == ["too_long", "too_long"]
    assert "".join(record["head"] for record in kept).encode() == line
    assert bench.ids() == bench.written[1:]
    assert bench.sink.data == b"error\n"
    await bench.stop()


async def test_unfinished_lines_larger_than_a_block_do_not_hold_up_the_log(tmp_path: Path):
    settings = replace(AT_ONCE, block_bytes=4000, line_limit=1000, head_bytes=50)
    bench = ContainerBench(tmp_path, settings)
    bench.log.write(*pieces(b'{"stream":"audit","x":"' + b"y" * 20_000, 500), envelope(audit(bench)))
    await bench.drain()
    kept = bench.intake.of_kind("quarantine")
    assert {record["reason"] for record in kept} == {"too_long"}
    assert sum(record["length"] for record in kept) == len(b'{"stream":"audit","x":"') + 20_000
    assert bench.ids() == bench.written
    assert bench.sink.data == b""
    await bench.stop()


async def test_lines_in_no_envelope_are_taken_as_they_stand(bench: ContainerBench):
    bench.log.write(audit(bench) + b"\n", b"plain\n", envelope(b"x"), b"\n", envelope(audit(bench)))
    await bench.drain()
    assert bench.ids() == bench.written
    assert "stream" not in bench.intake.of_kind("event")[0]["container"]
    assert bench.sink.data == b"plain\nx\n\n"
    await bench.stop()


async def test_a_file_that_is_being_compressed_is_not_taken_for_a_rotated_one(bench: ContainerBench):
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    bench.log.rotate()
    (rotated,) = bench.log.folder.glob("0.log.*")
    rotated.with_name(rotated.name + ".tmp").write_bytes(gzip.compress(rotated.read_bytes())[:-5])
    bench.log.write(envelope(audit(bench)))
    await bench.drain()
    await bench.crash()
    await bench.drain()
    assert bench.ids() == bench.written
    assert bench.sink.data == b""
    assert bench.problems == []
    await bench.stop()


async def test_each_restart_of_a_container_is_a_log_of_its_own(bench: ContainerBench, tmp_path: Path):
    bench.log.write(envelope(audit(bench)))
    again = ContainerLog(tmp_path, restart=1)
    again.write(envelope(audit(bench)))
    await bench.drain()
    assert {record["container"]["restart_count"] for record in bench.intake.of_kind("event")} == {0, 1}
    await bench.stop()
