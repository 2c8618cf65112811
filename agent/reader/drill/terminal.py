"""Show a drill on a terminal: what was done, what was found, who did what when, and the verdict in the last line.

Invariants: text that came from the store is shown with everything unprintable escaped; the last line says what the exit code says. This
module must not decide anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..report import printable
from .timeline import MOST_ENTRIES
from .values import Expectation, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from .report import DrillReport
    from .timeline import Entry, Timeline
    from .values import Result

MOST_SHOWN: Final = 20
_STYLES: Final = {
    Outcome.CAUGHT: "green",
    Outcome.MISSED: "bold red",
    Outcome.MISREAD: "bold red",
    Outcome.AS_DOCUMENTED: "yellow",
    Outcome.NOT_TRIED: "dim",
    Outcome.FAULT: "bold red",
}


def render(report: DrillReport, console: Console) -> None:
    """Print a whole report."""
    for part in _parts(report):
        console.print(part, highlight=False)


def _parts(report: DrillReport) -> Iterator[RenderableType]:
    yield Text.assemble(("Drill on a copy of ", "bold"), printable(report.store))
    control = report.exercise.control
    yield Text(
        f"{report.copied_bytes:,} bytes copied, {control.trails} trails, {control.batches:,} batches, {control.records:,} records; "
        f"judged by {report.judged_at:%Y-%m-%d %H:%M:%S} UTC; seed {report.seed}"
    )
    agree = "the same as the store's own" if report.same else "NOT the store's own"
    yield Text(f"Control: the untouched copy is {control.severity.verdict} (exit {control.severity.exit_code}), {agree}.")
    for remark in report.of_interest:
        yield Padding(Text(printable(remark), style="yellow"), (0, 0, 0, 2), expand=False)
    yield _table([result for result in report.exercise.results if result.tampering.expectation is Expectation.CAUGHT], "Tampering")
    yield from _failures(report)
    yield _table([result for result in report.exercise.results if result.tampering.expectation is Expectation.LIMIT], "Known limit")
    for result in report.exercise.results:
        if result.tampering.expectation is Expectation.LIMIT and result.outcome is not Outcome.NOT_TRIED:
            yield Padding(
                Text(f"{result.tampering.name}: {printable(result.tampering.remedy)}.", style="italic"), (0, 0, 0, 2), expand=False
            )
    yield Text("\nNot tried:", style="bold")
    for entry in report.not_tried:
        yield Padding(Text(f"{entry.name}: {entry.wants}. Because {entry.why}."), (0, 0, 0, 2), expand=False)
    yield Text()
    if report.timeline is not None:
        yield from _timeline(report.timeline)
    yield closing_line(report)


def closing_line(report: DrillReport) -> Text:
    """Return the outcome in one line."""
    style = "bold green" if report.exit_code == 0 else "bold red"
    return Text.assemble((report.verdict, style), f" (exit {report.exit_code}, {report.seconds:.1f} s)")


def _table(results: list[Result], title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(title, no_wrap=True)
    table.add_column("Outcome", no_wrap=True)
    table.add_column("Exit", justify="right", no_wrap=True)
    table.add_column("Found", overflow="fold")
    table.add_column("Seconds", justify="right", no_wrap=True)
    for result in results:
        found = ", ".join(result.codes) if result.exit_code is not None else printable(result.done)
        table.add_row(
            result.tampering.name,
            Text(result.outcome.value, style=_STYLES[result.outcome]),
            "" if result.exit_code is None else str(result.exit_code),
            found or "nothing new",
            f"{result.seconds:.2f}",
        )
    return table


def _failures(report: DrillReport) -> Iterator[RenderableType]:
    for result in report.exercise.results:
        if result.outcome.failed:
            yield Text(f"{result.outcome.value}: {result.tampering.name}", style="bold red")
            wanted = " or ".join(sorted(code.value for code in result.tampering.must))
            yield Padding(Text(f"done: {printable(result.done)}\nwanted: {wanted}"), (0, 0, 0, 2), expand=False)
            for finding in result.found[:5]:
                yield Padding(Text(f"found: {finding.code.value}: {printable(finding.message)}"), (0, 0, 0, 2), expand=False)
            yield Text()


def _timeline(timeline: Timeline) -> Iterator[RenderableType]:
    why = ", who has the most events" if timeline.chosen else ""
    yield Text(f"What {printable(timeline.actor)} did, and what was done to them{why}", style="bold")
    yield Text(summary(timeline))
    for entry in timeline.entries[:MOST_SHOWN]:
        when, *rest = map(printable, row(entry))
        text = Text.assemble((when, "bold"), "  ", "  ".join(part for part in rest if part), style="yellow" if entry.seq is None else "")
        # Every line is indented, also one that was wrapped: text from a store must not pass for a line of the report.
        yield Padding(text, (0, 0, 0, 2), expand=False)
    more = len(timeline.entries) - MOST_SHOWN
    if more > 0 or timeline.omitted:
        yield Text(f"  … and {max(more, 0) + timeline.omitted:,} later entries; --json and --output list up to {MOST_ENTRIES:,} of them.")
    yield Text()


def summary(timeline: Timeline) -> str:
    """Return the figures of a timeline in one sentence."""
    outcomes = ", ".join(f"{count:,} {printable(name)}" for name, count in sorted(timeline.outcomes.items())) or "none"
    left_out = f"; {timeline.unverified} batches do not verify and are left out" if timeline.unverified else ""
    if timeline.unvouched:
        left_out += f"; {len(timeline.unvouched)} trails that nobody vouches for are left out"
    if timeline.unreadable:
        left_out += f"; {timeline.unreadable} events are of another form than the schema's and were not searched"
    return (
        f"{sum(timeline.outcomes.values()):,} acts ({outcomes}) in {len(timeline.sessions):,} sessions, "
        f"from {timeline.events:,} events in {timeline.verified:,} verified batches{left_out}."
    )


def row(entry: Entry) -> tuple[str, str, str, str, str, str]:
    """Return an entry as when, who, what, outcome, session, where; not escaped."""
    if entry.seq is None:
        return entry.at, "—", f"{entry.kind}: {entry.remark}", "", "", f"{entry.origin} batch {entry.batch}"
    what = f"{entry.action} → {entry.target}"
    who = entry.actor if entry.kind != "target" else f"{entry.actor} (to them)"
    return (
        entry.at,
        f"{who} (their session)" if entry.kind == "session" else who,
        what,
        entry.outcome,
        entry.session,
        (f"{entry.origin} seq {entry.seq}"),
    )
