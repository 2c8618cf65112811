"""The commands `catalog list`, `catalog check` and `catalog diff`: event catalogs, for people at a terminal.

Exit codes: `list` 0; `check` 0 or 2 (errors), and 1 where something was found that was asked about (`--strict`, `--mapping`);
`diff` as diff(1), 0 or 1; 2 everywhere for usage and for what cannot be read.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from ..events.catalog import Category

if TYPE_CHECKING:
    from ..config import CatalogReading, Settings

_GROUP_HELP = """Show, check and compare event catalogs: what a service is expected to record.

A catalog lists actions with their category, their sensitivity, whether they are privileged, and the context that each event must
state. CATALOG is a file, or `shipped:NAME` for one that comes with Trailseal. Several are merged as in `catalog: [...]` of a
configuration: a later one wins over an earlier one, and a file's own entries win over those it includes.

\b
Examples:
  trailseal catalog list                                   the catalogs that come with Trailseal
  trailseal catalog list shipped:kubernetes catalog.yaml   what is in force with both
  trailseal catalog check catalog.yaml
  trailseal catalog diff old.yaml new.yaml
"""

_LIST_HELP = """List the actions of catalogs, by category, and the file and line that each comes from.

Without a CATALOG it lists the catalogs that come with Trailseal.

\b
Examples:
  trailseal catalog list
  trailseal catalog list shipped:postgresql
  trailseal catalog list --config trailseal.yaml --category authorization
  trailseal catalog list catalog.yaml --json | jq -r '.actions[] | select(.privileged) | .action'
"""

_CHECK_HELP = """Check catalogs: every error with its file, line and key, and what is worth a look.

Worth a look are: an entry that another file's replaces, an action without a description, and a beginning such as auth.* of which a
longer one (auth.mfa.*) demands something else.

With --mapping, also the events of a mapping's examples are held against the catalogs: which actions no entry knows, and which
events would be quarantined since they lack required context. With --config, so are those of the mappings that its sources name.

\b
Examples:
  trailseal catalog check catalog.yaml
  trailseal catalog check shipped:kubernetes catalog.yaml --mapping kubernetes-audit
  trailseal catalog check --config trailseal.yaml --strict

\b
Exit codes:
  0  no error
  1  no error, but something worth a look with --strict, or an event of a mapping that the catalogs do not expect so
  2  an error, or usage
"""

_DIFF_HELP = """Compare two catalogs: which actions came, went or changed, and whether that is weaker.

Weaker is what lets more pass unseen: an action that is expected no more, a required context that is gone, a lower sensitivity, a
privileged action that is ordinary now; also a new entry that demands less than the beginning (auth.*) that covered the name before.

\b
Examples:
  trailseal catalog diff old.yaml new.yaml
  git show main:catalog.yaml > /tmp/old.yaml && trailseal catalog diff /tmp/old.yaml catalog.yaml
  trailseal catalog diff old.yaml new.yaml --json | jq '.changes[] | select(.direction == "weaker")'

\b
Exit codes, as of diff(1):
  0  the catalogs say the same
  1  they differ
  2  one cannot be read, or usage
"""

_CONFIG_OPTION: Final = click.option("--config", "-c", metavar="FILE", help="Take the catalogs that this configuration names.")
_JSON_OPTION: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/catalogs.md describes it).")
_CATALOGS: Final = click.argument("catalogs", nargs=-1, metavar="[CATALOG]...")


@click.group("catalog", help=_GROUP_HELP)
def catalog_command() -> None:
    """Let no name of a file stop what is printed: a terminal or a pipe may have an encoding that lacks its characters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@catalog_command.command("list", help=_LIST_HELP, short_help="List actions by category, and where each is from.")
@_CATALOGS
@_CONFIG_OPTION
@click.option("--category", multiple=True, type=click.Choice([each.value for each in Category]), metavar="NAME", help="Only this category.")
@_JSON_OPTION
def list_command(catalogs: tuple[str, ...], config: str | None, category: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001  click passes options by name
    """List what is in force."""
    from . import catalog_shown

    if not catalogs and config is None:
        if category:
            raise click.UsageError("--category needs a catalog.")
        catalog_shown.show_shipped(as_json=as_json)
        return 0
    reading, _ = _read(catalogs, config)
    reading.catalog()
    catalog_shown.show_entries(reading, frozenset(category), as_json=as_json)
    return 0


@catalog_command.command("check", help=_CHECK_HELP, short_help="Find every error, and what is worth a look.")
@_CATALOGS
@_CONFIG_OPTION
@click.option("--mapping", "mappings", multiple=True, metavar="NAME", help="Also hold the events of this mapping's examples against them.")
@click.option("--strict", is_flag=True, help="Exit with 1 if anything is worth a look.")
@_JSON_OPTION
def check_command(catalogs: tuple[str, ...], config: str | None, mappings: tuple[str, ...], strict: bool, as_json: bool) -> int:  # noqa: FBT001  click passes options by name
    """Check them."""
    from ..events.remarks import remarks, unmet
    from . import catalog_shown

    reading, settings = _read(catalogs, config)
    missed = []
    if not reading.errors:
        examples = {} if settings is None else {name: each.mapping.examples for name, each in settings.mapping_readings.items()}
        if mappings:
            from ..config.mappings import load_mapping

            examples.update({name: load_mapping(name).examples for name in mappings})
        missed = [(name, found) for name, each in examples.items() for found in unmet(each, reading.catalog())]
    noticed = list(remarks(reading.merged))
    catalog_shown.show_check(reading, noticed, missed, as_json=as_json)
    if reading.errors:
        return 2
    return 1 if missed or (strict and noticed) else 0


@catalog_command.command("diff", help=_DIFF_HELP, short_help="Compare two catalogs; say what is weaker.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@_JSON_OPTION
def diff_command(old: str, new: str, as_json: bool) -> int:  # noqa: FBT001  click passes options by name
    """Compare them."""
    from ..config import read_catalogs
    from ..events.comparing import compare
    from . import catalog_shown

    before, after = read_catalogs([old]), read_catalogs([new])
    changes = compare(before.catalog(), after.catalog())
    catalog_shown.show_changes(before, after, changes, as_json=as_json)
    return 1 if changes else 0


def _read(catalogs: tuple[str, ...], config: str | None) -> tuple[CatalogReading, Settings | None]:
    """Read the catalogs that the command line names, or those of a configuration; then it is the second value."""
    from ..config import load, read_catalogs
    from ..errors import ConfigError

    if bool(catalogs) == (config is not None):
        raise click.UsageError("Name one or more catalogs, or --config FILE.")
    if config is None:
        return read_catalogs(catalogs), None
    settings = load(config, os.environ)
    if settings.catalog_reading is None:
        raise ConfigError("the configuration names no catalog", file=config, hint="Put `catalog: FILE` into it (docs/catalogs.md).")
    return settings.catalog_reading, settings
