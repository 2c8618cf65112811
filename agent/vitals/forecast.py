"""Say when a spool will be full, from how it has filled.

Pure: the caller passes the time. A spool fills and empties with every batch, so what counts is the least it held in each span:
that is what does not get away.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

SPAN_SECONDS: Final = 10.0
SPANS: Final = 30


class Filling:
    """Follow how full the spool is."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._spans: deque[tuple[float, int]] = deque(maxlen=SPANS)
        self._began = -math.inf

    def note(self, now: float, held_bytes: int) -> None:
        """Note what it holds at a monotonic time, in seconds."""
        if now - self._began >= SPAN_SECONDS:
            self._began = now
            self._spans.append((now, held_bytes))
        elif held_bytes < self._spans[-1][1]:
            self._spans[-1] = (now, held_bytes)

    def seconds_to(self, bound_bytes: int) -> float:
        """Return the seconds until it holds so much, at the rate of the spans that are over; infinity if it does not grow."""
        if not self._spans:
            return math.inf
        newest, held = self._spans[-1]
        if held >= bound_bytes:
            return 0.0
        oldest, before = self._spans[0]
        if held <= before:
            return math.inf
        return (bound_bytes - held) * (newest - oldest) / (held - before)
