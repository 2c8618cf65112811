from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from agent.errors import ConfigError
from agent.events import Accepted, AllRule, Catalog, FieldRule, PrefixRule, Reason, Rejection, Validator
from agent.trail.records import QuarantineReason

GRANT = {"category": "authorization", "sensitivity": "high", "required_context": ["granted_role", "approval.id"]}
CATALOG = Catalog.from_mapping({"format": 1, "actions": {"role.grant": GRANT}}, "c.yaml")
VALID = {
    "stream": "audit",
    "event_id": "e-1",
    "occurred_at": "2026-01-08T14:32:07.201934Z",
    "actor": {"type": "user", "id": "u-1", "session": "s-1"},
    "action": "auth.login",
    "target": {"type": "account", "id": "a-1"},
    "outcome": "denied",
    "context": {"method": "password"},
}


def line(**changes: object) -> bytes:
    """Write the valid event with some fields changed; ``...`` removes one."""
    value = {key: member for key, member in (VALID | changes).items() if member is not ...}
    return json.dumps(value, separators=(",", ":")).encode()


def text(old: str, new: str) -> bytes:
    before = line().decode()
    assert old in before
    return before.replace(old, new, 1).encode("utf-8", "surrogatepass")


ACCEPTED = {
    "as it is": line(),
    "spaced": json.dumps(VALID).encode(),
    "other order": json.dumps(dict(reversed(VALID.items()))).encode(),
    "no context": line(context=...),
    "no session": line(actor={"type": "system", "id": "cron"}),
    "null session": line(actor={"type": "system", "id": "cron", "session": None}),
    "+00:00": line(occurred_at="2026-01-08T14:32:07+00:00"),
    "whole second": line(occurred_at="2026-01-08T14:32:07Z"),
    "nine decimals": line(occurred_at="2026-01-08T14:32:07.123456789Z"),
    "nine decimals with offset": line(occurred_at="2026-01-08T14:32:07.123456789+00:00"),
    "nested": line(context={"a": {"b": {"c": [1, {"d": None}]}}}),
    "one level": line(context={"a": {"b": 1}, "l": [1, "x", None]}),
    "escapes": text("u-1", r"\u00fc\ud83d\ude00\n\/"),
    "no escapes": text("u-1", "ü😀"),
    "carriage return": line() + b"\r",
    "edge integers": line(context={"a": 2**53 - 1, "b": -(2**53) + 1}),
    "floats": text('"method":"password"', '"a":1e5,"b":-0.0,"c":1.5,"d":1e-400'),
    "longest names": line(event_id="e" * 128, action="a" * 512),
    "deepest": text('"method":"password"', '"a":' + "[" * 30 + "]" * 30),
}
REJECTED = {
    "empty": (b"", Reason.NOT_JSON, ""),
    "truncated": (line()[:-1], Reason.NOT_JSON, ""),
    "two values": (line() + line(), Reason.NOT_JSON, ""),
    "two values with comma": (line() + b"," + line(), Reason.NOT_JSON, ""),
    "byte order mark": (b"\xef\xbb\xbf" + line(), Reason.NOT_JSON, "byte order mark"),
    "nul before": (b"\x00" + line(), Reason.NOT_JSON, ""),
    "nan": (text('"password"', "NaN"), Reason.NOT_JSON, "context.method"),
    "infinity": (text('"password"', "-Infinity"), Reason.NOT_JSON, "context.method"),
    "control character": (text("password", "a\tb"), Reason.NOT_JSON, ""),
    "trailing comma": (text('"password"}', '"password",}'), Reason.NOT_JSON, ""),
    "leading zero": (text('"password"', "01"), Reason.NOT_JSON, ""),
    "latin-1": (line().replace(b"u-1", b"\xfc"), Reason.INVALID_UTF8, ""),
    "encoded surrogate": (text("u-1", "\ud800"), Reason.INVALID_UTF8, ""),
    "lone surrogate": (text("u-1", r"\ud800"), Reason.INVALID_UNICODE, "actor.id"),
    "reversed surrogates": (text("u-1", r"\ude00\ud83d"), Reason.INVALID_UNICODE, "actor.id"),
    "lone surrogate in key": (text('"method"', r'"\udc00"'), Reason.INVALID_UNICODE, "context"),
    "escaped nul": (text("password", r"\u0000"), Reason.INVALID_UNICODE, "context.method"),
    "duplicate key": (text('"outcome"', '"action":"x","outcome"'), Reason.DUPLICATE_KEY, "action"),
    "duplicate tag": (text('"event_id"', '"stream":"audit","event_id"'), Reason.DUPLICATE_KEY, "stream"),
    "same key twice, escaped": (text('"outcome"', r'"\u0061ction":"x","outcome"'), Reason.DUPLICATE_KEY, "action"),
    "duplicate deep": (text('"password"', '{"a":[{"b":1,"b":1}]}'), Reason.DUPLICATE_KEY, "context.method.a[0].b"),
    "keys that differ by case": (text('"password"', '"x","Method":"y"'), Reason.DUPLICATE_KEY, "context.Method"),
    "keys that differ by case, nested": (text('"password"', '{"a":1,"A":2}'), Reason.DUPLICATE_KEY, "context.method.A"),
    "kelvin sign": (text('"password"', '1,"k":1,"\N{KELVIN SIGN}":2'), Reason.DUPLICATE_KEY, "context.\N{KELVIN SIGN}"),
    "too deep": (text('"password"', "[" * 31 + "]" * 31), Reason.TOO_DEEP, ""),
    "far too deep": (text('"password"', "[" * 100_000 + "]" * 100_000), Reason.TOO_DEEP, ""),
    "deep and broken": (b'{"stream":"audit","x":' + b"[" * 100_000, Reason.TOO_DEEP, ""),
    "integer": (text('"password"', str(2**53)), Reason.NUMBER_OUT_OF_RANGE, "context.method"),
    "long integer": (text('"password"', "-" + "9" * 5000), Reason.NUMBER_OUT_OF_RANGE, "context.method"),
    "float": (text('"password"', "1e400"), Reason.NUMBER_OUT_OF_RANGE, "context.method"),
    "array": (b"[1]", Reason.NOT_AN_OBJECT, ""),
    "string": (b'"x"', Reason.NOT_AN_OBJECT, ""),
    "no tag": (line(stream=...), Reason.MISSING_FIELD, "stream"),
    "other tag": (line(stream="other"), Reason.INVALID_VALUE, "stream"),
    "no actor": (line(actor=...), Reason.MISSING_FIELD, "actor"),
    "no actor id": (line(actor={"type": "user"}), Reason.MISSING_FIELD, "actor.id"),
    "null actor": (line(actor=None), Reason.WRONG_TYPE, "actor"),
    "actor's name": (line(actor={"type": "user", "id": "u", "name": "n"}), Reason.UNKNOWN_FIELD, "actor.name"),
    "unknown field": (line(user="u"), Reason.UNKNOWN_FIELD, "user"),
    "case variant": (text('"outcome"', '"Outcome"'), Reason.MISSING_FIELD, "outcome"),
    "number as id": (line(event_id=7), Reason.WRONG_TYPE, "event_id"),
    "empty id": (line(event_id=""), Reason.INVALID_VALUE, "event_id"),
    "long id": (line(event_id="e" * 129), Reason.INVALID_VALUE, "event_id"),
    "long action": (line(action="a" * 513), Reason.INVALID_VALUE, "action"),
    "empty session": (line(actor={"type": "u", "id": "u", "session": ""}), Reason.INVALID_VALUE, "actor.session"),
    "outcome": (line(outcome="ok"), Reason.INVALID_VALUE, "outcome"),
    "context list": (line(context=[]), Reason.WRONG_TYPE, "context"),
    "context null": (line(context=None), Reason.WRONG_TYPE, "context"),
    "other zone": (line(occurred_at="2026-01-08T14:32:07+02:00"), Reason.NOT_UTC, "occurred_at"),
    "negative zero zone": (line(occurred_at="2026-01-08T14:32:07-00:00"), Reason.NOT_UTC, "occurred_at"),
    "no zone": (line(occurred_at="2026-01-08T14:32:07"), Reason.NOT_UTC, "occurred_at"),
    "small letters": (line(occurred_at="2026-01-08t14:32:07z"), Reason.INVALID_VALUE, "occurred_at"),
    "space for the t": (line(occurred_at="2026-01-08 14:32:07Z"), Reason.INVALID_VALUE, "occurred_at"),
    "zone without colon": (line(occurred_at="2026-01-08T14:32:07+0000"), Reason.INVALID_VALUE, "occurred_at"),
    "no such day": (line(occurred_at="2026-02-30T14:32:07Z"), Reason.INVALID_VALUE, "occurred_at"),
    "year zero": (line(occurred_at="0000-01-01T00:00:00Z"), Reason.INVALID_VALUE, "occurred_at"),
    "leap second": (line(occurred_at="2016-12-31T23:59:60Z"), Reason.INVALID_VALUE, "occurred_at"),
    "ten decimals": (line(occurred_at="2026-01-08T14:32:07.1234567891Z"), Reason.INVALID_VALUE, "occurred_at"),
    "epoch": (line(occurred_at=1767882727), Reason.WRONG_TYPE, "occurred_at"),
    "not a time": (line(occurred_at="yesterday"), Reason.INVALID_VALUE, "occurred_at"),
    "no context for a grant": (line(action="role.grant"), Reason.MISSING_CONTEXT, "context.granted_role"),
    "null for a grant": (
        line(action="role.grant", context={"granted_role": None, "approval": {"id": 1}}),
        Reason.MISSING_CONTEXT,
        "context.granted_role",
    ),
    "no approval": (line(action="role.grant", context={"granted_role": "admin"}), Reason.MISSING_CONTEXT, "context.approval.id"),
}
GOOD_GRANT = line(action="role.grant", context={"granted_role": "admin", "approval": {"id": "A-1"}})


