"""The intake half of the spool: what is accepted, when it is committed, and who waits for room.

Invariants:
    - What `submit` accepted is committed in that order, or the process ends (`DurabilityError`); a full disk is retried
      for ever, with nothing acknowledged meanwhile.
    - Commits group by bytes when busy and go out at once when idle; appends without records wait up to a second for
      company, because nobody's "durable" depends on them.
    - The bound is kept here, well below anything SQLite or the disk would enforce, and only appends wait for it. A part of
      it is kept free of them (`RESERVE`): for gap records, for the batch being cut, and half of it for heartbeats.
    - When the disk itself is full appends wait until the ballast is in its place again, or they would eat the room that
      lets the spool empty. Those that only state something (a loss, a stream's beginning or end) do not: a few pages each, and
      without them the next start would not know that a stream had begun and what of it may be lost.

It must not seal, ship or free anything: that is queue.py's half.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from ..errors import SpoolFullError, TrailsealError
from .ballast import BALLAST_BYTES, Ballast
from .tables import ROW_OVERHEAD_BYTES
from .thread import DatabaseThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from ..intake import Append
    from .database import Database

PENDING_BYTES: Final = 3 << 20
"""How many bytes may be accepted but not yet committed."""
GROUP_BYTES: Final = 1 << 20
"""How many bytes one transaction takes, about."""
COMPANY_SECONDS: Final = 1.0
"""How long an append without records may wait for others."""
COMPANY_COUNT: Final = 64
"""How many appends without records may wait."""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
RESERVE: Final = 16
"""One part in this many of the bound is kept free of appends: room for gap records and for the batch being cut."""


class Commits(DatabaseThread):
    """Accept appends and make them durable, in order and within the bound."""

    def __init__(
        self,
        state: Path,
        max_bytes: int,
        on_commit: Callable[[float, Sequence[Append]], None],
        on_full: Callable[[str | None], None],
    ) -> None:
        """Describe it; see `Spool`."""
        super().__init__(state)
        self.max_bytes = max_bytes
        self._on_commit = on_commit
        self._on_full = on_full
        self._pending: deque[tuple[Append, asyncio.Future[None]]] = deque()
        self._newest: asyncio.Future[None] | None = None
        self._pending_bytes = 0
        self._with_records = 0
        self._hurry = False
        self._failure: TrailsealError | None = None
        self._full: str | None = None
        self._disk_full = False
        self._work = asyncio.Event()
        self._room = asyncio.Condition()
        self._ballast = Ballast(state)
        self._has_ballast = True
        self._attempts = 0
        self.appended = asyncio.Event()
        """Set after each commit of appends; the sealer clears it."""
        self.held_bytes = 0
        """What the spool holds now, as the bound counts it."""
        self.held_records = 0
        self.appended_bytes = 0
        """Bytes of bodies committed since the start; only ever grows."""

    @property
    def work(self) -> tuple[bool, object]:
        """Say whether something waits for its commit, and return what moves with every attempt, failed ones too."""
        return self._newest is not None and not self._newest.done(), self._attempts

    def has_room(self, size_bytes: int = 0) -> bool:
        """Say whether a submit with so many bytes of bodies would be accepted at once."""
        return not self._must_wait(size_bytes + ROW_OVERHEAD_BYTES, bounded=True)

    def _over_bound(self, more_bytes: int) -> bool:
        return self.held_bytes + self._pending_bytes + more_bytes > self.max_bytes - self.max_bytes // RESERVE

    def _has_room_again(self) -> bool:
        return not self._over_bound(0) and not self._disk_full

    async def submit(self, append: Append) -> Awaitable[None]:
        """Accept one append, waiting for room first; the awaitable resolves once it is durable.

        Gap records are small and say what was lost, so they may use the reserve and do not wait for the bound; nor does an
        append that calls itself small, without which no stream could begin or end while the spool is full.
        """
        size = _size(append)
        unbounded = _only_states(append)
        # Waiting for the bound means waiting for the shipper; progress without bodies costs next to nothing.
        if self._must_wait(size, bounded=not unbounded):
            async with self._room:
                while self._must_wait(size, bounded=not unbounded):
                    if self._over_bound(size) and not unbounded:
                        self._say_full(f"the spool holds {self.held_bytes} of {self.max_bytes} bytes; reading waits for the stores")
                    await self._room.wait()
        if self._failure is not None:
            raise self._failure
        future = asyncio.get_running_loop().create_future()
        self._pending.append((append, future))
        self._newest = future
        self._pending_bytes += size
        self._with_records += bool(append.records)
        self._work.set()
        return future

    def _must_wait(self, size: int, *, bounded: bool) -> bool:
        if self._failure is not None:
            return False
        return self._pending_bytes >= PENDING_BYTES or (bounded and self._over_bound(size))

    async def flush(self) -> None:
        """Wait until everything accepted so far is durable."""
        if self._newest is not None and not self._newest.done():
            if self._pending:
                self._hurry = True
                self._work.set()
            await asyncio.shield(self._newest)

    async def run(self) -> None:
        """Commit what is submitted, for ever; ends only by cancellation or a disk that cannot be trusted.

        Raises:
            DurabilityError: A commit failed in a way that a retry cannot mend.
        """
        while True:
            await self._work.wait()
            await self._wait_for_company()
            group = self._take_group()
            while group:
                try:
                    count = await self._commit([append for append, _ in group])
                except TrailsealError as error:
                    self._fail(error, group)
                    raise
                done, group = group[:count], group[count:]
                self._pending_bytes -= sum(_size(append) for append, _ in done)
                for _, future in done:
                    if not future.done():
                        future.set_result(None)
                self.appended.set()
                await self._make_room_known()

    async def _wait_for_company(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMPANY_SECONDS):
                while not (self._with_records or self._hurry or len(self._pending) >= COMPANY_COUNT):
                    self._work.clear()
                    await self._work.wait()
        self._work.set()

    def _take_group(self) -> list[tuple[Append, asyncio.Future[None]]]:
        group: list[tuple[Append, asyncio.Future[None]]] = []
        size = 0
        while self._pending and size < GROUP_BYTES:
            append, future = self._pending.popleft()
            group.append((append, future))
            size += _size(append)
            self._with_records -= bool(append.records)
        if not self._pending:
            self._hurry = False
            self._work.clear()
        return group

    async def _commit(self, appends: list[Append]) -> int:
        """Make appends durable, at least the first of them; return how many."""
        attempt = 0
        while True:
            started = time.perf_counter()
            try:
                self._attempts += 1
                count, added = await self.read(lambda db: self._append(db, appends))
            except SpoolFullError as error:
                # The cursors have not moved, so nothing is lost by waiting; shipping goes on and frees space.
                self._disk_full = True
                self._say_full(error.message)
                await self.read(lambda db: db.shrink(rebuild=not self.held_bytes))
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            durable = appends[:count]
            # Without the ballast only these few went through: the disk is as full as it was.
            self._disk_full = self._disk_full and not self._has_ballast
            self.held_bytes += added
            self.held_records += sum(a.records for a in durable)
            self.appended_bytes += sum(len(a.bodies) for a in durable)
            self._on_commit(time.perf_counter() - started, durable)
            return count

    def _append(self, db: Database, appends: list[Append]) -> tuple[int, int]:
        self._has_ballast = self._ballast.in_place or self._ballast.place()
        if not self._has_ballast:
            appends = list(takewhile(_only_states, appends))
            if not appends:
                message = f"the disk of {self._state} has less than {BALLAST_BYTES >> 20} MiB left, which are kept for sealing and shipping"
                raise SpoolFullError(message)
        return len(appends), db.append(appends)

    def _fail(self, error: TrailsealError, group: list[tuple[Append, asyncio.Future[None]]]) -> None:
        self._failure = error
        for _, future in (*group, *self._pending):
            if not future.done():
                future.set_exception(error)
                future.exception()  # Marks it as seen: the supervisor reports the cause once, not once per append.

    @property
    def full(self) -> str | None:
        """Return why appends or the sealer wait for room; None while nobody does."""
        return self._full

    def _say_full(self, why: str) -> None:
        if self._full is None:
            self._full = why
            self._on_full(why)

    async def _make_room_known(self) -> None:
        if self._full is not None and self._has_room_again():
            self._full = None
            self._on_full(None)
        async with self._room:
            self._room.notify_all()


def _only_states(append: Append) -> bool:
    """Say whether an append has no lines, only what was lost, or that a stream began or ended."""
    return append.gaps == append.records > 0 or (append.small and not append.bodies)


def _size(append: Append) -> int:
    """Return what an append counts for, in bytes."""
    return len(append.bodies) + ROW_OVERHEAD_BYTES
