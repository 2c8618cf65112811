"""A separator over a small mapping, and the records that it makes; for tests of `agent.mapped`."""

from __future__ import annotations

import json

from agent.events.catalog import Catalog
from agent.events.classify import AllRule
from agent.events.mappings.selection import Selection
from agent.events.redaction import PseudonymKey
from agent.events.validate import Validator
from agent.mapped import MappedSeparator
from agent.trail.record_lines import number_lines
from tests.unit.events.mappings.making import mapping

TIME = "2026-06-30T12:00:00.000001Z"
KEY = PseudonymKey(b"k" * 32)
SECRET = "4111111111111111"
CATALOG = Catalog.from_mapping(
    {"format": 1, "actions": {"thing.grant": {"category": "authorization", "sensitivity": "high", "required_context": ["granted"]}}},
    "c.yaml",
)
RULES = [
    {
        "name": "grant",
        "when": {"do": "grant"},
        "action": "thing.grant",
        "context": {"granted": "{what}", "agent": "{agent}"},
        "client": ["context.agent"],
    },
    {"name": "other", "when": {"do": {"present": True}}, "action": "thing.{do}", "context": {"email": "{email}", "card": "{card}"}},
]


def separator(*, redactor=None, has_offsets=True, keep=True, **changes):
    selection = Selection((mapping(select={"contains": ['"do"']}, rules=RULES, otherwise="pass", **changes),))
    validator = Validator(AllRule(), CATALOG)
    return MappedSeparator("s", selection, validator, keep_observability=keep, has_offsets=has_offsets, redactor=redactor)


def records(separated):
    lines = separated.bodies.split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line) for line in number_lines(lines, 0)]
