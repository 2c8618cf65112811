"""What the parent is told: which streams there are, and its bounds.

Invariants: plain values only, so that a plan can travel in an argument list. The module imports nothing of the package.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

EXIT_RELOAD: Final = 90
"""The exit code of a worker that wants to be started anew with another configuration; it has ended in order."""


class Feed(NamedTuple):
    """Name one stream source.

    Attributes:
        source: The source's id from the configuration.
        argv: The command whose standard output and standard error are read; None reads our own standard input.
    """

    source: str
    argv: tuple[str, ...] | None = None


class Limits(NamedTuple):
    """Hold the parent's bounds.

    Attributes:
        grace_seconds: How long the worker may take to seal and ship once the streams have ended.
        buffer_bytes: How many unacknowledged bytes are kept for each stream.
        when_full: ``block`` makes the service wait while that buffer is full; ``gap`` throws lines away and says so.
        patience_seconds: With ``gap``, how long the service waits before that.
        linger_seconds: How long a pipe is read after its command's end while a grandchild holds it.
        start_seconds: How long the commands' start waits for the first worker.
        backoff_min_seconds: The pause before a worker that had made progress is started anew.
        backoff_max_seconds: The longest pause.
    """

    grace_seconds: float = 25.0
    buffer_bytes: int = 4 << 20
    when_full: Literal["block", "gap"] = "block"
    patience_seconds: float = 1.0
    linger_seconds: float = 5.0
    start_seconds: float = 5.0
    backoff_min_seconds: float = 0.1
    backoff_max_seconds: float = 5.0
