"""Showing a copying: a table and what went wrong for a person, JSON for a program.

Invariants: text from a store is shown with everything unprintable escaped; nothing is cut from JSON; the last line says the exit code.
This module must not decide anything: it shows a `Report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich import box
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..reader.findings import Code, Severity
from ..reader.report import as_json as verification_as_json
from ..reader.report import closing_line as verification_line
from ..reader.report import printable
from ..reader.report import render as render_verification

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

    from ..reader.findings import Finding
    from .outcome import Failure, Report, TrailOutcome

JSON_FORMAT: Final = 1
_MAX_ROWS: Final = 40
_MAX_FINDINGS: Final = 40
_NOT_COPIED: Final = (Code.DATA_IN_FLIGHT, Code.DATA_UNSEALED, Code.FORK_REMAINS, Code.FOREIGN_OBJECT)
"""What lies in a store beside the sealed batches of its trails."""
_BAD: Final = "bold red"


def render(report: Report, console: Console) -> None:
    """Print the whole report.

    Args:
        report: What happened.
        console: Where to; it decides about width and colours.
    """
    for part in _parts(report):
        console.print(part, highlight=False)
    if report.verification is not None:
        console.print(Text.assemble(("Verified in ", "bold"), printable(report.target)), highlight=False)
        render_verification(report.verification, console)
        console.print(Text(), highlight=False)
    console.print(closing_line(report), highlight=False, soft_wrap=True)


def _parts(report: Report) -> Iterable[RenderableType]:
    # What went wrong first, so that a crowd of sound trails cannot push it out of sight.
    shown = sorted(report.trails, key=lambda trail: trail.stop is None)[:_MAX_ROWS]
    if shown:
        yield _table(shown, dry_run=report.dry_run)
    if len(shown) < len(report.trails):
        yield Text(f"… and {len(report.trails) - len(shown)} trails more; --json lists all of them.\n")
    yield from _findings(report)
    yield from (Text(f"warning: {printable(warning)}", style="yellow") for warning in report.warnings)
    if report.failure is not None:
        yield from _said(f"{report.target} takes nothing more", report.failure)
    if report.unread is not None:
        yield from _said(f"{report.target} cannot be verified", report.unread)


def _said(what: str, failure: Failure) -> Iterable[RenderableType]:
    yield Text(printable(f"{what}: {failure.message}"), style=_BAD)
    yield Text(f"  → {printable(failure.hint)}\n", style="italic")


def _table(trails: Iterable[TrailOutcome], *, dry_run: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("Trail", ratio=1, overflow="fold")
    for name in ("Batches", "Records", "To create" if dry_run else "Created", "There", "Bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for trail in trails:
        origin = Text(str(trail.origin))
        if trail.trusted_by is None:
            origin.append("\n  its key is not vouched for", style="magenta")
        if trail.stop is not None:
            origin.append(f"\n  stopped before batch {trail.stop.batch}: {printable(trail.stop.why)}", style=_BAD)
        counts = (trail.batches, trail.records, trail.created, trail.present)
        table.add_row(origin, *(f"{count:,}" for count in counts), decimal(trail.created_bytes))
    return table


def _findings(report: Report) -> Iterable[RenderableType]:
    """Yield what forbids exit 0, and what was left in the source."""
    bad = sorted((finding for finding in report.log.kept if finding.severity > Severity.INCOMPLETE), key=lambda found: -found.severity)
    for finding in bad[:_MAX_FINDINGS]:
        yield Text.assemble((f"{finding.severity.verdict}: {finding.code.value}", _BAD), (f"  {finding.origin or ''}", "bold"))
        yield Padding(Text(printable(finding.message)), (0, 0, 0, 2), expand=False)
        yield Text(f"  → {finding.hint}\n", style="italic")
    if len(bad) > _MAX_FINDINGS:
        yield Text(f"… and {len(bad) - _MAX_FINDINGS} more; --json lists them.\n")
    left = [finding for finding in report.log.kept if finding.code in _NOT_COPIED]
    for finding in left[:_MAX_FINDINGS]:
        yield Text.assemble("not copied: ", (printable(finding.key or ""), "dim"), f" ({finding.code.value})")
    counted = sum(report.log.counts[code] for code in _NOT_COPIED)
    if counted > len(left[:_MAX_FINDINGS]):
        yield Text(f"not copied: {counted - len(left[:_MAX_FINDINGS])} objects more that no seal names; --json lists what is kept of them")
    if report.probes:
        yield Text(f"not copied: {report.probes:,} probe{_s(report.probes)} with which agents examined the store")


def closing_line(report: Report) -> Text:
    """Return the outcome in one line."""
    trails, created = len(report.trails), sum(trail.created for trail in report.trails)
    size = decimal(sum(trail.created_bytes for trail in report.trails))
    present = sum(trail.present for trail in report.trails)
    word, style = ("copied", "bold green") if report.complete else ("not all was copied", _BAD)
    if report.dry_run:
        word = "would be copied" if report.complete else "not all could be copied"
    counts = f": {trails} trail{_s(trails)}, {created:,} object{_s(created)} created ({size}), {present:,} there already"
    if report.dry_run:
        counts = counts.replace("created", "to create")
    if report.verification is not None:
        words = verification_line(report.verification).plain.partition(":")[0]
    else:
        words = "nothing was written" if report.dry_run else "not verified"
    return Text.assemble((word, style), f"{counts}; {words} (exit {report.exit_code})")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data; docs/copy.md describes every key."""
    return {
        "format": JSON_FORMAT,
        "from": _unicode(report.source),
        "to": _unicode(report.target),
        "dry_run": report.dry_run,
        "began_at": report.began.isoformat(),
        "exit_code": report.exit_code,
        "complete": report.complete,
        "created": sum(trail.created for trail in report.trails),
        "created_bytes": sum(trail.created_bytes for trail in report.trails),
        "present": sum(trail.present for trail in report.trails),
        "trails": [_trail(trail) for trail in report.trails],
        "findings": [_finding(finding) for finding in report.log.kept],
        "findings_omitted": report.log.omitted,
        "counts": {code.value: count for code, count in sorted(report.log.counts.items())},
        "probes": report.probes,
        "warnings": list(report.warnings),
        "failure": _failure(report.failure),
        "verification": None if report.verification is None else verification_as_json(report.verification),
        "unread": _failure(report.unread),
    }


