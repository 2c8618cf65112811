"""How lines are parsed, step by step; hostile lines first."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events.mappings import Moment
from agent.events.mappings.header import Header
from tests.unit.events.mappings.making import EVENT, NOON, computed, event_of, mapping, refusal

SYSLOG = [{"header": "syslog"}]


def parsed(line, expression, *steps):
    return computed(expression, line, parse=list(steps))


# ---- JSON -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b"7", "not_an_object"),
        (b'{"a":1}{"a":1}', "not_json"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"a":1, "b":{"x":1.0,"x":1}}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"a":NaN}', "not_json"),
        (b"[" * 5000 + b"]" * 5000, "too_deep"),
        (b'{"a":"\\ud800"}', "not_json"),
    ],
)
def test_a_line_that_parsers_could_read_in_two_ways_or_not_at_all_is_refused(line, reason):
    assert refusal(mapping(), line)[0] == reason
    assert refusal(mapping(), line)[1].startswith("test")


def test_keys_that_differ_by_case_and_large_numbers_are_no_reason_to_refuse_what_others_write():
    line = b'{ "App": 1.50, "app" : 123456789012345678901234567890, "s":"\\u0041\\/" }'
    assert event_of(mapping(event=EVENT | {"context": {"v": "{s}"}}), line)["context"] == {"v": "A/"}


def test_a_line_cannot_name_itself_what_the_engine_puts_beside_it():
    line = {"@observed_at": "forged", "@line": "forged", "@header": {"host": "forged"}, "@moment": "forged", ".": "forged"}
    found = mapping(event=EVENT | {"context": {"at": "{@observed_at}", "line": "{@line}"}})
    context = event_of(found, line)["context"]
    assert context["at"] == "2026-06-30T12:00:00Z"
    assert context["line"].startswith('{"@observed_at"')


# ---- key=value --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        (b"a=1 b=two", {"a": "1", "b": "two"}),
        (b"a=\"x y\" b='p q' c=", {"a": "x y", "b": "p q", "c": ""}),
        (b'a="say \\"hi\\" \\\\" b=1', {"a": 'say "hi" \\', "b": "1"}),
        (b"msg=first x=1 msg=second msg=third", {"msg": "first", "x": "1", "msg_2": "second", "msg_3": "third"}),
        (b'user="a b=forged" b=true', {"user": "a b=forged", "b": "true"}),
        (b"noise a=1, b=2;", {"a": "1,", "b": "2;"}),
        (b'a="unclosed b=1', {"a": '"unclosed', "b": "1"}),
    ],
)
def test_pairs_are_read_and_quotes_hide_what_they_hold(line, pairs):
    assert parsed(line, "{kv}", {"as": "key_value", "into": "kv"}) == pairs


def test_quotes_may_be_kept_and_then_hide_no_escape():
    line = b'type=SYSCALL comm="x\\" exe="/usr/bin/sudo" a1="face" a2=FACE msg=\'op=x acct="y"\' e='
    found = {
        "type": "SYSCALL",
        "comm": '"x\\"',
        "exe": '"/usr/bin/sudo"',
        "a1": '"face"',
        "a2": "FACE",
        "msg": "'op=x acct=\"y\"'",
        "e": "",
    }
    assert parsed(line, "{kv}", {"as": "key_value", "into": "kv", "quotes": "keep"}) == found


def test_a_line_of_ten_thousand_pairs_or_of_quotes_ends():
    step = {"as": "key_value", "into": "kv"}
    assert refusal(mapping(parse=[step]), b"a=1 " * 10_000)[0] == "not_mapped"
    unit = b"type=X " + b"a=1 " * 1999
    by_line = {"as": "key_value", "by_line": {"field": "type"}, "into": "r"}
    assert parsed(b"\n".join([unit] * 30), "{r.X.a_1999}", by_line) == "1"
    assert parsed(b"a=1 a_2=2 a=3 a=4", "{kv}", step) == {"a": "1", "a_2": "2", "a_3": "3", "a_4": "4"}
    assert parsed(b'a="' * 50_000 + b" b=1", "{kv.b}", step | {"optional": True}) in {"1", None}


def test_lines_of_one_unit_are_read_by_their_type():
    unit = b"type=SYSCALL exe=a\ntype=PATH name=x\nno type=\ntype=PATH name=y"
    step = {"as": "key_value", "by_line": {"field": "type"}, "into": "r"}
    expression = {"list": ["{r.SYSCALL.exe}", "{r.PATH.name}", {"join": {"each": "{r.PATH_all}", "get": "{.name}"}, "by": "+"}]}
    assert parsed(unit, expression, step) == ["a", "x", "x+y"]


# ---- CSV --------------------------------------------------------------------------------------------------------------------------


def test_csv_is_read_with_quotes_and_newlines_in_them():
    step = {"as": "csv", "into": "c", "columns": ["a", "b", "c"]}
    assert parsed(b'1,"x, ""y""\nz",', "{c}", step) == {"a": "1", "b": 'x, "y"\nz', "columns": 3}
    assert parsed(b"1", "{c}", step) == {"a": "1", "columns": 1}
    assert parsed(b"1,2,3,4,5", "{c.columns}", step) == 5
    assert parsed(b'"%b"' % (b"x" * 900_000), {"match": "{c.a}", "pattern": "^xxx"}, step) == "xxx"
    for broken in (b'"1', b'"1"x,2', b"1\n2"):
        assert refusal(mapping(parse=[step]), broken) == ("not_mapped", "test: csv into c")


# ---- regular expressions ------------------------------------------------------------------------------------------------------------


def test_the_first_expression_that_matches_counts_and_its_number_is_known():
    step = {"as": "regex", "into": "m", "patterns": [r"^a(?P<x>\d)?", r"^(?P<y>.)b", "^.(?P<z>b)"]}
    assert parsed(b"a1", "{m}", step) == {"pattern": 0, "x": "1"}
    assert parsed(b"a", "{m}", step) == {"pattern": 0}
    assert parsed("öb".encode(), "{m}", step) == {"pattern": 1, "y": "ö"}
    assert refusal(mapping(parse=[step]), b"zz") == ("not_mapped", "test: regex into m")


def test_an_expression_that_kills_backtracking_engines_is_computed_in_no_time():
    step = {"as": "regex", "into": "m", "patterns": [r"^(?P<x>(a|aa)+)+$"], "optional": True}
    assert parsed(b"a" * 200_000 + b"b", "{m.x}", step) is None


@pytest.mark.parametrize("pattern", ["(", r"(?P<a>x)(?P<a>y)", r"\1", "(?<=a)b", "", 7, "a" * 5000, "((a{1000}){1000}){1000}"])
def test_an_expression_that_is_none_is_refused(pattern):
    with pytest.raises(ConfigError, match=r"^test\.yaml: parse\[0\]\.patterns\[0\]: "):
        mapping(parse=[{"as": "regex", "patterns": [pattern]}])


# ---- headers of syslog -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "header", "message"),
    [
        (
            b"Jun 30 10:00:00 web-1 sshd[4242]: Accepted x",
            {"time": "2026-06-30T10:00:00Z", "host": "web-1", "program": "sshd", "pid": "4242"},
            "Accepted x",
        ),
        (
            b"2026-06-30T12:00:00.5+02:00 web-1 sudo:    alice : x",
            {"time": "2026-06-30T10:00:00.5Z", "host": "web-1", "program": "sudo"},
            "   alice : x",
        ),
        (
            b"<86>Jun  3 10:00:00 h su[1]: (to root)",
            {"time": "2026-06-03T10:00:00Z", "host": "h", "program": "su", "pid": "1", "priority": 86},
            "(to root)",
        ),
        (
            b'<165>1 2026-06-30T10:00:00.003Z h.example.com app 8710 ID47 [x@1 a="b\\]c" d="]"][y] said',
            {"time": "2026-06-30T10:00:00.003Z", "host": "h.example.com", "program": "app", "pid": "8710", "priority": 165},
            "said",
        ),
        (b"Jun 3 10:00:00 nas sshd[9]: x", {"time": "2026-06-03T10:00:00Z", "host": "nas", "program": "sshd", "pid": "9"}, "x"),
        (b"<13>1 - - - - - - only", {"priority": 13}, "only"),
        (b"no header at all", {}, "no header at all"),
        (b"Jun 30 10:00:00 just words", {}, "Jun 30 10:00:00 just words"),
        (b"", {}, None),
    ],
)
def test_a_header_is_taken_off(line, header, message):
    assert parsed(line, {"object": {"h": "{header}", "m": "{message}"}}, *SYSLOG) == {"h": header} | ({"m": message} if message else {})


def test_what_a_source_had_beside_the_message_is_the_header_and_what_stands_in_the_message_is_not():
    found = mapping(parse=SYSLOG, event=EVENT | {"context": {"host": "{header.host}", "uid": "{header.uid}", "m": "{message}"}})
    beside = Header(time=NOON, host="real", program="sshd", pid="7", unit="ssh.service", uid="0")
    line = b"Jun 30 10:00:00 forged sshd[1]: x"
    assert event_of(found, line, Moment(NOON, header=beside))["context"] == {"host": "real", "uid": "0", "m": line.decode()}


def test_bytes_that_are_no_text_are_shown_as_escapes_and_nothing_is_refused_for_them():
    assert parsed(b"caf\xe9 \x00 x", "{message}", *SYSLOG) == "caf\\xe9 \\x00 x"


# ---- steps ------------------------------------------------------------------------------------------------------------------------------


def test_a_step_works_on_what_the_one_before_found_and_an_optional_one_may_fail():
    line = {"message": "AUDIT: a=1", "m": "forged", "k": {"a": "forged"}}
    steps = (
        {"as": "json"},
        {"as": "regex", "of": "{message}", "patterns": ["^AUDIT: (?P<rest>.*)"]},
        {"as": "key_value", "of": "{rest}", "into": "k"},
        {"as": "regex", "of": "{message}", "patterns": ["^nothing"], "into": "m", "optional": True},
    )
    assert computed({"object": {"a": "{k.a}", "m": "{m.x}"}}, line, parse=list(steps)) == {"a": "1"}
    assert refusal(mapping(parse=list(steps)), {"message": "else"}) == ("not_mapped", "test: regex")
    assert refusal(mapping(parse=list(steps)), {"other": "x"}) == ("not_mapped", "test: regex")


@pytest.mark.parametrize(
    "steps",
    [
        None, [], {}, [{"as": "xml"}], [{"as": "csv"}], [{"as": "regex"}], [{"as": "regex", "patterns": []}], [{"header": "cef"}],
        [{"as": "json", "columns": ["a"]}], [{"as": "csv", "columns": ["a"], "delimiter": "ab"}], [{"as": "json", "into": "a.b"}],
        [{"as": "json", "optional": "yes"}], [{"header": "syslog", "zone": "Mars"}], [{"as": "key_value", "by_line": {}}],
    ],
)  # fmt: skip
def test_steps_that_are_wrong_are_refused_with_their_file_and_key(steps):
    with pytest.raises(ConfigError, match=r"^test\.yaml: parse"):
        mapping(parse=steps if steps is not None else 7)
