"""What a store missed, copied from a store that has it.

Batches leave the spool without an optional store once it is half full, so such a store comes back to a hole in the trail. The hole is
filled before anything newer is shipped there, seal by seal in their order: each data object before its seal, as everywhere. An optional
store that has nothing yet gets the trail from its beginning, earlier epochs included, as far as the others have them. A store that was
optional and is required now is healed in the same way.

Invariants:
    - What is copied is what its seal says it is, and the seal is the one that its successor names; else nothing is copied: under a
      lock a forged seal would stay where the true one belongs.
    - "Already there" is compared, so being killed at any point costs only time.
    - A batch is taken for gone only if every other store is the store it was and does not have it. Then it is logged, and shipping
      goes on; whatever may pass is tried again for ever, and told as a trouble of the store.
    - The other stores are only read. Nothing here judges a trail beyond its chain: the verifier does.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from .errors import DamagedStateError, FormatError, IntegrityError, RefusedError, TransientError
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
    """A stretch of one trail: from a batch on, until what the next epoch says it continues (None: until the batch shipped next)."""

    origin: str
    first: int
    end: Continues | None


class Healer:
    """Fill the holes of one store."""

    def __init__(
        self,
        placer: Placer,
        others: Sequence[Store],
        spool: Spool,
        moment: Callable[[], str],
        abandoned: Callable[[str], bool],
        *,
        fresh: bool = True,
    ) -> None:
        """Describe a healer.

        Args:
            placer: Writes to the store that is healed.
            others: Where missing batches are read: the other required stores.
            spool: Remembers how far the store has come.
            moment: Returns the time, RFC 3339.
            abandoned: Says whether an origin was given up after a fork.
            fresh: Whether a store that has nothing yet gets everything; a required one would keep the spool waiting for it.
        """
        self._placer = placer
        self._others = tuple(others)
        self._spool = spool
        self._moment = moment
        self._abandoned = abandoned
        self._fresh = fresh
        self._reached: Confirmed | None = None
        self._unnoted = 0

    async def fill_before(self, queued: QueuedBatch) -> None:
        """Copy every batch between the store's newest one and this one; returns when there is no hole, or the trail was given up.

        Raises:
            DamagedStateError: The spool is not what was written to it.
        """
        batch = queued.batch
        self._reached = self._reached or await self._spool.confirmed(self._placer.store.id)
        if self._reached is None and not self._fresh:
            return
        if self._reached is not None and self._reached.origin == batch.origin and self._reached.number >= batch.number - 1:
            return
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS),
            retry=retry_if_exception(_may_pass),
            before_sleep=self._note,
        )
        troubled = False
        async for attempt in retrying:
            with attempt:
                troubled = troubled or attempt.retry_state.attempt_number > 1
                if not self._abandoned(batch.origin):
                    await self._fill(queued)
        if troubled:
            self._placer.events.troubled(self._placer.store.id, None)

    async def arrived(self, queued: QueuedBatch, at: str) -> None:
        """Note that the store has a batch; its receipt says nothing where the batch left the spool meanwhile."""
        batch = queued.batch
        self._reached = Confirmed(
            origin=batch.origin, number=batch.number, size=batch.size, root=batch.root, sealed_at=batch.sealed_at, at=at
        )
        if self._fresh:
            await self._come_further()

    async def _come_further(self) -> None:
        self._unnoted += 1
        if self._unnoted >= NOTED_EVERY and self._reached is not None:
            self._unnoted = 0
            await self._spool.note_confirmed(self._placer.store.id, self._reached)

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        why = getattr(error, "message", "") or "another store does not answer in time"
        hint = getattr(error, "hint", "")
        self._placer.events.troubled(self._placer.store.id, f"it lacks batches, which cannot be copied now: {why}", hint)

    async def _fill(self, queued: QueuedBatch) -> None:
        copied, store = 0, self._placer.store.id
        async for seal in self._vouched(queued):
            if self._abandoned(queued.batch.origin):
                return
            if not copied:
                first = f"batch {seal.manifest.batch} of {seal.checkpoint().origin}"
                log.info("filling a hole of a store", store=store, first=first)
            await self._copy(seal)
            await self._come_further()
            copied += 1
        if copied:
            log.info("a hole of a store is filled", store=store, batches=copied)

    async def _vouched(self, queued: QueuedBatch) -> AsyncIterator[Seal]:
        """Yield the missing seals in order, each once its successor, or the epoch that continues it, has named it."""
        last = parse_seal(queued.batch.seal)
        for leg in await self._legs(queued):
            held: Seal | None = None
            async for seal in self._missing(leg, queued.batch.number):
                if held is not None:
                    _check_follows(held, seal)
                    yield held
                held = seal
            if held is not None and _is_named(held, leg, last):
                yield held

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
                    legs.insert(0, _Leg(before.origin, reached.number + 1, before))
                return legs
            first = await self._read_seal(before.origin, 0)
            if first is not None:
                legs.insert(0, _Leg(before.origin, 0, before))
        if reached is not None:
            log.warning(
                "no way leads from a store's newest batch to the trail", store=self._placer.store.id, from_=reached.origin, to=origin
            )
        return legs

    async def _missing(self, leg: _Leg, number: int) -> AsyncIterator[Seal]:
        batch = leg.first
        while leg.end is not None or batch < number:
            seal = await self._read_seal(leg.origin, batch)
            if seal is None:
                log.warning("no other store has a batch that this one lacks", store=self._placer.store.id, origin=leg.origin, batch=batch)
                return
            yield seal
            if leg.end is not None and seal.manifest.seq + 1 >= leg.end.size:
                return
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
        """Return an object from the first of the other stores that has it; None if all of them answer for themselves and none has it."""
        unsure: TransientError | None = None
        # Whoever watches for progress sees that something is tried.
        self._placer.attempts += 1
        for store in self._others:
            try:
                found = await self._ask(store, key)
            except TransientError as error:
                unsure = error
                continue
            if found is not None:
                return found
        if unsure is not None:
            raise unsure
        return None

    async def _ask(self, store: Store, key: str) -> bytes | None:
        """Return an object from one store; None only if that is the store it was, both before and after it was found absent.

        Raises:
            TransientError: Nobody can know just now.
        """
        found: bytes | None = None
        for _ in range(2):
            refused: RefusedError | None = None
            try:
                found = await store.read(key)
            except RefusedError as error:
                # Who may not list is told "forbidden" of what is not there.
                refused = error
            if found is not None:
                break
            if not await self._is_itself(store):
                if refused is not None:
                    raise refused
                raise TransientError(f"store {store.id} does not have what it confirmed; is its disk mounted?")
        return found

    async def _is_itself(self, store: Store) -> bool:
        """Tell whether a store has the newest seal it confirmed, so that what it does not have is not there."""
        known = await self._spool.confirmed(store.id)
        return known is None or await store.read(seal_key(Origin.parse(known.origin), known.number)) is not None

    async def _copy(self, seal: Seal) -> None:
        origin, manifest = seal.checkpoint().origin, seal.manifest
        if manifest.data is not None:
            await self._place(manifest.data.key, await self._read_data(manifest))
        await self._place(seal_key(Origin.parse(origin), manifest.batch), seal.raw)
        checkpoint = seal.checkpoint()
        self._reached = Confirmed(
            origin=origin,
            number=manifest.batch,
            size=checkpoint.size,
            root=checkpoint.root,
            sealed_at=manifest.sealed_at,
            at=self._moment(),
        )

    async def _read_data(self, manifest: Manifest) -> bytes:
        data = manifest.data
        if data is None:
            return b""
        raw = await self._read(data.key)
        if raw is None:
            message = f"no other store has {data.key}"
            raise TransientError(message)
        if len(raw) != data.bytes or await asyncio.to_thread(lambda: sha256(raw).hexdigest()) != data.sha256:
            raise IntegrityError(f"{data.key} in another store is not what its seal says; it is not copied")
        return raw

    async def _place(self, key: str, data: bytes) -> None:
        store = self._placer.store.id

        def conflict(_theirs: bytes) -> Exception:
            hint = "Compare the stores with `trailseal verify`; one of them was tampered with, or has two writers."
            return RefusedError(f"store {store} holds other bytes under {key} than another store", hint=hint)

        await self._placer.place(None, key, data, conflict)


def _may_pass(error: BaseException) -> bool:
    """Tell what is tried again: all but damage to our own state, which the next start has to look at."""
    return isinstance(error, TransientError | IntegrityError | TimeoutError) and not isinstance(error, DamagedStateError)


def _check_follows(before: Seal, after: Seal) -> None:
    """Refuse a seal that its successor does not name (IntegrityError)."""
    if after.manifest.previous != before.sha256:
        key = f"batch {before.manifest.batch} of {before.checkpoint().origin}"
        raise IntegrityError(f"{key} in another store is not the one that the next seal names; it is not copied")


def _is_named(held: Seal, leg: _Leg, queued: Seal) -> bool:
    """Tell whether what comes after a stretch names its last seal; False where batches are missing between them.

    Raises:
        IntegrityError: It names another one.
    """
    checkpoint = held.checkpoint()
    if leg.end is None:
        if held.manifest.batch != queued.manifest.batch - 1:
            return False
        _check_follows(held, queued)
    elif checkpoint.size != leg.end.size:
        return False
    elif checkpoint.root.hex() != leg.end.root:
        raise IntegrityError(f"{leg.origin} in another store is not the trail that the next epoch continues; it is not copied")
    return True
