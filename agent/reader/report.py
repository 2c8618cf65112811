"""Showing a verification: a table and findings for a person, JSON for a program.

Invariants: text from a store is shown with everything unprintable escaped, so it cannot drive a terminal or pass for
something else; nothing is cut from JSON. This module must not decide anything: it shows a `Report`.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .findings import Code, Severity
from .retention import shown_days
from .verify import shown_age

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

    from .findings import Finding, FindingLog
    from .retention import Attestation
    from .verify import Report, TrailReport

JSON_FORMAT: Final = 1
_STYLES: Final = {
    Severity.NOTICE: "green",
    Severity.INCOMPLETE: "yellow",
    Severity.UNVERIFIED: "magenta",
    Severity.TAMPERED: "bold red",
}
_COLUMNS: Final = {"Batches": 7, "Records": 10, "Events": 10, "Quarant.": 8, "Gaps": 4}
_MAX_ROWS: Final = 40
_MAX_KINDS: Final = 40
_MAX_SHOWN_OF_A_KIND: Final = 5


def printable(text: str) -> str:
    """Return a text with control, format and undecodable characters as backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def render(report: Report, console: Console) -> None:
    """Print the whole report.

    Args:
        report: What was found.
        console: Where to; it decides about width and colours.
    """
    for part in _parts(report):
        console.print(part, highlight=False)


def _parts(report: Report) -> Iterable[RenderableType]:
    shown = list(report.trails)
    if len(shown) > _MAX_ROWS:
        # The worst first, so that a crowd of lesser trails cannot push one out of sight.
        shown = sorted((trail for trail in shown if trail.severity > Severity.NOTICE), key=lambda trail: -trail.severity)
    if shown:
        yield _table(shown[:_MAX_ROWS])
    if len(shown[:_MAX_ROWS]) < len(report.trails):
        yield Text(f"… and {len(report.trails) - len(shown[:_MAX_ROWS])} trails more; --json lists all of them.")
    yield from _findings(report.log)
    yield Text.assemble(("Assurance: ", "bold"), f"{report.assurance}: {printable(_assurance(report.attestation))}")
    yield Text()
    yield closing_line(report)


def _assurance(attestation: Attestation) -> str:
    """Return what the level means, and the figures it stands on."""
    figures = ""
    if attestation.as_of is not None:
        shortest, lapses = attestation.shortest_seconds, attestation.first_lapses_at
        seen = f"{attestation.versions:,} versions as of {attestation.as_of:%Y-%m-%d %H:%M:%S} UTC"
        if attestation.looked_at < attestation.versions:
            seen += f", the retention of {attestation.looked_at:,} of them"
        policy = f"policy {attestation.policy}" if attestation.policy else "no policy"
        shown = "no retention" if shortest is None else f"the shortest retention is {shown_days(shortest)}"
        figures = f" Looked at: {seen}; {policy}; {shown}{f', the first ends {lapses:%Y-%m-%d %H:%M} UTC' if lapses else ''}."
    if attestation.reason is None:
        meaning = "nobody can delete or replace any version of what was verified before its retention ends, by the store's own word."
    else:
        meaning = (
            f"the agent's key alone vouches for this: no lock on every version was attested ({attestation.reason}) and no witness "
            "has cosigned, so whoever holds both the key and the store could have rewritten it."
        )
    return meaning + figures


def closing_line(report: Report) -> Text:
    """Return the verdict in one line."""
    severity = report.severity
    trails = f"{len(report.trails)} trail{'' if len(report.trails) == 1 else 's'}"
    word = "intact and complete" if severity is Severity.NOTICE else severity.verdict
    return Text.assemble((word, f"bold {_STYLES[severity]}"), f": {trails}, {report.records:,} records (exit {severity.exit_code})")


