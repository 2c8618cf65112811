"""Start the relay's parent with the test's worker, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "tests" / "support" / "relay_worker.py"


def start(
    folder: Path,
    command: Sequence[str] | None,
    *,
    environ: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    keep_running: bool = False,
    **limits: float | str,
) -> subprocess.Popen[bytes]:
    """Start ``exec -- command``, or ``pipe`` without one, and return the parent's process."""
    plan = {
        "feeds": [["app", None if command is None else list(command)]],
        "worker": [sys.executable, str(WORKER), str(folder)],
        "limits": {"grace_seconds": 5.0, **limits},
        "keep_running": keep_running,
    }
    # The worker is a program outside of the package, so it has to be told where the package and the tests are.
    full = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
    arguments = [sys.executable, "-P", "-m", "agent.relay", json.dumps(plan)]
    return subprocess.Popen(arguments, env=full, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


def workers(folder: Path) -> list[int]:
    """Return the process ids of the workers that have started, the newest last."""
    marks = sorted(folder.glob("worker.*"), key=lambda path: path.stat().st_mtime_ns)
    return [int(path.suffix[1:]) for path in marks]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)
