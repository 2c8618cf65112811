"""Kill -9 at random moments while events of several lines are written, line by line: each is in the trail once, and whole."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agent_process import PATIENCE_SECONDS, Site, until
from tests.support.container_logs import ContainerLog, envelope, pieces

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 5
SEED = 20260630
MAPPING: dict[str, Any] = {
    "format": 1,
    "name": "gate",
    "title": "Gates",
    "describes": "A header line, and indented lines that belong to it",
    "select": {"contains": ["GATE"]},
    # Longer than any test: a unit is complete because another begins, or because the agent was told to stop.
    "join": {"start": r"^GATE \d+", "patience_seconds": 100},
    "parse": [{"as": "regex", "patterns": [r"^GATE (?P<number>\d+)\n  badge=(?P<badge>\w+)\n(?:  note=.*\n)*  end$"]}],
    "event": {
        "event_id": "{number}",
        "occurred_at": "2026-06-30T10:00:00Z",
        "actor": {"type": "badge", "id": "{badge}"},
        "target": {"type": "gate", "id": "1"},
        "outcome": "success",
    },
    "rules": [{"name": "open", "action": "gate.open"}],
    "examples": [],
}


def unit(number: int, notes: int) -> list[str]:
    """Return the lines of one event."""
    return [f"GATE {number}\n", f"  badge=b{number}\n", *(f"  note={'n' * 50}{note}\n" for note in range(notes)), "  end\n"]


def write_mapping(folder: Path) -> str:
    lines = "".join(unit(1, 1)).removesuffix("\n")
    event = MAPPING["event"] | {"event_id": "1", "actor": {"type": "badge", "id": "b1"}, "action": "gate.open"}
    example = {"title": "one", "line": lines, "rule": "open", "event": event}
    path = folder / "gate.yaml"
    path.write_text(json.dumps(MAPPING | {"examples": [example]}), encoding="utf-8")
    return str(path)


class Writer(threading.Thread):
    """Write units a line at a time, cut lines in two, and rotate between units."""

    def __init__(self, path: Path) -> None:
        """Prepare; nothing is written before `start`."""
        super().__init__()
        self.stop = threading.Event()
        self.may_rotate = threading.Event()
        self.written = 0
        self.bytes = 0
        self._path = path
        self._dice = random.Random(SEED)

    def run(self) -> None:
        while not self.stop.is_set():
            for line in unit(self.written + 1, self._dice.randrange(12)):
                middle = self._dice.randrange(len(line))
                for part in (line[:middle], line[middle:]):
                    with self._path.open("a") as file:
                        file.write(part)
                    self.bytes += len(part)
                    if self._dice.random() < 0.1:
                        time.sleep(0.005)
            self.written += 1
            if self.may_rotate.is_set():
                self._path.rename(self._path.with_name(f"app.log.{self.written}"))
                self.may_rotate.clear()


def assert_whole(site: Site, written: int) -> None:
    records = site.trails.records()
    assert [record for record in records if record["kind"] != "event"] == []
    assert [record["event"]["event_id"] for record in records] == [str(number + 1) for number in range(written)]
    for record in records:
        assert record["raw"].endswith("\n  end")
        assert record["mapping"] == "gate/open"
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_units_in_a_file_survive_kills_and_rotation_whole(tmp_path: Path):
    site = Site(tmp_path, sources=[{"id": "app", "file": str(tmp_path / "logs/app.log"), "mapping": write_mapping(tmp_path)}])
    dice = random.Random(SEED)
    started = time.monotonic()
    with site.run() as agent:
        agent.ready()
        start_seconds = time.monotonic() - started
    writer = Writer(site.log)
    writer.start()
    try:
        for number in range(KILLS):
            with site.run() as agent:
                if number % 2:
                    agent.ready()
                    writer.may_rotate.set()
                time.sleep(dice.uniform(0.1, 1.0) * (start_seconds + 0.5))
                agent.kill()
    finally:
        writer.stop.set()
        writer.join(PATIENCE_SECONDS)
    assert writer.written > 100
    with site.run() as agent:
        agent.ready()
        until(lambda: len(site.trails.event_ids()) >= writer.written - 1, "every unit but the last in the store")
        assert len(site.trails.event_ids()) == writer.written - 1
        assert agent.stop() == 0, agent.log
    assert_whole(site, writer.written)
    assert site.trails.accounted_bytes() == writer.bytes


PROGRAM = """
import random, sys, time
dice = random.Random(7)
for number in range(1, int(sys.argv[1]) + 1):
    for line in [f"GATE {number}\\n", f"  badge=b{number}\\n", *["  note=x\\n"] * dice.randrange(5), "  end\\n"]:
        sys.stdout.write(line)
        sys.stdout.flush()
    time.sleep(0.002)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_units_of_a_command_survive_their_workers_deaths_whole(tmp_path: Path):
    units = 4000
    source = {"id": "app", "command": ["service"], "mapping": write_mapping(tmp_path)}
    site = Site(tmp_path, sources=[source], observability="none")
    dice = random.Random(SEED)
    known: set[int | None] = {None}
    with site.run("exec", "--", sys.executable, "-c", PROGRAM, str(units)) as agent:
        for _ in range(KILLS):
            until(lambda: agent.worker() not in known, "another worker", step_seconds=0.005)
            pid = agent.worker()
            assert pid is not None
            known.add(pid)
            time.sleep(dice.uniform(0.1, 1.2))
            os.kill(pid, signal.SIGKILL)
        assert agent.process.wait(2 * PATIENCE_SECONDS) == 0, agent.log
    with site.run("exec", "--", "true"):
        until(lambda: len(site.trails.event_ids()) >= units, "every unit in the store")
    assert_whole(site, units)


