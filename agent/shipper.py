"""From sealed batches to stores to receipts.

Invariants:
    - Per store, seals are created strictly in batch order, each after its data object; the seal is the commit point. The data
      objects of a few later batches may be on their way meanwhile, where that is quicker (`Store.parallel`).
    - What is sent is what was made durable at the cut: a retry sends the same bytes under the same keys, for ever (placing.py).
    - Other bytes under one of our keys mean a fork, and then nothing more is written under that trail's name: seals that are on
      their way to other stores arrive, and have their receipts, before what nobody confirmed is given another name.
    - A receipt is recorded only after the store's `create` returned (or the comparison held) for both objects.
    - An optional store that missed batches gets them before anything newer (healing.py).

It must not know how a batch was made, nor what is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from .errors import ForkError
from .healing import Healer
from .placing import LONGEST_WAIT_SECONDS, Placer, PlacingEvents
from .vitals.catalogue import Outcome
from .vitals.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .spool import QueuedBatch, Spool
    from .stores import Store
    from .vitals.clock import Clock

AHEAD_BYTES: Final = 2 << 20
"""How many bytes of data objects may be on their way to one store, about."""

log = structlog.get_logger("shipper")


class ShipperEvents(PlacingEvents, Protocol):
    """What the rest of the agent wants to know about shipping; every method returns at once."""

    def receipted(self, store: str, queued: QueuedBatch) -> None:
        """Note a durable receipt."""
        ...

    def confirmed(self, queued: QueuedBatch) -> None:
        """Note that every required store has confirmed a batch: the only thing that counts as a heartbeat."""
        ...


class ForkFoundError(ForkError):
    """A store holds other bytes than ours under one of our keys.

    Attributes:
        queued: The batch that met them.
        key: The object's key.
        ours: Our bytes.
        theirs: The store's bytes.
    """

    def __init__(self, store: str, queued: QueuedBatch, key: str, ours: bytes, theirs: bytes) -> None:
        """Describe the meeting."""
        super().__init__(f"store {store} already holds other bytes under {key}: this trail has two histories")
        self.store, self.queued, self.key, self.ours, self.theirs = store, queued, key, ours, theirs


class Shipper:
    """Bring every batch to every store; `run` never returns."""

    def __init__(
        self,
        spool: Spool,
        required: Sequence[Store],
        optional: Sequence[Store],
        clock: Clock,
        events: ShipperEvents,
        abandoned: Callable[[str], bool],
        on_fork: Callable[[ForkFoundError], Awaitable[None]],
    ) -> None:
        """Describe a shipper.

        Args:
            spool: The opened spool.
            required: Stores that must confirm a batch before it leaves the spool; at least one.
            optional: Stores that get it too, but are not waited for when the spool is more than half full.
            clock: The source of the receipts' times.
            events: Who wants to know.
            abandoned: Says whether an origin was given up after a fork.
            on_fork: Awaited with what was found; it must make the origin abandoned.
        """
        self._spool = spool
        self._required = tuple(required)
        self._optional = tuple(optional)
        self._required_ids = tuple(s.id for s in required)
        self._optional_ids = tuple(s.id for s in optional)
        self._clock = clock
        self._events = events
        self._given_up = abandoned
        self._giving_up: set[str] = set()
        self._on_fork = on_fork
        self._confirmations: dict[int, set[str]] = {}
        self._placers = {store.id: Placer(store, spool, events, self._abandoned) for store in (*required, *optional)}
        self._shipped: dict[str, tuple[str, int]] = {}
        self._recording: set[str] = set()

    async def run(self) -> None:
        """Ship for ever, one task per store."""
        await self._spool.settle((*self._required_ids, *self._optional_ids))
        async with asyncio.TaskGroup() as group:
            for placer in self._placers.values():
                others = [store for store in self._required if store is not placer.store]
                healer = Healer(placer, others, self._spool, self._moment, self._abandoned, fresh=placer.store in self._optional)
                group.create_task(self._run_store(placer, healer), name=f"ship-{placer.store.id}")
            if self._optional:
                group.create_task(self._let_go(), name="ship-release")

    def _abandoned(self, origin: str) -> bool:
        return origin in self._giving_up or self._given_up(origin)

    def _moment(self) -> str:
        return rfc3339(self._clock.now())

    def work(self, store: str) -> tuple[bool, object]:
        """Say whether a required store lacks the newest batch, and return what moves with every attempt, failed ones too."""
        head = self._spool.head
        waiting = head is not None and self._shipped.get(store) != (head.origin, head.batch)
        # A receipt may wait for room on the spool's disk; that is tried again and again, too.
        attempts = self._placers[store].attempts
        recording = store in self._recording or not attempts
        return waiting, (attempts, self._shipped.get(store), self._spool.freeing_attempts if recording else 0)

    async def drained(self) -> None:
        """Wait until no batch waits for a required store."""
        while await self._lacking_required():
            async with self._spool.queued:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._spool.queued.wait()

    async def _lacking_required(self) -> bool:
        head = self._spool.head
        if head is None:
            return False
        for store in self._required_ids:
            confirmed = await self._spool.confirmed(store)
            if confirmed is None or (confirmed.origin, confirmed.number) != (head.origin, head.batch):
                return True
        return False

    async def _run_store(self, placer: Placer, healer: Healer) -> None:
        window = _Window(placer.store.parallel)
        last = await self._spool.last_receipted(placer.store.id)
        try:
            while True:
                queued = await self._fill(window, last, placer)
                try:
                    await healer.fill_before(queued)
                    if await window.first_data():
                        seal = queued.batch
                        await self._place(placer, queued, seal.seal_key, seal.seal, partial(self._record, placer, queued, healer))
                except ForkFoundError as fork:
                    self._events.attempted(placer.store.id, Outcome.CONFLICT)
                    await window.clear()
                    await self._fork(fork)
                    continue
                last = queued.id
                window.drop_first()
        finally:
            await window.clear()

    async def _fork(self, fork: ForkFoundError) -> None:
        """Let every store come to a point where nothing of the trail is on its way to it, then have the trail given up."""
        self._giving_up.add(fork.queued.batch.origin)
        async with contextlib.AsyncExitStack() as gates:
            for store in sorted(self._placers):
                await gates.enter_async_context(self._placers[store].gate)
            await self._on_fork(fork)

    async def _record(self, placer: Placer, queued: QueuedBatch, healer: Healer) -> None:
        store, at = placer.store.id, self._moment()
        self._recording.add(store)
        await self._spool.receipt(queued, store, at, self._required_ids, self._optional_ids)
        await healer.arrived(queued, at)
        self._recording.discard(store)
        self._shipped[store] = (queued.batch.origin, queued.batch.number)
        self._events.receipted(store, queued)
        self._confirm(store, queued)

    def _confirm(self, store: str, queued: QueuedBatch) -> None:
        have = self._confirmations.setdefault(queued.id, set())
        have.add(store)
        if have.issuperset(self._required_ids):
            for done in [batch_id for batch_id in self._confirmations if batch_id <= queued.id]:
                del self._confirmations[done]
            if store in self._required_ids:
                self._events.confirmed(queued)

    async def _fill(self, window: _Window, last: int, placer: Placer) -> QueuedBatch:
        """Put the data of the next batches on its way, as far as there is room; return the first batch, once there is one."""
        while True:
            async with self._spool.queued:
                # Asked under the condition: a batch that is queued between the question and the wait is not missed.
                while window.has_room:
                    queued = await self._next(window.newest or last)
                    if queued is None:
                        break
                    window.add(queued, asyncio.create_task(self._place_data(placer, queued)))
                if window.first is not None:
                    return window.first
                await self._spool.queued.wait()

    async def _next(self, last: int) -> QueuedBatch | None:
        """Return the next batch whose trail was not given up, or None."""
        while (queued := await self._spool.next_batch(last)) is not None and self._abandoned(queued.batch.origin):
            last = queued.id
        return queued

    async def _place_data(self, placer: Placer, queued: QueuedBatch) -> bool:
        """Create a batch's data object, if it has one; return False if its trail was given up meanwhile."""
        batch = queued.batch
        return batch.data is None or batch.data_key is None or await self._place(placer, queued, batch.data_key, batch.data)

    async def _place(
        self, placer: Placer, queued: QueuedBatch, key: str, data: bytes, then: Callable[[], Awaitable[None]] | None = None
    ) -> bool:
        def conflict(theirs: bytes) -> ForkFoundError:
            return ForkFoundError(placer.store.id, queued, key, data, theirs)

        return await placer.place(queued.batch.origin, key, data, conflict, then)

    async def _let_go(self) -> None:
        """Let batches go that only optional stores lack, once they fill half of the spool; healing copies them later."""
        said = 0.0
        while True:
            async with self._spool.queued:
                await self._spool.queued.wait()
            while self._spool.held_bytes > self._spool.max_bytes // 2:
                queued = await self._spool.next_batch(0)
                if queued is None or not await self._spool.release(queued, self._required_ids):
                    break
                if time.monotonic() - said > LONGEST_WAIT_SECONDS:
                    said = time.monotonic()
                    batch = queued.batch
                    log.warning("an optional store is behind; batches leave without it", origin=batch.origin, batch=batch.number)


