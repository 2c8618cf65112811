"""The one durable state of an agent: everything between a source and a store's receipt.

Records, cursors, the trail's head, sealed batches and receipts live in one SQLite database and change together in
single transactions, so a crash at any instruction leaves a state that a restart can go on from without thinking.

    rows.py       the values it keeps
    connection.py how SQLite's file is opened, and what its errors mean
    tables.py     how each value lies in its table, and whether it is what was written (stamps.py, packing.py)
    ballast.py    room for the moment when the disk is full
    inspection.py whether a spool is what an agent left there; what is not goes through
    remains.py    what can still be read of it,
    chain.py      what becomes of its batches,
    salvage.py    a new spool with what is sound, and
    aside.py      a place for the damaged one
    database.py   the transactions themselves: synchronous, one thread, no policy
    thread.py     the one thread that calls it, and what only reads
    commits.py    the asynchronous side, first half: what is accepted, group commit, the bound, waiting
    queue.py      its second half: life, sealing, shipping (what the rest of the agent uses)
    unsealing.py  a batch back to a block
    upgrade.py    a spool of an older format
    lock.py       one agent per state directory
"""

from __future__ import annotations

from .database import Database
from .lock import StateLock
from .queue import Spool
from .rows import Block, BlockMeta, Confirmed, Head, NewBatch, QueuedBatch, StateLoss

__all__ = ["Block", "BlockMeta", "Confirmed", "Database", "Head", "NewBatch", "QueuedBatch", "Spool", "StateLock", "StateLoss"]
