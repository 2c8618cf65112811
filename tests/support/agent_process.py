"""Run the real agent as a process, look at it from outside, and read what it left in its store.

Everything here goes through what a user has: the command line, the configuration file, the socket in the state directory
and the objects in the store. Times out rather than waits for ever.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from agent.trail.batch import read_data
from agent.trail.layout import parse_seal_key
from agent.trail.seal import Seal, parse_seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TRAILSEAL: Final = str(Path(sys.executable).with_name("trailseal"))
LOGGEN: Final = (sys.executable, str(Path(__file__).with_name("loggen.py")))
PATIENCE_SECONDS: Final = 40.0
"""How long anything may take on a busy machine before it counts as never."""


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS, step_seconds: float = 0.02) -> None:
    """Wait until something holds; the test fails if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            message = f"not within {seconds:.0f} s: {what}"
            raise AssertionError(message)
        time.sleep(step_seconds)


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trailseal(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the real command line to its end."""
    return subprocess.run([TRAILSEAL, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


class Verdict(NamedTuple):
    """Be what `verify` said: its exit code and its JSON document."""

    code: int
    report: dict[str, Any]

    def findings(self, *, notices: bool = False) -> list[dict[str, Any]]:
        """Return the findings, without those that are only notices."""
        return [finding for finding in self.report["findings"] if notices or finding["severity"] != "notice"]

    def codes(self) -> set[str]:
        """Return the codes of what counts."""
        return {finding["code"] for finding in self.findings()}


def verify(store: Path, trust: Path | None, *options: str) -> Verdict:
    """Run `trailseal verify --json` on a store."""
    arguments = ["verify", str(store), "--json", *([] if trust is None else ["--trust", str(trust)]), *options]
    done = trailseal(*arguments)
    assert done.stdout, f"verify {done.returncode}: {done.stderr}"
    return Verdict(done.returncode, json.loads(done.stdout))


def believe(store: Path, trust: Path) -> Path:
    """Write the trust lines for the keys in a store, as a person would after having compared them."""
    done = trailseal("trust", store)
    assert done.returncode == 0, done.stderr
    trust.write_text(done.stdout, encoding="utf-8")
    return trust


class Trails:
    """Read a directory store as it is now; seals that were read once are kept, because they never change."""

    def __init__(self, store: Path) -> None:
        """Look at a folder that may not exist yet."""
        self._store = store
        self._seals: dict[str, Seal] = {}
        self._read: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {}

    def seals(self) -> list[Seal]:
        """Return all seals, by epoch and batch."""
        folder = self._store / "trails"
        keys = [f"trails/{path.relative_to(folder)}" for path in folder.rglob("*.seal")] if folder.exists() else []
        for key in keys:
            if key not in self._seals:
                self._seals[key] = parse_seal((self._store / key).read_bytes())
        return [self._seals[key] for key in sorted(keys, key=_by_epoch)]

    def reasons(self) -> list[str]:
        """Return why each batch was sealed."""
        return [seal.manifest.reason.value for seal in self.seals()]

    def batches(self, newest: int = 0) -> Iterator[tuple[Seal, list[dict[str, Any]]]]:
        """Yield every seal, or so many of the newest, with its batch's records, in order."""
        for seal in self.seals()[-newest:]:
            data = seal.manifest.data
            yield seal, [] if data is None else self._objects(data.key, data.raw_bytes)

    def _objects(self, key: str, raw_bytes: int) -> list[dict[str, Any]]:
        """Return a data object's records; it is read again only if it is another file than last time."""
        path = self._store / key
        status = path.stat()
        same = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._read.get(key, ((), []))[0] != same:
            self._read[key] = (same, list(map(json.loads, read_data(path.read_bytes(), raw_bytes))))
        return self._read[key][1]

    def records(self) -> list[dict[str, Any]]:
        """Return every record of every sealed batch, in order."""
        return [record for _, records in self.batches() for record in records]

    def events(self) -> list[dict[str, Any]]:
        """Return the events in the order of the trail."""
        return [record["event"] for record in self.records() if record["kind"] == "event"]

    def event_ids(self) -> list[str]:
        """Return the events' ids in the order of the trail."""
        return [event["event_id"] for event in self.events()]

    def kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of one kind: `event`, `quarantine` or `gap`."""
        return [record for record in self.records() if record["kind"] == kind]

    def accounted_bytes(self) -> int:
        """Return how many bytes of sources the seals in the store account for."""
        ends: dict[str | None, int] = {}
        for seal in self.seals():
            for step in seal.manifest.sources:
                ends[step.file_id] = max(ends.get(step.file_id, 0), step.to_offset or 0)
        return sum(ends.values())


def _by_epoch(key: str) -> tuple[str, int]:
    origin, number = parse_seal_key(key)
    return origin.epoch, number


class Site:
    """Be a machine an agent runs on: a configuration file, a state directory, a folder of logs, a store."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Write the configuration; `settings` replace those at the top level, None leaves one out."""
        self.folder = folder
        self.logs = folder / "logs"
        self.log = self.logs / "app.log"
        self.store = folder / "store"
        self.state = folder / "state"
        self.config = folder / "trailseal.yaml"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.settings: dict[str, Any] = {
            "namespace": "demo",
            "service": "payments",
            "instance": "node-1",
            "state": "state",
            "sources": [{"id": "app", "file": str(self.log)}],
            "observability": "none",
            "seal": {"max_age": "200ms", "heartbeat": "10s"},
            "stores": [{"id": "main", "directory": str(self.store)}],
            "vitals": {"listen": "none"},
        }
        self.configure(**settings)
        self.trails = Trails(self.store)

    def configure(self, **settings: Any) -> None:
        """Change settings at the top level and write the file (JSON is YAML)."""
        self.settings |= settings
        kept = {name: value for name, value in self.settings.items() if value is not None}
        self.config.write_text(json.dumps(kept, indent=1), encoding="utf-8")

    def get(self, path: str) -> tuple[int, str]:
        """Ask the running agent over its socket; status code and body."""
        connection = _SocketConnection(str(self.state / "agent.sock"))
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def status(self) -> dict[str, Any] | None:
        """Return what the running agent says of itself; None if none answers."""
        try:
            answer: dict[str, Any] = json.loads(self.get("/status")[1])
        except (OSError, http.client.HTTPException):
            return None
        return answer

    def metrics(self) -> dict[str, float]:
        """Return every sample of `/metrics`, by its name with labels."""
        samples = (line.rsplit(" ", 1) for line in self.get("/metrics")[1].splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def is_ready(self) -> bool:
        """Ask `/readyz`."""
        try:
            return self.get("/readyz")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def run(self, *arguments: str, **options: Any) -> Agent:
        """Start `trailseal run`, or with words another command: `exec`, `--`, …; does not wait."""
        command, *rest = arguments or ("run",)
        return Agent(self, [TRAILSEAL, command, "--config", str(self.config), *rest], **options)

    def wait_drained(self, source_bytes: int) -> None:
        """Wait until the store's seals account for so many bytes of sources."""
        until(lambda: self.trails.accounted_bytes() >= source_bytes, f"{source_bytes} bytes of the source in the store")
        assert self.trails.accounted_bytes() == source_bytes

    def verify(self, *options: str) -> Verdict:
        """Verify the store, believing the keys found in it."""
        return verify(self.store, believe(self.store, self.folder / "trust.txt"), *options)

    def copy_store(self, name: str) -> Path:
        """Copy the store, for somebody to tamper with."""
        return Path(shutil.copytree(self.store, self.folder / name))


class Agent:
    """Be one run of the agent; leaving the `with` block kills what is left of it."""

    def __init__(self, site: Site, arguments: Sequence[str], **options: Any) -> None:
        """Start it; its own log goes to a file, unless `options` (of Popen) say otherwise."""
        self.site = site
        number = len(list(site.folder.glob("agent-*.err")))
        self.stderr_path = site.folder / f"agent-{number:02d}.err"
        with self.stderr_path.open("wb") as stderr:
            defaults: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": stderr}
            self.process: subprocess.Popen[bytes] = subprocess.Popen(arguments, **{**defaults, "start_new_session": True, **options})

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def log(self) -> str:
        """What the agent wrote to its own log so far."""
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    def ready(self) -> Agent:
        """Wait until `/readyz` says so."""
        until(lambda: self.process.poll() is not None or self.site.is_ready(), "an agent that is ready")
        assert self.process.poll() is None, self.log
        return self

    def kill(self) -> None:
        """Kill it as the kernel's OOM killer would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def worker(self) -> int | None:
        """Return the process id of a relay's worker; None while there is none."""
        for pid in children_of(self.process.pid):
            with contextlib.suppress(OSError):
                if b"\0-m\0agent\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None


def children_of(pid: int) -> Iterator[int]:
    """Yield the process ids of a process's children."""
    with contextlib.suppress(OSError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())


class _SocketConnection(http.client.HTTPConnection):
    """Speak HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
