"""Times as people type them.

Invariants: what has no zone is UTC, never the machine's own zone, so that a query means the same everywhere; what is no time is a usage
error. This module must not look at a clock: the present is an argument.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

from ..expected import parse_duration

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?")


def parse_time(text: str, now: datetime) -> datetime:
    """Read a point in time.

    Args:
        text: RFC 3339 (``2026-03-01T08:00:00Z``, or with another offset; without one it is UTC), a date (its first moment, UTC), or a
            duration (``90d``, ``36h``: so long ago).
        now: The present, aware.

    Returns:
        An aware time in UTC.

    Raises:
        ValueError: It is none of these, or there is no such time.
    """
    text = text.strip()
    if _DATE.fullmatch(text):
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    try:
        if _TIME.fullmatch(text):
            time = datetime.fromisoformat(text.upper())
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return now.astimezone(UTC) - parse_duration(text)
    except OverflowError as error:
        raise ValueError(f"{text!r} is before the year 1, or after 9999") from error
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: write 2026-03-01, 2026-03-01T08:00:00Z, or 90d for so long ago (UTC)") from error
