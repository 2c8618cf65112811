"""What a spreadsheet would run, and what it would not; both writers of CSV are tested with the same texts."""

from __future__ import annotations

import pytest

from agent.reader.ask.spreadsheet import cell_text

FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\tx",
    "\rx",
    "\nx",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "   +1",
    "\u00a0=1",
    "\u3000=1",
    "\ufeff=1",
    "\u200b@x",
    "\x1f=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    " \uff1d1",
    "'x",
    "'=1",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_what_would_be_run_gets_an_apostrophe_and_loses_nothing(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a", " a", "a=b", "1-1", "CHG-4015", "alice@example.com", '{"a": "=1"}', "2026-03-01T08:00:00Z"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert cell_text(text) == text
