from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agent.reader.ask.search import Bar, Bucket, Histogram
from agent.reader.view.chart import WIDTH, draw

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw(Histogram("day", ())).bars == ()


def test_every_count_is_in_the_table_and_in_the_picture() -> None:
    bars = (Bar(DAY, "success", 1), Bar(DAY, "denied", 99_999), Bar(DAY + timedelta(days=3), "failure", 2))
    chart = draw(Histogram("day", bars))
    assert chart.outcomes == ("success", "failure", "denied")
    assert [(row.start, row.counts) for row in chart.rows] == [("2026-03-01", (1, 0, 99_999)), ("2026-03-04", (0, 2, 0))]
    assert len(chart.bars) == 3
    assert min(bar.height for bar in chart.bars) >= 1, "one event among a hundred thousand can be seen"
    assert "100,002 events from 2026-03-01 to 2026-03-04" in chart.text
    assert "99,999 denied" in chart.text


def test_empty_days_take_room() -> None:
    chart = draw(Histogram("day", (Bar(DAY, "success", 1), Bar(DAY + timedelta(days=9), "success", 1))))
    first, last = chart.bars
    assert last.x - first.x > 8 * first.width


def test_bars_stay_inside_the_picture_whatever_the_range() -> None:
    ranges: tuple[tuple[Bucket, timedelta], ...] = (
        ("minute", timedelta(minutes=1)),
        ("day", timedelta(days=1)),
        ("month", timedelta(days=4_000)),
    )
    for bucket, step in ranges:
        bars = tuple(Bar(DAY + number * step, "success", number + 1) for number in range(100))
        for bar in draw(Histogram(bucket, bars)).bars:
            assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
            assert bar.y >= 0


def test_an_outcome_that_nobody_knows_is_counted_as_unknown() -> None:
    chart = draw(Histogram("day", (Bar(DAY, "</svg>", 4), Bar(DAY, "unknown", 1))))
    assert chart.outcomes == ("unknown",)
    assert chart.rows[0].counts == (5,)
