"""The asynchronous side of the spool: group commit, the bound, and waiting.

Invariants:
    - Transactions happen in the order in which they were asked for (thread.py).
    - What `submit` accepted is committed in that order, or the process ends (`DurabilityError`); a full disk is retried
      for ever, with nothing acknowledged meanwhile.
    - Commits group by bytes when busy and go out at once when idle; appends without records wait up to a second for
      company, because nobody's "durable" depends on them.
    - The bound is kept here, well below anything SQLite or the disk would enforce: sealing and receipts free space and
      are never refused; only appends wait. When the disk itself is full a ballast file gives its room back to those two,
      and to nobody else: appends wait until it is in its place again, or they would eat the room that lets the spool empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import SpoolFullError, TrailsealError
from .aside import note_trail
from .ballast import BALLAST_BYTES, Ballast
from .database import Database
from .tables import ROW_OVERHEAD_BYTES
from .thread import DatabaseThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from ..intake import Append, Cursor, SealListeners
    from .rows import BlockMeta, Head, NewBatch, QueuedBatch, StateLoss

T = TypeVar("T")

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


class Spool(DatabaseThread):
    """Be the intake of the sources, and the queue of the sealer and the shipper."""

    def __init__(
        self,
        state: Path,
        max_bytes: int,
        *,
        on_commit: Callable[[float, Sequence[Append]], None] = lambda _seconds, _appends: None,
        on_full: Callable[[str | None], None] = lambda _why: None,
    ) -> None:
        """Describe a spool; `open` opens it.

        Args:
            state: The state directory, whose lock the caller holds.
            max_bytes: The bound on what is held, in bytes.
            on_commit: Called after each commit with its duration in seconds and the appends it made durable.
            on_full: Called with the reason when appends begin to wait for room, and with None when there is room again.
        """
        super().__init__(state)
        self.max_bytes = max_bytes
        self._on_commit = on_commit
        self._on_full = on_full
        self._cursors: list[Cursor] = []
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
        self.appended = asyncio.Event()
        """Set after each commit of appends; the sealer clears it."""
        self.queued = asyncio.Condition()
        """Notified after each cut and each receipt."""
        self.held_bytes = 0
        """What the spool holds now, as the bound counts it."""
        self.held_records = 0
        self.appended_bytes = 0
        """Bytes of bodies committed since the start; only ever grows."""
        self.waiting_batches = 0
        self.freeing_attempts = 0
        """How often a cut or a receipt was tried; only ever grows."""
        self._attempts = 0
        self.head: Head | None = None
        self.lost: StateLoss | None = None
        """What was lost with the spool before this one, until an epoch has begun that says so."""
        self.given_up: list[str] = []
        """Trails whose batches were on their way back to blocks when the spool was opened."""
        self.listeners: SealListeners = set()
        """Told by the sealer of each durable cut; empty while nobody waits for one."""

    # ---- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the database and take stock.

        A damaged spool is set aside and salvaged first (salvage.py); `lost` says so then.

        Raises:
            StateError: The spool cannot be used.
            SpoolFullError: The disk has no room for what can be salvaged.
            DurabilityError: The disk does not answer.
        """
        await self.open_database()
        self.held_bytes, self.held_records = await self.read(Database.held)
        self.head = await self.read(Database.head)
        self.lost = await self.read(Database.lost)
        self.given_up = await self.read(Database.given_up)
        await self.recall()
        self.waiting_batches = await self.read(Database.waiting)
        await self.read(Database.forget_finished)
        await self._run(self._ballast.place)

    async def recall(self) -> None:
        """Look up the cursors anew, for sources that begin where others have just stopped."""
        self._cursors = [c for c in await self.read(Database.cursors) if not c.finished]

    async def resize(self, max_bytes: int) -> None:
        """Change the bound; what is held above a smaller one stays."""
        self.max_bytes = max_bytes
        await self._make_room_known()

    @property
    def work(self) -> tuple[bool, object]:
        """Say whether something waits for its commit, and return what moves with every attempt, failed ones too."""
        return self._newest is not None and not self._newest.done(), self._attempts

    # ---- intake (see agent/intake.py for the guarantees) ---------------------------------------------------------------

    def cursors(self, source: str) -> Sequence[Cursor]:
        """Return the unfinished cursors of one source as they were when the spool was opened."""
        return [c for c in self._cursors if c.source == source]

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
        size = len(append.bodies) + ROW_OVERHEAD_BYTES
        only_states_loss = append.gaps == append.records > 0 or (append.small and not append.bodies)
        # Waiting for the bound means waiting for the shipper; progress without bodies costs next to nothing.
        if self._must_wait(size, bounded=not only_states_loss):
            async with self._room:
                while self._must_wait(size, bounded=not only_states_loss):
                    if self._over_bound(size) and not only_states_loss:
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
            group, size = self._take_group()
            try:
                await self._commit([append for append, _ in group])
            except TrailsealError as error:
                self._fail(error, group)
                raise
            self._pending_bytes -= size
            for _, future in group:
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

    def _take_group(self) -> tuple[list[tuple[Append, asyncio.Future[None]]], int]:
        group: list[tuple[Append, asyncio.Future[None]]] = []
        size = 0
        while self._pending and size < GROUP_BYTES:
            append, future = self._pending.popleft()
            group.append((append, future))
            size += len(append.bodies) + ROW_OVERHEAD_BYTES
            self._with_records -= bool(append.records)
        if not self._pending:
            self._hurry = False
            self._work.clear()
        return group, size

    async def _commit(self, appends: list[Append]) -> None:
        attempt = 0
        while True:
            started = time.perf_counter()
            try:
                self._attempts += 1
                added = await self.read(lambda db: self._append(db, appends))
            except SpoolFullError as error:
                # The cursors have not moved, so nothing is lost by waiting; shipping goes on and frees space.
                self._disk_full = True
                self._say_full(error.message)
                await self.read(lambda db: db.shrink(rebuild=not self.held_bytes))
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            self._disk_full = False
            self.held_bytes += added
            self.held_records += sum(a.records for a in appends)
            self.appended_bytes += sum(len(a.bodies) for a in appends)
            self._on_commit(time.perf_counter() - started, appends)
            return

    def _append(self, db: Database, appends: list[Append]) -> int:
        if not self._ballast.in_place and not self._ballast.place():
            message = f"the disk of {self._state} has less than {BALLAST_BYTES >> 20} MiB left, which are kept for sealing and shipping"
            raise SpoolFullError(message)
        return db.append(appends)

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

    # ---- sealing and shipping --------------------------------------------------------------------------------------

    async def cut(self, batch: NewBatch, head: Head, through_block: int | None) -> None:
        """Make a sealed batch durable in place of its blocks."""
        freed, added = await self._freeing(lambda db: db.cut(batch, head, through_block))
        await self._sealed(head, added - freed)

    async def open_epoch(
        self,
        batch: NewBatch,
        head: Head,
        *,
        give_up: Sequence[str] = (),
        required: Sequence[str] = (),
        first: tuple[BlockMeta, bytes] | None = None,
    ) -> None:
        """Make a new epoch durable; see Database.open_epoch. With `give_up`, `requeue` has to follow."""
        await self._freeing(lambda db: db.open_epoch(batch, head, give_up=give_up, required=required, first=first))
        epochs = await self.read(Database.epochs)
        await self._run(lambda: note_trail(self._state, head.origin, epochs))
        self.lost = None
        self.held_bytes, self.held_records = await self.read(Database.held)
        await self._sealed(head, 0)

    async def give_up(self, origins: Sequence[str], required: Sequence[str]) -> None:
        """Give up trails that are still being shipped; see Database.give_up. `requeue` has to follow."""
        await self._freeing(lambda db: db.give_up(origins, required))

    async def requeue(self) -> None:
        """Turn the batches of the trails that were given up back into blocks, one at a time; see Database.requeue_last."""
        while await self._freeing(Database.requeue_last):
            pass
        self.given_up = []
        self.held_bytes, self.held_records = await self.read(Database.held)
        self.waiting_batches = await self.read(Database.waiting)

    async def _sealed(self, head: Head, more_bytes: int) -> None:
        self.head = head
        self.held_bytes += more_bytes
        self.waiting_batches = await self.read(Database.waiting)
        await self._make_room_known()
        async with self.queued:
            self.queued.notify_all()

    async def receipt(self, queued: QueuedBatch, store: str, at: str, required: Sequence[str], optional: Sequence[str]) -> None:
        """Record a store's receipt; the batch leaves when every store that must have it has it."""
        freed = await self._freeing(lambda db: db.receipt(queued.id, queued.batch, store, at, required, optional))
        await self._left(queued, freed)

    async def settle(self, stores: Sequence[str]) -> None:
        """Let every batch go that all the configured stores have confirmed; for the start, see Database.settle."""
        await self._freeing(lambda db: db.settle(stores))
        self.held_bytes, self.held_records = await self.read(Database.held)
        self.waiting_batches = await self.read(Database.waiting)
        await self._make_room_known()

    async def release(self, queued: QueuedBatch, required: Sequence[str]) -> bool:
        """Let a batch go that only optional stores still lack; say whether it went."""
        freed = await self._freeing(lambda db: db.release(queued.id, required))
        await self._left(queued, freed)
        return freed > 0

    async def _left(self, queued: QueuedBatch, freed: int) -> None:
        if freed:
            self.held_bytes -= freed
            self.held_records -= queued.batch.records
            self.waiting_batches -= 1
            await self._make_room_known()
        async with self.queued:
            self.queued.notify_all()

    async def _freeing(self, method: Callable[[Database], T]) -> T:
        """Run a transaction that makes room; on a full disk give it the ballast's, and try until it succeeds."""
        attempt = 0
        while True:
            try:
                self.freeing_attempts += 1
                result = await self.read(lambda db: self._free(db, method))
            except SpoolFullError as error:
                self._say_full(error.message)
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            if not self._ballast.in_place:
                await self._run(self._ballast.place)
            return result

    def _free(self, db: Database, method: Callable[[Database], T]) -> T:
        """Run a transaction that makes room, on the database's thread: no append comes between it and the ballast's room."""
        try:
            return method(db)
        except SpoolFullError:
            self._ballast.drop()
            db.shrink()
            return method(db)
