"""Questions in SQL, in a database that can do nothing but answer.

The index is opened anew, read-only, with no way to files, network or extensions, without Python's variables, with a bounded memory and
nothing to spill to, and with settings that cannot be changed; one statement is taken, and only a query. It has a time limit.

Invariants: whatever the text, nothing is written, nothing outside the index is read, and it ends. This module must not accept SQL from
anybody but who could read the index's file anyway: a scope cannot be kept in SQL.
"""

from __future__ import annotations

import resource
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb

from ...errors import ConfigError, TrailsealError
from .filters import is_unicode
from .naming import unique
from .rows import Column, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_LIMIT: Final = "1GiB"
SECONDS: Final = 60.0
MAX_CHARACTERS: Final = 100_000
_MORE_BYTES: Final = 2 << 30
_FETCHED_AT_ONCE: Final = 1000
_TYPES: Final = frozenset(
    {"BIGINT", "BOOLEAN", "DATE", "DOUBLE", "FLOAT", "HUGEINT", "INTEGER", "SMALLINT", "TIMESTAMP", "TINYINT", "UBIGINT"}
)
_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "memory_limit": MEMORY_LIMIT,
    "temp_directory": "",
    "threads": "2",
    "lock_configuration": "true",
}


@contextmanager
def asking(path: Path, text: str, seconds: float = SECONDS) -> Iterator[Rows]:
    """Yield the rows of a question; they are read while they are asked for, within the time limit.

    Args:
        path: The index's file. This process must not have it open.
        text: One query.
        seconds: How long it may run.

    Raises:
        ConfigError: It is no query, or the database refuses it; also while the rows are read.
        TrailsealError: It ran too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"the SQL has more than {MAX_CHARACTERS} characters", key="sql", hint="Ask for less at a time.")
    if not is_unicode(text):
        raise ConfigError("the SQL is not valid Unicode", key="sql", hint="Write it in UTF-8.")
    if not path.exists():
        raise ConfigError("there is no index", file=str(path), hint="Make it with `trailseal index STORE`.")
    with _bounded_memory(), _translated(seconds), closing(duckdb.connect(str(path), read_only=True, config=_SETTINGS)) as connection:
        statement = _only_query(connection, text)
        timer = threading.Timer(seconds, _interrupt, (connection,))
        timer.daemon = True
        timer.start()
        try:
            connection.execute(statement)
            columns = tuple(Column(str(name), _type(kind)) for name, kind, *_ in connection.description or ())
            yield Rows(
                tuple(Column(name, one.type) for name, one in zip(unique(column.name for column in columns), columns, strict=True)),
                _fetch(connection),
            )
        finally:
            timer.cancel()


def _interrupt(connection: duckdb.DuckDBPyConnection) -> None:
    # It may have been closed at this very moment.
    with suppress(duckdb.Error):
        connection.interrupt()


def _only_query(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise ConfigError(f"{len(statements)} statements, not one", key="sql", hint="Ask one question at a time.")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise ConfigError("only queries are answered", key="sql", hint="Begin with SELECT, FROM, WITH, DESCRIBE or EXPLAIN.")
    return statements[0]


def _fetch(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := connection.fetchmany(_FETCHED_AT_ONCE):
        yield from rows


def _type(kind: object) -> str:
    """Return the type that a column keeps in a file: its own where JSON carries it there exactly, else text."""
    name = str(kind).upper()
    return name if name in _TYPES else "VARCHAR"


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Bound what the process may allocate: one function over one long text is not held to the database's own limit."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
        most = pages * resource.getpagesize() + _MORE_BYTES
        if before[0] != resource.RLIM_INFINITY:
            most = min(most, before[0])
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    except (OSError, ValueError):
        # Not on this system; the database's limit is there all the same.
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _translated(seconds: float) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        raise TrailsealError(
            f"the question was ended after {seconds:g} s", hint="Ask for less, or give it longer with --seconds."
        ) from error
    except (duckdb.Error, RuntimeError, ValueError, OverflowError, MemoryError) as error:
        what = str(error).partition("\n")[0][:500] or "out of memory"
        raise ConfigError(
            f"the database refuses it: {what}", key="sql", hint="docs/query.md lists the tables and what is allowed."
        ) from error
