"""The command `index`, and what every command needs that asks an index: the store, its index, whom to believe.

Invariants: a command that asks brings the index up to date first, unless it is told not to; the bar is on stderr, and only on a
terminal. The commands are thin: everything is decided elsewhere.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from ...errors import ConfigError
from ..cli import failing_clearly, reach_options
from ..fetch import is_far
from ..opening import Reach, open_store, store_name
from ..trustfile import TrustFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..fetch import StoreReader
    from .build import Refreshed
    from .reading import Index

_EXTRA: Final = "Install it with its extra: pip install 'trailseal[evidence]'."

_INDEX_HELP = """Build an index of STORE, or bring it up to date, verifying on the way.

The index is one DuckDB file. What verifies becomes rows that `trailseal query`, `export`, `report` and `view` ask; what does not
is listed and answered from by nobody. Only what is new is read; a run that was ended goes on where it stood. The other commands
do this by themselves, so this one is for the first time, for a timer, and for whoever wants to ask the file with other tools.

\b
Examples:
  trailseal index /srv/trail --trust trust.txt
  trailseal index s3://audit/production --trust trust.txt --index production.duckdb

\b
Exit codes: 0 everything verified; 10 something did not; 11 something is stated as lost; 12 nobody vouches for a key;
1 the program failed; 2 usage.
"""


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """What a command asks; a context manager.

    Attributes:
        index: The index.
        store: The store; None where it was not to be looked at and is not there.
        trust: Whom to believe.
    """

    index: Index
    store: StoreReader | None
    trust: TrustFile

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close both."""
        self.index.close()
        close_store(self.store)


def require_duckdb() -> None:
    """See that the database is installed.

    Raises:
        ConfigError: It is not.
    """
    try:
        import duckdb  # noqa: F401
    except ImportError as error:
        raise ConfigError("this command needs DuckDB, which is not installed", hint=_EXTRA) from error


def close_store(store: StoreReader | None) -> None:
    """Close what a bucket keeps open."""
    if store is None or not is_far(store):
        return
    from ..bucket import BucketReader

    if isinstance(store, BucketReader):
        store.close()


def named_store(where: str, reach: Reach) -> StoreReader:
    """Open a store under a name that is the same from every folder, as an index is found by it."""
    return open_store(_resolved(where), reach)


def _resolved(where: str) -> str:
    return where if "://" in where else str(Path(where).resolve())


def bring_up_to_date(store: StoreReader, path: Path, trust: TrustFile, *, quiet: bool = False) -> Refreshed:
    """Refresh an index, with a bar on a terminal."""
    from .build import refresh

    with _bar(store, quiet=quiet) as advance:
        return refresh(store, path, trust=trust, now=datetime.now(UTC), advance=advance, read_ahead=is_far(store))


@contextmanager
def _bar(store: StoreReader, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[done]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(f"indexing {store.name}", total=None, done="")
        read = 0

        def advance(size: int) -> None:
            nonlocal read
            read += size
            shown.update(task, done=f"{decimal(read)} verified")

        yield advance


def index_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument STORE and the options of an index; it takes them as one argument, ``opened``."""

    @click.argument("store")
    @click.option(
        "--index",
        "index_path",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The index; else one in the user's cache.",
    )
    @click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
    @click.option("--no-refresh", is_flag=True, help="Ask the index as it is, with the trust it was made with; the store is not looked at.")
    @reach_options
    @wraps(command)
    def opening(*, store: str, index_path: Path | None, trust: Path | None, no_refresh: bool, reach: Reach, **others: Any) -> None:
        with failing_clearly(), _opened(store, index_path, trust, reach, refreshing=not no_refresh) as opened:
            command(opened=opened, **others)

    return opening


def _opened(where: str, index_path: Path | None, trust: Path | None, reach: Reach, *, refreshing: bool) -> OpenedStore:
    require_duckdb()
    from .reading import default_path, open_index

    believed = TrustFile.load(trust) if trust else TrustFile()
    if refreshing:
        store = named_store(where, reach)
        path = index_path or default_path(store.name)
        bring_up_to_date(store, path, believed)
        return OpenedStore(open_index(path), store, believed)
    index = open_index(index_path or default_path(store_name(_resolved(where), reach)))
    if trust:
        _check_trust(index, believed)
    return OpenedStore(index, None, believed)


def _check_trust(index: Index, believed: TrustFile) -> None:
    """See that an index that is asked as it is was judged by this trust file.

    Raises:
        ConfigError: It was judged by another one.
    """
    from .judging import trusted_by

    for origin, opening, stored in index.rows("SELECT origin, opening, trusted_by FROM trails"):
        key = None if opening is None else trusted_by(opening, believed.keys_for(origin))
        if stored != (None if key is None else str(key)):
            index.close()
            raise ConfigError(
                f"the index was made with another trust file: they disagree about {origin}",
                hint="Ask once without --no-refresh, or leave --trust out to be told by whom the index was vouched for when it was made.",
            )


@click.command("index", help=_INDEX_HELP)
@click.argument("store")
@click.option(
    "--index", "index_path", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file; else one in the user's cache."
)
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
@reach_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors, and no bar.")
def index_command(store: str, index_path: Path | None, trust: Path | None, reach: Reach, *, as_json: bool, quiet: bool) -> None:  # noqa: D103 -- click shows the help text
    with failing_clearly():
        require_duckdb()
        from .reading import default_path, open_index
        from .showing import as_document, show, worst

        opened = named_store(store, reach)
        try:
            path = index_path or default_path(opened.name)
            done = bring_up_to_date(opened, path, TrustFile.load(trust) if trust else TrustFile(), quiet=quiet)
        finally:
            close_store(opened)
        with open_index(path) as index:
            if as_json:
                import json

                click.echo(json.dumps(as_document(index, done), indent=2))
            elif not quiet:
                show(index, done)
    sys.exit(worst(done).exit_code)
