"""`trailseal run`: orderly ends, restarts, epochs, and one agent to a state directory."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, trailseal, until, verify

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_sigterm_ends_run_in_order_with_everything_shipped_and_a_stop(tmp_path: Path) -> None:
    # Records would wait a minute for their seal; the end must not.
    site = Site(tmp_path, seal={"max_age": "1m", "heartbeat": "1m"})
    site.log.write_bytes(loggen.block(0, 500))
    with site.run() as agent:
        agent.ready()
        until(lambda: (site.status() or {})["spool"]["records"] == 50, "50 records in the spool")
        with site.log.open("ab") as log:
            log.write(loggen.block(500, 500))
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == loggen.event_ids(1000)
    assert site.trails.reasons() == ["open", "stop"]
    assert site.trails.accounted_bytes() == site.log.stat().st_size
    assert not (site.state / "agent.sock").exists()
    assert site.verify().code == 0


def test_the_agent_logs_json_and_never_an_events_content(tmp_path: Path) -> None:
    site = Site(tmp_path, log={"level": "debug"})
    site.log.write_bytes(loggen.block(0, 100) + b'{"stream":"audit","event_id":"secret-token"}\n')
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0
    lines = [json.loads(line) for line in agent.log.splitlines()]
    assert {"time", "level", "event"} <= set.intersection(*(set(line) for line in lines))
    assert "secret-token" not in agent.log
    assert "ada@example.com" not in agent.log


def test_a_restart_goes_on_in_the_same_trail_and_says_whether_the_end_was_clean(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for turn, end in enumerate(("stop", "kill", "stop")):
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * 100, 100))
        with site.run() as agent:
            agent.ready()
            site.wait_drained(site.log.stat().st_size)
            agent.stop() if end == "stop" else agent.kill()
    assert site.trails.event_ids() == loggen.event_ids(300)
    assert len({seal.manifest.agent.boot_id for seal in site.trails.seals()}) == 1
    resumed = [seal.manifest.unclean for seal in site.trails.seals() if seal.manifest.reason.value == "resume"]
    assert resumed == [False, True]
    assert len(list((site.store / "trails" / "demo" / "payments").iterdir())) == 1
    assert site.verify().code == 0


def test_an_agent_that_is_given_another_name_goes_on_in_a_trail_that_continues_the_old_one(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for turn, name in enumerate(("node-1", "node-9")):
        site.configure(instance=name)
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * 100, 100))
        with site.run() as agent:
            agent.ready()
            site.wait_drained(site.log.stat().st_size)
            assert agent.stop() == 0, agent.log
    first, second = [seal for seal in site.trails.seals() if seal.manifest.reason.value == "open"]
    assert second.manifest.continues
    assert second.manifest.continues.origin == first.checkpoint().origin
    assert site.trails.event_ids() == loggen.event_ids(200)
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def test_an_ephemeral_state_closes_its_trail_and_the_next_run_links_a_new_one_to_it(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, ephemeral=True, enrolment_key=str(tmp_path / "enrolment.key"))
    trust = tmp_path / "trust-of-the-service.txt"
    made = trailseal("keygen", "demo/payments", "--out", tmp_path / "enrolment.key")
    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE((tmp_path / "enrolment.key").stat().st_mode) == 0o600
    trust.write_text(made.stdout, encoding="utf-8")
    again = trailseal("keygen", "demo/payments", "--out", tmp_path / "enrolment.key")
    assert again.returncode == 2
    assert "never overwritten" in again.stderr

    for turn in range(2):
        with site.run("exec", "--", *LOGGEN, "100", "--run", f"turn{turn}") as agent:
            assert agent.process.wait(60) == 0, agent.log
    reasons = site.trails.reasons()
    assert reasons.count("open") == reasons.count("close") == 2
    assert reasons[-1] == "close"
    first, second = [seal.manifest for seal in site.trails.seals() if seal.manifest.reason.value == "open"]
    assert first.continues is None
    assert second.continues
    assert second.continues.why.value == "reopened"
    assert second.continues.size == next(s.manifest.seq + 1 for s in site.trails.seals() if s.manifest.reason.value == "close")
    assert site.trails.event_ids() == [*loggen.event_ids(100, run="turn0"), *loggen.event_ids(100, run="turn1")]
    # One line from keygen is enough for every epoch of the service.
    verdict = verify(site.store, trust)
    assert verdict.code == 0, verdict.findings()
    assert [trail["state"] for trail in verdict.report["trails"]] == ["closed", "closed"]


def test_an_ephemeral_state_over_files_closes_once_they_were_read_to_their_ends(tmp_path: Path) -> None:
    site = Site(tmp_path, ephemeral=True)
    for turn in range(2):
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * 100, 100))
        with site.run() as agent:
            agent.ready()
            site.wait_drained(site.log.stat().st_size)
            assert agent.stop() == 0, agent.log
    assert [reason for reason in site.trails.reasons() if reason not in {"age", "heartbeat"}] == ["open", "close", "open", "close"]
    assert site.trails.event_ids() == loggen.event_ids(200)
    assert site.verify().code == 0


def test_a_second_sigterm_does_not_wait_for_the_stores(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="5m")
    site.store.write_text("in the way", encoding="utf-8")
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        until(lambda: ((site.status() or {}).get("head") or {}).get("events") == 10, "10 events sealed")
        agent.process.send_signal(signal.SIGTERM)
        until(lambda: "sealed the rest" in agent.log, "the last seal")
        assert agent.process.poll() is None
        assert agent.stop() == 0
    assert "stays in the spool" in agent.log


@pytest.mark.parametrize(("source", "code"), [({"command": [*LOGGEN, "1000", "--exit-code", "4"]}, 4), ({"pipe": "stdin"}, 0)])
def test_run_reads_a_stream_that_the_configuration_names(tmp_path: Path, source: dict[str, Any], code: int) -> None:
    site = Site(tmp_path, sources=[{"id": "service", **source}])
    with site.run(stdin=subprocess.PIPE) as agent:
        agent.process.communicate(loggen.block(0, 1000) if "pipe" in source else b"", timeout=60)
        assert agent.process.returncode == code, agent.log
    assert site.trails.event_ids() == loggen.event_ids(1000)
    assert {record["source"] for record in site.trails.records()} == {"service"}
    assert site.trails.reasons()[-1] == "stop"


def test_two_agents_on_one_state_the_second_refuses(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.run() as first:
        first.ready()
        with site.run() as second:
            assert second.process.wait(30) == 75
        assert "in use" in second.log
        assert first.process.poll() is None
        assert site.is_ready()
        checked = trailseal("check", "--config", site.config)
        assert checked.returncode == 0
        assert "in use" in checked.stdout
        assert first.stop() == 0
