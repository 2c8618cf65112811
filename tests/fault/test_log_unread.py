"""A standard error that is full and that nobody reads: the agent goes on, seals, and ends in order."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from agent.watchdog import EXIT_STALLED
from tests.support import loggen
from tests.support.agent_process import LOGGEN, PATIENCE_SECONDS, Agent, Site, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

LINES = 500
LOGGEN_FOLDER = LOGGEN[1].rpartition("/")[0]
# Audit lines on one way, a flood on the other; it ends when it is told to.
SERVICE = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import loggen
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
for number in range(500):
    os.write(1, loggen.audit_line(number))
    os.write(2, b"noise " * 1000 + b"\\n")
pathlib.Path(sys.argv[2]).touch()
while True:
    signal.pause()
"""
IMPATIENT = """
import sys, time
from agent import runtime
from agent.sealer import Sealer
from agent.watchdog import Bounds
runtime.PATIENCE = {part: Bounds(1.0, 3.0) for part in runtime.PATIENCE}
async def stuck(_):
    time.sleep(600)
Sealer.run = stuck
from agent.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(params=["pipe", "terminal"])
def unread(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return a descriptor that blocks whoever writes to it."""
    reading, writing = os.pipe() if request.param == "pipe" else os.openpty()
    # Non-blocking belongs to the open file, so the room is taken by way of another one.
    filling = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filling, b"x" * size)
    os.close(filling)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.mark.slow
def test_an_agent_whose_log_nobody_reads_seals_and_ends_in_order(tmp_path: Path, unread: int) -> None:
    site = Site(tmp_path, log={"level": "debug"})
    with site.run(stderr=unread) as agent:
        agent.ready()
        for start in range(0, LINES, 50):
            with site.log.open("ab") as log:
                log.writelines(loggen.audit_line(number) for number in range(start, start + 50))
            site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(LINES)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.slow
def test_a_service_that_floods_a_standard_error_nobody_reads_loses_no_audit_line(tmp_path: Path, unread: int) -> None:
    site = Site(tmp_path, sources=None, log={"level": "debug"}, observability="stdout")
    said = tmp_path / "said"
    with site.run("exec", "--", sys.executable, "-c", SERVICE, LOGGEN_FOLDER, str(said), stderr=unread) as agent:
        until(said.exists, "a service that got rid of its lines")
        first = agent.worker()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        # The parent logs this, too.
        until(lambda: agent.worker() not in (None, first), "another worker")
        until(lambda: len(site.trails.event_ids()) == LINES, "all audit lines in the store")
        assert agent.stop() == 9
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(LINES)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.slow
def test_the_watchdog_ends_an_agent_whose_log_nobody_reads(tmp_path: Path, unread: int) -> None:
    site = Site(tmp_path)
    with Agent(site, [sys.executable, "-c", IMPATIENT, "run", "--config", str(site.config)], stderr=unread) as agent:
        assert agent.process.wait(PATIENCE_SECONDS) == EXIT_STALLED


def test_lines_for_a_log_reader_that_is_gone_are_counted(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    site = Site(tmp_path, log={"level": "debug"})
    try:
        with site.run(stderr=writing) as agent:
            agent.ready()
            until(lambda: site.metrics()[f"{PREFIX}log_lines_dropped_total"] > 0, "dropped lines in the metrics")
            assert agent.stop() == 0
    finally:
        os.close(writing)
