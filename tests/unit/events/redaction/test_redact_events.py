"""Events: what is removed, what stays, and what the record says about it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from agent.errors import FormatError
from agent.events import Accepted, Validator
from agent.events.redaction import BUILT_IN, PathRule, PatternRule, PseudonymKey, Redactor, Treatment
from agent.events.redaction.events import MAX_GROWTH_BYTES, MAX_NAMES

KEY = PseudonymKey(bytes(range(32)))
MASK, DROP, HASH = Treatment("mask"), Treatment("drop"), Treatment("hash", key=KEY)
ALICE, CARD = "alice@example.com", "4111111111111111"


def event(context: object = None, **fields: object) -> bytes:
    made = {
        "event_id": "e-1",
        "occurred_at": "2026-01-08T14:32:07Z",
        "actor": {"type": "user", "id": "u-1", "session": "s-1"},
        "action": "role.grant",
        "target": {"type": "user", "id": "u-2"},
        "outcome": "success",
        "context": {} if context is None else context,
        "stream": "audit",
    }
    return json.dumps({**made, **fields}, separators=(",", ":")).encode()


def by_path(*rules: tuple[str, Treatment]) -> Redactor:
    return Redactor([PathRule.of(path, treatment) for path, treatment in rules], (), KEY)


def by_looks(*names: str, treatment: Treatment = HASH) -> Redactor:
    return Redactor((), [PatternRule.of(name, treatment) for name in names], KEY)


def redacted(redactor: Redactor, line: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Redact an event that is valid before and after."""
    assert isinstance(Validator().judge_line(line), Accepted)
    made = redactor.redact_event(line)
    assert isinstance(Validator().judge_line(made.event), Accepted)
    return json.loads(made.event), made.names


def test_an_event_to_which_nothing_applies_is_the_same_object():
    line = event({"note": '100% fine & <b> ünïcode \\ / "quoted" 0190a5f2-7c1e-7000 1767882727201', "n": 1.10})
    redactor = Redactor([PathRule.of("context.email", HASH)], [PatternRule.of(name, MASK) for name in BUILT_IN], KEY)
    made = redactor.redact_event(line)
    assert made.event is line
    assert made.names == ()


def test_many_events_are_redacted_as_each_would_be():
    redactor = Redactor([PathRule.of("context.email", HASH)], [PatternRule.of("card_number", MASK)], KEY)
    lines = [event(), event({"email": ALICE}), event({"card": CARD}), event({"x": "\u00e9"})]
    assert redactor.redact_events(lines) == [redactor.redact_event(line) for line in lines]
    assert redactor.redact_events(lines)[0].event is lines[0]
    assert redactor.redact_events([]) == []


def test_a_path_hashes_masks_and_drops():
    line = event({"email": ALICE, "card": CARD, "secret": "x", "kept": 1})
    made, names = redacted(by_path(("context.email", HASH), ("context.card", Treatment("mask", 4)), ("context.secret", DROP)), line)
    assert made["context"] == {"email": KEY.pseudonym(ALICE), "card": "[redacted]1111", "kept": 1}
    assert names == ("context.email", "context.card", "context.secret")


def test_who_acted_on_whom_and_in_which_session_can_be_hashed():
    made, names = redacted(by_path(("target.id", HASH), ("actor.id", HASH), ("actor.session", HASH)), event())
    assert made["actor"] == {"type": "user", "id": KEY.pseudonym("u-1"), "session": KEY.pseudonym("s-1")}
    assert made["target"] == {"type": "user", "id": KEY.pseudonym("u-2")}
    assert names == ("actor.id", "actor.session", "target.id")


def test_a_session_that_is_not_there_is_not_redacted():
    made, names = redacted(by_path(("actor.session", HASH)), event(actor={"type": "user", "id": "u", "session": None}))
    assert made["actor"]["session"] is None
    assert names == ()


@pytest.mark.parametrize("key", ["email", "Email", "EMAIL"])
def test_a_key_is_found_in_any_case(key):
    made, names = redacted(by_path(("context.email", HASH)), event({key: ALICE}))
    assert made["context"] == {key: KEY.pseudonym(ALICE)}
    assert names == (f"context.{key}",)


def test_a_key_that_is_spelled_with_escapes_is_found():
    line = event({"email": ALICE}).replace(b'"email"', rb'"\u0065ma\u0069l"')
    assert redacted(by_path(("context.email", HASH)), line)[0]["context"] == {"email": KEY.pseudonym(ALICE)}


def test_a_star_is_any_one_key_or_element():
    line = event({"users": [{"email": "a@example.com"}, {"email": "b@example.com", "deep": {"email": "c@example.com"}}]})
    made, names = redacted(by_path(("context.users.*.email", MASK)), line)
    assert made["context"]["users"] == [{"email": "[redacted]"}, {"email": "[redacted]", "deep": {"email": "c@example.com"}}]
    assert names == ("context.users.0.email", "context.users.1.email")


