"""Whole mappings: rules, what passes, what is quarantined, and what a file may say."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from agent.errors import ConfigError
from agent.events.mappings import PASSED, Mapped, Moment, run_examples
from agent.events.validate import Validator
from agent.events.verdict import Accepted
from tests.unit.events.mappings.making import EVENT, NOON, event_of, mapping, refusal

RULES = [
    {"name": "first", "when": {"verb": "a"}, "action": "one", "context": {"more": "{x}"}, "client": ["context.more"]},
    {"name": "second", "when": {"verb": ["a", "b"]}, "action": "two", "target": {"type": "other", "id": "{x}"}},
    {"name": "third", "when": {"x": 1}, "action": "three", "outcome": "denied"},
]


def test_the_first_rule_that_holds_says_what_the_event_has_and_the_rest_is_common():
    found = mapping(event=EVENT | {"context": {"x": "{x}"}}, rules=RULES, client=["context.x"])
    assert event_of(found, {"verb": "a", "x": 5}) == EVENT | {"action": "one", "context": {"x": 5, "more": 5}}
    assert event_of(found, {"verb": "b", "x": 5}) == EVENT | {"action": "two", "target": {"type": "other", "id": "5"}, "context": {"x": 5}}
    assert event_of(found, {"verb": "c", "x": 1}) == EVENT | {"action": "three", "outcome": "denied", "context": {"x": 1}}
    assert refusal(found, {"verb": "c"}) == ("not_mapped", "test: no rule")


def test_a_line_that_no_rule_is_about_passes_where_the_mapping_says_so():
    found = mapping(rules=RULES, otherwise="pass")
    assert found.map(b'{"verb":"c"}', Moment(NOON)) is PASSED


def test_a_line_of_the_format_that_is_no_audit_event_passes_before_any_rule():
    found = mapping(**{"pass": [{"stage": "begin"}, {"kind": "noise"}]})
    assert found.map(b'{"stage":"begin"}', Moment(NOON)) is PASSED
    assert found.map(b'{"kind":"noise"}', Moment(NOON)) is PASSED
    assert isinstance(found.map(b'{"kind":"x"}', Moment(NOON)), Mapped)


def test_the_client_s_own_fields_are_named_if_they_are_there():
    found = mapping(event=EVENT | {"context": {"x": "{x}"}}, rules=RULES, client=["context.x", "context.absent"])
    outcome = found.map(b'{"verb":"a","x":0}', Moment(NOON))
    assert isinstance(outcome, Mapped)
    assert (outcome.rule, outcome.client) == ("test/first", ("context.x", "context.more"))
    outcome = found.map(b'{"verb":"a"}', Moment(NOON))
    assert isinstance(outcome, Mapped)
    assert outcome.client == ()


@pytest.mark.parametrize("field", ["occurred_at", "actor.type", "actor.id", "action", "target.type", "target.id", "outcome"])
def test_a_line_without_a_field_of_the_schema_is_quarantined_by_the_name_of_rule_and_field(field):
    event = {"occurred_at": "{t}", "actor": {"type": "{at}", "id": "{ai}"}, "target": {"type": "{tt}", "id": "{ti}"}, "outcome": "{o}"}
    found = mapping(event=event, rules=[{"name": "any", "action": "{a}"}])
    line = {"t": "2026-06-30T10:00:00Z", "at": "user", "ai": "a", "tt": "x", "ti": "y", "o": "success", "a": "b"}
    keys = {"occurred_at": "t", "actor.type": "at", "actor.id": "ai", "action": "a", "target.type": "tt", "target.id": "ti", "outcome": "o"}
    assert isinstance(found.map(orjson.dumps(line), Moment(NOON)), Mapped)
    assert refusal(found, line | {keys[field]: ""}) == ("not_mapped", f"test/any: {field}")


def test_every_rule_is_tried_in_its_order_however_many_share_a_path():
    rules = [{"name": f"r{n}", "when": {"verb": f"v{n % 5}", "x": {"at_least": n}}, "action": f"act.{n}"} for n in range(40)]
    found = mapping(rules=[*rules, {"name": "rest", "when": {"x": {"present": True}}, "action": "rest"}])
    for x in (0, 7, 39, 100):
        for verb in ("v0", "v3", "v4", "other"):
            first = next((n for n in range(40) if verb == f"v{n % 5}" and x >= n), None)
            wanted = "rest" if first is None else f"act.{first}"
            assert event_of(found, {"verb": verb, "x": x})["action"] == wanted
    assert event_of(found, {"x": 1})["action"] == "rest"


# ---- ids, names, sizes ------------------------------------------------------------------------------------------------------------


def test_an_event_without_an_id_of_its_own_gets_one_from_the_line_and_where_it_stood():
    found = mapping(event=EVENT | {"event_id": "{id}"})
    one = event_of(found, b'{"x":1}', Moment(NOON, 7))["event_id"]
    assert one == event_of(found, b'{"x":1}', Moment(NOON.replace(hour=13), 7))["event_id"]
    others = {
        event_of(found, b'{"x":2}', Moment(NOON, 7))["event_id"],
        event_of(found, b'{"x":1}', Moment(NOON, 8))["event_id"],
        event_of(found, b'{"x":1}', Moment(NOON, 7, "2026-06-30T12:00:00.000001Z"))["event_id"],
    }
    assert len(others | {one}) == 4
    assert event_of(found, {"id": 7})["event_id"] == "7"


def test_names_that_are_too_long_are_shortened_to_different_ones_and_the_event_stays_valid():
    found = mapping(event=EVENT | {"event_id": "{id}", "actor": {"type": "user", "id": "{who}", "session": "{who}"}})
    long = "x" * 5000
    one, other = event_of(found, {"id": long, "who": long}), event_of(found, {"id": long + "y", "who": long + "y"})
    assert one["actor"]["id"].startswith("x" * 400)
    assert (len(one["actor"]["id"]), len(one["event_id"])) == (512, 128)
    assert one["actor"] != other["actor"]
    assert one["event_id"] != other["event_id"]
    assert isinstance(Validator().judge_line(orjson.dumps(one | {"stream": "audit"})), Accepted)


def test_the_same_line_gives_the_same_bytes():
    found = mapping(rules=RULES)
    lines = {found.map(b'{"verb":"a","x":[1,{"y":2}]}', Moment(NOON, 3)) for _ in range(3)}
    assert len(lines) == 1


# ---- files that are wrong -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"format": 2}, "format"),
        ({"format": True}, "format"),
        ({"name": "No Name"}, "name"),
        ({"title": None}, "title"),
        ({"select": None}, "select"),
        ({"select": {}}, "select"),
        ({"select": {"all": True, "contains": ["x"]}}, "select"),
        ({"select": {"all": False}}, r"select\.all"),
        ({"select": {"contains": ["a\nb"]}}, r"select\.contains"),
        ({"select": {"contains": []}}, r"select\.contains"),
        ({"rules": None}, "rules"),
        ({"rules": []}, "rules"),
        ({"rules": [{"action": "x"}]}, r"rules\[0\]\.name"),
        ({"rules": [{"name": "a", "action": "x"}, {"name": "a", "action": "y"}]}, r"rules\[1\]\.name"),
        ({"rules": [{"name": "a"}]}, r"rules\[0\]"),
        ({"rules": [{"name": "a", "action": "x", "outcome": "maybe"}]}, r"rules\[0\]\.outcome"),
        ({"rules": [{"name": "a", "action": "x", "wen": {}}]}, r"rules\[0\]\.wen"),
        ({"event": {"actor": {"name": "x"}}}, r"event\.actor\.name"),
        ({"client": ["user_agent"]}, "client"),
        ({"let": {"a.b": "x"}}, r"let\.a\.b"),
        ({"let": {"a": "{"}}, r"let\.a"),
        ({"pass": {"a": 1}}, "pass"),
        ({"otherwise": "drop"}, "otherwise"),
        ({"zones": {"CEST": "Mars"}}, r"zones\.CEST"),
        ({"lookups": {"a": []}}, r"lookups\.a"),
        ({"join": {"start": "("}}, r"join\.start"),
        ({"rule": []}, "rule"),
        ({"examples": {}}, "examples"),
    ],
)
def test_a_mapping_that_is_wrong_is_refused_with_its_file_and_key(changes, key):
    with pytest.raises(ConfigError, match=rf"^test\.yaml: {key}: "):
        mapping(**changes)


# ---- examples -----------------------------------------------------------------------------------------------------------------------


GOOD = {"title": "an event", "line": '{"x":1}', "rule": "any", "event": EVENT | {"action": "thing.do"}}


def test_examples_that_hold_are_no_news():
    passing = {"title": "noise", "line": '{"noise":1}', "passes": True}
    broken = {"title": "broken", "line": "{", "quarantined": "not_json"}
    found = mapping(examples=[GOOD, passing, broken], **{"pass": [{"noise": {"present": True}}]})
    assert run_examples(found) == []


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (GOOD | {"event": EVENT | {"action": "other"}}, "action is 'thing.do', expected 'other'"),
        (GOOD | {"event": EVENT}, "action was not expected"),
        (GOOD | {"event": EVENT | {"action": "thing.do", "context": {}}}, "context is missing"),
        (GOOD | {"rule": "other"}, "the rule was test/any"),
        (GOOD | {"client": ["context.x"]}, "client is"),
        ({"title": "t", "line": "{", "event": EVENT}, "it was quarantined: not_json"),
        ({"title": "t", "line": "{", "quarantined": "not_utc"}, "it was quarantined: not_json"),
        ({"title": "t", "line": "{}", "passes": True}, "became an event by the rule test/any"),
        ({"title": "t", "line": "{}"}, "needs line or lines"),
        ({"title": "t", "line": "{}", "passes": True, "event": EVENT}, "needs line or lines"),
        ({"title": "t", "passes": True}, "needs line or lines"),
        ({"line": "{}", "passes": True}, "title"),
        ({"title": "t", "line": "{}", "pases": True}, "Did you mean passes"),
    ],
)
def test_an_example_that_does_not_hold_is_named_with_what_came_instead(example, said):
    wrong = run_examples(mapping(examples=[GOOD, example]))
    assert len(wrong) == 1
    assert wrong[0].startswith("test.yaml: examples[1]")
    assert said in wrong[0] or "Did you mean" in said


def test_an_example_of_a_line_that_would_never_be_looked_at_is_wrong():
    found = mapping(select={"contains": ["needle"]}, examples=[GOOD])
    assert "select" in run_examples(found)[0]


def test_an_example_whose_event_would_be_quarantined_is_wrong():
    event = EVENT | {"action": "thing.do", "occurred_at": "2026-02-31T10:00:00Z"}
    found = mapping(event=EVENT | {"occurred_at": "2026-02-31T10:00:00Z"}, examples=[GOOD | {"event": event}])
    assert "would be quarantined" in run_examples(found)[0]


def test_a_rule_that_no_example_shows_is_wrong():
    assert run_examples(mapping(rules=RULES)) == [
        f"test.yaml: rules: no example shows the rule {name}" for name in ("first", "second", "third")
    ]


def test_a_mapping_is_a_value_that_nothing_changes():
    found = mapping()
    assert replace(found, title="x") != found


# ---- hostile values -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1180591620717411303424", "1e300", "-1e308", "0.1e-300", "[[[]]]", '{"a":{}}', "true", '"\\u0000x"'])
def test_no_value_of_a_line_makes_the_engine_raise(value):
    rules = [
        {"name": "compared", "when": {"v": [1, "x"]}, "action": "a"},
        {"name": "measured", "when": {"v": {"at_least": 3, "below": 4}}, "action": "a"},
        {"name": "searched", "when": {"v": {"matches": "^z"}}, "action": "a"},
        {"name": "any", "action": "{v}", "context": {"v": "{v}", "t": {"time": "{v}", "format": ["rfc3339", "epoch_seconds", "%Y"]}}},
    ]
    outcome = mapping(rules=rules).map(b'{"v":%b}' % value.encode(), Moment(NOON))
    assert isinstance(outcome, Mapped)


def test_a_client_cannot_have_its_event_quarantined_by_a_nul():
    event = event_of(
        mapping(rules=[{"name": "any", "action": "a", "context": {"agent": "{a}", "l": "{l}"}}]),
        b'{"a":"x\\u0000\\\\u0000","l":["\\u0000"]}',
    )
    assert event["context"] == {"agent": "x\\x00\\u0000", "l": ["\\x00"]}
    assert isinstance(Validator().judge_line(orjson.dumps(event | {"stream": "audit"})), Accepted)


def test_a_later_step_cannot_replace_what_the_engine_put_there():
    step = {"as": "json", "of": "{message}"}
    context = {"host": "{header.host}", "l": "{@line}", "m": {"time": "{t}", "format": "syslog"}}
    found = mapping(parse=[{"header": "syslog"}, step], event=EVENT | {"occurred_at": "{@observed_at}", "context": context})
    line = b'Jun 30 10:00:00 h p: {"@observed_at":"1970","@moment":5,"@line":"x","header":{"host":"forged"},".":1,"t":"Jun 30 10:00:00"}'
    event = event_of(found, line)
    assert event["occurred_at"] == "2026-06-30T12:00:00Z"
    assert event["context"] == {"host": "h", "l": line.decode(), "m": "2026-06-30T10:00:00Z"}


def test_a_named_value_is_there_for_whoever_uses_it():
    let = {"base": "{x}", "shout": "{base}!", "twice": "{shout}{shout}", "unused": "{x}"}
    rules = [
        {"name": "asked", "when": {"base": "a"}, "action": "one", "context": {"v": "{twice}"}},
        {"name": "any", "action": "two-{shout}"},
    ]
    found = mapping(let=let, rules=rules)
    assert event_of(found, {"x": "a"})["context"] == {"v": "a!a!"}
    assert event_of(found, {"x": "b", "shout": "forged"})["action"] == "two-b!"
