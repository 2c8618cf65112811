"""Showing catalogs: tables and lines for a person, JSON for a program.

Invariants: text out of a file is shown with everything unprintable escaped, and never read as markup; nothing is cut from JSON. This
module must not decide anything.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ..config import read_catalogs, shipped_catalogs, shown_catalog
from ..events.catalog import Category, Sensitivity
from ..events.comparing import Direction
from ..reader.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, RenderableType

    from ..config import CatalogReading
    from ..errors import ConfigError
    from ..events.comparing import Change
    from ..events.merging import Place, Placed
    from ..events.remarks import Remark, Unmet

FORMAT: Final = 1
_WIDTH_OF_A_FILE: Final = 160
_SENSITIVITY_STYLES: Final = {Sensitivity.LOW: "dim", Sensitivity.MEDIUM: "", Sensitivity.HIGH: "bold"}
_DIRECTION_STYLES: Final = {Direction.WEAKER: "bold red", Direction.STRONGER: "green", Direction.NEITHER: "dim"}
_KIND_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


def show_shipped(*, as_json: bool) -> None:
    """Print the catalogs that come with the package."""
    rows = []
    for name in shipped_catalogs():
        entries = read_catalogs([f"shipped:{name}"]).catalog().entries
        privileged = sum(entry.privileged for entry in entries)
        high = sum(entry.sensitivity is Sensitivity.HIGH for entry in entries)
        rows.append({"name": f"shipped:{name}", "actions": len(entries), "privileged": privileged, "high_sensitivity": high})
    if as_json:
        _print_json({"catalogs": rows})
        return
    table = _table("Catalog", "Actions", "Privileged", "High sensitivity", right=(1, 2, 3))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _print(table)
    click.echo("\n`trailseal catalog list shipped:NAME` lists one. A configuration names it so: catalog: [shipped:NAME, catalog.yaml]")


def show_entries(reading: CatalogReading, categories: frozenset[str], *, as_json: bool) -> None:
    """Print the entries in force.

    Args:
        reading: The catalogs.
        categories: Only these, or all if there is none.
        as_json: JSON instead of a table.
    """
    chosen = [placed for placed in reading.merged.placed if not categories or placed.entry.category in categories]
    if as_json:
        _print_json({"files": list(reading.files), "sha256": reading.sha256, "actions": [_entry_json(placed) for placed in chosen]})
        return
    table = _table("Action", "Sensitivity", "Priv.", "Required context", "From")
    for category in Category:
        of_category = [placed for placed in chosen if placed.entry.category is category]
        if of_category:
            table.add_section()
            table.add_row(_text(f"{category} ({len(of_category)})", "bold cyan"))
        for placed in of_category:
            entry = placed.entry
            table.add_row(
                _text(f"  {entry.action}"),
                _text(entry.sensitivity, _SENSITIVITY_STYLES[entry.sensitivity]),
                "yes" if entry.privileged else "",
                _text(", ".join(entry.required_context)),
                _text(_at(placed.place), "dim"),
            )
    _print(table)
    files = ", ".join(printable(shown_catalog(file)) for file in reading.files)
    click.echo(f"\n{_count(len(chosen), 'action')} in force, of {files}")


def show_check(reading: CatalogReading, remarks: Sequence[Remark], missed: Sequence[tuple[str, Unmet]], *, as_json: bool) -> None:
    """Print what is wrong, what is worth a look, and what mappings make that is not expected.

    Args:
        reading: The catalogs.
        remarks: What is worth a look.
        missed: What mappings make, with the mapping's name.
        as_json: JSON instead of lines.
    """
    if as_json:
        _print_json(
            {
                "ok": not reading.errors,
                "files": list(reading.files),
                "sha256": reading.sha256,
                "actions": len(reading.merged.placed),
                "errors": [_error_json(error) for error in reading.errors],
                "warnings": [_remark_json(remark) for remark in remarks],
                "mappings": [_unmet_json(name, found) for name, found in missed],
            }
        )
        return
    for error in reading.errors:
        click.echo(f"error    {printable(error.message)}")
        click.echo(f"         {printable(error.hint)}")
    for remark in remarks:
        click.echo(f"warning  {_at(remark.place)}: {_remark_text(remark)}")
    for name, found in missed:
        click.echo(f"mapping  {printable(name)}: {_unmet_text(found)}")
    counts = [_count(len(reading.errors), "error"), _count(len(remarks), "warning")]
    if missed:
        counts.append(f"{_count(len(missed), 'event')} of mappings not expected so")
    click.echo(f"{_count(len(reading.merged.placed), 'action')} in {_count(len(reading.files), 'file')}: {', '.join(counts)}")


def show_changes(old: CatalogReading, new: CatalogReading, changes: Sequence[Change], *, as_json: bool) -> None:
    """Print how two catalogs differ.

    Args:
        old: What was expected.
        new: What is expected.
        changes: The differences.
        as_json: JSON instead of a table.
    """
    weaker = sum(change.direction is Direction.WEAKER for change in changes)
    stronger = sum(change.direction is Direction.STRONGER for change in changes)
    places = {change.action: _place_of(change, old, new) for change in changes}
    if as_json:
        shown = [_change_json(change, places[change.action]) for change in changes]
        _print_json({"old_sha256": old.sha256, "new_sha256": new.sha256, "weaker": weaker, "stronger": stronger, "changes": shown})
        return
    if not changes:
        click.echo("The catalogs say the same.")
        return
    width = max(len(change.action) for change in changes)
    console = _console()
    for change in changes:
        first = f"{_change_text(change)} ({_at(places[change.action])})"
        console.print(
            _change_line(f"{_KIND_SIGNS[change.kind]} {change.action:<{width}}", change.direction, first), highlight=False, soft_wrap=True
        )
        for field in change.fields:
            line = f"  {field.name}: {field.old or 'nothing'} → {field.new or 'nothing'}"
            console.print(_change_line(" " * (width + 2), field.direction, line), highlight=False, soft_wrap=True)
    kinds = [f"{sum(change.kind == kind for change in changes)} {kind}" for kind in _KIND_SIGNS]
    click.echo(f"\n{', '.join(kinds)}; {weaker} weaker, {stronger} stronger")


def _place_of(change: Change, old: CatalogReading, new: CatalogReading) -> Place:
    """Return where the entry stands: in the new catalog, or where it stood if it is gone."""
    reading = old if change.kind == "removed" else new
    return next(placed.place for placed in reading.merged.placed if placed.entry.action == change.action)


def _change_line(action: str, direction: Direction, what: str) -> Any:
    from rich.text import Text

    said = "" if direction is Direction.NEITHER else direction.value
    return Text.assemble((printable(action), "bold"), "  ", (f"{said:<8}", _DIRECTION_STYLES[direction]), "  ", printable(what))


def _change_text(change: Change) -> str:
    if change.kind == "changed":
        return "says something else"
    if change.kind == "added":
        return "new; nothing covered it" if change.beside is None else f"new; {change.beside} covered it"
    return "gone; nothing covers it" if change.beside is None else f"gone; {change.beside} covers it"


def _remark_text(remark: Remark) -> str:
    if remark.kind == "no_description":
        return f"{remark.action} has no description; a report cannot say what it means"
    if remark.other is None:
        return remark.action
    if remark.kind == "shadowed":
        return f"{remark.action} is not in force: {_at(remark.other.place)} replaces it"
    longer = remark.other.entry.action
    return f"{remark.action} does not judge what {longer} names: {_at(remark.other.place)} does, and demands other things"


def _unmet_text(found: Unmet) -> str:
    if found.missing_context is None:
        return f'no entry knows {found.action} (example "{printable(found.example)}")'
    return f'{found.action} would be quarantined without context.{found.missing_context} (example "{printable(found.example)}")'


def _entry_json(placed: Placed) -> dict[str, Any]:
    entry = placed.entry
    return {
        "action": entry.action,
        "category": entry.category.value,
        "sensitivity": entry.sensitivity.value,
        "privileged": entry.privileged,
        "required_context": list(entry.required_context),
        "description": entry.description,
        "file": placed.place.file,
        "line": placed.place.line,
    }


def _error_json(error: ConfigError) -> dict[str, Any]:
    return {"file": error.file, "line": error.line, "key": error.key, "message": error.message, "hint": error.hint}


def _remark_json(remark: Remark) -> dict[str, Any]:
    other = None if remark.other is None else {"action": remark.other.entry.action, **remark.other.place._asdict()}
    return {"kind": remark.kind, "action": remark.action, **remark.place._asdict(), "other": other}


def _unmet_json(name: str, found: Unmet) -> dict[str, Any]:
    return {"mapping": name, "action": found.action, "missing_context": found.missing_context, "example": found.example}


def _change_json(change: Change, place: Place) -> dict[str, Any]:
    fields = [{"name": each.name, "old": each.old, "new": each.new, "direction": each.direction.value} for each in change.fields]
    return {
        "action": change.action,
        "kind": change.kind,
        "direction": change.direction.value,
        "beside": change.beside,
        "fields": fields,
        **place._asdict(),
    }


def _at(place: Place) -> str:
    return printable(f"{shown_catalog(place.file)}:{place.line}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _text(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(printable(text), style=style)


def _table(*columns: str, right: Iterable[int] = ()) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold", no_wrap=column in {"Action", "From"})
    return table


def _print(shown: RenderableType) -> None:
    _console().print(shown, highlight=False)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps({"format": FORMAT, **document}, indent=2, ensure_ascii=True))