def test_an_element_is_named_by_its_number():
    made, names = redacted(by_path(("context.l.1", DROP)), event({"l": ["a", "b", "c"]}))
    assert made["context"]["l"] == ["a", "c"]
    assert names == ("context.l.1",)


def test_keys_that_are_dropped_by_a_star_are_not_told():
    made, names = redacted(by_path(("context.tokens.*", DROP)), event({"tokens": {"tok_abc": 1, "tok_def": 2}}))
    assert made["context"] == {"tokens": {}}
    assert names == ("context.tokens.*",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b", None, 1], [KEY.pseudonym("a"), KEY.pseudonym("b"), None, KEY.pseudonym("1")]),
        ({"b": 1, "a": 2}, KEY.pseudonym('{"a":2,"b":1}')),
        ([["a"]], KEY.pseudonym('[["a"]]')),
        (4200, KEY.pseudonym("4200")),
        (4.2e3, KEY.pseudonym("4200")),
        (0.5, KEY.pseudonym("0.5")),
        (True, KEY.pseudonym("true")),
        (None, None),
    ],
)
def test_a_hash_of_what_is_no_text(value, expected):
    assert redacted(by_path(("context.v", HASH)), event({"v": value}))[0]["context"] == {"v": expected}


@pytest.mark.parametrize("value", [{"a": "x"}, ["x"], 12345678901234, True])
def test_a_mask_of_what_is_no_text_shows_nothing_of_it(value):
    assert redacted(by_path(("context.v", Treatment("mask", 4))), event({"v": value}))[0]["context"] == {"v": "[redacted]"}


def test_the_first_rule_for_a_place_counts():
    made, _ = redacted(by_path(("context.email", MASK), ("context.*", HASH)), event({"email": ALICE, "x": "y"}))
    assert made["context"] == {"email": "[redacted]", "x": KEY.pseudonym("y")}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (event(event_id=f"<{ALICE}>"), "event_id"),
        (event(action=f"grant:{ALICE}"), "action"),
        (event(actor={"type": "user", "id": ALICE}), "actor.id"),
        (event(actor={"type": ALICE, "id": "u"}), "actor.type"),
        (event(target={"type": "user", "id": f"user/{ALICE}"}), "target.id"),
        (event({"a": {"b": [1, {"c": f"<{ALICE}>"}]}}), "context.a.b.1.c"),
    ],
)
def test_a_pattern_is_looked_for_in_every_text(line, name):
    made, names = redacted(by_looks("email"), line)
    assert names == (name,)
    assert ALICE not in json.dumps(made)
    assert KEY.pseudonym(ALICE) in json.dumps(made)


@pytest.mark.parametrize(
    "number", ["4111111111111111", "4111111111111111.0", "4.111111111111111e15", "4111111111111111E0", "41111111111111110e-1"]
)
def test_a_card_number_is_found_in_a_number(number):
    line = event({"card": 0}).replace(b'"card":0', f'"card":{number}'.encode())
    made, names = redacted(by_looks("card_number", treatment=Treatment("mask", 4)), line)
    assert made["context"] == {"card": "[redacted]1111"}
    assert names == ("context.card",)


def test_an_order_number_that_fails_the_luhn_check_stays():
    line = event({"order": 4111111111111112, "text": "4111 1111 1111 1112"})
    assert by_looks("card_number").redact_event(line).event is line


def test_a_secret_that_is_a_key_is_redacted_and_not_told():
    made, names = redacted(by_looks("email", treatment=MASK), event({ALICE: 1, "bob@example.com": 2, "[redacted] 2": 3}))
    assert made["context"] == {"[redacted]": 1, "[redacted] 3": 2, "[redacted] 2": 3}
    assert not any("@" in name for name in names)


@pytest.mark.parametrize(
    "spelling",
    [r"alice\\u0040example.com", "alice%40example.com", "alice&#64;example.com", r"alice\uff20example.com", r"al\u200bice@example.com"],
)
def test_every_spelling_gets_the_pseudonym_of_the_plain_value(spelling):
    line = event({"x": "<HERE>"}).replace(b"HERE", spelling.encode())
    made, names = redacted(by_looks("email"), line)
    assert made["context"] == {"x": f"<{KEY.pseudonym(ALICE)}>"}
    assert names == ("context.x",)


def test_a_spelling_without_a_bottom_goes_as_a_whole():
    text = "@"
    for number in range(9):
        text = "".join(f"\\u{ord(one):04x}" for one in text) if number % 2 else "".join(f"%{ord(one):02x}" for one in text)
    assert redacted(by_looks("email"), event({"x": text}))[0]["context"] == {"x": "[redacted]"}


def test_patterns_that_meet_leave_nothing_of_either():
    redactor = Redactor((), [PatternRule.of("email", HASH), PatternRule.of("password_in_url", MASK)], KEY)
    made, _ = redacted(redactor, event({"url": "https://bob:p4ss@mail.example.com/x"}))
    assert made["context"] == {"url": "https://bob:[redacted]/x"}