class _OnItsWay(NamedTuple):
    queued: QueuedBatch
    data: asyncio.Task[bool]


class _Window:
    """Hold the batches whose data is on its way to one store, in their order; the first one's seal comes next."""

    def __init__(self, most: int) -> None:
        """Hold so many batches at most."""
        self._most = most
        self._held: deque[_OnItsWay] = deque()

    @property
    def has_room(self) -> bool:
        """Whether one more may be put on its way."""
        return len(self._held) < self._most and sum(len(each.queued.batch.data or b"") for each in self._held) < AHEAD_BYTES

    @property
    def newest(self) -> int:
        """The id of the newest one, 0 without one."""
        return self._held[-1].queued.id if self._held else 0

    @property
    def first(self) -> QueuedBatch | None:
        """The oldest one, or None."""
        return self._held[0].queued if self._held else None

    def add(self, queued: QueuedBatch, data: asyncio.Task[bool]) -> None:
        """Hold one more."""
        self._held.append(_OnItsWay(queued, data))

    async def first_data(self) -> bool:
        """Wait until the first one's data is in the store; return False if its trail was given up meanwhile."""
        return await self._held[0].data

    def drop_first(self) -> None:
        """Let the first one go."""
        self._held.popleft()

    async def clear(self) -> None:
        """Let all of them go, and end what is on its way."""
        tasks = [each.data for each in self._held]
        self._held.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
