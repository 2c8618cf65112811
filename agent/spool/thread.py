"""The thread that owns the database, and the questions that only read.

Invariants: one worker thread makes every call, in the order in which they were asked for; what it finds damaged is noted for the
next start before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..errors import DamagedStateError, DurabilityError
from ..vitals.clock import rfc3339
from .aside import clean_up, note_trail, suspect
from .connection import DATABASE_FILE, refusal, translated
from .database import Database
from .salvage import finish, salvage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .rows import Block, Confirmed, QueuedBatch

T = TypeVar("T")


class DatabaseThread:
    """Own one database from `open_database` to `close`."""

    def __init__(self, state: Path) -> None:
        """Name the state directory, whose lock the caller holds; nothing is opened yet."""
        self._state = state
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._db: Database | None = None

    async def open_database(self) -> None:
        """Open the database; a damaged one is set aside and salvaged first (salvage.py).

        Raises:
            StateError: The spool cannot be used.
            SpoolFullError: The disk has no room for what can be salvaged.
            DurabilityError: The disk does not answer.
        """
        self._db = await self._run(self._open)

    async def close(self) -> None:
        """Close the database; what was accepted must have been flushed before."""
        if self._db is not None:
            await self.read(Database.close)
            self._db = None
        self._thread.shutdown(wait=True)

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def read(self, method: Callable[[Database], T]) -> T:
        """Call a method of the database on its own thread."""
        db = self._db
        if db is None:
            message = "the spool is not open"
            raise DurabilityError(message)
        try:
            try:
                return await self._run(lambda: method(db))
            except sqlite3.Error as error:
                raise translated(error, db.path) from error
        except DamagedStateError as error:
            await self._run(partial(suspect, self._state, error.message))
            raise

    def _open(self) -> Database:
        try:
            finish(self._state)
            try:
                db = Database(self._state)
            except DamagedStateError as error:
                salvage(self._state, error.message, rfc3339(datetime.now(UTC)))
                db = Database(self._state)
            try:
                self._take_up(db)
            except BaseException:
                db.close()
                raise
        except OSError as error:
            raise refusal(self._state, error, "use the state directory") from error
        except sqlite3.Error as error:
            raise translated(error, self._state / DATABASE_FILE) from error
        return db

    def _take_up(self, db: Database) -> None:
        clean_up(self._state)
        head = db.head()
        if head is not None:
            note_trail(self._state, head.origin, db.epochs())

    # ---- reading -------------------------------------------------------------------------------------------------

    async def blocks_after(self, last_id: int | None, limit_bytes: int) -> list[Block]:
        """Read the next blocks to seal, in order."""
        return await self.read(lambda db: db.blocks_after(last_id, limit_bytes))

    async def next_batch(self, after_id: int) -> QueuedBatch | None:
        """Return the first sealed batch behind `after_id`, or None."""
        return await self.read(lambda db: db.next_batch(after_id))

    async def last_receipted(self, store: str) -> int:
        """Return the id of the newest held batch that a store has confirmed, 0 if none."""
        return await self.read(lambda db: db.last_receipted(store))

    async def confirmed(self, store: str) -> Confirmed | None:
        """Return the newest batch that a store has confirmed."""
        return await self.read(lambda db: db.confirmed(store))

    async def lag(self, store: str) -> tuple[int, str | None]:
        """Return how many batches held here a store has not confirmed, and when the oldest record was read that it lacks, sealed or not.

        What has left the spool, as every required store has it, is not spoken of.
        """

        def look(db: Database) -> tuple[int, str | None]:
            after = db.last_receipted(store)
            return db.waiting(after), db.oldest_observed(after_batch=after)

        return await self.read(look)

    async def oldest_observed(self, after_block: int | None = None) -> str | None:
        """Return when the oldest record still held was read; see Database.oldest_observed."""
        return await self.read(lambda db: db.oldest_observed(after_block))

    async def unshipped_origins(self) -> list[str]:
        """Return the trails that have batches here, the oldest first."""
        return await self.read(Database.unshipped_origins)

    async def known_elsewhere(self, origins: Sequence[str]) -> bool:
        """Say whether any store has confirmed a batch of one of these trails."""
        return await self.read(lambda db: db.known_elsewhere(origins))