@pytest.fixture
def validator() -> Validator:
    return Validator(FieldRule(), CATALOG)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_valid_event_is_accepted_by_both_tiers(validator: Validator, name: str) -> None:
    verdict = validator.judge_line(ACCEPTED[name])
    assert isinstance(verdict, Accepted), verdict
    assert verdict.outcome == "denied"
    summary = validator.judge_lines([ACCEPTED[name], line()])
    assert (summary.accepted, summary.rejected) == (2, {})


@pytest.mark.parametrize("name", REJECTED)
def test_an_invalid_line_gets_its_reason_and_path_from_both_tiers(validator: Validator, name: str) -> None:
    bad, reason, detail = REJECTED[name]
    assert validator.judge_line(bad) == Rejection(reason, detail)
    summary = validator.judge_lines([line(), bad, GOOD_GRANT])
    assert summary.rejected == {1: Rejection(reason, detail)}
    assert summary.accepted == 2


def test_reasons_are_those_of_the_trail_format() -> None:
    # What a message of several lines would be, nobody judges: it is not one line.
    assert {*map(str, Reason), "multi_line"} == {str(reason) for reason in QuarantineReason}
    exercised = {reason for _, reason, _ in REJECTED.values()}
    # Too long a line is none that is judged, and what no mapping could map never becomes one.
    assert exercised == set(Reason) - {Reason.TOO_LONG, Reason.NOT_MAPPED}


