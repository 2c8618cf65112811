"""Hold the knobs of the socket source.

Invariants: every default is safe in production, and a request of the largest size can hold the longest line. This module must
not read configuration files: `agent.config` does, and hands the values over.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..lines import LINE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketSettings:
    """Bound what clients may cost.

    Attributes:
        line_limit: The longest line, in bytes, that can become an event.
        body_bytes: The largest request body; must exceed `line_limit`.
        lines: The most lines of a request: each has a result in the answer.
        held_bytes: What all requests under way may hold together.
        connections: How many connections there may be.
        first_request_seconds: How long a new connection may stay without a request.
        keep_alive_seconds: How long it may stay between two.
        body_seconds: How long a client may take to send a body.
        reply_seconds: How long it may take to read the answer.
        room_seconds: How long a request waits for room in the spool before it is refused.
        durable_seconds: How long an accepted request waits for the disk before it is answered without certainty.
        wait_seconds: How long `wait=sealed` waits if the request does not say.
        longest_wait_seconds: How long it may wait at most.
        stop_seconds: How long requests under way may take to an end after a stop.
        retry_seconds: First and longest pause before an address that cannot be listened on is tried again.
    """

    line_limit: int = LINE_LIMIT
    body_bytes: int = 2 << 20
    lines: int = 2048
    held_bytes: int = 8 << 20
    connections: int = 128
    first_request_seconds: float = 10.0
    keep_alive_seconds: float = 75.0
    body_seconds: float = 20.0
    reply_seconds: float = 20.0
    room_seconds: float = 1.0
    durable_seconds: float = 30.0
    wait_seconds: float = 10.0
    longest_wait_seconds: float = 60.0
    stop_seconds: float = 3.0
    retry_seconds: tuple[float, float] = (0.5, 30.0)

    def __post_init__(self) -> None:
        """Check that a line fits into a body.

        Raises:
            ValueError: It does not.
        """
        if self.body_bytes <= self.line_limit:
            raise ValueError(f"a body of {self.body_bytes} bytes cannot hold a line of {self.line_limit} bytes")
