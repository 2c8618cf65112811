"""Work waits and nothing moves: the agent says so, then ends for a supervisor to start it again; whatever only waits runs on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from agent.watchdog import EXIT_STALLED
from tests.support import hanging_syncs, loggen
from tests.support.agent_process import Agent, Site, children_of, until

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.timeout(120)

# The agent with a watchdog that is less patient than a minute, a store that is tried more often, and a fault.
IMPATIENT = """
import asyncio, sys, time
from agent import placing, runtime
from agent.watchdog import Bounds
runtime.PATIENCE = {{part: Bounds(2.0, {end}) for part in runtime.PATIENCE}}
placing.ATTEMPT_SECONDS = placing.LONGEST_WAIT_SECONDS = 0.5
from agent.observer import Observer
from agent.sealer import Sealer
from agent.shipper import Shipper
from agent.stores import DirectoryStore
async def for_ever(*_):
    await asyncio.Event().wait()
{fault}
from agent.cli import main
sys.exit(main(sys.argv[1:]))
"""
LINES = 50


def impatient(site: Site, fault: str = "", *, end: float = 6.0, tracing: Sequence[str] = ()) -> Agent:
    code = IMPATIENT.format(fault=fault, end=end)
    return Agent(site, [*tracing, sys.executable, "-c", code, "run", "--config", str(site.config)])


def write(site: Site, first: int, last: int) -> None:
    with site.log.open("ab") as log:
        log.writelines(loggen.audit_line(number) for number in range(first, last))


def assert_everything_once_after_a_restart(site: Site, lines: int) -> None:
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(lines)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def wait_for_end(agent: Agent) -> int:
    return agent.process.wait(40)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("loop", "Observer.committed = lambda *_: time.sleep(60)"),
        ("sealer", "Sealer._take = for_ever"),
        ("shipper", "Shipper._next = for_ever"),
        ("shipper", "Shipper._place = for_ever"),
    ],
    ids=["a blocked event loop", "a sealer that stops", "a shipper that forgets its batches", "a shipper that forgets to try"],
)
def test_a_part_that_stands_still_is_reported_and_ends_the_agent(tmp_path: Path, part: str, fault: str) -> None:
    site = Site(tmp_path)
    write(site, 0, LINES)
    with impatient(site, fault) as agent:
        if part != "loop":
            until(lambda: site.status() and site.metrics()[f'{PREFIX}stalled{{part="{part}"}}'] == 1, "an alert")
            assert f"progress of the {part}" in [reason["name"] for reason in (site.status() or {})["reasons"]]
            assert not site.is_ready()
        assert wait_for_end(agent) == EXIT_STALLED, agent.log
    assert '"no progress"' in agent.log
    assert f'"part":"{part}"' in agent.log
    assert_everything_once_after_a_restart(site, LINES)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["by the watchdog", "by SIGTERM"])
def test_a_spool_whose_disk_does_not_answer_ends_the_agent(tmp_path: Path, end: str) -> None:
    site = Site(tmp_path, shutdown_grace="1s")
    fault = "from agent.spool.database import Database\nDatabase.append = lambda *_: time.sleep(60)"
    with impatient(site, fault) as agent:
        agent.ready()
        write(site, 0, LINES)
        if end == "by SIGTERM":
            assert agent.stop() != 0, agent.log
        else:
            until(lambda: not site.is_ready(), "an agent that is not ready")
            assert "progress of the spool" in [reason["name"] for reason in (site.status() or {})["reasons"]]
            assert wait_for_end(agent) == EXIT_STALLED, agent.log
    assert '"part":"loop"' not in agent.log
    assert_everything_once_after_a_restart(site, LINES)


@pytest.mark.slow
def test_an_fsync_that_hangs_in_the_kernel_ends_the_agent(tmp_path: Path) -> None:
    site = Site(tmp_path)
    hang = tmp_path / "hang"
    folder = str(Path(hanging_syncs.__file__).parent)
    fault = f"sys.path.insert(0, {folder!r})\nimport hanging_syncs\nhanging_syncs.hang_syncs_once({str(hang)!r})"
    with impatient(site, fault) as agent:
        write(site, 0, LINES)
        until(lambda: len(site.trails.event_ids()) == LINES, "the first lines in the store")
        hang.touch()
        until(lambda: not hang.exists(), "a disk that hangs")
        write(site, LINES, 2 * LINES)
        until(lambda: not site.is_ready(), "an agent that is not ready")
        assert "progress of the spool" in [reason["name"] for reason in (site.status() or {})["reasons"]]
        assert wait_for_end(agent) == EXIT_STALLED, agent.log
    assert '"part":"spool"' in agent.log
    assert '"part":"loop"' not in agent.log
    assert_everything_once_after_a_restart(site, 2 * LINES)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "DirectoryStore._create = lambda *_: time.sleep(60)"], ids=["refuses", "hangs"])
def test_a_store_that_is_away_never_ends_the_agent(tmp_path: Path, fault: str) -> None:
    site = Site(tmp_path, shutdown_grace="1s", seal={"max_age": "200ms", "heartbeat": "1s"})
    if not fault:
        site.store.write_text("in the way", encoding="utf-8")
    write(site, 0, LINES)
    with impatient(site, fault, end=4.0) as agent:
        until(lambda: ((site.status() or {}).get("head") or {}).get("events") == LINES, "everything sealed")
        time.sleep(8)
        assert agent.process.poll() is None, agent.log
        assert "no progress" not in agent.log
        assert agent.stop() == 0, agent.log
    if not fault:
        site.store.unlink()
    assert_everything_once_after_a_restart(site, LINES)


@pytest.mark.slow
def test_a_disk_that_is_full_never_ends_the_agent(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="1s")
    write(site, 0, LINES)
    full = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC:when=80+"]
    lines = LINES
    with impatient(site, end=8.0, tracing=full) as agent:
        until(lambda: site.status() is not None, "an agent that answers")
        while "the spool is full" not in agent.log and lines < 20_000:
            write(site, lines, lines + 10)
            lines += 10
            time.sleep(0.05)
        time.sleep(11)
        assert agent.process.poll() is None, agent.log
        for pid in children_of(agent.process.pid):
            os.kill(pid, signal.SIGTERM)
        # What could not be sealed cannot be called an orderly end.
        assert wait_for_end(agent) == 1, agent.log
    assert "the agent ends itself" not in agent.log
    assert_everything_once_after_a_restart(site, lines)


@pytest.mark.slow
def test_an_agent_that_was_stopped_for_a_while_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with impatient(site, end=4.0) as agent:
        agent.ready()
        for turn in range(2):
            write(site, turn * LINES, (turn + 1) * LINES)
            agent.process.send_signal(signal.SIGSTOP)
            time.sleep(7)
            agent.process.send_signal(signal.SIGCONT)
            site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert "no progress" not in agent.log
    assert_everything_once_after_a_restart(site, 2 * LINES)


@pytest.mark.slow
def test_the_relay_starts_another_worker_for_one_that_its_watchdog_ended(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    once = tmp_path / "once"
    package = tmp_path / "hook"
    package.mkdir()
    # The parent starts `python -m agent`, so the fault comes in by the interpreter's own hook, and into the first worker only.
    (package / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "if 'agent' in sys.orig_argv and not (once := pathlib.Path(os.environ['ONCE'])).exists():\n"
        "    once.touch()\n"
        "    import time\n"
        "    from agent import runtime\n"
        "    from agent.observer import Observer\n"
        "    from agent.watchdog import Bounds\n"
        "    runtime.PATIENCE = {part: Bounds(1.0, 3.0) for part in runtime.PATIENCE}\n"
        "    Observer.committed = lambda *_: time.sleep(60)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(package), "ONCE": str(once)}
    with site.run("pipe", stdin=subprocess.PIPE, env=environment) as agent:
        assert agent.process.stdin is not None
        agent.process.stdin.write(b"".join(map(loggen.audit_line, range(LINES))))
        agent.process.stdin.flush()
        until(lambda: f'"exit_code": {EXIT_STALLED}' in agent.log, "a worker that its watchdog ended")
        until(lambda: site.status() and site.metrics()[f"{PREFIX}worker_respawns"] == 1, "another worker")
        agent.process.stdin.close()
        agent.process.stdin = None
        assert agent.process.wait(40) == 0, agent.log
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(LINES)]
