"""Whatever a line holds, a shipped mapping gives an event that validation accepts, passes it, or says why not; it never raises."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config.mappings import load_mapping, shipped_names
from agent.events.classify import AllRule
from agent.events.mappings import Mapped, Mapping, Moment, Passed
from agent.events.mappings.selection import Selection
from agent.events.validate import Validator
from agent.events.verdict import Accepted, Rejection
from agent.trail.record_lines import number_lines
from agent.trail.records import Reworked, reworked_block

MOMENT = Moment(datetime(2026, 6, 30, 12, tzinfo=UTC), 7)
VALIDATOR = Validator(AllRule())
MAPPINGS = {name: load_mapping(name) for name in shipped_names()}

ODD = ("", "\0", "x" * 2000, "2026-06-30T10:00:00Z", "{user}", "\n\t", "a=b c='d", "' OR 1=1; --", "\u202e", "%00%ff+", "-1")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(ODD),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)


def units(mapping: Mapping) -> list[bytes]:
    """Return the lines of a mapping's examples."""
    found = []
    for example in mapping.examples:
        assert isinstance(example, dict)
        found.append("\n".join(example.get("lines") or [example["line"]]).encode())
    return found


def check(mapping: Mapping, line: bytes) -> None:
    """Map a line and hold the answer against what is promised of it."""
    outcome = Selection((mapping,)).interpret(line, MOMENT)
    if isinstance(outcome, Mapped):
        event: Any = orjson.loads(outcome.event)
        assert outcome.rule.partition("/")[2] in mapping.rules
        assert isinstance(VALIDATOR.judge_line(outcome.event), (Accepted, Rejection))
        for path in outcome.client:
            place = event
            for name in path.split("."):
                place = place[name]
        [body] = reworked_block("s", "2026-06-30T12:00:00Z", [Reworked(outcome.event, outcome.rule, outcome.client, line)]).splitlines()
        record = json.loads(number_lines([body], 0)[0])
        assert record["event"] == event
        assert "raw_base64" in record or record["raw"].encode() == line
    else:
        assert isinstance(outcome, (Passed, Rejection))
        assert not isinstance(outcome, Rejection) or outcome.detail.startswith(mapping.name)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything in a document."""
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        found += places(member, (*path, key))
    return found


@pytest.mark.parametrize("name", MAPPINGS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_line_of_the_format_with_anything_changed_in_it_is_answered(name: str, data: st.DataObject) -> None:
    mapping = MAPPINGS[name]
    line = data.draw(st.sampled_from(units(mapping)))
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if isinstance(document, dict) and document:
        for _ in range(data.draw(st.integers(1, 3))):
            *above, last = data.draw(st.sampled_from(places(document)))
            inside = document
            try:
                for key in above:
                    inside = inside[key]
                inside[last] = data.draw(values)
            except (KeyError, IndexError, TypeError):
                continue
        line = json.dumps(document).encode()
    else:
        start = data.draw(st.integers(0, len(line)))
        end = data.draw(st.integers(start, min(len(line), start + 30)))
        line = line[:start] + data.draw(st.binary(max_size=12) | st.text(max_size=12).map(str.encode)) + line[end:]
    check(mapping, line)


@pytest.mark.parametrize("name", MAPPINGS)
@settings(max_examples=25)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(name: str, line: bytes) -> None:
    check(MAPPINGS[name], line)


@pytest.mark.parametrize("name", MAPPINGS)
def test_an_example_s_event_can_be_repeated(name: str) -> None:
    mapping = MAPPINGS[name]
    for unit in units(mapping):
        assert mapping.map(unit, MOMENT) == mapping.map(unit, MOMENT)
