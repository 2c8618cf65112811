"""What the check of a pack found, for a terminal and for a program.

Invariants: text out of a pack is escaped for a terminal; the last line is the verdict. This module must not check anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..findings import Severity
from ..report import printable
from ..trustfile import fingerprint
from . import packing

if TYPE_CHECKING:
    from pathlib import Path

    from .pack import Packed
    from .packcheck import CheckedTrail, PackReport
    from .renderingcheck import CheckedRendering

JSON_FORMAT: Final = 1
_MAX_LISTED: Final = 20
_WORDS: Final = {
    Severity.NOTICE: "intact and stated complete",
    Severity.INCOMPLETE: "intact, but stated incomplete",
    Severity.UNVERIFIED: "not verified",
    Severity.TAMPERED: "tampered",
}


def pack_document(report: PackReport) -> dict[str, Any]:
    """Return a report as plain data; docs/evidence.md describes every key."""
    return {
        "format": JSON_FORMAT,
        "verdict": "proven" if report.severity is Severity.NOTICE else report.severity.verdict,
        "exit_code": report.severity.exit_code,
        "events": report.events,
        "proven": report.proven,
        "query": report.query.get("query"),
        "stated": _stated(report),
        "page_is_ours": report.page_is_ours,
        "renderings": [
            {"rendering": one.name, "file": one.place, "schema": one.schema, "made_by": one.made_by, "same": one.same}
            for one in report.renderings
        ],
        "trails": [
            {
                "origin": trail.origin,
                "key": None if trail.key is None else str(trail.key),
                "vouched_by": None if trail.vouched_by is None else str(trail.vouched_by),
                "size": trail.size,
                "events": trail.events,
                "proven": trail.proven,
            }
            for trail in report.trails
        ],
        "faults": [{"severity": one.severity.verdict, "place": one.place, "message": one.message} for one in report.faults],
        "faults_omitted": sum(report.counts.values()) - len(report.faults),
    }


def _stated(report: PackReport) -> Any:
    statement = report.completeness.get("statement")
    return statement.get("verdict") if isinstance(statement, dict) else None


def pack_lines(report: PackReport) -> list[str]:
    """Return a report in lines for a terminal."""
    lines = [f"Asked: {printable(str(report.query.get('query')))}"]
    for trail in report.trails[:_MAX_LISTED]:
        lines += _trail(trail)
    if len(report.trails) > _MAX_LISTED:
        lines.append(f"… and {len(report.trails) - _MAX_LISTED} trails more; --json lists all of them.")
    lines += [f"{one.severity.verdict}: {printable(one.place)}: {printable(one.message)}" for one in report.faults[:_MAX_LISTED]]
    omitted = sum(report.counts.values()) - len(report.faults[:_MAX_LISTED])
    if omitted:
        lines.append(f"… and {omitted} faults more; --json lists more of them.")
    lines += [_rendering(one) for one in report.renderings]
    if report.page_is_ours is False:
        lines.append("notice: index.html is not the page that this version makes of these records; --page FILE writes one that is.")
    lines.append(
        f"The exporter states: {printable(str(_stated(report)))}. That nothing else matched is the exporter's word, not proven here."
    )
    # Under a key that nobody vouches for nothing is proven, however well everything fits together.
    holds = "proven" if report.severity in {Severity.NOTICE, Severity.INCOMPLETE} else "fit their proofs and signatures"
    lines.append(f"{_WORDS[report.severity]}: {report.proven:,} of {report.events:,} events {holds} (exit {report.severity.exit_code})")
    return lines


def _rendering(one: CheckedRendering) -> str:
    found = "NOT what was made again from the records" if one.same is False else "not checked"
    return f"{one.place}: {printable(one.schema)}, {'the same as made again from the records' if one.same else found}"


def _trail(trail: CheckedTrail) -> list[str]:
    lines = [f"{printable(trail.origin)}: {trail.proven:,} of {trail.events:,} events fit, tree of {trail.size:,} leaves"]
    if trail.key is not None:
        whose = "NOBODY vouches for it"
        if trail.vouched_by is not None:
            whose = "vouched for" if trail.vouched_by == trail.key else f"vouched for by {printable(trail.vouched_by.name)}"
        lines.append(f"  key {fingerprint(trail.key)}: {whose}")
    return lines


def export_lines(packed: Packed, path: Path) -> list[str]:
    """Return what an export did, in lines for a terminal."""
    # Imported here because the check of a pack, which shares this module, must not need the database.
    from ..ask.correlation import EXPLANATIONS  # noqa: PLC0415

    lines = [f"Asked: {printable(packed.statement.query)}"]
    for trail in packed.trails:
        whose = "NOBODY vouches for its key" if trail.vouched_by is None else "its key is vouched for"
        lines.append(f"{trail.origin}: {trail.events:,} events, tree of {trail.size:,} leaves; {whose}")
    lines += [f"NOT in the pack: {one.events:,} events of {one.origin}: {printable(one.why)}" for one in packed.not_proven]
    reasons = [reason for reason in packed.statement.reasons if reason.severity > Severity.NOTICE]
    for reason in reasons[:_MAX_LISTED]:
        place = "" if reason.origin is None else f"{reason.origin}: "
        lines.append(f"{reason.severity.verdict}: {place}{printable(reason.message)}")
    if len(reasons) > _MAX_LISTED:
        lines.append(f"… and {len(reasons) - _MAX_LISTED} reasons more, in {packing.COMPLETENESS}")
    if packed.selected.pairs:
        found = ", ".join(f"{count} {EXPLANATIONS[finding]}" for finding, count in sorted(packed.selected.findings.items()))
        lines.append(f"Put beside: {len(packed.selected.wanted) - packed.selected.matched:,} counterparts ({packing.PAIRS}): {found}")
    if packed.renderings:
        lines.append(f"Rendered: {', '.join(f'{packing.rendering_name(name)} ({schema})' for name, schema in packed.renderings)}")
    answer = f"the answer is {packed.statement.verdict}"
    lines.append(f"{printable(str(path))}: {packed.events:,} events with their proofs; {answer}")
    return lines
