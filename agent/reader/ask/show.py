"""Show an answer and its statement to a person.

Invariants: text from a store is shown with everything unprintable escaped, inside its own cell or indented, so that it cannot drive a
terminal or pass for a line of the statement; what is cut is marked with ``…``; the verdict is the last line. This module must not decide
anything: it shows what it is given.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..findings import Severity
from ..report import printable
from .correlation import EXPLANATIONS, Finding
from .found import zulu
from .writers import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from .correlation import Pair
    from .found import Found
    from .rows import Column
    from .stated import Statement, TrailStatement

MAX_CELL_CHARACTERS: Final = 300
MAX_TRAILS: Final = 12
MAX_LINES: Final = 8
_STYLES: Final = {
    Severity.NOTICE: "cyan",
    Severity.INCOMPLETE: "yellow",
    Severity.UNVERIFIED: "magenta",
    Severity.TAMPERED: "bold red",
}
_VERDICT_STYLES: Final = {"complete": "bold green", "incomplete": "bold yellow", "unverified": "bold magenta"}
_OUTCOME_STYLES: Final = {"success": "green", "failure": "yellow", "denied": "red"}
_FINDING_STYLES: Final = {Finding.FOUND: "green", Finding.UNSUCCESSFUL: "bold yellow"}
_FINDING_WORDS: Final = {
    Finding.FOUND: "with a counterpart",
    Finding.NO_VALUE: "without a value",
    Finding.ALONE: "alone",
    Finding.ONLY_ALIKE: "only with events that do not count",
    Finding.UNSUCCESSFUL: "with none that succeeded",
}
_MEANINGS: Final = {
    "complete": "everything the store is known to hold for this range was verified, and nothing in it is stated as lost",
    "incomplete": "something is lost, missing or silent in this range; the reasons are above",
    "unverified": "not everything for this range was verified, or nobody vouches for it; the reasons are above",
}


def events_table(events: Iterable[Found]) -> Table:
    """Return events as a table, one row each."""
    table = _table("Occurred (UTC)", "Actor", "Action", "Target", "Outcome", "Service, seq", "Context")
    for event in events:
        table.add_row(
            _moment(event.occurred_at),
            _cell(f"{event.actor_type} {event.actor_id}"),
            _cell(event.action),
            _cell(f"{event.target_type} {event.target_id}"),
            _outcome(event.outcome),
            _place(event),
            Text("" if event.context is None else _short(event.context), style="dim", overflow="fold"),
        )
    return table


def pairs_table(pairs: Iterable[Pair], path: str, counterpart: Sequence[str] = ()) -> Table:
    """Return events side by side with their counterparts.

    Args:
        pairs: The events.
        path: Where the value is that they share.
        counterpart: The actions that were said to count; without them nothing is said to be what somebody looks for.
    """
    found = f"found: {' or '.join(map(_short, counterpart))}" if counterpart else "other actions carry this value"
    table = _table("Event", Text(f"Other events with the same {printable(path)}"))
    for pair in pairs:
        table.add_row(_told(pair.event), _counterparts(pair, found))
        table.add_row()
    return table


def values_table(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> Table:
    """Return rows of any columns as a table."""
    table = _table(*(Text(_short(column.name)) for column in columns))
    for row in rows:
        table.add_row(*(Text("NULL", style="dim") if value is None else _value(value) for value in row))
    return table


def statement_parts(statement: Statement) -> Iterator[RenderableType]:
    """Yield the parts of a statement; the last one is the verdict in one line."""
    yield Text("Statement", style="bold")
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(statement):
        table.add_row(Text(name, style="dim"), Text(printable(value)))
    yield table
    yield from _reasons(statement)
    yield verdict_line(statement)


def findings_line(pairs: Sequence[Pair]) -> Text:
    """Return how many pairs there are of each finding, in one line."""
    counts = Counter(pair.finding for pair in pairs)
    parts = [f"{counts[finding]:,} {_FINDING_WORDS[finding]}" for finding in Finding if counts[finding]]
    return Text(f"Of {_count(len(pairs), 'event')} shown: {', '.join(parts)}.", style="bold")


def verdict_line(statement: Statement) -> Text:
    """Return the verdict in one line."""
    word = statement.verdict
    return Text.assemble((word, _VERDICT_STYLES[word]), f": {_MEANINGS[word]}")


def _reasons(statement: Statement) -> Iterator[RenderableType]:
    bad = [reason for reason in statement.reasons if reason.severity is not Severity.NOTICE]
    for reason in bad[:MAX_LINES]:
        where = "" if reason.origin is None else f"  {reason.origin}"
        yield _line(reason.severity.verdict, _STYLES[reason.severity], reason.code, f"{reason.message}{where}")
    if len(bad) > MAX_LINES:
        yield _line("and", "yellow", f"{len(bad) - MAX_LINES:,} more", "none of them worse; --json lists them")
    notes: dict[str, list[str]] = {}
    for reason in statement.reasons:
        if reason.severity is Severity.NOTICE:
            notes.setdefault(reason.code, []).append(reason.message)
    for code, messages in islice(notes.items(), MAX_LINES):
        more = "" if len(messages) == 1 else f" (and {len(messages) - 1:,} like it)"
        yield _line("note", "cyan", code, f"{messages[0]}{more}")
    if statement.reasons_omitted:
        yield _line("and", "yellow", f"{statement.reasons_omitted:,} more", "that are not kept, none of them worse than those above")


def _line(word: str, style: str, code: str, message: str) -> RenderableType:
    # Indented on every line, also on one that was wrapped: text from a store must not pass for a line of the statement.
    line = Text.assemble((f"{word}: {printable(code)}", style), f": {printable(message)}")
    return Padding(line, (0, 0, 0, 2), expand=False)


def _facts(statement: Statement) -> Iterator[tuple[str, str]]:
    since = "the beginning of each trail" if statement.since is None else zulu(statement.since)
    until = "the newest verified batch" if statement.until is None else f"before {zulu(statement.until)}"
    yield "Query", statement.query
    yield "Command", statement.command
    why = "; of everything, because counterparts were looked for everywhere" if statement.everywhere else ""
    yield "Range", f"{since} to {until}, UTC{why}"
    yield "Matched", f"{statement.matched:,} of {statement.events_in_range:,} events that occurred in the range"
    batches = sum(trail.batches for trail in statement.trails)
    outside = f"; {_count(statement.trails_outside, 'trail')} wholly before or after it" if statement.trails_outside else ""
    covered = f"{_count(batches, 'verified batch')} of {_count(len(statement.trails), 'trail')} cover the range{outside}"
    yield "Population", f"{_count(statement.records, 'record')} in them, {statement.quarantined:,} in quarantine; {covered}"
    for trail in statement.trails[:MAX_TRAILS]:
        yield "Trail", _told_trail(trail)
    if len(statement.trails) > MAX_TRAILS:
        yield "", f"… and {len(statement.trails) - MAX_TRAILS:,} trails more; --json lists them"
    yield "Losses", _losses(statement)
    yield "Silence", _silences(statement)
    yield "Clocks", _clocks(statement)
    yield "Index", f"{statement.store}, looked at {zulu(statement.refreshed_at)}, by trailseal {statement.index_version}"
    yield "Answered", f"{zulu(statement.answered_at)}, by trailseal {statement.version}"


def _told_trail(trail: TrailStatement) -> str:
    vouched = "nobody vouches for its key" if trail.trusted_by is None else "its key is trusted"
    if not trail.batches:
        what = (
            "nothing verified" if trail.head_sealed_at is None else f"no batch in the range, its newest at {_second(trail.head_sealed_at)}"
        )
        return f"{trail.origin}  {what}; head {trail.head}; {vouched}"
    seqs = "no batch sealed in the range" if trail.first_seq is None else f"seq {trail.first_seq:,} to {trail.last_seq:,}"
    times = "" if trail.from_time is None or trail.to_time is None else f", sealed {_second(trail.from_time)} to {_second(trail.to_time)}"
    late = f", {trail.late_batches:,} batches sealed outside" if trail.late_batches else ""
    return f"{trail.origin}  {seqs}{times}{late}; {trail.records:,} records; head {trail.head}; {vouched}"


def _losses(statement: Statement) -> str:
    if not statement.losses_total:
        return "no gap record in the range"
    first = statement.losses[0]
    source = f"{first.source}, {first.cause}, {first.certainty}"
    when = "" if first.observed_at is None else f" at {_second(first.observed_at)}"
    return f"{_count(statement.losses_total, 'gap record')}; the first: {source}{when}, seq {first.seq:,} of {first.origin}"


def _silences(statement: Statement) -> str:
    if not statement.silences_total:
        return "no two batches further apart than three heartbeats, but after an orderly end"
    first = statement.silences[0]
    crash = ", after which the agent came back from an unclean end" if first.resumed else ""
    period = f"{_second(first.after)} to {_second(first.before)}, {first.seconds:,.0f} s where {first.allowed_seconds:,.0f} s are allowed"
    return f"{_count(statement.silences_total, 'silent period')}; first of all {period}{crash}, in {first.origin}"


def _clocks(statement: Statement) -> str:
    clock = statement.clock
    share = clock.synchronized_share
    if share is None:
        return "nothing known"
    # Never rounded up: 100.0 % is all of them.
    shown = f"synchronized in {int(share * 1000) / 10:.1f} % of {_count(clock.batches, 'batch')}"
    offset = "" if clock.worst_offset_seconds is None else f", worst offset {clock.worst_offset_seconds:.6f} s"
    error = "" if clock.worst_error_seconds is None else f", worst error bound {clock.worst_error_seconds:.6f} s"
    return shown + offset + error


def _told(event: Found) -> Text:
    lines: list[str | tuple[str, str]] = [
        (_second(event.occurred_at), "bold"),
        (f"  {_short(event.action)} ", "bold"),
        (event.outcome if event.outcome in _OUTCOME_STYLES else _short(event.outcome), _OUTCOME_STYLES.get(event.outcome, "")),
        f"\n  by {_short(event.actor_type)} {_short(event.actor_id)}",
        f"\n  on {_short(event.target_type)} {_short(event.target_id)}",
    ]
    if event.context is not None:
        lines.append((f"\n  {_short(event.context)}", "dim"))
    lines.append((f"\n  {event.service}, seq {event.seq}{'' if event.trusted else ', not trusted'}", "dim"))
    return Text.assemble(*lines, overflow="fold")


def _counterparts(pair: Pair, found: str) -> Text:
    value = "" if pair.value is None else f"{_short(pair.value)}: "
    text = Text(overflow="fold")
    finding = found if pair.finding is Finding.FOUND else EXPLANATIONS[pair.finding]
    text.append(f"{value}{finding}", style=_FINDING_STYLES.get(pair.finding, "bold red"))
    for remark in pair.remarks:
        text.append(f", {remark}", style="bold yellow")
    for counterpart in pair.counterparts[:MAX_LINES]:
        text.append("\n")
        text.append(_told(counterpart))
    if pair.total > len(pair.counterparts[:MAX_LINES]):
        text.append(f"\n… and {pair.total - len(pair.counterparts[:MAX_LINES]):,} more", style="dim")
    return text


def _table(*names: str | Text) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name if isinstance(name, Text) else Text(name), overflow="fold")
    return table


def _cell(text: str) -> Text:
    return Text(_short(text), overflow="fold")


def _value(value: object) -> Text:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Text(str(value), justify="right")
    return _cell(value if isinstance(value, str) else str(plain(value)))


def _short(text: str) -> str:
    shown = printable(text[: MAX_CELL_CHARACTERS + 1])
    return shown if len(text) <= MAX_CELL_CHARACTERS and len(shown) <= MAX_CELL_CHARACTERS else f"{shown[:MAX_CELL_CHARACTERS]}…"


def _outcome(outcome: str) -> Text:
    return Text(_short(outcome), style=_OUTCOME_STYLES.get(outcome, ""), overflow="fold")


def _place(event: Found) -> Text:
    trust = () if event.trusted else (("\nnot trusted", "magenta"),)
    return Text.assemble(f"{event.service}, {event.seq}", *trust, overflow="fold")


def _moment(time: datetime) -> Text:
    return Text(_second(time), overflow="fold")


def _second(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + ('es' if noun.endswith('ch') else 's')}"
