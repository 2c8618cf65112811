"""Run the real agent for a benchmark and look at it from outside.

What is measured is the process a user would run: its own command line, configuration, state directory and store, below a
temporary folder. CPU seconds are the kernel's account of the ended process (wait4), memory is VmHWM of /proc. Nothing in the
agent knows that it is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.05

_CONFIG: Final = """\
namespace: bench
service: payments
instance: one
state: {folder}/state
sources:
  - {{id: app, file: "{log}"}}
catalog: {catalog}
observability: {observability}
seal: {{max_age: {max_age_seconds}s, max_bytes: 4MiB, heartbeat: 60s}}
spool: {{max_bytes: 4GiB}}
stores:
  - {{id: main, directory: {folder}/store}}
vitals: {{listen: none}}
log: {{level: warning}}
"""


@dataclass(frozen=True)
class Usage:
    """What an ended process took.

    Attributes:
        seconds: Wall time from its start to its end.
        cpu_seconds: User and system time together.
        peak_rss_bytes: VmHWM.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


class BenchmarkError(Exception):
    """The agent did not do what is measured; there is no figure."""


class Agent:
    """One agent with a state and a store of its own below a folder."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        cores: Sequence[int] = (),
        observability: str = "none",
        max_age_seconds: float = 5.0,
        tree: Path = ROOT,
    ) -> None:
        """Write the configuration.

        Args:
            folder: Where state and store lie.
            log: The file to tail.
            cores: The cores the process may use; all by default.
            observability: Where other lines go: `none` or `stdout` (then /dev/null).
            max_age_seconds: The seal age.
            tree: The source tree to run, for comparing two of them.
        """
        self.folder, self.log = folder, log
        self._cores, self._tree = cores, tree
        self.config = folder / "trailseal.yaml"
        catalog = ROOT / "config" / "catalog.yaml"
        values = {"folder": folder, "log": log, "catalog": catalog, "observability": observability, "max_age_seconds": max_age_seconds}
        self.config.write_text(_CONFIG.format(**values), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._peak = 0

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.folder / "store"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.folder / "state"

    @property
    def pid(self) -> int:
        """The running process."""
        if self._process is None:
            raise BenchmarkError("the agent does not run")
        return self._process.pid

    def start(self) -> None:
        """Start the process; it is pinned before it executes anything."""
        command = [sys.executable, "-m", "agent", "run", "--config", str(self.config)]
        ours = os.sched_getaffinity(0)
        # A child inherits the affinity of the moment, so not even its imports run elsewhere.
        os.sched_setaffinity(0, self._cores or ours)
        try:
            self._begun = time.perf_counter()
            # The working directory decides which tree `-m agent` finds.
            self._process = subprocess.Popen(command, cwd=self._tree, stdout=subprocess.DEVNULL)
        finally:
            os.sched_setaffinity(0, ours)

    def since_start(self) -> float:
        """Return the seconds since `start`."""
        return time.perf_counter() - self._begun

    def ask(self, path: str) -> str | None:
        """Ask the agent over its local socket; None while nobody answers, or another status than 200."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(10)
                line.connect(str(self.state / "agent.sock"))
                line.sendall(f"GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n".encode())
                answer = b"".join(iter(lambda: line.recv(1 << 16), b""))
        except OSError:
            return None
        head, _, body = answer.partition(b"\r\n\r\n")
        return body.decode() if head.split(b" ", 2)[1:2] == [b"200"] else None

    def metric(self, name: str) -> float:
        """Return one value from /metrics, the labels being part of the name; 0 while there is none."""
        text = self.ask("/metrics") or ""
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " ")), 0.0)

    def until_ready(self) -> float:
        """Wait for /readyz; return the seconds since the start."""
        self._until(lambda: self.ask("/readyz") is not None, 0.002)
        return self.since_start()

    def until_read(self, size_bytes: int) -> float:
        """Wait until so many bytes of the log are durable; return the seconds since the start."""
        self._until(lambda: self.metric('trailseal_source_bytes_total{source="app"}') >= size_bytes, _POLL_SECONDS)
        return self.since_start()

    def _until(self, holds: Any, step_seconds: float) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self.memory()
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise BenchmarkError("the agent ended, or took too long")
            time.sleep(step_seconds)

    def memory(self) -> tuple[int, int]:
        """Return (RSS, peak RSS) in bytes."""
        with contextlib.suppress(OSError):
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines())
            if "VmHWM" in fields:
                self._peak = int(fields["VmHWM"].split()[0]) * 1024
                return int(fields["VmRSS"].split()[0]) * 1024, self._peak
        return 0, self._peak

    def cpu_seconds(self) -> float:
        """Return the time its threads have run so far, to the nanosecond.

        The scheduler's own account: that of /proc/PID/stat counts ticks, and a program that timers wake runs just at a tick.
        Threads that have ended are missing from it, so it is for spans in which none ends.
        """
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9

    def stop(self) -> Usage:
        """End it in order and account for it."""
        process = self._process
        if process is None:
            raise BenchmarkError("the agent does not run")
        self.memory()
        process.send_signal(signal.SIGTERM)
        while True:
            self.memory()
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            time.sleep(0.005)
        seconds = self.since_start()
        process.returncode = os.waitstatus_to_exitcode(status)
        self._process = None
        if process.returncode:
            raise BenchmarkError(f"the agent ended with {process.returncode}")
        return Usage(seconds, usage.ru_utime + usage.ru_stime, self._peak)

    def kill(self) -> None:
        """End it if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def verified_records(self) -> int:
        """Verify the store with the real command and return the number of records.

        Raises:
            BenchmarkError: It is not intact and complete.
        """
        command = [sys.executable, "-m", "agent"]
        trust = self.folder / "trust.txt"
        said = subprocess.run([*command, "trust", str(self.store)], cwd=ROOT, capture_output=True, check=True).stdout
        trust.write_bytes(said)
        arguments = ["verify", str(self.store), "--trust", str(trust), "--json"]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"verify ended with {done.returncode}: {done.stdout.decode()[:2000]}")
        trails = json.loads(done.stdout)["trails"]
        return sum(int(trail["records"]) for trail in trails)


@contextlib.contextmanager
def scratch(base: Path | None = None) -> Iterator[Path]:
    """Lend a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="trailseal-bench-", dir=base) as folder:
        yield Path(folder)


def machine() -> dict[str, object]:
    """Name the machine and how busy it is."""
    cpu = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "sha_instructions": any(" sha_ni" in line for line in _lines("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the median, and the range as a part of it."""
    middle = statistics.median(values)
    return middle, (max(values) - min(values)) / middle if middle else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered) + 0.5) - 1))]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--dir", type=Path, help="where the temporary folder is made: the disk that is measured")


def show(title: str, rows: Sequence[tuple[str, str]], document: dict[str, object], *, as_json: bool) -> None:
    """Print what was found, as a table or as JSON."""
    where = machine()
    if as_json:
        print(json.dumps({"benchmark": title, "machine": where, **document}, indent=2))
        return
    sha = "with" if where["sha_instructions"] else "without"
    print(f"{title}  ({where['cpu']}, {where['cores']} cores, {sha} SHA instructions, Linux {where['kernel']}, Python {where['python']})")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:{width}}  {value}")
