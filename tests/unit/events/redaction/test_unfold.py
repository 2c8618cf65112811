"""Spellings: what a later reader decodes is seen, with where it stands."""

from __future__ import annotations

import re

import pytest

from agent.events.redaction.unfold import FOLDED_BYTES, MAX_LEVELS, innermost, levels, origin

PLAIN = "alice@example.com"
SPELLINGS = [
    r"alice\u0040example.com",
    r"\u0061lice\U00000040example.com",
    r"alice\x40example.com",
    r"alice\100example.com",
    r"alice\u{40}example.com",
    r"alice\\u0040example.com",
    r"alice\\\\\\\\u0040example.com",
    "alice%40example.com",
    "alice%2540example.com",
    "alice%25252540example.com",
    "alice%u0040example.com",
    "%61%6C%69%63%65%40example.com",
    "alice&#64;example.com",
    "alice&#x40;example.com",
    "alice&#064;example.com",
    "alice&commat;example.com",
    "alice&amp;amp;#64;example.com",
    "alice\uff20example.com",
    "\uff41\uff4c\uff49\uff43\uff45@example.com",
    "alice%EF%BC%A0example.com",
    r"alice\uff20example.com",
    "al\u200bice@exam\u00adple.com",
    "al\u2060ice@exam\ufe0fple.com",
    "a\0l\0i\0c\0e\0@\0e\0x\0a\0m\0p\0l\0e\0.\0c\0o\0m\0",
    "\x1balice@example.com",
    r"alice%5Cu0040example.com",
    r"alice\u002540example.com",
    r"alice&#37;40example.com",
]


def _may_be_folded(data: bytes) -> bool:
    return re.search(FOLDED_BYTES, data) is not None


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_spelling_is_undone(text):
    assert innermost(text) == PLAIN
    assert _may_be_folded(text.encode())


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_character_of_a_layer_knows_where_it_stood(text):
    whole = f"<{text}>"
    layers, complete = levels(whole)
    assert complete
    starts, ends = origin(whole, len(layers) - 1)
    at = layers[-1].index(PLAIN)
    assert len(starts) == len(ends) == len(layers[-1])
    assert whole[: starts[at]].rstrip("\x1b") == "<"
    assert whole[ends[at + len(PLAIN) - 1] :].lstrip("\0") == ">"


def test_a_surrogate_pair_is_one_character():
    assert innermost(r"\ud835\udfd2111") == "4111"


@pytest.mark.parametrize(
    ("text", "plain"), [("٤١١١", "4111"), ("4111\u20101111", "4111-1111"), ("4111\u00a01111", "4111 1111"), ("①", "1")]
)
def test_digits_blanks_and_dashes_of_other_scripts_are_those_of_ascii(text, plain):
    assert innermost(text) == plain


@pytest.mark.parametrize("text", ["", "plain", "100% sure & more", "a\tb", 'say "hi"'])
def test_plain_text_has_one_layer(text):
    assert levels(text)[1]
    assert innermost(text) == text


def test_plain_bytes_are_known_to_be_plain():
    assert not _may_be_folded(b'{"a":"b c","n":1}\n{"x":"100% sure"}')


@pytest.mark.parametrize("text", [r"\ud800", r"\u{ffffff}", "%ff%fe", "%c3", "&#9999999;", "\\", "%", "&", "\ufffd"])
def test_what_stands_for_no_character_does_no_harm(text):
    layers, complete = levels(text)
    assert complete
    assert len(origin(text, len(layers) - 1)[0]) == len(layers[-1])


def test_a_spelling_without_a_bottom_is_said_to_have_none():
    text = "@"
    for number in range(MAX_LEVELS + 4):
        text = "".join(f"\\u{ord(one):04x}" for one in text) if number % 2 else "".join(f"%{ord(one):02x}" for one in text)
    assert not levels(text)[1]


def test_what_is_only_letters_stays_what_it_is():
    assert innermost("Zürich, 東京, Ω") == "Zürich, 東京, Ω"
