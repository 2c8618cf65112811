"""Whoever logs never waits; what is read is whole, in order and complete, and what is not is counted."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from agent.vitals.line_writer import LineWriter
from tests.support.agent_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 30.0


class Pipe:
    """A pipe and a writer of lines before it."""

    def __init__(self, max_bytes: int) -> None:
        """Make both."""
        self.reading, self.writing = os.pipe()
        self.writer = LineWriter(self.writing, lambda lines: b"dropped %d" % lines, max_bytes)

    def read(self, lines: int) -> list[bytes]:
        """Return so many lines, or what there is before the end of the pipe."""
        found = b""
        while found.count(b"\n") < lines and (more := os.read(self.reading, 1 << 16)):
            found += more
        return found.splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(10_000)
    yield made
    os.close(made.reading)
    made.writer.close()
    if made.writer._thread is not None:
        made.writer._thread.join(PATIENCE_SECONDS)
        assert not made.writer._thread.is_alive()
    os.close(made.writing)


def fill(pipe: Pipe) -> None:
    """Fill the pipe with empty lines, then put lines until some are dropped because the queue is full as well."""
    os.set_blocking(pipe.writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe.writing, b"\n" * 4096)
    os.set_blocking(pipe.writing, True)
    number = 0
    while pipe.writer.dropped_lines < 3:
        pipe.writer.put(b"%06d %s" % (number, b"x" * 500))
        number += 1


def test_a_line_leaves_at_once_and_by_itself(pipe: Pipe) -> None:
    for number in range(100):
        pipe.writer.put(b"%d" % number)
        assert pipe.read(1) == [b"%d" % number]
    assert pipe.writer.dropped_lines == 0


def test_lines_of_many_threads_are_whole_and_each_threads_are_in_order(pipe: Pipe) -> None:
    pipe.writer = LineWriter(pipe.writing, lambda _: b"", 1 << 24)

    def put(name: int) -> None:
        for number in range(2000):
            pipe.writer.put(b"%d %d %s" % (name, number, b"x" * (number % 300)))

    threads = [threading.Thread(target=put, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    lines = [line.split() for line in pipe.read(8000)]
    for thread in threads:
        thread.join()
    for name in range(4):
        assert [int(number) for who, number, *_ in lines if int(who) == name] == list(range(2000))
    assert all(len(rest[0]) == int(number) % 300 if rest else int(number) % 300 == 0 for _, number, *rest in lines)


def test_a_pipe_that_nobody_reads_holds_nobody_and_costs_bounded_memory(pipe: Pipe) -> None:
    fill(pipe)
    for _ in range(1000):
        pipe.writer.put(b"y" * 500)
    assert pipe.writer.dropped_lines >= 1000
    assert sum(map(len, pipe.writer._queue)) == pipe.writer._held_bytes <= 10_000
    assert not pipe.writer.wait(0.05)


def test_once_there_is_a_reader_one_line_says_in_their_place_how_many_are_missing(pipe: Pipe) -> None:
    fill(pipe)
    for _ in range(40):
        pipe.writer.put(b"lost")
    lines: list[bytes] = []
    while not lines or not lines[-1].startswith(b"dropped"):
        lines += pipe.read(1)
    *kept, note = filter(None, lines)
    assert [int(line.split()[0]) for line in kept] == list(range(len(kept)))
    assert note == b"dropped %d" % pipe.writer.dropped_lines
    assert pipe.writer.wait(PATIENCE_SECONDS)
    pipe.writer.put(b"next")
    assert pipe.read(1) == [b"next"]


def test_a_line_larger_than_the_queue_is_stated_like_any_other(pipe: Pipe) -> None:
    pipe.writer.put(b"z" * 10_000)
    assert pipe.read(1) == [b"dropped 1"]


def test_lines_for_a_reader_that_is_gone_are_counted_and_the_next_ones_tried(pipe: Pipe) -> None:
    os.close(pipe.reading)
    for _ in range(3):
        pipe.writer.put(b"into the void")
        assert pipe.writer.wait(PATIENCE_SECONDS)
    assert pipe.writer.dropped_lines == 3
    pipe.reading, writing = os.pipe()
    os.dup2(writing, pipe.writing)
    os.close(writing)
    pipe.writer.put(b"still here")
    assert pipe.read(1) == [b"still here"]


def test_what_is_left_of_a_refused_line_is_no_beginning_of_the_next(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    answers = iter([4, None, None])

    def refuse(descriptor: int, data: bytes) -> int:
        if descriptor != pipe.writing:
            return write(descriptor, data)
        size = next(answers, 1 << 20)
        if size is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(data[:size]))

    monkeypatch.setattr("agent.vitals.line_writer.os.write", refuse)
    for line in (b"first line", b"second line", b"third line"):
        pipe.writer.put(line)
        assert pipe.writer.wait(PATIENCE_SECONDS)
    assert pipe.writer.dropped_lines == 2
    assert pipe.read(2) == [b"firs", b"third line"]


def test_a_description_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    pipe.writer = LineWriter(pipe.writing, lambda _: b"", 1 << 20)
    for number in range(1000):
        pipe.writer.put(b"%d %s" % (number, b"x" * 500))
    assert [int(line.split()[0]) for line in pipe.read(1000)] == list(range(1000))
    assert pipe.writer.dropped_lines == 0


def test_the_thread_takes_no_signal_from_a_process_that_waits_for_them(pipe: Pipe) -> None:
    pipe.writer.put(b"x")
    pipe.read(1)
    thread = pipe.writer._thread
    assert thread is not None
    with open(f"/proc/self/task/{thread.native_id}/status", encoding="ascii") as status:  # noqa: PTH123 -- the kernel's, in /proc
        (blocked,) = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk")]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        assert blocked & 1 << number - 1
        assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_child_of_fork_writes_its_own_lines_and_not_its_parents(pipe: Pipe) -> None:
    fill(pipe)
    pid = os.fork()
    if pid == 0:
        reading, writing = os.pipe()
        os.dup2(writing, pipe.writing)
        pipe.writer.put(b"of the child")
        told = pipe.writer.wait(PATIENCE_SECONDS) and os.read(reading, 100) == b"of the child\n"
        os._exit(0 if told else 1)
    ended: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(found)

    until(has_ended, "the child's end")
    assert ended == [0]


def test_a_closed_writer_writes_what_it_has_and_counts_the_rest(pipe: Pipe) -> None:
    pipe.writer.put(b"before")
    pipe.writer.close()
    pipe.writer.put(b"after")
    assert pipe.writer.wait(PATIENCE_SECONDS)
    assert pipe.read(1) == [b"before"]
    assert pipe.writer.dropped_lines == 1
