"""`exec` as the first process of a PID namespace, as in a container: signals, orphans, exit codes, and a worker killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Site, children_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

NAMESPACE = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork", "--mount-proc"]

# Signals of the caller's namespace reach the first process of another one like those of its own kernel: only with a handler.
SERVICE = r"""
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import loggen
def said(text):
    sys.stdout.buffer.write(text); sys.stdout.flush()
def last(number, frame):
    said(loggen.audit_line(1)); sys.exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else last)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(8))
assert os.getppid() == 1
for _ in range(5):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
for _ in range(5):
    os.wait()
said(loggen.audit_line(0) + b"up\n")
while True: signal.pause()
"""


class Container:
    """A namespace with the agent as its first process."""

    def __init__(self, site: Site, *command: str) -> None:
        """Start the agent as PID 1 over a command."""
        words = [*NAMESPACE, TRAILSEAL, "exec", "--config", str(site.config), "--", *command]
        self.log_path = site.folder / "container.err"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)

    @property
    def first(self) -> int:
        """The process that is PID 1 in there, by its id out here."""
        until(lambda: list(children_of(self.process.pid)), "a first process")
        return next(children_of(self.process.pid))

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def worker(self) -> int | None:
        for pid in children_of(self.first):
            with contextlib.suppress(OSError):
                if b"\0-m\0agent\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def wait(self) -> int:
        return self.process.wait(40)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, sources=None, observability="stdout")


@pytest.fixture
def container(site: Site, request: pytest.FixtureRequest) -> Iterator[Container]:
    words = request.param if hasattr(request, "param") else []
    made = Container(site, sys.executable, "-c", SERVICE, os.path.dirname(loggen.__file__), *words)  # noqa: PTH120 - a word
    try:
        yield made
    finally:
        with contextlib.suppress(StopIteration, ProcessLookupError, AssertionError):
            os.kill(next(children_of(made.process.pid)), signal.SIGKILL)
        made.process.kill()
        made.process.communicate()


def states(pid: int) -> list[str]:
    found = []
    for child in children_of(pid):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{child}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0])
    return found


def test_pid_one_reaps_orphans_forwards_sigterm_and_passes_the_exit_code_on(site: Site, container: Container) -> None:
    assert container.line() == b"up\n"
    # The orphans end after 0.1 s; what is left of them would be a zombie of PID 1.
    until(lambda: len(states(container.first)) == 2, "nothing but worker and service")
    assert "Z" not in states(container.first)
    os.kill(container.first, signal.SIGTERM)
    assert container.wait() == 7, container.log_path.read_text()
    assert site.trails.event_ids() == [loggen.event_id(0), loggen.event_id(1)]
    assert site.trails.reasons()[-1] == "stop"
    assert site.verify().code == 0


@pytest.mark.parametrize("container", [["deaf"]], indirect=True)
def test_pid_one_outlives_a_service_that_ignores_sigterm_and_its_own_worker(site: Site, container: Container) -> None:
    assert container.line() == b"up\n"
    os.kill(container.first, signal.SIGTERM)
    until(container.worker, "a worker")
    killed = container.worker()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    os.kill(container.first, signal.SIGTERM)
    until(lambda: container.worker() not in {None, killed}, "another worker")
    assert container.process.poll() is None
    # Its manager's SIGKILL, or a signal it does not ignore, ends it; we never do.
    os.kill(container.first, signal.SIGUSR1)
    assert container.wait() == 8, container.log_path.read_text()
    assert site.trails.event_ids() == [loggen.event_id(0)]
    assert site.verify().code == 0


def test_pid_one_says_which_signal_ended_the_service(site: Site) -> None:
    container = Container(site, "sh", "-c", "kill -SEGV $$")
    assert container.wait() == 128 + 11, container.log_path.read_text()
    container.process.communicate()


def test_a_service_that_closes_its_output_and_lives_on_is_waited_for(site: Site) -> None:
    container = Container(site, "sh", "-c", "exec >&- 2>&-; sleep 1.5; exit 4")
    assert container.wait() == 4, container.log_path.read_text()
    container.process.communicate()
    assert site.trails.reasons()[-1] == "stop"
    assert site.verify().code == 0


def test_a_daemon_that_keeps_the_pipe_does_not_hold_the_end_up_for_ever(site: Site) -> None:
    line = loggen.audit_line(0).decode().strip()
    container = Container(site, "sh", "-c", f"(echo '{line}'; exec sleep 100) & exit 0")
    assert container.wait() == 0, container.log_path.read_text()
    container.process.communicate()
    assert site.trails.event_ids() == [loggen.event_id(0)]
    gaps = {(gap["path"], gap["cause"], gap["certainty"]) for gap in site.trails.kind("gap")}
    assert gaps == {("stdout", "unreadable", "possible"), ("stderr", "unreadable", "possible")}
    assert site.verify().code == 11
