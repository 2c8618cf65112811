"""A way out that stops being read, goes away or is slow, and lines beyond any bound: the trail is whole, and memory stays flat."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.agent_process import Agent

OTHER_BYTES = 120 << 20
AUDIT_EVERY = 1 << 20
"""An audit line after so many bytes of other lines."""
WORKER_PEAK_KIB = 110 << 10
PARENT_PEAK_KIB = 32 << 10
FLOOD = f"""
import sys, time, pathlib
sys.path.insert(0, sys.argv[1])
import loggen
out = sys.stdout.buffer
other = b"".join(loggen.other_line(number) for number in range(20_000))
other = other[: other.rfind(b"\\n", 0, {AUDIT_EVERY}) + 1]
for number in range({OTHER_BYTES // AUDIT_EVERY}):
    out.write(other)
    out.write(loggen.audit_line(number))
    out.flush()
pathlib.Path(sys.argv[2]).touch()
while not pathlib.Path(sys.argv[2] + ".end").exists():
    time.sleep(0.02)
"""


def peak_kib(pid: int | None) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123 - a file of the kernel
        return int(status.read().split("VmHWM:")[1].split()[0])


def assert_flat(agent: Agent) -> None:
    parent, worker = peak_kib(agent.process.pid), peak_kib(agent.worker())
    print(f"peak resident memory: parent {parent} KiB, worker {worker} KiB")  # noqa: T201 - a figure of docs/limits.md
    assert parent < PARENT_PEAK_KIB
    assert worker < WORKER_PEAK_KIB


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("reader", ["never", "gone", "slow"])
def test_a_reader_of_the_other_lines_never_costs_audit_lines_or_memory(tmp_path: Path, reader: str) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    done = tmp_path / "done"
    reading, writing = os.pipe()
    command = [sys.executable, "-c", FLOOD, os.path.dirname(loggen.__file__), str(done)]  # noqa: PTH120 - a word of a command line
    with site.run("exec", "--", *command, stdout=writing) as agent:
        os.close(writing)
        if reader == "gone":
            os.close(reading)
        read = 0
        while not done.exists():
            assert agent.process.poll() is None, agent.log
            if reader == "slow":
                read += len(os.read(reading, 65_536))
            time.sleep(0.02)
        lines = OTHER_BYTES // AUDIT_EVERY
        until(lambda: len(site.trails.event_ids()) == lines, "every audit line in the store")
        assert_flat(agent)
        metrics = site.metrics()
        shed = metrics[f"{PREFIX}passthrough_shed_bytes_total"]
        (tmp_path / "done.end").touch()
        if reader != "gone":
            os.close(reading)
        assert agent.process.wait(40) == 0, agent.log
    # What was neither shed nor read is at most the queue, a pipe, and what the thread holds in its hand.
    other = b"".join(loggen.other_line(number) for number in range(20_000))
    sent = lines * (other.rfind(b"\n", 0, AUDIT_EVERY) + 1)
    assert sent - shed - read <= (8 << 20) + (2 << 20)
    assert shed + read <= sent
    assert metrics[f"{PREFIX}passthrough_shed_lines_total"] > 0
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(lines)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


ENDLESS = """
import sys, time, pathlib
out = sys.stdout.buffer
out.write(b'{"stream":"' + sys.argv[1].encode() + b'","x":"')
for _ in range(50):
    out.write(b"0123456789abcdef" * 65_536)
out.write(b'"}\\n')
for number in range(100_000):
    out.write(b'{"stream":"audit","n":%d,}\\n' % number)
out.flush()
pathlib.Path(sys.argv[2]).touch()
while not pathlib.Path(sys.argv[2] + ".end").exists():
    time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("tag", ["audit", "debug"])
def test_an_endless_line_and_a_flood_of_invalid_ones_leave_memory_flat(tmp_path: Path, tag: str) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    done = tmp_path / "done"
    with site.run("exec", "--", sys.executable, "-c", ENDLESS, tag, str(done), stdout=subprocess.DEVNULL) as agent:
        records = 100_000 + (tag == "audit")
        until(lambda: done.exists() and len(site.trails.kind("quarantine")) == records, "every line in the store", step_seconds=0.5)
        assert_flat(agent)
        metrics = site.metrics()
        (tmp_path / "done.end").touch()
        assert agent.process.wait(40) == 0, agent.log
    quarantined = f'{PREFIX}quarantined_total{{reason="%s",source="command"}}'
    assert metrics[quarantined % "not_json"] == 100_000
    assert metrics[quarantined % "too_long"] == (tag == "audit")
    assert site.verify().code == 0
