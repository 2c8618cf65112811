"""Hold the knobs of the journal source.

Invariants: every default is safe in production. This module must not read configuration files: `agent.config` does, and hands
the values over.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..lines import LINE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Say how the journal is read.

    Attributes:
        program: The words that start journalctl.
        line_limit: The longest message, in bytes, that can become an event.
        chunk_bytes: The most that is taken from journalctl at a time.
        probe_seconds: How long the look for one entry may take.
        stop_seconds: How long an orderly stop may go on reading.
        settled_seconds: How long journalctl must have followed without a complaint to count as well.
        retry_seconds: First and longest pause before journalctl is started again.
    """

    program: tuple[str, ...] = ("journalctl",)
    line_limit: int = LINE_LIMIT
    chunk_bytes: int = 256 * 1024
    probe_seconds: float = 30.0
    stop_seconds: float = 3.0
    settled_seconds: float = 1.0
    retry_seconds: tuple[float, float] = (0.5, 30.0)
