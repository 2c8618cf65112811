"""A state disk that is full or gone while a stream goes on: the service never pays with its life, and what is lost is stated."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.spool.ballast import BALLAST_BYTES
from agent.vitals.catalogue import PREFIX
from tests.support import bulky, relay_parent
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = (sys.executable, str(Path(bulky.__file__)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk where the state directory will be; needs the right to mount."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(state)], check=True)
    yield state
    subprocess.run(["umount", str(state)], check=True)


def fill(path: Path) -> None:
    """Take what room a disk has left."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65_536)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_sigterm_with_a_full_state_disk_ends_in_time_and_the_next_start_states_the_loss(tmp_path: Path, small_disk: Path) -> None:
    site = Site(tmp_path, sources=None, spool={"max_bytes": "1GiB", "when_full": "block"}, shutdown_grace="6s")
    site.store.write_text("in the way", encoding="utf-8")
    written = tmp_path / "written"
    with site.run("exec", "--", *SERVICE, "12000", str(written), "--exit-code", "9") as agent:
        until(lambda: '"the spool is full"' in agent.log, "a full disk")
        fill(small_disk / "somebody-elses")
        # Every cut makes some room inside of the spool, until there is nothing left to cut.
        waited_since = time.monotonic()
        while time.monotonic() - waited_since < 3.0:
            if site.metrics()[f"{PREFIX}spool_full"] == 0:
                waited_since = time.monotonic()
            fill(small_disk / "somebody-elses")
            time.sleep(0.1)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(30) == 9, agent.log
        # Nothing can be written about it now, so the log says it, with a number.
        ends = [json.loads(line) for line in agent.log.splitlines() if "the drain was not finished" in line]
        assert [end["unacknowledged_bytes"] > 0 for end in ends] == [True], agent.log
    lines, _ = map(int, written.read_text(encoding="ascii").split())
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    site.store.unlink()
    # The same source again: what an earlier stream of it left open is stated.
    with site.run("exec", "--", "true") as agent:
        assert agent.process.wait(50) == 0, agent.log
    found = site.trails.event_ids()
    assert 0 < len(found) < (lines + 1) // 2
    assert found == [bulky.event_id(number) for number in range(0, 2 * len(found), 2)]
    gap = next(gap for gap in site.trails.kind("gap") if gap["path"] == "stdout")
    assert (gap["cause"], gap["certainty"], gap["to_offset"]) == ("worker_crashed", "possible", None)
    first_missing = len(found) * (len(bulky.audit_line(0)) + len(bulky.other_line(1)))
    assert 0 <= first_missing - gap["from_offset"] <= len(bulky.other_line(1))
    assert site.verify().code == 11


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_stream_whose_every_line_waited_for_the_disk_is_known_to_the_next_start(tmp_path: Path, small_disk: Path) -> None:
    # Room for a state, but not for what is kept free of appends: quotas are like that from the first call on.
    subprocess.run(["mount", "-o", f"remount,size={BALLAST_BYTES >> 21}m", str(small_disk)], check=True)
    site = Site(tmp_path, sources=None, shutdown_grace="6s")
    with site.run("exec", "--", *SERVICE, "100", str(tmp_path / "written")) as agent:
        agent.process.wait(60)
        assert '"the spool is full"' in agent.log
        assert "the drain was not finished" in agent.log
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    with site.run("exec", "--", "true") as agent:
        assert agent.process.wait(50) == 0, agent.log
    assert site.trails.event_ids() == []
    # The end of standard error came after lines that waited, so nothing was certain of that one either.
    stated = {(gap["path"], gap["cause"], gap["certainty"], gap["from_offset"], gap["to_offset"]) for gap in site.trails.kind("gap")}
    assert ("stdout", "worker_crashed", "possible", 0, None) in stated
    assert stated <= {(channel, "worker_crashed", "possible", 0, None) for channel in ("stdout", "stderr")}
    assert site.verify().code == 11


HELD = """
import os, signal, sys
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
line = b'{"stream":"audit","x":"%s"}\\n' % (b"x" * 8000)
count = 0
while not told:
    view = memoryview(line)
    while view:
        view = view[os.write(1, view):]
    count += 1
sys.exit(9)
"""


@pytest.mark.slow
def test_a_worker_that_dies_at_every_start_costs_neither_memory_nor_a_sigpipe_and_the_service_can_end(tmp_path: Path) -> None:
    parent = relay_parent.start(
        tmp_path,
        [sys.executable, "-c", HELD],
        environ={"EXIT_CODE": "1"},
        start_seconds=0.2,
        grace_seconds=6.0,
        backoff_min_seconds=0.1,
        backoff_max_seconds=1.0,
    )
    time.sleep(6.0)
    assert parent.poll() is None
    status = Path(f"/proc/{parent.pid}/status").read_text(encoding="ascii")
    assert int(status.split("VmHWM:")[1].split()[0]) < 32 << 10
    parent.send_signal(signal.SIGTERM)
    _, log = parent.communicate(timeout=40)
    assert parent.returncode == 9
    ended = [json.loads(line) for line in log.splitlines() if b'"the worker ended"' in line]
    # The pause doubles from 0.1 s to 1 s: a dozen starts in all this time, not hundreds.
    assert 4 < len(ended) < 25
    assert max(each["unacknowledged_bytes"] for each in ended) >= 4 << 20
    assert b"the drain was not finished" in log
