"""Draw a timeline as inline SVG: a bar for each day, marks for silences and losses.

Invariants: only numbers and escaped text get into the drawing; no style attribute and no script, so that a strict content security
policy lets it through; what the picture shows is in its description, too, for whoever cannot see it. This module must not count.
"""

from __future__ import annotations

from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from .timeline import Bar, Timeline

WIDTH: Final = 960
HEIGHT: Final = 180
_LEFT: Final = 56
_TOP: Final = 12
_FLOOR: Final = 140
_MARKS: Final = 150
_MOST_TICKS: Final = 8
_STEPS: Final = {"day": 1, "week": 7, "month": 30}


def draw_timeline(timeline: Timeline, identity: str = "timeline") -> str:
    """Return the drawing, or a sentence where there is nothing to draw.

    Args:
        timeline: What happened when.
        identity: A name that nothing else on the page has.
    """
    if timeline.begin is None or timeline.end is None:
        return '<p class="none">No batch was sealed in this period, so there is no timeline.</p>'
    axis = _Axis(timeline.begin, timeline.end)
    highest = max((bar.total for bar in timeline.bars), default=0)
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{identity}-title {identity}-text">',
        f'<title id="{identity}-title">Events per {timeline.bucket}</title>',
        f'<desc id="{identity}-text">{escape(_words(timeline))}</desc>',
        *_grid(highest),
    ]
    parts += [_bar(bar, axis, highest, timeline.bucket) for bar in timeline.bars]
    for silence in timeline.silences:
        x, width = axis.span(silence.after, silence.before)
        what = f"Silence in {silence.origin}, {silence.after:%Y-%m-%d %H:%M} to {silence.before:%Y-%m-%d %H:%M} UTC"
        parts.append(f'<rect class="silence" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{_MARKS - _TOP + 8}">{_title(what)}</rect>')
    for loss in timeline.losses:
        if loss.observed_at is None:
            continue
        x = axis.at(loss.observed_at)
        what = f"Loss in {loss.origin}, noticed {loss.observed_at:%Y-%m-%d %H:%M} UTC: {loss.cause}, {loss.certainty}"
        points = f"{x:.1f},{_MARKS - 8} {x - 5:.1f},{_MARKS + 2} {x + 5:.1f},{_MARKS + 2}"
        parts.append(f'<polygon class="loss" points="{points}">{_title(what)}</polygon>')
    parts += _ticks(axis)
    return "".join([*parts, "</svg>"])


class _Axis:
    """Places times."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        self.begin = begin
        self.seconds = max(1.0, (end - begin).total_seconds())
        self.end = end

    def at(self, time: datetime) -> float:
        share = (time - self.begin).total_seconds() / self.seconds
        return _LEFT + (WIDTH - _LEFT - 4) * min(1.0, max(0.0, share))

    def span(self, begin: datetime, end: datetime) -> tuple[float, float]:
        left, right = self.at(begin), self.at(end)
        return left, max(2.0, right - left)


def _words(timeline: Timeline) -> str:
    total = sum(bar.total for bar in timeline.bars)
    failed = sum(bar.failed for bar in timeline.bars)
    busiest = max(timeline.bars, key=lambda bar: bar.total, default=None)
    most = "" if busiest is None else f" The most, {busiest.total}, were in the {timeline.bucket} of {busiest.start:%Y-%m-%d}."
    marks = f" {len(timeline.silences)} silent periods and {len(timeline.losses)} losses are marked"
    marks += f", {timeline.omitted} more are not." if timeline.omitted else "."
    return f"{total} events, {failed} of them failed or denied.{most}{marks}"


def _grid(highest: int) -> list[str]:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _FLOOR - (_FLOOR - _TOP) * share
        lines.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}"/>')
        value = highest * share
        if value == int(value):
            lines.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{int(value):,}</text>')
    return lines


def _bar(bar: Bar, axis: _Axis, highest: int, bucket: str) -> str:
    step = timedelta(days=_STEPS[bucket])
    x, width = axis.span(bar.start, axis.end if axis.end - bar.start < step else bar.start + step)
    width = max(1.0, width - 1.0)
    drawn, y = [], float(_FLOOR)
    for kind, count in (("success", bar.success), ("failed", bar.failed), ("unknown", bar.unknown)):
        if count:
            # Whatever there is can be seen, however small beside the rest.
            height = max(1.0, (_FLOOR - _TOP) * count / max(1, highest))
            y -= height
            drawn.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
    what = f"{bar.start:%Y-%m-%d}: {bar.success} succeeded, {bar.failed} failed or denied, {bar.unknown} unknown"
    return f"<g>{_title(what)}{''.join(drawn)}</g>"


def _ticks(axis: _Axis) -> list[str]:
    step = timedelta(seconds=axis.seconds / _MOST_TICKS)
    ticks = []
    for number in range(_MOST_TICKS + 1):
        time = axis.end if number == _MOST_TICKS else axis.begin + number * step
        anchor = "start" if number == 0 else "end" if number == _MOST_TICKS else "middle"
        ticks.append(f'<text class="axis" x="{axis.at(time):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{time:%Y-%m-%d}</text>')
    return ticks


def _title(text: str) -> str:
    from .markup import text as plain  # noqa: PLC0415 -- one escaping for both

    return f"<title>{plain(text)}</title>"
