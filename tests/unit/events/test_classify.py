from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events import AllRule, FieldRule, PrefixRule, Rule

TAGGED = [
    b'{"stream":"audit"}',
    b'{"stream" :\t"audit"}',
    b' { "a" : 1 , "stream" : "audit" } ',
    b'{"a":{"stream":"other"},"stream":"audit"}',
    b'{"stream":"audit"}\r',
    rb'{"\u0073tream":"audit"}',
    rb'{"stream":"\u0061udit"}',
    rb'{"\u0073\u0074\u0072\u0065\u0061\u006D":"\u0061\u0075\u0064\u0069\u0074"}',
    rb'{"strea\u006d":"audi\u0074"}',
    b'{"stream":"audit","stream":"other"}',
    b'{"stream":"other","stream":"audit"}',
    rb'{"stream":"other","strea\u006D":"audit"}',
    b'{"stream":"audit","n":NaN}',
    b'{"stream":"audit","n":1e999,"m":' + b"9" * 5000 + b"}",
    rb'{"stream":"audit","s":"\ud800"}',
    b'{"stream":"audit","s":"a\tb"}',
]
UNREADABLE = [
    b'\xef\xbb\xbf{"stream":"audit"}',
    b'\x00\x00{"stream":"audit"}',
    b'{"stream":"audit"',
    b'{"stream":"audit","s":"\xff"}',
    b'2026-01-08 INFO {"stream":"audit"}',
    b'{"stream":"audit"}{"stream":"audit"}',
    b'{"stream":"audit",}',
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"stream":"audit"}',
    rb'garbage "\u0073tream" : "audit"',
    b'"stream":"audit"',
]
UNTAGGED = [
    b"",
    b"plain text about the audit stream",
    b'{"stream":"stdout","log":"audit"}',
    b'{"a":{"stream":"audit"}}',
    b'[{"stream":"audit"}]',
    b'{"a":{"stream":"audit"},"s":"raw\ttab"}',
    b'{"a":{"stream":"audit"},"n":NaN,"m":1e999}',
    b'{"stream":"Audit"}',
    b'{"Stream":"audit"}',
    b'{"stream":["audit"]}',
    b'{"audit":"stream"}',
    rb'{"msg":"\"stream\":\"audit\""}',
    rb'{"msg":"\u0022stream\u0022:\u0022audit\u0022"}',
    rb'{"\\u0073tream":"audit"}',
    b'{"msg":"x","stream":\n'[:-1],
    rb'{"html":"\u003cb\u003e","stream":"stdout"}',
]


@pytest.mark.parametrize("line", TAGGED)
def test_the_tag_at_the_top_level_makes_a_line_audit_however_it_is_written(line: bytes) -> None:
    assert FieldRule().is_audit(line)


@pytest.mark.parametrize("line", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_line_that_carries_the_tag_and_cannot_be_read_is_audit(line: bytes) -> None:
    assert FieldRule().is_audit(line)


@pytest.mark.parametrize("line", UNTAGGED)
def test_the_words_elsewhere_do_not_make_a_line_audit(line: bytes) -> None:
    assert not FieldRule().is_audit(line)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_candidates_name_every_audit_line_once_and_in_order(end: bytes) -> None:
    rule = FieldRule()
    lines = [line for trio in zip(TAGGED, UNTAGGED, UNREADABLE * 2, strict=False) for line in trio]
    block = b"\n".join(lines) + end
    found = [block[start:stop] for start, stop in rule.candidates(block)]
    assert [line for line in found if rule.is_audit(line)] == [line for line in lines if rule.is_audit(line)]


def test_a_key_and_its_value_on_different_lines_are_no_tag() -> None:
    assert FieldRule().candidates(b'{"stream":\n"audit"}\n{"stream"\n:"audit"}\n') == []


def test_html_escapes_do_not_slow_the_search_down_to_single_lines() -> None:
    block = rb'{"stream":"audit","html":"\u003cb\u003e"}' + b"\n"
    assert FieldRule().candidates(block) == [(0, len(block) - 1)]


@pytest.mark.parametrize("value", ["5", "true", "null"])
def test_a_tag_value_that_looks_like_a_number_is_still_a_string(value: str) -> None:
    rule = FieldRule("kind", value)
    assert rule.is_audit(f'{{"kind":"{value}"}}'.encode())
    assert not rule.is_audit(f'{{"x":{{"kind":"{value}"}},"kind":{value}}}'.encode())


def test_signs_with_a_meaning_in_patterns_are_taken_literally() -> None:
    rule = FieldRule("log.type", "a+b*(c)")
    assert rule.is_audit(b'{"log.type":"a+b*(c)"}')
    assert rule.candidates(b'{"logxtype":"aab"}\n') == []


@pytest.mark.parametrize("text", ["", 'a"b', "a\\b", "a/b", "é", "a\nb", "\x7f"])
def test_a_tag_that_json_may_spell_in_many_ways_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FieldRule(text, "audit")
    assert caught.value.key == "audit.field"
    with pytest.raises(ConfigError) as caught:
        FieldRule("stream", text)
    assert caught.value.key == "audit.value"


@pytest.mark.parametrize(
    ("line", "audit", "event"),
    [
        (b"AUDIT {}", True, b"{}"),
        (b"AUDIT ", True, b""),
        (b"AUDIT AUDIT {}", True, b"AUDIT {}"),
        (b"\x00\x00AUDIT {}", True, b"\x00\x00AUDIT {}"),
        (b"\xef\xbb\xbfAUDIT {}", True, b"\xef\xbb\xbfAUDIT {}"),
        (b" AUDIT {}", False, None),
        (b"AUDIT", False, None),
        (b"the AUDIT {}", False, None),
        (b"", False, None),
    ],
)
def test_a_prefix_counts_only_at_the_beginning(line: bytes, audit: bool, event: bytes | None) -> None:
    rule = PrefixRule("AUDIT ")
    assert rule.is_audit(line) is audit
    assert rule.candidates(b"x\n" + line + b"\ny AUDIT \n") == ([(2, 2 + len(line))] if audit else [])
    if event is not None:
        assert rule.event(line) == event


@pytest.mark.parametrize("prefix", ["", "  ", "a\nb", "\x00"])
def test_a_prefix_that_cannot_be_seen_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError):
        PrefixRule(prefix)


def test_a_whole_source_is_audit_but_for_lines_of_white_space() -> None:
    rule = AllRule()
    assert rule.candidates(b"\na\n\n \nb") == [(1, 2), (4, 5), (6, 7)]
    assert [rule.is_audit(line) for line in (b"a", b"", b" \t\r", b"\x00")] == [True, False, False, True]


@pytest.mark.parametrize("rule", [FieldRule(), PrefixRule("AUDIT "), AllRule()])
def test_an_empty_block_has_no_candidates(rule: Rule) -> None:
    assert rule.candidates(b"") == []


@pytest.mark.parametrize("before", [0, 1, 511, 512, 513, 5000])
def test_a_spelled_out_tag_is_found_behind_any_number_of_other_backslashes(before: int):
    tagged = b'{"str\\u0065am":"audit"}'
    plain = b'{"msg":"a \\"quoted\\" \\\\ word"}\n'
    noise = b"\\" * before + b"\n" + plain * (before % 7)
    block = noise + tagged + b"\n" + plain
    assert (len(noise), len(noise) + len(tagged)) in FieldRule().candidates(block)
