"""Let an agent follow a rotated log for a long time, kill it and take its store away now and then, and account at the end.

Invariants: the load, the rotation and the troubles go on whatever the agent does; a sample is taken at a fixed pace, also while
no agent runs; the end is the oracle of the fault tests: every line once, or stated.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.agent_process import Site
from tests.support.rotation import CREATE, Account, Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.agent_process import Agent

_STEP_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Plan:
    """How long, how much, and how often something goes wrong.

    Attributes:
        minutes: How long lines are written.
        lines_per_second: Written lines, one in ten audit.
        rotate_seconds: The pause between two rotations.
        kill_seconds: The mean time between two kills of the agent; 0 for none.
        outage_seconds: The mean time between two outages of the store; 0 for none.
        sample_seconds: The pause between two samples.
        mode: How logrotate rotates: `create` or `copytruncate`.
        seed: What the moments are drawn from.
    """

    minutes: float
    lines_per_second: int = 500
    rotate_seconds: float = 5.0
    kill_seconds: float = 60.0
    outage_seconds: float = 120.0
    sample_seconds: float = 10.0
    mode: str = CREATE
    seed: int = 20260111


@dataclass(frozen=True)
class Sample:
    """One look at the agent; what it could not be asked is None.

    Attributes:
        at_seconds: Since the beginning.
        rss_bytes: Resident memory.
        descriptors: Open ones.
        lag_seconds: Age of the oldest record that no store has confirmed.
        lines_per_second: Lines read since the sample before.
        note: What went wrong since then, on purpose.
    """

    at_seconds: float
    rss_bytes: int | None = None
    descriptors: int | None = None
    lag_seconds: float | None = None
    lines_per_second: float | None = None
    note: str = ""


@dataclass
class Result:
    """What came of it.

    Attributes:
        samples: In order.
        account: What became of the audit lines.
        verify_code: The exit code of `verify`.
        findings: Its findings.
        kills: How often the agent was killed.
        outages: How often the store was away.
        rotations: How often the log was rotated.
        ended: How often the agent ended by itself, which it never should.
    """

    samples: list[Sample] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    verify_code: int = -1
    findings: list[dict[str, Any]] = field(default_factory=list)
    kills: int = 0
    outages: int = 0
    rotations: int = 0
    ended: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is missing unstated, nothing is there twice, and `verify` agrees."""
        account = self.account
        wrong = account.doubled or account.unstated or account.overlooked or account.contradicted
        return not wrong and not self.ended and account.written > 0 and self.verify_code == (11 if account.gaps else 0)


class Soak:
    """One run."""

    def __init__(self, folder: Path, plan: Plan, tell: Callable[[Sample], None]) -> None:
        """Prepare a site in an empty folder; `tell` is called with every sample."""
        self._plan, self._tell = plan, tell
        self._site = Site(folder, seal={"max_age": "1s", "heartbeat": "10s"})
        self._dice = random.Random(plan.seed)
        self._away = folder / "store-away"
        self._result = Result()
        self._notes: list[str] = []
        self._before: tuple[float, float] | None = None

    def run(self) -> Result:
        """Do it all; blocks until the end."""
        plan, site = self._plan, self._site
        seconds = plan.minutes * 60
        options = ["dateext", "dateformat -%Y%m%d-%s", "compress", "delaycompress", "rotate 1000000"]
        with ExitStack() as stack:
            agent = stack.enter_context(site.run())
            lines = int(plan.lines_per_second * seconds)
            load = Load(agent, plan.mode, *options, lines=lines, seconds=seconds, every_seconds=plan.rotate_seconds)
            stack.enter_context(load)
            agent = self._trouble(agent, load, stack)
            self._store_back()
            load.finish()
            self._result.account = load.settle(agent)
            self._result.rotations = load.logrotate.turns
        verdict = site.verify()
        self._result.verify_code, self._result.findings = verdict.code, verdict.findings()
        return self._result

    def _trouble(self, agent: Agent, load: Load, stack: ExitStack) -> Agent:
        """Kill, take away and sample until the writer has ended; return the agent that runs then."""
        plan, begun = self._plan, time.monotonic()
        next_sample = plan.sample_seconds
        next_kill, next_outage, outage_ends = self._next(0.0, plan.kill_seconds), self._next(0.0, plan.outage_seconds), float("inf")
        while load.running():
            time.sleep(_STEP_SECONDS)
            now = time.monotonic() - begun
            if agent.process.poll() is not None:
                self._result.ended += 1
                self._notes.append(f"ended by itself with {agent.process.returncode}")
                agent = stack.enter_context(self._site.run())
            if now >= next_kill:
                agent.kill()
                self._result.kills += 1
                self._notes.append("killed")
                agent = stack.enter_context(self._site.run())
                next_kill = self._next(now, plan.kill_seconds)
            if now >= next_outage and not self._away.exists():
                self._site.store.rename(self._away)
                self._result.outages += 1
                self._notes.append("store away")
                outage_ends, next_outage = now + self._dice.uniform(2.0, 20.0), self._next(now, plan.outage_seconds)
            if now >= outage_ends:
                self._store_back()
                self._notes.append("store back")
                outage_ends = float("inf")
            if now >= next_sample:
                self._sample(agent, now)
                next_sample += plan.sample_seconds
        return agent

    def _next(self, now: float, mean: float) -> float:
        return now + self._dice.uniform(0.5, 1.5) * mean if mean else float("inf")

    def _store_back(self) -> None:
        if self._away.exists():
            self._away.rename(self._site.store)

    def _sample(self, agent: Agent, now: float) -> None:
        rss = descriptors = lag = rate = None
        with contextlib.suppress(OSError, http.client.HTTPException, KeyError, StopIteration, ValueError):
            status = Path(f"/proc/{agent.process.pid}/status").read_text(encoding="ascii").splitlines()
            rss = int(next(line for line in status if line.startswith("VmRSS")).split()[1]) * 1024
            descriptors = len(os.listdir(f"/proc/{agent.process.pid}/fd"))  # noqa: PTH208 - they come and go while they are counted
            metrics = self._site.metrics()
            lag = metrics["trailseal_spool_oldest_age_seconds"]
            read = metrics['trailseal_lines_total{source="app"}']
            if self._before is not None and read >= self._before[1]:
                rate = (read - self._before[1]) / (now - self._before[0])
            self._before = (now, read)
        sample = Sample(round(now, 1), rss, descriptors, lag, rate, ", ".join(self._notes))
        self._notes.clear()
        self._result.samples.append(sample)
        self._tell(sample)
