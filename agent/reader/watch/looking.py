"""Look at a store as often as asked, and open it anew where something in it could not be read.

A reader of a bucket gives a store up for good after an outage, because a verification has to end. A watcher has to go on: it begins
afresh with the next look. It must not judge what it sees, nor how it is shown.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .judge import judge
from .newest import Newest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from ..expected import ExpectedTrail
    from ..fetch import OpenStore
    from ..trustfile import TrustFile
    from .judge import Report
    from .newest import Sight


class Looking:
    """Look, and remember what will not change."""

    def __init__(
        self,
        open_it: Callable[[], OpenStore],
        trust: TrustFile | None,
        expected: Sequence[ExpectedTrail],
        forget: timedelta | None = None,
        advance: Callable[[int, int], object] = lambda _done, _all: None,
    ) -> None:
        """Open the store.

        Args:
            open_it: Opens it; asked again after a look that could not read something.
            trust: Whom to believe; None to believe the key that each trail names itself.
            expected: Who has to be there.
            forget: See `judge`.
            advance: See `Newest.look`.

        Raises:
            ConfigError: It cannot be opened this way.
            NotVerifiedError: It cannot be read.
        """
        self._open = open_it
        self._expected, self._forget, self._advance = expected, forget, advance
        self._store: OpenStore | None = open_it()
        self._newest = Newest(self._store, trust, time.time)

    def look(self) -> Report:
        """Look once; twice where something could not be read.

        Raises:
            NotVerifiedError: The store cannot be listed, or not any more.
        """
        sights = self._see()
        if self._newest.unreadable:
            # Places that nobody can read, or an outage that began meanwhile? The second one says nothing about any trail.
            self.close()
            sights = self._see()
        if self._newest.unreadable:
            self.close()
        return judge(sights, self._expected, datetime.now(UTC), self._forget)

    def _see(self) -> list[Sight]:
        if self._store is None:
            self._newest.store = self._store = self._open()
        try:
            return self._newest.look(self._advance)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the store go, if it is open."""
        from ..bucket import BucketReader  # noqa: PLC0415 -- a folder needs none of what a bucket does

        if isinstance(self._store, BucketReader):
            self._store.close()
        self._store = None
