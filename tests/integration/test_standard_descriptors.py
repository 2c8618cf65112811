"""What a service, and whoever shares a descriptor with us, may rely on: nobody makes a standard descriptor non-blocking.

`O_NONBLOCK` belongs to the open file, not to the descriptor: set by one process, it makes the writes of all others fail that share
the terminal or the pipe, and a service's buffered output is lost.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOGGEN_FOLDER = LOGGEN[1].rpartition("/")[0]
# It writes until it is told to stop, through the interpreter's buffer, and says how many lines that were and what it found.
SERVICE = """
import fcntl, json, os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import loggen
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
def blocking():
    return [not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (0, 1, 2)]
found, number = [blocking()], 0
while not told:
    sys.stdout.buffer.write(loggen.block(number, 500)); number += 500
sys.stdout.buffer.flush()
found.append(blocking())
pathlib.Path(sys.argv[2]).write_text(json.dumps({"lines": number, "blocking": found}))
"""


def service(folder: Path) -> list[str]:
    return [sys.executable, "-c", SERVICE, LOGGEN_FOLDER, str(folder / "said")]


def buffered() -> Mapping[str, str]:
    """Return an environment in which a Python program's standard output has its buffer.

    With `PYTHONUNBUFFERED` a write that a signal interrupts is short and its rest is lost, whoever reads.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def is_blocking(fd: int) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


class Shared:
    """The three open files that the agent gets as its standard descriptors, and that this process has as well: it is the sibling."""

    def __init__(self, kind: str) -> None:
        """Open a terminal, or three pipes."""
        pairs = [os.openpty()] * 3 if kind == "terminal" else [os.pipe()[::-1], os.pipe(), os.pipe()]
        self.far = [pair[0] for pair in pairs]
        self.near = [pair[1] for pair in pairs]
        self._reader = threading.Thread(target=self._read) if kind == "terminal" else None
        if self._reader is not None:
            self._reader.start()

    def _read(self) -> None:
        """Read as slowly as a terminal does; its end is that nobody has the other side any more."""
        while True:
            try:
                os.read(self.far[0], 4096)
            except OSError:
                return
            time.sleep(0.0005)

    def close(self) -> None:
        for fd in set(self.near):
            os.close(fd)
        if self._reader is not None:
            self._reader.join()
        for fd in set(self.far):
            os.close(fd)


@pytest.mark.parametrize("kind", ["pipes", "terminal"])
@pytest.mark.parametrize("command", ["exec", "pipe"])
def test_no_standard_descriptor_becomes_non_blocking_for_the_service_or_for_a_sibling(tmp_path: Path, command: str, kind: str) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    shared = Shared(kind)
    # Nobody reads the pipe of what is passed on, and the terminal is slow: where a write would wait, a program may be tempted.
    streams = dict(zip(("stdin", "stdout", "stderr"), shared.near, strict=True))
    try:
        if command == "exec":
            with site.run("exec", "--", *service(tmp_path), env=buffered(), **streams) as agent:
                until(lambda: len(site.trails.event_ids()) > 2000, "events in the store")
                assert [is_blocking(fd) for fd in shared.near] == [True] * 3
                agent.process.send_signal(signal.SIGTERM)
                assert agent.process.wait(40) == 0
        else:
            with (
                subprocess.Popen(service(tmp_path), env=buffered(), stdin=shared.near[0], stdout=subprocess.PIPE) as writer,
                site.run("pipe", stdin=writer.stdout, stdout=shared.near[1], stderr=shared.near[2]) as agent,
            ):
                assert writer.stdout is not None
                until(lambda: len(site.trails.event_ids()) > 2000, "events in the store")
                # Our end of its pipe is the one that the agent reads.
                assert [is_blocking(fd) for fd in (*shared.near, writer.stdout.fileno())] == [True] * 4
                writer.stdout.close()
                writer.send_signal(signal.SIGTERM)
                assert writer.wait(40) == 0
                assert agent.process.wait(40) == 0
        assert [is_blocking(fd) for fd in shared.near] == [True] * 3
    finally:
        shared.close()
    said = json.loads((tmp_path / "said").read_text(encoding="ascii"))
    assert said["blocking"] == [[True] * 3] * 2
    assert site.trails.event_ids() == loggen.event_ids(said["lines"])
    assert site.verify().code == 0
