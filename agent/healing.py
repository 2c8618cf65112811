"""What an optional store missed while it was away, copied from a store that has it.

Batches leave the spool without an optional store once it is half full, so such a store comes back to a hole in the trail. The hole is
filled before anything newer is shipped there, seal by seal in their order: each data object before its seal, as everywhere. A store
that has nothing yet gets the trail from its beginning, earlier epochs included, as far as the other store has them.

Invariants: what is copied is what its seal says it is, byte for byte, or it is not copied; "already there" is compared, so being
killed at any point costs only time. The other store is only read. Nothing here judges a trail: the verifier does.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from .errors import FormatError, IntegrityError, RefusedError, TransientError
from .placing import LONGEST_WAIT_SECONDS
from .spool import Confirmed
from .trail.layout import Origin, seal_key
from .trail.manifest import Continues
from .trail.seal import parse_seal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .placing import Placer
    from .spool import QueuedBatch, Spool
    from .stores import Store
    from .trail.manifest import Manifest
    from .trail.seal import Seal

MAX_EPOCHS: Final = 10_000
"""How far back earlier epochs are looked for; each costs a read."""
NOTED_EVERY: Final = 64
"""After how many batches the way so far is made durable."""

log = structlog.get_logger("healing")


class _Leg(NamedTuple):
    """A stretch of one trail: from a batch on, until the tree has this size (None: until the batch that is shipped next)."""

    origin: str
    first: int
    size: int | None


class Healer:
    """Fill the holes of one store."""

    def __init__(
        self, placer: Placer, others: Sequence[Store], spool: Spool, moment: Callable[[], str], abandoned: Callable[[str], bool]
    ) -> None:
        """Describe it.

        Args:
            placer: Writes to the store that is healed.
            others: Where missing batches are read; the required stores.
            spool: Remembers how far the store has come.
            moment: Returns the time, RFC 3339.
            abandoned: Says whether an origin was given up after a fork.
        """
        self._placer = placer
        self._others = tuple(others)
        self._spool = spool
        self._moment = moment
        self._abandoned = abandoned
        self._unnoted = 0
        self._reached: Confirmed | None = None

    async def fill_before(self, queued: QueuedBatch) -> None:
        """Copy every batch between the store's newest one and this one; returns when there is no hole, or the trail was given up.

        Whatever is not to be had is tried again for ever, and logged: shipping on would leave the hole.
        """
        batch = queued.batch
        self._reached = self._reached or await self._spool.confirmed(self._placer.store.id)
        if self._reached is not None and self._reached.origin == batch.origin and self._reached.number >= batch.number - 1:
            return
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS),
            retry=retry_if_exception_type((TransientError, IntegrityError, TimeoutError)),
            before_sleep=self._note,
        )
        async for attempt in retrying:
            with attempt:
                await self._fill(queued)

    async def arrived(self, queued: QueuedBatch, at: str) -> None:
        """Note that the store has a batch; its receipt says nothing where the batch left the spool meanwhile."""
        batch = queued.batch
        self._reached = Confirmed(
            origin=batch.origin, number=batch.number, size=batch.size, root=batch.root, sealed_at=batch.sealed_at, at=at
        )
        await self._come_further()

    async def _come_further(self) -> None:
        self._unnoted += 1
        if self._unnoted >= NOTED_EVERY and self._reached is not None:
            self._unnoted = 0
            await self._spool.note_confirmed(self._placer.store.id, self._reached)

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        why = getattr(error, "message", "") or f"{type(error).__name__}"
        log.warning("an optional store has a hole that cannot be filled now; retrying", store=self._placer.store.id, why=why)

    async def _fill(self, queued: QueuedBatch) -> None:
        copied, store = 0, self._placer.store.id
        async for seal in self._missing(await self._legs(queued), queued.batch.number):
            if self._abandoned(queued.batch.origin):
                return
            if not copied:
                first = f"batch {seal.manifest.batch} of {seal.checkpoint().origin}"
                log.info("filling a hole of an optional store", store=store, first=first)
            await self._copy(seal)
            await self._come_further()
            copied += 1
        if copied:
            log.info("a hole of an optional store is filled", store=store, batches=copied)

    async def _legs(self, queued: QueuedBatch) -> list[_Leg]:
        """Find the way from the newest batch of the store to a trail, along what each epoch says it continues."""
        reached, origin = self._reached, queued.batch.origin
        if reached is not None and reached.origin == origin:
            return [_Leg(origin, reached.number + 1, None)]
        legs = [_Leg(origin, 0, None)]
        # A trail that just began says itself what it continues, even while no other store can be read.
        first = parse_seal(queued.batch.seal) if not queued.batch.number else await self._read_seal(origin, 0)
        for _ in range(MAX_EPOCHS):
            before = first.manifest.continues if first is not None else None
            if not isinstance(before, Continues) or not before.size:
                break
            if reached is not None and before.origin == reached.origin:
                if reached.size < before.size:
                    legs.insert(0, _Leg(before.origin, reached.number + 1, before.size))
                break
            first = await self._read_seal(before.origin, 0)
            if first is None:
                # It expired there, or was never there: what is left of the trail is what there is to copy.
                break
            legs.insert(0, _Leg(before.origin, 0, before.size))
        return legs

    async def _missing(self, legs: list[_Leg], number: int) -> AsyncIterator[Seal]:
        for leg in legs:
            batch = leg.first
            while leg.size is not None or batch < number:
                seal = await self._read_seal(leg.origin, batch)
                if seal is None:
                    message = f"no required store has batch {batch} of {leg.origin}"
                    raise TransientError(message)
                yield seal
                if leg.size is not None and seal.manifest.seq + 1 >= leg.size:
                    break
                batch += 1

    async def _read_seal(self, origin: str, batch: int) -> Seal | None:
        key = seal_key(Origin.parse(origin), batch)
        raw = await self._read(key)
        if raw is None:
            return None
        seal = parse_seal(raw)
        if seal.manifest.batch != batch or seal.checkpoint().origin != origin:
            raise FormatError(f"{key} is the seal of batch {seal.manifest.batch} of {seal.checkpoint().origin}")
        return seal

    async def _read(self, key: str) -> bytes | None:
        """Return an object from the first of the other stores that has it."""
        failure: TransientError | None = None
        for store in self._others:
            try:
                found = await store.read(key)
            except RefusedError as error:
                # Who may not list is told "forbidden" of what is not there.
                failure = failure or error
                continue
            if found is not None:
                return found
        if failure is not None:
            raise failure
        return None

    async def _copy(self, seal: Seal) -> None:
        origin, manifest = seal.checkpoint().origin, seal.manifest
        if manifest.data is not None:
            await self._place(manifest.data.key, await self._read_data(manifest))
        await self._place(seal_key(Origin.parse(origin), manifest.batch), seal.raw)
        self._reached = self._confirmed(seal)

    async def _read_data(self, manifest: Manifest) -> bytes:
        data = manifest.data
        if data is None:
            return b""
        raw = await self._read(data.key)
        if raw is None:
            message = f"no required store has {data.key}"
            raise TransientError(message)
        if len(raw) != data.bytes or await asyncio.to_thread(lambda: sha256(raw).hexdigest()) != data.sha256:
            raise IntegrityError(f"{data.key} in a required store is not what its seal says; it is not copied")
        return raw

    async def _place(self, key: str, data: bytes) -> None:
        store = self._placer.store.id

        def conflict(_theirs: bytes) -> Exception:
            hint = "Compare the stores with `trailseal verify`; one of them was tampered with, or has two writers."
            return RefusedError(f"store {store} holds other bytes under {key} than a required store", hint=hint)

        await self._placer.place(None, key, data, conflict)

    def _confirmed(self, seal: Seal) -> Confirmed:
        checkpoint, manifest = seal.checkpoint(), seal.manifest
        return Confirmed(
            origin=checkpoint.origin,
            number=manifest.batch,
            size=checkpoint.size,
            root=checkpoint.root,
            sealed_at=manifest.sealed_at,
            at=self._moment(),
        )
