"""A report as Markdown: the same content as the HTML page, but for the drawing, in tables that GitHub and Pandoc read.

Invariants: whatever came from a store goes through `plain`, which shows what cannot be seen and disarms everything that Markdown or the
HTML in it would act upon. This module must not count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..report import printable
from .markup import NEVER, moment, number
from .pipeline import duration
from .report import NO_CLAIM
from .words import WEIGHTS, names, outcomes, period, result_words, severity_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .controls import Control, ControlTable
    from .coverage import Coverage, CoveredEntry
    from .report import Report
    from .reviews import Review
    from .tally import Seen
    from .timeline import Timeline

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()#+!|~$:@&^=-]|\.(?=\w))")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: object) -> str:
    """Return a text that Markdown shows as it is, in a table too."""
    shown = printable(str(text))
    escaped = _SPECIAL.sub(r"\\\1", shown.replace("&", "\0"))
    for character, entity in (("\0", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        escaped = escaped.replace(character, entity)
    return escaped


def code(text: str) -> str:
    """Return a text as code, in a table too: within HTML's own tag, because a table's bar ends even Markdown's code."""
    shown = "".join(_ENTITIES.get(character, f"&#{ord(character)};" if character in _MARKS else character) for character in printable(text))
    return f"<code>{shown}</code>"


_MARKS: Final = frozenset("\\`*_{}[]()#+!|~$:@^=-\"'")


def as_markdown(report: Report) -> str:
    """Return a whole report."""
    return "\n".join(_report(report)) + "\n"


def _report(report: Report) -> Iterator[str]:
    statement = report.statement
    yield "# Control report"
    yield ""
    yield from _list(
        f"Store: {plain(report.store)}",
        f"Services: {plain(', '.join(report.services) or 'all')}",
        f"Period: {plain(period(report.since, report.until))}",
        f"Statement: {statement.verdict}, {number(statement.records)} records in {len(statement.trails)} trails",
        f"Catalog: {plain(report.catalog_file or 'none')}",
        f"Looked at the store: {moment(report.refreshed_at)} UTC",
        f"Made: {moment(report.made_at)} UTC, trailseal {plain(report.version)}",
    )
    yield "## Controls"
    yield ""
    yield from _controls(report.table)
    yield "## Catalog coverage"
    yield ""
    yield from _coverage(report.coverage)
    yield "## Timeline"
    yield ""
    yield from _timeline(report.timeline)
    yield "## What this stands on"
    yield ""
    rows = [(severity_word(each.severity), plain(each.code), plain(each.message), code(each.origin or "")) for each in statement.reasons]
    yield from _table(("Severity", "Code", "What", "Trail"), rows, "Nothing is to be said against it.")


def _list(*items: str) -> Iterator[str]:
    yield from (f"- {item}" for item in items)
    yield ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> Iterator[str]:
    kept = list(rows)
    if not kept:
        yield nothing
    else:
        yield f"| {' | '.join(heads)} |"
        yield f"|{'|'.join(' --- ' for _ in heads)}|"
        yield from (f"| {' | '.join(row)} |" for row in kept)
    yield ""


def _timeline(timeline: Timeline) -> Iterator[str]:
    rows = [(f"{bar.start:%Y-%m-%d}", number(bar.success), number(bar.failed), number(bar.unknown)) for bar in timeline.bars]
    heads = (timeline.bucket.capitalize(), "Succeeded", "Failed or denied", "Unknown")
    yield from _table(heads, rows, "No event in this period.")
    if timeline.outside:
        yield f"{number(timeline.outside)} events claim a time before the first or after the last batch, and are not shown."
        yield ""
    marks = [("silence", moment(each.after), moment(each.before), code(each.origin), duration(each.seconds)) for each in timeline.silences]
    marks += [
        ("loss", moment(each.observed_at), NEVER, code(each.origin), plain(f"{each.cause} ({each.certainty}), {each.source}"))
        for each in timeline.losses
    ]
    yield from _table(("What", "From (UTC)", "To (UTC)", "Trail", "How much"), marks, "No silence and no loss in this period.")
    if timeline.omitted:
        yield f"{number(timeline.omitted)} more silences and losses are left out."
        yield ""


def _controls(table: ControlTable) -> Iterator[str]:
    yield f"**{NO_CLAIM}**"
    yield ""
    if not table.has_catalog:
        yield "No catalog was given: names of actions stand in for its categories."
        yield ""
    for control in table.controls:
        yield from _control(control)
    yield "### Reviews signed in this period"
    yield ""
    yield from _reviews(table.reviews)