def test_many_lines_are_judged_as_each_alone(validator: Validator) -> None:
    lines = [*ACCEPTED.values(), *(bad for bad, _, _ in REJECTED.values())] * 7
    lines = lines[::3] + [line()] * 600 + lines[1::3] + [GOOD_GRANT] * 300 + lines[2::3]
    verdicts = [validator.judge_line(each) for each in lines]
    summary = validator.judge_lines(lines)
    assert summary.rejected == {index: verdict for index, verdict in enumerate(verdicts) if isinstance(verdict, Rejection)}
    assert list(summary.rejected) == sorted(summary.rejected)
    times = [verdict.occurred_at for verdict in verdicts if isinstance(verdict, Accepted)]
    assert (summary.accepted, summary.occurred_min, summary.occurred_max) == (len(times), min(times), max(times))
    grants = sum(isinstance(verdict, Accepted) and verdict.action == "role.grant" for verdict in verdicts)
    assert summary.outcomes == {("authorization", "denied"): grants, ("uncatalogued", "denied"): len(times) - grants}


def test_values_that_join_up_across_lines_are_not_taken_for_events(validator: Validator) -> None:
    halves = [line() + b"," + line(), line()[:-20], line()[-20:]]
    assert set(validator.judge_lines(halves).rejected) == {0, 1, 2}


