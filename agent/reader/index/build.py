"""Bring an index up to date with its store, verifying on the way.

Invariants:
    - Only what was verified becomes a row: signed by the epoch's key, its data what its seal says. What was not is a finding.
    - One transaction puts in some batches and the place to go on from. Whoever dies between two of them loses nothing but time.
    - The place to go on from stands before the first batch that did not verify: from there on everything is looked at anew each time.
    - What the store has lost of what was indexed is found out at the next look, by its listings and the newest seal of each trail. Whether
      the rest still has the bytes it had, only reading it all tells: `verify` does, and each proof for its part.
    - The findings of a refresh take the place of the last one's in the transaction that ends it.
Memory holds one stretch of batches. This module must not print, and must not decide what an answer says.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import duckdb

from ... import __version__
from ...errors import ConfigError, NotVerifiedError, TransientError
from ..ahead import ReadAhead
from ..findings import Code, Finding, Severity
from ..links import Claim, Family, families, read_claims
from .judging import claims, judge
from .still_there import Unindexed, look
from .tables import BUILDING_MEMORY, FORMAT, REMAKE, connect, create, transaction
from .walking import Into, TrailWalk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from ...trail.layout import Origin
    from ..fetch import StoreReader
    from ..trustfile import TrustFile

_STAYS: Final = "What is in it stays. Make room and run this again: it goes on where it stood. If it fails again, remove the file."


@dataclass(slots=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        trails: Trails in the store.
        batches: Batches that became rows.
        records: Their records.
        findings: How many findings the index holds now, by severity.
    """

    trails: int = 0
    batches: int = 0
    records: int = 0
    findings: dict[Severity, int] = field(default_factory=dict)


def refresh(
    store: StoreReader,
    path: Path,
    *,
    trust: TrustFile,
    now: datetime,
    advance: Callable[[int], None] = lambda _: None,
    read_ahead: bool = False,
) -> Refreshed:
    """Make an index, or bring it up to date; see `update`.

    Args:
        store: The store.
        path: The index's file; made with its folder if it is not there, readable by its owner only.
        trust: Whom to believe; judged anew each time.
        now: The clock, aware, UTC.
        advance: Called with the number of bytes read, now and then.
        read_ahead: Whether the store answers late (a bucket), so that it is worth asking it ahead, with threads.

    Raises:
        ConfigError: The file is no index of this store, or another process has it open.
        NotVerifiedError: The store cannot be listed.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The database makes its log anew now and then: nobody else may read that either, not even for a moment.
    mask = os.umask(0o077)
    try:
        with closing(connect(path, read_only=False, memory=BUILDING_MEMORY)) as connection:
            return update(connection, store, path, trust=trust, now=now, advance=advance, read_ahead=read_ahead)
    finally:
        os.umask(mask)


def update(
    connection: duckdb.DuckDBPyConnection,
    store: StoreReader,
    path: Path,
    *,
    trust: TrustFile,
    now: datetime,
    advance: Callable[[int], None] = lambda _: None,
    read_ahead: bool = False,
) -> Refreshed:
    """Bring an index up to date through an open connection, which others may read from meanwhile by cursors of their own.

    Args:
        connection: To the index; its tables are made if there are none.
        store: The store.
        path: The index's file. What is being taken in lies beside it meanwhile, readable by its owner only.
        trust: Whom to believe.
        now: The clock, aware, UTC.
        advance: Called with the number of bytes read, now and then.
        read_ahead: See `refresh`.

    Raises:
        ConfigError: It is no index of this store.
        NotVerifiedError: The store cannot be listed.
        TransientError: The disk is full, or there is too little memory.
    """
    try:
        _prepare(connection, store.name, now, path)
        with _folder_beside(path) as folder:
            build = _Build(store, trust, Into(connection, folder, now, advance, Unindexed(store), {}))
            build.run(read_ahead=read_ahead)
    except (duckdb.Error, OSError) as error:
        message = f"the index cannot be written: {str(error).partition(chr(10))[0]}"
        raise TransientError(message, hint=_STAYS) from error
    return build.result


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Make a folder for what is being taken in, without what one that died left there: the index is open for one writer only."""
    folder = path.with_name(f"{path.name}.loading")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(connection: duckdb.DuckDBPyConnection, store: str, now: datetime, path: Path) -> None:
    try:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        found = dict(connection.execute("SELECT name, value FROM meta").fetchall()) if "meta" in tables else {}
    except duckdb.Error as error:
        raise ConfigError(f"the index is damaged: {str(error).partition(chr(10))[0]}", file=str(path), hint=REMAKE) from error
    if not tables:
        with transaction(connection):
            create(connection)
            rows = [("format", FORMAT), ("store", store), ("created_at", now.isoformat()), ("version", __version__)]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        return
    if found.get("format") != FORMAT:
        raise ConfigError("not an index of this version of the program", file=str(path), hint=REMAKE)
    if found.get("store") != store:
        hint = "Name another file with --index, or remove this one."
        raise ConfigError(f"this is an index of {found.get('store')}, not of {store}", file=str(path), hint=hint)


