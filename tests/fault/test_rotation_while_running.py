"""Rotation under an agent that runs: what was rotated is read to its end, in order, whatever else goes on."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import bulky, loggen
from tests.support.agent_process import Site, until
from tests.support.oracle import assert_once, drain, wait_for, write

if TYPE_CHECKING:
    from pathlib import Path

LINGER_SECONDS = 12.0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("rotations", [1, 3])
def test_files_rotated_while_nothing_can_be_read_are_read_to_their_ends_in_order_once_it_can(tmp_path: Path, rotations: int) -> None:
    # Back-pressure keeps the agent from reading on; any timer that gives a rotated file up runs out meanwhile.
    site = Site(tmp_path, spool={"max_bytes": "16MiB"}, seal={"max_age": "200ms", "heartbeat": "10s"})
    site.store.write_text("in the way", encoding="utf-8")
    count = 4000
    site.log.write_bytes(b"".join(map(bulky.audit_line, range(count))))
    ids = [bulky.event_id(number) for number in range(count)]
    with site.run() as agent:
        until(lambda: (site.status() or {}).get("head") and site.metrics()["trailseal_spool_full"] == 1, "a full spool")
        for turn in range(rotations):
            loggen.rotate(site.log)
            ids += write(site.log, turn * 10, turn * 10 + 10)
        time.sleep(LINGER_SECONDS)
        site.store.unlink()
        drain(site, agent, ids)
    assert_once(site, ids)


@pytest.mark.slow
def test_the_first_line_after_a_rotation_is_in_the_trail(tmp_path: Path) -> None:
    site = Site(tmp_path)
    ids = write(site.log, 0, 5)
    with site.run() as agent:
        for turn in range(1, 6):
            wait_for(site, agent, ids)
            loggen.rotate(site.log)
            ids += write(site.log, turn * 5, turn * 5 + 1)
            ids += write(site.log, turn * 5 + 1, turn * 5 + 5)
        drain(site, agent, ids)
    assert_once(site, ids)


@pytest.mark.slow
def test_rotations_that_outrun_a_stopped_agent_are_caught_up_with_in_order(tmp_path: Path) -> None:
    site = Site(tmp_path)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        wait_for(site, agent, ids)
        agent.process.send_signal(signal.SIGSTOP)
        for turn in range(1, 6):
            ids += write(site.log, turn * 100, turn * 100 + 50)
            loggen.rotate(site.log)
            ids += write(site.log, turn * 100 + 50, turn * 100 + 100)
        agent.process.send_signal(signal.SIGCONT)
        drain(site, agent, ids)
    assert_once(site, ids)


@pytest.mark.slow
def test_a_file_deleted_while_it_is_held_open_is_read_to_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    ids = write(site.log, 0, 10)
    with site.run() as agent:
        wait_for(site, agent, ids)
        agent.process.send_signal(signal.SIGSTOP)
        ids += write(site.log, 10, 500)
        site.log.unlink()
        ids += write(site.log, 500, 510)
        agent.process.send_signal(signal.SIGCONT)
        drain(site, agent, ids)
    assert_once(site, ids)


@pytest.mark.slow
def test_a_last_line_without_newline_counts_once_its_file_was_rotated_away_and_not_before(tmp_path: Path) -> None:
    site = Site(tmp_path)
    ids = write(site.log, 0, 3)
    with site.run() as agent:
        wait_for(site, agent, ids)
        line = loggen.audit_line(3).rstrip(b"\n")
        with site.log.open("ab") as log:
            log.write(line[:40])
        time.sleep(1.0)
        with site.log.open("ab") as log:
            log.write(line[40:])
        time.sleep(1.0)
        assert site.trails.event_ids() == ids
        loggen.rotate(site.log)
        ids += [loggen.event_id(3), *write(site.log, 4, 6)]
        drain(site, agent, ids)
    # The rotated file must rest for a moment before its last line counts; the new file does not wait for that.
    assert_once(site, ids, ordered=False)
    assert site.trails.kind("quarantine") == []


@pytest.mark.slow
def test_a_link_that_is_turned_to_another_file_is_a_rotation_and_a_file_with_two_names_is_read_once(tmp_path: Path) -> None:
    # As the node of a Kubernetes cluster has it: containers/*.log are links to pods/*/*.log, and both may be named.
    site = Site(tmp_path)
    pods, containers = tmp_path / "pods" / "uid" / "app", tmp_path / "containers"
    pods.mkdir(parents=True)
    containers.mkdir()
    site.configure(sources=[{"id": "app", "file": [str(containers / "*.log"), str(tmp_path / "pods/*/*/*.log")]}])
    ids = write(pods / "0.log", 0, 50)
    (containers / "pod.log").symlink_to(pods / "0.log")
    with site.run() as agent:
        wait_for(site, agent, ids)
        more = write(pods / "1.log", 50, 100)
        (containers / "next").symlink_to(pods / "1.log")
        (containers / "next").rename(containers / "pod.log")
        ids += more
        wait_for(site, agent, ids)
        ids += write(pods / "1.log", 100, 120)
        drain(site, agent, ids)
    assert_once(site, ids)
