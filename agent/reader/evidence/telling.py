"""What a pack says in words: its keys, its question, its statement, its README and the facts on its page.

Invariants: everything is made of the documents in the pack alone, so that who checks a pack can make its page anew; no text of a store
or a command line ends a line, a table or an element it stands in. This module must not read a store or an index.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from ... import __version__
from ..report import printable
from ..trustfile import fingerprint
from . import packing
from .page import MAX_RECORDS, Facts
from .rendered import Renderer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from .pack import Packed, PackedTrail
    from .selecting import Question

_MAX_REASONS: Final = 20
_PLACE: Final = re.compile(r"\{\{([a-z]+)\}\}")
_VERDICTS: Final = {
    "complete": "complete: everything the store is known to hold for the range was verified, and nothing in it is stated as lost",
    "incomplete": "INCOMPLETE: something is stated as lost, is missing, or fell silent",
    "unverified": "UNVERIFIED: something did not verify, nobody vouches for a key, or there was nothing to look at",
}


def query_document(packed: Packed, question: Question, now: datetime) -> dict[str, Any]:
    """Return ``query.json``: what was asked, and which trails the lines of events belong to, in their order."""
    asked, scope = question.filter, question.scope
    return {
        "format": packing.FORMAT,
        "made_by": f"trailseal {__version__}",
        "exported_at": _time(now),
        "store": packed.statement.as_json()["store"],
        "query": packed.statement.query,
        "command": packed.statement.command,
        "filter": {
            **{name: list(getattr(asked, name)) for name in ("actor", "action", "target", "outcome", "service", "category")},
            "text": asked.text,
            "since": _time(asked.since),
            "until": _time(asked.until),
        },
        "correlate": question.correlate,
        "counterpart": list(question.counterpart),
        "scope": {"services": list(scope.services), "since": _time(scope.since), "until": _time(scope.until)},
        "events": packed.events,
        # Only where there are some: a pack without renderings is the same as it was before there were any.
        **({"renderings": Renderer(question.renderings).stated()} if question.renderings else {}),
        "trails": [
            {
                "origin": trail.origin,
                "folder": trail.folder,
                "events": trail.events,
                "size": trail.size,
                "root": trail.root,
                "key": str(trail.key),
                "vouched_by": None if trail.vouched_by is None else str(trail.vouched_by),
            }
            for trail in packed.trails
        ],
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def completeness_document(packed: Packed, counted: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``completeness.json``: the statement, what could not be proven, and the counts."""
    return {
        "format": packing.FORMAT,
        "about": "The statement of whoever exported; what is proven is only that each event is in its trail.",
        "statement": packed.statement.as_json(),
        "not_proven": [
            {"origin": one.origin, "events": one.events, "first_seq": one.first_seq, "last_seq": one.last_seq, "why": one.why}
            for one in packed.not_proven
        ],
        "correlation": {
            "matched": packed.selected.matched,
            "counterparts": len(packed.selected.wanted) - packed.selected.matched,
            "counterparts_omitted": packed.selected.omitted,
            "findings": {finding.value: count for finding, count in sorted(packed.selected.findings.items())},
        }
        if packed.selected.pairs
        else None,
        "by_day_and_source": dict(counted),
    }


def keys_text(trails: Sequence[PackedTrail]) -> str:
    """Return ``keys.txt``: lines of a trust file, and what the exporter's trust file says of each key."""
    lines = [
        "# The keys that signed the trails of this pack. They came with the pack: compare each fingerprint with the owner of the service",
        "# before you pass them to `trailseal verify-pack --trust`.",
    ]
    for trail in trails:
        if trail.vouched_by is None:
            vouched = "NOBODY: the exporter's trust file does not vouch for this key"
        elif trail.vouched_by == trail.key:
            vouched = "the exporter's trust file, which holds this key"
        else:
            vouched = f"the exporter's trust file, by the enrolment key {trail.vouched_by}"
        lines += ["", f"# vouched for by: {vouched}", "# SHA-256 of the key:", f"#   {fingerprint(trail.key)}"]
        if trail.vouched_by not in (None, trail.key):
            lines += ["# SHA-256 of the enrolment key:", f"#   {fingerprint(trail.vouched_by)}"]
        lines.append(f"{trail.origin} {trail.key}")
    return "\n".join(lines) + "\n"