class _Build:
    """One refresh."""

    def __init__(self, store: StoreReader, trust: TrustFile, into: Into) -> None:
        self.store, self.trust, self.into = store, trust, into
        self.connection, self.now = into.connection, into.now
        self.result = Refreshed()

    def run(self, *, read_ahead: bool) -> None:
        newest = self.connection.execute("SELECT coalesce(max(rowid), -1) FROM findings").fetchall()[0][0]
        origins, unlisted = self._origins()
        self.result.trails = len(origins)
        rest = self.into.still_there
        with ReadAhead(rest) if read_ahead else nullcontext(rest) as reader:
            self._walk(reader, origins)
        others = look(self.connection, self.store, self.into.folder, self.now)
        if unlisted is not None:
            others.append(Finding(code=Code.OBJECT_UNREADABLE, message=unlisted.message))
        # What was found before is there until this moment, for those who ask meanwhile, and for good if this process dies.
        with transaction(self.connection):
            self._forget_findings(newest)
            judge(self.connection, self.trust, None if unlisted else [str(origin) for origin in origins], others, self.now)
            facts = [self.now.isoformat(), __version__]
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('refreshed_at', ?), ('version', ?)", facts)
        if unlisted is not None:
            raise unlisted
        counts = self.connection.execute("SELECT severity, count(*) FROM findings GROUP BY severity").fetchall()
        self.result.findings = {Severity[name.upper()]: count for name, count in counts}

    def _forget_findings(self, newest: int) -> None:
        """Take out what this refresh supersedes, of the findings up to a row."""
        self.connection.execute("DELETE FROM findings WHERE rowid <= ? AND NOT lasting", [newest])
        found = "DELETE FROM findings WHERE rowid <= ? AND origin = ? AND (batch >= ? OR batch IS NULL)"
        known = {origin for (origin,) in self.connection.execute("SELECT DISTINCT origin FROM findings").fetchall()}
        for origin, batch in self.into.redone.items():
            if origin in known:
                self.connection.execute(found, [newest, origin, batch])

    def _walk(self, reader: StoreReader, origins: list[Origin]) -> None:
        numbers = self._numbers(origins)
        said = self._claims(origins)
        for members in families(origins, said):
            for origin in Family(members, said).order:
                trusted = self.trust.keys_for(str(origin))
                trail = TrailWalk(self.into, reader, origin, numbers[str(origin)], trusted, said.get(str(origin)))
                trail.walk()
                self.result.batches += trail.batches
                self.result.records += trail.records

    def _origins(self) -> tuple[list[Origin], NotVerifiedError | None]:
        """Return the trails; and the error, if some could not be listed: what was found by then is indexed all the same."""
        origins: list[Origin] = []
        try:
            # One by one, because a listing that fails does so at its end.
            for origin in self.store.origins():
                origins.append(origin)  # noqa: PERF402 -- a comprehension would lose what came before an error
        except NotVerifiedError as error:
            return origins, error
        return origins, None

    def _numbers(self, origins: list[Origin]) -> dict[str, int]:
        known: dict[str, int] = dict(self.connection.execute("SELECT origin, trail FROM trails").fetchall())
        for origin in origins:
            if str(origin) not in known:
                known[str(origin)] = number = len(known)
                parts = (origin.namespace, origin.service, origin.epoch, origin.instance)
                self.connection.execute(
                    "INSERT INTO trails(trail, origin, namespace, service, epoch, instance) VALUES (?, ?, ?, ?, ?, ?)",
                    [number, str(origin), *parts],
                )
        return known

    def _claims(self, origins: list[Origin]) -> dict[str, Claim]:
        known = claims(self.connection)
        opened = {origin for (origin,) in self.connection.execute("SELECT origin FROM trails WHERE opening IS NOT NULL").fetchall()}
        return known | read_claims(self.store, [origin for origin in origins if str(origin) not in opened])