def test_no_lines_have_an_empty_judgement(validator: Validator) -> None:
    summary = validator.judge_lines([])
    assert (summary.accepted, summary.rejected, summary.occurred_min, summary.outcomes) == (0, {}, None, {})


NULL_GRANT = line(action="role.grant", context={"granted_role": None, "approval": {"id": "A-1"}})


def test_a_null_is_seen_in_a_shape_that_was_fine_before(validator: Validator) -> None:
    assert validator.judge_lines([GOOD_GRANT] * 2).accepted == 2
    assert set(validator.judge_lines([GOOD_GRANT, NULL_GRANT]).rejected) == {1}


def test_a_null_does_not_send_later_events_of_the_same_shape_to_the_slow_tier(
    validator: Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(validator.judge_lines([NULL_GRANT, GOOD_GRANT, NULL_GRANT]).rejected) == {0, 2}
    monkeypatch.setattr(validator, "judge_line", lambda each: pytest.fail(f"judged alone: {each!r}"))
    assert validator.judge_lines([GOOD_GRANT] * 5).accepted == 5


@pytest.mark.parametrize(
    "name",
    ["as it is", "spaced", "other order", "no context", "null session", "+00:00", "one level", "escapes", "carriage return", "floats"],
)
def test_what_services_commonly_write_is_proven_without_the_slow_tier(
    validator: Validator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(validator, "judge_line", lambda each: pytest.fail(f"judged alone: {each!r}"))
    common = ACCEPTED[name].replace(b'"a":1e5,', b"").replace(b',"c":1.5,"d":1e-400', b"")
    assert validator.judge_lines([common] * 3).accepted == 3


def test_more_shapes_than_are_remembered_are_judged_all_the_same(validator: Validator) -> None:
    lines = [line(context={f"key-{number}": number, "x" * (number % 3000): None}) for number in range(2500)]
    lines += [line(context={"A": 1, "a": 2})]
    assert list(validator.judge_lines(lines + lines).rejected) == [2500, 5001]


def test_the_time_is_utc_and_exact(validator: Validator) -> None:
    assert validator.judge_line(line()) == Accepted(datetime(2026, 1, 8, 14, 32, 7, 201934, tzinfo=UTC), "auth.login", "denied")


def test_the_tag_of_another_rule_becomes_part_of_the_schema() -> None:
    validator = Validator(FieldRule("log-type", "AUDIT"))
    assert isinstance(validator.judge_line(text('"stream":"audit"', '"log-type":"AUDIT"')), Accepted)
    assert validator.judge_line(line(stream=..., **{"log-type": "audit"})) == Rejection(Reason.INVALID_VALUE, "log-type")
    assert validator.judge_line(line(**{"log-type": "AUDIT"})) == Rejection(Reason.UNKNOWN_FIELD, "stream")


@pytest.mark.parametrize("rule", [AllRule(), PrefixRule("AUDIT ")])
def test_without_a_tag_in_the_rule_the_default_one_may_be_there_or_not(rule: AllRule | PrefixRule) -> None:
    validator = Validator(rule)
    assert validator.judge_lines([line(), line(stream=...)]).accepted == 2
    assert validator.judge_line(line(stream="other")) == Rejection(Reason.INVALID_VALUE, "stream")


def test_a_tag_named_like_a_field_of_the_schema_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Validator(FieldRule("action", "audit"))
    assert caught.value.key == "audit.field"


def test_details_are_bounded_and_never_hold_a_value(validator: Validator) -> None:
    long = validator.judge_line(line(**{"k" * 5000: "secret"}))
    assert isinstance(long, Rejection)
    assert len(long.detail) == 200
    odd = validator.judge_line(text('"password"', r'{"\ud800":"secret"}'))
    assert odd == Rejection(Reason.INVALID_UNICODE, "context.method")


@pytest.mark.parametrize("hostile", [b"[]" * 500_000, b'"' * 1_000_000, b'"\\' * 500_000, b'{"a":' * 200_000, b"{" + b'"a":[],' * 120_000])
def test_a_hostile_megabyte_takes_bounded_time(validator: Validator, hostile: bytes) -> None:
    begin = time.perf_counter()
    verdict = validator.judge_line(hostile)
    FieldRule().is_audit(hostile + b'"stream":"audit"')
    assert isinstance(verdict, Rejection)
    assert time.perf_counter() - begin < 5
