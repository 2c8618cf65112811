"""The target of a copy: objects are created if absent, and what is there already is compared.

Invariants: "already there" is never taken on trust; nothing is overwritten; what is sent again is the same bytes under the same key.
What may pass by itself is tried again with a jittered back-off, but not for ever: somebody waits for the command, and running it again
goes on where it was. What the store refuses is not tried again. It must not know in which order objects belong.
"""

from __future__ import annotations

import asyncio
import errno
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_random_exponential

from ..errors import RefusedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..stores import Store
    from ..trail.layout import Origin
    from ..vitals.standing import Standing

ATTEMPT_SECONDS: Final = 60.0
"""How long one create or read may take before it is tried again."""
PATIENCE_SECONDS: Final = 300.0
"""For how long an object is tried again."""
LONGEST_WAIT_SECONDS: Final = 30.0
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})


class Placed(Enum):
    """How an object came to be in the target."""

    CREATED = auto()
    """It was not there; in a dry run it still is not."""
    PRESENT = auto()
    """The same bytes were there."""
    CONFLICT = auto()
    """Other bytes are there."""


class Target:
    """Put objects into a store.

    Attributes:
        name: Where it is, for a person.
        dry_run: Whether nothing is written.
        newest: Returns the number of the newest seal of a trail that the target lists, -1 for none: what is probably there is read before
            it is created. In a bucket that is worth it, because a refused create has sent the whole object. In a folder it is not, and
            creating is what makes an object durable that somebody was killed over; there it is None.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        newest: Callable[[Origin], int] | None = None,
        dry_run: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
        wait: Any = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe it; nothing is connected to.

        Args:
            name: See above.
            store: Where objects are created.
            newest: See above; may block, and is called by another thread.
            dry_run: See above.
            patience_seconds: For how long an object is tried again.
            wait: How long to wait between two tries, as tenacity has it; jittered back-off by default.
            tell: Told, once for each new reason, why something is being tried again.
        """
        self.name, self.newest, self.dry_run = name, newest, dry_run
        self._store, self._patience = store, patience_seconds
        self._wait = wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS) if wait is None else wait
        self._tell, self._told = tell, ""

    @property
    def parallel(self) -> int:
        """How many batches' data may usefully be on their way at a time."""
        return self._store.parallel

    async def examine(self) -> tuple[str, ...]:
        """Find out what the store guarantees, before anything is written; return what is weaker than it should be.

        A dry run does not ask, because asking a bucket writes a probe.

        Raises:
            TransientError: It cannot be reached, or must not be written to as it is.
        """
        if self.dry_run:
            return ()
        standing: Standing = await self._patiently(self._store.examine)
        return standing.warnings

    async def place(self, key: str, data: bytes, *, likely: bool) -> Placed:
        """Create an object, or find what is there.

        Args:
            key: Its key.
            data: Its bytes.
            likely: Whether it is probably there.

        Raises:
            TransientError: It could not be done; the store's own words.
        """

        async def once() -> Placed:
            if self.dry_run or (likely and self.newest is not None):
                found = await self._store.read(key)
                if found is not None:
                    return _compared(found, data)
                if self.dry_run:
                    return Placed.CREATED
            if await self._store.create(key, data):
                return Placed.CREATED
            found = await self._store.read(key)
            if found is None:
                message = f"{self.name} says {key} is there, and does not find it"
                raise TransientError(message)
            return _compared(found, data)

        placed: Placed = await self._patiently(once)
        return placed

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async def attempt() -> Any:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    return await call()
            except TimeoutError as error:
                message = f"{self.name}: no answer within {ATTEMPT_SECONDS:.0f} s"
                raise TransientError(message) from error

        retrying = AsyncRetrying(
            stop=stop_after_delay(self._patience),
            wait=self._wait,
            retry=retry_if_exception(_may_pass),
            before_sleep=self._say,
            reraise=True,
        )
        return await retrying(attempt)

    def _say(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        message = getattr(error, "message", type(error).__name__)
        if message != self._told:
            self._told = message
            self._tell(f"{message}; trying again for up to {self._patience / 60:.0f} minutes")

    async def close(self) -> None:
        """Release what the store holds open."""
        await self._store.close()


def _compared(found: bytes, data: bytes) -> Placed:
    return Placed.PRESENT if found == data else Placed.CONFLICT


def _may_pass(error: BaseException) -> bool:
    """Tell whether trying again makes sense for somebody who waits: a refusal, and a missing right, last until somebody acts."""
    if not isinstance(error, TransientError) or isinstance(error, RefusedError):
        return False
    cause = error.__cause__
    return not (isinstance(cause, OSError) and cause.errno in _FORBIDDEN)
