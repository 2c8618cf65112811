"""The command `query`.

Invariants: the answer is on stdout or in a file, what is said about it never gets between its lines: for machine formats the statement
goes to stderr, or beside the file; stdout is told apart from a terminal, and what drives terminals is escaped there. The command
is thin: everything is decided elsewhere.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..index.cli import index_options
from .options import asking_options

if TYPE_CHECKING:
    from ..index.cli import OpenedStore

_HELP = """Ask STORE for events; the answer says how complete it is.

STORE is a directory store's folder, a file:// URL, or a bucket. Its index is brought up to date first, verified on the way. Every part
that is given has to hold; a part that is given several times holds if any of its values does. Globs are a shell's: * any text, ? one
character, [ab] one of a set; case matters, so quote them.

Times are UTC: 2026-03-01, 2026-03-01T08:00:00Z (or with another offset), or 90d for so long ago. --until is not part of the range.

\b
Examples:
  trailseal query /srv/trail --trust trust.txt --actor alice --since 30d
  trailseal query /srv/trail --trust trust.txt --action 'auth.*' --outcome denied --outcome failure
  trailseal query /srv/trail --trust trust.txt --action role.grant --since 2026-03-01 --until 2026-06-01 \\
      --correlate context.approval_id --counterpart role.approve
  trailseal query /srv/trail --trust trust.txt --category data_export --catalog catalog.yaml \\
      --format csv --output exports.csv
  trailseal query /srv/trail --trust trust.txt --sql 'SELECT action, count(*) FROM events GROUP BY ALL'

The statement stands below a table, on stderr, or beside a file in FILE.statement.json: the query, the verified range, the population,
what is lost or was silent, how good the clocks were, who vouches for the keys. Its verdict is complete, incomplete or unverified.

\b
Exit codes:
   0  answered; look at the verdict, or use --strict
  10  --strict: something in the range was tampered with
  11  --strict: incomplete: a gap, silence, or something missing
  12  --strict: not verified: a key nobody vouched for, or nothing to look at
   1  the program failed, or --sql ran too long
   2  usage, or a file named on the command line is wrong
"""


@click.command("query", help=_HELP)
@index_options
@asking_options
@click.option("--sql", metavar="TEXT", help="One query in SQL over the index instead of filters; read-only.")
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=60.0, show_default=True, help="How long --sql may run.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000_000),
    metavar="N",
    help="How many events at most; else 100 in a table or with --json, and all otherwise.",
)
@click.option(
    "--format", "form", type=click.Choice(("table", "csv", "ndjson", "parquet", "ocsf", "ecs")), default="table", show_default=True
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the answer there, and FILE.statement.json beside it."
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with the events and the statement (docs/query.md).")
@click.option("--strict", is_flag=True, help="End with 10, 11 or 12 if the verdict is not complete.")
def query_command(opened: OpenedStore, **options: Any) -> None:  # noqa: D103 -- click shows the help text
    from .answering import answer
    from .question import Question

    question = Question.of(**options)
    sys.exit(answer(opened, question, datetime.now(UTC)))
