"""The state directory damaged in any way: the agent always starts, and says what was lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, until
from tests.support.state_damage import Ground, any_damage

if TYPE_CHECKING:
    import random
    from pathlib import Path

TRIALS = 14
SEED = 18
"""With this one the first trial finds its damage only while it runs."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_agent_always_starts_and_everything_is_in_the_trail_or_stated_as_lost(ground: Ground) -> None:
    outcomes = [ground.trial(any_damage, seed) for seed in range(SEED, SEED + TRIALS)]
    assert [(outcome.what, outcome.wrong) for outcome in outcomes if outcome.wrong] == []
    assert sum(outcome.losses for outcome in outcomes) >= 3


@pytest.mark.slow
def test_of_an_unreadable_state_nothing_is_deleted_and_everybody_is_told(ground: Ground) -> None:
    def overwrite(state: Path, _: random.Random) -> str:
        path = state / "spool.db"
        path.write_bytes(b"\xff" * path.stat().st_size)
        return "spool.db overwritten"

    outcome = ground.trial(overwrite, 0)
    assert (outcome.wrong, outcome.missing, outcome.losses, outcome.verdict.code) == ([], 0, 1, 11)
    assert outcome.verdict.codes() == {"gap"}
    site = ground.site
    (kept,) = (site.state / "damaged").iterdir()
    assert set((kept / "spool.db").read_bytes()) == {0xFF}
    (gap,) = site.trails.kind("gap")
    assert (gap["source"], gap["cause"], gap["certainty"], gap["from_offset"]) == ("*", "state_lost", "unbounded", None)
    assert kept.name in gap["detail"]
    with site.run() as agent:
        agent.ready()
        metrics = site.metrics()
        assert agent.stop() == 0, agent.log
    assert metrics["trailseal_state_losses_total"] == 0, "a loss is told once"
    logs = [json.loads(line) for path in sorted(site.folder.glob("agent-*.err")) for line in path.read_text().splitlines()]
    told = [line for line in logs if line["event"] == "the state was damaged"]
    assert told[-1]["level"] == "error"
    assert kept.name in told[-1]["kept_in"]
    assert site.verify().code == 11


@pytest.mark.slow
def test_a_stream_whose_workers_state_is_overwritten_goes_on_in_a_new_epoch(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    with site.run("pipe", stdin=subprocess.PIPE) as agent:
        assert agent.process.stdin is not None
        agent.process.stdin.write(loggen.block(0, 1000))
        agent.process.stdin.flush()
        until(lambda: len(site.trails.event_ids()) == 100, "the first events in the store")
        worker = agent.worker()
        assert worker is not None
        # While the parent sleeps nobody starts another worker.
        agent.process.send_signal(signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        for name in ("spool.db", "spool.db-wal"):
            (site.state / name).write_bytes(bytes(100_000))
        agent.process.send_signal(signal.SIGCONT)
        agent.process.stdin.write(loggen.block(1000, 1000))
        agent.process.stdin.close()
        assert agent.process.wait(40) == 0, agent.log
    assert site.trails.event_ids() == loggen.event_ids(2000)
    gaps = site.trails.kind("gap")
    assert [gap["cause"] for gap in gaps if gap["source"] == "*"] == ["state_lost"]
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) == (11, {"gap"}), verdict.findings()
