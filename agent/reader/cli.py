"""The commands `verify` and `trust`.

Invariants: the exit code is the verdict's, and the last line printed says the same; colours and the progress bar appear on
terminals only, the bar on stderr, so that stdout can be kept as evidence. The commands are thin: everything is decided elsewhere.
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TrailsealError
from .expected import load_expected, parse_duration
from .fetch import open_store
from .trustfile import TrustFile, is_origin_pattern, trust_lines
from .verify import Options, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from .fetch import StoreReader

_VERIFY_HELP = """Check that every trail in STORE is intact and complete.

STORE is a directory store's folder, or a file:// URL. Nothing is written and no network is used: every signature, hash,
number and offset is recomputed from the stored bytes.

\b
Examples:
  trailseal trust /srv/trail > trust.txt      (then compare the fingerprints)
  trailseal verify /srv/trail --trust trust.txt
  trailseal verify /srv/trail --trust trust.txt --fresh 5m --json

\b
Exit codes (the worst wins, in the order 10, 12, 11):
   0  intact and complete
  10  tampered: something stored is not what was sealed
  11  incomplete: a gap, a missing or stale tail, an absent trail
  12  not verified: no trail found, or a key nobody vouched for
   1  the program failed
   2  usage or a file named on the command line is wrong
"""

_TRUST_HELP = """Print trust-file lines for the keys found in STORE.

Nothing is verified: each line is what somebody would have to believe. Compare every fingerprint with the owner of the
service before you pass the file to `trailseal verify --trust`. A service with an enrolment key needs one line for all its
epochs: see docs/verify.md.

\b
Example:
  trailseal trust /srv/trail > trust.txt
"""


class _Duration(click.ParamType["timedelta"]):
    """A duration such as 90s, 5m, 36h or 2d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the option's text (a usage error if it has another form)."""
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _origin_glob(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_origin_pattern(value):
        raise click.BadParameter("an origin has four parts: namespace/service/epoch/instance; * matches within one part")
    return value


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """End with an error's message, hint and exit code instead of a traceback."""
    try:
        yield
    except TrailsealError as error:
        from .report import printable

        # A message may hold the name of a file that somebody else chose.
        click.echo(f"trailseal: {printable(error.message)}\n  {printable(error.hint)}", err=True)
        sys.exit(error.exit_code)


@contextmanager
def _progress(store: StoreReader, *, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a bar on stderr by a number of bytes, or one that does nothing."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    # Imported here because a verification without a terminal, such as a nightly one, needs none of it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verifying", total=None)
        # Only for the bar: what cannot be listed is found, and judged, by the verification itself.
        with suppress(TrailsealError, OSError):
            progress.update(task, total=sum(info.size for info in store.objects("")))
        yield lambda count: progress.advance(task, count)


@click.command("verify", help=_VERIFY_HELP)
@click.argument("store")
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
@click.option("--expected", type=click.Path(path_type=Path), metavar="FILE", help="YAML list of the trails that have to be there.")
@click.option("--fresh", type=_Duration(), metavar="DURATION", help="Demand a head at most this old of every trail that is not closed.")
@click.option("--origin", callback=_origin_glob, metavar="GLOB", help="Only trails that match, e.g. 'demo/payments/*/*'.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/verify.md describes it).")
@click.option("--quiet", is_flag=True, help="Print the closing line only, and no progress bar.")
def verify_command(  # noqa: D103 -- click shows the help text; one argument for every option
    store: str,
    trust: Path | None,
    expected: Path | None,
    fresh: timedelta | None,
    origin: str | None,
    as_json: bool,  # noqa: FBT001 -- click passes flags by name
    quiet: bool,  # noqa: FBT001 -- as above
) -> None:
    with _failing_clearly():
        options = Options(
            trust=TrustFile.load(trust) if trust else TrustFile(),
            expected=load_expected(expected) if expected else None,
            fresh=fresh,
            origin_glob=origin,
        )
        reader = open_store(store)
        with _progress(reader, wanted=not quiet) as advance:
            began = time.monotonic()
            report = verify_store(reader, options, now=datetime.now(UTC), advance=advance, elapsed_seconds=lambda: time.monotonic() - began)
    # Imported late so that `--help` and usage errors do not wait for rich.
    from . import report as show

    if as_json:
        import json

        # ASCII only, so that no encoding of a terminal or a pipe can refuse it, and no character of it can drive a terminal.
        click.echo(json.dumps(show.as_json(report), indent=2))
    else:
        from rich.console import Console

        if isinstance(sys.stdout, io.TextIOWrapper):
            # What the terminal's encoding cannot show is escaped; the verdict must not depend on it.
            sys.stdout.reconfigure(errors="backslashreplace")
        console = Console(soft_wrap=False)
        if quiet:
            console.print(show.closing_line(report), highlight=False, soft_wrap=True)
        else:
            show.render(report, console)
    sys.exit(report.severity.exit_code)


@click.command("trust", help=_TRUST_HELP)
@click.argument("store")
def trust_command(store: str) -> None:  # noqa: D103 -- click shows the help text
    from .report import printable

    with _failing_clearly():
        for line in trust_lines(open_store(store)):
            click.echo(printable(line))
