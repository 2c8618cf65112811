from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from agent.reader.view.attempts import Attempts
from agent.reader.view.pages.event import flat, references
from agent.reader.view.rendering import TEMPLATES, environment, short, shown, shown_age
from agent.reader.view.serving import is_loopback

SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob("*.html"))}


@pytest.mark.parametrize("name", SOURCES)
def test_no_template_turns_escaping_off_or_holds_what_the_policy_refuses(name: str) -> None:
    text = SOURCES[name]
    assert environment().autoescape is True
    assert not re.search(r"\|\s*safe|autoescape|Markup", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|<style|\son\w+=|javascript:", text)
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), "no external assets"
    # An attribute without quotes would end at a space.
    assert not re.search(r"=\{\{", text)


def test_a_name_that_a_page_needs_and_was_not_given_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        environment().from_string("{{ nobody }}").render()


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x00", "\x1b", "\x7f", "\ud800", "\u2028"])
def test_what_cannot_be_seen_is_shown_as_an_escape(character: str) -> None:
    for made in (shown(f"a{character}b"), short(f"a{character}b")):
        assert character not in made
        assert made.startswith("a\\")


def test_long_texts_are_cut_in_cells_only() -> None:
    assert len(short("x" * 5000)) == 200
    assert shown("x" * 5000) == "x" * 5000


def test_ages_read_like_ages() -> None:
    assert [shown_age(seconds) for seconds in (None, 0, 1.5, 61, 3661, 90_061, -120)] == [
        "\N{EN DASH}",
        "0 s",
        "1.5 s",
        "1 min",
        "1 h 1 min",
        "1 d 1 h",
        "-2 min",
    ]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), (str(ip_address(0)), False), ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False), ("::ffff:10.0.0.1", False), ("", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_attempts_are_counted_by_address_and_in_all_and_forgotten_after_a_minute() -> None:
    attempts = Attempts(2)
    assert [attempts.failed("a", 0.0) for _ in range(3)] == [False, False, True]
    assert attempts.failed("b", 1.0) is False
    assert [attempts.failed(f"c{number}", 2.0) for number in range(20)][-1] is True
    assert attempts.failed("a", 62.5) is False


def test_the_memory_of_attempts_is_bounded() -> None:
    attempts = Attempts(2)
    for number in range(30_000):
        attempts.failed(str(number), 0.0)
    assert len(attempts._counts) <= 10_001


def test_a_context_is_shown_line_by_line() -> None:
    context = {"a": {"b": [1, None, True, "x"]}, "empty": {}, "c": "text"}
    assert flat(context) == [
        ("context.a.b[0]", "1"), ("context.a.b[1]", "null"), ("context.a.b[2]", "true"), ("context.a.b[3]", "x"),
        ("context.empty", "{}"), ("context.c", "text"),
    ]  # fmt: skip


def test_a_deep_or_wide_context_is_bounded() -> None:
    deep: object = "end"
    for _ in range(30):
        deep = {"k": deep}
    assert len(flat(deep)) == 1
    assert len(flat({str(number): number for number in range(1000)})) == 100


def test_approvals_come_first_among_what_an_event_refers_to() -> None:
    context = {
        "request_id": "r",
        "approval_id": "a",
        "note": "n",
        "paid": True,
        "x": {"id": 7, "y": 1},
        "a.b_id": "dotted",
        "ticket": ["t"],
    }
    assert references(context) == ["context.approval_id", "context.request_id", "context.x.id"]
    assert references([1]) == []
