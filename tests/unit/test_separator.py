from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from agent.events import AllRule, Catalog, FieldRule, PrefixRule, Rule, Validator
from agent.separator import Separated, Separator

OBSERVED = "2026-01-08T14:32:08.000000Z"
EVENT = (
    b'{"stream":"audit","event_id":"e-1","occurred_at":"2026-01-08T14:32:07Z","actor":{"type":"user","id":"u-1"},'
    b'"action":"auth.login","target":{"type":"account","id":"a-1"},"outcome":"denied"}'
)
LATER = EVENT.replace(b"14:32:07Z", b"15:00:00Z").replace(b"denied", b"success")
NO_ACTOR = EVENT.replace(b'"actor":{"type":"user","id":"u-1"},', b"")
NESTED = b'{"copy":{"stream":"audit"}}'
CATALOG = Catalog.from_mapping({"format": 1, "actions": {"auth.*": {"category": "authentication", "sensitivity": "low"}}}, "c.yaml")


def separate(block: bytes, rule: Rule | None = None, *, keep: bool = True, offsets: bool = True, offset: int = 1000) -> Separated:
    rule = rule or FieldRule()
    separator = Separator("app", rule, Validator(rule, CATALOG), keep_observability=keep, has_offsets=offsets)
    return separator.separate(block, offset, OBSERVED)


def bodies(result: Separated) -> list[dict[str, object]]:
    assert result.bodies == b"" or result.bodies.endswith(b"\n")
    lines = result.bodies.splitlines(keepends=False)
    assert len(lines) == result.records
    return [json.loads(b'{"seq":0' + line) for line in lines]


def raw(record: dict[str, object]) -> bytes:
    return base64.b64decode(str(record["raw_base64"])) if "raw_base64" in record else str(record["raw"]).encode()


def test_audit_lines_become_records_and_the_rest_passes_byte_for_byte() -> None:
    result = separate(b"one\n" + EVENT + b"\n\xfftwo\r\n\n" + LATER + b"\nthree\n")
    assert result.observability == b"one\n\xfftwo\r\n\nthree\n"
    assert (result.lines, result.records, result.events, result.quarantined, result.observability_lines) == (6, 2, 2, 0, 4)
    first, second = bodies(result)
    assert first == {
        "seq": 0,
        "kind": "event",
        "source": "app",
        "at": [1004, len(EVENT)],
        "observed_at": OBSERVED,
        "event": json.loads(EVENT),
    }
    assert second["at"] == [1004 + len(EVENT + b"\n\xfftwo\r\n\n"), len(LATER)]
    assert EVENT + b"}\n" in result.bodies
    assert (result.occurred_min, result.occurred_max) == (datetime(2026, 1, 8, 14, 32, 7, tzinfo=UTC), datetime(2026, 1, 8, 15, tzinfo=UTC))
    assert result.outcomes == {("authentication", "denied"): 1, ("authentication", "success"): 1}
    assert result.reasons == {}


def test_an_invalid_event_is_quarantined_in_its_place() -> None:
    result = separate(EVENT + b"\n" + NO_ACTOR + b"\n" + LATER + b"\n")
    first, second, third = bodies(result)
    assert (first["kind"], second["kind"], third["kind"]) == ("event", "quarantine", "event")
    assert (second["reason"], second["detail"], second["raw"]) == ("missing_field", "actor", NO_ACTOR.decode())
    assert second["at"] == [1000 + len(EVENT) + 1, len(NO_ACTOR)]
    assert (result.events, result.quarantined, result.reasons) == (2, 1, {"missing_field": 1})


def test_a_nested_tag_passes_on_between_audit_lines() -> None:
    result = separate(EVENT + b"\n" + NESTED + b"\n" + NO_ACTOR + b"\n" + NESTED + b"\n" + LATER + b"\n" + NESTED)
    assert [record["kind"] for record in bodies(result)] == ["event", "quarantine", "event"]
    assert result.observability == NESTED + b"\n" + NESTED + b"\n" + NESTED
    assert (result.lines, result.observability_lines, result.reasons) == (6, 3, {"missing_field": 1})


def test_the_last_line_of_a_closed_source_may_lack_its_newline() -> None:
    assert separate(b"one\n" + EVENT).lines == 2
    assert separate(b"one\n" + EVENT).observability == b"one\n"
    assert separate(EVENT + b"\none").observability == b"one"
    assert separate(EVENT + b"\none").observability_lines == 1


def test_bytes_that_are_not_utf8_are_kept_in_base64() -> None:
    (record,) = bodies(separate(EVENT.replace(b"u-1", b"\xff") + b"\n"))
    assert record["reason"] == "invalid_utf8"
    assert raw(record) == EVENT.replace(b"u-1", b"\xff")


def test_observability_is_not_copied_where_nobody_wants_it() -> None:
    for block in (b"one\n" + EVENT + b"\n", b"one\n" + NO_ACTOR + b"\n"):
        result = separate(block, keep=False)
        assert (result.observability, result.observability_lines, result.records) == (b"", 1, 1)


def test_a_source_without_offsets_has_none_in_its_records() -> None:
    for record in bodies(separate(EVENT + b"\n" + NO_ACTOR + b"\n", offsets=False)):
        assert "at" not in record


@pytest.mark.parametrize("rule", [FieldRule(), PrefixRule("AUDIT "), AllRule()])
def test_an_empty_block_is_nothing(rule: Rule) -> None:
    assert separate(b"", rule) == Separated()


def test_after_a_prefix_the_event_is_the_rest_and_the_position_that_of_the_line() -> None:
    block = b"AUDIT " + EVENT + b"\nAUDITED\nAUDIT oops\n\x00AUDIT " + EVENT + b"\n"
    result = separate(block, PrefixRule("AUDIT "))
    event, oops, hole = bodies(result)
    assert (event["at"], event["event"]) == ([1000, len(EVENT) + 6], json.loads(EVENT))
    assert (oops["reason"], oops["raw"]) == ("not_json", "AUDIT oops")
    assert (hole["reason"], raw(hole)) == ("not_json", b"\x00AUDIT " + EVENT)
    assert result.observability == b"AUDITED\n"


def test_in_an_audit_source_only_blank_lines_pass_on() -> None:
    result = separate(b"\n" + EVENT + b"\n \t\r\nsegmentation fault\n" + LATER, AllRule())
    assert [record["kind"] for record in bodies(result)] == ["event", "quarantine", "event"]
    assert result.observability == b"\n \t\r\n"
    assert (result.lines, result.observability_lines) == (5, 2)


def test_a_block_of_one_enormous_line_does_not_crash() -> None:
    result = separate(EVENT[:-1] + b',"context":{"x":"' + b"y" * (3 << 20) + b'"}}\n')
    assert result.events == 1


def test_a_separator_keeps_no_memory_of_earlier_blocks() -> None:
    rule = FieldRule()
    separator = Separator("app", rule, Validator(rule), keep_observability=True, has_offsets=True)
    first = separator.separate(EVENT + b"\nx\n", 0, OBSERVED)
    separator.separate(NO_ACTOR + b"\n" + NESTED, 7, OBSERVED)
    assert separator.separate(EVENT + b"\nx\n", 0, OBSERVED) == first
