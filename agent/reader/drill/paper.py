"""The report that is filed: one HTML or Markdown file with nothing outside itself.

Invariants: every text from the store is escaped, first what cannot be seen and then what means something to HTML or Markdown; there is no
script, no link and no image. This module must not decide anything.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

from ..report import printable
from .terminal import row, summary
from .values import Expectation, Outcome, Who

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .report import DrillReport
    from .values import Result

SUFFIXES: Final = (".html", ".md")
_STYLE: Final = """
:root{color-scheme:light dark}body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:100rem;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;
border-bottom:1px solid #8886;overflow-wrap:anywhere}thead th{border-bottom:2px solid #888;white-space:nowrap}
td:nth-child(3){min-width:18rem}.short{white-space:nowrap}
.caught{color:#0a7d32}.failed{color:#c4122f;font-weight:bold}.open{color:#9a6700}h1{font-size:1.5rem}h2{font-size:1.2rem}
p.sign{margin-top:3rem}@media (prefers-color-scheme:dark){.caught{color:#4ac26b}.failed{color:#ff7b72}.open{color:#d4a72c}}
@media print{body{margin:0;max-width:none}tr{break-inside:avoid}thead{display:table-header-group}}
"""
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")
_SHORT_CHARACTERS: Final = 18
"""A name, a code or a number: broken up, it would be hard to read, and it leaves enough room for the rest."""
_Rows = list[tuple[str, ...]]
_TAMPERINGS: Final = ("Tampering", "What for", "What was done", "Expected", "Found", "Exit", "Outcome", "Seconds")


def as_html(report: DrillReport) -> str:
    """Return the report as one HTML page."""
    parts = [f"<h1>{_html(_title(report))}</h1>", f'<p class="{_class(report)}">{_html(_outcome(report))}</p>']
    parts.append(_html_table(("", ""), _facts(report)))
    parts += [f"<p>{_html(remark)}</p>" for remark in report.of_interest]
    for title, text, columns, rows in _sections(report):
        parts.append(f"<h2>{_html(title)}</h2>")
        if text:
            parts.append(f"<p>{_html(text)}</p>")
        parts.append(_html_table(columns, rows))
    parts += [f'<p class="sign">{_html(line)}</p>' for line in _SIGNATURES]
    head = '<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<meta name="viewport" content="width=device-width">'
        f"<title>{_html(_title(report))}</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def as_markdown(report: DrillReport) -> str:
    """Return the report as Markdown."""
    parts = [f"# {_markdown(_title(report))}", f"**{_markdown(_outcome(report))}**", _markdown_table(("What", "Value"), _facts(report))]
    parts += [_markdown(remark) for remark in report.of_interest]
    for title, text, columns, rows in _sections(report):
        parts.append(f"## {_markdown(title)}")
        if text:
            parts.append(_markdown(text))
        parts.append(_markdown_table(columns, rows))
    parts += list(map(_markdown, _SIGNATURES))
    return "\n\n".join(parts) + "\n"


_SIGNATURES: Final = (
    "Performed by (name, date, signature): ______________________________",
    "Reviewed by (name, date, signature): ______________________________",
)


def _title(report: DrillReport) -> str:
    return f"Tampering drill of {report.began_at:%Y-%m-%d}"


def _outcome(report: DrillReport) -> str:
    return f"{report.verdict[:1].upper()}{report.verdict[1:]} (exit {report.exit_code})."


def _class(report: DrillReport) -> str:
    return "caught" if report.exit_code == 0 else "failed"


def _facts(report: DrillReport) -> _Rows:
    control, original = report.exercise.control, report.original
    return [
        ("Store", report.store),
        ("Begun", report.began_at.isoformat(timespec="seconds")),
        ("Judged by", report.judged_at.isoformat(timespec="seconds")),
        ("Took", f"{report.seconds:.1f} s"),
        ("Program", f"trailseal {report.version}"),
        ("Trust file", f"{report.trust_file}, SHA-256 {report.trust_sha256}"),
        ("Seed", f"{report.seed} (with it, the same copy is tampered with in the same places)"),
        ("Copied", f"{report.copied_bytes:,} bytes, {control.trails} trails, {control.batches:,} batches, {control.records:,} records"),
        ("The store's own verdict", f"{original.severity.verdict} (exit {original.severity.exit_code})"),
        ("The untouched copy's verdict", f"{control.severity.verdict} (exit {control.severity.exit_code})"),
        ("The same", "yes" if report.same else "NO"),
        ("The copy at the end as at the beginning", "yes, byte for byte" if report.exercise.restored else "NO"),
        ("Tampered with", ", ".join(report.exercise.origins)),
        ("Tried and caught", f"{report.exercise.caught} of {report.exercise.tried}"),
    ]


def _sections(report: DrillReport) -> Iterable[tuple[str, str, tuple[str, ...], _Rows]]:
    results = report.exercise.results
    tried = [result for result in results if result.tampering.expectation is Expectation.CAUGHT]
    text = (
        "Each was done alone, on real files, and taken back afterwards. It counts as caught only by a finding that the untouched copy does "
        "not give, of an expected code, about the place that was touched; any finding of another code makes it a wrong detection."
    )
    for who in Who:
        rows = [_row(result) for result in tried if result.tampering.who is who]
        yield f"Tamperings by {who.value}", text, _TAMPERINGS, rows
        text = ""
    limits = [result for result in results if result.tampering.expectation is Expectation.LIMIT]
    text = "What a verification by itself cannot see. It is shown so that nobody relies on it; the last column says what does see it."
    rows = [(*_row(result)[:-1], result.tampering.remedy) for result in limits]
    yield "Known limits", text, (*_TAMPERINGS[:-1], "What shows it"), rows
    yield "Not tried", "", ("Tampering", "What for", "Why not"), [(entry.name, entry.wants, entry.why) for entry in report.not_tried]
    timeline = report.timeline
    if timeline is None:
        return
    chosen = " They have the most events of all." if timeline.chosen else ""
    omitted = f" {timeline.omitted:,} later events are not listed." if timeline.omitted else ""
    entries: _Rows = [(*row(entry), entry.context) for entry in timeline.entries]
    columns = ("When", "Who", "What", "Outcome", "Session", "Where", "Context")
    yield f"What {timeline.actor} did, and what was done to them", f"{summary(timeline)}{chosen}{omitted}", columns, entries


def _row(result: Result) -> tuple[str, ...]:
    tampering = result.tampering
    if result.exit_code is None:
        done, found, exit_code = result.done, "", ""
    else:
        done, found, exit_code = result.done, ", ".join(result.codes) or "nothing new", str(result.exit_code)
    expected = " or ".join(sorted(code.value for code in tampering.must))
    return (
        tampering.name,
        tampering.wants,
        done,
        expected,
        found,
        exit_code,
        result.outcome.value,
        f"{result.seconds:.2f}",
    )


def _html(text: str) -> str:
    return escape(printable(text))


def _html_table(columns: Sequence[str], rows: _Rows) -> str:
    head = "".join(f"<th>{_html(name)}</th>" for name in columns)
    body = "\n".join("<tr>" + "".join(_html_cell(cell) for cell in cells) + "</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>" if any(columns) else f"<table>{body}</table>"


def _html_cell(cell: str) -> str:
    classes = [
        *(["short"] if len(cell) <= _SHORT_CHARACTERS else []),
        *{
            Outcome.CAUGHT.value: ["caught"],
            Outcome.MISSED.value: ["failed"],
            Outcome.MISREAD.value: ["failed"],
            Outcome.FAULT.value: ["failed"],
            Outcome.AS_DOCUMENTED.value: ["open"],
        }.get(cell, []),
    ]
    return f'<td class="{" ".join(classes)}">{_html(cell)}</td>' if classes else f"<td>{_html(cell)}</td>"


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _markdown_table(columns: Sequence[str], rows: _Rows) -> str:
    lines = [columns, ["---"] * len(columns)]
    shown = ["| " + " | ".join(lines[0]) + " |", "|" + "|".join(lines[1]) + "|"]
    return "\n".join([*shown, *("| " + " | ".join(map(_markdown, cells)) + " |" for cells in rows)])
