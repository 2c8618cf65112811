"""The command `copy`: the trails of one store into another."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import NotVerifiedError
from ..reader.cli import origin_glob

if TYPE_CHECKING:
    from ..config import Retention
    from ..copying import Report, Target
    from ..copying.ends import Terms
    from ..reader.opening import Reach
    from ..reader.trustfile import TrustFile

_HELP = """Copy the trails of the store FROM into the store TO, checked on the way.

FROM and TO are folders, file:// URLs, or buckets: s3://BUCKET/PREFIX, gs://… or az://ACCOUNT/CONTAINER/PREFIX. Every batch is
checked as `verify` checks it, and only then written: its data, then its seal, in the order of the trail. What TO has already is
read back and compared; nothing is overwritten or deleted, in neither store. A trail that is damaged in FROM, or of which TO holds
something else, is copied up to there and reported; the others go on. Run it again, at any time, and it copies what is missing.

\b
Examples:
  trailseal copy /srv/trail /mnt/backup/trail --trust trust.txt
  trailseal copy /srv/trail s3://audit/production --trust trust.txt --dry-run
  trailseal copy s3://old s3://new --profile old --to-profile new --trust trust.txt

\b
Exit codes (the worst wins, in the order 10, 1, 12, 11):
   0  everything was copied, and TO verifies
  10  tampered: something in FROM or TO is not what was sealed, or they contradict each other
  11  incomplete: what was copied tells of a loss, or has a missing or stale tail
  12  not verified: no trail found, a key nobody vouched for, something that cannot be read
   1  TO takes nothing more; run it again
   2  usage or a file named on the command line is wrong
