"""The commands `report` and `review`.

Invariants: a report is written whole or not at all, and replaces no file unless told to; a review is said to be signed only when the
store shows it sealed. The commands are thin: everything is decided elsewhere.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...errors import ConfigError
from ..index.cli import OpenedStore, index_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...events.catalog import Catalog
    from .reviews import Review, Standing

_GRACE_SECONDS: Final = 10.0
"""How long a review waits for its store; one that was away longer gets it with the next review."""

_REPORT_HELP = """Report which catalogued events STORE holds, and what evidence there is for each control.

The report has a timeline, the control table (criteria of SOC 2, with counts and the command that shows each), the reviews that were
signed, and the coverage of the event catalog. It says what evidence there is; it does not say that a control is met.

\b
Examples:
  trailseal report /srv/trail --trust trust.txt --catalog catalog.yaml --range 2026-Q1 --output q1.html
  trailseal report /srv/trail --trust trust.txt --services 'acme/payments' --format markdown

\b
Exit codes: 0 made; 12 the store cannot be read; 1 the program failed; 2 usage.
"""

_SIGN_HELP = """Sign that you reviewed events of STORE: a review is an event in a trail of its own.

The event says who reviewed which period, through which filters, how many events matched, the newest checkpoint of every trail that
was looked at, and what was found. An ordinary agent seals and ships it; the command ends when the store shows it.

\b
Examples:
  trailseal review sign /srv/trail --trust trust.txt --range 2026-03 --action 'role.*' --reviewer ada@example.com \\
      --query 'role grants without approval' --finding 'None; three break-glass grants, each with a ticket.' --outcome no_findings

\b
Exit codes: 0 signed and sealed; 10 the store shows something else than was sealed; 12 there is nothing to review; 75 another
review is being signed; 1 it was not recorded; 2 usage.
"""

_LIST_HELP = """List the reviews that were signed, the oldest first.

What a review covered is compared with the store as it is now: `holds` means that every trail still has the checkpoint that the
reviewer saw; `trailseal verify` checks all that lies below it.

\b
Examples:
  trailseal review list /srv/trail --trust trust.txt --range 2026
