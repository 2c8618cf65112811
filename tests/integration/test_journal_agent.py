"""The real agent over a journal that grows: every entry once, whatever dies; the end in order."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import Site, children_of, until
from tests.support.journal_files import audit_entries, entry, write
from tests.support.oracle import assert_once, drain

pytestmark = pytest.mark.slow

PROBLEM = f'{PREFIX}source_problem{{source="units"}}'


def make_site(folder: Path, **settings: Any) -> Site:
    journal = {"units": ["payments"], "directory": "journal"}
    site = Site(folder, sources=[{"id": "units", "journal": journal}], **settings)
    (folder / "journal").mkdir()
    return site


class Growing:
    """A journal that grows in steps of its own accord, from file to file."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; the block starts it."""
        self._folder = folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._grow)
        self.count = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and wait for it."""
        self._end.set()
        self._thread.join()

    def _grow(self) -> None:
        dice = random.Random(1)
        while not self._end.is_set():
            step = dice.choice((1, 20, 300))
            others = entry(self.count, b"another unit's line", unit="other.service")
            write(self._folder, others + audit_entries(self.count, self.count + step), f"file-{self.count // 3000}")
            self.count += step
            time.sleep(0.02)


def has_more(site: Site, than: int) -> bool:
    return len(site.trails.event_ids()) > than


@pytest.mark.timeout(180)
def test_kill_9_while_the_journal_grows_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    dice = random.Random(20260108)
    with Growing(tmp_path / "journal") as journal:
        for number in range(12):
            known = len(site.trails.event_ids())
            with site.run() as agent:
                if number % 2:
                    until(partial(has_more, site, known), "a seal by this agent")
                time.sleep(dice.uniform(0.1, 0.9))
                agent.kill()
    ids = [loggen.event_id(number) for number in range(journal.count)]
    with site.run() as agent:
        drain(site, agent, ids)
    assert_once(site, ids)


def test_an_orderly_end_brings_in_what_is_there(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    write(tmp_path / "journal", audit_entries(0, 3000))
    with site.run() as agent:
        agent.ready()
        write(tmp_path / "journal", audit_entries(3000, 3500))
        assert agent.stop() == 0, agent.log
    assert site.trails.reasons()[-1] == "stop"
    assert_once(site, [loggen.event_id(number) for number in range(3500)])


def test_journalctl_goes_with_its_agent(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    write(tmp_path / "journal", audit_entries(0, 10))
    with site.run() as agent:
        until(lambda: len(site.trails.event_ids()) == 10, "what is there")
        until(lambda: followers(agent.process.pid), "a journalctl that follows")
        [child] = followers(agent.process.pid)
        agent.kill()
        until(lambda: not is_alive(child), "the end of journalctl")


def followers(pid: int) -> list[int]:
    return [child for child in children_of(pid) if b"--follow" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_vacuumed_journal_is_stated_and_seen_by_the_verifier(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    old = write(tmp_path / "journal", audit_entries(0, 10), "old")
    with site.run() as agent:
        drain(site, agent, [loggen.event_id(number) for number in range(10)])
    old.unlink()
    write(tmp_path / "journal", audit_entries(20, 30), "new")
    ids = [loggen.event_id(number) for number in (*range(10), *range(20, 30))]
    for _ in range(2):
        with site.run() as agent:
            drain(site, agent.ready(), ids)
    assert site.trails.event_ids() == ids
    [gap] = site.trails.kind("gap")
    assert (gap["source"], gap["cause"], gap["certainty"]) == ("units", "rotated_away", "unbounded")
    assert site.verify().code == 11


def test_a_missing_journalctl_is_seen_and_ends_nothing(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    write(tmp_path / "journal", audit_entries(0, 10))
    with site.run(env={"PATH": str(tmp_path)}) as agent:
        agent.ready()
        until(lambda: site.metrics()[PROBLEM] == 1, "a problem in the metrics")
        assert "cannot be started" in str((site.status() or {})["source_problems"])
        assert agent.stop() == 0, agent.log
    with site.run() as agent:
        drain(site, agent, [loggen.event_id(number) for number in range(10)])
    assert_once(site, [loggen.event_id(number) for number in range(10)])
