"""The one durable state of an agent: everything between a source and a store's receipt.

Records, cursors, the trail's head, sealed batches and receipts live in one SQLite database and change together in
single transactions, so a crash at any instruction leaves a state that a restart can go on from without thinking.

    database.py   the transactions themselves: synchronous, one thread, no policy
    queue.py      the asynchronous side: group commit, the bound, waiting (what the rest of the agent uses)
    lock.py       one agent per state directory
"""

from __future__ import annotations

from .database import Block, BlockMeta, Database, Head, NewBatch, QueuedBatch
from .lock import StateLock
from .queue import Spool

__all__ = ["Block", "BlockMeta", "Database", "Head", "NewBatch", "QueuedBatch", "Spool", "StateLock"]
