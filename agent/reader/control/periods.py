"""Periods as people write them on a command line: days, months, quarters, years.

Invariants: everything is UTC; what has another form is refused. This module is pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_YEAR: Final = re.compile(r"(\d{4})", re.ASCII)
_MONTH: Final = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_QUARTER: Final = re.compile(r"(\d{4})-[Qq]([1-4])", re.ASCII)
_DAY: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_FORMS: Final = "write 2026, 2026-Q1, 2026-03, 2026-03-09 or two of them, 2026-01..2026-03"


def read_period(text: str) -> tuple[datetime, datetime]:
    """Return the beginning and the end (not included) of a day, a month, a quarter or a year, or of two of them: ``A..B``.

    Both of ``A..B`` are part of the period: ``2026-01..2026-03`` ends with March.

    Raises:
        ValueError: It has another form, or it ends before it begins.
    """
    first, dots, last = text.partition("..")
    if dots:
        begin, end = read_period(first)[0], read_period(last)[1]
        if begin >= end:
            raise ValueError(f"{text!r} ends before it begins")
        return begin, end
    try:
        return _period(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no period: {_FORMS}") from error


def _period(text: str) -> tuple[datetime, datetime]:
    if found := _DAY.fullmatch(text):
        day = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
        return day, day + timedelta(days=1)
    if found := _QUARTER.fullmatch(text):
        return _months(int(found[1]), int(found[2]) * 3 - 2, 3)
    if found := _MONTH.fullmatch(text):
        return _months(int(found[1]), int(found[2]), 1)
    if found := _YEAR.fullmatch(text):
        return _months(int(found[1]), 1, 12)
    raise ValueError(text)


def _months(year: int, month: int, count: int) -> tuple[datetime, datetime]:
    begin = datetime(year, month, 1, tzinfo=UTC)
    more, left = divmod(month - 1 + count, 12)
    return begin, datetime(year + more, left + 1, 1, tzinfo=UTC)
