"""What a grant allows, enforced in one place: an index in which nothing else exists.

For each request a connection of its own is made, in which every table of the index is covered by a temporary view of the same name that
holds what is in scope. Whatever a page, a report or a pack asks by whatever parameters, it asks these views: there is no second place
that could forget the scope. (The questions in `ask/` are given the scope as well, and add their own condition.)

The scope's services bound every table. Its times bound the tables that hold what services wrote: events, quarantine and gaps. Batches and
trails, which proofs and statements of completeness are made of, are bounded in time by those who ask, as `ask/scoped.py` does.

Invariants: a table that is not named here cannot be asked; the connection only reads, in one transaction, so a page is of one moment;
a text that was found by verification and names a trail out of scope is withheld. This module must not know HTTP, and must not put any
text of a caller or of a store into SQL.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import duckdb

from ...errors import ConfigError
from ..ask.filters import plain
from ..index import Index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ..ask.filters import Condition, Scope

WITHHELD: Final = "not shown: it names something that is not in your scope"
_TABLES: Final = frozenset({"meta", "trails", "batches", "sources", "event_rows", "quarantine", "gaps", "nodes", "findings", "events"})
_OF_A_TRAIL: Final = {
    "batches": None,
    "sources": None,
    "event_rows": "occurred_at",
    "quarantine": "observed_at",
    "gaps": "observed_at",
    "nodes": None,
    "events": "occurred_at",
}
"""What belongs to one trail by its number, and the column that a range of times bounds."""


class Sight(Index):
    """An index, as far as a scope reaches; for one request and one thread at a time."""

    def __init__(self, index: Index, scope: Scope, *, everything: bool = False) -> None:
        """Cover the tables.

        Args:
            index: The whole index.
            scope: What may be seen.
            everything: Whether what concerns no single service may be seen, too; only where the scope names all services.

        Raises:
            ConfigError: The index holds a table that this module does not know.
        """
        self._whole = index
        self.scope = scope
        self.everything = everything
        self._stopped = False
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        super().__init__(index.path, self.cursor())

    def rows(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Return what a statement gives, in this request's one transaction."""
        if self._stopped:
            raise duckdb.InterruptException("stopped")
        return self.connection.execute(sql, parameters or None).fetchall()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return another connection that sees the same and no more."""
        if self._stopped:
            raise duckdb.InterruptException("stopped")
        made = self._whole.connection.cursor()
        self._cursors.append(made)
        _cover(made, self.scope, everything=self.everything)
        made.execute("BEGIN TRANSACTION READ ONLY")
        return made

    def narrow(self, condition: Condition) -> None:
        """Leave only the events for which a condition holds, so that a costly one is evaluated once for a whole page.

        Args:
            condition: Over the view `events`.
        """
        self.rows("CREATE TEMP TABLE narrowed(trail INTEGER, seq BIGINT)")
        self.rows(f"INSERT INTO narrowed SELECT trail, seq FROM events WHERE {condition.sql}", condition.parameters)  # noqa: S608 -- from `where`
        real = _real(self.connection)
        # What was put into the table was in scope.
        self.rows(f"CREATE OR REPLACE TEMP VIEW events AS SELECT e.* FROM {real}.events e SEMI JOIN temp.main.narrowed USING (trail, seq)")  # noqa: S608 -- the database's own name

    def interrupt(self) -> None:
        """Stop what is being asked; from any thread."""
        self._stopped = True
        for cursor in list(self._cursors):
            # One that was closed meanwhile has nothing to be interrupted.
            with contextlib.suppress(duckdb.ConnectionException):
                cursor.interrupt()

    def close(self) -> None:
        """Give the connections back; the index stays open."""
        for cursor in self._cursors:
            cursor.close()


def _real(cursor: duckdb.DuckDBPyConnection) -> str:
    """Return the prefix that names the index's own tables, which the temporary ones cover."""
    catalog = cursor.execute("SELECT current_database()").fetchall()[0][0]
    return f'"{catalog.replace(chr(34), chr(34) * 2)}".main'


