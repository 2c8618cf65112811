"""What is done in a quicker way for what is common gives what the slow way gives: replacing, groups in ASCII, paths together, cases."""

from __future__ import annotations

from itertools import product

import pytest
import re2

from agent.events.mappings.patterns import Pattern, Patterns
from agent.events.mappings.place import Place

from .making import computed

PLACE = Place("test.yaml")
TEXTS = ["", "a", "b", "ab", "aab b", "é", "aéb\nb", "ba\nab "]


@pytest.mark.parametrize("expression", ["(a)|b", "a*", "(a*)(b)?", "$", "^", r"\b", "(?s).", "[ab]+c?", "(é)|a"])
def test_each_match_is_replaced_as_the_engine_itself_does(expression):
    pattern = Pattern(expression, PLACE)
    replacements: list[tuple[bytes, list[bytes | int]]] = [(b"X", [b"X"]), (b"", [])]
    if pattern.groups:
        replacements.append((rb"<\1>", [b"<", 1, b">"]))
    for text, (written, parts) in product(TEXTS, replacements):
        assert pattern.replaced(text.encode(), parts) == re2.compile(expression.encode()).sub(written, text.encode()), (text, written)


@pytest.mark.parametrize("text", ["k=v; rest", "k=ü; rest", "ü=k; rest", "K=v; "])
@pytest.mark.parametrize(
    "expression", [r"(?P<one>[^=]*)=(?P<two>[^;]*); (?P<three>.*)", r"(?i)(?P<one>\pL)=(?P<two>.)", r"(?P<one>\x{fc})=(?P<two>.)"]
)
def test_groups_are_the_same_whether_the_text_is_ascii_or_not(expression, text):
    found = re2.search(expression, text)
    wanted = None if found is None else {"pattern": 0} | {name: value for name, value in found.groupdict().items() if value}
    assert Patterns([expression], PLACE).first(text) == wanted


def test_an_expression_that_names_a_character_beyond_latin_1_is_looked_for_in_ascii_too():
    assert Patterns([r"(?P<one>\x{20ac}|e)"], PLACE).first("2 e") == {"pattern": 0, "one": "e"}
    assert Patterns([r"(?P<one>\x{20ac}|e)"], PLACE).first("2 €") == {"pattern": 0, "one": "€"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ({"a": {"x": "", "y": None}, "b": {"c": {"x": 1}}, "d": "last"}, 1),
        ({"a": {"x": "", "y": 0}, "b": {"c": {"x": 1}}}, 0),
        ({"a": "text", "b": {"c": ["x"]}, "d": "last"}, "last"),
        ({"a": {}, "b": {}, "d": ""}, "nothing"),
        ({"a": [], "b": {"c": None}, "d": False}, False),
    ],
)
def test_the_first_path_that_is_there_counts_in_whatever_object_it_stands(line, value):
    assert computed("{a.x|a.y|b.c.x|b.c.y|d|'nothing'}", line) == value
    assert computed({"first": ["{a.x|a.y}", {"first": ["{b.c.x}", "{b.c.y}"]}, "{d}", "nothing"]}, line) == value


@pytest.mark.parametrize(
    ("code", "value"), [("1", "one"), (1, "one"), (1.0, "one"), (2, "two"), (True, "yes"), (3, "else"), ("", "else"), (None, "else")]
)
def test_cases_that_compare_one_path_take_the_first_that_has_the_value(code, value):
    cases = [{"when": {"code": 1}, "then": "one"}, {"when": {"code": ["1", 2]}, "then": "two"}, {"when": {"code": True}, "then": "yes"}]
    assert computed({"cases": cases, "otherwise": "else"}, {"code": code}) == value


@pytest.mark.parametrize(("code", "holds"), [("a", True), (7, True), ("0", False), (0, False), ("", False), (None, False)])
@pytest.mark.parametrize("path", ["code", "in.code", "in.deep.code"])
def test_what_is_there_and_is_none_of_some_values_holds_at_every_depth(path, code, holds):
    line = {"code": code, "in": {"code": code, "deep": {"code": code}}}
    for condition in ({path: {"present": True, "not": ["0", ""]}}, {path: {"present": True}, "not": {path: "0"}}):
        assert (computed({"cases": [{"when": condition, "then": "holds"}]}, line) == "holds") is holds
