"""A store in memory: the twin of the real ones, for tests of what uses a store."""

from __future__ import annotations

from ..vitals.standing import PLAIN, Standing


class MemoryStore:
    """Keep objects in a dictionary; fulfils `agent.stores.base.Store` but for durability."""

    def __init__(self, store_id: str = "memory") -> None:
        """Begin empty."""
        self._id = store_id
        self.objects: dict[str, bytes] = {}

    @property
    def id(self) -> str:
        """Return the store's id."""
        return self._id

    @property
    def parallel(self) -> int:
        """Return 1."""
        return 1

    async def examine(self) -> Standing:
        """Return that it creates exclusively, by itself, and has no lock."""
        return PLAIN

    async def create(self, key: str, data: bytes) -> bool:
        """Create an object if there is none under the key; see Store.create."""
        if key in self.objects:
            return False
        self.objects[key] = data
        return True

    async def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None; see Store.read."""
        return self.objects.get(key)

    async def close(self) -> None:
        """Do nothing."""