def _table(trails: Iterable[TrailReport]) -> Table:
    """Return one block a trail: a row of figures, and below it, over the whole width, what does not fit into columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=0)
    heading = _row("Trail", *(Text(name) for name in _COLUMNS), Text("Verdict"))
    table.add_column(heading)
    for trail in trails:
        tally, origin = trail.tally, trail.origin
        counts = (tally.batches, tally.records, tally.events, tally.quarantined, tally.gaps)
        verdict = Text(trail.severity.verdict, style=_STYLES[trail.severity])
        row = _row(f"{origin.namespace}/{origin.service}/{origin.instance}", *(Text(f"{count:,}") for count in counts), verdict)
        table.add_row(Group(row, Text(_details(trail), style="dim")))
    return table


def _row(name: str, *cells: Text) -> Table:
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1, overflow="fold")
    for width in _COLUMNS.values():
        row.add_column(width=width, justify="right", no_wrap=True)
    row.add_column(width=12, no_wrap=True)
    row.add_row(Text(name, style="bold"), *cells)
    return row


def _details(trail: TrailReport) -> str:
    tally = trail.tally
    first, last = _second(tally.first_time), _second(tally.head.sealed_at if tally.head else None)
    if tally.key is None:
        key = "unknown"
    else:
        vouched = (
            "trusted" if tally.trusted_by == tally.key else f"enrolled by {tally.trusted_by.name}" if tally.trusted_by else "not trusted"
        )
        key = f"{tally.key.key_id.hex()}, {vouched}"
    age = trail.head_age_seconds
    head = "no readable head" if age is None else f"head {shown_age(age)} old"
    return f"  {first} to {last}\n  epoch …{trail.origin.epoch[-8:]} · {trail.state}, {head} · key {printable(key)}"


def _second(time: str | None) -> str:
    return "no time" if time is None else time[:19].replace("T", " ") + " UTC"


def _findings(log: FindingLog) -> Iterable[RenderableType]:
    kinds: dict[tuple[Code, str | None], list[Finding]] = defaultdict(list)
    for finding in log.kept:
        kinds[finding.code, finding.origin].append(finding)
    for (code, _), findings in sorted(kinds.items(), key=lambda kind: -kind[0][0].severity)[:_MAX_KINDS]:
        severity = code.severity
        title = "notice" if severity is Severity.NOTICE else severity.verdict
        style = "cyan" if severity is Severity.NOTICE else _STYLES[severity]
        place = f"  {printable(findings[0].origin)}" if findings[0].origin else ""
        yield Text.assemble((f"{title}: {code.value}", style), (place, "bold"))
        for finding in islice(findings, _MAX_SHOWN_OF_A_KIND):
            batch = "" if finding.batch is None else f"batch {finding.batch}: "
            # Every line is indented, also one that was wrapped: text from a store must not pass for a line of the report.
            yield Padding(Text(f"{batch}{printable(finding.message)}"), (0, 0, 0, 2), expand=False)
            if finding.key and finding.key not in finding.message:
                yield Padding(Text(printable(finding.key), style="dim", overflow="fold"), (0, 0, 0, 4), expand=False)
        if len(findings) > _MAX_SHOWN_OF_A_KIND:
            yield Text(f"  … and {len(findings) - _MAX_SHOWN_OF_A_KIND} more of this kind; --json lists them")
        yield Text(f"  → {findings[0].hint}", style="italic")
        yield Text()
    if len(kinds) > _MAX_KINDS:
        yield Text(f"… and {len(kinds) - _MAX_KINDS} more kinds of findings; --json lists them.\n")
    if log.omitted:
        yield Text(f"{log.omitted} more findings were counted but not kept.\n")


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data; docs/verify.md describes every key."""
    return {
        "format": JSON_FORMAT,
        "store": _unicode(report.store),
        "checked_at": report.checked_at.isoformat(),
        "verdict": report.severity.verdict,
        "exit_code": report.severity.exit_code,
        "assurance": report.assurance,
        "attestation": _attestation(report.attestation),
        "records": report.records,
        "trails": [_trail(trail) for trail in report.trails],
        "findings": [_finding(finding) for finding in report.log.kept],
        "findings_omitted": report.log.omitted,
        "counts": {code.value: count for code, count in sorted(report.log.counts.items())},
    }


def _attestation(attestation: Attestation) -> dict[str, Any]:
    policy = attestation.policy
    return {
        "reason": None if attestation.reason is None else _unicode(attestation.reason),
        "as_of": attestation.as_of.isoformat() if attestation.as_of else None,
        "policy": None if policy is None else {"mode": policy.mode.value, "retention_seconds": policy.seconds, "given": policy.given},
        "versions": attestation.versions,
        "looked_at": attestation.looked_at,
        "shortest_retention_seconds": attestation.shortest_seconds,
        "first_lapses_at": attestation.first_lapses_at.isoformat() if attestation.first_lapses_at else None,
    }


def _unicode(text: str) -> str:
    """Return a text with what is no Unicode, as in file names that are not UTF-8, as backslash escapes: JSON can hold nothing else."""
    return text.encode("utf-8", "backslashreplace").decode()


def _trail(trail: TrailReport) -> dict[str, Any]:
    tally = trail.tally
    return {
        "origin": str(trail.origin),
        "verdict": trail.severity.verdict,
        "state": trail.state,
        "batches": tally.batches,
        "records": tally.records,
        "events": tally.events,
        "quarantined": tally.quarantined,
        "gaps": tally.gaps,
        "data_bytes": tally.data_bytes,
        "raw_bytes": tally.raw_bytes,
        "first_sealed_at": tally.first_time,
        "last_sealed_at": tally.head.sealed_at if tally.head else None,
        "head_age_seconds": trail.head_age_seconds,
        "size": tally.head.seq + 1 if tally.head else None,
        "root": tally.head_root.hex() if tally.head else None,
        "key": str(tally.key) if tally.key else None,
        "trusted_by": str(tally.trusted_by) if tally.trusted_by else None,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code.value,
        "severity": "notice" if finding.severity is Severity.NOTICE else finding.severity.verdict,
        "origin": finding.origin,
        "batch": finding.batch,
        "key": None if finding.key is None else _unicode(finding.key),
        "first_seq": finding.first_seq,
        "last_seq": finding.last_seq,
        "message": _unicode(finding.message),
        "hint": finding.hint,
    }
