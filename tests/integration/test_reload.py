"""Reload: a valid change takes effect and is in the trail, an invalid one changes nothing, and no line loses its place."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.agent_process import Agent

pytestmark = pytest.mark.slow

RELOADS = 20
SLOWLY = {"max_age": "1m", "heartbeat": "1m"}


def running_hash(site: Site) -> str | None:
    """Return the hash of the configuration that runs."""
    return (site.status() or {}).get("config_sha256")


def reloads(site: Site, outcome: str) -> float:
    return site.metrics()[f'{PREFIX}config_reloads_total{{outcome="{outcome}"}}']


def conditions(site: Site) -> dict[str, str]:
    """Return what does not hold, with its detail."""
    return {reason["name"]: reason["detail"] for reason in (site.status() or {}).get("reasons", [])}


def hup(agent: Agent) -> None:
    agent.process.send_signal(signal.SIGHUP)


def change(site: Site, agent: Agent | None = None, **settings: Any) -> None:
    """Change the configuration and wait until the changed one runs."""
    before = running_hash(site)
    site.configure(**settings)
    if agent is not None:
        hup(agent)
    until(lambda: running_hash(site) not in {before, None}, "another configuration")


def assert_everything_once(site: Site, expected: list[str]) -> None:
    assert site.trails.event_ids() == expected
    assert [record for record in site.trails.records() if record["kind"] != "event"] == []
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def test_a_changed_file_takes_effect_by_itself_and_the_next_manifest_states_it(tmp_path: Path) -> None:
    site = Site(tmp_path, seal=SLOWLY)
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        agent.ready()
        until(lambda: (site.status() or {})["spool"]["records"] == 10, "10 records in the spool")
        before = running_hash(site)
        change(site, limits={"line_bytes": "64KiB"})
        after = running_hash(site)
        # Neither the records nor the statement of the new configuration wait a minute for their seals.
        until(lambda: site.trails.event_ids() == loggen.event_ids(100), "the records read before")
        until(lambda: site.trails.seals()[-1].manifest.agent.config_sha256 == after, "a seal that states the new configuration")
        sealed = [
            (seal.manifest.reason.value, seal.manifest.agent.config_sha256, seal.manifest.records.count) for seal in site.trails.seals()
        ]
        assert sealed == [("open", before, 0), ("age", before, 10), ("heartbeat", after, 0)]
        assert site.metrics()[f'{PREFIX}config_info{{sha256="{after}"}}'] == 1
        assert reloads(site, "applied") == 1
        with site.log.open("ab") as log:
            log.write(loggen.block(100, 100))
        assert agent.stop() == 0, agent.log
    assert "configuration was replaced" in agent.log
    assert site.trails.seals()[-1].manifest.agent.config_sha256 == after
    assert_everything_once(site, loggen.event_ids(200))


@pytest.mark.parametrize("told", [True, False], ids=["with SIGHUP", "by itself"])
def test_a_bad_file_leaves_the_running_configuration_in_force_and_is_named(tmp_path: Path, told: bool) -> None:
    site = Site(tmp_path)
    site.log.write_bytes(loggen.block(0, 100))
    good = site.config.read_text(encoding="utf-8")
    with site.run() as agent:
        agent.ready()
        before = running_hash(site)
        site.config.write_text(good.replace('"200ms"', '"soon"'), encoding="utf-8")
        if told:
            hup(agent)
        until(lambda: "configuration" in conditions(site), "a condition that names the file")
        line = next(number for number, text in enumerate(good.splitlines(), 1) if '"200ms"' in text)
        assert f"{site.config}:{line}: seal.max_age: " in conditions(site)["configuration"]
        # The log is written by a thread of its own, which a busy machine keeps waiting.
        until(lambda: f"{site.config}:{line}: seal.max_age: " in agent.log, "the line in the log")
        assert running_hash(site) == before
        assert site.is_ready(), "a bad file must not take a running agent out of service"
        assert reloads(site, "invalid") == 1
        assert site.metrics()[f"{PREFIX}config_differs"] == 1
        site.wait_drained(site.log.stat().st_size)
        site.config.write_text(good, encoding="utf-8")
        until(lambda: "configuration" not in conditions(site), "no condition any more")
        assert site.metrics()[f"{PREFIX}config_differs"] == 0
        assert agent.stop() == 0, agent.log
    assert {seal.manifest.agent.config_sha256 for seal in site.trails.seals()} == {before}


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("state", {"state": "elsewhere"}),
        ("instance", {"instance": "node-2"}),
        ("ephemeral", {"ephemeral": True}),
        ("vitals", {"vitals": {"listen": "127.0.0.1:0"}}),
        ("sources", {"sources": [{"id": "in", "pipe": "stdin"}]}),
    ],
)
def test_what_only_a_start_can_change_is_refused_as_a_whole(tmp_path: Path, key: str, settings: dict[str, Any]) -> None:
    site = Site(tmp_path, seal=SLOWLY)
    with site.run() as agent:
        agent.ready()
        before, batch = running_hash(site), (site.status() or {})["head"]["batch"]
        site.configure(**settings, seal={"max_age": "100ms", "heartbeat": "1s"})
        # The socket in the state directory that runs is asked, whatever the file says now.
        hup(agent)
        until(lambda: "a restart is needed" in conditions(site).get("configuration", ""), "a condition that says so")
        assert f": {key}: " in conditions(site)["configuration"]
        assert reloads(site, "restart_needed") == 1
        time.sleep(1.5)
        assert running_hash(site) == before
        assert (site.status() or {})["head"]["batch"] == batch, "the seal policy of a refused file is in force"
        assert site.is_ready()
        assert agent.stop() == 0, agent.log


def test_sighup_without_a_change_changes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, seal=SLOWLY)
    with site.run() as agent:
        agent.ready()
        hup(agent)
        until(lambda: reloads(site, "unchanged") == 1, "a configuration that was read")
        assert (site.status() or {})["head"]["batch"] == 0
        assert agent.stop() == 0, agent.log
    assert site.trails.reasons() == ["open", "stop"]


def test_on_signal_waits_for_the_signal_and_says_that_it_does(tmp_path: Path) -> None:
    site = Site(tmp_path, reload="on_signal")
    with site.run() as agent:
        agent.ready()
        before = running_hash(site)
        site.configure(seal={"max_age": "300ms", "heartbeat": "9s"})
        until(lambda: "SIGHUP" in conditions(site).get("configuration", ""), "a condition that says what is waited for")
        assert running_hash(site) == before
        change(site, agent)
        assert "configuration" not in conditions(site)
        assert agent.stop() == 0, agent.log


def test_a_config_map_that_is_swapped_by_a_link_takes_effect(tmp_path: Path) -> None:
    site = Site(tmp_path)
    plain = json.loads(site.config.read_text(encoding="utf-8"))
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: str, **settings: Any) -> None:
        """Write a version as the kubelet does: a folder of its own, and one rename of the link to it."""
        (mount / f"..{version}").mkdir()
        (mount / f"..{version}" / "trailseal.yaml").write_text(json.dumps(plain | settings), encoding="utf-8")
        (mount / "..data_tmp").symlink_to(f"..{version}")
        (mount / "..data_tmp").rename(mount / "..data")

    plain["state"] = str(site.state)
    publish("1")
    (mount / "trailseal.yaml").symlink_to("..data/trailseal.yaml")
    site.config = mount / "trailseal.yaml"
    with site.run() as agent:
        agent.ready()
        before = running_hash(site)
        publish("2", limits={"line_bytes": "64KiB"})
        until(lambda: running_hash(site) not in {before, None}, "the second version")
        assert agent.stop() == 0, agent.log


def test_a_changed_catalog_takes_effect_and_the_lines_are_judged_by_it_from_then_on(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"

    def write(required: str) -> None:
        entry = {"category": "authorization", "sensitivity": "high", "required_context": [required]}
        catalog.write_text(json.dumps({"format": 1, "actions": {"role.grant": entry}}), encoding="utf-8")

    write("granted_role")
    site = Site(tmp_path, catalog=str(catalog))
    site.log.write_bytes(loggen.audit_line(1))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        before = running_hash(site)
        write("ticket")
        until(lambda: running_hash(site) not in {before, None}, "the other catalog")
        with site.log.open("ab") as log:
            log.write(loggen.audit_line(5))
        site.wait_drained(site.log.stat().st_size)
        assert site.metrics()[f'{PREFIX}events_total{{category="authorization",outcome="success",source="app"}}'] == 1
        catalog.write_text('{"format": 1, "actions": {"role.grant": {"category": "??"}}}', encoding="utf-8")
        until(lambda: f"{catalog}:1: " in conditions(site).get("configuration", ""), "a condition that names the catalog")
        assert agent.stop() == 0, agent.log
    assert [record["kind"] for record in site.trails.records()] == ["event", "quarantine"]
    assert site.trails.kind("quarantine")[0]["detail"] == "context.ticket"


def test_sources_come_and_go_and_one_that_comes_back_goes_on_where_it_stopped(tmp_path: Path) -> None:
    site = Site(tmp_path)
    other = site.logs / "other.log"
    app, second = {"id": "app", "file": str(site.log)}, {"id": "second", "file": str(other)}
    site.log.write_bytes(loggen.block(0, 100))
    other.write_bytes(loggen.block(0, 100, run="second"))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        change(site, sources=[app, second])
        site.wait_drained(site.log.stat().st_size + other.stat().st_size)
        change(site, sources=[app])
        with other.open("ab") as log:
            log.write(loggen.block(100, 100, run="second"))
        with site.log.open("ab") as log:
            log.write(loggen.block(100, 100))
        until(lambda: loggen.event_id(190) in site.trails.event_ids(), "the source that stayed")
        assert loggen.event_id(100, "second") not in site.trails.event_ids()
        change(site, sources=[app, second])
        site.wait_drained(site.log.stat().st_size + other.stat().st_size)
        assert agent.stop() == 0, agent.log
    ids = site.trails.event_ids()
    assert [each for each in ids if each.startswith("second")] == loggen.event_ids(200, run="second")
    assert [each for each in ids if each.startswith("run")] == loggen.event_ids(200)
    assert site.verify().code == 0


def test_a_store_that_is_added_gets_what_is_sealed_from_then_on_and_one_that_is_removed_is_waited_for_no_longer(tmp_path: Path) -> None:
    site = Site(tmp_path)
    broken = {"id": "broken", "directory": str(tmp_path / "broken")}
    main = site.settings["stores"][0]
    (tmp_path / "broken").write_text("in the way", encoding="utf-8")
    site.log.write_bytes(loggen.block(0, 100))
    site.configure(stores=[main, broken])
    with site.run() as agent:
        until(lambda: "store broken" in conditions(site) and site.trails.event_ids() == loggen.event_ids(100), "one store of two")
        until(lambda: (site.status() or {})["spool"]["batches_waiting"] >= 2, "batches that wait for the other")
        lag = 'trailseal_store_lag_seconds{store="%s"}'
        until(lambda: site.metrics()[lag % "broken"] > 0, "the lag of the store that is away")
        change(site, stores=[main])
        until(site.is_ready, "an agent that misses nothing")
        # What is shown of a store that is not configured any more would be alerted on for ever.
        until(lambda: lag % "broken" not in site.metrics(), "a store that is spoken of no more")
        assert lag % "main" in site.metrics()
        until(lambda: (site.status() or {})["spool"]["batches_waiting"] == 0, "an empty spool")
        added = {"id": "added", "directory": str(tmp_path / "added")}
        change(site, stores=[main, added])
        until(site.is_ready, "a receipt of the new store")
        assert agent.stop() == 0, agent.log
    assert list((tmp_path / "added").rglob("*.seal"))
    assert_everything_once(site, loggen.event_ids(100))


def test_a_store_is_replaced_while_a_full_spool_keeps_the_source_waiting(tmp_path: Path) -> None:
    site = Site(tmp_path, spool={"max_bytes": "16MiB"}, shutdown_grace="1m")
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way", encoding="utf-8")
    lines = 8000
    with site.log.open("wb") as log:
        for number in range(lines):
            log.write(loggen.audit_line(number).replace(b'"request_id":"', b'"request_id":"' + b64encode(os.urandom(3000))))
    site.configure(stores=[{"id": "blocked", "directory": str(blocked)}])
    with site.run() as agent:
        until(lambda: site.status() and site.metrics()[f"{PREFIX}spool_full"] == 1, "a full spool")
        change(site, stores=[{"id": "main", "directory": str(site.store)}], limits={"line_bytes": "128KiB"})
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert_everything_once(site, [loggen.event_id(number) for number in range(lines)])


def test_the_way_out_of_other_lines_is_replaced_without_stopping_a_source(tmp_path: Path) -> None:
    first, second = tmp_path / "first.out", tmp_path / "second.out"
    site = Site(tmp_path, observability={"file": str(first)})
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        change(site, observability={"file": str(second)})
        with site.log.open("ab") as log:
            log.write(loggen.block(100, 100))
        site.wait_drained(site.log.stat().st_size)
        second.rename(tmp_path / "second.out.1")
        hup(agent)
        until(second.exists, "a file opened anew by SIGHUP")
        assert agent.stop() == 0, agent.log
    assert first.read_bytes() + (tmp_path / "second.out.1").read_bytes() == loggen.others(200)
    assert '"stopped": []' in agent.log or '"stopped":[]' in agent.log


@pytest.mark.timeout(180)
def test_no_line_is_lost_or_twice_across_twenty_reloads_under_load_and_rotation(tmp_path: Path) -> None:
    site = Site(tmp_path)
    lines, hurry = 150_000, tmp_path / "no-more-reloads"
    site.log.write_bytes(loggen.block(0, 1000))
    generator = None
    try:
        with site.run() as agent:
            agent.ready()
            site.wait_drained(site.log.stat().st_size)
            pace = ["--seconds", "100", "--hurry", str(hurry), "--rotations", "30", "--step", "100"]
            generator = subprocess.Popen([*LOGGEN, str(lines), "--first", "1000", "--file", str(site.log), *pace])
            for turn in range(RELOADS):
                # Each one makes the source begin anew; every other one also changes the seals and the stores' order.
                change(site, agent if turn % 2 else None, limits={"line_bytes": f"{64 + turn}KiB"}, seal={"max_age": f"{200 + turn}ms"})
            assert generator.poll() is None, "the generator ended before the last reload"
            hurry.touch()
            assert generator.wait(60) == 0
            site.wait_drained(sum(file.stat().st_size for file in site.logs.iterdir()))
            assert reloads(site, "applied") == RELOADS
            assert agent.stop() == 0, agent.log
    finally:
        if generator is not None:
            generator.kill()
            generator.wait()
    hashes = [seal.manifest.agent.config_sha256 for seal in site.trails.seals()]
    assert len(set(hashes)) == RELOADS + 1
    assert sum(before != after for before, after in itertools.pairwise(hashes)) == RELOADS
    assert_everything_once(site, loggen.event_ids(lines))