def _cover(cursor: duckdb.DuckDBPyConnection, scope: Scope, *, everything: bool) -> None:
    """Make the temporary views and tables that stand before those of the index."""
    real = _real(cursor)
    names = {name for (name,) in cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'").fetchall()}
    if names - _TABLES:
        # A table that nobody thought about here would be seen by everybody.
        raise ConfigError("the index holds tables that this version of the page does not know", hint="Make the index anew.")
    trails = cursor.execute(f"SELECT trail, namespace, service, origin FROM {real}.trails").fetchall()  # noqa: S608 -- the database's own name
    seen = [(trail, origin) for trail, namespace, service, origin in trails if everything or scope.allows(namespace, service)]
    numbers = "TRUE" if everything else f"trail IN ({', '.join(str(int(trail)) for trail, _ in seen) or 'NULL'})"
    hidden = {f"{namespace}/{service}/" for _, namespace, service, _ in trails if not everything and not scope.allows(namespace, service)}

    def view(name: str, condition: str, columns: str = "*") -> None:
        cursor.execute(f"CREATE TEMP VIEW {name} AS SELECT {columns} FROM {real}.{name} WHERE {condition}")  # noqa: S608 -- see the invariants

    _findings(cursor, real, scope, hidden, everything=everything)
    view("meta", "TRUE")
    view("trails", numbers, "*" if everything else _CONTINUES)
    for name, time in _OF_A_TRAIL.items():
        view(name, f"{numbers}{_range(time, scope)}")


_CONTINUES: Final = (
    "* REPLACE (CASE WHEN starts_with(continues_origin, namespace || '/' || service || '/') THEN continues_origin END AS continues_origin)"
)
"""A trail continues one of its own instance; another name in that place is some other service's."""


_NAMES_ANOTHER: Final = "EXISTS (SELECT 1 FROM temp.main.names_withheld n WHERE contains({}, n.name))"


def _findings(cursor: duckdb.DuckDBPyConnection, real: str, scope: Scope, hidden: set[str], *, everything: bool) -> None:
    """Cover the findings: those of what is in scope, without the texts that name anything else."""
    if everything:
        cursor.execute(f"CREATE TEMP VIEW findings AS SELECT * FROM {real}.findings")  # noqa: S608 -- the database's own name
        return
    origins = [row[0] for row in cursor.execute(f"SELECT DISTINCT origin FROM {real}.findings WHERE origin IS NOT NULL").fetchall()]  # noqa: S608 -- as above
    seen = [origin for origin in origins if _origin_allowed(scope, origin)]
    hidden |= {"/".join(origin.split("/")[:2]) + "/" for origin in origins if origin not in set(seen)}
    cursor.execute("CREATE TEMP TABLE findings_in_scope(origin VARCHAR)")
    cursor.execute("CREATE TEMP TABLE names_withheld(name VARCHAR)")
    if seen:
        cursor.executemany("INSERT INTO findings_in_scope VALUES (?)", [(origin,) for origin in seen])
    if hidden:
        cursor.executemany("INSERT INTO names_withheld VALUES (?)", [(name,) for name in sorted(hidden)])
    withheld = ", ".join(
        f"CASE WHEN {_NAMES_ANOTHER.format(column)} THEN {text} ELSE {column} END AS {column}"
        for column, text in (("message", f"'{WITHHELD}'"), ("key", "NULL"))
    )
    cursor.execute(
        f"CREATE TEMP VIEW findings AS SELECT * REPLACE ({withheld}) FROM {real}.findings "  # noqa: S608 -- as above
        "WHERE origin IN (SELECT origin FROM temp.main.findings_in_scope)"
    )


def _origin_allowed(scope: Scope, origin: str) -> bool:
    """Tell whether a name that verification met, which may be any text, is that of a trail in scope."""
    parts = origin.split("/")
    return len(parts) >= 2 and scope.allows(parts[0], parts[1])


def _range(column: str | None, scope: Scope) -> str:
    """Return the condition that a scope's times put on a column, to be added to another one."""
    if column is None:
        return ""
    since = "" if scope.since is None else f" AND {column} >= {_literal(scope.since)}"
    until = "" if scope.until is None else f" AND {column} < {_literal(scope.until)}"
    return since + until


def _literal(time: datetime) -> str:
    """Return a time as SQL; made of numbers only."""
    return f"TIMESTAMP '{plain(time).isoformat(sep=' ')}'"
