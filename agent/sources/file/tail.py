"""Tail the files that patterns name, through rotation, truncation, restarts and crashes, into the intake.

One task gives turns to the paths that have something to read, one block a turn, and one thread does what a block costs. What
a file turned into while nobody looked is found out by content (`recovery`); how a path's files follow one another is kept in
lanes (`lane`).

Invariants:
    - Records, progress and the cursor behind them are one append: after a crash every byte is read again that was not
      durable, and none that was.
    - A path's rotated files are read to their end before newer ones, and nothing is given up that can still be read.
    - Bytes that cannot be read any more are stated in gap records, in the append that ends their cursor.
    - A cursor's path is the name the file was tailed under; rotation does not change it.
    - A file that cannot be read is reported and tried again for ever; it never holds up another path.

Limits: while the agent was down it cannot know whether a path was rotated or truncated more often than traces show, so a file
it does not find again is an `unbounded` gap. A file that was truncated is possibly short of what was written between the copy
and the truncation, so every truncation is a `possible` gap.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar

from aiofiles.os import wrap

from ...trail.records import Certainty
from . import discover
from .lane import Lane, Tailed
from .lifecycle import Lifecycle
from .reader import Context, MovedError, Reader
from .settings import TailSettings
from .wake import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from ...events.classify import Rule
    from ...intake import Append, Cursor, Intake
    from ..base import BlockSeparator, ProblemReport, Sink, TimeOfDay
    from .identity import Key
    from .reader import Step

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_SOON: Final = 0.05


class _Turn(Enum):
    """What came of asking one file."""

    MOVED = auto()
    AT_END = auto()
    BUSY = auto()
