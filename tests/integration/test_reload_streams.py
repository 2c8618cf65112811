"""Reload beside a stream: what the stream does not need changes in place, the rest in another worker, and no line is lost or twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.agent_process import Agent

RELOADS = 12


def running_hash(site: Site) -> str | None:
    """Return the hash of the configuration that runs."""
    return (site.status() or {}).get("config_sha256")


def change(site: Site, **settings: Any) -> None:
    """Change the configuration and wait until the changed one runs."""
    before = running_hash(site)
    site.configure(**settings)
    until(lambda: running_hash(site) not in {before, None}, "another configuration")


def worker_of(agent: Agent) -> int:
    until(lambda: agent.worker() is not None and agent.site.status(), "a worker that answers")
    pid = agent.worker()
    assert pid is not None
    return pid


def assert_everything_once(site: Site, lines: int) -> None:
    assert site.trails.event_ids() == loggen.event_ids(lines)
    assert [record for record in site.trails.records() if record["kind"] != "event"] == []
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_exec_under_load_loses_and_doubles_nothing_across_reloads_that_replace_its_worker(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    lines, hurry, out = 100_000, tmp_path / "no-more-reloads", tmp_path / "out"
    command = [*LOGGEN, str(lines), "--seconds", "150", "--hurry", str(hurry), "--step", "50", "--exit-code", "7"]
    with out.open("wb") as stdout, site.run("exec", "--", *command, stdout=stdout) as agent:
        workers = {worker_of(agent)}
        for turn in range(RELOADS):
            change(site, limits={"line_bytes": f"{64 + turn}KiB"})
            workers.add(worker_of(agent))
        assert site.metrics()[f"{PREFIX}worker_respawns"] == 0, "a reload is no crash"
        hurry.touch()
        assert agent.process.wait(60) == 7, agent.log
    assert len(workers) == RELOADS + 1
    assert '"the worker ended"' not in agent.log
    resumed = [seal.manifest.unclean for seal in site.trails.seals() if seal.manifest.reason.value == "resume"]
    assert resumed == [False] * RELOADS
    assert out.read_bytes() == loggen.others(lines), "an ordinary line was lost or passed on twice"
    assert_everything_once(site, lines)


@pytest.mark.slow
def test_pipe_takes_a_change_of_the_seals_in_place_and_one_of_the_rule_in_another_worker(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    with site.run("pipe", stdin=subprocess.PIPE) as agent:
        assert agent.process.stdin is not None
        agent.process.stdin.write(loggen.block(0, 1000))
        agent.process.stdin.flush()
        first = worker_of(agent)
        change(site, seal={"max_age": "300ms", "heartbeat": "9s"})
        assert worker_of(agent) == first
        agent.process.stdin.write(loggen.block(1000, 1000))
        agent.process.stdin.flush()
        site.configure(audit={"field": "stream", "value": "nothing"})
        agent.process.send_signal(signal.SIGHUP)
        until(lambda: agent.worker() not in {first, None}, "another worker")
        until(lambda: running_hash(site) is not None, "a worker that answers")
        agent.process.stdin.write(loggen.block(2000, 1000))
        agent.process.stdin.flush()
        assert agent.stop() == 0, agent.log
    # The rule changed at some point behind what was submitted before; nothing is lost or twice on either side of it.
    ids = site.trails.event_ids()
    assert ids == loggen.event_ids(2000)[: len(ids)]
    assert len(ids) >= 100
    assert site.verify().code == 0


@pytest.mark.slow
def test_sighup_to_exec_belongs_to_the_service(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, lambda *_: (sys.stdout.write('hup\\n'), sys.stdout.flush(), sys.exit(5)))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with site.run("exec", "--", sys.executable, "-c", code, stdout=subprocess.PIPE) as agent:
        assert agent.process.stdout is not None
        assert agent.process.stdout.readline() == b"up\n"
        agent.process.send_signal(signal.SIGHUP)
        assert agent.process.stdout.readline() == b"hup\n"
        assert agent.process.wait(60) == 5, agent.log
    assert "configuration" not in agent.log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("shutdown_grace", {"shutdown_grace": "11s"}),
        ("spool.when_full", {"spool": {"when_full": "gap"}}),
        ("sources", {"sources": [{"id": "other", "pipe": "stdin"}]}),
    ],
)
def test_what_the_parent_was_told_is_refused_and_the_worker_runs_on(tmp_path: Path, key: str, settings: dict[str, Any]) -> None:
    site = Site(tmp_path, sources=None)
    with site.run("pipe", stdin=subprocess.PIPE) as agent:
        assert agent.process.stdin is not None
        first = worker_of(agent)
        before = running_hash(site)
        site.configure(**settings)
        until(lambda: "a restart is needed" in agent.log, "a message that says so")
        assert f": {key}: " in agent.log
        assert (agent.worker(), running_hash(site)) == (first, before)
        agent.process.stdin.write(loggen.block(0, 100))
        agent.process.stdin.close()
        agent.process.stdin = None
        assert agent.process.wait(60) == 0, agent.log
    assert_everything_once(site, 100)