def _failure(failure: Failure | None) -> dict[str, str] | None:
    return None if failure is None else {"message": _unicode(failure.message), "hint": _unicode(failure.hint)}


def _trail(trail: TrailOutcome) -> dict[str, Any]:
    stop = trail.stop
    return {
        "origin": str(trail.origin),
        "batches": trail.batches,
        "records": trail.records,
        "created": trail.created,
        "created_bytes": trail.created_bytes,
        "present": trail.present,
        "cosignatures": trail.cosignatures,
        "key": str(trail.key) if trail.key else None,
        "trusted_by": str(trail.trusted_by) if trail.trusted_by else None,
        "stopped": None
        if stop is None
        else {"batch": stop.batch, "cause": stop.cause.value, "key": _unicode(stop.key), "why": _unicode(stop.why)},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.structs.asdict(finding)
    severity = "notice" if finding.severity is Severity.NOTICE else finding.severity.verdict
    key = None if finding.key is None else _unicode(finding.key)
    return found | {
        "code": finding.code.value,
        "severity": severity,
        "key": key,
        "message": _unicode(finding.message),
        "hint": finding.hint,
    }


def _unicode(text: str) -> str:
    """Return a text with what is no Unicode, as in file names that are not UTF-8, as backslash escapes: JSON can hold nothing else."""
    return text.encode("utf-8", "backslashreplace").decode()
