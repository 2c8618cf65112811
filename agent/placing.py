"""One object into one store, for ever if need be.

Invariants:
    - "Already there" is never taken on trust: the object is read back. The same bytes mean an earlier reply was lost; other bytes
      are a conflict, and what that means is the caller's to say.
    - What is sent again is the same bytes under the same key.
    - Nothing is written to a store that was not examined, nor to one that lacks the newest seal it confirmed: that is not the store
      it was (a disk that is not mounted, a bucket made anew), and a receipt for a batch beside the trail is a loss.
    - An object that must not be there without its receipt (a seal) passes a gate: between asking whether its trail was given up and
      the receipt, nobody gives it up (`Placer.gate`).
    - Several objects may be on their way at a time. While one is in trouble they go one by one: what is slow is not made slower.
      The store counts as troubled until none of them is.

It must not know what an object is, nor in which order they belong.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from .errors import RefusedError, TransientError
from .trail.layout import Origin, seal_key
from .vitals.catalogue import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .spool import Confirmed, Spool
    from .stores import Store
    from .vitals.standing import Standing

ATTEMPT_SECONDS: Final = 100.0
"""How long one create with what it takes, or one examination, may take before it is tried again."""
LONGEST_WAIT_SECONDS: Final = 30.0
EXAMINE_SECONDS: Final = 3600.0
"""How often a store that works is examined again."""


class PlacingEvents(Protocol):
    """What the rest of the agent wants to know about a store at work; every method returns at once."""

    def attempted(self, store: str, outcome: Outcome) -> None:
        """Note how one attempt ended."""
        ...

    def troubled(self, store: str, why: str | None, hint: str = "") -> None:
        """Note that a store does not take objects, with its own words; None when it does again."""
        ...

    def rested(self, store: str) -> None:
        """Note that nothing is tried any more, so that an earlier trouble says nothing."""
        ...

    def examined(self, store: str, standing: Standing) -> None:
        """Note what a store was found to guarantee."""
        ...


class Placer:
    """Create objects in one store."""

    def __init__(self, store: Store, spool: Spool, events: PlacingEvents, abandoned: Callable[[str], bool]) -> None:
        """Describe it.

        Args:
            store: The store.
            spool: Knows what the store confirmed last.
            events: Who wants to know.
            abandoned: Says whether an origin was given up after a fork.
        """
        self.store = store
        self.attempts = 0
        """Moves with every step of every attempt; only ever grows."""
        self._spool = spool
        self.events = events
        self._abandoned = abandoned
        self.gate = asyncio.Lock()
        """Held while an object that passes the gate is tried and its receipt recorded; whoever gives up a trail holds it meanwhile."""
        self._recognised_until = 0.0
        self._recognising = asyncio.Lock()
        self._one_by_one = asyncio.Lock()
        self._in_trouble: set[str] = set()

    async def place(
        self,
        origin: str | None,
        key: str,
        data: bytes,
        conflict: Callable[[bytes], Exception],
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        """Create an object, or find that the same one is there.

        Args:
            origin: The trail it belongs to, if nothing more is to be tried once that is given up; else None.
            key: Its key.
            data: Its bytes.
            conflict: Returns what is raised when the store holds these other bytes under the key; a TransientError is tried again.
            then: Awaited when it is there. With it, the object passes the gate.

        Returns:
            False if the trail was given up before the object was there.
        """

        def note(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            told = error if isinstance(error, TransientError) else TransientError(f"no answer within {ATTEMPT_SECONDS:.0f} s")
            self._in_trouble.add(key)
            self._recognised_until = 0.0
            self.events.attempted(self.store.id, Outcome.REFUSED if isinstance(told, RefusedError) else Outcome.TRANSIENT)
            self.events.troubled(self.store.id, told.message, told.hint)

        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS),
            retry=retry_if_exception_type((TransientError, TimeoutError)),
            before_sleep=note,
        )
        there = False
        try:
            async for attempt in retrying:
                with attempt:
                    async with self._one_by_one if self._in_trouble else contextlib.nullcontext():
                        self.attempts += 1
                        await self._recognise()
                        self.attempts += 1
                        async with self.gate if then is not None else contextlib.nullcontext():
                            there = await self._try(origin, key, data, conflict)
                            if there and then is not None:
                                await then()
        finally:
            self._leave(key, there=there)
        return there

    def _leave(self, key: str, *, there: bool) -> None:
        if key in self._in_trouble:
            self._in_trouble.discard(key)
            if not self._in_trouble and there:
                self.events.troubled(self.store.id, None)
            elif not self._in_trouble:
                self.events.rested(self.store.id)

    async def _try(self, origin: str | None, key: str, data: bytes, conflict: Callable[[bytes], Exception]) -> bool:
        # Asked at the last moment: what is created under a name that was given up is there twice.
        if origin is not None and self._abandoned(origin):
            return False
        async with asyncio.timeout(ATTEMPT_SECONDS):
            if await self.store.create(key, data):
                self.events.attempted(self.store.id, Outcome.CREATED)
                return True
            present = await self.store.read(key)
        if present is None:
            message = f"store {self.store.id} says {key} is there, and does not find it"
            raise TransientError(message)
        if present != data:
            raise conflict(present)
        self.events.attempted(self.store.id, Outcome.PRESENT)
        return True

    async def _recognise(self) -> None:
        """Look, at the start, after every failure and from time to time, whether this is the store it was, and how it stands."""
        async with self._recognising:
            now = asyncio.get_running_loop().time()
            if now < self._recognised_until:
                return
            async with asyncio.timeout(ATTEMPT_SECONDS):
                self.events.examined(self.store.id, await self.store.examine())
                known = await self._spool.confirmed(self.store.id)
                if known is not None:
                    await self._check_is_there(known)
            self._recognised_until = now + EXAMINE_SECONDS

    async def _check_is_there(self, known: Confirmed) -> None:
        if await self.store.read(seal_key(Origin.parse(known.origin), known.number)) is None:
            message = f"store {self.store.id} confirmed batch {known.number} of {known.origin} at {known.at} and no longer has it"
            hint = "Is its disk mounted? It is tried again by itself. A new, empty store needs an id of its own."
            raise TransientError(message, hint=hint)
