from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent.vitals import clock
from agent.vitals.clock import UNKNOWN, ClockState, ManualClock, SystemClock, Timex, boot_id, interpret, rfc3339


def test_the_structure_is_the_kernel_s():
    assert ctypes.sizeof(Timex) == 208
    assert [getattr(Timex, name).offset for name in ("offset", "maxerror", "status", "constant", "time_sec", "tick", "stabil", "tai")] == [
        8, 24, 40, 48, 72, 88, 120, 160,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "status", "expected"),
    [
        (0, 0x2001, ClockState(synchronized=True, offset_seconds=0.0015, max_error_seconds=0.25)),
        (0, 0x0001, ClockState(synchronized=True, offset_seconds=1.5, max_error_seconds=0.25)),
        (5, 0x2000, ClockState(synchronized=False, offset_seconds=0.0015, max_error_seconds=0.25)),
        (0, 0x2040, ClockState(synchronized=False, offset_seconds=0.0015, max_error_seconds=0.25)),
        (1, 0x2001, ClockState(synchronized=True, offset_seconds=0.0015, max_error_seconds=0.25)),
        (-1, 0x2001, UNKNOWN),
    ],
)
def test_the_kernel_s_answer_is_translated(result, status, expected):
    assert interpret(result, Timex(offset=1_500_000, maxerror=250_000, status=status)) == expected


def test_the_system_answers_or_says_it_does_not():
    state = SystemClock().state()
    assert state == UNKNOWN or (isinstance(state.synchronized, bool) and 0 <= (state.max_error_seconds or 0) <= 100)


def test_nothing_is_set_by_looking():
    script = "from agent.vitals.clock import SystemClock; SystemClock().state()"
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=adjtimex,clock_adjtime,settimeofday,clock_settime", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    calls = [line for line in done.stderr.splitlines() if re.search(r"adjtime|settime", line)]
    assert calls
    assert all("modes=0" in line for line in calls)


@pytest.mark.parametrize("missing", [None, lambda _timex: -1])
def test_a_refused_call_gives_none(monkeypatch, missing):
    monkeypatch.setattr(clock, "_adjtimex", lambda: missing)
    assert SystemClock().state() == ClockState(synchronized=None, offset_seconds=None, max_error_seconds=None)


def test_the_system_s_times():
    system = SystemClock()
    assert abs(system.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert system.now().tzinfo is UTC
    assert 0 < system.monotonic_ns() <= system.monotonic_ns()


def test_the_boot_id_is_a_uuid_or_empty(monkeypatch, tmp_path):
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id())
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "absent")
    assert boot_id() == ""


def test_a_manual_clock_moves_as_told():
    manual = ManualClock(datetime(2026, 1, 8, 15, tzinfo=timezone(timedelta(hours=1))), monotonic_ns=7)
    manual.advance(1.5)
    assert (rfc3339(manual.now()), manual.monotonic_ns()) == ("2026-01-08T14:00:01.500000Z", 1_500_000_007)
    manual.jump(-3600)
    assert (rfc3339(manual.now()), manual.monotonic_ns()) == ("2026-01-08T13:00:01.500000Z", 1_500_000_007)
    manual.judgement = ClockState(synchronized=True, offset_seconds=0.0, max_error_seconds=0.1)
    assert manual.state().synchronized is True
