"""Show what the doctor found: a table for a person, JSON for a program.

Invariants: text from a store is shown with everything unprintable escaped; nothing is cut. This module must not decide anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .findings import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from .findings import Finding, Report, StoreReport

JSON_FORMAT: Final = 1
_MAX_NAMES: Final = 4
_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.NOTE: "cyan",
    Verdict.NOT_TESTED: "magenta",
    Verdict.WARNING: "yellow",
    Verdict.BAD: "bold red",
}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def render(report: Report, console: Console) -> None:
    """Print the whole report.

    Args:
        report: What was found.
        console: Where to; it decides about width and colours.
    """
    for store in report.stores:
        need = "required" if store.required else "optional"
        console.print(Text.assemble((f"{_printable(store.id)}  ", "bold"), f"{_printable(store.place)} ({need})"), highlight=False)
        console.print(_table(store), highlight=False)
        if store.probe:
            console.print(Text(f"The doctor's object: {store.probe}\n", style="dim", overflow="fold"), highlight=False)
    console.print(closing_line(report), highlight=False)


def closing_line(report: Report) -> Text:
    """Return the verdict in one line."""
    counts = [(verdict, report.count(verdict)) for verdict in reversed(Verdict)]
    parts = ", ".join(f"{count} {verdict.value}" for verdict, count in counts if count)
    word, style = ("BAD", "bold red") if report.exit_code else ("ok", "bold green")
    stores = f"{len(report.stores)} store{'' if len(report.stores) == 1 else 's'}"
    return Text.assemble((word, style), f": {stores}: {parts} (exit {report.exit_code})")


def _table(store: StoreReport) -> Table:
    """Return a row a finding: what was checked, how it went, and what was seen with, below it, what to do."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=(0, 1))
    table.add_column("Check", width=17, overflow="fold")
    table.add_column("Verdict", width=10, overflow="fold")
    table.add_column("Seen, and what to do", ratio=1, overflow="fold")
    for names, finding in _joined(store.findings):
        told = Text(_printable(finding.seen), overflow="fold")
        shown = Group(told, Text(f"→ {_printable(finding.fix)}", style="italic", overflow="fold")) if finding.fix else told
        table.add_row(names, Text(finding.verdict.value, style=_STYLES[finding.verdict]), shown)
    return table


def _joined(findings: Iterable[Finding]) -> Iterator[tuple[str, Finding]]:
    """Yield each finding with its check's name; one for all that were not tested for the same reason, at the place of the first."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        key = (finding.seen, finding.fix) if finding.verdict is Verdict.NOT_TESTED else finding.check
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        names = [finding.check.value for finding in group]
        yield "\n".join(names) if len(names) <= _MAX_NAMES else f"{len(names)} checks", group[0]


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data; docs/stores.md describes every key."""
    return {
        "format": JSON_FORMAT,
        "file": report.file,
        "checked_at": report.checked_at.isoformat(),
        "exit_code": report.exit_code,
        "stores": [
            {
                "id": store.id,
                "kind": store.kind,
                "place": store.place,
                "required": store.required,
                "probe": store.probe or None,
                "counts": {verdict.value: store.count(verdict) for verdict in Verdict},
                "findings": [
                    {"check": found.check.value, "verdict": found.verdict.value, "seen": found.seen, "fix": found.fix or None}
                    for found in store.findings
                ],
            }
            for store in report.stores
        ],
    }
