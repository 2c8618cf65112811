"""A state directory that comes back from a copy: the store shows the fork, and the agent goes on under a new name."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def has_event(site: Site, event_id: str) -> bool:
    return event_id in site.trails.event_ids()


def test_a_state_restored_from_a_copy_is_found_out_and_nothing_is_lost_or_overwritten(tmp_path: Path) -> None:
    site = Site(tmp_path)
    saved = tmp_path / "saved"
    before: dict[Path, bytes] = {}
    for turn in range(3):
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * 100, 100))
        if turn == 2:
            shutil.rmtree(site.state)
            shutil.copytree(saved, site.state)
            before = {path: path.read_bytes() for path in site.store.rglob("*") if path.is_file()}
        with site.run() as agent:
            agent.ready()
            newest = loggen.event_id(turn * 100 + 90)
            until(partial(has_event, site, newest), f"{newest} in the store")
            if turn == 2:
                assert site.metrics()["trailseal_forks_total"] == 1
                assert [reason["name"] for reason in (site.status() or {})["reasons"] if reason["name"] == "fork"]
            assert agent.stop() == 0, agent.log
        if turn == 0:
            shutil.copytree(site.state, saved)
    assert {path: path.read_bytes() for path in before} == before
    assert set(site.trails.event_ids()) == set(loggen.event_ids(300))
    sides = sorted(path.suffix for path in (site.state / "evidence").iterdir())
    assert sides == [".ours", ".theirs"]
    opened = [seal.manifest for seal in site.trails.seals() if seal.manifest.reason.value == "open"]
    assert len(opened) == 2
    assert opened[1].continues
    assert opened[1].continues.why.value == "fork"
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
    assert {finding["code"] for finding in verdict.findings(notices=True)} >= {"went_on"}
