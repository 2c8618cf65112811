"""A directory store that refuses, answers late or loses its answers: asked again for ever, in the store's own words, one object each."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import TRAILSEAL, Agent, Site, children_of, until
from tests.support.oracle import assert_once, drain, run_unprivileged, wait_for, write

if TYPE_CHECKING:
    from pathlib import Path

ATTEMPTS = "trailseal_store_attempts_total"
NARROW = {"max_age": "100ms", "heartbeat": "1s"}


def traced(site: Site, *inject: str) -> Agent:
    """Start an agent of which chosen system calls fail."""
    calls = ",".join(sorted({one.split(":")[0] for one in inject}))
    words = [word for one in inject for word in ("-e", f"inject={one}")]
    # Of the syncs only those of the folder the data objects are in: one follows when an object has got its name.
    today = datetime.now(UTC).date()
    days = [site.store / f"records/namespace=demo/service=payments/date={day}" for day in (today, today + timedelta(days=1))]
    only = [word for day in days for word in ("-P", str(day))] if any(one.startswith("fsync:error") for one in inject) else []
    command = ["strace", "-f", "-qq", *only, "-o", str(site.folder / "trace"), "-e", f"trace={calls}", *words]
    return Agent(site, [*command, TRAILSEAL, "run", "--config", str(site.config)])


def stop_traced(agent: Agent) -> None:
    for pid in children_of(agent.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert agent.process.wait(40) == 0, agent.log


@pytest.mark.slow
def test_a_store_that_forbids_writing_is_asked_for_ever_and_gets_everything_once_the_right_is_given(tmp_path: Path) -> None:
    site = Site(tmp_path, seal=NARROW)
    ids = write(site.log, 0, 20)
    site.store.mkdir()
    site.store.chmod(0o555)
    with run_unprivileged(site) as agent:
        until(lambda: (site.status() or {}).get("store_problems"), "a store problem")
        until(lambda: site.metrics()[f'{ATTEMPTS}{{outcome="transient",store="main"}}'] >= 4, "further attempts")
        assert not site.is_ready()
        (problem,) = (site.status() or {})["store_problems"].values()
        assert "Permission denied" in problem
        assert "Permission denied" in agent.log
        assert list(site.store.iterdir()) == []
        site.store.chmod(0o755)
        wait_for(site, agent, ids)
        until(site.is_ready, "an agent that is ready again")
        drain(site, agent, ids)
    assert_once(site, ids)


@pytest.mark.slow
def test_two_agents_with_one_name_and_one_store_overwrite_nothing_of_each_other(tmp_path: Path) -> None:
    sites = [Site(tmp_path / name, stores=[{"id": "main", "directory": str(tmp_path / "store")}], seal=NARROW) for name in ("one", "two")]
    ids = []
    for site in sites:
        site.store = tmp_path / "store"
        ids += write(site.log, 0, 50, run=site.folder.name)
    with sites[0].run() as first, sites[1].run() as second:
        first.ready()
        second.ready()
        before: dict[Path, bytes] = {}
        for turn in range(1, 4):
            for site in sites:
                ids += write(site.log, turn * 50, turn * 50 + 50, run=site.folder.name)
            until(lambda: any(sites[0].store.rglob("*.seal")), "seals")
            before |= {path: path.read_bytes() for path in sites[0].store.rglob("*.seal")}
            time.sleep(0.3)
        shared = Site(tmp_path / "reader", stores=[{"id": "main", "directory": str(tmp_path / "store")}])
        shared.store = tmp_path / "store"
        shared.trails = type(shared.trails)(shared.store)
        wait_for(shared, first, ids)
        assert (first.stop(), second.stop()) == (0, 0)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(shared.trails.event_ids()) == sorted(ids)
    # Two beginnings of one instance that nothing links are what the verifier must say; nothing else is wrong.
    verdict = shared.verify()
    assert verdict.codes() <= {"restarted_unlinked"}, verdict.findings()


@pytest.mark.slow
@pytest.mark.parametrize(
    "inject",
    [
        pytest.param("link:error=EIO:when=2+3", id="no name is given"),
        pytest.param("fsync:error=EIO:when=1+3", id="the answer is lost after the object was written"),
        pytest.param("fsync:delay_exit=150000", id="every answer is late"),
        pytest.param("link:error=EACCES:when=1..6", id="forbidden for a while"),
    ],
)
def test_objects_whose_answer_fails_or_is_lost_or_late_are_stored_once_with_the_same_bytes(tmp_path: Path, inject: str) -> None:
    site = Site(tmp_path, seal=NARROW)
    ids = write(site.log, 0, 10)
    with traced(site, inject) as agent:
        for turn in range(1, 5):
            wait_for(site, agent, ids)
            ids += write(site.log, turn * 10, turn * 10 + 10)
        wait_for(site, agent, ids)
        metrics = site.metrics()
        stop_traced(agent)
    attempts = {outcome: metrics[f'{ATTEMPTS}{{outcome="{outcome}",store="main"}}'] for outcome in ("created", "present", "transient")}
    if "error" in inject:
        assert attempts["transient"] >= 1, attempts
    if inject.startswith("fsync:error"):
        assert attempts["present"] >= 1, attempts
    assert metrics["trailseal_forks_total"] == 0
    objects = list(site.store.rglob("*.ndjson.zst"))
    assert len(objects) == len({seal.manifest.data.key for seal in site.trails.seals() if seal.manifest.data is not None})
    assert_once(site, ids)
