"""The asynchronous side of the spool: its life, and what the sealer and the shipper do with it.

Invariants:
    - Transactions happen in the order in which they were asked for (thread.py).
    - Sealing and receipts free space and are never refused, whatever the bound says. When the disk itself is full a ballast
      file gives its room back to these two, and to nobody else.

What is accepted, and who waits for room, is commits.py's half.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from ..errors import SpoolFullError
from .aside import note_trail
from .commits import RESERVE, RETRY_SECONDS, Commits
from .database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..intake import Append, Cursor, SealListeners
    from .rows import BlockMeta, Confirmed, Head, NewBatch, QueuedBatch, StateLoss

T = TypeVar("T")


class Spool(Commits):
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
        super().__init__(state, max_bytes, on_commit, on_full)
        self._cursors: list[Cursor] = []
        self.queued = asyncio.Condition()
        """Notified after each cut and each receipt."""
        self.waiting_batches = 0
        self.freeing_attempts = 0
        """How often a cut or a receipt was tried; only ever grows."""
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
        with contextlib.suppress(SpoolFullError):  # Upkeep, which the next start can do; a full disk must not prevent this one.
            await self.read(Database.forget_finished)
        await self.recall()
        self.waiting_batches = await self.read(Database.waiting)
        await self._run(self._ballast.place)

    async def recall(self) -> None:
        """Look up the cursors anew, for sources that begin where others have just stopped."""
        self._cursors = await self.read(Database.cursors)

    async def resize(self, max_bytes: int) -> None:
        """Change the bound; what is held above a smaller one stays."""
        self.max_bytes = max_bytes
        await self._make_room_known()

    def cursors(self, source: str) -> Sequence[Cursor]:
        """Return the unfinished cursors of one source as they were when the spool was opened, or last asked to look again."""
        return [c for c in self._cursors if c.source == source and not c.finished]

    def finished(self, source: str) -> Sequence[Cursor]:
        """Return the finished cursors of one source that are still remembered, as of the same moment."""
        return [c for c in self._cursors if c.source == source and c.finished]

    @property
    def is_crowded(self) -> bool:
        """Say whether batches wait for stores and have left so little room that a seal without records must not take more.

        Such a seal says that the agent lives, which nobody can read before the stores are back. One a minute through a long
        outage would fill the room that is kept for gap records and for the batch being cut, and go on behind the bound.
        """
        return self.waiting_batches > 0 and self.held_bytes > self.max_bytes - self.max_bytes // (2 * RESERVE)

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

    async def note_confirmed(self, store: str, confirmed: Confirmed) -> None:
        """Write down the newest batch that a store has, where it did not get it from this spool."""
        await self._freeing(lambda db: db.note_confirmed(store, confirmed))

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
