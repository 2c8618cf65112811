"""Which lines of a block mappings look at, and which mapping a line goes to."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.mappings import load_mapping, shipped_names
from agent.errors import ConfigError
from agent.events.mappings import PASSED, Mapped, Moment
from agent.events.mappings.selection import Selection
from agent.events.verdict import Rejection
from tests.unit.events.mappings.making import NOON, mapping


def selection(*texts, **changes):
    return Selection(
        tuple(mapping(name=f"m{n}", select={"contains": [text]} if text else {"all": True}, **changes) for n, text in enumerate(texts))
    )


@given(
    st.lists(st.text(alphabet="abx\r ", max_size=6)), st.lists(st.sampled_from(["a", "b", "ab", "x"]), min_size=1, max_size=3, unique=True)
)
def test_the_lines_found_in_a_block_are_those_that_have_one_of_the_texts(lines, texts):
    block = "\n".join(lines).encode()
    found = [block[start:end] for start, end in selection(*texts).candidates(block)]
    assert found == [line for line in block.split(b"\n") if any(text.encode() in line for text in texts)]


def test_a_mapping_of_every_line_takes_all_that_are_not_blank():
    chosen = selection("a", "")
    assert chosen.candidates(b"x\n\ny") == [(0, 1), (3, 4)]
    assert not chosen.is_audit(b" \t")
    assert chosen.is_audit(b"x")


def test_a_line_goes_to_the_first_mapping_that_makes_an_event_of_it():
    json_lines, words = mapping(name="json"), mapping(name="words", parse=[{"as": "regex", "patterns": ["^(?P<w>w)"]}])
    chosen = Selection((json_lines, words))
    for line, rule in ((b"{}", "json/any"), (b"word", "words/any"), (b"{}\r", "json/any")):
        outcome = chosen.interpret(line, Moment(NOON))
        assert isinstance(outcome, Mapped)
        assert outcome.rule == rule


def test_a_line_that_no_mapping_can_make_an_event_of_is_refused_by_the_first_that_looked():
    chosen = Selection((mapping(name="json"), mapping(name="words", parse=[{"as": "regex", "patterns": ["^w"]}])))
    outcome = chosen.interpret(b"else", Moment(NOON))
    assert isinstance(outcome, Rejection)
    assert outcome.detail == "json"


def test_a_line_that_passes_one_mapping_may_be_an_event_of_another():
    passing = mapping(name="first", rules=[{"name": "a", "when": {"x": 1}, "action": "a"}], otherwise="pass")
    chosen = Selection((passing, mapping(name="second", select={"contains": ["needle"]})))
    assert chosen.interpret(b"{}", Moment(NOON)) is PASSED
    outcome = chosen.interpret(b'{"needle":1}', Moment(NOON))
    assert isinstance(outcome, Mapped)
    assert outcome.rule == "second/any"


def test_mappings_that_join_lines_in_different_ways_do_not_go_together():
    with pytest.raises(ConfigError, match="join lines in different ways"):
        Selection((mapping(), mapping(join={"start": "^x"})))


def test_a_unit_of_several_lines_is_chosen_by_any_of_its_lines():
    chosen = selection("needle", join={"continues": "^\t"})
    block = b"a\n\tneedle\nb\nneedle\n\tc\n"
    assert [block[start:end] for start, end in chosen.candidates(block)] == [b"a\n\tneedle", b"needle\n\tc"]


SPELLINGS = (
    lambda line: line.replace(b"/", b"\\/"),
    lambda line: re.sub(rb"[a-zA-Z@_.:]", lambda found: b"\\u%04x" % found[0][0], line),
    lambda line: re.sub(rb"[ac-e]", lambda found: b"\\u%04X" % found[0][0], line),
)


@pytest.mark.parametrize("spelling", range(len(SPELLINGS)))
@pytest.mark.parametrize("name", [name for name in shipped_names() if load_mapping(name).is_document])
def test_a_line_of_json_is_found_however_it_spells_what_it_is_found_by(name, spelling):
    """Whoever passes a log on may write it anew; an audit event must not become an ordinary line by that."""
    mapping_of_all = load_mapping(name)
    chosen = Selection((mapping_of_all, mapping(name="other", select={"contains": ["needle"]})))
    for example in mapping_of_all.examples:
        assert isinstance(example, dict)
        if "event" not in example or "line" not in example or "\\" in example["line"]:
            continue
        line = example["line"].encode()
        # Only what stands in strings is spelled otherwise.
        spelled = re.sub(rb'"[^"]*"', lambda found: b'"' + SPELLINGS[spelling](found[0][1:-1]) + b'"', line)
        assert chosen.candidates(b"x\n" + spelled + b"\nx") == [(2, 2 + len(spelled))]
        assert chosen.is_audit(spelled)
        one, other = (chosen.interpret(each, Moment(NOON)) for each in (line, spelled))
        assert isinstance(one, Mapped)
        assert isinstance(other, Mapped)
        # An id of ours is made of the bytes.
        first, second = (orjson.loads(each.event) | ({"event_id": ""} if each.own_id else {}) for each in (one, other))
        assert first == second


def test_escapes_are_no_reason_to_look_at_lines_that_have_none_of_the_texts():
    chosen = Selection((mapping(select={"contains": ['"needle"']}),))
    block = b'{"a":"\\u003cb\\u003e\\/"}\n{"\\u0022needle\\u0022":1}\n{"\\u006eeedle":1}\n'
    assert [block[start:end] for start, end in chosen.candidates(block)] == [b'{"\\u006eeedle":1}']
    text_lines = Selection((mapping(select={"contains": ["a/b"]}, parse=[{"as": "regex", "patterns": ["x"]}]),))
    assert text_lines.candidates(b"a\\/b\n") == []
