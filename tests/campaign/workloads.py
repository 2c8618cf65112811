"""Small busy workloads for the campaign: what the agent is doing when the fault meets it.

A file workload writes a few hundred lines in steps, ends lines in the middle, and rotates on the way; it goes on whether the agent lives or
not. It begins where an agent that ran before left off, because rotations from before an agent's first sight of a file are out of its reach
(docs/configuration.md). Line `n` is the same bytes in every run.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

from .oracle import NOTHING, Allowance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AUDIT_EVERY: Final = 3
STEP_LINES: Final = 30
STEPS: Final = 14
STEP_SECONDS: Final = 0.05
STATE: Final = "var/state"
LIVE_FROM: Final = 2
LIVE_SECONDS: Final = 5.0
ROTATE_AFTER: Final = (3, 4, 9)
SETTINGS: Final[dict[str, Any]] = {
    "seal": {"max_age": "100ms", "max_bytes": "64KiB", "heartbeat": "10s"},
    "shutdown_grace": "2s",
    "spool": {"max_bytes": "32MiB"},
}


@dataclass(frozen=True, slots=True)
class Workload:
    """Describe a workload.

    Attributes:
        name: Its name in the campaign's ids.
        source: `file`, `exec` or `pipe`.
        before: What happened before the run: `nothing`, `stopped` (an agent ran and stopped), `backlog` (it was killed while its store was
            away).
        rotate: `rename`, `copytruncate` or `none`.
        rotate_after: After which steps.
        away: Whether the store is away for the first half of the run.
        allowance: What this workload alone may leave behind.
    """

    name: str
    source: str = "file"
    before: str = "stopped"
    rotate: str = "rename"
    rotate_after: tuple[int, ...] = ROTATE_AFTER
    away: bool = False
    allowance: Allowance = NOTHING


_COPIED: Final = Allowance(gap_causes=frozenset({"truncated"}), gap_certainties=frozenset({"possible"}))

WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("fresh", before="nothing", rotate="none"),
        Workload("busy"),
        Workload("backlog", before="backlog"),
        Workload("away", away=True),
        Workload("copytruncate", rotate="copytruncate", rotate_after=(4,), allowance=_COPIED),
        # Of two truncations between two looks, the first one's successor was never seen: its lines are a possible gap.
        Workload("copytruncate2", rotate="copytruncate", rotate_after=(3, 4, 9), allowance=replace(_COPIED, lost=True)),
        Workload("exec", source="exec", before="nothing"),
        Workload("pipe", source="pipe", before="nothing"),
    )
}


class Rig:
    """Be one worker's machine: a site at a fixed place, put back to a workload's beginning as often as it is asked for."""

    def __init__(self, root: Path) -> None:
        """Take a folder; each worker of a campaign has its own."""
        self.root = root
        self.folder = root / "site"

    def site(self, workload: Workload) -> Site:
        """Return the site at the beginning of a workload."""
        template = self.root / f"template-{workload.before}-{workload.source}"
        if not template.exists():
            self._prepare(workload)
            self.folder.rename(template)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(template, self.folder, ignore=shutil.ignore_patterns("*.sock", "agent-*.err"))
        return self._site(workload)

    def _site(self, workload: Workload) -> Site:
        # A worker that was killed has to come up again within the grace period, on a machine that may be busy with other runs.
        sources = {} if workload.source == "file" else {"sources": None, "shutdown_grace": "15s"}
        site = Site(self.folder, **{**SETTINGS, **sources, "state": STATE})
        # In a folder of its own, so that nobody else's fsync makes its name durable by chance.
        site.state = self.folder / STATE
        site.state.parent.mkdir(exist_ok=True)
        return site

    def _prepare(self, workload: Workload) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        site = self._site(workload)
        if workload.source != "file":
            return
        first = first_line(workload)
        if workload.before == "nothing":
            site.log.write_bytes(lines(0, first))
            return
        site.log.write_bytes(lines(0, first // 2))
        with site.run() as agent:
            agent.ready()
            site.wait_drained(site.log.stat().st_size)
            assert agent.stop() == 0, agent.log
        loggen.rotate(site.log)
        if workload.before == "stopped":
            site.log.write_bytes(lines(first // 2, first - first // 2))
            with site.run() as agent:
                until(lambda: len(site.trails.event_ids()) == len(ids(first)), "the beginning in the store")
                assert agent.stop() == 0, agent.log
            return
        with block_store(site), site.run() as agent:
            until(site.status, "an agent that answers")
            for part in range(4):
                with site.log.open("ab") as log:
                    log.write(lines(first // 2 + part * first // 8, first // 8))
                until(partial(_waiting_more, site, part + 1), "a batch that waits")
            agent.kill()


def _waiting_more(site: Site, than: int) -> bool:
    spool = (site.status() or {}).get("spool") or {}
    return int(spool.get("batches_waiting", 0)) > than


def first_line(workload: Workload) -> int:
    """Return how many lines are there before the run."""
    return 1600 if workload.before == "backlog" else 160


def lines(first: int, count: int) -> bytes:
    """Return the workload's lines."""
    return loggen.block(first, count, AUDIT_EVERY)


