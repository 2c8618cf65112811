"""The command `version`."""

from __future__ import annotations

import json
import platform
import sqlite3

import click

from .. import __version__


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:  # noqa: FBT001  click passes options by name
    """Print the version of trailseal, Python and SQLite, and the trail format."""
    facts = {"trailseal": __version__, "trail_format": 1, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(f"trailseal {__version__} (trail format 1, Python {facts['python']}, SQLite {facts['sqlite']})")
