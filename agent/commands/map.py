"""The command `map`: see what a mapping makes of lines, before an agent does."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from ..events.mappings import Mapping
    from ..events.mappings.selection import Selection
    from ..events.validate import Validator

_HELP = """Show what a mapping makes of lines, as an agent with `mapping:` in its configuration would.

Lines are read from FILEs, or from standard input. Each is shown with what becomes of it: the event, that it passes through as an ordinary
line, or why it would be quarantined. NAME is a mapping that comes with Trailseal, or a file with one; several are tried in turn.

\b
Examples:
  trailseal map --list                                    the mappings that come with Trailseal
  trailseal map --mapping sshd < /var/log/auth.log
  trailseal map --mapping ./mine.yaml --json app.log | jq .event.action
  trailseal map --mapping ./mine.yaml --examples          run the examples that the file carries
  trailseal map --mapping kubernetes-audit --catalog shipped:kubernetes audit.log

\b
Exit codes:
  0  every line became an event or passes
  1  a line would be quarantined, or an example is wrong
  2  usage, or the mapping itself is wrong
"""
_BLOCK_BYTES: Final = 1 << 20
_COLOURS: Final = {"event": "green", "quarantined": "red", "passes": "bright_black"}


@click.command(name="map", help=_HELP)
@click.option(
    "--mapping", "names", multiple=True, metavar="NAME", help="The mapping: a shipped one's name, or a file. Can be given several times."
)
@click.option(
    "--catalog", "catalogs", multiple=True, metavar="CATALOG", help="Judge the events by a catalog, too: a file, or shipped:NAME."
)
@click.option("--zone", default="UTC", metavar="ZONE", help="The time zone of times that state none, as `zone` of a source. [default: UTC]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--summary", is_flag=True, help="Print only how many lines became what.")
@click.option("--examples", is_flag=True, help="Run the mapping's own examples instead of reading lines.")
@click.option("--list", "listing", is_flag=True, help="List the mappings that come with Trailseal.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE]...")
def map_command(
    names: tuple[str, ...],
    catalogs: tuple[str, ...],
    zone: str,
    as_json: bool,  # noqa: FBT001 -- as above
    summary: bool,  # noqa: FBT001 -- as above
    examples: bool,  # noqa: FBT001 -- as above
    listing: bool,  # noqa: FBT001 -- as above
    files: tuple[str, ...],
) -> int:
    """Run the command."""
    from ..config.mappings import read_mapping
    from ..events.mappings.times import zone_of

    if listing:
        return _list(as_json=as_json)
    if not names:
        raise click.UsageError("Name a mapping with --mapping, or see which there are with --list.")
    if zone_of(zone) is None:
        raise click.BadParameter("UTC, an offset such as +02:00, or a name such as Europe/Berlin", param_hint="--zone")
    mappings = tuple(read_mapping(name).in_zone(zone) for name in names)
    if examples:
        return _examples(mappings)
    from ..config import read_catalogs
    from ..events.mappings.selection import Selection
    from ..events.validate import Validator

    selection = Selection(mappings)
    validator = Validator(selection, read_catalogs(catalogs).catalog() if catalogs else None)
    counts: Counter[str] = Counter()
    for name in files or ("-",):
        with click.open_file(name, "rb") as file:
            for number, shown in _judged(file, selection, validator):
                counts[_kind(shown)] += 1
                if not summary:
                    click.echo(json.dumps({"line": number, **shown}) if as_json else _shown(number, shown))
    total = ", ".join(
        f"{counts[kind]:,} {word}" for kind, word in (("event", "events"), ("passes", "pass"), ("quarantined", "quarantined"))
    )
    click.echo(f"{sum(counts.values()):,} lines: {total}", err=not summary)
    return 1 if counts["quarantined"] else 0


def _list(*, as_json: bool) -> int:
    from ..config.mappings import load_mapping, shipped_names

    mappings = [load_mapping(name) for name in shipped_names()]
    if as_json:
        listed = [{"name": one.name, "title": one.title, "describes": one.describes, "rules": list(one.rules)} for one in mappings]
        click.echo(json.dumps(listed))
        return 0
    width = max(len(mapping.name) for mapping in mappings)
    for mapping in mappings:
        click.echo(f"{mapping.name:<{width}}  {mapping.title} ({len(mapping.rules)} rules)")
        click.echo(f"{'':<{width}}  {mapping.describes}")
    return 0


def _examples(mappings: tuple[Mapping, ...]) -> int:
    from ..events.mappings import run_examples

    wrong = [line for mapping in mappings for line in run_examples(mapping)]
    for line in wrong:
        click.echo(click.style("BAD", fg="red") + f"  {line}")
    for mapping in mappings:
        click.echo(f"{mapping.name}: {len(mapping.rules)} rules, {len(mapping.examples)} examples")
    click.echo(f"{len(wrong)} wrong" if wrong else "all as expected")
    return 1 if wrong else 0


def _judged(file: IO[bytes], selection: Selection, validator: Validator) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line, or unit, with its number and what becomes of it."""
    from datetime import UTC, datetime

    from ..events.mappings import Mapped, Moment
    from ..events.verdict import Rejection

    number = offset = 0
    for unit in _units(file, selection):
        moment = Moment(datetime.now(UTC), offset)
        outcome = selection.interpret(unit, moment) if selection.is_audit(unit) else None
        shown: dict[str, Any] = {"passes": True}
        if isinstance(outcome, Mapped):
            verdict = validator.judge_line(outcome.event)
            shown = {"event": json.loads(outcome.event), "mapping": outcome.rule}
            if outcome.client:
                shown["client"] = list(outcome.client)
            if isinstance(verdict, Rejection):
                shown = {"quarantined": verdict.reason.value, "detail": f"{outcome.rule}: {verdict.detail}", **shown}
        elif isinstance(outcome, Rejection):
            shown = {"quarantined": outcome.reason.value, "detail": outcome.detail}
        if "event" not in shown:
            shown["raw"] = unit.decode("utf-8", "backslashreplace")
        yield number + 1, shown
        number += unit.count(b"\n") + 1
        offset += len(unit) + 1


def _units(file: IO[bytes], selection: Selection) -> Iterator[bytes]:
    """Yield a file's lines, or units of several; all of it is read at once where lines join."""
    if selection.joining is None:
        for line in file:
            yield line.removesuffix(b"\n")
        return
    content = file.read()
    for start, end in selection.joining.units(content):
        yield content[start:end]


def _kind(shown: dict[str, Any]) -> str:
    return next(kind for kind in ("quarantined", "passes", "event") if kind in shown)


def _shown(number: int, shown: dict[str, Any]) -> str:
    """Return what a person reads of one line."""
    from ..reader.report import printable

    kind = _kind(shown)
    mark = click.style(f"{kind:<11}", fg=_COLOURS[kind], bold=kind != "passes")
    if kind == "passes":
        return f"{number:>6}  {mark}  {printable(shown['raw'])}"
    if kind == "quarantined":
        return f"{number:>6}  {mark}  {shown['quarantined']}: {printable(shown['detail'])}\n{'':>21}{printable(shown.get('raw', ''))}"
    body = "\n".join(f"{'':>21}{printable(line)}" for line in json.dumps(shown["event"], indent=2, ensure_ascii=False).split("\n"))
    client = f"   from the client: {', '.join(shown['client'])}" if "client" in shown else ""
    return f"{number:>6}  {mark}  {shown['mapping']}{client}\n{body}"
