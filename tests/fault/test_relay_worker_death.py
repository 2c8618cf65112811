"""Whatever becomes of the worker, the service's lines arrive once each, or their loss is stated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support import relay_parent
from tests.support.relay_worker import read_appends, read_records

pytestmark = pytest.mark.slow

AUDIT_EVERY = 10


def service(lines: int, *, pause_every: int = 0, last: str = "", before_each: str = "") -> list[str]:
    """Return a command that prints numbered lines, every tenth of them audit."""
    code = f"""
import sys, time
for n in range({lines}):
    if n % 10000 == 0:
        sys.stdout.flush()
{textwrap.indent(before_each, " " * 8)}
    sys.stdout.write('{{"stream":"audit","n":%d}}\\n' % n if n % {AUDIT_EVERY} == 0 else "GET /page/%d 200 %s\\n" % (n, "x" * 80))
    if {pause_every} and n % {pause_every} == 0:
        sys.stdout.flush(); time.sleep(0.01)
sys.stdout.write({last!r})
"""
    return [sys.executable, "-c", code]


def started_more_than(folder: Path, count: int) -> bool:
    """Say whether more workers than that have started."""
    return len(relay_parent.workers(folder)) > count


def audit_numbers(folder: Path) -> list[int]:
    """Return the numbers in the trail's audit lines, in their order."""
    return [int(record["raw"].split('"n":')[1].rstrip("}")) for record in read_records(folder) if record["kind"] == "quarantine"]


def accounted(folder: Path) -> int:
    """Return how many bytes the progress accounts for, having checked that the offsets join up."""
    at: dict[str | None, int] = {}
    for append in read_appends(folder):
        for progress in append.progress:
            assert progress.from_offset == at.get(progress.file_id, 0)
            assert progress.to_offset is not None
            assert progress.lines == progress.audit + progress.observability or append.gaps
            at[progress.file_id] = progress.to_offset
    return sum(at.values())


def test_nothing_is_lost_or_doubled_when_the_worker_is_killed_twenty_times(tmp_path: Path) -> None:
    kills, lines = 20, 200_000
    # A twentieth of the lines waits for each kill, so that every later worker has something to take.
    gate = f"import os, time\nwhile not os.path.exists('{tmp_path}/kill.%d' % (n // {lines // kills})): time.sleep(0.005)\n"
    parent = relay_parent.start(
        tmp_path, service(lines, before_each=gate), backoff_min_seconds=0.01, backoff_max_seconds=0.05, grace_seconds=20.0
    )
    dice = random.Random(7)
    try:
        for killed in range(kills):
            relay_parent.until(partial(started_more_than, tmp_path, killed))
            time.sleep(dice.uniform(0.0, 0.1))
            os.kill(relay_parent.workers(tmp_path)[-1], signal.SIGKILL)
            (tmp_path / f"kill.{killed}").touch()
        _, log = parent.communicate(timeout=40)
    finally:
        parent.kill()
        parent.communicate()
    assert parent.returncode == 0, log
    assert audit_numbers(tmp_path) == list(range(0, lines, AUDIT_EVERY))
    assert not [record for record in read_records(tmp_path) if record["kind"] == "gap"]
    assert accounted(tmp_path) == len(subprocess.run(service(lines), capture_output=True, check=True).stdout)
    assert log.count(b"the worker ended") == kills


def test_a_worker_that_does_not_read_blocks_the_service_and_not_the_memory(tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    parent = relay_parent.start(tmp_path, service(200_000), buffer_bytes=1 << 20, start_seconds=0.1)
    time.sleep(1.5)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{parent.pid}/status").read_text(encoding="ascii").splitlines())
    child = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(encoding="ascii").split()[-1])
    waiting_in = Path(f"/proc/{child}/wchan").read_text(encoding="ascii")
    assert parent.poll() is None
    assert int(status["VmHWM"].split()[0]) < 20_000
    assert "pipe" in waiting_in or waiting_in in {"0", ""}
    (tmp_path / "stuck").unlink()
    parent.communicate(timeout=30)
    assert parent.returncode == 0
    assert audit_numbers(tmp_path) == list(range(0, 200_000, AUDIT_EVERY))


