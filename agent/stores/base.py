"""The contract every store fulfils; tests/contract runs the same suite over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..vitals.standing import Standing


class Store(Protocol):
    """Create objects once, durably, and read them back.

    Guarantees:
        Exclusiveness: of any number of concurrent `create` calls for one key, at most one creates; the bytes of an
            object never change afterwards. A store whose standing is not `exclusive` keeps this for one writer only.
        Atomicity: no reader ever sees a part of an object, whatever happens to the writer or the store's host.
        Durability: `create` returning (True or False) means the object under the key survives a power cut.
        Cancellation: a cancelled `create` has created the whole object, or nothing that `read` would return.
        Errors: TransientError for everything that may pass (the caller retries the same bytes for ever); RefusedError, one of
            them, where the store answered and forbids it.
    """

    @property
    def id(self) -> str:
        """Return the store's id from the configuration."""
        ...

    @property
    def parallel(self) -> int:
        """Return how many batches' data may usefully be on their way to the store at a time; 1 or more."""
        ...

    async def examine(self) -> Standing:
        """Find out what the store guarantees; asked for before the first `create`, after failures, and from time to time.

        Raises:
            TransientError: It cannot be reached, or must not be written to as it is.
        """
        ...

    async def create(self, key: str, data: bytes) -> bool:
        """Create an object if there is none under the key.

        Args:
            key: Relative, `/`-separated, as agent.trail.layout makes them.
            data: The object's bytes.

        Returns:
            True if this call created it; False if there was one already, with whatever content.

        Raises:
            TransientError: It could not be done now.
        """
        ...

    async def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if there is none.

        Raises:
            TransientError: It could not be read now.
        """
        ...

    async def close(self) -> None:
        """Release what the store holds open."""
        ...
