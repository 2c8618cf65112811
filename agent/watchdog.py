"""Notice that work waits and nothing moves; say so, and at last end the process for a supervisor to start again.

Invariants:
    - Waiting is no stall: what is judged is whether anything is *tried*. A store that refuses and a disk that is full are
      tried again and again, so neither ever ends the agent.
    - Time in which this process did not run (stopped, suspended, starved of CPU) does not count: after a late tick
      everything is looked at anew. Only the monotonic clock is asked.
    - It runs in a thread of its own, because a blocked event loop cannot see that it is blocked. It reads counters and
      takes no lock; it changes nothing but what `Reports` does.

A thread cannot run while an extension module holds the interpreter's lock; that is left to the liveness probe.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .vitals.catalogue import Part

TICK_SECONDS: Final = 1.0
LATE_SECONDS: Final = 4.0
"""A tick that comes so much later than it should means that the process did not run."""
EXIT_STALLED: Final = 70
"""The exit code of a process that the watchdog ended; ``EX_SOFTWARE`` of sysexits.h."""

Work = tuple[bool, object]
"""Whether something waits, and a value that is another one after each step or attempt."""


class Bounds(NamedTuple):
    """Say how long a part may stand still with work waiting, in seconds.

    Attributes:
        alert: Then it is reported.
        end: Then the process ends.
    """

    alert: float
    end: float


class Watched(NamedTuple):
    """Name a part that is watched.

    Attributes:
        part: Which.
        work: Returns its work, by whatever it is divided into; called on the watchdog's thread.
        bounds: How patient to be.
    """

    part: Part
    work: Callable[[], Mapping[str, Work]]
    bounds: Bounds


class Stall(NamedTuple):
    """Describe a part that stands still.

    Attributes:
        part: Which.
        name: What of it; empty for the whole.
        seconds: For how long.
        over: Whether the process must end.
    """

    part: Part
    name: str
    seconds: float
    over: bool

    def __str__(self) -> str:
        """Say it in a sentence."""
        return f"the {self.part}{self.name and ' to '}{self.name} has work waiting and has done nothing for {self.seconds:.0f} s"


class Judge:
    """Decide from one look to the next which parts stand still; pure but for the looks."""

    def __init__(self, watched: list[Watched]) -> None:
        """Begin with everything moving."""
        self._watched = watched
        self._since: dict[tuple[Part, str], tuple[object, float]] = {}
        self._looked_at: float | None = None

    def look(self, now: float) -> list[Stall]:
        """Return what stands still longer than its bound allows.

        Args:
            now: A monotonic time, in seconds; never less than at the last look.
        """
        late = self._looked_at is not None and now - self._looked_at > TICK_SECONDS + LATE_SECONDS
        self._looked_at = now
        if late:
            self._since.clear()
        stalls = []
        seen = {}
        for part, work, bounds in self._watched:
            for name, (waiting, mark) in work().items():
                if not waiting:
                    continue
                known = self._since.get((part, name))
                since = known[1] if known is not None and known[0] == mark else now
                seen[part, name] = (mark, since)
                if now - since >= bounds.alert:
                    stalls.append(Stall(part, name, now - since, now - since >= bounds.end))
        self._since = seen
        return stalls


class Reports(Protocol):
    """Who is told; every method is called on the watchdog's thread, returns soon and never raises."""

    def stalled(self, stall: Stall) -> None:
        """Note that a part has begun to stand still."""
        ...

    def moving(self, part: Part) -> None:
        """Note that a part moves again."""
        ...

    def ending(self, stall: Stall) -> None:
        """Note that the process ends now because of this."""
        ...


class Watchdog:
    """Run a judge in a thread."""

    def __init__(self, judge: Judge, reports: Reports, *, end: Callable[[int], object] = os._exit) -> None:
        """Describe it.

        Args:
            judge: Decides.
            reports: Is told.
            end: Ends the process with an exit code, at once: a part that hangs would keep an orderly end from happening.
        """
        self._judge = judge
        self._reports = reports
        self._end = end
        self._known: dict[Part, Stall] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self.turn(time.monotonic())

    def turn(self, now: float) -> None:
        """Look once and act upon it; `now` is monotonic, in seconds."""
        stalls = self._judge.look(now)
        found: dict[Part, Stall] = {}
        for stall in stalls:
            found.setdefault(stall.part, stall)
        for part, stall in found.items():
            if part not in self._known:
                self._reports.stalled(stall)
        for part in set(self._known) - set(found):
            self._reports.moving(part)
        self._known = found
        over = next((stall for stall in stalls if stall.over), None)
        if over is not None:
            self._reports.ending(over)
            self._end(EXIT_STALLED)
