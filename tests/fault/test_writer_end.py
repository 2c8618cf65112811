"""How the writing side ends when it is hindered: killed at a system call, on a full disk, with a store that hangs or is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Agent, Site, children_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = 12_000
NARROW = {"max_age": "100ms", "max_bytes": "64KiB", "heartbeat": "1s"}
A_STORE_THAT_HANGS = """
import sys, time
from agent.stores import DirectoryStore
DirectoryStore._create = lambda *_: time.sleep(60)
from agent.cli import main
sys.exit(main(sys.argv[1:]))
"""


def write(site: Site, first: int, last: int) -> None:
    """Append lines `first` to `last` - 1 to the log; all of them are audit."""
    with site.log.open("ab") as log:
        log.writelines(loggen.audit_line(number) for number in range(first, last))


def assert_everything_once(site: Site, lines: int) -> None:
    """Check the oracle."""
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(lines)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 64 MiB of memory, as root or in a user namespace of the test runner's own."""
    folder = tmp_path / "state"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, check=False)
    assert mounted.returncode == 0, f"run the tests as root, or under `unshare -rm`: {mounted.stderr.decode()}"
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_hinders_neither_the_end_nor_the_next_start_and_everything_is_shipped_when_the_store_is_back(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="1s", seal={"max_age": "1s", "heartbeat": "10s"})
    lines = 16_000
    with site.log.open("wb") as log:
        for number in range(lines):
            incompressible = b64encode(os.urandom(3000))
            log.write(loggen.audit_line(number).replace(b'"request_id":"', b'"request_id":"' + incompressible))
    site.store.write_bytes(b"in the way")
    with site.run() as agent:
        until(lambda: "disk is full" in agent.log, "a full disk")
        time.sleep(1.0)
        assert agent.stop() in (0, 1), agent.log
    site.store.unlink()
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert_everything_once(site, lines)


@pytest.mark.slow
def test_a_store_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="1s")
    write(site, 0, 10)
    with Agent(site, [sys.executable, "-c", A_STORE_THAT_HANGS, "run", "--config", str(site.config)]) as agent:
        until(lambda: (site.status() or {}).get("head"), "a trail")
        asked = time.monotonic()
        assert agent.stop() == 0, agent.log
        assert time.monotonic() - asked < 8
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert_everything_once(site, 10)


@pytest.mark.slow
def test_a_store_that_is_unmounted_gets_nothing_beside_it_and_all_of_it_when_it_is_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    write(site, 0, 10)
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        site.store.rename(tmp_path / "away")
        write(site, 10, 20)
        until(lambda: not site.is_ready(), "an agent that misses its store")
        site.store.mkdir()
        time.sleep(1.0)
        assert list(site.store.iterdir()) == []
        site.store.rmdir()
        (tmp_path / "away").rename(site.store)
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert_everything_once(site, 20)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("call", "number", "fault"),
    [
        ("fdatasync", 2, "signal=KILL"),
        ("fsync", 23, "signal=KILL"),
        ("link", 3, "signal=KILL"),
        ("unlink", 3, "signal=KILL"),
        ("pwrite64", 41, "signal=KILL"),
        ("fdatasync", 9, "error=EIO"),
    ],
)
def test_a_fault_at_a_system_call_loses_and_doubles_nothing(tmp_path: Path, call: str, number: int, fault: str) -> None:
    site = Site(tmp_path, seal=NARROW)
    trace = tmp_path / "trace"
    tracing = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}"]
    lines = 0
    with Agent(site, [*tracing, TRAILSEAL, "run", "--config", str(site.config)]) as agent:
        end = time.monotonic() + 20
        while agent.process.poll() is None and time.monotonic() < end and lines < LINES:
            write(site, lines, lines + 100)
            lines += 100
            time.sleep(0.05)
        for pid in children_of(agent.process.pid):
            os.kill(pid, signal.SIGTERM)
        code = agent.process.wait(20)
    assert "SIGKILL" in trace.read_text() or "INJECTED" in trace.read_text(), "the fault was never met"
    assert code != 0, agent.log
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert_everything_once(site, lines)
