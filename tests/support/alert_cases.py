"""Break real agents in the ways that alerts are for, mend them, and note when the alert was heard and when it was over.

All cases run at the same time, beside an agent with nothing to do and one with much to do, of which nothing may be heard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.support import bulky, loggen
from tests.support.agent_process import LOGGEN, PATIENCE_SECONDS, TRAILSEAL, Agent, Site, free_port, until
from tests.support.alerting import Monitoring

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_SECONDS: Final = 60.0
HOUR_SECONDS: Final = 3600.0
SHORTEST_HEARTBEAT_SECONDS: Final = 1.0
LINES_A_SECOND: Final = 1000
# What the lines of the load generator are about, so that the bursts have something to count.
CATALOG: Final = """
format: 1
actions:
  user.login: {category: authentication, sensitivity: medium, description: A login.}
  role.grant: {category: authorization, sensitivity: high, description: A grant.}
  data.export: {category: data_export, sensitivity: high, description: An export.}
  record.update: {category: data_change, sensitivity: low, description: An update.}
"""


class Row(NamedTuple):
    """Say how one alert went.

    Attributes:
        fault: What was broken.
        alert: Which alert was awaited.
        began: Seconds from the fault to the moment from which Prometheus calls it firing.
        heard: Seconds from the fault to the webhook.
        cleared: Seconds from the mending to the webhook.
    """

    fault: str
    alert: str
    began: float
    heard: float
    cleared: float


class Timing(NamedTuple):
    """Say how fast everything goes.

    Attributes:
        scale: By how much the rules' times are divided.
        interval: Seconds between two scrapes, and between two evaluations.
        heartbeat: Seconds between two heartbeats of the agents that are broken.
    """

    scale: float
    interval: float
    heartbeat: float

    @classmethod
    def of(cls, scale: float) -> Timing:
        """Return what goes with a scale: at 1 the defaults of the agent and of Prometheus."""
        return cls(scale, max(0.5, 15 / scale), max(SHORTEST_HEARTBEAT_SECONDS, MINUTE_SECONDS / scale))

    @property
    def patience(self) -> float:
        """Return how many seconds an alert may take to come or go before it counts as never."""
        return PATIENCE_SECONDS + HOUR_SECONDS / self.scale


class Ran(NamedTuple):
    """Be what came of it.

    Attributes:
        rows: How each alert went.
        monitoring: The servers, which still run.
        timing: How fast everything went.
        hour_began: When the hour began of which the idle and the busy agent are watched; seconds since the epoch.
    """

    rows: list[Row]
    monitoring: Monitoring
    timing: Timing
    hour_began: float


class Case:
    """Be an agent that is watched."""

    def __init__(self, folder: Path, timing: Timing) -> None:
        """Make its machine; nothing runs yet."""
        self.name = type(self).__name__.lower()
        self.port = free_port()
        self.timing = timing
        self.site = Site(folder / self.name, vitals={"listen": f"127.0.0.1:{self.port}"}, **self.settings())
        self.agent: Agent | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def settings(self) -> dict[str, Any]:
        """Return settings at the top level of the configuration."""
        return {"seal": {"max_age": "200ms", "heartbeat": f"{self.timing.heartbeat:g}s"}}

    def start(self) -> None:
        """Start the agent."""
        self.agent = self.site.run()

    def settle(self) -> None:
        """Wait until it works."""
        if self.agent is not None:
            self.agent.ready()

    def clean_up(self) -> None:
        """End whatever it started."""
        for process in self._processes:
            process.kill()
            process.wait()
        if self.agent is not None:
            self.agent.__exit__()

    def under_strace(self, answer: int) -> None:
        """Start the agent with a kernel that always gives this answer about the clock: 0 synchronised, 5 (TIME_ERROR) not."""
        command = [*_tracer(answer), "-D", *(["--seccomp-bpf"] if answer == 0 else []), "-o", str(self.site.folder / "calls")]
        self.agent = Agent(self.site, [*command, TRAILSEAL, "run", "--config", str(self.site.config)])


class Fault(Case, ABC):
    """Be an agent with something that breaks; the classes below say what.

    Attributes:
        fault: What, for a person.
        alerts: The alerts that have to be heard of it.
    """

    fault: str
    alerts: tuple[str, ...]

    @abstractmethod
    def break_it(self) -> None:
        """Break it."""

    @abstractmethod
    def mend_it(self) -> None:
        """Mend it."""

    def run(self, monitoring: Monitoring) -> list[Row]:
        """Break it, wait for the alerts, mend it, and wait until they are over."""
        began = time.time()
        self.break_it()
        firing = {alert: self._heard(monitoring, alert, began, firing=True) for alert in self.alerts}
        mended = time.time()
        self.mend_it()
        over = {alert: self._heard(monitoring, alert, mended, firing=False) for alert in self.alerts}
        return [
            Row(self.fault, alert, firing[alert][0] - began, firing[alert][1] - began, over[alert][1] - mended) for alert in self.alerts
        ]

    def _heard(self, monitoring: Monitoring, alert: str, after: float, *, firing: bool) -> tuple[float, float]:
        def found() -> list[tuple[float, float]]:
            heard = monitoring.webhook.heard(self.name, alert)
            return [(one.started, one.heard) for one in heard if one.firing == firing and one.heard > after]

        until(found, f"{alert} of {self.name} to be {'heard' if firing else 'over'}", self.timing.patience)
        return found()[0]


class Idle(Case):
    """An agent with nothing to do."""

    def settings(self) -> dict[str, Any]:
        """Return a heartbeat that a busy machine can keep."""
        return {"seal": {"max_age": "200ms", "heartbeat": f"{2 * self.timing.heartbeat:g}s"}}

    def start(self) -> None:
        """Start it on a machine whose clock is well."""
        self.under_strace(0)


class Busy(Idle):
    """An agent that follows a log under load, which is rotated."""

    def settings(self) -> dict[str, Any]:
        """Add a catalog."""
        return super().settings() | {"catalog": "catalog.yaml"}

    def start(self) -> None:
        """Start the service, too."""
        (self.site.folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
        super().start()
        seconds = 1.2 * HOUR_SECONDS / self.timing.scale
        lines = str(round(seconds * LINES_A_SECOND))
        words = ["--seconds", str(seconds), "--step", "100", "--rotations", "3", "--file", str(self.site.log)]
        self._processes.append(subprocess.Popen([*LOGGEN, lines, *words]))


class Killed(Fault):
    """An agent that is killed, with a watch that knows nothing but its store."""

    fault = "agent killed"
    alerts = ("TrailsealAgentAbsent", "TrailsealSilent", "TrailsealTrailSilent")

    def settings(self) -> dict[str, Any]:
        """Name the trail after the case, since what a watch says is about the trail."""
        return super().settings() | {"instance": self.name}

    def watch(self, port: int) -> None:
        """Start the watch."""
        expected = self.site.folder / "expected.yaml"
        expected.write_text(f"trails:\n  - {{namespace: demo, service: payments, instance: {self.name}}}\n", encoding="utf-8")
        words = ["watch", str(self.site.store), "--expected", str(expected), "--every", "1s", "--listen", f"127.0.0.1:{port}"]
        with (self.site.folder / "watch.log").open("wb") as log:
            self._processes.append(subprocess.Popen([TRAILSEAL, *words], stdout=log, stderr=log))

    def break_it(self) -> None:
        """Kill it."""
        assert self.agent is not None
        self.agent.kill()

    def mend_it(self) -> None:
        """Start another."""
        self.start()


class Cut(Fault):
    """An agent whose store cannot be reached any more."""

    fault = "store cut off"
    alerts = ("TrailsealSilent", "TrailsealShippingLag")

    def break_it(self) -> None:
        """Unmount the store, and give the agent something to ship."""
        self.site.store.rename(self.site.folder / "unmounted")
        self.site.store.write_text("in the way", encoding="utf-8")
        self.site.log.write_bytes(loggen.block(0, 100))

    def mend_it(self) -> None:
        """Mount it again."""
        self.site.store.unlink()
        (self.site.folder / "unmounted").rename(self.site.store)


class Full(Fault):
    """An agent whose store takes nothing from the start, with more to read than its spool holds."""

    fault = "store never reached, spool full"
    alerts = ("TrailsealSilent", "TrailsealSpoolFilling", "TrailsealSpoolFull")

    def settings(self) -> dict[str, Any]:
        """Add the smallest spool."""
        return super().settings() | {"spool": {"max_bytes": "16MiB"}}

    def start(self) -> None:
        """Leave the agent to `break_it`."""
        self.site.store.write_text("in the way", encoding="utf-8")
        with self.site.log.open("wb") as log:
            log.writelines(bulky.line(number) for number in range(0, 8000, 2))

    def break_it(self) -> None:
        """Start the agent."""
        super().start()

    def mend_it(self) -> None:
        """Let the store take what comes."""
        self.site.store.unlink()


class Clock(Fault):
    """An agent on a machine whose clock nobody disciplines."""

    fault = "clock not synchronised"
    alerts = ("TrailsealClockUnsynchronised",)

    def start(self) -> None:
        """Leave the agent to `break_it`."""

    def break_it(self) -> None:
        """Start the agent."""
        self.under_strace(5)

    def mend_it(self) -> None:
        """Have the kernel answer that the clock is synchronised."""
        assert self.agent is not None
        pid = self.agent.process.pid
        tracer = int(Path(f"/proc/{pid}/status").read_text(encoding="ascii").partition("TracerPid:")[2].split()[0])
        os.kill(tracer, signal.SIGKILL)
        until(lambda: "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text(encoding="ascii"), "an agent that nobody traces")
        calls = self.site.folder / "calls-mended"
        self._processes.append(subprocess.Popen([*_tracer(0), "-o", str(calls), "-p", str(pid)]))


class Troubled(Fault):
    """An agent with a wrong configuration, a service that writes nonsense, and a log that is truncated."""

    fault = "wrong configuration, invalid event, truncated log"
    alerts = ("TrailsealConfigDiffers", "TrailsealEventsQuarantined", "TrailsealGap")

    def settle(self) -> None:
        """Give it something it has read."""
        super().settle()
        self.site.log.write_bytes(loggen.block(0, 100))
        self.site.wait_drained(self.site.log.stat().st_size)

    def break_it(self) -> None:
        """Break all three."""
        self.site.configure(nonsense=True)
        self.site.log.write_bytes(b'{"stream":"audit","event_id":"no more"}\n')

    def mend_it(self) -> None:
        """Correct the configuration; the others are over when they are past."""
        self.site.configure(nonsense=None)


def _tracer(answer: int) -> list[str]:
    calls = "adjtimex,clock_adjtime"
    return ["strace", "-f", "-qq", "-e", f"trace={calls}", "-e", f"inject={calls}:retval={answer}"]


@contextlib.contextmanager
def ran(folder: Path, scale: float) -> Iterator[Ran]:
    """Run all cases at the same time, for an hour divided by the scale."""
    timing = Timing.of(scale)
    cases = [kind(folder, timing) for kind in (Idle, Busy, Killed, Cut, Full, Clock, Troubled)]
    servers = folder / "servers"
    servers.mkdir()
    broken = [case for case in cases if isinstance(case, Fault)]
    with contextlib.ExitStack() as stack:
        for case in cases:
            stack.callback(case.clean_up)
            case.start()
        for case in cases:
            case.settle()
        watch = free_port()
        next(case for case in cases if isinstance(case, Killed)).watch(watch)
        ports = {case.name: case.port for case in cases}
        monitoring = stack.enter_context(Monitoring(servers, ports, watch, scale=scale, interval_seconds=timing.interval))
        up = sum(case.agent is not None for case in cases) + 1
        until(lambda: monitoring.value("sum(up)") == up, "agents that are scraped", timing.patience)
        until(lambda: not list(monitoring.problems()), "rules that are evaluated", timing.patience)
        hour_began = time.time()
        with ThreadPoolExecutor(len(broken)) as pool:
            rows = [row for found in pool.map(lambda case: case.run(monitoring), broken) for row in found]
        time.sleep(max(0.0, hour_began + HOUR_SECONDS / scale - time.time()))
        yield Ran(rows, monitoring, timing, hour_began)
