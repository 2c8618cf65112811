"""Files that cannot be read, that are poisoned, that nobody waits for: the others go on, and nothing is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, until
from tests.support.oracle import assert_once, drain, run_unprivileged, wait_for, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_one_file_that_may_not_be_read_is_reported_and_tried_again_and_stops_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.configure(sources=[{"id": "app", "file": str(site.logs / "*.log")}])
    closed, opened = site.logs / "closed.log", site.logs / "opened.log"
    hidden = write(closed, 0, 10, run="closed")
    ids = write(opened, 0, 10, run="opened")
    closed.chmod(0)
    with run_unprivileged(site) as agent:
        wait_for(site, agent, ids)
        until(lambda: site.metrics()['trailseal_source_problem{source="app"}'] == 1, "a problem in the metrics")
        assert "Permission denied" in agent.log
        assert str(closed) in agent.log
        ids += write(opened, 10, 20, run="opened")
        wait_for(site, agent, ids)
        closed.chmod(0o644)
        ids += hidden
        wait_for(site, agent, ids)
        until(lambda: site.metrics()['trailseal_source_problem{source="app"}'] == 0, "a problem that is over")
        drain(site, agent, ids)
    assert_once(site, ids, ordered=False)


@pytest.mark.slow
def test_a_poisoned_line_is_quarantined_once_and_neither_ends_the_agent_nor_is_met_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    ids = write(site.log, 0, 5)
    poison = [
        b'{"stream":"audit","event_id":"p","context":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n",
        b'{"stream":"audit","event_id":"\xff\xfe"}\n',
        b'{"stream":"audit","n":1e400}\n',
    ]
    with site.log.open("ab") as log:
        log.writelines(poison)
    ids += write(site.log, 5, 10)
    for turn in range(1, 4):
        with site.run() as agent:
            ids += write(site.log, turn * 10, turn * 10 + 10)
            wait_for(site, agent, ids)
            assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == ids
    assert len(site.trails.kind("quarantine")) == len(poison)
    assert site.verify().code == 0


@pytest.mark.slow
def test_a_new_file_does_not_wait_behind_a_busy_one(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.configure(sources=[{"id": "app", "file": str(site.logs / "*.log")}])
    count = 60_000
    (site.logs / "a-busy.log").write_bytes(loggen.block(0, count, 2, "busy"))
    small = [event for number in range(20) for event in write(site.logs / f"small-{number:02d}.log", number, number + 1, run="small")]
    ids = loggen.event_ids(count, 2, "busy") + small
    with site.run() as agent:
        drain(site, agent, ids)
    found = site.trails.event_ids()
    last_small = max(found.index(event) for event in small)
    assert last_small < len(found) // 2, "small files waited until the busy one was nearly read"
    assert_once(site, ids, ordered=False)


@pytest.mark.slow
def test_lines_that_were_read_while_the_store_was_away_outlive_the_agent_and_their_file(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.store.write_text("in the way", encoding="utf-8")
    ids = write(site.log, 0, 500)
    with site.run() as agent:
        until(
            lambda: (site.status() or {}).get("head") and site.metrics()['trailseal_records_total{kind="event",source="app"}'] == 500,
            "records in the spool",
        )
        agent.kill()
    site.log.write_bytes(b"")
    site.log.unlink()
    site.store.unlink()
    with site.run() as agent:
        wait_for(site, agent, ids)
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == ids
    # Nothing of the file was unread, but nobody looked when it went: that is all the gap may say.
    assert [(gap["cause"], gap["certainty"], gap["to_offset"]) for gap in site.trails.kind("gap")] == [("vanished", "unbounded", None)]
    assert site.verify().code == 11
