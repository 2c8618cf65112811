"""Remember when to come back to which lane.

Invariants: a lane may have any number of times; each is given back once. This module holds state only and looks at no clock.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lane import Lane


class Timers:
    """Hold times (loop time) and their lanes."""

    def __init__(self) -> None:
        """Begin with none."""
        self._heap: list[tuple[float, int, Lane]] = []
        self._order = count()

    def add(self, when: float, lane: Lane) -> None:
        """Note that a lane has something to do at a time."""
        heapq.heappush(self._heap, (when, next(self._order), lane))

    def due(self, now: float) -> list[Lane]:
        """Return, and forget, the lanes whose time has come."""
        lanes = []
        while self._heap and self._heap[0][0] <= now:
            lanes.append(heapq.heappop(self._heap)[2])
        return lanes

    def next(self, otherwise: float) -> float:
        """Return the earliest time, `otherwise` if that is earlier still."""
        return min(otherwise, self._heap[0][0]) if self._heap else otherwise
