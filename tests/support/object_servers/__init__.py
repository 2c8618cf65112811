"""Run real object servers for tests, and a proxy that spoils the way to them.

`rgw.Rgw` speaks S3 with Object Lock, `azurite.Azurite` speaks Azure Blob, `proxy.Proxy` stands before either. Each is a
context manager that listens on the loopback interface only, owns its folder and its ports, and suits a fixture of one test file:

    @pytest.fixture(scope="module")
    def rgw(tmp_path_factory):
        with Rgw(tmp_path_factory.mktemp("rgw")) as server:
            yield server

This module holds what the servers share: the processes, which never outlive the test, and their ports.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Final, Self

from tests.support.agent_process import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_GUARD: Final = ("sh", "-c", "read -r _; kill -KILL 0")
"""Ends its process group as soon as its standard input does, which is when the test's process is no more."""

_LISTENING_PORTS: Final = range(12_000, 32_000)
"""Ports the kernel gives to no outgoing connection, so that one stays free while its server is down."""


def lasting_port() -> int:
    """Return a TCP port of the loopback address that is free, and stays so until a server that was killed is there again."""
    for port in random.sample(_LISTENING_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port on the loopback address")


class Daemons:
    """Be a server's processes; they end with the `with` block, and with the test's process however that ends."""

    def __init__(self, logs: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start nothing yet; each process writes to `logs`/NAME.log and sees `environment` besides the test's own."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._environment = {**os.environ, **(environment or {})}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the guard."""
        # PR_SET_PDEATHSIG would be shorter, but it follows the thread that started the process, which may end before the test.
        self._guard = subprocess.Popen(_GUARD, stdin=subprocess.PIPE, process_group=0)
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all of the group, and wait for its end."""
        guard, self._guard = self._guard, None
        assert guard is not None
        # The guard is not waited for before this, so nobody else can have its number.
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
        assert guard.stdin is not None
        guard.stdin.close()
        self._reap()

    def start(self, name: str, *arguments: str | Path) -> None:
        """Start a process under a name, in the guarded group."""
        assert self._guard is not None, "only inside the with block"
        assert name not in self._running, f"{name} runs already"
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                list(map(str, arguments)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                process_group=self._guard.pid,
            )

    def run(self, *arguments: str | Path) -> str:
        """Run a command to its end, and return what it printed; the test fails unless it succeeds."""
        done = subprocess.run(
            list(map(str, arguments)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environment,
            timeout=PATIENCE_SECONDS,
            check=False,
            text=True,
        )
        command = " ".join(map(str, arguments))
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{_tail(done.stderr)}\n{self.tails()}"
        return done.stdout

    def end(self, by: signal.Signals) -> None:
        """Send a signal to every process that was started, by its own number, and wait until they are gone."""
        for process in self._running.values():
            process.send_signal(by)
        self._reap()

    def wait(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something holds; the test fails, with the ends of the logs, if a process ends or it takes too long."""
        try:
            until(lambda: self._fallen() or condition(), what, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.tails()}") from None
        assert not self._fallen(), f"{', '.join(self._fallen())} ended by itself, before: {what}\n{self.tails()}"

    def tails(self) -> str:
        """Return the last lines of every process's log."""
        logs = sorted(self._logs.glob("*.log"))
        return "\n".join(f"-- {log.name}\n{_tail(log.read_text(encoding='utf-8', errors='replace'))}" for log in logs)

    def pids(self) -> dict[str, int]:
        """Return the running processes' numbers by name."""
        return {name: process.pid for name, process in self._running.items()}

    def _fallen(self) -> list[str]:
        return [name for name, process in self._running.items() if process.poll() is not None]

    def _reap(self) -> None:
        for process in self._running.values():
            process.wait(PATIENCE_SECONDS)
        self._running.clear()


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.splitlines()[-lines:])
