"""The commands `verify` and `trust`.

Invariants: the exit code is the verdict's, and the last line printed says the same; colours and the progress bar appear on
terminals only, the bar on stderr, so that stdout can be kept as evidence. The commands are thin: everything is decided elsewhere.
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import TrailsealError
from .expected import load_expected, parse_duration
from .fetch import DirectoryReader, is_far
from .opening import Reach, open_store
from .progress import progress
from .retention import IN_A_FOLDER, LEVELS, Mode, Policy, Unattested
from .trustfile import TrustFile, is_origin_pattern, trust_lines
from .verify import Options, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from .fetch import StoreReader
    from .progress import Bar
    from .retention import Attester, Level

_VERIFY_HELP = """Check that every trail in STORE is intact and complete.

STORE is a directory store's folder, a file:// URL, or a bucket: s3://BUCKET/PREFIX, gs://… or az://ACCOUNT/CONTAINER/PREFIX.
Nothing is written, and nothing but the store is asked: every signature, hash, number and offset is recomputed from the stored
bytes. In an S3 bucket the retention of every version is looked at, too (with the extra: pip install 'trailseal[attest]').

\b
Examples:
  trailseal trust /srv/trail > trust.txt      (then compare the fingerprints)
  trailseal verify /srv/trail --trust trust.txt
  trailseal verify /srv/trail --trust trust.txt --fresh 5m --json
  trailseal verify s3://audit/production --trust trust.txt --level locked --retention 400d

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
Examples:
  trailseal trust /srv/trail > trust.txt
  trailseal trust s3://audit/production --endpoint https://s3.example.com > trust.txt
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


DURATION: Final = _Duration()


def origin_glob(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Check the pattern of an option that names trails; a click callback."""
    if value is not None and not is_origin_pattern(value):
        raise click.BadParameter("an origin has four parts: namespace/service/epoch/instance; * matches within one part")
    return value


@contextmanager
def failing_clearly() -> Iterator[None]:
    """End with an error's message, hint and exit code instead of a traceback."""
    try:
        yield
    except TrailsealError as error:
        from .report import printable

        # A message may hold the name of a file that somebody else chose.
        click.echo(f"trailseal: {printable(error.message)}\n  {printable(error.hint)}", err=True)
        sys.exit(error.exit_code)


def reach_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how a bucket is reached; it takes them as one argument, ``reach``."""

    @click.option("--endpoint", metavar="URL", help="The server of an S3-compatible bucket; else AWS_ENDPOINT_URL, or the cloud's own.")
    @click.option("--region", metavar="NAME", help="The bucket's region; else AWS_REGION or the profile's.")
    @click.option("--profile", metavar="NAME", help="The section of AWS's credentials file; else the environment's credentials.")
    @click.option("--ca-file", type=click.Path(dir_okay=False), metavar="FILE", help="Certificates to trust beside the system's.")
    @wraps(command)
    def reaching(*, endpoint: str | None, region: str | None, profile: str | None, ca_file: str | None, **others: Any) -> None:
        command(reach=Reach(endpoint, region, profile, ca_file), **others)

    return reaching


@contextmanager
def _reading(where: str, reach: Reach) -> Iterator[tuple[StoreReader, StoreReader]]:
    """Yield the store, and what to read it through: a bucket answers late, so it is read ahead."""
    store = open_store(where, reach)
    if not is_far(store):
        yield store, store
        return
    from .ahead import ReadAhead
    from .bucket import BucketReader

    try:
        with ReadAhead(store) as ahead:
            yield store, ahead
    finally:
        if isinstance(store, BucketReader):
            store.close()


def _attester(store: StoreReader, policy: Policy | None, origin: str | None, bar: Bar, *, wanted: bool) -> Attester:
    """Return what attests a store's locks, or says why nothing does."""
    from ..config import is_plain_http
    from .bucket import BucketReader

    if not isinstance(store, BucketReader):
        return IN_A_FOLDER
    if not wanted:
        return Unattested("--no-attest was given")
    if store.access.address.provider != "s3":
        return Unattested("locks are attested in S3 buckets only", notice=True)
    if store.access.endpoint is not None and is_plain_http(store.access.endpoint):
        return Unattested("the store is reached without TLS, so anybody on the way could make up what it says of its locks", notice=True)
    from .attest import BucketAttester

    return BucketAttester(store.access, store.pins, demanded=policy, origin_glob=origin, advance=bar.attested)


def _policy(retention: timedelta | None, mode: str | None, *, attest: bool) -> Policy | None:
    """Return the retention that is demanded, if any."""
    if retention is None:
        if mode is not None:
            raise click.UsageError("--retention-mode says how firm the retention has to be that --retention demands; give both")
        return None
    if not attest:
        raise click.UsageError("--retention demands what --no-attest leaves out")
    return Policy(Mode(mode or Mode.COMPLIANCE), retention.total_seconds(), given=True)


@click.command("verify", help=_VERIFY_HELP)
@click.argument("store")
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
@click.option("--expected", type=click.Path(path_type=Path), metavar="FILE", help="YAML list of the trails that have to be there.")
@click.option("--fresh", type=DURATION, metavar="DURATION", help="Demand a head at most this old of every trail that is not closed.")
@click.option("--origin", callback=origin_glob, metavar="GLOB", help="Only trails that match, e.g. 'demo/payments/*/*'.")
@click.option("--level", type=click.Choice(LEVELS), help="Demand a level of assurance: 12 if it is not reached.")
@click.option(
    "--retention", type=DURATION, metavar="DURATION", help="The shortest retention every version must have; else the bucket's default."
)
@click.option(
    "--retention-mode", type=click.Choice([mode.value for mode in Mode]), help="The weakest mode that will do; compliance by default."
)
@click.option("--no-attest", is_flag=True, help="Do not look at the versions and locks of a bucket.")
@reach_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/verify.md describes it).")
@click.option("--quiet", is_flag=True, help="Print the closing line only, and no progress bar.")
def verify_command(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    store: str,
    trust: Path | None,
    expected: Path | None,
    fresh: timedelta | None,
    origin: str | None,
    level: Level | None,
    retention: timedelta | None,
    retention_mode: str | None,
    reach: Reach,
    no_attest: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    with failing_clearly():
        options = Options(
            trust=TrustFile.load(trust) if trust else TrustFile(),
            expected=load_expected(expected) if expected else None,
            fresh=fresh,
            origin_glob=origin,
            level=level,
        )
        policy = _policy(retention, retention_mode, attest=not no_attest)
        with _reading(store, reach) as (bare, reader):
            if policy is not None and isinstance(bare, DirectoryReader):
                raise click.UsageError(f"{store} is a folder, and only a bucket can be held to a retention")
            with progress(bare, wanted=not quiet) as bar:
                began = time.monotonic()
                report = verify_store(
                    reader,
                    options,
                    now=datetime.now(UTC),
                    advance=bar.verified,
                    elapsed_seconds=lambda: time.monotonic() - began,
                    attester=_attester(bare, policy, origin, bar, wanted=not no_attest),
                )
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
@reach_options
def trust_command(store: str, reach: Reach) -> None:  # noqa: D103 -- click shows the help text
    from .report import printable

    with failing_clearly():
        for line in trust_lines(open_store(store, reach)):
            click.echo(printable(line))
