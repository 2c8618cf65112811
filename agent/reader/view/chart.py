"""The timeline: a histogram as the numbers of an SVG, with the same in words and as a table.

Invariants: every count is in the table, whatever the picture can show; a bar that is not empty is at least one pixel high. This
module is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..ask.search import Histogram

WIDTH: Final = 960
_LEFT: Final = 56
_TOP: Final = 8
_PLOT: Final = 110
_LABELS: Final = 22
_OUTCOMES: Final = ("success", "failure", "denied", "unknown")
_STEPS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
_MOST_SLOTS: Final = 400
_SHAPES: Final = {"minute": "%m-%d %H:%M", "hour": "%m-%d %H:%M", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a bar, in units of the picture."""

    outcome: str
    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text below the axis."""

    x: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: when the bucket begins, and a count for each outcome."""

    start: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A timeline to be drawn.

    Attributes:
        bucket: How long a bucket is.
        outcomes: Those that occur.
        bars: The rectangles.
        labels: The texts below the axis.
        rows: The same as a table.
        most: The highest bar's count.
        text: The same in words.
    """

    bucket: str
    outcomes: tuple[str, ...]
    bars: tuple[Rectangle, ...]
    labels: tuple[Label, ...]
    rows: tuple[Row, ...]
    most: int
    text: str
    width: int = WIDTH
    height: int = _TOP + _PLOT + _LABELS
    left: int = _LEFT
    top: int = _TOP
    base: int = _TOP + _PLOT


def draw(histogram: Histogram) -> Chart:
    """Lay out a histogram."""
    counts: dict[datetime, dict[str, int]] = {}
    for bar in histogram.bars:
        known = bar.outcome if bar.outcome in _OUTCOMES else "unknown"
        slot = counts.setdefault(bar.start, {})
        slot[known] = slot.get(known, 0) + bar.count
    starts = sorted(counts)
    outcomes = tuple(name for name in _OUTCOMES if any(name in slot for slot in counts.values()))
    shape = _SHAPES[histogram.bucket]
    rows = tuple(Row(start.strftime(shape), tuple(counts[start].get(name, 0) for name in outcomes)) for start in starts)
    if not starts:
        return Chart(histogram.bucket, (), (), (), (), 0, "No events.")
    most = max(sum(row.counts) for row in rows)
    places = _places(starts, histogram.bucket)
    slots = places[-1] + 1
    each = (WIDTH - _LEFT) / slots
    bars: list[Rectangle] = []
    for place, row in zip(places, rows, strict=True):
        floor = float(_TOP + _PLOT)
        for name, count in zip(outcomes, row.counts, strict=True):
            if count:
                height = max(1.0, _PLOT * count / most)
                floor -= height
                left = round(_LEFT + place * each, 2)
                bars.append(
                    Rectangle(
                        name, left, round(floor, 2), round(max(each * 0.86, 0.5), 2), round(height, 2), f"{row.start}: {count:,} {name}"
                    )
                )
    total = sum(sum(row.counts) for row in rows)
    peak = max(rows, key=lambda row: sum(row.counts))
    each_outcome = ", ".join(f"{sum(row.counts[at] for row in rows):,} {name}" for at, name in enumerate(outcomes))
    text = (
        f"{total:,} events from {rows[0].start} to {rows[-1].start}, for each {histogram.bucket}: {each_outcome}. "
        f"Most in one {histogram.bucket}: {most:,}, {peak.start}."
    )
    labels = (Label(_LEFT, "start", rows[0].start), *((Label(WIDTH, "end", rows[-1].start),) if len(rows) > 1 else ()))
    return Chart(histogram.bucket, outcomes, tuple(bars), labels, rows, most, text)


def _places(starts: Sequence[datetime], bucket: str) -> list[int]:
    """Return in which slot each bucket stands; empty buckets take room, too."""
    first, last = starts[0], starts[-1]
    step = _STEPS.get(bucket)
    if step is None:
        places = [(start.year - first.year) * 12 + start.month - first.month for start in starts]
    else:
        places = [round((start - first) / step) for start in starts]
    if places[-1] < _MOST_SLOTS:
        return places
    # A range of centuries: squeezed, so that bars may touch, but stay in order.
    span = (last - first).total_seconds()
    return [round((start - first).total_seconds() / span * (_MOST_SLOTS - 1)) for start in starts]
