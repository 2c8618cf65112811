"""The tables of an index, and the connection to its file.

Invariants: times are UTC without a zone, in microseconds; a table only holds what was verified, `findings` says what was not;
a connection may use a bounded part of the memory, and nothing outside the file but what it was given. This module must not
look at a store.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import duckdb
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from ...errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT: Final = "2"
ASKING_MEMORY: Final = "512MiB"
BUILDING_MEMORY: Final = "128MiB"
"""Enough for a stretch of batches; whoever loads longer lines than usual raises it."""
THREADS: Final = 2
REMAKE: Final = "Remove the file; it can be made anew from the store."
PATIENCE_SECONDS: Final = 5.0
"""How long to wait for another process that has the file open."""

_TABLES: Final = (
    "CREATE TABLE meta(name VARCHAR PRIMARY KEY, value VARCHAR)",
    """CREATE TABLE trails(
        trail INTEGER PRIMARY KEY, origin VARCHAR UNIQUE, namespace VARCHAR, service VARCHAR, epoch VARCHAR, instance VARCHAR,
        key VARCHAR, trusted_by VARCHAR, opening BLOB,
        continues_origin VARCHAR, continues_size BIGINT, continues_root VARCHAR, continues_why VARCHAR,
        size BIGINT, root BLOB, head_batch BIGINT, head_sealed_at TIMESTAMP, head_reason VARCHAR, head_seal BLOB,
        heartbeat_seconds DOUBLE, state BLOB)""",
    """CREATE TABLE batches(
        trail INTEGER, batch BIGINT, first_seq BIGINT, records BIGINT, events BIGINT, quarantined BIGINT, gaps BIGINT,
        size BIGINT, root VARCHAR, reason VARCHAR, sealed_at TIMESTAMP, monotonic_ns BIGINT, boot_id VARCHAR, unclean BOOLEAN,
        data_key VARCHAR, data_bytes BIGINT,
        occurred_min TIMESTAMP, occurred_max TIMESTAMP, observed_min TIMESTAMP, observed_max TIMESTAMP,
        lines BIGINT, audit BIGINT, observability BIGINT, bytes_lost BIGINT, spool_records BIGINT, spool_oldest_seconds DOUBLE,
        clock_synchronized BOOLEAN, clock_offset_seconds DOUBLE, clock_max_error_seconds DOUBLE, heartbeat_seconds DOUBLE,
        agent_version VARCHAR, host VARCHAR, place VARCHAR, config_sha256 VARCHAR, seal_sha256 VARCHAR, chained BOOLEAN)""",
    """CREATE TABLE sources(
        trail INTEGER, batch BIGINT, id VARCHAR, kind VARCHAR, path VARCHAR, file_id VARCHAR, from_offset BIGINT, to_offset BIGINT,
        lines BIGINT, audit BIGINT, observability BIGINT, quarantined BIGINT)""",
    """CREATE TABLE event_rows(
        trail INTEGER, seq BIGINT, batch BIGINT, occurred_at TIMESTAMP, observed_at TIMESTAMP, event_id VARCHAR,
        actor_type VARCHAR, actor_id VARCHAR, actor_session VARCHAR, action VARCHAR, target_type VARCHAR, target_id VARCHAR,
        outcome VARCHAR, context VARCHAR, source VARCHAR, host VARCHAR, container VARCHAR, mapping VARCHAR, client VARCHAR[],
        redacted VARCHAR[])""",
    """CREATE TABLE quarantine(
        trail INTEGER, seq BIGINT, batch BIGINT, observed_at TIMESTAMP, source VARCHAR, reason VARCHAR, detail VARCHAR,
        raw VARCHAR, length BIGINT)""",
    """CREATE TABLE gaps(
        trail INTEGER, seq BIGINT, batch BIGINT, observed_at TIMESTAMP, source VARCHAR, cause VARCHAR, certainty VARCHAR,
        from_offset BIGINT, to_offset BIGINT, detail VARCHAR, file_id VARCHAR, path VARCHAR)""",
    "CREATE TABLE nodes(trail INTEGER, level UTINYINT, position BIGINT, hash BLOB)",
    """CREATE TABLE findings(
        origin VARCHAR, batch BIGINT, key VARCHAR, code VARCHAR, severity VARCHAR, message VARCHAR, first_seq BIGINT, last_seq BIGINT,
        found_at TIMESTAMP, lasting BOOLEAN)""",
    """CREATE VIEW events AS SELECT t.origin, t.namespace, t.service, t.epoch, t.instance, t.trusted_by IS NOT NULL AS trusted, e.*
        FROM event_rows e JOIN trails t USING (trail)""",
)


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables in an empty database."""
    for table in _TABLES:
        connection.execute(table)


def connect(path: Path, *, read_only: bool, memory: str = ASKING_MEMORY) -> duckdb.DuckDBPyConnection:
    """Open an index's file.

    Args:
        path: The file; made if it is not there and may be written.
        read_only: Whether it may not be written, and others may read it meanwhile.
        memory: How much the database may use, beside what it needs to work at all.

    Raises:
        ConfigError: It cannot be opened, or is no database.
    """
    if "?" in str(path):
        raise ConfigError("the database takes what follows a question mark for options", file=str(path), hint="Choose another name.")
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "threads": str(THREADS),
        "autoinstall_known_extensions": "false",
        "allow_community_extensions": "false",
    }
    # Another command that brings it up to date is mostly done in a moment.
    patient = Retrying(retry=retry_if_exception(_is_busy), stop=stop_after_delay(PATIENCE_SECONDS), wait=wait_fixed(0.25), reraise=True)
    try:
        return patient(duckdb.connect, str(path), read_only=read_only, config=settings)
    except duckdb.IOException as error:
        busy = "Another process is writing it: wait until it is done, or name another file with --index."
        hint = busy if _is_busy(error) else REMAKE if path.is_file() else "Check the path."
        raise ConfigError(f"cannot open the index: {_first_line(error)}", file=str(path), hint=hint) from error
    except duckdb.Error as error:
        raise ConfigError(f"not an index of this program: {_first_line(error)}", file=str(path), hint=REMAKE) from error


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, duckdb.IOException) and "could not set lock on file" in str(error).lower()


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, or undo everything if there is an error."""
    connection.begin()
    try:
        yield
    except BaseException:
        # Where the database itself has failed there is nothing left to undo, and the first error is the one to tell.
        with suppress(duckdb.Error):
            connection.rollback()
        raise
    connection.commit()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
