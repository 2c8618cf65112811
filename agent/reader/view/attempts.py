"""How many wrong tokens there were lately, so that nobody fills the trail or the log with them.

It protects no secret: a token cannot be guessed. Invariants: whoever shows a good token is never counted, and never turned away by this;
memory is bounded, however many addresses there are. This module must not read a clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_WINDOW_SECONDS: Final = 60.0
_ADDRESSES: Final = 10_000
_ALL: Final = ""
_FOR_ALL: Final = 10


class Attempts:
    """Counts by address and in all, in windows of a minute."""

    def __init__(self, most: int) -> None:
        """Allow so many a minute from one address, and ten times as many from all."""
        self._most = most
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def failed(self, address: str, now_seconds: float) -> bool:
        """Count a wrong token; tell whether there were too many, this one included.

        Args:
            address: The client's.
            now_seconds: A monotonic clock.
        """
        # Both are counted, whatever the first one says.
        return any([self._over(address, self._most, now_seconds), self._over(_ALL, self._most * _FOR_ALL, now_seconds)])

    def _over(self, address: str, most: int, now_seconds: float) -> bool:
        began, count = self._counts.pop(address, (now_seconds, 0))
        if now_seconds - began >= _WINDOW_SECONDS:
            began, count = now_seconds, 0
        self._counts[address] = (began, count + 1)
        if len(self._counts) > _ADDRESSES:
            self._counts.popitem(last=False)
        return count + 1 > most
