"""How far behind each store is, and when the spool will be full, as `/metrics` shows it."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_each_stores_lag_is_shown_and_ends_when_it_has_caught_up(tmp_path: Path) -> None:
    site = Site(tmp_path)
    away, optional = tmp_path / "away", tmp_path / "optional"
    for blocked in (away, optional):
        blocked.write_text("no folder")
    site.configure(
        stores=[
            {"id": "main", "directory": str(site.store)},
            {"id": "away", "directory": str(away)},
            {"id": "optional", "directory": str(optional), "required": False},
        ]
    )
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        until(lambda: site.status() is not None, "an answer")
        until(lambda: site.metrics()['trailseal_store_lag_seconds{store="away"}'] > 1, "the lag of the store that is away")
        found = site.metrics()
        assert found['trailseal_store_lag_seconds{store="optional"}'] > 1
        assert found['trailseal_store_batches_waiting{store="away"}'] >= 1
        assert found["trailseal_spool_oldest_age_seconds"] > 1
        assert found['trailseal_source_last_line_timestamp_seconds{source="app"}'] > 1.7e9
        assert found["trailseal_heartbeat_interval_seconds"] == 10
        assert found["trailseal_heartbeat_timestamp_seconds"] == 0
        assert found["trailseal_spool_seconds_to_full"] == math.inf
        assert math.isnan(found['trailseal_store_certificate_expiry_timestamp_seconds{store="main"}'])
        until(lambda: site.metrics()['trailseal_store_lag_seconds{store="main"}'] == 0, "the store that works to be up to date")
        away.unlink()
        until(lambda: site.metrics()['trailseal_store_lag_seconds{store="away"}'] == 0, "the store to catch up")
        assert site.metrics()["trailseal_heartbeat_timestamp_seconds"] > 0
        optional.unlink()
        until(lambda: site.metrics()['trailseal_store_batches_waiting{store="optional"}'] == 0, "the optional store to catch up")
        assert site.metrics()['trailseal_store_lag_seconds{store="optional"}'] == 0
        until(lambda: site.metrics()["trailseal_spool_oldest_age_seconds"] == 0, "no record to wait any more")
        shutil.rmtree(optional)
        optional.write_text("no folder")
        with site.log.open("ab") as log:
            log.write(loggen.block(100, 100))
        until(lambda: site.metrics()['trailseal_store_batches_waiting{store="optional"}'] > 0, "the optional store to be behind again")
        until(lambda: site.metrics()['trailseal_store_lag_seconds{store="optional"}'] > 1, "its lag")
        assert site.metrics()['trailseal_store_lag_seconds{store="main"}'] == 0
        assert agent.stop() == 0
