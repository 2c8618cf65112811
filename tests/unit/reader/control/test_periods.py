"""Periods as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent.reader.control.periods import read_period
from agent.reader.control.words import period


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026", utc(2026, 1, 1), utc(2027, 1, 1)),
        ("2026-Q1", utc(2026, 1, 1), utc(2026, 4, 1)),
        ("2026-q4", utc(2026, 10, 1), utc(2027, 1, 1)),
        ("2026-12", utc(2026, 12, 1), utc(2027, 1, 1)),
        ("2024-02-29", utc(2024, 2, 29), utc(2024, 3, 1)),
        ("2026-01..2026-03", utc(2026, 1, 1), utc(2026, 4, 1)),
        ("2026-03-09..2026-03-09", utc(2026, 3, 9), utc(2026, 3, 10)),
        ("2025..2026-Q2", utc(2025, 1, 1), utc(2026, 7, 1)),
    ],
)
def test_both_ends_are_those_that_were_meant(text: str, begin: datetime, end: datetime) -> None:
    assert read_period(text) == (begin, end)


@pytest.mark.parametrize(
    "text",
    ["", "26", "2026-13", "2026-Q5", "2026-02-30", "2026-3", "2026-03..", "..2026", "2026-04..2026-03", "9999", "0000", "٢٠٢٦", "2026-03 "],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"period|ends before"):
        read_period(text)


def test_a_period_is_told_as_people_write_it() -> None:
    assert period(None, None) == "everything"
    assert period(utc(2026, 3, 1), utc(2026, 4, 1)) == "2026-03-01 to before 2026-04-01"
    assert period(utc(2026, 3, 1, 8), None) == "from 2026-03-01 08:00:00 UTC on"
    assert period(None, utc(2026, 3, 1)) == "before 2026-03-01"
