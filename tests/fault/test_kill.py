"""Kill -9 at random moments: after a restart and a drain, every audit line is in the trail exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.agent_process import Agent

KILLS = 20
LINES = 200_000
SEED = 20260108


def kill_workers(agent: Agent, moments: Sequence[float]) -> None:
    """Kill as many workers, one after the other, so many seconds after its start or, every other one, after its first seal."""
    known: set[int | None] = {None}
    for number, moment in enumerate(moments):
        batches = len(agent.site.trails.seals())
        until(lambda: agent.worker() not in known, "another worker", step_seconds=0.005)
        pid = agent.worker()
        assert pid is not None
        known.add(pid)
        if number % 2:
            until(partial(more_seals, agent.site, batches), "a seal by this worker", step_seconds=0.005)
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)


def more_seals(site: Site, than: int) -> bool:
    return len(site.trails.seals()) > than


def assert_complete(site: Site, expected: list[str]) -> None:
    """Check the oracle: nothing missing, nothing twice, nothing else, in order, and a verifier that agrees."""
    found = site.trails.event_ids()
    assert set(expected) - set(found) == set()
    assert len(found) == len(set(found)), "an event is in the trail twice"
    assert found == expected
    assert [record for record in site.trails.records() if record["kind"] != "event"] == []
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_agent_killed_at_twenty_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    dice = random.Random(SEED)
    # An agent knows of rotations from when it first saw the log; how long it takes to start sets the scale of the moments.
    begun = 1000
    site.log.write_bytes(loggen.block(0, begun))
    started = time.monotonic()
    with site.run() as agent:
        agent.ready()
        start_seconds = time.monotonic() - started
        site.wait_drained(site.log.stat().st_size)
        agent.kill()
    moments = [round(dice.choice((dice.uniform(0.0, start_seconds), start_seconds + dice.uniform(0.0, 1.2))), 3) for _ in range(KILLS)]
    print(f"seed {SEED}, seconds from start to kill: {moments}")  # noqa: T201 - shown when the test fails
    seconds, hurry = str(1.5 * sum(moments) + 2.0), tmp_path / "no-more-kills"
    pace = ["--seconds", seconds, "--hurry", str(hurry), "--rotations", "7"]
    generator = subprocess.Popen([*LOGGEN, str(LINES), "--first", str(begun), "--file", str(site.log), *pace])
    try:
        for moment in moments:
            with site.run() as agent:
                time.sleep(moment)
                assert agent.process.poll() is None, agent.log
                agent.kill()
        assert generator.poll() is None, "the generator ended before the last kill"
        hurry.touch()
        with site.run() as agent:
            agent.ready()
            assert generator.wait(60) == 0
            files = sorted(site.logs.iterdir())
            assert len(files) == 8
            site.wait_drained(sum(file.stat().st_size for file in files))
            assert agent.stop() == 0, agent.log
    finally:
        generator.kill()
        generator.wait()
    assert site.trails.reasons().count("resume") > KILLS // 4, "too few of the kills hit an agent that was at work"
    assert_complete(site, loggen.event_ids(LINES))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_exec_survives_its_worker_being_killed_ten_times(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    lines = 120_000
    hurry = tmp_path / "no-more-kills"
    command = [*LOGGEN, str(lines), "--seconds", "50", "--hurry", str(hurry), "--step", "100", "--exit-code", "7"]
    out = tmp_path / "out"
    dice = random.Random(SEED)
    moments = [round(dice.uniform(0.0, 0.9), 3) for _ in range(10)]
    print(f"seed {SEED}, seconds from worker to kill: {moments}")  # noqa: T201 - as above
    with out.open("wb") as stdout, site.run("exec", "--", *command, stdout=stdout) as agent:
        kill_workers(agent, moments)
        hurry.touch()
        assert agent.process.wait(60) == 7, agent.log
    assert agent.log.count('"the worker ended"') == len(moments)
    assert_complete(site, loggen.event_ids(lines))
    assert b'"event_id"' not in out.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_pipe_survives_its_worker_being_killed(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    lines = 120_000
    dice = random.Random(SEED)
    moments = [round(dice.uniform(0.0, 0.9), 3) for _ in range(6)]
    print(f"seed {SEED}, seconds from worker to kill: {moments}")  # noqa: T201 - as above
    hurry = tmp_path / "no-more-kills"
    command = [*LOGGEN, str(lines), "--seconds", "50", "--hurry", str(hurry), "--step", "100"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as generator,
        site.run("pipe", stdin=generator.stdout) as agent,
    ):
        assert generator.stdout is not None
        generator.stdout.close()
        kill_workers(agent, moments)
        hurry.touch()
        assert agent.process.wait(60) == 0, agent.log
        assert generator.wait(10) == 0
    assert_complete(site, loggen.event_ids(lines))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_pipe_whose_reader_is_killed_as_a_whole_states_that_bytes_may_be_lost(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    lines = 40_000
    with (
        subprocess.Popen(
            [*LOGGEN, str(lines), "--seconds", "4", "--step", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as generator,
        site.run("pipe", stdin=generator.stdout) as agent,
    ):
        assert generator.stdout is not None
        generator.stdout.close()
        until(lambda: len(site.trails.event_ids()) > 200, "events in the store")
        os.killpg(agent.process.pid, signal.SIGKILL)
        agent.process.wait(10)
        # What was in the pipe died with its only reader, and the writer knows.
        assert generator.wait(20) != 0
    with site.run("pipe", stdin=subprocess.PIPE) as agent:
        agent.process.communicate(loggen.block(0, 100, run="later"), timeout=60)
        assert agent.process.returncode == 0, agent.log
    found = site.trails.event_ids()
    before = len(found) - len(loggen.event_ids(100))
    assert found == [*loggen.event_ids(lines)[:before], *loggen.event_ids(100, run="later")]
    (gap,) = site.trails.kind("gap")
    assert (gap["cause"], gap["certainty"], gap["to_offset"]) == ("worker_crashed", "possible", None)
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) == (11, {"gap"}), verdict.findings()
