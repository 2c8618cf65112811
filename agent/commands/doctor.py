"""The command `doctor`: what do the stores guarantee, and what could the agent's own credentials do to them?"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from .agent import CONFIG_OPTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@click.command()
@CONFIG_OPTION
@click.option("--store", "store_id", metavar="ID", help="Only this store.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/stores.md describes it).")
def doctor(config: str, store_id: str | None, as_json: bool) -> int:  # noqa: FBT001  click passes options by name
    """Ask every store what it guarantees, and what the agent's own credentials could do to it.

    Run it with the agent's user, environment and credentials, before the agent first ships and after each change of
    rights. It writes one small object a run below probes/ of the agent's own identity, and tries each right on that
    object alone; nothing of a trail is touched. An S3 bucket needs the extra: pip install 'trailseal[attest]'.

    \b
    Examples:
      trailseal doctor --config trailseal.yaml
      trailseal doctor --config trailseal.yaml --store central --json

    \b
    Exit codes:
      0  nothing is BAD; there may be warnings, and checks that could not be made
      1  at least one finding is BAD
      2  the configuration, the credentials' files or the installation cannot be used
    """
    from ..config import load
    from ..doctor import examine_stores
    from ..vitals.clock import SystemClock

    settings = load(config, os.environ)
    with _progress() as tell:
        report = asyncio.run(examine_stores(settings, store_id, SystemClock(), tell))
    if as_json:
        from ..doctor.report import as_json as plain

        # ASCII only, as for `verify --json`.
        click.echo(json.dumps(plain(report), indent=2))
    else:
        from rich.console import Console

        from ..doctor.report import render

        if isinstance(sys.stdout, io.TextIOWrapper):
            # What the terminal's encoding cannot show is escaped; the verdict must not depend on it.
            sys.stdout.reconfigure(errors="backslashreplace")
        render(report, Console(soft_wrap=False))
    return report.exit_code


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows on a terminal's stderr what is being asked, or one that does nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("asking the stores") as status:
        yield lambda step: status.update(f"asking {step}")