def _control(control: Control) -> Iterator[str]:
    yield f"### {control.id} {control.title}"
    yield ""
    yield control.sentence
    yield ""
    if not control.has_evidence:
        yield "No evidence in this period."
        yield ""
    rows = [
        (
            each.title,
            number(each.seen.count),
            plain(outcomes(each.seen)),
            plain(names(each.seen.actions)),
            moment(each.seen.last),
            code(each.command),
        )
        if each.seen.count
        else (each.title, "0", "no evidence in this period", "", NEVER, code(each.command))
        for each in control.evidence
    ]
    yield from _table(
        ("Evidence", "Events", "Outcomes", "Most frequent actions", "Last (UTC)", "Command"), rows, "No evidence is asked for."
    )
    if control.facts:
        yield "The audit pipeline itself:"
        yield ""
        yield from _list(
            *(
                f"**{WEIGHTS[each.weight]}**: {plain(each.sentence)}{f' {code(each.command)}' if each.command else ''}"
                for each in control.facts
            )
        )


def _reviews(reviews: Sequence[Review]) -> Iterator[str]:
    rows = [
        (
            moment(each.signed_at),
            plain(f"{each.reviewer} ({each.doubt})" if each.doubt else each.reviewer),
            plain(period(each.since, each.until)),
            plain(each.query),
            NEVER if each.matched is None else number(each.matched),
            result_words(each.result),
            plain(each.finding),
        )
        for each in reviews
    ]
    heads = ("Signed (UTC)", "By", "What was reviewed", "Looked for", "Events", "Outcome", "Finding")
    yield from _table(heads, rows, "No review was signed in this period.")


def _coverage(coverage: Coverage) -> Iterator[str]:
    untrusted = f", {number(coverage.untrusted)} of them in trails that nobody vouches for" if coverage.untrusted else ""
    yield f"{number(coverage.events)} events{untrusted}."
    yield ""
    if coverage.has_catalog:
        yield f"{number(len(coverage.seen))} of {number(len(coverage.entries))} catalogued actions were seen."
        yield ""
        yield "### Catalogued actions that were seen"
        yield ""
        yield from _entries(coverage.seen)
        yield "### Privileged actions"
        yield ""
        yield from _entries(coverage.privileged)
        yield "### Catalogued actions without any event"
        yield ""
        unseen = [
            (code(each.entry.action), each.entry.category.value, each.entry.sensitivity.value, plain(each.entry.description))
            for each in coverage.unseen
        ]
        yield from _table(("Action", "Category", "Sensitivity", "What it would record"), unseen, "There is none.")
    else:
        yield "No catalog was given, so every action counts as uncatalogued: nobody said which events are expected."
        yield ""
    yield "### Actions that the catalog does not know"
    yield ""
    others = [(code(each.action), *_seen(each.seen)) for each in coverage.uncatalogued]
    yield from _table(("Action", "Events", "Outcomes", "First (UTC)", "Last (UTC)", "Services"), others, "There is none.")
    if coverage.more_uncatalogued:
        yield "There are more such actions; these are the most frequent."
        yield ""
    yield "### Quarantine, by reason"
    yield ""
    rows = [
        (plain(each.reason), number(each.count), moment(each.first), moment(each.last), plain(", ".join(each.services)))
        for each in coverage.quarantined
    ]
    yield from _table(("Reason", "Lines", "First (UTC)", "Last (UTC)", "Services"), rows, "Nothing was quarantined in this period.")
    yield "### Services"
    yield ""
    yield from _services(coverage)


def _seen(seen: Seen) -> tuple[str, ...]:
    return number(seen.count), plain(outcomes(seen)), moment(seen.first), moment(seen.last), plain(names(seen.services))


def _entries(entries: Sequence[CoveredEntry]) -> Iterator[str]:
    rows = [
        (code(each.entry.action), each.entry.category.value + (", privileged" if each.entry.privileged else ""), *_seen(each.seen))
        for each in entries
    ]
    heads = ("Action", "Category", "Events", "Outcomes", "First (UTC)", "Last (UTC)", "Services")
    yield from _table(heads, rows, "None was seen.")


def _services(coverage: Coverage) -> Iterator[str]:
    rows = [
        (
            plain(each.service) + (f" ({each.untrusted_trails} trails not vouched for)" if each.untrusted_trails else ""),
            *map(number, (each.trails, each.batches, each.events, each.actions, each.quarantined, each.gaps)),
            moment(each.last_event),
            moment(each.last_sealed),
        )
        for each in coverage.services
    ]
    heads = ("Service", "Trails", "Batches", "Events", "Actions", "Quarantined", "Gaps", "Last event (UTC)", "Last seal (UTC)")
    yield from _table(heads, rows, "There is none.")
