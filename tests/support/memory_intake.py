"""An intake that keeps everything in memory, and what tests of sources need around it.

`MemoryIntake` is the in-memory twin of the spool's queue: appends become durable in order, at once or when the test says so, and a
crash forgets what was accepted but not durable.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from agent.intake import Append, Cursor, SealListeners


class MemoryIntake:
    """Keep appends in memory; durable at once unless `held`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.durable: list[Append] = []
        self.held = False
        self.listeners: SealListeners = set()
        self._waiting: list[tuple[Append, asyncio.Future[None]]] = []
        self._cursors: dict[tuple[str, str], Cursor] = {}

    def cursors(self, source: str) -> Sequence[Cursor]:
        return [cursor for (owner, _), cursor in self._cursors.items() if owner == source and not cursor.finished]

    def finished(self, source: str) -> Sequence[Cursor]:
        return [cursor for (owner, _), cursor in self._cursors.items() if owner == source and cursor.finished]

    async def submit(self, append: Append) -> Awaitable[None]:
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((append, durable))
        if not self.held:
            self.commit()
        return durable

    def has_room(self, size_bytes: int = 0) -> bool:
        return True

    async def flush(self) -> None:
        if not self.held:
            self.commit()

    def commit(self, count: int | None = None) -> None:
        """Make the oldest accepted appends durable."""
        for append, durable in self._waiting[:count]:
            self.durable.append(append)
            for cursor in append.cursors:
                self._cursors[cursor.source, cursor.file_id] = cursor
            if not durable.done():
                durable.set_result(None)
        del self._waiting[:count]

    def crash(self) -> None:
        """Forget what is not durable."""
        for _, durable in self._waiting:
            durable.cancel()
        self._waiting.clear()

    def all_cursors(self) -> list[Cursor]:
        return list(self._cursors.values())

    def records(self) -> list[dict[str, Any]]:
        """Return the durable records, decoded, in order."""
        lines = b"".join(append.bodies for append in self.durable).split(b"\n")
        return [json.loads(b'{"seq":0' + line) for line in lines if line]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["kind"] == kind]

    def event_ids(self) -> list[str]:
        return [record["event"]["event_id"] for record in self.of_kind("event")]


class MemorySink:
    """Keep the observability bytes."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.data = b""

    def write(self, data: bytes, channel: str) -> None:
        assert channel == "stdout"
        self.data += data


class StepClock:
    """Tell a time that goes on by a millisecond with every question."""

    def __init__(self) -> None:
        """Begin on a day in January."""
        self._now = datetime(2026, 1, 8, 14, 32, 7, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now


def audit_line(number: int | str, padding: int = 0) -> bytes:
    """Return one valid audit line, without its newline."""
    return json.dumps(
        {
            "stream": "audit",
            "event_id": f"e{number}",
            "occurred_at": "2026-01-08T14:32:07Z",
            "actor": {"type": "user", "id": "u1"},
            "action": "order.read",
            "target": {"type": "order", "id": "o1"},
            "outcome": "success",
            "context": {"note": "x" * padding},
        }
    ).encode()
