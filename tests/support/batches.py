"""Appends, spools and stores for tests of the writing side."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from agent.errors import TransientError
from agent.intake import Append, Cursor
from agent.sealer import Identity, SealPolicy
from agent.stores import MemoryStore
from agent.trail.manifest import SourceProgress
from agent.trail.records import event_block

if TYPE_CHECKING:
    from agent.shipper import ForkFoundError
    from agent.spool import QueuedBatch
    from agent.vitals.standing import Standing

OBSERVED = "2026-01-08T14:32:07.000000Z"
FILE_ID = "01jh2k8q9r3wabcdefghjkmnpq"
IDENTITY = Identity("demo", "payments", "host-1", "0.1.0", "host-1", "boot", "0" * 64)
POLICY = SealPolicy(max_age_seconds=0.2, max_bytes=64 << 10, heartbeat_seconds=60.0)


def event(number: int, padding: int = 0) -> bytes:
    """Return one canonical event line, told apart by its number; `padding` bytes of it hardly compress."""
    return (
        b'{"stream":"audit","event_id":"e-%06d","occurred_at":"2026-01-08T14:32:07Z","actor":{"type":"user","id":"u_1"},'
        b'"action":"role.grant","target":{"type":"user","id":"u_2"},"outcome":"success","context":{"granted_role":"admin%b"}}'
    ) % (number, random.Random(number).randbytes(padding // 2).hex().encode())


def append_of(first: int, count: int, *, offset: int = 0, padding: int = 0) -> Append:
    """Return an append with `count` events numbered from `first`, which begins at a byte offset of the one test file."""
    lines = [event(number, padding) for number in range(first, first + count)]
    at = []
    end = offset
    for line in lines:
        at.append((end, len(line)))
        end += len(line) + 1
    return Append(
        bodies=event_block("app", OBSERVED, lines, at),
        records=count,
        events=count,
        observed_at=OBSERVED,
        occurred_min="2026-01-08T14:32:07Z",
        occurred_max="2026-01-08T14:32:07Z",
        progress=(SourceProgress("app", "file", "/var/log/app.log", FILE_ID, offset, end, count, count, 0, 0),),
        cursors=(Cursor(source="app", file_id=FILE_ID, path="/var/log/app.log", offset=end, size_seen=end),),
    )


def quiet(offset: int, size: int) -> Append:
    """Return an append that accounts for observability lines only."""
    return Append(
        observed_at=OBSERVED,
        progress=(SourceProgress("app", "file", "/var/log/app.log", FILE_ID, offset, offset + size, 3, 0, 3, 0),),
        cursors=(Cursor(source="app", file_id=FILE_ID, path="/var/log/app.log", offset=offset + size, size_seen=offset + size),),
    )


class Noted:
    """Remember what the shipper tells."""

    def __init__(self) -> None:
        """Begin empty."""
        self.outcomes: list[tuple[str, str]] = []
        self.troubles: list[tuple[str, str | None]] = []
        self.confirmations: list[int] = []
        self.receipts: list[tuple[str, int]] = []
        self.forks: list[ForkFoundError] = []
        self.standings: list[Standing] = []

    def attempted(self, store: str, outcome: str) -> None:
        """Note an attempt."""
        self.outcomes.append((store, outcome))

    def rested(self, store: str) -> None:
        """Note that nothing is tried any more."""
        self.troubles.append((store, None))

    def examined(self, store: str, standing: Standing) -> None:
        """Note what a store guarantees."""
        self.standings.append(standing)

    def troubled(self, store: str, why: str | None, hint: str = "") -> None:
        """Note trouble."""
        self.troubles.append((store, why))

    def receipted(self, store: str, queued: QueuedBatch) -> None:
        """Note a receipt."""
        self.receipts.append((store, queued.batch.number))

    def confirmed(self, queued: QueuedBatch) -> None:
        """Note a confirmation."""
        self.confirmations.append(queued.batch.number)


class FlakyStore(MemoryStore):
    """Fail as told: before writing, after writing (a lost reply), or always."""

    def __init__(self, store_id: str = "flaky") -> None:
        """Begin healthy."""
        super().__init__(store_id)
        self.refuse = 0
        self.lose_replies = 0
        self.down = False
        self.created: list[str] = []

    async def create(self, key: str, data: bytes) -> bool:
        """Create, or fail as told."""
        if self.down or self.refuse > 0:
            self.refuse -= 1
            message = "503 Slow Down"
            raise TransientError(message)
        done = await super().create(key, data)
        if done:
            self.created.append(key)
        if self.lose_replies > 0:
            self.lose_replies -= 1
            message = "connection reset"
            raise TransientError(message)
        return done
