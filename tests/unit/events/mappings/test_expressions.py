"""What expressions compute, and what they refuse."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events.mappings import Mapped, Moment
from agent.events.verdict import Rejection
from tests.unit.events.mappings.making import EVENT, NOON, computed, event_of, mapping

LINE = {
    "user": {"name": "alice", "uid": 7, "empty": "", "nothing": None, "flag": False},
    "notes": {"a.b/c": "dotted", "x y": "blank"},
    "items": [{"kind": "User", "name": "bob"}, {"kind": "Group"}, "odd"],
    "list": ["a", "b", "c"],
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{user.name}", "alice"),
        ("{user.uid}", 7),
        ("{user.flag}", False),
        ("{user}", LINE["user"]),
        ("{user.empty}", None),
        ("{user.nothing}", None),
        ("{user.name.deeper}", None),
        ("{nobody}", None),
        ("id-{user.uid}", "id-7"),
        ("{user.name}@{user.uid}", "alice@7"),
        ("id-{nobody}", None),
        ("{nobody|user.name}", "alice"),
        ("{nobody|'x|y'}", "x|y"),
        ("{ nobody | user.uid }", 7),
        ('{notes."a.b/c"}', "dotted"),
        ('{notes."x y"|user.name}', "blank"),
        ("{items.0.name}", "bob"),
        ("{items.-1}", "odd"),
        ("{items.9.name}", None),
        ("{items.name}", None),
        ("{{{user.name}}}", "{alice}"),
        ("plain", "plain"),
        ("{@observed_at}", "2026-06-30T12:00:00Z"),
        ("{@line}", None),
    ],
)
def test_a_template_is_filled_in(template, value):
    found = computed(template, LINE)
    if template == "{@line}":
        assert found.startswith('{"user":')
    else:
        assert found == value


@pytest.mark.parametrize("template", ["{", "}", "{a", "a}b", "{}", "{a b}", "{a|}", "{|a}", "{'a}", "{a..b}", "{a.}", "{a{b}}"])
def test_a_template_that_is_wrong_is_refused_with_its_file_and_key(template):
    with pytest.raises(ConfigError, match=r"^test\.yaml: event\.context\.value: "):
        computed(template, LINE)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (5, 5),
        (True, True),
        ({"first": ["{nobody}", "{user.uid}"]}, 7),
        ({"lookup": {"alice": "A"}, "of": "{user.name}"}, "A"),
        ({"lookup": {7: "seven"}, "of": "{user.uid}"}, "seven"),
        ({"lookup": {"bob": "B"}, "of": "{user.name}"}, None),
        ({"lookup": {"bob": "B"}, "of": "{user.name}", "default": "?"}, "?"),
        ({"lookup": "table", "of": "{user.name}"}, 1),
        ({"cases": [{"when": {"user.uid": 8}, "then": "no"}, {"when": {"user.uid": 7}, "then": "yes"}]}, "yes"),
        ({"cases": [{"when": {"user.uid": 8}, "then": "no"}], "otherwise": "else"}, "else"),
        ({"text": "{items.0}"}, '{"kind":"User","name":"bob"}'),
        ({"number": "12"}, 12),
        ({"number": "1.5"}, 1.5),
        ({"number": "nan"}, None),
        ({"number": "{user.name}"}, None),
        ({"lower": "ABC"}, "abc"),
        ({"upper": "{user.name}"}, "ALICE"),
        ({"trim": "  a "}, "a"),
        ({"trim": "/a/", "of": "/"}, "a"),
        ({"split": "a, b,,c"}, ["a", "b", "c"]),
        ({"split": "a,,c", "take": 1}, None),
        ({"split": "a,b,c", "take": -1}, "c"),
        ({"split": "a;b", "by": ";", "take": 5}, None),
        ({"match": "{user.name}", "pattern": "l(.)c"}, "i"),
        ({"match": "{user.name}", "pattern": "l.c"}, "lic"),
        ({"match": "{user.name}", "pattern": "z"}, None),
        ({"match": "{user.uid}", "pattern": r"\d"}, "7"),
        ({"replace": "a1b2", "pattern": r"\d", "with": "#"}, "a#b#"),
        ({"replace": "k=v", "pattern": "(k)=(v)", "with": r"\2=\1"}, "v=k"),
        ({"list": ["{user.name}", "{nobody}", 3]}, ["alice", 3]),
        ({"list": ["{nobody}"]}, None),
        ({"each": "{items}", "get": "{.kind}/{.name}"}, ["User/bob"]),
        ({"each": "{list}", "get": "<{.}>"}, ["<a>", "<b>", "<c>"]),
        ({"each": "{user.name}", "get": "{.}"}, None),
        ({"join": "{list}", "by": "+"}, "a+b+c"),
        ({"join": {"each": "{items}", "get": "{.kind}"}}, "User, Group"),
        ({"object": {"a": "{user.uid}", "b": "{nobody}"}}, {"a": 7}),
        ({"hex": "2F62696E2F7368002D63"}, "/bin/sh -c"),
        ({"hex": "root"}, "root"),
        ({"hex": "abc"}, "abc"),
        ({"unquote": '"a b"'}, "a b"),
        ({"unquote": '"a'}, '"a'),
        ({"url": "%2Fbin%2Fsh+-c"}, "/bin/sh -c"),
    ],
)
def test_an_expression_is_computed(expression, value):
    assert computed(expression, LINE, lookups={"table": {"alice": 1}}) == value


@pytest.mark.parametrize(
    "expression",
    [
        None,
        {},
        {"nonsense": 1},
        {"first": "{a}"},
        {"lookup": "no such table", "of": "{a}"},
        {"lookup": {"a": [1]}, "of": "{a}"},
        {"lookup": {"a": 1}},
        {"cases": [{"when": {"a": 1}}]},
        {"split": "{a}", "by": ""},
        {"split": "{a}", "take": "0"},
        {"match": "{a}", "pattern": "("},
        {"match": "{a}", "pattern": r"(a)\1"},
        {"match": "{a}", "pattern": "(?=a)"},
        {"replace": "{a}", "pattern": "a", "with": r"\1"},
        {"time": "{a}", "format": "nonsense"},
        {"time": "{a}", "zone": "Mars/Olympus"},
        {"lower": "{a}", "upper": "{a}"},
        {"number": {"number": {"number": {"number": {"number": {"number": {"number": {"number": {"number": {"number": {"number": {
            "number": {"number": {"number": {"number": {"number": {"number": {"number": 1}}}}}}}}}}}}}}}}}},
    ],
)  # fmt: skip
def test_an_expression_that_is_wrong_is_refused_with_its_file_and_key(expression):
    with pytest.raises(ConfigError, match=r"^test\.yaml: event\.context\.value"):
        computed(expression, LINE)


def test_the_element_of_a_list_is_known_only_while_it_is_looked_at():
    found = mapping(event=EVENT | {"context": {"a": {"each": "{list}", "get": "{.}"}, "b": "{.}"}})
    assert event_of(found, LINE)["context"] == {"a": ["a", "b", "c"]}


def test_a_named_value_is_computed_once_and_hides_what_the_line_calls_so():
    found = mapping(let={"who": "{user.name}", "again": "{who}!"}, event=EVENT | {"context": {"v": "{again}"}})
    assert event_of(found, LINE | {"who": "mallory", "again": "mallory"})["context"] == {"v": "alice!"}


def test_what_a_line_holds_too_deep_or_too_large_for_json_is_refused_and_not_raised():
    found = mapping(event=EVENT | {"context": {"v": "{user}"}})
    deep = b'{"user":' + b"[" * 900 + b"]" * 900 + b"}"
    assert isinstance(found.map(deep, Moment(NOON)), (Mapped, Rejection))


def test_a_replacement_may_have_backslashes():
    assert computed({"replace": "a'b", "pattern": "'", "with": r"\\'"}, LINE) == r"a\'b"
    assert computed({"replace": "a%b", "pattern": "(%)", "with": r"\\\1x"}, LINE) == r"a\%xb"
