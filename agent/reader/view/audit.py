"""What the view writes about its own use: one event for each request, recorded before anything is shown.

Invariants: no event holds a token or a cookie; what cannot be recorded is not shown (the caller answers 503). This module must not know
how an event becomes part of a trail: that is what a `Recorder` is for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..own_trail.events import own_event
from .grants import without_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .grants import Grant

Outcome = Literal["success", "failure", "denied", "unknown"]


class Recorder(Protocol):
    """Write audit events to a trail.

    Guarantees: `record` returns once the event is durable, and raises where that is not so. It may be called by many tasks at once.
    """

    async def record(self, event: Mapping[str, Any]) -> object:
        """Record one event, made by `own_event`."""
        ...


class MemoryRecorder:
    """A recorder that keeps the events in memory: for tests.

    Attributes:
        events: What was recorded.
        error: Raised instead of recording, if set.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events: list[Mapping[str, Any]] = []
        self.error: Exception | None = None

    async def record(self, event: Mapping[str, Any]) -> None:
        """Keep an event."""
        if self.error is not None:
            raise self.error
        self.events.append(event)


@dataclass(slots=True)
class Trace:
    """What a request will be recorded as; whoever answers it fills it in.

    Attributes:
        action: One of the catalog's of `own_trail`.
        target: What was looked at: its type and id.
        context: What the catalog requires, and more.
    """

    action: str
    target: tuple[str, str]
    context: dict[str, Any] = field(default_factory=dict)


def scope_of(grant: Grant) -> dict[str, Any]:
    """Return a grant's scope for a context."""
    return {
        "services": list(grant.services),
        "since": None if grant.since is None else grant.since.isoformat(),
        "until": None if grant.until is None else grant.until.isoformat(),
    }


def trace_event(trace: Trace, *, grant: Grant | None, now: datetime, outcome: Outcome, remote: str, path: str) -> dict[str, Any]:
    """Make the event of a request.

    Args:
        trace: What it was.
        grant: Who asked; None if nobody knows.
        now: The clock, aware.
        outcome: How it ended.
        remote: The client's address.
        path: The path it asked for, without its query.
    """
    actor = {"type": "auditor", "id": grant.name or grant.id, "session": grant.id} if grant else {"type": "unknown", "id": remote}
    context: dict[str, Any] = _without_tokens({"path": path, "remote": remote, **trace.context})
    if grant is not None:
        context |= {"scope": scope_of(grant), "token_id": grant.id}
    target = {"type": trace.target[0], "id": without_tokens(trace.target[1])}
    return own_event(trace.action, actor=actor, target=target, now=now, outcome=outcome, context=context)


def _without_tokens(value: Any) -> Any:
    """Return a context without anything that could be a token: people paste links into search fields."""
    if isinstance(value, str):
        return without_tokens(value)
    if isinstance(value, dict):
        return {key: _without_tokens(each) for key, each in value.items()}
    return [_without_tokens(each) for each in value] if isinstance(value, list) else value
