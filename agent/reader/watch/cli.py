"""The command `watch`. Thin: everything is decided elsewhere."""

from __future__ import annotations

import io
import signal
import sys
import threading
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from ..cli import DURATION, failing_clearly, reach_options
from ..expected import load_expected
from ..opening import open_store
from ..trustfile import TrustFile

if TYPE_CHECKING:
    from ..opening import Reach
    from .judge import Report

_HELP = """Find trails that are silent, unclosed or missing, from STORE alone.

For when an agent and whoever watches it are gone together: run it somewhere else. STORE is what `trailseal verify` takes. Only
the newest seal of every instance is read, and its signature checked. A trail is silent when nothing of it was stored for three
of its own heartbeats, or for `max_silence` of the expected file.

\b
Examples:
  trailseal watch /srv/trail --expected expected.yaml
  trailseal watch s3://audit/production --expected expected.yaml --trust trust.txt --json
  trailseal watch s3://audit/production --expected expected.yaml --every 30s --listen 0.0.0.0:9601 --ping https://hc.example.com/abc

\b
Exit codes (the worst wins, in the order 10, 12, 11):
   0  everybody gives signs of life
  10  the newest seal of a trail is not its own
  11  a trail is silent, late or unclosed, an expected one is missing, too few are at work, or a clock is wrong
  12  the store cannot be read, or nobody vouches for a trail
   1  the program failed
   2  usage or a file named on the command line is wrong
"""


_SHORTEST: Final = timedelta(milliseconds=100)
_LONGEST: Final = timedelta(days=1)


def _address(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write HOST:PORT, such as 127.0.0.1:9601; port 0 lets the system choose")
    return host.strip("[]"), int(port)


def _url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and value.isascii() and value.isprintable()
    except ValueError:
        good = False
    if not good or " " in value:
        raise click.BadParameter("write an http:// or https:// URL")
    return value


def _pause(_: click.Context, __: click.Parameter, value: timedelta | None) -> timedelta | None:
    if value is not None and not _SHORTEST <= value <= _LONGEST:
        raise click.BadParameter("between 100ms and 1d")
    return value


@click.command("watch", help=_HELP)
@click.argument("store")
@click.option(
    "--expected", type=click.Path(path_type=Path), metavar="FILE", required=True, help="YAML list of the trails that have to be there."
)
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe; else the key that each trail names itself."
)
@click.option(
    "--forget",
    type=DURATION,
    metavar="DURATION",
    help="Speak no more of instances that ended longer ago, while others of their entry go on.",
)
@click.option("--once", is_flag=True, help="Look once, which is what happens without --every.")
@click.option("--every", type=DURATION, callback=_pause, metavar="DURATION", help="Keep looking this often, until SIGTERM; else look once.")
@click.option("--listen", callback=_address, metavar="HOST:PORT", help="Show metrics to Prometheus there (with --every).")
@click.option("--ping", "ping_url", callback=_url, metavar="URL", help="GET this after every look in which everything is fine.")
@reach_options
@click.option("--all", "everything", is_flag=True, help="Show the instances that are fine, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a look (docs/watch.md describes it).")
def watch_command(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    store: str,
    expected: Path,
    trust: Path | None,
    forget: timedelta | None,
    once: bool,
    every: timedelta | None,
    listen: tuple[str, int] | None,
    ping_url: str | None,
    reach: Reach,
    everything: bool,
    as_json: bool,
) -> None:
    if once and every is not None:
        raise click.UsageError("--once and --every say different things; give one of them")
    if listen is not None and every is None:
        raise click.UsageError("--listen shows what --every sees; give both")
    with failing_clearly():
        from .looking import Looking

        entries = load_expected(expected)
        vouching = TrustFile.load(trust) if trust else None
        with closing(Looking(partial(open_store, store, reach), vouching, entries, forget, _progress)) as looking:

            def say(report: Report) -> None:
                _say(report, everything=everything, as_json=as_json)

            if every is None:
                report = looking.look()
                say(report)
                if ping_url is not None and report.fine:
                    _ping_once(ping_url)
                sys.exit(report.severity.exit_code)
            _keep(looking.look, say, every.total_seconds(), listen, ping_url)


def _progress(done: int, of: int) -> None:
    """Show on a terminal how far a look is, where there is much to look at."""
    if of >= 200 and sys.stderr.isatty():
        click.echo(f"\r{done} of {of} trails" if done < of else "\r" + " " * 40 + "\r", nl=False, err=True)


def _say(report: Report, *, everything: bool, as_json: bool) -> None:
    # Imported late so that `--help` and usage errors do not wait for rich.
    from . import show

    if as_json:
        import json

        click.echo(json.dumps(show.as_json(report)))
        return
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's encoding cannot show is escaped; the verdict must not depend on it.
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(soft_wrap=False)
    for part in show.render(report, everything=everything):
        console.print(part, highlight=False)


def _ping_once(url: str) -> None:
    from .keep import ping

    try:
        ping(url)
    except OSError as error:
        # The look was made, and its result is the exit code; whoever waits for the ping will raise the alarm.
        click.echo(f"trailseal: the dead man's switch was not reached: {error}", err=True)


def _keep(look: Any, say: Any, every_seconds: float, listen: tuple[str, int] | None, ping_url: str | None) -> None:
    from .keep import Board, keep_looking

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    board = Board()
    if listen is not None:
        from prometheus_client import start_http_server

        try:
            server, _ = start_http_server(listen[1], listen[0], board.registry)
        except OSError as error:
            raise click.UsageError(f"cannot listen at {listen[0]}:{listen[1]}: {error.strerror}") from error
        click.echo(f"metrics at http://{listen[0]}:{server.server_port}/metrics", err=True)
    keep_looking(
        look,
        board,
        every_seconds=every_seconds,
        stop=stop,
        say=say,
        complain=lambda text: click.echo(f"trailseal: {text}", err=True),
        ping_url=ping_url,
    )