"""


@click.command("copy", help=_HELP)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: only trails that it vouches for are copied."
)
@click.option("--origin", callback=origin_glob, metavar="GLOB", help="Only trails that match, e.g. 'demo/payments/*/*'.")
@click.option("--dry-run", is_flag=True, help="Write nothing: check FROM, compare with TO, and say what would be copied.")
@click.option("--verify/--no-verify", default=True, help="Verify in TO what was copied, at the end; done by default.")
@click.option("--endpoint", metavar="URL", help="FROM's server, if an S3-compatible bucket; else AWS_ENDPOINT_URL, or the cloud's own.")
@click.option("--region", metavar="NAME", help="FROM's region; else AWS_REGION or the profile's.")
@click.option("--profile", metavar="NAME", help="The section of AWS's credentials file for FROM; else the environment's credentials.")
@click.option("--ca-file", type=click.Path(dir_okay=False), metavar="FILE", help="Certificates to trust beside the system's, for FROM.")
@click.option("--to-endpoint", metavar="URL", help="As --endpoint, for TO.")
@click.option("--to-region", metavar="NAME", help="As --region, for TO.")
@click.option("--to-profile", metavar="NAME", help="As --profile, for TO.")
@click.option("--to-ca-file", type=click.Path(dir_okay=False), metavar="FILE", help="As --ca-file, for TO.")
@click.option("--to-allow-http", is_flag=True, help="Write to TO even if it is reached without TLS.")
@click.option(
    "--to-retention", type=click.IntRange(1, 36_500), metavar="DAYS", help="The lock that TO should give; a weaker one is warned of."
)
@click.option("--to-retention-mode", type=click.Choice(["compliance", "governance"]), help="Its mode; compliance by default.")
@click.option(
    "--to-retention-by", type=click.Choice(["bucket", "object"]), help="Who gives it: the bucket's default, or each object asks for it."
)
@click.option("--allow-unlocked", is_flag=True, help="Write to a bucket that has no lock.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/copy.md describes it).")
@click.option("--quiet", is_flag=True, help="Print the closing line only, and no progress bar.")
def copy(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    source: str,
    target: str,
    trust: Path | None,
    origin: str | None,
    dry_run: bool,
    verify: bool,
    to_allow_http: bool,
    to_retention: int | None,
    to_retention_mode: str | None,
    to_retention_by: str | None,
    allow_unlocked: bool,
    as_json: bool,
    quiet: bool,
    **reach: str | None,
) -> int:
    from ..copying.ends import Terms
    from ..reader.trustfile import TrustFile

    terms = Terms(
        reach=_reach(reach, "to_"),
        allow_http=to_allow_http,
        allow_unlocked=allow_unlocked,
        retention=_retention(to_retention, to_retention_mode, to_retention_by),
    )
    work = _Work(
        source=source,
        target=target,
        reach=_reach(reach, ""),
        terms=terms,
        trust=TrustFile.load(trust) if trust else None,
        origin_glob=origin,
        dry_run=dry_run,
        verify=verify and not dry_run,
        bar=not quiet,
    )
    return _show(work.do(), as_json=as_json, quiet=quiet)


def _reach(options: dict[str, str | None], prefix: str) -> Reach:
    from ..reader.opening import Reach

    return Reach(*(options[f"{prefix}{name}"] for name in ("endpoint", "region", "profile", "ca_file")))


def _retention(days: int | None, mode: str | None, by: str | None) -> Retention | None:
    import msgspec

    from ..config import Retention

    if days is None:
        if mode or by:
            raise click.UsageError("--to-retention-mode and --to-retention-by say more of what --to-retention demands; give that, too")
        return None
    given = {name: value for name, value in (("mode", mode), ("by", by)) if value}
    return msgspec.convert({"days": days, **given}, Retention)


@dataclass(frozen=True, slots=True)
class _Work:
    """What one call of the command is asked for."""

    source: str
    target: str
    reach: Reach
    terms: Terms
    trust: TrustFile | None
    origin_glob: str | None
    dry_run: bool
    verify: bool
    bar: bool

    def do(self) -> Report:
        from ..copying.ends import open_target, refuse_itself
        from ..vitals.clock import SystemClock

        refuse_itself(self.source, self.reach, self.target, self.terms.reach)
        target = open_target(self.target, self.terms, SystemClock(), dry_run=self.dry_run, tell=_tell)
        report = asyncio.run(self._copy(target))
        # Where nothing could be placed there is nothing to verify, and the exit code says so already.
        if self.verify and report.failure is None and any(trail.batches for trail in report.trails):
            return self._verified(report)
        return report

    async def _copy(self, target: Target) -> Report:
        from ..copying import Options, copy_store
        from ..copying.ends import reading
        from ..copying.progress import progress

        options = Options(trust=self.trust, origin_glob=self.origin_glob)
        try:
            with reading(self.source, self.reach) as store, progress(store, whole=self.origin_glob is None, wanted=self.bar) as bar:
                return await copy_store(store, target, options, now=_now, bar=bar)
        finally:
            await target.close()

    def _verified(self, report: Report) -> Report:
        from ..copying.ends import reading
        from ..copying.outcome import Failure
        from ..copying.verifying import verify_copy
        from ..reader.progress import progress

        try:
            with reading(self.target, self.terms.reach) as store, progress(store, wanted=self.bar) as bar:
                began, now = time.monotonic(), _now()
                verification = verify_copy(
                    store,
                    [trail.origin for trail in report.trails],
                    trust=self.trust,
                    origin_glob=self.origin_glob,
                    now=now,
                    advance=bar.verified,
                    elapsed_seconds=lambda: time.monotonic() - began,
                )
        except NotVerifiedError as error:
            return replace(report, unread=Failure(error.message, error.hint))
        return replace(report, verification=verification)


def _now() -> datetime:
    return datetime.now(UTC)


def _tell(message: str) -> None:
    from ..reader.report import printable

    click.echo(f"trailseal: {printable(message)}", err=True)


def _show(report: Report, *, as_json: bool, quiet: bool) -> int:
    from ..copying import report as show

    if as_json:
        # ASCII only, as for `verify --json`.
        click.echo(json.dumps(show.as_json(report), indent=2))
        return report.exit_code
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's encoding cannot show is escaped; the outcome must not depend on it.
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(soft_wrap=False)
    if quiet:
        console.print(show.closing_line(report), highlight=False, soft_wrap=True)
    else:
        show.render(report, console)
    return report.exit_code
