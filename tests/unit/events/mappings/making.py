"""Make small mappings for tests: one rule, and what a test is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from agent.events.mappings import Mapped, Mapping, Moment
from agent.events.verdict import Rejection

NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)
EVENT = {
    "event_id": "1",
    "occurred_at": "2026-06-30T10:00:00Z",
    "actor": {"type": "user", "id": "alice"},
    "target": {"type": "thing", "id": "7"},
    "outcome": "success",
}


def mapping(**changes: Any) -> Mapping:
    """Return a mapping of JSON lines whose events are always the same, but for the changes."""
    data: dict[str, Any] = {
        "format": 1,
        "name": "test",
        "title": "A test",
        "describes": "nothing real",
        "select": {"all": True},
        "parse": [{"as": "json"}],
        "event": EVENT,
        "rules": [{"name": "any", "action": "thing.do"}],
    }
    return Mapping.from_mapping({key: value for key, value in (data | changes).items() if value is not None}, "test.yaml")


def computed(expression: Any, line: dict[str, Any] | bytes, **changes: Any) -> Any:
    """Return what an expression gives for a line; None if it is missing."""
    found = mapping(event=EVENT | {"context": {"value": expression}}, **changes)
    return event_of(found, line).get("context", {}).get("value")


def event_of(found: Mapping, line: dict[str, Any] | bytes, moment: Moment | None = None) -> dict[str, Any]:
    """Return the event that a mapping makes of a line."""
    outcome = found.map(line if isinstance(line, bytes) else orjson.dumps(line), moment or Moment(NOON))
    assert isinstance(outcome, Mapped), outcome
    event: dict[str, Any] = orjson.loads(outcome.event)
    return event


def refusal(found: Mapping, line: dict[str, Any] | bytes) -> tuple[str, str]:
    """Return why a mapping refuses a line."""
    outcome = found.map(line if isinstance(line, bytes) else orjson.dumps(line), Moment(NOON))
    assert isinstance(outcome, Rejection), outcome
    return outcome.reason.value, outcome.detail
