"""The relay's parent is a faithful wrapper: exit codes, signals, zombies, grandchildren, bounded ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import relay_parent
from tests.support.relay_worker import read_records

AUDIT = '{"stream":"audit"}'


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


def python(code: str) -> list[str]:
    return [sys.executable, "-uc", code]


TRAPPING = python(
    "import signal, sys\n"
    "def got(number, frame):\n"
    "    print('got', number)\n"
    "    if number == 15: sys.exit(5)\n"
    "for number in (1, 2, 3, 10, 12, 15, 28): signal.signal(number, got)\n"
    "print('ready')\n"
    "while True: signal.pause()\n"
)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -KILL $$"], 128 + 9),
        (["sh", "-c", "kill -SEGV $$"], 128 + 11),
        (["/nonexistent/program"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_services_exit_code_is_ours(tmp_path: Path, command: list[str], code: int) -> None:
    parent = relay_parent.start(tmp_path, command)
    _, log = parent.communicate(timeout=10)
    assert parent.returncode == code
    assert json.loads((tmp_path / "ended").read_text()) == [True, True]
    assert (b"could not be started" in log) == (code in {126, 127})


def test_signals_are_forwarded_in_order_and_the_last_lines_still_arrive(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, TRAPPING, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    for number in (1, 2, 3, 10, 12, 28, 15):
        parent.send_signal(number)
        assert parent.stdout.readline() == b"got %d\n" % number
    parent.communicate(timeout=10)
    assert parent.returncode == 5


def test_a_service_that_had_no_handler_dies_of_the_signal(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    parent.terminate()
    parent.communicate(timeout=10)
    assert parent.returncode == 128 + 15


def test_the_service_starts_with_the_dispositions_of_any_program(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status"], stdout=subprocess.PIPE)
    out, _ = parent.communicate(timeout=10)
    masks = {name: int(value, 16) for name, value in (line.split(b":") for line in out.splitlines())}
    # The C library keeps signals 32 and 33 for itself.
    assert {name: mask & 0x7FFF_FFFF for name, mask in masks.items()} == {b"SigBlk": 0, b"SigIgn": 0}


def test_a_key_on_the_terminal_reaches_the_service_once(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    code = (
        "import os, sys, fcntl, termios, subprocess\n"
        "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    plan = {
        "feeds": [["app", TRAPPING]],
        "worker": [sys.executable, str(relay_parent.WORKER), str(tmp_path)],
        "limits": {"grace_seconds": 5.0},
        "keep_running": False,
    }
    arguments = [sys.executable, "-c", code, sys.executable, "-P", "-m", "agent.relay", json.dumps(plan)]
    environ = {**os.environ, "PYTHONPATH": str(relay_parent.ROOT)}
    with subprocess.Popen(arguments, env=environ, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        os.write(ours, b"\x03")
        assert parent.stdout.readline() == b"got 2\n"
        time.sleep(0.2)
        parent.send_signal(signal.SIGTERM)
        assert parent.stdout.read() == b"got 15\n"
        assert parent.wait(10) == 5
    os.close(ours)
    os.close(theirs)


def test_orphans_handed_to_us_are_reaped(tmp_path: Path) -> None:
    # As PID 1 of a PID namespace, the parent inherits every orphan; without the right to make one, prctl does the same.
    code = "import ctypes, os, sys\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nos.execv(sys.argv[1], sys.argv[1:])\n"
    plan = {
        "feeds": [["app", ["sh", "-c", "for i in 1 2 3 4 5; do (sh -c 'sleep 0.05' &) ; done; echo started; exec sleep 60"]]],
        "worker": [sys.executable, str(relay_parent.WORKER), str(tmp_path)],
        "limits": {"grace_seconds": 5.0, "linger_seconds": 0.1},
        "keep_running": False,
    }
    arguments = [sys.executable, "-c", code, sys.executable, "-P", "-m", "agent.relay", json.dumps(plan)]
    environ = {**os.environ, "PYTHONPATH": str(relay_parent.ROOT)}
    with subprocess.Popen(arguments, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        relay_parent.until(lambda: len(children_of(parent.pid)) == 2)
        assert all(state_of(child) != "Z" for child in children_of(parent.pid))
        parent.terminate()
        assert parent.wait(10) == 128 + 15


def test_a_grandchild_that_holds_the_pipe_delays_the_end_by_a_bound_only(tmp_path: Path) -> None:
    started = time.monotonic()
    command = ["sh", "-c", f"(sleep 0.2; echo '{AUDIT}'; exec sleep 30 2>/dev/null) & exit 3"]
    parent = relay_parent.start(tmp_path, command, linger_seconds=0.6)
    _, log = parent.communicate(timeout=10)
    assert parent.returncode == 3
    assert 0.6 <= time.monotonic() - started < 5
    line, gap = read_records(tmp_path)
    assert line["raw"] == AUDIT
    assert (gap["cause"], gap["certainty"], gap["path"], gap["to_offset"]) == ("unreadable", "possible", "stdout", None)
    assert gap["from_offset"] == len(AUDIT) + 1
    assert b"outlived its command" in log


def test_the_input_of_the_command_is_ours(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = parent.communicate(b"hello\n", timeout=10)
    assert out == b"hello\n"


def test_channels_pass_on_where_they_came_from_and_a_last_line_without_newline_counts(tmp_path: Path) -> None:
    command = ["sh", "-c", f"echo out; echo err >&2; printf '%s' '{AUDIT}'"]
    parent = relay_parent.start(tmp_path, command, stdout=subprocess.PIPE)
    out, err = parent.communicate(timeout=10)
    assert (out, err) == (b"out\n", b"err\n")
    assert [record["raw"] for record in read_records(tmp_path)] == [AUDIT]


def test_a_closed_standard_output_ends_neither_the_service_nor_the_trail(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = ["sh", "-c", f"i=0; while [ $i -lt 50 ]; do echo line; echo '{AUDIT}'; i=$((i+1)); done; exit 6"]
    parent = relay_parent.start(tmp_path, command, stdout=writing)
    os.close(writing)
    parent.communicate(timeout=10)
    assert parent.returncode == 6
    assert len(read_records(tmp_path)) == 50


def test_a_pipe_ends_with_its_writer(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, None, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = parent.communicate(b"one\n" + AUDIT.encode() + b"\ntwo\nlast", timeout=10)
    assert parent.returncode == 0
    assert out == b"one\ntwo\nlast"
    assert [record["raw"] for record in read_records(tmp_path)] == [AUDIT]


def test_a_regular_file_may_be_the_standard_input(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes((AUDIT.encode() + b"\n") * 10_000)
    with source.open("rb") as stdin:
        parent = relay_parent.start(tmp_path, None, stdin=stdin)
    parent.communicate(timeout=10)
    assert parent.returncode == 0
    assert len(read_records(tmp_path)) == 10_000


def test_sigterm_ends_a_pipe_whose_writer_goes_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    parent = relay_parent.start(tmp_path, None, stdin=reading)
    os.close(reading)
    os.write(writing, AUDIT.encode() + b"\n")
    relay_parent.until(lambda: read_records(tmp_path))
    os.write(writing, AUDIT.encode() + b"\n")
    parent.terminate()
    parent.communicate(timeout=10)
    os.close(writing)
    assert parent.returncode == 0
    assert len(read_records(tmp_path)) == 2


def test_a_worker_that_cannot_be_configured_keeps_the_service_from_starting(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["touch", str(tmp_path / "service-ran")], environ={"EXIT_CODE": "2"})
    parent.communicate(timeout=10)
    assert parent.returncode == 2
    assert not (tmp_path / "service-ran").exists()


def test_a_worker_that_keeps_dying_costs_the_service_neither_its_start_nor_its_end(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["sh", "-c", "echo x; exit 9"], environ={"EXIT_CODE": "1"}, start_seconds=0.2, grace_seconds=0.5)
    _, log = parent.communicate(timeout=15)
    assert parent.returncode == 9
    assert b'"unacknowledged_bytes": 2' in log
    assert b"the drain was not finished" in log


@pytest.mark.slow
def test_a_worker_that_does_not_end_is_ended(tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    started = time.monotonic()
    # A worker that is told to end before it has its handlers simply dies.
    command = ["sh", "-c", f"until ls {tmp_path}/worker.* >/dev/null 2>&1; do sleep 0.05; done"]
    parent = relay_parent.start(tmp_path, command, start_seconds=0.1, grace_seconds=0.3)
    parent.communicate(timeout=15)
    assert parent.returncode == 0
    assert 2.0 < time.monotonic() - started < 8.0
    assert state_of(relay_parent.workers(tmp_path)[-1]) == "gone"


@pytest.mark.slow
def test_a_second_sigterm_shortens_the_drain(tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    parent = relay_parent.start(tmp_path, ["sleep", "60"], start_seconds=0.1, grace_seconds=60.0)
    relay_parent.until(lambda: len(children_of(parent.pid)) == 2)
    parent.terminate()
    relay_parent.until(lambda: len(children_of(parent.pid)) == 1)
    time.sleep(0.2)
    parent.terminate()
    started = time.monotonic()
    parent.communicate(timeout=15)
    assert time.monotonic() - started < 6
    assert parent.returncode == 128 + 15


def test_a_parent_without_stream_sources_left_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["true"], keep_running=True, backoff_min_seconds=0.05)
    relay_parent.until((tmp_path / "ended").exists)
    time.sleep(0.3)
    assert parent.poll() is None
    parent.terminate()
    parent.communicate(timeout=10)
    assert parent.returncode == 0


def test_the_parent_is_light(tmp_path: Path) -> None:
    parent = relay_parent.start(tmp_path, ["sleep", "60"])
    relay_parent.until(lambda: len(children_of(parent.pid)) == 2)
    status = Path(f"/proc/{parent.pid}/status").read_text(encoding="ascii")
    parent.terminate()
    parent.communicate(timeout=10)
    assert int(status.split("VmHWM:")[1].split()[0]) < 15 * 1024