def test_the_closed_fields_are_left_alone():
    redactor = Redactor((), [PatternRule.of("success|2026", MASK, "mine")], KEY)
    made, names = redacted(redactor, event({"x": "success in 2026"}))
    assert (made["outcome"], made["occurred_at"]) == ("success", "2026-01-08T14:32:07Z")
    assert made["context"] == {"x": "[redacted] in [redacted]"}
    assert names == ("context.x",)


def test_a_pseudonym_is_not_taken_for_a_secret():
    redactor = Redactor(
        [PathRule.of("actor.id", HASH)], [PatternRule.of("[a-z0-9:-]{20,}", MASK, "long"), PatternRule.of("email", HASH)], KEY
    )
    made, _ = redacted(redactor, event({"x": f"by {ALICE}"}))
    assert made["actor"]["id"] == KEY.pseudonym("u-1")
    assert made["context"] == {"x": f"by {KEY.pseudonym(ALICE)}"}


def test_what_would_not_fit_any_more_goes_as_a_whole():
    line = event(event_id=" ".join(["a@b.co"] * 16), actor={"type": "user", "id": " ".join(["a@b.co"] * 70)})
    made, names = redacted(by_looks("email"), line)
    assert made["event_id"] == made["actor"]["id"] == "[redacted]"
    assert names == ("event_id", "actor.id")


def test_a_text_full_of_secrets_goes_as_a_whole():
    made, _ = redacted(by_looks("email"), event({"x": " ".join(["a@b.co"] * 1000)}))
    assert made["context"] == {"x": "[redacted]"}


def test_an_event_may_not_grow_without_bound():
    line = event({"l": ["1"] * 60_000})
    redactor = Redactor((), [PatternRule.of("1", HASH, "one")], KEY)
    made, names = redacted(redactor, line)
    assert made["context"] == {}
    assert names == ("event_id", "actor.id", "actor.session", "context")
    assert len(redactor.redact_event(line).event) < len(line) + MAX_GROWTH_BYTES


def test_names_are_bounded_in_number():
    made, names = redacted(by_looks("email", treatment=MASK), event({"l": [ALICE] * (MAX_NAMES + 1)}, event_id=ALICE, action=ALICE))
    assert made["context"]["l"][0] == "[redacted]"
    assert names == ("event_id", "action", "context")


def test_names_are_bounded_in_length():
    _, names = redacted(by_looks("email"), event({"a" * 100: {"b" * 150: ALICE}}))
    assert names == ("context." + "a" * 100,)


def test_numbers_and_texts_that_stay_keep_their_value():
    line = event({"email": ALICE, "n": 9007199254740991, "f": 0.1, "neg": -0.0, "t": 'é\n\t"\\', "nothing": None, "flag": True})
    made, _ = redacted(by_path(("context.email", DROP)), line)
    assert made["context"] == {"n": 9007199254740991, "f": 0.1, "neg": -0.0, "t": 'é\n\t"\\', "nothing": None, "flag": True}
    assert list(made) == list(json.loads(line))


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"\xff", b'"text"'])
def test_what_cannot_be_an_event_is_an_error_and_never_let_through(line):
    with pytest.raises(FormatError):
        by_path(("actor.id", HASH)).redact_event(line)


def test_redacting_twice_changes_nothing_more():
    redactor = Redactor((), [PatternRule.of(name, Treatment("mask", 4)) for name in BUILT_IN], KEY)
    once = redactor.redact_event(event({"x": f"{ALICE} {CARD} https://a:b1@h ghp_{'a1' * 18} DE89370400440532013000"}))
    assert redactor.redact_event(once.event).event == once.event


def test_without_a_key_there_is_no_digest():
    assert Redactor((), [PatternRule.of("email", MASK)]).digest(b"line") is None
    assert Redactor((), [PatternRule.of("email", MASK)]).key_id is None
    assert by_looks("email").digest(b"line") == KEY.digest(b"line")
    assert by_looks("email").key_id == KEY.id


def test_what_is_said_about_a_line_is_redacted_too():
    assert by_looks("email", treatment=MASK).redact_detail(f"context.{ALICE}") == "[redacted]"
    assert by_looks("card_number").redact_detail("context.email") == "context.email"
    assert by_path(("context.email", MASK)).redact_detail("context.email") == "context.email"


def test_a_redacted_event_is_compact_json():
    assert by_path(("context.a", MASK)).redact_event(event({"a": "x"})).event == orjson.dumps(json.loads(event({"a": "[redacted]"})))


def test_a_secret_in_hexadecimal_is_cut_out_of_an_event_too():
    digits = ALICE.encode().hex()
    made, names = redacted(by_looks("email"), event({"command": f"mail {digits.upper()} now", f"0x{digits}": 1, "id": "9f" * 16}))
    assert made["context"] == {"command": f"mail {KEY.pseudonym(ALICE)} now", f"0x{KEY.pseudonym(ALICE)}": 1, "id": "9f" * 16}
    assert names == ("context.command", f"context.0x{KEY.pseudonym(ALICE)}")