"""


def _since_and_until(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--range``, ``--since`` and ``--until``; it takes them as ``since`` and ``until``, aware times."""

    @click.option("--range", "period", metavar="PERIOD", help="2026, 2026-Q1, 2026-03, 2026-03-09, or two of them: 2026-01..2026-03 (UTC).")
    @click.option("--since", metavar="TIME", help="From this time on: 2026-03-01, 2026-03-01T08:00:00Z, or 90d (so long ago).")
    @click.option("--until", metavar="TIME", help="Before this time.")
    @wraps(command)
    def with_times(*, period: str | None, since: str | None, until: str | None, **others: Any) -> None:
        from ..ask.times import parse_time
        from .periods import read_period

        if period is not None and (since is not None or until is not None):
            raise click.UsageError("--range stands in place of --since and --until")
        now = datetime.now(UTC)
        try:
            if period is not None:
                begin, end = read_period(period)
            else:
                begin, end = (None if text is None else parse_time(text, now) for text in (since, until))  # type: ignore[assignment]
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        command(since=begin, until=end, **others)

    return with_times


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filters of `query`, but for the times; it takes them as ``chosen``, a dictionary."""
    names = ("actor", "action", "target", "outcome_is", "service", "category")

    @click.option("--actor", multiple=True, metavar="GLOB", help="Only events of these actors.")
    @click.option("--action", multiple=True, metavar="GLOB", help="Only these actions.")
    @click.option("--target", multiple=True, metavar="GLOB", help="Only events on these targets (id, or type/id).")
    @click.option("--with-outcome", "outcome_is", multiple=True, metavar="OUTCOME", help="Only events that ended so: success, failure, …")
    @click.option("--service", multiple=True, metavar="GLOB", help="Only these services (service, or namespace/service).")
    @click.option("--category", multiple=True, metavar="NAME", help="Only these categories of the catalog.")
    @click.option("--text", metavar="TEXT", help="Only events that hold this text somewhere.")
    @wraps(command)
    def with_filters(*, text: str | None, **others: Any) -> None:
        chosen = {name.removesuffix("_is"): tuple(others.pop(name)) for name in names}
        command(chosen={**chosen, "text": text}, **others)

    return with_filters


def _catalog_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--catalog", "catalog_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The event catalog."
    )(command)


def _read_catalog(path: Path | None) -> Catalog | None:
    from .catalogs import load_catalog, with_own_actions

    return None if path is None else with_own_actions(load_catalog(path))


@click.command("report", help=_REPORT_HELP)
@_since_and_until
@index_options
@_catalog_option
@click.option("--services", multiple=True, metavar="GLOB", help="Only these services (namespace/service); nothing of others is named.")
@click.option(
    "--format", "kind", type=click.Choice(["html", "markdown", "json"]), help="Else by the file's ending; Markdown without a file."
)
@click.option(
    "--verification", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="What `trailseal verify STORE --json` printed."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file to write; else stdout.")
@click.option("--force", is_flag=True, help="Replace the file if it is there already.")
def report_command(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    opened: OpenedStore,
    since: datetime | None,
    until: datetime | None,
    catalog_file: Path | None,
    services: tuple[str, ...],
    kind: str | None,
    verification: Path | None,
    output: Path | None,
    force: bool,
) -> None:
    from ..ask.filters import Scope
    from ..writing import refuse_existing, write_file
    from .formats import KINDS

    if output is not None:
        refuse_existing(output, force=force)
    from .report import make_report
    from .verification import load_verification

    report = make_report(
        opened.index,
        Scope(services),
        _read_catalog(catalog_file),
        since,
        until,
        now=datetime.now(UTC),
        catalog_file=None if catalog_file is None else str(catalog_file),
        verification=None if verification is None else load_verification(verification, opened.index.store),
    )
    text = KINDS[kind or ("markdown" if output is None else _kind_of(output))](report)
    if output is None:
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        return
    write_file(output, text.encode("utf-8", "backslashreplace"), force=force)
    click.echo(f"written: {output}", err=True)


def _kind_of(output: Path) -> str:
    kinds = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".json": "json"}
    kind = kinds.get(output.suffix.lower())
    if kind is None:
        raise ConfigError(f"{output.name} does not say which format", hint="End it in .html, .md or .json, or give --format.")
    return kind


@click.group("review")
def review_command() -> None:
    """Sign that a part of a trail was reviewed, and list who did."""


@review_command.command("sign", help=_SIGN_HELP)
@_since_and_until
@index_options
@_filters
@_catalog_option
@click.option("--query", required=True, metavar="TEXT", help="What you looked for, in your words.")
@click.option("--finding", required=True, metavar="TEXT", help="What you found, in your words.")
@click.option("--reviewer", required=True, metavar="NAME", help="Who you are, for example an e-mail address.")
@click.option("--outcome", "result", required=True, type=click.Choice(["no_findings", "findings", "follow_up"]), help="How it ended.")
@click.option("--into", metavar="STORE", help="The store of the reviews' trail; else the reviewed one, if it is a folder.")
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Where that trail's key and spool are kept."
)
@click.option(
    "--enrolment-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Certifies that trail's key (`trailseal keygen`).",
)
@click.option("--allow-unlocked", is_flag=True, help="Record into a bucket without a retention lock.")
def sign(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    opened: OpenedStore,
    since: datetime | None,
    until: datetime | None,
    chosen: dict[str, Any],
    catalog_file: Path | None,
    query: str,
    finding: str,
    reviewer: str,
    result: str,
    into: str | None,
    state: Path | None,
    enrolment_key: Path | None,
    allow_unlocked: bool,
) -> None:
    from ..ask.filters import Filter
    from ..own_trail import OwnTrail, record_once
    from ..report import printable
    from .signing import Signature, review_event

    asked = Filter(**chosen, since=since, until=until)
    settings = OwnTrail(
        store=into or _reviewed_folder(opened),
        service="reviews",
        folder=state,
        enrolment_key=enrolment_key,
        allow_unlocked=allow_unlocked,
        max_age_seconds=0.1,
        grace_seconds=_GRACE_SECONDS,
    )
    event = review_event(
        opened.index,
        asked,
        Signature(reviewer, query, finding, result),
        datetime.now(UTC),
        catalog=_read_catalog(catalog_file),
        more={"machine_user": _machine_user()},
    )
    # The agent takes its time, and others wait for the index.
    opened.index.close()
    recorded = record_once(event, settings)
    context = event["context"]
    click.echo(printable(f"signed: {context['matched']:,} events, {context['verdict']}, {len(context['heads'])} trails, by {reviewer}"))
    click.echo(f"  sealed  {recorded.origin}  seq {recorded.seq}  batch {recorded.batch}")
    click.echo(f"  event   {recorded.event_id}")


def _reviewed_folder(opened: OpenedStore) -> str:
    """Return the reviewed store, if reviews can be kept in it."""
    name = opened.index.store
    if "://" in name or not os.access(name, os.W_OK | os.X_OK):
        what = "a bucket" if "://" in name else "not a folder you can write"
        raise ConfigError(f"the reviewed store is {what}", hint="Say with --into where reviews are kept: a folder, or a bucket's URL.")
    return name


def _machine_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@review_command.command("list", help=_LIST_HELP)
@_since_and_until
@index_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_reviews(*, opened: OpenedStore, since: datetime | None, until: datetime | None, as_json: bool) -> None:  # noqa: D103 -- click shows the help text
    from .reviews import reviews, standing

    found = [(review, standing(opened.index, review, opened.store)) for review in reviews(opened.index, since=since, until=until)]
    if as_json:
        import json

        from .plain import as_plain

        click.echo(
            json.dumps(
                {"format": 1, "reviews": [{**as_plain(review), "doubt": review.doubt, "standing": state.value} for review, state in found]},
                indent=2,
            )
        )
        return
    if not found:
        click.echo("No review was signed in this period.")
        return
    _show(found)


def _show(found: list[tuple[Review, Standing]]) -> None:
    from ..report import printable
    from .words import period, result_words

    for review, state in found:
        matched = "" if review.matched is None else f", {review.matched:,} events"
        lines = (
            f"{review.signed_at:%Y-%m-%d %H:%M:%S} UTC  {review.reviewer}: {result_words(review.result)}",
            f"  reviewed  {period(review.since, review.until)}{matched}: {review.query}",
            f"  finding   {review.finding}",
            f"  seen      {state.value}, {len(review.heads)} trails",
            f"  sealed    {review.origin}  seq {review.seq}; {review.doubt or 'vouched for'}",
            "",
        )
        for line in lines:
            click.echo(printable(line))
