"""The watchdog's judgement, with a clock of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import Part
from agent.watchdog import EXIT_STALLED, LATE_SECONDS, TICK_SECONDS, Bounds, Judge, Watchdog, Watched

if TYPE_CHECKING:
    from agent.watchdog import Stall, Work

BOUNDS = Bounds(alert=10.0, end=30.0)


class Bench:
    """Hold a watchdog, what it watches, and what it did."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self.work: dict[str, Work] = {"": (False, 0)}
        self.now = 1000.0
        self.said: list[str] = []
        self.exits: list[int] = []
        self.dog = Watchdog(Judge([Watched(Part.SPOOL, lambda: self.work, BOUNDS)]), self, end=self.exits.append)

    def stalled(self, stall: Stall) -> None:
        self.said.append(f"stalled {stall.name or stall.part}")

    def moving(self, part: Part) -> None:
        self.said.append(f"moving {part}")

    def ending(self, stall: Stall) -> None:
        self.said.append(f"ending {stall.name or stall.part}")

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_SECONDS
            self.dog.turn(self.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_waiting_is_no_stall_however_long_nothing_moves(bench):
    bench.pass_by(1000)
    assert bench.said == []


def test_work_that_moves_is_no_stall_however_long_it_waits(bench):
    for step in range(300):
        bench.work[""] = (True, step)
        bench.pass_by(5)
    assert bench.said == []


def test_work_that_stands_still_is_reported_once_and_ends_the_process_later(bench):
    bench.work[""] = (True, 1)
    bench.pass_by(BOUNDS.alert)
    assert (bench.said, bench.exits) == ([], [])
    bench.pass_by(2)
    assert (bench.said, bench.exits) == (["stalled spool"], [])
    bench.pass_by(BOUNDS.end - BOUNDS.alert - 3)
    assert (bench.said, bench.exits) == (["stalled spool"], [])
    bench.pass_by(2)
    assert bench.said[:2] == ["stalled spool", "ending spool"]
    assert bench.exits[0] == EXIT_STALLED


@pytest.mark.parametrize("cure", [(True, 2), (False, 1)], ids=["it moves", "nothing waits any more"])
def test_a_cure_is_reported_and_the_time_begins_anew(bench, cure):
    bench.work[""] = (True, 1)
    bench.pass_by(BOUNDS.alert + 2)
    bench.work[""] = cure
    bench.pass_by(1)
    assert bench.said == ["stalled spool", "moving spool"]
    bench.work[""] = (True, 3)
    bench.pass_by(BOUNDS.alert)
    assert (bench.said, bench.exits) == (["stalled spool", "moving spool"], [])


def test_one_of_several_that_stands_still_is_named_though_the_others_move(bench):
    for step in range(int(BOUNDS.end) + 2):
        bench.work = {"good": (True, step), "bad": (True, 0)}
        bench.pass_by(1)
    assert bench.said[:2] == ["stalled bad", "ending bad"]


def test_a_process_that_was_suspended_gets_all_of_its_time_again(bench):
    bench.work[""] = (True, 1)
    bench.pass_by(BOUNDS.alert - 1)
    for _ in range(3):
        bench.now += 3600
        bench.dog.turn(bench.now)
        bench.pass_by(BOUNDS.alert - 1)
    assert (bench.said, bench.exits) == ([], [])
    bench.pass_by(2)
    assert bench.said == ["stalled spool"]


def test_ticks_that_are_a_little_late_count(bench):
    bench.work[""] = (True, 1)
    while bench.now < 1000 + BOUNDS.alert + LATE_SECONDS + 2:
        bench.now += LATE_SECONDS
        bench.dog.turn(bench.now)
    assert bench.said == ["stalled spool"]


def test_its_thread_looks_by_itself_and_ends_when_told(bench):
    bench.dog.start()
    bench.dog.close()
    bench.dog._thread.join(10)
    assert not bench.dog._thread.is_alive()
