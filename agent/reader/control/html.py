"""A report as HTML: fragments for a page of somebody else's, and a whole page that needs nothing else.

Invariants: as in `markup`; a fragment shows what its value holds and nothing more, so a value made within a scope stays within it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .drawing import draw_timeline
from .markup import NEVER, POLICY, STYLE, moment, none, number, table, text
from .pipeline import duration
from .report import NO_CLAIM
from .words import WEIGHTS, names, outcomes, period, result_words, severity_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ..ask.filters import Filter
    from .controls import Control, ControlTable, Evidence
    from .coverage import Coverage, CoveredEntry
    from .pipeline import Stated
    from .report import Report
    from .reviews import Review
    from .timeline import Timeline

_NO_CATALOG: Final = "No catalog was given, so every action counts as uncatalogued: nobody said which events are expected."


def coverage_fragment(coverage: Coverage, link: Callable[[str], str | None] = lambda _: None) -> str:
    """Return the catalog coverage as HTML, from its first ``h3`` on.

    Args:
        coverage: What was seen.
        link: Returns the address that shows an action's events; None for no link.
    """
    parts = [f"<p>{number(coverage.events)} events{text(_untrusted(coverage.untrusted))}.</p>"]
    if not coverage.has_catalog:
        parts.append(none(_NO_CATALOG))
    else:
        seen, unseen = coverage.seen, coverage.unseen
        parts.append(f"<p>{number(len(seen))} of {number(len(coverage.entries))} catalogued actions were seen.</p>")
        parts += ["<h3>Catalogued actions that were seen</h3>", _entries(seen, link) if seen else none("None was.")]
        parts += ["<h3>Privileged actions</h3>", _entries(coverage.privileged, link) if coverage.privileged else none("None was seen.")]
        parts += ["<h3>Catalogued actions without any event</h3>", _unseen(unseen) if unseen else none("There is none.")]
    parts += ["<h3>Actions that the catalog does not know</h3>", _uncatalogued(coverage, link)]
    parts += ["<h3>Quarantine, by reason</h3>", _quarantined(coverage)]
    parts += ["<h3>Services</h3>", _services(coverage)]
    return "".join(parts)


def controls_fragment(controls: ControlTable, link: Callable[[Filter], str | None] = lambda _: None) -> str:
    """Return the control table and the reviews as HTML, from its first ``h3`` on.

    Args:
        controls: What evidence there is.
        link: Returns the address that shows a filter's events; None for no link.
    """
    claim = f'<p class="claim">{text(NO_CLAIM)}</p>'
    catalog = "" if controls.has_catalog else none("No catalog was given: names of actions stand in for its categories.")
    overview = table(
        ("Control", "", "Kinds of events seen", "Events", "Last"),
        (
            (text(control.id), text(control.title), _shares(control), number(control.events), moment(_last(control)))
            for control in controls.controls
        ),
        "  nnt",
    )
    each = "".join(_control(control, link) for control in controls.controls)
    return f"{claim}{catalog}{overview}{each}<h3>Reviews signed in this period</h3>{reviews_fragment(controls.reviews)}"


def reviews_fragment(reviews: Iterable[Review]) -> str:
    """Return reviews as HTML."""
    rows = [
        (
            moment(review.signed_at),
            text(review.reviewer) + (f' <span class="attention">({text(review.doubt)})</span>' if review.doubt else ""),
            text(period(review.since, review.until)),
            text(review.query),
            NEVER if review.matched is None else number(review.matched),
            text(result_words(review.result)),
            text(review.finding),
        )
        for review in reviews
    ]
    heads = ("Signed (UTC)", "By", "What was reviewed", "Looked for", "Events", "Outcome", "Finding")
    return table(heads, rows, "t   n  ") if rows else none("No review was signed in this period.")


def timeline_fragment(timeline: Timeline) -> str:
    """Return the timeline as HTML: the drawing, its legend, and what it leaves out."""
    square = '<svg class="timeline" viewBox="0 0 10 10" aria-hidden="true"><rect class="{}" width="10" height="10"/></svg>'
    kinds = (("success", "succeeded"), ("failed", "failed or denied"), ("unknown", "unknown"), ("silence", "silence"), ("loss", "loss"))
    legend = "".join(f"<li>{square.format(kind)}{word}</li>" for kind, word in kinds)
    outside = ""
    if timeline.outside:
        outside = f"<p>{number(timeline.outside)} events claim a time before the first or after the last batch, and are not drawn.</p>"
    return f'{draw_timeline(timeline)}<ul class="legend">{legend}</ul>{outside}{_marks(timeline)}'


def page(report: Report) -> str:
    """Return a whole page: it loads nothing, runs nothing, and can be kept as a file."""
    facts = (
        ("Store", report.store),
        ("Services", ", ".join(report.services) or "all"),
        ("Period", period(report.since, report.until)),
        ("Statement", f"{report.statement.verdict}: {number(report.statement.records)} records in {len(report.statement.trails)} trails"),
        ("Catalog", report.catalog_file or "none"),
        ("Looked at the store", f"{moment(report.refreshed_at)} UTC"),
        ("Made", f"{moment(report.made_at)} UTC, trailseal {report.version}"),
    )
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts)
    title = f"Control report, {period(report.since, report.until)}"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><header><h1>Control report</h1><dl>{listed}</dl></header><main>"
        f"<h2>Timeline</h2>{timeline_fragment(report.timeline)}"
        f"<h2>Controls</h2>{controls_fragment(report.table)}"
        f"<h2>Catalog coverage</h2>{coverage_fragment(report.coverage)}"
        f"<h2>What this stands on</h2>{_statement(report)}</main></body></html>\n"
    )


def _untrusted(count: int) -> str:
    return f", {count:,} of them in trails that nobody vouches for" if count else ""


def _action(name: str, link: Callable[[str], str | None]) -> str:
    address = link(name)
    shown = f"<code>{text(name)}</code>"
    return shown if address is None else f'<a href="{text(address)}">{shown}</a>'


def _entries(entries: Iterable[CoveredEntry], link: Callable[[str], str | None]) -> str:
    rows = (
        (
            f'{_action(each.entry.action, link)}<span class="command">{text(each.entry.description)}</span>',
            text(each.entry.category.value) + (", privileged" if each.entry.privileged else ""),
            number(each.seen.count),
            text(outcomes(each.seen)),
            moment(each.seen.first),
            moment(each.seen.last),
            text(names(each.seen.services)),
        )
        for each in entries
    )
    return table(("Action", "Category", "Events", "Outcomes", "First (UTC)", "Last (UTC)", "Services"), rows, "  n tt ")


def _unseen(entries: Iterable[CoveredEntry]) -> str:
    rows = (
        (
            f"<code>{text(each.entry.action)}</code>",
            text(each.entry.category.value),
            text(each.entry.sensitivity.value),
            text(each.entry.description),
        )
        for each in entries
    )
    return table(("Action", "Category", "Sensitivity", "What it would record"), rows)


def _uncatalogued(coverage: Coverage, link: Callable[[str], str | None]) -> str:
    if not coverage.uncatalogued:
        return none("There is none.")
    rows = (
        (
            _action(each.action, link),
            number(each.seen.count),
            text(outcomes(each.seen)),
            moment(each.seen.first),
            moment(each.seen.last),
            text(names(each.seen.services)),
        )
        for each in coverage.uncatalogued
    )
    more = none("There are more such actions; these are the most frequent.") if coverage.more_uncatalogued else ""
    heads = ("Action", "Events", "Outcomes", "First (UTC)", "Last (UTC)", "Services")
    return f"<p>{number(coverage.uncatalogued_events)} events.</p>{table(heads, rows, ' n tt ')}{more}"


def _quarantined(coverage: Coverage) -> str:
    if not coverage.quarantined:
        return none("Nothing was quarantined in this period.")
    rows = (
        (text(each.reason), number(each.count), moment(each.first), moment(each.last), text(", ".join(each.services)))
        for each in coverage.quarantined
    )
    return table(("Reason", "Lines", "First (UTC)", "Last (UTC)", "Services"), rows, " ntt ")


def _services(coverage: Coverage) -> str:
    if not coverage.services:
        return none("There is none.")
    rows = (
        (
            text(each.service)
            + (f' <span class="attention">({each.untrusted_trails} trails not vouched for)</span>' if each.untrusted_trails else ""),
            number(each.trails),
            number(each.batches),
            number(each.events),
            number(each.actions),
            number(each.quarantined),
            number(each.gaps),
            moment(each.last_event),
            moment(each.last_sealed),
        )
        for each in coverage.services
    )
    heads = ("Service", "Trails", "Batches", "Events", "Actions", "Quarantined", "Gaps", "Last event (UTC)", "Last seal (UTC)")
    return table(heads, rows, " nnnnnntt")


def _shares(control: Control) -> str:
    return f"{sum(bool(each.seen.count) for each in control.evidence)} of {len(control.evidence)}"


def _last(control: Control) -> datetime | None:
    return max((each.seen.last for each in control.evidence if each.seen.last is not None), default=None)


def _control(control: Control, link: Callable[[Filter], str | None]) -> str:
    rows = [_evidence(each, link) for each in control.evidence]
    nothing = "" if control.has_evidence else none("No evidence in this period.")
    facts = "".join(_fact(each) for each in control.facts)
    return (
        f"<h3>{text(control.id)} {text(control.title)}</h3><p>{text(control.sentence)}</p>{nothing}"
        f"{table(('Evidence', 'Events', 'Outcomes', 'Most frequent actions', 'Last (UTC)'), rows, ' n  t')}"
        f"{f'<p>The audit pipeline itself:</p><ul>{facts}</ul>' if facts else ''}"
    )


def _evidence(evidence: Evidence, link: Callable[[Filter], str | None]) -> tuple[str, ...]:
    seen, address = evidence.seen, link(evidence.filter)
    title = text(evidence.title) if address is None else f'<a href="{text(address)}">{text(evidence.title)}</a>'
    command = f'<code class="command">{text(evidence.command)}</code>'
    if not seen.count:
        return title + command, "0", '<span class="none">no evidence in this period</span>', "", moment(None)
    return title + command, number(seen.count), text(outcomes(seen)), text(names(seen.actions)), moment(seen.last)


def _fact(stated: Stated) -> str:
    command = f'<code class="command">{text(stated.command)}</code>' if stated.command else ""
    return f'<li><span class="weight {stated.weight.value}">{WEIGHTS[stated.weight]}:</span> {text(stated.sentence)}{command}</li>'


def _marks(timeline: Timeline) -> str:
    rows: list[tuple[str, datetime | None, datetime | None, str, str]] = [
        ("silence", each.after, each.before, each.origin, duration(each.seconds)) for each in timeline.silences
    ]
    rows += [("loss", each.observed_at, None, each.origin, f"{each.cause} ({each.certainty}), {each.source}") for each in timeline.losses]
    if not rows:
        return none("No silence and no loss in this period.")
    cells = (
        (text(kind), moment(begin), moment(end), f"<code>{text(origin)}</code>", text(what)) for kind, begin, end, origin, what in rows
    )
    more = none(f"{timeline.omitted:,} more silences and losses are left out.") if timeline.omitted else ""
    return table(("What", "From (UTC)", "To (UTC)", "Trail", "How much"), cells, " tt  ") + more


def _statement(report: Report) -> str:
    statement = report.statement
    rows = [
        (text(severity_word(each.severity)), text(each.code), text(each.message), f"<code>{text(each.origin or '')}</code>")
        for each in statement.reasons
    ]
    shown = table(("Severity", "Code", "What", "Trail"), rows) if rows else none("Nothing is to be said against it.")
    omitted = none(f"{statement.reasons_omitted} more are left out.") if statement.reasons_omitted else ""
    return (
        f"<p>{number(statement.records)} records, {number(statement.quarantined)} of them quarantined, in {number(len(statement.trails))} "
        f"trails. The statement in one word: <strong>{text(statement.verdict)}</strong>.</p>{shown}{omitted}"
    )
