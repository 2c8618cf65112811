"""Keep what is well and what is not, for probes and people.

A condition is a named statement about a part of the agent ("the store main takes batches"). Whoever knows, sets it; a change
is noted with its time. Invariants: ready means that every critical condition holds and that every expected one was stated;
alive means that the event loop turned lately. This module must not decide what to do about it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from .clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .clock import Clock

BEAT_SECONDS: Final = 1.0
"""How often the event loop shows that it turns."""

ALIVE_SECONDS: Final = 30.0
"""How old its last sign may be before the agent counts as not alive."""


class Severity(StrEnum):
    """Say what a failed condition means for readiness."""

    CRITICAL = "critical"
    WARNING = "warning"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """State whether one part is well.

    Attributes:
        name: Which part; from the program or the configuration, never from an event.
        ok: Whether it is well.
        detail: One sentence for a person; empty while it is well.
        severity: Whether it makes the agent unready (critical) or is only shown (warning).
        since: When it last became well or ill.
    """

    name: str
    ok: bool
    detail: str
    severity: Severity
    since: datetime


class Health:
    """Hold the conditions and the event loop's last sign of life; used from the event loop only."""

    def __init__(self, clock: Clock, *, expect: Iterable[str] = ()) -> None:
        """Begin unready until every expected condition has been stated.

        Args:
            clock: Tells the time.
            expect: Names of the conditions that must be stated before the agent is ready.
        """
        self._clock = clock
        self._beat_ns = clock.monotonic_ns()
        now = clock.now()
        self._conditions = {
            name: Condition(name=name, ok=False, detail="starting", severity=Severity.CRITICAL, since=now) for name in expect
        }

    def set(self, name: str, ok: bool, detail: str = "", *, severity: Severity = Severity.CRITICAL) -> bool:  # noqa: FBT001 - the statement itself
        """State one condition; return whether it became well or ill by that."""
        before = self._conditions.get(name)
        changed = before is None or before.ok != ok
        since = self._clock.now() if before is None or changed else before.since
        self._conditions[name] = Condition(name=name, ok=ok, detail="" if ok else detail, severity=severity, since=since)
        return changed

    def knows(self, name: str) -> bool:
        """Whether a condition of this name has been stated or is expected."""
        return name in self._conditions

    def forget(self, name: str) -> None:
        """Drop a condition whose subject is gone, for example a file that no longer exists."""
        self._conditions.pop(name, None)

    def failed(self, severity: Severity | None = None) -> list[Condition]:
        """Return the conditions that do not hold, critical ones first, then by name."""
        found = [each for each in self._conditions.values() if not each.ok and severity in {None, each.severity}]
        return sorted(found, key=lambda each: (each.severity, each.name))

    @property
    def ready(self) -> bool:
        """Whether every critical condition holds."""
        return not self.failed(Severity.CRITICAL)

    @property
    def alive(self) -> bool:
        """Whether the event loop turned within `ALIVE_SECONDS`."""
        return self.silent_seconds <= ALIVE_SECONDS

    @property
    def silent_seconds(self) -> float:
        """How long ago the event loop gave its last sign."""
        return (self._clock.monotonic_ns() - self._beat_ns) / 1e9

    @property
    def last_beat_ns(self) -> int:
        """When the event loop gave its last sign, on the monotonic clock."""
        return self._beat_ns

    def beat(self) -> None:
        """Note that the event loop turns."""
        self._beat_ns = self._clock.monotonic_ns()

    async def keep_beating(self) -> None:
        """Beat until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(to_next_beat())

    def readiness(self) -> dict[str, object]:
        """Return what ``/readyz`` says: ``ready`` and the ``reasons`` (name, detail, severity, since) of what does not hold."""
        return {"ready": self.ready, "reasons": [_as_reason(each) for each in self.failed()]}

    def liveness(self) -> dict[str, object]:
        """Return what ``/livez`` says: ``alive`` and the age of the event loop's last sign, in seconds."""
        return {"alive": self.alive, "silent_seconds": round(self.silent_seconds, 3)}


def to_next_beat() -> float:
    """Return the seconds to the next beat; whoever works once a second waits for it, so that an idle agent wakes up once."""
    now = asyncio.get_running_loop().time()
    return BEAT_SECONDS - now % BEAT_SECONDS


def _as_reason(condition: Condition) -> dict[str, str]:
    """Return a failed condition as plain data."""
    return {
        "name": condition.name,
        "detail": condition.detail,
        "severity": condition.severity.value,
        "since": rfc3339(condition.since),
    }
