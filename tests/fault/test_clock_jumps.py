"""The clock jumps by an hour while the agent runs: seq gives the order, nothing stalls, and the manifests show it."""

from __future__ import annotations

import itertools
import os
import subprocess
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600


def faked_clock(offset: Path) -> dict[str, str]:
    """Return an environment in which the wall clock, and it alone, is off by what stands in a file, read at every look."""
    listed = subprocess.run(["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=True).stdout.split()
    library = next(path for path in listed if path.endswith("libfaketimeMT.so.1"))
    return {
        **os.environ,
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def set_offset(offset: Path, seconds: int) -> None:
    new = offset.with_suffix(".new")
    new.write_text(f"{seconds:+d}s\n", encoding="ascii")
    new.rename(offset)


def has_more_seals(site: Site, than: int) -> bool:
    return len(site.trails.seals()) > than


def sealed_times(site: Site) -> list[datetime]:
    return [datetime.fromisoformat(seal.manifest.sealed_at) for seal in site.trails.seals()]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("jumps", [(HOUR,), (-HOUR,), (HOUR, 0, -HOUR, 0)], ids=["forwards", "backwards", "to and fro"])
def test_seq_orders_and_nothing_stalls_when_the_clock_jumps_an_hour(tmp_path: Path, jumps: tuple[int, ...]) -> None:
    site = Site(tmp_path, seal={"max_age": "200ms", "heartbeat": "4s"})
    offset = tmp_path / "offset"
    set_offset(offset, 0)
    site.log.write_bytes(loggen.block(0, 200))
    with site.run(env=faked_clock(offset)) as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        for turn, seconds in enumerate(jumps, 1):
            set_offset(offset, seconds)
            with site.log.open("ab") as log:
                log.write(loggen.block(turn * 200, 200))
            site.wait_drained(site.log.stat().st_size)
            # The next heartbeat comes at its pace, not an hour late.
            until(partial(has_more_seals, site, len(site.trails.seals())), "a heartbeat")
            assert site.is_ready()
        assert agent.stop() == 0, agent.log
    lines = 200 * (len(jumps) + 1)
    assert site.trails.event_ids() == loggen.event_ids(lines)
    assert [record["seq"] for record in site.trails.records()] == sorted(record["seq"] for record in site.trails.records())
    times = sealed_times(site)
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert sum(abs(step) > timedelta(minutes=50) for step in steps) == len(jumps), "the manifests do not show every jump"
    monotonic = [seal.manifest.monotonic_ns for seal in site.trails.seals()]
    assert monotonic == sorted(monotonic)
    assert monotonic[-1] - monotonic[0] < 600 * 10**9
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.slow
def test_a_clock_that_was_an_hour_ahead_in_the_last_run_hinders_no_start(tmp_path: Path) -> None:
    site = Site(tmp_path)
    offset = tmp_path / "offset"
    for turn, seconds in enumerate((HOUR, 0, -HOUR)):
        set_offset(offset, seconds)
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * 200, 200))
        with site.run(env=faked_clock(offset)) as agent:
            agent.ready()
            site.wait_drained(site.log.stat().st_size)
            assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == loggen.event_ids(600)
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
