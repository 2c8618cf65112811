"""The command `drill`.

Invariants: the exit code is the report's, and the last line printed says the same; nothing is written but what --keep and --output name,
and a temporary folder that is removed, also when SIGTERM or SIGHUP end the drill. The command is thin: everything is decided elsewhere.
"""

from __future__ import annotations

import io
import re
import secrets
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...errors import ConfigError
from ..cli import failing_clearly, origin_glob, reach_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.progress import Progress

    from ..fetch import StoreReader
    from ..opening import Reach
    from .perform import Bar
    from .report import DrillReport

DEFAULT_MAX_BYTES: Final = 64 << 20
_UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,15})(|KiB|MiB|GiB)")

_HELP = """Tamper with a copy of STORE in every known way, and show that `verify` catches each.

STORE is a folder, a file:// URL, or a bucket: s3://BUCKET/PREFIX, gs://… or az://ACCOUNT/CONTAINER/PREFIX. It is only read. Its
trails are copied into a temporary folder; there, one tampering at a time is done on real files, verified, and taken back. A
tampering counts as caught only by a finding that the untouched copy does not give, of a code that was expected, about the place
that was touched. Then the doings of one actor are reconstructed from verified batches. docs/drill.md lists every tampering.

\b
Examples:
  trailseal drill /srv/trail --trust trust.txt
  trailseal drill /srv/trail --trust trust.txt --actor u_8842 --output drill-2026.html
  trailseal drill s3://audit/production --trust trust.txt --origin 'demo/payments/*/*' --json

\b
Exit codes:
   0  everything that was tried was caught
  10  something was not caught, or was taken for something else
  12  no result: no trail found or vouched for, or the copy is not like the store
   1  the program failed
   2  usage, a file named on the command line is wrong, or the copy would be too large
"""


class _Size(click.ParamType[int]):
    """A number of bytes, such as 500000, 64MiB or 2GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the option's text (a usage error if it has another form)."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value))
        if not found or not int(found[1]):
            self.fail(f"{value!r} is not a size such as 500000, 64MiB or 2GiB", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def _output(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    from .paper import SUFFIXES

    if value is not None and value.suffix not in SUFFIXES:
        raise click.BadParameter(f"the name ends in {' or '.join(SUFFIXES)}")
    return value


@click.command("drill", help=_HELP)
@click.argument("store")
@click.option("--trust", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Whom to believe, as for `verify`.")
@click.option("--actor", metavar="ID", help="Whose doings to reconstruct; the actor with the most events by default.")
@click.option("--origin", callback=origin_glob, metavar="GLOB", help="Copy and tamper with these trails only, e.g. 'demo/payments/*/*'.")
@click.option(
    "--max-bytes",
    type=_Size(),
    default=DEFAULT_MAX_BYTES,
    metavar="SIZE",
    help="How much may be copied, whole trails only; 64MiB by default.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), metavar="NUMBER", help="Repeat a drill in the same places; drawn and printed by default."
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Keep the copy and every tampered object there."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_output,
    metavar="FILE",
    help="Write the report to file it: .html or .md.",
)
@click.option("--force", is_flag=True, help="Replace the report if it is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/drill.md describes it).")
@click.option("--quiet", is_flag=True, help="Print the closing line only, and no progress bar.")
@reach_options
def drill_command(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    store: str,
    trust: Path,
    actor: str | None,
    origin: str | None,
    max_bytes: int,
    seed: int | None,
    keep: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    reach: Reach,
) -> None:
    from ..trustfile import TrustFile
    from ..writing import refuse_existing
    from .perform import Order, perform, refuse_inside, sha256_of

    with failing_clearly(), ended_by_signals(), ExitStack() as stack:
        trusted = TrustFile.load(trust)
        order = Order(
            trust=trusted,
            trust_file=str(trust),
            trust_sha256=sha256_of(trust),
            actor=actor,
            origin_glob=origin,
            max_bytes=max_bytes,
            seed=secrets.randbelow(2**32) if seed is None else seed,
            keep=keep is not None,
        )
        reader = stack.enter_context(_opened(store, reach))
        if output is not None:
            refuse_inside(reader, output, "the report")
            if not output.absolute().parent.is_dir():
                raise ConfigError(f"there is no folder for the report {output}", hint="Make it first; a drill takes a while.")
            refuse_existing(output, force=force)
        workspace = _workspace(reader, keep, stack)
        bar = stack.enter_context(_bar(wanted=not quiet))
        report = perform(reader, order, workspace, clock=lambda: datetime.now(UTC), clock_seconds=time.monotonic, bar=bar)
        if output is not None:
            _write(report, output, force=force)
    _show(report, as_json=as_json, quiet=quiet)
    sys.exit(report.exit_code)


@contextmanager
def _opened(where: str, reach: Reach) -> Iterator[StoreReader]:
    from ..opening import open_store

    store = open_store(where, reach)
    try:
        yield store
    finally:
        if hasattr(store, "close"):
            store.close()


def _workspace(store: StoreReader, keep: Path | None, stack: ExitStack) -> Path:
    """Return an empty folder: the one to keep, or a temporary one."""
    from .perform import refuse_inside

    if keep is None:
        refuse_inside(store, Path(tempfile.gettempdir()), "the temporary folder")
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trailseal-drill-")))
    refuse_inside(store, keep, "the folder to keep")
    try:
        keep.mkdir(mode=0o700, exist_ok=True)
        if any(keep.iterdir()):
            raise ConfigError(f"{keep} is not empty", hint="--keep needs a folder of its own: name one that does not exist.")
        # What is kept holds personal data, whoever made the folder.
        keep.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"cannot make {keep}: {error.strerror}", hint="Name another folder with --keep.") from error
    return keep


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program by SystemExit (128 and their number), so that what is temporary is removed on the way.

    Only the main thread may say so; in another one nothing is changed. A signal that is ignored (by `nohup`) stays ignored, and a second
    one does not disturb the removal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def end(number: int, _frame: FrameType | None) -> None:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _write(report: DrillReport, output: Path, *, force: bool) -> None:
    from ..writing import write_file
    from .paper import as_html, as_markdown

    text = as_html(report) if output.suffix == ".html" else as_markdown(report)
    write_file(output, text.encode("utf-8", "backslashreplace"), force=force)


def _show(report: DrillReport, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        import json

        from .report import as_json as in_json

        # ASCII only, so that no encoding of a terminal or a pipe can refuse it, and no character of it can drive a terminal.
        click.echo(json.dumps(in_json(report), indent=2))
        return
    from rich.console import Console

    from . import terminal

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(soft_wrap=False)
    if quiet:
        console.print(terminal.closing_line(report), highlight=False, soft_wrap=True)
    else:
        terminal.render(report, console)


class _TerminalBar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("looking at the store", total=None)

    def begin(self, what: str, total: int | None) -> None:
        self._progress.reset(self._task, description=what, total=total)

    def advance(self, done: int) -> None:
        self._progress.advance(self._task, done)


@contextmanager
def _bar(*, wanted: bool) -> Iterator[Bar]:
    """Yield a bar on stderr, or one that shows nothing where there is no terminal."""
    from .perform import Silent

    if not wanted or not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield _TerminalBar(shown)
