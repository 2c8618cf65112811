"""Hold the knobs of the file source.

Invariants: every default is safe in production; the block is larger than the longest line. This module must not read
configuration files: `agent.config` does, and hands the values over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..lines import HEAD_BYTES, LINE_LIMIT

BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TailSettings:
    """Say how files are read and how often they are looked at.

    Attributes:
        block_bytes: The most that is read of one file in one turn, half of it where most lines are audit; must exceed
            `line_limit`.
        line_limit: The longest line, in bytes, that can become an event.
        head_bytes: How many first bytes of a longer audit line are kept.
        rescan_seconds: How often folders are looked through even if nothing reports a change.
        poll_seconds: How often open files are looked at where inotify is not to be had.
        folder_step_milliseconds: How often the folder watch looks for changes; it takes the interpreter's lock each time, so a
            short step is what an idle agent costs.
        eof_hold_seconds: How long a rotated file must stay at its end before its last line counts without a newline.
        linger_seconds: How long it is held open after that for a writer that has not noticed the rotation.
        stop_seconds: How long an orderly stop may go on reading.
        max_open: The most descriptors held; rotated files that cannot be opened again may exceed it.
        unfinished_seconds: How long lines of one stream of a container wait for the end of an unfinished line of the other.
        in_flight: Appends of one file that may wait for durability while it is read on.
        retry_seconds: First and longest pause before an unreadable file is tried again.
    """

    block_bytes: int = BLOCK_BYTES
    line_limit: int = LINE_LIMIT
    head_bytes: int = HEAD_BYTES
    rescan_seconds: float = 5.0
    poll_seconds: float = 0.25
    folder_step_milliseconds: int = 200
    eof_hold_seconds: float = 1.0
    linger_seconds: float = 10.0
    stop_seconds: float = 3.0
    max_open: int = 512
    unfinished_seconds: float = 10.0
    in_flight: int = 8
    retry_seconds: tuple[float, float] = (0.5, 30.0)

    def __post_init__(self) -> None:
        """Check that a line fits into a block.

        Raises:
            ValueError: It does not.
        """
        if self.block_bytes <= self.line_limit:
            raise ValueError(f"a block of {self.block_bytes} bytes cannot hold a line of {self.line_limit} bytes")
