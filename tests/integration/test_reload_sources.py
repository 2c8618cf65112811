"""Reload while events flow from a container, a journal and a socket: each line once, and a client waits a moment at most."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.support import journal_files, loggen
from tests.support.agent_process import Site, until
from tests.support.container_logs import ContainerLog, pieces
from tests.support.posting import ONE, Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RELOADS = 6
STEP = 40


class Flow(ABC):
    """Events that come without a pause until the block ends; `ids` are those that must be in the trail."""

    def __init__(self, folder: Path) -> None:
        """Name the folder of the agent; the block begins."""
        self.folder = folder
        self.count = 0
        self.unknown: list[str] = []
        self.left_out: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    @abstractmethod
    def source(self) -> dict[str, Any]:
        """The source's settings."""

    @abstractmethod
    def go_on(self) -> None:
        """Bring in the next events and count them."""

    def _run(self) -> None:
        while not self._end.is_set():
            self.go_on()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and wait for it."""
        self.end()

    def end(self) -> None:
        """End, and wait for it."""
        self._end.set()
        self._thread.join()

    def has_more(self, than: int) -> bool:
        """Tell whether more than so many events have come."""
        return self.count > than


class ContainerFlow(Flow):
    """A runtime that writes lines in pieces, and a kubelet that rotates now and then."""

    def __init__(self, folder: Path) -> None:
        """Make the log."""
        super().__init__(folder)
        self._log = ContainerLog(folder)

    @property
    def source(self) -> dict[str, Any]:
        return {"id": "flow", "container": str(self.folder / "pods/*/*/*.log")}

    def go_on(self) -> None:
        lines = [loggen.audit_line(number).rstrip(b"\n") for number in range(self.count, self.count + STEP)]
        wrapped = [piece for line in lines for piece in pieces(line, 100)]
        half = len(wrapped) // 2 + 1
        self._log.write(*wrapped[:half])
        time.sleep(0.02)
        self._log.write(*wrapped[half:])
        self.count += STEP
        if self.count % (STEP * 25) == 0:
            self._log.rotate()


class JournalFlow(Flow):
    """A unit that logs."""

    @property
    def source(self) -> dict[str, Any]:
        return {"id": "flow", "journal": {"units": ["payments"], "directory": "journal"}}

    def go_on(self) -> None:
        entries = journal_files.audit_entries(self.count, self.count + STEP)
        journal_files.write(self.folder / "journal", entries, f"file-{self.count // 3000}")
        self.count += STEP
        time.sleep(0.02)


class SocketFlow(Flow):
    """A service that posts one event at a time, each on a connection of its own, and again as long as nobody takes it."""

    @property
    def source(self) -> dict[str, Any]:
        return {"id": "flow", "socket": {"path": "events.sock", "mode": "0600"}}

    def go_on(self) -> None:
        path = str(self.folder / "events.sock")
        with contextlib.closing(Client(path)) as client:
            try:
                client.connect()
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.005)
                return
            event_id = loggen.event_id(self.count)
            try:
                status = client.post(loggen.audit_line(self.count), ONE).status
            except (OSError, http.client.HTTPException):
                # It was in line when the door was closed, as far as anybody knows.
                self.unknown.append(event_id)
                self.count += 1
                return
        if status == 201:
            self.count += 1
        elif status != 503:
            self.left_out.append(f"{event_id}: {status}")
            self.count += 1


def running_hash(site: Site) -> str | None:
    return (site.status() or {}).get("config_sha256")


def change(site: Site, **settings: Any) -> None:
    before = running_hash(site)
    site.configure(**settings)
    until(lambda: running_hash(site) not in {before, None}, "another configuration")


def more_than(flow: Flow, count: int) -> Callable[[], bool]:
    return lambda: flow.has_more(count)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [ContainerFlow, JournalFlow, SocketFlow])
def test_reloads_while_events_flow_lose_and_double_nothing(tmp_path: Path, kind: type[Flow]) -> None:
    flow = kind(tmp_path)
    (tmp_path / "journal").mkdir()
    site = Site(tmp_path, sources=[flow.source])
    with site.run() as agent:
        agent.ready()
        with flow:
            until(more_than(flow, STEP), "the first events")
            for turn in range(RELOADS):
                count = flow.count
                # A limit, or the rule by which audit lines are told: the source is another one each time.
                audit = {"audit": {"all": True}} if turn % 3 == 2 else {}
                change(site, limits={"line_bytes": f"{64 + turn}KiB"}, sources=[{**flow.source, **audit}])
                until(more_than(flow, count + STEP), "events after the change")
        ids = {loggen.event_id(number) for number in range(flow.count)} - set(flow.unknown)
        until(lambda: ids <= set(site.trails.event_ids()), "everything in the store")
        assert agent.stop() == 0, agent.log
    assert flow.left_out == []
    found = site.trails.event_ids()
    assert len(found) == len(set(found)), "an event is in the trail twice"
    assert set(found) - ids <= set(flow.unknown)
    assert len(flow.unknown) <= RELOADS, "more than the request in line at each change has no answer"
    assert [record for record in site.trails.records() if record["kind"] != "event"] == []
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