def readme(query: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return the README for the auditor."""
    told = facts(query, document)
    values = {
        "summary": told.summary,
        "query": query.get("query"),
        "records": query.get("events"),
        "verdict": _verdict(document),
        "exported": query.get("exported_at"),
        "store": query.get("store"),
        "version": __version__,
    }
    lines = [
        f"- {one.get('events')} events of {one.get('origin')}: NOT in this pack. {one.get('why')}" for one in _parts(document, "not_proven")
    ]
    rows = [_rendering_row(one) for one in _parts(query, "renderings")]
    filled = {name: _markdown(value) for name, value in values.items()}
    filled |= {"trails": "\n".join(map(_markdown, lines)), "renderings": "".join(f"{_markdown(row)}\n" for row in rows)}
    text = files(__package__).joinpath("pack_readme.md").read_text("utf-8")
    # In one pass, so that a value that holds a placeholder is a value and no more.
    return _PLACE.sub(lambda found: filled[found[1]], text)


def _rendering_row(one: Mapping[str, Any]) -> str:
    name = packing.rendering_name(str(one.get("rendering")))
    made = f"one a line, made of the records by {one.get('made_by')}"
    return (
        f"| `{name}` | the same events as {one.get('schema')} documents, {made}: a copy for other tools. The records are the evidence; "
        "`trailseal verify-pack` makes the copy again and compares |"
    )


def _markdown(value: object) -> str:
    """Return a text on one line, in which nothing begins an element of HTML."""
    return printable(str(value)).replace("<", "&lt;")


def facts(query: Mapping[str, Any], document: Mapping[str, Any]) -> Facts:
    """Return what a page says besides the records.

    Args:
        query: ``query.json``; every value may be anything.
        document: ``completeness.json``; so here.
    """
    trails = _parts(query, "trails")
    count = query.get("events")
    statement = document.get("statement")
    said = statement if isinstance(statement, dict) else {}
    clock = said.get("clock")
    clocks = clock if isinstance(clock, dict) else {}
    shown = [
        ("Asked", query.get("query")),
        ("Asked again with", query.get("command")),
        ("Range", f"{said.get('since') or 'the beginning'} to {said.get('until') or 'the newest batch'}"),
        ("Verdict", _verdict(document)),
        ("Matched", f"{said.get('matched')} events, of {said.get('events_in_range')} in the range"),
        *_correlation(query, document),
        ("Population", f"{said.get('records')} records were verified, {said.get('quarantined')} of them quarantined lines"),
        ("Stated losses", f"{said.get('losses_total')} gap records"),
        ("Silent times", said.get("silences_total")),
        (
            "Clocks",
            (
                f"synchronized in {clocks.get('synchronized')} of {clocks.get('batches')} batches, "
                f"at worst {clocks.get('worst_offset_seconds')} s from the reference"
            ),
        ),
        *(
            ("NOT in this pack", f"{one.get('events')} events of {one.get('origin')}: {one.get('why')}")
            for one in _parts(document, "not_proven")
        ),
        *((f"Reason ({one.get('severity')})", _reason(one)) for one in _parts(said, "reasons")[:_MAX_REASONS]),
        *(("Also in this pack", _rendering(one)) for one in _parts(query, "renderings")[:_MAX_REASONS]),
        ("Index", f"brought up to date {said.get('refreshed_at')}"),
    ]
    left_out = isinstance(count, int) and count > MAX_RECORDS
    caption = f"{count} records of {len(trails)} trails."
    if left_out:
        caption = (
            f"THE FIRST {MAX_RECORDS:,} of {count:,} records; the others are in {packing.EVENTS} and are checked by trailseal verify-pack."
        )
    return Facts(
        title=str(query.get("query"))[:80],
        summary=f"{count} records of {len(trails)} audit trails, with the proof that each is what was sealed: {query.get('query')}.",
        statement=[(str(name), str(value)) for name, value in shown],
        caption=caption,
        footer=f"Exported {query.get('exported_at')} from {query.get('store')} by {query.get('made_by')}.",
        total=count if isinstance(count, int) else 0,
    )


def _rendering(one: Mapping[str, Any]) -> str:
    name = packing.rendering_name(str(one.get("rendering")))
    return (
        f"{name} ({one.get('schema')}, made by {one.get('made_by')}): a copy of the events for other tools, which this page does not check"
    )


def _correlation(query: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str]]:
    said = document.get("correlation")
    if not isinstance(said, dict):
        return []
    findings = said.get("findings")
    shown = ", ".join(f"{count} {name}" for name, count in findings.items()) if isinstance(findings, dict) else findings
    more = f"; {said.get('counterparts_omitted')} more are not in the pack" if said.get("counterparts_omitted") else ""
    beside = f"{said.get('counterparts')} counterparts by {query.get('correlate')}{more}; {packing.PAIRS} has them side by side: {shown}"
    return [("Put beside", beside)]


def _reason(one: Mapping[str, Any]) -> str:
    origin = one.get("origin")
    return f"{one.get('message')}" if origin is None else f"{origin}: {one.get('message')}"


def _verdict(document: Mapping[str, Any]) -> str:
    statement = document.get("statement")
    word = statement.get("verdict") if isinstance(statement, dict) else None
    return _VERDICTS.get(str(word), f"unknown: {word}")


def _parts(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = document.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
