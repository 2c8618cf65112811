"""The pass-through never blocks, never tears a line, and counts what it sheds."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

from agent.passthrough import PassThrough

if TYPE_CHECKING:
    from pathlib import Path


class Pipe:
    """A pipe whose two ends are closed by the test's end."""

    def __init__(self) -> None:
        """Open both ends."""
        self.reading, self.writing = os.pipe()
        self._open = {self.reading, self.writing}

    def close(self, fd: int) -> None:
        """Close one end, once."""
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)

    def rest(self) -> bytes:
        """Return everything up to the end, having closed the writing end."""
        self.close(self.writing)
        parts = []
        while part := os.read(self.reading, 1 << 20):
            parts.append(part)
        return b"".join(parts)


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close(pipe.reading)
    pipe.close(pipe.writing)


async def test_channels_leave_by_their_own_descriptor_in_order(pipe: Pipe) -> None:
    errors = Pipe()
    sink = PassThrough.to_streams(pipe.writing, errors.writing)
    for number in range(1000):
        sink.write(b"out %d\n" % number, "stdout")
        sink.write(b"err %d\n" % number, "stderr")
    sink.write(b"file\n", "file")
    await sink.close(5.0)
    assert pipe.rest() == b"".join(b"out %d\n" % number for number in range(1000)) + b"file\n"
    assert errors.rest() == b"".join(b"err %d\n" % number for number in range(1000))
    assert (sink.shed_lines, sink.shed_bytes, sink.problem) == (0, 0, None)
    assert sink.passed_bytes == 2 * sum(len(b"out %d\n" % number) for number in range(1000)) + 5
    errors.close(errors.reading)


async def test_a_reader_that_does_not_read_costs_whole_blocks_and_no_time(pipe: Pipe) -> None:
    told: list[tuple[int, int]] = []
    sink = PassThrough.to_streams(pipe.writing, pipe.writing, max_bytes=100_000, on_shed=lambda lines, size: told.append((lines, size)))
    block = b"".join(b"line %04d\n" % number for number in range(1000))
    started = time.monotonic()
    for _ in range(100):
        sink.write(block, "stdout")
    assert time.monotonic() - started < 0.5
    assert sink.shed_bytes >= 80 * len(block)
    reading = asyncio.create_task(asyncio.to_thread(read_all, pipe.reading))
    await sink.close(5.0)
    pipe.close(pipe.writing)
    out = await reading
    assert out == block * (len(out) // len(block))
    assert len(out) + sink.shed_bytes == 100 * len(block)
    assert sink.shed_lines == sink.shed_bytes // 10
    assert (sum(lines for lines, _ in told), sum(size for _, size in told)) == (sink.shed_lines, sink.shed_bytes)


def read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


async def test_a_shed_piece_of_a_long_line_joins_no_two_lines(pipe: Pipe) -> None:
    filler = b"f" * 70_000 + b"\n"
    sink = PassThrough.to_streams(pipe.writing, pipe.writing, max_bytes=200_000)
    sink.write(filler, "stdout")
    await asyncio.sleep(0.1)  # the writer is now stuck in the pipe with this block
    sink.write(b"beginning of a long line ", "stdout")
    sink.write(b"m" * 300_000, "stdout")
    sink.write(b"its end\nnext\n", "stdout")
    reading = asyncio.create_task(asyncio.to_thread(read_all, pipe.reading))
    await sink.close(5.0)
    pipe.close(pipe.writing)
    assert await reading == filler + b"beginning of a long line \nnext\n"
    assert (sink.shed_lines, sink.shed_bytes) == (1, 300_008)


async def test_a_reader_that_went_away_is_counted_and_nothing_else(pipe: Pipe) -> None:
    sink = PassThrough.to_streams(pipe.writing, pipe.writing)
    pipe.close(pipe.reading)
    sink.write(b"one\n", "stdout")
    deadline = time.monotonic() + 5
    while sink.problem is None and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    sink.write(b"two\n", "stdout")
    await sink.close(5.0)
    assert (sink.shed_lines, sink.shed_bytes, sink.passed_bytes) == (2, 8, 0)
    assert sink.problem == "Broken pipe"


async def test_a_non_blocking_descriptor_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    sink = PassThrough.to_streams(pipe.writing, pipe.writing)
    block = b"0123456789abcdef\n" * 50_000
    sink.write(block, "stdout")
    await asyncio.sleep(0.05)
    reading = asyncio.create_task(asyncio.to_thread(read_all, pipe.reading))
    await sink.close(5.0)
    pipe.close(pipe.writing)
    assert await reading == block


async def test_closing_does_not_wait_longer_than_told(pipe: Pipe) -> None:
    sink = PassThrough.to_streams(pipe.writing, pipe.writing)
    os.set_blocking(pipe.writing, False)
    sink.write(b"x" * 500_000 + b"\n", "stdout")
    sink.write(b"y\n", "stdout")
    started = time.monotonic()
    await sink.close(0.2)
    assert time.monotonic() - started < 2
    deadline = time.monotonic() + 5
    while sink.passed_bytes + sink.shed_bytes < 500_003 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert sink.passed_bytes + sink.shed_bytes == 500_003


async def test_a_file_is_appended_to_and_opened_anew_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "observability.log"
    path.write_bytes(b"before\n")
    sink = PassThrough.to_file(path)
    sink.write(b"one\n", "stdout")
    sink.write(b"two\n", "stderr")
    deadline = time.monotonic() + 5
    while sink.passed_bytes < 8 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    path.rename(tmp_path / "observability.log.1")
    sink.reopen()
    sink.write(b"three\n", "stdout")
    await sink.close(5.0)
    assert (tmp_path / "observability.log.1").read_bytes() == b"before\none\ntwo\n"
    assert path.read_bytes() == b"three\n"


async def test_a_file_that_cannot_be_opened_is_a_problem_and_counted(tmp_path: Path) -> None:
    sink = PassThrough.to_file(tmp_path / "missing" / "file")
    sink.write(b"one\n", "stdout")
    await asyncio.sleep(0.05)
    assert sink.problem is not None
    assert "No such file" in sink.problem
    await sink.close(0.1)
    assert (sink.shed_lines, sink.shed_bytes) == (1, 4)


async def test_nothing_is_a_way_out_too() -> None:
    sink = PassThrough.to_nothing()
    sink.write(b"one\n", "stdout")
    await sink.close(1.0)
    assert (sink.passed_bytes, sink.shed_bytes) == (0, 0)


async def test_writing_after_the_close_is_counted(pipe: Pipe) -> None:
    sink = PassThrough.to_streams(pipe.writing, pipe.writing)
    await sink.close(1.0)
    sink.write(b"late\n", "stdout")
    assert (sink.shed_lines, sink.shed_bytes) == (1, 5)
