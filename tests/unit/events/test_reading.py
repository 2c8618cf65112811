from __future__ import annotations

import sys

import pytest

from agent.events.reading import MAX_INTEGER, deeper_than, read_strictly, top_level_pairs
from agent.events.verdict import Reason, Rejection


@pytest.mark.parametrize(
    ("line", "depth"),
    [
        (b"1", 0),
        (b"{}", 1),
        (b'{"a":[{"b":[]}]}', 4),
        (b'{"a":"[[[[","b":["]]]"]}', 2),
        (rb'{"a":"\"[[[","b":[]}', 2),
        (rb'{"a":"\\","b":[[]]}', 3),
        (b"[[[", 3),
        (b'["[[[', 1),
        (b"]]][[[[", 1),
    ],
)
def test_depth_counts_brackets_outside_strings(line: bytes, depth: int) -> None:
    assert not deeper_than(line, depth)
    if depth:
        assert deeper_than(line, depth - 1)


def test_top_level_pairs_keep_duplicates_and_order() -> None:
    assert top_level_pairs(b'{"a":"1","b":{"a":"x"},"a":"2"}') == [("a", "1"), ("b", [("a", "x")]), ("a", "2")]


@pytest.mark.parametrize(
    ("line", "pairs"),
    [(b"[]", []), (b"5", []), (b"", None), (b"{", None), (b'"\xff"', None), (b"[" * 300, None), (b"[" * 250 + b"]" * 250, None)],
)
def test_what_is_no_object_has_no_pairs_and_what_is_no_json_no_answer(line: bytes, pairs: list[object] | None) -> None:
    assert top_level_pairs(line) == pairs


def test_the_answer_does_not_depend_on_how_deep_the_caller_stands() -> None:
    line = b'{"a":' * 199 + b"1" + b"}" * 199

    def descend(levels: int) -> object:
        return descend(levels - 1) if levels else top_level_pairs(line)

    assert descend(0) is not None
    assert sys.getrecursionlimit() >= 1000
    assert descend(300) == descend(0)


def test_a_strict_reading_returns_plain_data() -> None:
    line = b'{"a":[1,2.5,true,false,null,"x"],"b":{"c":-9007199254740991}}'
    assert read_strictly(line) == {"a": [1, 2.5, True, False, None, "x"], "b": {"c": -MAX_INTEGER}}


def test_the_first_trouble_in_the_text_is_the_one_named() -> None:
    assert read_strictly(b'{"a":NaN,"b":1e999,"b":1}') == Rejection(Reason.NOT_JSON, "a")
    assert read_strictly(b'{"b":1e999,"a":NaN}') == Rejection(Reason.NUMBER_OUT_OF_RANGE, "b")
    assert read_strictly(b'{"b":1e999,"a":') == Rejection(Reason.NOT_JSON, "")
