"""From sealed batches to stores to receipts.

Invariants:
    - Per store, seals are created strictly in batch order, each after its data object; the seal is the commit point.
    - What is sent is what was made durable at the cut: a retry sends the same bytes under the same keys, for ever.
    - "Already there" is never taken on trust: the object is read back. The same bytes mean an earlier reply was lost;
      other bytes mean a fork, and then nothing more is written under that trail's name.
    - A store that lacks the newest seal it confirmed is not the store it was (a disk that is not mounted, a folder made
      anew): nothing is written to it until it is there again, because a receipt for a batch beside the trail is a loss.
    - A receipt is recorded only after the store's `create` returned (or the comparison held) for both objects.

It must not know how a batch was made, nor what is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from .errors import ForkError, TransientError
from .trail.layout import Origin, seal_key
from .vitals.catalogue import Outcome
from .vitals.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .spool import QueuedBatch, Spool
    from .stores import Store
    from .vitals.clock import Clock

ATTEMPT_SECONDS: Final = 60.0
"""How long one create or read may take before it is tried again."""
LONGEST_WAIT_SECONDS: Final = 30.0

log = structlog.get_logger("shipper")


class ShipperEvents(Protocol):
    """What the rest of the agent wants to know about shipping; every method returns at once."""

    def attempted(self, store: str, outcome: Outcome) -> None:
        """Note how one attempt ended."""
        ...

    def troubled(self, store: str, why: str | None) -> None:
        """Note that a store does not take objects, with its own words; None when it does again."""
        ...

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
        self._abandoned = abandoned
        self._on_fork = on_fork
        self._confirmations: dict[int, set[str]] = {}
        self._recognised: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._shipped: dict[str, tuple[str, int]] = {}
        self._recording: set[str] = set()

    async def run(self) -> None:
        """Ship for ever, one task per store."""
        await self._spool.settle((*self._required_ids, *self._optional_ids))
        async with asyncio.TaskGroup() as group:
            for store in self._required:
                group.create_task(self._run_store(store), name=f"ship-{store.id}")
            for store in self._optional:
                group.create_task(self._run_store(store), name=f"ship-{store.id}")
            if self._optional:
                group.create_task(self._let_go(), name="ship-release")

    def work(self, store: str) -> tuple[bool, object]:
        """Say whether a required store lacks the newest batch, and return what moves with every attempt, failed ones too."""
        head = self._spool.head
        waiting = head is not None and self._shipped.get(store) != (head.origin, head.batch)
        # A receipt may wait for room on the spool's disk; that is tried again and again, too.
        recording = store in self._recording or not self._attempts[store]
        return waiting, (self._attempts[store], self._shipped.get(store), self._spool.freeing_attempts if recording else 0)

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

    async def _run_store(self, store: Store) -> None:
        last = await self._spool.last_receipted(store.id)
        while True:
            queued = await self._next(last)
            try:
                shipped = await self._ship(store, queued)
            except ForkFoundError as fork:
                self._events.attempted(store.id, Outcome.CONFLICT)
                await self._on_fork(fork)
                continue
            last = queued.id
            if not shipped:
                continue
            at = rfc3339(self._clock.now())
            self._recording.add(store.id)
            await self._spool.receipt(queued, store.id, at, self._required_ids, self._optional_ids)
            self._recording.discard(store.id)
            self._shipped[store.id] = (queued.batch.origin, queued.batch.number)
            self._events.receipted(store.id, queued)
            self._confirm(store.id, queued)

    def _confirm(self, store: str, queued: QueuedBatch) -> None:
        have = self._confirmations.setdefault(queued.id, set())
        have.add(store)
        if have.issuperset(self._required_ids):
            for done in [batch_id for batch_id in self._confirmations if batch_id <= queued.id]:
                del self._confirmations[done]
            if store in self._required_ids:
                self._events.confirmed(queued)

    async def _next(self, last: int) -> QueuedBatch:
        while True:
            async with self._spool.queued:
                # Asked under the condition: a batch that is queued between the question and the wait is not missed.
                queued = await self._spool.next_batch(last)
                if queued is not None and not self._abandoned(queued.batch.origin):
                    return queued
                if queued is not None:
                    last = queued.id
                    continue
                await self._spool.queued.wait()

    async def _ship(self, store: Store, queued: QueuedBatch) -> bool:
        """Create the batch's objects; return False if its trail was given up meanwhile."""
        batch = queued.batch
        if batch.data is not None and batch.data_key is not None and not await self._place(store, queued, batch.data_key, batch.data):
            return False
        return await self._place(store, queued, batch.seal_key, batch.seal)

    async def _place(self, store: Store, queued: QueuedBatch, key: str, data: bytes) -> bool:
        trouble: list[str] = []

        def note(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            why = error.message if isinstance(error, TransientError) else f"no answer within {ATTEMPT_SECONDS:.0f} s"
            trouble.append(why)
            self._recognised.discard(store.id)
            self._events.attempted(store.id, Outcome.TRANSIENT)
            self._events.troubled(store.id, why)

        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS),
            retry=retry_if_exception_type((TransientError, TimeoutError)),
            before_sleep=note,
        )
        async for attempt in retrying:
            with attempt:
                if self._abandoned(queued.batch.origin):
                    return False
                await self._attempt(store, queued, key, data)
        if trouble:
            self._events.troubled(store.id, None)
        return True

    async def _attempt(self, store: Store, queued: QueuedBatch, key: str, data: bytes) -> None:
        self._attempts[store.id] += 1
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await self._recognise(store)
            if await store.create(key, data):
                self._events.attempted(store.id, Outcome.CREATED)
                return
            present = await store.read(key)
        if present is None:
            message = f"store {store.id} says {key} is there, and does not find it"
            raise TransientError(message)
        if present != data:
            raise ForkFoundError(store.id, queued, key, data, present)
        self._events.attempted(store.id, Outcome.PRESENT)

    async def _recognise(self, store: Store) -> None:
        """Look, at the start and after every failure, whether the store still has what it confirmed last."""
        if store.id in self._recognised:
            return
        known = await self._spool.confirmed(store.id)
        if known is not None and await store.read(seal_key(Origin.parse(known.origin), known.number)) is None:
            message = f"store {store.id} confirmed batch {known.number} of {known.origin} at {known.at} and no longer has it"
            hint = "Is its disk mounted? It is tried again by itself. A new, empty store needs an id of its own."
            raise TransientError(message, hint=hint)
        self._recognised.add(store.id)

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
