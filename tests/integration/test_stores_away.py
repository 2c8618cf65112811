"""Stores that do not take batches: nothing is lost, everybody is told, and only a confirmed heartbeat counts."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import Site, trailseal, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


HEARTBEAT = f"{PREFIX}heartbeat_timestamp_seconds"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_store_that_cannot_be_written_to_is_reported_and_gets_everything_once_it_can(tmp_path: Path) -> None:
    site = Site(tmp_path, vitals={"listen": "none"}, seal={"max_age": "200ms", "heartbeat": "1s"})
    site.store.write_text("in the way", encoding="utf-8")
    site.log.write_bytes(loggen.block(0, 1000))
    with site.run() as agent:
        until(lambda: (site.status() or {}).get("store_problems"), "a store problem in the status")
        assert not site.is_ready()
        code, body = site.get("/readyz")
        assert code == http.client.SERVICE_UNAVAILABLE
        assert [reason["name"] for reason in json.loads(body)["reasons"] if reason["severity"] == "critical"] == ["store main"]
        assert trailseal("status", "--config", site.config).returncode == 1
        # Heartbeats are sealed, but no store has confirmed one: nothing beats.
        until(lambda: (site.status() or {})["head"]["batch"] >= 3, "two heartbeats")
        metrics = site.metrics()
        assert metrics[HEARTBEAT] == 0
        assert metrics[f"{PREFIX}batches_waiting"] >= 3
        assert metrics[f'{PREFIX}store_attempts_total{{outcome="transient",store="main"}}'] >= 1
        site.store.unlink()
        until(site.is_ready, "a ready agent")
        site.wait_drained(site.log.stat().st_size)
        assert site.metrics()[HEARTBEAT] == pytest.approx(time.time(), abs=30)
        assert agent.stop() == 0, agent.log
    assert "takes objects again" in agent.log
    assert site.trails.event_ids() == loggen.event_ids(1000)
    assert site.verify().code == 0


def test_what_could_not_be_shipped_in_the_grace_period_is_shipped_by_the_next_run(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="1s")
    site.store.write_text("in the way", encoding="utf-8")
    site.log.write_bytes(loggen.block(0, 1000))
    with site.run() as agent:
        until(lambda: ((site.status() or {}).get("head") or {}).get("events") == 100, "100 events sealed")
        assert agent.stop() == 0, agent.log
    assert "stays in the spool" in agent.log
    site.store.unlink()
    with site.run() as agent:
        until(lambda: site.trails.event_ids() == loggen.event_ids(1000), "the rest in the store")
        assert agent.stop() == 0, agent.log
    assert site.verify().code == 0


# Lines that hardly compress fill a spool quickly.
BULKY = """
import base64, pathlib, random, sys
dice = random.Random(1)
for number in range({lines}):
    print('{{"stream":"audit","event_id":"e%06d","occurred_at":"2026-01-08T14:32:07Z","actor":{{"type":"user","id":"ada"}},'
          '"action":"data.export","target":{{"type":"file","id":"f"}},"outcome":"success","context":{{"blob":"%s"}}}}'
          % (number, base64.b64encode(dice.randbytes(6000)).decode()))
sys.stdout.flush()
pathlib.Path({done!r}).touch()
"""
BULKY_LINES = 4500


def bulky_site(tmp_path: Path, when_full: str) -> tuple[Site, Path, list[str]]:
    """Return a site whose store cannot be written to and whose spool is as small as it may be, and a service."""
    site = Site(tmp_path, sources=None, spool={"max_bytes": "16MiB", "when_full": when_full}, shutdown_grace="1m")
    site.store.write_text("in the way", encoding="utf-8")
    done = tmp_path / "service-is-done"
    return site, done, python(BULKY.format(lines=BULKY_LINES, done=str(done)))


@pytest.mark.timeout(120)
def test_block_makes_the_service_wait_and_loses_nothing(tmp_path: Path) -> None:
    site, done, command = bulky_site(tmp_path, "block")
    with site.run("exec", "--", *command) as agent:
        until(lambda: (site.status() or {}).get("head") and site.metrics()[f"{PREFIX}spool_full"] == 1, "a full spool")
        # A cut may make room once more, so one look at the metrics and one at the status need not fall into the same moment.
        until(lambda: any(reason["name"] == "spool" for reason in (site.status() or {})["reasons"]), "a reason that names the spool")
        time.sleep(1.0)
        assert not done.exists()
        assert agent.process.poll() is None
        site.store.unlink()
        assert agent.process.wait(60) == 0, agent.log
    assert done.exists()
    assert site.trails.event_ids() == [f"e{number:06d}" for number in range(BULKY_LINES)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.timeout(120)
def test_gap_lets_the_service_go_on_and_states_exactly_what_was_lost(tmp_path: Path) -> None:
    site, done, command = bulky_site(tmp_path, "gap")
    with site.run("exec", "--", *command) as agent:
        until(done.exists, "a service that did not wait for the store", seconds=60)
        site.store.unlink()
        assert agent.process.wait(60) == 0, agent.log
    events, gaps = site.trails.events(), site.trails.kind("gap")
    found = [event["event_id"] for event in events]
    assert 0 < len(found) < BULKY_LINES
    assert found == sorted(set(found))
    assert {(gap["cause"], gap["certainty"]) for gap in gaps} == {("spool_full", "known")}
    line_bytes = len(subprocess.run(python(BULKY.format(lines=1, done=str(done))), capture_output=True, check=True).stdout)
    lost = sum(gap["to_offset"] - gap["from_offset"] for gap in gaps)
    assert lost == (BULKY_LINES - len(found)) * line_bytes
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) == (11, {"gap"})


def test_the_heartbeat_stands_still_while_no_store_confirms(tmp_path: Path) -> None:
    site = Site(tmp_path, seal={"max_age": "200ms", "heartbeat": "1s"})
    with site.run() as agent:
        agent.ready()
        until(lambda: site.metrics()[HEARTBEAT] > 0, "a first heartbeat")
        site.store.rename(tmp_path / "unmounted")
        site.store.write_text("in the way", encoding="utf-8")
        until(lambda: (site.status() or {})["store_problems"], "a store problem")
        beat, batch = site.metrics()[HEARTBEAT], (site.status() or {})["head"]["batch"]
        until(lambda: (site.status() or {})["head"]["batch"] >= batch + 2, "two seals nobody confirmed")
        assert site.metrics()[HEARTBEAT] == beat
        assert not site.is_ready()
        site.store.unlink()
        (tmp_path / "unmounted").rename(site.store)
        until(lambda: site.metrics()[HEARTBEAT] > beat, "a heartbeat again")
        assert agent.stop() == 0, agent.log
    assert site.verify().code == 0