def test_gap_lets_the_service_go_on_and_states_exactly_what_was_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    parent = relay_parent.start(
        tmp_path,
        service(100_000, last='{"stream":"audit","n":100000}\n'),
        buffer_bytes=1 << 20,
        start_seconds=0.05,
        when_full="gap",
        patience_seconds=0.05,
        environ={"WHEN_FULL": "gap"},
    )
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    time.sleep(0.5)
    relay_parent.until(lambda: len(Path(children).read_text(encoding="ascii").split()) == 1)
    (tmp_path / "stuck").unlink()
    parent.communicate(timeout=30)
    assert parent.returncode == 0
    whole = subprocess.run(service(100_000, last='{"stream":"audit","n":100000}\n'), capture_output=True, check=True).stdout
    assert accounted(tmp_path) == len(whole)
    (gap,) = [record for record in read_records(tmp_path) if record["kind"] == "gap"]
    assert (gap["cause"], gap["certainty"]) == ("spool_full", "known")
    start, end = gap["from_offset"], gap["to_offset"]
    kept = (whole[:start] + whole[end:]).splitlines()
    assert whole[start - 1 : start] == b"\n"
    assert end == len(whole) or whole[end - 1 : end] == b"\n"
    assert audit_numbers(tmp_path) == [int(line.split(b'"n":')[1].rstrip(b"}")) for line in kept if b"audit" in line]
    assert sum(append.bytes_lost for append in read_appends(tmp_path)) == end - start


def test_a_full_spool_with_gap_costs_audit_lines_only_and_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    lines = 20_000
    parent = relay_parent.start(
        tmp_path, service(lines, pause_every=200), when_full="gap", environ={"WHEN_FULL": "gap"}, stdout=subprocess.PIPE
    )
    # How long a worker takes to start depends on the machine.
    relay_parent.until(lambda: relay_parent.workers(tmp_path))
    time.sleep(0.8)
    (tmp_path / "full").unlink()
    out, _ = parent.communicate(timeout=30)
    assert parent.returncode == 0
    assert out.count(b"\n") == lines - lines // AUDIT_EVERY
    assert accounted(tmp_path) == len(subprocess.run(service(lines), capture_output=True, check=True).stdout)
    lost = sum(int(record["detail"].split()[0]) for record in read_records(tmp_path) if record["kind"] == "gap")
    assert lost > 0
    numbers = audit_numbers(tmp_path)
    assert len(numbers) + lost == lines // AUDIT_EVERY
    assert numbers == sorted(set(numbers))


def test_a_killed_parent_is_stated_by_the_worker_that_outlives_it(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, service(2_000_000, pause_every=100))
    relay_parent.until(lambda: audit_numbers(tmp_path))
    parent.kill()
    parent.communicate(timeout=10)
    relay_parent.until((tmp_path / "ended").exists)
    gaps = [record for record in read_records(tmp_path) if record["kind"] == "gap"]
    assert {(gap["path"], gap["cause"], gap["certainty"], gap["to_offset"]) for gap in gaps} == {
        ("stdout", "worker_crashed", "possible", None),
        ("stderr", "worker_crashed", "possible", None),
    }
    numbers = audit_numbers(tmp_path)
    assert numbers == list(range(0, len(numbers) * AUDIT_EVERY, AUDIT_EVERY))


def test_a_killed_parent_and_worker_are_stated_by_the_next_worker(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, service(2_000_000, pause_every=100))
    relay_parent.until(lambda: audit_numbers(tmp_path))
    os.kill(parent.pid, signal.SIGSTOP)
    os.kill(relay_parent.workers(tmp_path)[-1], signal.SIGKILL)
    parent.kill()
    parent.communicate(timeout=10)
    before = {cursor.path: cursor for append in read_appends(tmp_path) for cursor in append.cursors}
    again = relay_parent.start(tmp_path, ["true"])
    again.communicate(timeout=10)
    gaps = {record["path"]: record for record in read_records(tmp_path) if record["kind"] == "gap"}
    assert set(gaps) == {"stdout", "stderr"}
    for channel, gap in gaps.items():
        assert gap["from_offset"] == before[channel].offset
        assert gap["certainty"] == "possible"
        assert gap["file_id"] == before[channel].file_id
    once_more = relay_parent.start(tmp_path, ["true"])
    once_more.communicate(timeout=10)
    assert len([record for record in read_records(tmp_path) if record["kind"] == "gap"]) == 2


@pytest.mark.parametrize("line", ["a line of audit" * 40_000, "plain" * 400_000])
def test_a_line_larger_than_the_buffer_goes_through(tmp_path: Path, line: str) -> None:
    audit = "audit" in line
    text = f'{{"stream":"audit","x":"{line}"}}' if audit else line
    code = f"print({text[:40]!r} + {text[40:60]!r} * {len(text) // 20}); print('end')"
    parent = relay_parent.start(tmp_path, [sys.executable, "-c", code], buffer_bytes=256 << 10, stdout=subprocess.PIPE)
    out, log = parent.communicate(timeout=20)
    assert parent.returncode == 0, log
    assert out.endswith(b"end\n")
    assert (len(out) < 100) == audit
    assert [record["reason"] for record in read_records(tmp_path)] == (["too_long"] if audit else [])
