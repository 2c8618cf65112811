"""Ten thousand files under one pattern: bounded descriptors and memory, and the few that are busy are not made to wait.

`TRAILSEAL_MANY_FILES` is their number (10,000); with `-s` the figures of docs/limits.md are printed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from agent.sources.file import TailSettings
from tests.support.agent_process import Site, until
from tests.support.oracle import assert_once, drain, wait_for, write

if TYPE_CHECKING:
    from tests.support.agent_process import Agent

FILES: Final = int(os.environ.get("TRAILSEAL_MANY_FILES", "10000"))
HOT: Final = 50
OTHER_DESCRIPTORS: Final = 64
CEILING_BYTES: Final = 128 * 2**20
IDLE_SECONDS: Final = 5.0


def descriptors(agent: Agent) -> int:
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))  # noqa: PTH208 - names that come and go while they are counted


def peak_bytes(agent: Agent) -> int:
    """Return VmHWM."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def cpu_seconds(agent: Agent) -> float:
    fields = Path(f"/proc/{agent.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_files_are_followed_with_bounded_descriptors_and_memory_and_none_waits(tmp_path: Path) -> None:
    site = Site(tmp_path, seal={"max_age": "500ms", "heartbeat": "10s"})
    site.configure(sources=[{"id": "app", "file": str(site.logs / "*.log")}])
    ids: list[str] = []
    for number in range(FILES):
        ids += write(site.logs / f"{number:05d}.log", 0, 2, run=f"f{number:05d}")
    begun = time.monotonic()
    most = 0
    with site.run() as agent:
        agent.ready()
        ready = time.monotonic() - begun

        def all_read() -> bool:
            nonlocal most
            most = max(most, descriptors(agent))
            assert agent.process.poll() is None, agent.log
            return site.metrics()['trailseal_records_total{kind="event",source="app"}'] >= len(ids)

        until(all_read, "every file read", 120, 0.2)
        first = time.monotonic() - begun
        hot = [site.logs / f"{number:05d}.log" for number in range(0, FILES, max(1, FILES // HOT))][:HOT]
        waits = []
        for turn in range(1, 5):
            for path in hot:
                ids += write(path, 100 * turn, 100 * turn + 20, run=f"f{path.stem}")
            new = write(site.logs / f"new-{turn}.log", 0, 1, run=f"new{turn}")
            written = time.monotonic()
            ids += new
            wait_for(site, agent, new)
            waits.append(time.monotonic() - written)
            most = max(most, descriptors(agent))
        wait_for(site, agent, ids)
        before, since = cpu_seconds(agent), time.monotonic()
        time.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(agent) - before) / (time.monotonic() - since)
        peak = peak_bytes(agent)
        drain(site, agent, ids)
    print(  # noqa: T201 - the figures of docs/limits.md
        f"{FILES} files: ready after {ready:.1f} s, all read after {first:.1f} s, at most {most} descriptors, "
        f"VmHWM {peak / 2**20:.1f} MiB, new file in the store after at most {max(waits):.1f} s, idle {idle:.1%} of a core"
    )
    assert most <= TailSettings().max_open + OTHER_DESCRIPTORS
    assert peak <= CEILING_BYTES
    assert_once(site, ids, ordered=False)
