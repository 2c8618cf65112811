"""The whole object store dies while batches are shipped, again and again: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import until
from tests.support.bucket_site import BucketSite
from tests.support.object_servers.rgw import Rgw
from tests.support.oracle import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 10
EVENTS_A_TURN = 10_000
RECEIPTS = 'trailseal_store_receipts_total{store="main"}'


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    # bluestore keeps what it said it has, through a power cut.
    with Rgw(tmp_path_factory.mktemp("rgw"), backend="bluestore") as server:
        yield server


@pytest.mark.parametrize("lock", ["compliance", None], ids=["locked, where create-if-absent is not kept", "plain, where it is"])
def test_a_server_killed_ten_times_costs_nothing_but_time(tmp_path: Path, rgw: Rgw, lock: str | None) -> None:
    bucket = rgw.bucket("killed-locked" if lock else "killed-plain", lock="compliance" if lock else None)
    store = {"retention": {"days": 400}} if lock else {"allow_unlocked": True}
    site = BucketSite(tmp_path, rgw, bucket, store=store, seal={"max_age": "100ms", "max_bytes": "64KiB", "heartbeat": "2s"})
    ids: list[str] = []
    with site.run() as agent:
        agent.ready()
        for turn in range(KILLS):
            before = site.metrics()[RECEIPTS]
            ids += write(site.log, turn * EVENTS_A_TURN, (turn + 1) * EVENTS_A_TURN)
            # In the midst of it: some batches of this turn are there, and others wait, or are not made yet.
            until(lambda before=before, turn=turn: site.metrics()[RECEIPTS] > before + turn, "receipts", step_seconds=0.005)  # type: ignore[misc]
            status = site.status() or {}
            assert status["spool"]["batches_waiting"] or status["head"]["events"] < len(ids) or turn == 0
            rgw.kill()
            rgw.start()
        site.wait_for(agent, ids)
        metrics = site.metrics()
        assert agent.stop() == 0, agent.log
    assert metrics['trailseal_store_attempts_total{outcome="transient",store="main"}'] >= KILLS // 2
    assert metrics["trailseal_forks_total"] == 0
    site.mirror()
    found = site.trails.event_ids()
    assert (len(set(ids) - set(found)), sum(count - 1 for count in Counter(found).values())) == (0, 0)
    assert found == ids
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
    assert verdict.report["assurance"] == ("locked" if lock else "unanchored")
    assert os.environ["AWS_ACCESS_KEY_ID"] == rgw.access_key
