"""Show a look at a store: a table for a person, JSON for a program, metrics for Prometheus.

Invariants: text from a store is escaped; what is wrong is never left out of the table or the JSON. Metrics name no more than
`MAX_NAMED` instances, those that are not fine first, and none of those that ended for good, which pile up where pods come and go; how
many there are in all is counted for each service.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import GaugeMetricFamily
from rich import box
from rich.table import Table
from rich.text import Text

from ...trail.ulid import ulid_milliseconds
from ..report import printable
from ..verify import shown_age
from .judge import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric
    from rich.console import RenderableType

    from ..expected import ExpectedTrail
    from .judge import Judged, Report

JSON_FORMAT: Final = 1
MAX_NAMED: Final = 1000
_PREFIX: Final = "trailseal_watch_"
_NAMES: Final = ("namespace", "service", "instance")
_ENDED: Final = frozenset({State.CLOSED, State.FORGOTTEN})
_STYLES: Final = {
    State.LIVE: "green",
    State.CLOSED: "dim",
    State.FORGOTTEN: "dim",
    State.LATE: "yellow",
    State.SILENT: "bold red",
    State.UNCLOSED: "yellow",
    State.CLOCK: "yellow",
    State.UNKNOWN: "magenta",
    State.FORGED: "bold red",
}


def render(report: Report, *, everything: bool) -> Iterable[RenderableType]:
    """Return what is printed: what is not fine, or every instance, and a closing line.

    Args:
        report: What was found.
        everything: Whether to show the instances that are fine, too.
    """
    shown = [trail for trail in report.trails if everything or not trail.fine]
    if shown or report.missing:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("State", "Instance", "Silent for", "What was seen"):
            table.add_column(column, overflow="fold", no_wrap=column == "State")
        for entry in report.missing:
            table.add_row(Text("missing", "bold red"), _name(str(entry)), "", Text(_why_missing(report, entry)))
        for trail in shown:
            silent = "" if trail.silent_seconds is None else shown_age(max(0.0, trail.silent_seconds))
            name = _name("/".join(trail.sight.instance))
            table.add_row(Text(trail.state, _STYLES[trail.state]), name, silent, Text(printable(trail.why)))
        yield table
    yield closing_line(report)


def _why_missing(report: Report, entry: ExpectedTrail) -> str:
    if not any(entry in trail.expected for trail in report.trails):
        return f"no instance matches line {entry.line} of the expected file"
    return f"{report.alive(entry)} at work; line {entry.line} of the expected file wants {entry.live}"


def _name(text: str) -> Text:
    return Text(printable(text))


def closing_line(report: Report) -> Text:
    """Return the line that says it all."""
    counts = report.counts()
    parts = [f"{counts[state]} {state}" for state in State if counts[state]]
    if report.missing:
        parts.insert(0, f"{len(report.missing)} missing")
    if report.fine:
        return Text(f"Everybody gives signs of life: {', '.join(parts) or 'nobody is expected, and nobody is there'}.", "green")
    return Text(f"Not everybody gives signs of life: {', '.join(parts)}.", "bold red")


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data; docs/watch.md describes it."""
    return {
        "format": JSON_FORMAT,
        "at": report.at.isoformat().replace("+00:00", "Z"),
        "fine": report.fine,
        "verdict": report.severity.verdict,
        "exit_code": report.severity.exit_code,
        "counts": {state.value: count for state, count in sorted(report.counts().items())},
        "missing": [{"expected": str(entry), "line": entry.line, "why": _why_missing(report, entry)} for entry in report.missing],
        "trails": [_trail(trail) for trail in report.trails],
    }


def _trail(trail: Judged) -> dict[str, Any]:
    head = trail.sight.head
    return {
        **dict(zip(_NAMES, trail.sight.instance, strict=True)),
        "origin": str(trail.sight.origin),
        "state": trail.state.value,
        "why": trail.why,
        "batch": trail.sight.batch if trail.sight.batch >= 0 else None,
        "reason": None if head is None else head.reason.value,
        "sealed_at": None if head is None else head.sealed_at,
        "stored_at": trail.sight.stored_at,
        "silent_seconds": None if trail.silent_seconds is None else round(trail.silent_seconds, 3),
        "allowed_seconds": trail.allowed_seconds,
        "expected": [entry.line for entry in trail.expected],
        "epoch_began": ulid_milliseconds(trail.sight.origin.epoch) / 1000,
    }


def metrics(report: Report) -> Iterator[Metric]:
    """Yield what a look showed, as metric families."""
    instances = GaugeMetricFamily(f"{_PREFIX}instances", "Instances, by how they are.", labels=("namespace", "service", "state"))
    counted = Counter((*trail.sight.instance[:2], trail.state) for trail in report.trails)
    services = sorted({trail.sight.instance[:2] for trail in report.trails})
    for service in services:
        for state in State:
            instances.add_metric((*service, state.value), counted[*service, state])
    yield instances
    missing = GaugeMetricFamily(
        f"{_PREFIX}trail_missing", "1 if no instance matches this entry, or too few are at work.", labels=("expected",)
    )
    # Two entries of the same text mean the same instances.
    absent = set(map(str, report.missing))
    for name in dict.fromkeys(map(str, report.expected)):
        missing.add_metric((name,), float(name in absent))
    yield missing
    named = sorted((one for one in report.trails if one.state not in _ENDED), key=lambda trail: trail.fine)[:MAX_NAMED]
    for state, text in (
        (State.SILENT, "1 if nothing of it was stored for too long."),
        (State.LATE, "1 if what is stored of it is too old."),
        (State.UNCLOSED, "1 if it stopped in order and was neither closed nor started again."),
        (State.CLOCK, "1 if its clock is ahead of the store's, or that one ahead of the watch's."),
        (State.UNKNOWN, "1 if nobody vouches for its newest seal, or it cannot be read."),
        (State.FORGED, "1 if its newest seal is not its own."),
    ):
        family = GaugeMetricFamily(f"{_PREFIX}trail_{state.value}", text, labels=_NAMES)
        for trail in named:
            family.add_metric(trail.sight.instance, float(trail.state is state))
        yield family
    stored = GaugeMetricFamily(f"{_PREFIX}trail_last_seal_timestamp_seconds", "When its newest seal was stored.", labels=_NAMES)
    silent = GaugeMetricFamily(f"{_PREFIX}trail_silent_seconds", "For how long nothing of it was stored.", labels=_NAMES)
    for trail in named:
        if trail.sight.stored_at is not None:
            stored.add_metric(trail.sight.instance, trail.sight.stored_at)
        if trail.silent_seconds is not None:
            silent.add_metric(trail.sight.instance, trail.silent_seconds)
    yield stored
    yield silent
