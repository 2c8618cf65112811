"""Map a real log as an agent would: cut it into units, look at those that may be audit, and judge what comes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.config.mappings import load_mapping
from agent.events.classify import AllRule
from agent.events.mappings import Mapped, Moment
from agent.events.mappings.selection import Selection
from agent.events.validate import Validator
from agent.events.verdict import Rejection

if TYPE_CHECKING:
    from pathlib import Path


class MappedEvent(NamedTuple):
    """Be one event.

    Attributes:
        event: It.
        rule: ``<mapping>/<rule>``.
        client: The fields whose values the client chose.
        raw: The unit it was made of.
    """

    event: dict[str, Any]
    rule: str
    client: tuple[str, ...]
    raw: bytes

    def __str__(self) -> str:
        """Say who did what to whom, and what came of it."""
        actor, target = self.event["actor"], self.event["target"]
        return f"{actor['id']} {self.event['action']} {target['type']}:{target['id']} {self.event['outcome']}"


class MappedLog(NamedTuple):
    """Be what came of a log.

    Attributes:
        events: The events, in their order.
        refused: The units that were quarantined, and why.
        passed: The units that are no audit events.
    """

    events: list[MappedEvent]
    refused: list[tuple[Rejection, bytes]]
    passed: list[bytes]

    def said(self) -> list[str]:
        """Return the events in a line each."""
        return [str(event) for event in self.events]


def map_log(path: Path, *mappings: str) -> MappedLog:
    """Map a log file by shipped mappings; an event that validation would refuse counts as refused."""
    return map_bytes(path.read_bytes(), *mappings)


def map_bytes(data: bytes, *mappings: str) -> MappedLog:
    """Map the bytes of a log."""
    selection = Selection(tuple(load_mapping(name) for name in mappings))
    validator = Validator(AllRule())
    log = MappedLog([], [], [])
    now = datetime.now(UTC)
    joining = selection.joining
    units = [data[start:end] for start, end in joining.units(data)] if joining is not None else data.splitlines()
    for offset, unit in enumerate(units):
        outcome = selection.interpret(unit, Moment(now, offset)) if selection.is_audit(unit) else None
        if isinstance(outcome, Mapped):
            judged = validator.judge_line(outcome.event)
            if isinstance(judged, Rejection):
                log.refused.append((judged, unit))
            else:
                log.events.append(MappedEvent(json.loads(outcome.event), outcome.rule, outcome.client, unit))
        elif isinstance(outcome, Rejection):
            log.refused.append((outcome, unit))
        else:
            log.passed.append(unit)
    return log
