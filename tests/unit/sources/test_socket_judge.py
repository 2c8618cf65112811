"""What each line of a request is told to be."""

from __future__ import annotations

import json

import pytest

from agent.events.catalog import Catalog
from agent.events.classify import AllRule, FieldRule, Rule
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.socket.judge import Judged, Verdict, judge_lines, judge_message
from tests.support.memory_intake import audit_line

TIME = "2026-01-08T14:32:07.000000Z"
LIMIT = 2000


def judged(body: bytes, rule: Rule | None = None, *, one: bool = False) -> Judged:
    rule = rule or AllRule()
    separator = Separator("api", rule, Validator(rule, Catalog()), keep_observability=True, has_offsets=False)
    return (judge_message if one else judge_lines)("api", body, TIME, separator, rule.is_audit, LIMIT)


def statuses(found: Judged) -> list[str]:
    assert [verdict.line for verdict in found.verdicts] == list(range(1, len(found.verdicts) + 1))
    assert len(found.verdicts) == found.tally.lines
    assert len(found.bodies) == found.tally.records
    assert sum(verdict.status != "passed" for verdict in found.verdicts) == found.tally.records
    return [verdict.reason or verdict.status for verdict in found.verdicts]


@pytest.mark.parametrize("end", [b"\n", b""])
def test_events_get_their_ids_in_order(end):
    found = judged(b"\n".join(audit_line(number) for number in range(5)) + end)
    assert found.verdicts == [Verdict(number + 1, "event", event_id=f"e{number}") for number in range(5)]
    assert statuses(found) == ["event"] * 5


def test_every_line_has_a_verdict_of_its_own():
    found = judged(b"\n".join([audit_line(1), b"{}", b"", b"nonsense", b" \t", audit_line(2), b"\xff"]))
    assert statuses(found) == ["event", "missing_field", "passed", "not_json", "passed", "event", "invalid_utf8"]
    assert found.verdicts[1] == Verdict(2, "quarantined", reason="missing_field", detail="event_id")
    assert b"".join(found.tally.passed) == b"\n \t\n"


def test_with_a_field_rule_other_lines_pass():
    found = judged(b"\n".join([b'{"level":"info"}', audit_line(1), b'{"nested":{"stream":"audit"}}', b'{"stream":"audit"}']), FieldRule())
    assert statuses(found) == ["passed", "event", "passed", "missing_field"]


def test_lines_over_the_limit_are_stated_by_their_length():
    long = audit_line("long", padding=LIMIT)
    found = judged(b"\n".join([audit_line(1), long, b"x", audit_line(2)]))
    assert statuses(found) == ["event", "too_long", "not_json", "event"]
    assert found.verdicts[1].detail == f"{len(long)} bytes"
    assert json.loads(b'{"seq":0' + found.bodies[1])["length"] == len(long)


def test_long_lines_that_are_not_audit_pass_and_a_late_tag_counts_once():
    late = b'{"x":"' + b"y" * LIMIT + b'","stream":"audit"}'
    plain = b"z" * (LIMIT + 1)
    found = judged(b"\n".join([plain, late, audit_line(1), plain]), FieldRule())
    assert statuses(found) == ["passed", "too_long", "event", "passed"]
    assert b"".join(found.tally.passed) == b"\n".join([plain, late, plain])


@pytest.mark.parametrize("around", [b"", b"\n", b" \r\n\t"])
def test_one_event_may_have_white_space_around_it(around):
    assert judged(around + audit_line(7) + around, one=True).verdicts == [Verdict(1, "event", event_id="e7")]


def test_an_event_of_several_lines_is_kept_byte_for_byte():
    pretty = json.dumps(json.loads(audit_line(1)), indent=2).encode()
    found = judged(pretty, one=True)
    assert found.verdicts == [Verdict(1, "quarantined", reason="multi_line", detail="an event is one line")]
    assert json.loads(b'{"seq":0' + found.bodies[0])["raw"].encode() == pretty


@pytest.mark.parametrize("text", ['{"level":\n"info"}', '{"other": "audit",\n "a": 1}'])
def test_several_lines_that_are_not_audit_pass(text):
    found = judged(text.encode(), FieldRule(), one=True)
    assert statuses(found) == ["passed"]
    assert found.tally.passed == [text.encode() + b"\n"]


def test_a_tag_with_a_newline_inside_is_a_tag():
    assert statuses(judged(b'{"stream":\n  "audit"}', FieldRule(), one=True)) == ["multi_line"]


@pytest.mark.parametrize("one", [True, False])
def test_several_lines_that_are_too_long_are_too_long(one):
    body = b"x" * LIMIT + (b"\n" if one else b"") + b"x"
    assert statuses(judged(body, one=one)) == ["too_long"]


def test_nothing_has_no_verdict():
    assert judged(b" \n ", one=True).verdicts == []