class Runtime(threading.Thread):
    """Write a container's log: units on stderr, in pieces, and other lines on stdout between units."""

    def __init__(self, log: ContainerLog) -> None:
        """Prepare; nothing is written before `start`."""
        super().__init__()
        self.stop = threading.Event()
        self.may_rotate = threading.Event()
        self.written = 0
        self._log = log
        self._dice = random.Random(SEED)

    def run(self) -> None:
        while not self.stop.is_set():
            for line in unit(self.written + 1, self._dice.randrange(12)):
                for piece in pieces(line.removesuffix("\n").encode(), self._dice.choice((20, 1000)), "stderr"):
                    self._log.write(piece)
                    if self._dice.random() < 0.1:
                        time.sleep(0.005)
            self.written += 1
            if self._dice.random() < 0.3:
                self._log.write(envelope(b"served"))
            if self.may_rotate.is_set():
                self._log.rotate()
                self.may_rotate.clear()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_units_in_a_container_s_log_survive_kills_and_rotation_whole(tmp_path: Path):
    log = ContainerLog(tmp_path)
    site = Site(tmp_path, sources=[{"id": "app", "container": str(tmp_path / "pods/*/*/*.log"), "mapping": write_mapping(tmp_path)}])
    dice = random.Random(SEED)
    started = time.monotonic()
    with site.run() as agent:
        agent.ready()
        start_seconds = time.monotonic() - started
    runtime = Runtime(log)
    runtime.start()
    try:
        for number in range(KILLS):
            with site.run() as agent:
                if number % 2:
                    agent.ready()
                    runtime.may_rotate.set()
                time.sleep(dice.uniform(0.1, 1.0) * (start_seconds + 0.5))
                agent.kill()
    finally:
        runtime.stop.set()
        runtime.join(PATIENCE_SECONDS)
    # A unit that waits is left to the next start, so another has to begin.
    log.write(envelope(b"GATE 0", "stderr"))
    assert runtime.written > 50
    with site.run() as agent:
        agent.ready()
        until(lambda: len(site.trails.event_ids()) >= runtime.written, "every unit in the store")
        assert agent.stop() == 0, agent.log
    assert_whole(site, runtime.written)
