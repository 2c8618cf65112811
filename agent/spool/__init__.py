"""The one durable state of an agent: everything between a source and a store's receipt.

Records, cursors, the trail's head, sealed batches and receipts live in one SQLite database and change together in
single transactions, so a crash at any instruction leaves a state that a restart can go on from without thinking.

    rows.py       the values it keeps
    connection.py how SQLite's file is opened, and what its errors mean
    packing.py    how bodies lie in it: compressed where that pays
    ballast.py    room for the moment when the disk is full
    database.py   the transactions themselves: synchronous, one thread, no policy
    queue.py      the asynchronous side: group commit, the bound, waiting (what the rest of the agent uses)
    lock.py       one agent per state directory
"""

from __future__ import annotations

from .database import Database
from .lock import StateLock
from .queue import Spool
from .rows import Block, BlockMeta, Confirmed, Head, NewBatch, QueuedBatch

__all__ = ["Block", "BlockMeta", "Confirmed", "Database", "Head", "NewBatch", "QueuedBatch", "Spool", "StateLock"]
