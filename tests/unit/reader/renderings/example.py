"""Stored events of one's choice."""

from __future__ import annotations

from typing import Any

from agent.reader.renderings import Stored

ORIGIN = "prod/payments/01jmzzzzzzzzzzzzzzzzzzzzz0/payments-0"


def stored(
    action: str, target: tuple[str, str] = ("user", "bob"), *, actor: tuple[str, str, str | None] | None = None, **more: Any
) -> Stored:
    """Return an event with an action; `more` is `outcome`, `context`, or of the record."""
    kind, name, session = actor or ("user", "alice@example.com", "s-1")
    event = {
        "event_id": "e-1",
        "occurred_at": "2026-03-01T08:00:00.123456Z",
        "actor": {"type": kind, "id": name, "session": session},
        "action": action,
        "target": {"type": target[0], "id": target[1]},
        "outcome": more.pop("outcome", "success"),
        "context": more.pop("context", {}),
    }
    record = {"origin": ORIGIN, "seq": 41, "batch": 3, "observed_at": "2026-03-01T08:00:01Z", "source": "stdout"}
    return Stored.of({**record, **more, "event": event})
