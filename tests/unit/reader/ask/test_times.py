from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reader.ask.times import parse_time

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T08:00:00Z", datetime(2026, 3, 1, 8, tzinfo=UTC)),
        ("2026-03-01T08:00:00.123456Z", datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC)),
        ("2026-03-01t08:00z", datetime(2026, 3, 1, 8, tzinfo=UTC)),
        ("2026-03-01T08:00:00+02:00", datetime(2026, 3, 1, 6, tzinfo=UTC)),
        ("2026-03-01 08:00:00", datetime(2026, 3, 1, 8, tzinfo=UTC)),
        (" 90d ", datetime(2026, 3, 3, 10, tzinfo=UTC)),
        ("36h", datetime(2026, 5, 30, 22, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_utc_and_durations_as_so_long_ago(text: str, expected: datetime) -> None:
    found = parse_time(text, NOW)
    assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-02-30",
        "2026-03",
        "2026-03-01T25:00:00Z",
        "20260301",
        "-1d",
        "1000000000d",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "\u0662\u0660\u0662\u0666-\u0660\u0663-\u0660\u0661",
        "1772323200",
        "2026-W09-7",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text, NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        found = parse_time(text, NOW)
    except ValueError:
        return
    assert found.tzinfo is UTC
