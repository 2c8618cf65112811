"""What the demo stands on: a screen that counts broken claims, the agent as a process, the command line, small waits.

Invariants: every wait and every command has a time limit; leaving an `Agent` ends what it started, however it is left; output
has colours on a terminal only, and stays within its width. The module must not know the story that is told.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable

TRAILSEAL: Final = str(Path(sys.executable).with_name("trailseal"))
PATIENCE_SECONDS: Final = 30.0
END_SECONDS: Final = 15.0
MIN_WIDTH: Final = 72
MAX_WIDTH: Final = 100
_LISTENING: Final = re.compile(r'"msg": "listening", "port": (\d+)')


class DemoError(Exception):
    """The demo cannot go on."""


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds.

    Raises:
        DemoError: It does not within `seconds`.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise DemoError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a TCP port of the loopback address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str) -> str:
    """Return what a server on the loopback address answers to a GET."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def command(*arguments: str, width: int = 80, colours: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end, with its output captured."""
    environ = os.environ | {"COLUMNS": str(width)} | ({"FORCE_COLOR": "1"} if colours else {"NO_COLOR": "1"})
    return subprocess.run(
        [TRAILSEAL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env=environ,
        stdin=subprocess.DEVNULL,
    )


class Agent:
    """Be `trailseal exec` around a service: started on entering, ended on leaving."""

    def __init__(self, config: Path, service: list[str], output: Path) -> None:
        """Name the configuration, the service's command line and the folder for what passes through."""
        self._arguments = [TRAILSEAL, "exec", "--config", str(config), "--", *service]
        self._stdout = output / "service.stdout.log"
        self._stderr = output / "service.stderr.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it, in a session of its own, so that Ctrl-C reaches it through us alone."""
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End it in order if it still runs, and by force if that takes too long."""
        process = self._running
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(END_SECONDS)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DemoError("the agent was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The process id to send signals to."""
        return self._running.pid

    def service_port(self) -> int:
        """Wait until the service says where it listens, on its own stdout, and return the port."""
        until(lambda: self._running.poll() is not None or _LISTENING.search(self._stdout.read_text()), "the service to listen")
        found = _LISTENING.search(self._stdout.read_text())
        if found is None:
            raise DemoError(f"the agent ended with code {self._running.poll()}: {self._stderr.read_text().strip()}")
        return int(found[1])

    def stdout_lines(self) -> list[str]:
        """Return what passed through to stdout so far."""
        return self._stdout.read_text(encoding="utf-8").splitlines()

    def service_errors(self) -> list[str]:
        """Return what the service's stderr let pass so far; the agent's own log, JSON lines, is left out."""
        return [line for line in self._stderr.read_text(encoding="utf-8").splitlines() if not _is_log_of_agent(line)]

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self._running.terminate()
        try:
            return self._running.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DemoError("the agent did not end") from error


def _is_log_of_agent(line: str) -> bool:
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    return isinstance(fields, dict) and "event" in fields


class Screen:
    """Write sections, commands, quotations and claims; count the claims that do not hold."""

    def __init__(self, root: Path) -> None:
        """Look at the terminal; `root` is left out of the paths shown."""
        self._root = root
        self._sections = 0
        self.failures = 0
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.width = max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((90, 24)).columns - 1))

    def title(self, text: str) -> None:
        """Write the demo's name."""
        self._write(self._styled(text, "1"))

    def section(self, text: str) -> None:
        """Begin the next numbered section."""
        self._sections += 1
        self._write("\n" + self._styled(f"{self._sections}  {text}", "1;36"))

    def line(self, text: str, *, above: bool = False) -> None:
        """Write a line of our own; `above` leaves one free above it."""
        self._write(("\n" if above else "") + f"   {text}")

    def paragraph(self, text: str) -> None:
        """Write our own words over as many lines as they need."""
        for line in textwrap.wrap(text, self.width - 5):
            self.line(f"  {line}")

    def command(self, text: str) -> None:
        """Write a command as a person would type it."""
        self._write("   " + self._styled(f"$ {text}", "1"))

    def quote(self, text: str, *, lines: int = 1) -> None:
        """Write somebody else's line, cut to so many lines of the screen."""
        room = self.width - 5
        shown = [text[i : i + room] for i in range(0, len(text), room)] or [""]
        if len(shown) > lines:
            shown = [*shown[: lines - 1], shown[lines - 1][: room - 3] + "..."]
        for line in shown:
            self._write("     " + self._styled(line, "2"))

    def table(self, text: str) -> None:
        """Write a line of a table."""
        self.raw("   " + text)

    def raw(self, text: str) -> None:
        """Write what another program laid out for the whole width."""
        self._write(text.rstrip())

    def claim(self, holds: bool, text: str) -> None:  # noqa: FBT001  a claim is its truth and its words
        """Say what was shown, or that it was not."""
        if holds:
            self._said("ok", "1;32", text)
        else:
            self.failed(text)

    def failed(self, text: str) -> None:
        """Say that something does not hold, and count it."""
        self.failures += 1
        self._said("FAILED", "1;31", text)

    def end(self) -> None:
        """Write how it went."""
        if self.failures:
            self._write("\n" + self._styled(f"{self.failures} of the claims above did not hold.", "1;31"))
        else:
            self._write("\n" + self._styled("Every claim above was checked, and held.", "1;32"))

    def path(self, path: Path) -> str:
        """Return a path as a person in the project's folder would type it."""
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(path)

    def _said(self, word: str, style: str, text: str) -> None:
        first, *more = textwrap.wrap(text, self.width - len(word) - 5) or [""]
        self._write(f"   {self._styled(word, style)}  {first}")
        for line in more:
            self._write(" " * (len(word) + 5) + line)

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours else text

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
