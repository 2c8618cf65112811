"""Say what time it is and how far that can be trusted; the only place where the agent asks for the time.

The kernel's own judgement comes from adjtimex(2), called with no mode bit set, which reads and never sets. Time daemons that
discipline the clock through the kernel (chrony, ntpd, systemd-timesyncd) keep its `STA_UNSYNC` bit and maximum error current.
Invariants: a kernel, container or seccomp profile that refuses the call gives an answer of None fields, never an exception.
This module must not set any clock.
"""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from ..trail.manifest import ClockState

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNKNOWN", "Clock", "ClockState", "ManualClock", "SystemClock", "boot_id", "rfc3339"]

UNKNOWN: Final = ClockState(synchronized=None, offset_seconds=None, max_error_seconds=None)
"""The state of a clock that the kernel says nothing about."""

_STA_UNSYNC: Final = 0x0040
_STA_NANO: Final = 0x2000
_TIME_ERROR: Final = 5
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Timex(ctypes.Structure):
    """Mirror ``struct timex`` of Linux on 64-bit machines (x86_64 and aarch64 have the same; linux/timex.h)."""

    _fields_: ClassVar = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_sec", ctypes.c_long),
        ("time_usec", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    ]


class Clock(Protocol):
    """Tell the time.

    Guarantees: `now` is in UTC and may jump; `monotonic_ns` never goes back within one boot. Neither blocks or raises.
    """

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds since some moment of this boot (CLOCK_BOOTTIME where there is one, so sleep counts)."""
        ...

    def state(self) -> ClockState:
        """Return what the kernel says about the wall clock."""
        ...


class SystemClock:
    """Tell the machine's own time."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the boot, sleep included (CLOCK_BOOTTIME, clock_gettime(2))."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def state(self) -> ClockState:
        """Return the kernel's judgement, read anew."""
        adjtimex = _adjtimex()
        if adjtimex is None:
            return UNKNOWN
        timex = Timex()
        return interpret(adjtimex(ctypes.byref(timex)), timex)


class ManualClock:
    """Tell the time a test sets.

    Attributes:
        time: What `now` returns.
        elapsed_ns: What `monotonic_ns` returns.
        judgement: What `state` returns.
    """

    def __init__(self, start: datetime, *, monotonic_ns: int = 0, state: ClockState = UNKNOWN) -> None:
        """Begin at a time, which must carry its zone."""
        self.time = start.astimezone(UTC)
        self.elapsed_ns = monotonic_ns
        self.judgement = state

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.time

    def monotonic_ns(self) -> int:
        """Return the nanoseconds that went by."""
        return self.elapsed_ns

    def state(self) -> ClockState:
        """Return the state that was set."""
        return self.judgement

    def advance(self, seconds: float) -> None:
        """Let time go by on both clocks."""
        self.time += timedelta(seconds=seconds)
        self.elapsed_ns += round(seconds * 1_000_000_000)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or backwards; no time goes by."""
        self.time += timedelta(seconds=seconds)


def interpret(result: int, timex: Timex) -> ClockState:
    """Translate adjtimex's answer.

    Args:
        result: Its return value: the clock's state, or -1.
        timex: What it filled in. `maxerror` is in microseconds; `offset` in nanoseconds where STA_NANO is set, else in
            microseconds. The offset is what the kernel has still to slew, so it is near zero under daemons that slew
            by themselves (chrony).
    """
    if result < 0:
        return UNKNOWN
    unit = 1e-9 if timex.status & _STA_NANO else 1e-6
    return ClockState(
        synchronized=result != _TIME_ERROR and not timex.status & _STA_UNSYNC,
        offset_seconds=round(timex.offset * unit, 9),
        max_error_seconds=round(timex.maxerror * 1e-6, 6),
    )


def boot_id() -> str:
    """Return the kernel's random id of this boot, or an empty text where there is no /proc."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def rfc3339(moment: datetime) -> str:
    """Write a UTC time as RFC 3339 with microseconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@cache
def _adjtimex() -> Callable[..., int] | None:
    """Find the C library's adjtimex; None where it has none, or where longs are not 64 bits wide."""
    if ctypes.sizeof(ctypes.c_long) != ctypes.sizeof(ctypes.c_int64):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if function is None:
        return None
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.POINTER(Timex)]
    return lambda timex: int(function(timex))