def ids(count: int) -> list[str]:
    """Return the event_ids of the first `count` lines."""
    return loggen.event_ids(count, AUDIT_EVERY)


@contextlib.contextmanager
def block_store(site: Site) -> Iterator[None]:
    """Take the store away, as an unmounted disk or an unreachable server does, and bring it back."""
    aside = site.folder / "store-aside"
    if site.store.exists():
        site.store.rename(aside)
    site.store.write_bytes(b"in the way")
    try:
        yield
    finally:
        site.store.unlink()
        if aside.exists():
            aside.rename(site.store)


class Writer:
    """Write a file workload's lines in a thread, as a service does that knows nothing of the agent."""

    def __init__(
        self, site: Site, workload: Workload, *, steps: int = STEPS, at_step: dict[int, Callable[[], object]] | None = None
    ) -> None:
        """Prepare; nothing is written before `start`.

        Args:
            site: The site.
            workload: Its workload.
            steps: How many steps are written.
            at_step: Called before the steps of these numbers.
        """
        self.site = site
        self.workload = workload
        self.steps = steps
        self.hurry = threading.Event()
        self._at_step = dict(at_step or {})
        self._first = first_line(workload)
        self._away = contextlib.ExitStack()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer")

    @property
    def expected(self) -> list[str]:
        """The event_ids of everything that is in the files once the writer is done."""
        return ids(self.lines_in_all)

    @property
    def lines_in_all(self) -> int:
        """How many lines are in the files once the writer is done."""
        return self._first + self.steps * STEP_LINES

    @property
    def done(self) -> bool:
        """Whether all lines are written."""
        return not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        if self.workload.away:
            self._away.enter_context(block_store(self.site))
        self._thread.start()

    def finish(self) -> None:
        """Write the rest at once and wait for it."""
        self.hurry.set()
        self._thread.join()
        self._away.close()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for step in range(self.steps):
                if step == LIVE_FROM:
                    self._wait_for_agent()
                if step in self._at_step:
                    self._at_step[step]()
                self._step(step)
                self.hurry.wait(STEP_SECONDS)
        except BaseException as error:  # noqa: BLE001 -- raised again by `finish`
            self._failure = error

    def _wait_for_agent(self) -> None:
        """Let the agent come up, so that it meets most of the lines as they are written; without one go on after a while."""
        limit = time.monotonic() + LIVE_SECONDS
        while not self.hurry.is_set() and time.monotonic() < limit and self.site.status() is None:
            self.hurry.wait(0.02)

    def _step(self, step: int) -> None:
        if step == self.steps // 2:
            self._away.close()
        piece = lines(self._first + step * STEP_LINES, STEP_LINES)
        with self.site.log.open("ab", buffering=0) as log:
            # A write that ends in the middle of a line is what a tail sees of a service that flushes when its buffer is full.
            log.write(piece[: len(piece) // 2])
            self.hurry.wait(STEP_SECONDS / 10)
            log.write(piece[len(piece) // 2 :])
        if step in self.workload.rotate_after:
            self._rotate()

    def _rotate(self) -> None:
        log = self.site.log
        if self.workload.rotate == "rename":
            loggen.rotate(log)
        elif self.workload.rotate == "copytruncate":
            held = log.read_bytes()
            age = 1
            while log.with_name(f"{log.name}.{age}").exists():
                age += 1
            for one in range(age, 1, -1):
                log.with_name(f"{log.name}.{one - 1}").rename(log.with_name(f"{log.name}.{one}"))
            log.with_name(f"{log.name}.1").write_bytes(held)
            log.open("wb").close()


STREAM_LINES: Final = 600


def generator() -> list[str]:
    """Return the command line of a service that writes a stream workload's lines."""
    pace = ["--seconds", str(STEPS * STEP_SECONDS), "--step", str(STEP_LINES), "--audit-every", str(AUDIT_EVERY)]
    return [*LOGGEN, str(STREAM_LINES), *pace]
