"""The stores that are shipped to now, and what a fork found in one of them means.

Invariants:
    - There is one shipper at a time. Replacing it interrupts no answer to a fork, and loses nothing: what it had not
      recorded a receipt for is offered again by the next one, and "already there" is compared.
    - A receipt counts that a required store of the present configuration gave; who was required before does not matter.

It must not know how a batch is shipped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from . import assembly
from .errors import TrailsealError
from .shipper import ForkFoundError, Shipper
from .vitals.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .observer import Observer
    from .sealer import Sealer
    from .spool import Spool
    from .stores import Store
    from .vitals.clock import Clock

EVIDENCE_FOLDER: Final = "evidence"


class Shipping:
    """Run the shipper of the configured stores, until others are configured."""

    def __init__(
        self, stores: Sequence[tuple[Store, bool]], spool: Spool, sealer: Sealer, clock: Clock, observer: Observer, state: Path
    ) -> None:
        """Describe it; nothing is started.

        Args:
            stores: The stores to begin with, each with whether it is required.
            spool: Where the batches wait.
            sealer: Opens a new epoch when a fork is found.
            clock: The source of time.
            observer: Who is told.
            state: The state directory, in which the evidence of a fork is kept.
        """
        self._spool = spool
        self._sealer = sealer
        self._clock = clock
        self._observer = observer
        self._evidence = state / EVIDENCE_FOLDER
        self._forking = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._equip(stores)

    def _equip(self, stores: Sequence[tuple[Store, bool]]) -> None:
        self._stores = [store for store, _ in stores]
        self._required = [store.id for store, required in stores if required]
        self._shipper = Shipper(
            self._spool,
            [store for store, required in stores if required],
            [store for store, required in stores if not required],
            self._clock,
            self._observer,
            self._sealer.abandoned.__contains__,
            self._on_fork,
        )

    async def run(self) -> None:
        """Ship for ever."""
        async with asyncio.TaskGroup() as self._group:
            self._task = self._group.create_task(self._ship())
            await asyncio.Event().wait()

    async def _ship(self) -> None:
        await self._shipper.run()
        raise TrailsealError("the shipper ended by itself", hint="This is a defect of the agent; its state is intact. Please report it.")

    async def replace(self, stores: Sequence[tuple[Store, bool]]) -> None:
        """Ship to these stores from now on; batches that only a former one lacked leave the spool.

        Args:
            stores: Each with whether it is required; at least one is.
        """
        if self._task is None or self._group is None:
            message = "shipping has not begun"
            raise RuntimeError(message)
        async with self._forking:
            self._task.cancel()
        await asyncio.wait({self._task})
        former = self._stores
        self._equip(stores)
        self._task = self._group.create_task(self._ship())
        for store in former:
            await store.close()

    async def drained(self) -> None:
        """Wait until no batch waits for a required store."""
        await self._shipper.drained()

    async def close(self) -> None:
        """Give back what the stores hold."""
        for store in self._stores:
            await store.close()

    def work(self) -> dict[str, tuple[bool, object]]:
        """Say of each required store whether it lacks the newest batch, and what moves with every attempt."""
        return {store: self._shipper.work(store) for store in self._required}

    async def _on_fork(self, fork: ForkFoundError) -> None:
        """Keep the evidence, then go on under a new name."""
        async with self._forking:
            name = f"{rfc3339(self._clock.now()).replace(':', '')}-batch-{fork.queued.batch.number}"
            await asyncio.to_thread(assembly.keep_evidence, self._evidence, name, fork)
            self._observer.forked(fork, self._evidence / name)
            confirmed = await self._spool.confirmed(fork.store)
            await self._sealer.fork(fork.queued.batch.origin, confirmed, self._required)
