"""Open an index to ask it.

Invariants: an index of another format is refused by name; nothing is written unless it was opened for that. This module must not
look at a store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb

from ...errors import ConfigError
from .tables import FORMAT, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME_CHARACTERS: Final = 16
_REMAKE: Final = "Make it anew with `trailseal index STORE`, or name another file with --index."


@dataclass(frozen=True, slots=True)
class IndexedTrail:
    """One trail of an index.

    Attributes:
        trail: Its number in the tables.
        origin: Its name.
        namespace: As in the origin.
        service: As in the origin.
        epoch: As in the origin.
        instance: As in the origin.
        key: The epoch's key (C2SP vkey); None if the first seal cannot be used.
        trusted_by: The key of the trust file that vouches for it; None if none does.
        size: Leaves up to the newest checkpoint to which everything was verified.
        root: The root there, 32 bytes; None if there is no such checkpoint.
        batches: How many batches were verified.
        head_batch: The batch of that checkpoint.
        head_sealed_at: When it was sealed, aware, UTC.
        head_reason: Why it was cut.
        heartbeat_seconds: How often a batch was promised there.
        continues_origin: The trail it says it continues.
        continues_why: And why.
    """

    trail: int
    origin: str
    namespace: str
    service: str
    epoch: str
    instance: str
    key: str | None
    trusted_by: str | None
    size: int
    root: bytes | None
    batches: int
    head_batch: int | None
    head_sealed_at: datetime | None
    head_reason: str | None
    heartbeat_seconds: float | None
    continues_origin: str | None
    continues_why: str | None


_TRAILS: Final = """SELECT trail, origin, namespace, service, epoch, instance, key, trusted_by, size, root,
    (SELECT count(*) FROM batches b WHERE b.trail = t.trail), head_batch, head_sealed_at, head_reason, heartbeat_seconds,
    continues_origin, continues_why FROM trails t ORDER BY origin"""


class Index:
    """Be an open index; a context manager.

    Attributes:
        path: Its file.
        store: The name of the store it is of.
        refreshed_at: When it was last brought up to date, aware, UTC.
        version: The version of the program that wrote it.
        connection: The database. It is for one thread; others take a `cursor`.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        """Take an open file.

        Raises:
            ConfigError: It is not an index of this format.
        """
        self.path = path
        self.connection = connection
        try:
            self._meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        except duckdb.Error as error:
            raise ConfigError("not an index", file=str(path), hint=_REMAKE) from error
        if self._meta.get("format") != FORMAT:
            raise ConfigError(f"an index of format {self._meta.get('format')}, not {FORMAT}", file=str(path), hint=_REMAKE)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def store(self) -> str:
        """The name of the store it is of."""
        return str(self._meta["store"])

    @property
    def refreshed_at(self) -> datetime:
        """When it was last brought up to date (aware, UTC)."""
        rows = self.cursor().execute("SELECT value FROM meta WHERE name = 'refreshed_at'").fetchall()
        return datetime.fromisoformat(rows[0][0])

    @property
    def version(self) -> str:
        """The version of the program that wrote it."""
        return str(self._meta["version"])

    def rows(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Return what a statement gives; from any thread."""
        return self.cursor().execute(sql, parameters or None).fetchall()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection to the same database for another thread, or for a statement of its own."""
        return self.connection.cursor()

    def trails(self) -> list[IndexedTrail]:
        """Return the trails, in the order of their origins."""
        found = []
        for row in self.rows(_TRAILS):
            values = list(row)
            values[8] = values[8] or 0
            values[12] = None if values[12] is None else values[12].replace(tzinfo=UTC)
            found.append(IndexedTrail(*values))
        return found

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def open_index(path: Path, *, writable: bool = False) -> Index:
    """Open an index.

    Args:
        path: Its file.
        writable: Whether it is to be brought up to date through this connection (`update`) while it is asked. No other process
            can open it then.

    Raises:
        ConfigError: There is none, it is of another format, or another process is writing it.
    """
    if not path.exists():
        raise ConfigError("there is no index", file=str(path), hint="Make it with `trailseal index STORE`.")
    connection = connect(path, read_only=not writable)
    try:
        return Index(path, connection)
    except ConfigError:
        connection.close()
        raise


def default_path(store_name: str) -> Path:
    """Return where the index of a store lies if nobody said: a file in the user's cache, named by the store's name."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return (
        Path(cache)
        / "trailseal"
        / "index"
        / f"{sha256(store_name.encode('utf-8', 'surrogateescape')).hexdigest()[:_NAME_CHARACTERS]}.duckdb"
    )
