"""Whether a store still has what was indexed, as far as its listings tell.

Invariants: a listing tells names and sizes, never contents; what it tells is a finding, and no row is taken out for it: the row was
verified, only the store cannot prove it any more. Memory is flat. This module must not read objects.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from ...errors import NotVerifiedError
from ...trail.manifest import ContinuesWhy
from ..fetch import RECORDS
from ..findings import Code, Finding
from ..leftovers import IN_FLIGHT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    import duckdb

    from ...trail.layout import Origin
    from ..fetch import ObjectInfo, StoreReader

_IN_FLIGHT: Final = timedelta(seconds=IN_FLIGHT_SECONDS)
_MOST: Final = 1000
_COLUMNS: Final = "{key: 'VARCHAR', size: 'BIGINT', modified: 'DOUBLE'}"
_LISTED: Final = "CREATE OR REPLACE TEMP TABLE listed_objects(key VARCHAR, size BIGINT, modified DOUBLE)"
_TAKE: Final = "INSERT INTO listed_objects SELECT * FROM read_json($file, format='newline_delimited', columns={columns})"
_CHANGED: Final = """SELECT t.origin, b.batch, b.data_key, b.data_bytes, l.size
    FROM batches b JOIN trails t USING (trail) LEFT JOIN listed_objects l ON l.key = b.data_key
    WHERE b.data_key IS NOT NULL AND (l.key IS NULL OR l.size <> b.data_bytes) ORDER BY t.origin, b.batch LIMIT $most"""
_UNSEALED: Final = r"""WITH beyond AS (
        SELECT key, modified, regexp_extract(key, '^records/namespace=([^/]+)/', 1) AS namespace,
            regexp_extract(key, '/service=([^/]+)/', 1) AS service, regexp_extract(key, '/([0-9a-z]{26})-[0-9]{20}-', 1) AS epoch,
            try_cast(regexp_extract(key, '-([0-9]{20})-', 1) AS BIGINT) AS first_seq
        FROM listed_objects WHERE key NOT IN (SELECT data_key FROM batches WHERE data_key IS NOT NULL))
    SELECT t.origin, beyond.key FROM beyond JOIN trails t USING (namespace, service, epoch)
    WHERE beyond.first_seq >= t.size AND beyond.modified < $before
        AND NOT EXISTS (SELECT 1 FROM findings f WHERE f.origin = t.origin AND f.severity IN ('tampered', 'unverified') AND f.batch >= 0)
        AND NOT EXISTS (SELECT 1 FROM trails c WHERE c.continues_origin = t.origin AND c.continues_why = $fork)
    ORDER BY beyond.key LIMIT $most"""


class Unindexed:
    """A store of which only the seals are listed that are not indexed yet; those that are, are counted.

    Attributes:
        first: The first batch of each trail, by origin, that is not indexed; whoever walks a trail sets it.
        missing: Of the batches before that, by origin, how many are not listed, and the first of those.
    """

    def __init__(self, store: StoreReader) -> None:
        """List another store."""
        self.name = store.name
        self.first: dict[str, int] = {}
        self.missing: dict[str, tuple[int, int]] = {}
        self._store = store

    def origins(self) -> Iterator[Origin]:
        """Yield the trails; see `StoreReader`."""
        return self._store.origins()

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects; see `StoreReader`."""
        return self._store.objects(prefix)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`."""
        return self._store.read(key, limit_bytes)

    def seals(self, origin: Origin) -> Iterator[int]:
        """Yield the numbers of the batches that are not indexed, ascending; see `StoreReader`."""
        first = self.first.get(str(origin), 0)
        count, hole = 0, None
        for number in self._store.seals(origin):
            if number >= first:
                yield number
                continue
            if hole is None and number > count:
                hole = count
            count += 1
        # Only here, because a listing that was broken off says nothing of what is missing.
        if count < first:
            self.missing[str(origin)] = (first - count, count if hole is None else hole)


def look(connection: duckdb.DuckDBPyConnection, store: StoreReader, folder: Path, now: datetime) -> list[Finding]:
    """List the data objects, and return what is missing, of another size, or beyond a trail's end without a seal.

    Args:
        connection: To the index; everything new is in it.
        store: The store.
        folder: For a file that lives as long as this call.
        now: The clock, aware, UTC.
    """
    path = folder / "objects"
    encode = msgspec.json.Encoder().encode
    try:
        with path.open("wb") as file:
            for info in store.objects(RECORDS):
                file.write(encode({"key": info.key, "size": info.size, "modified": info.modified}) + b"\n")
    except NotVerifiedError as error:
        return [Finding(code=Code.OBJECT_UNREADABLE, message=error.message)]
    connection.execute(_LISTED)
    try:
        if path.stat().st_size:
            connection.execute(_TAKE.format(columns=_COLUMNS), {"file": str(path)})
        changed = connection.execute(_CHANGED, {"most": _MOST}).fetchall()
        before = (now - _IN_FLIGHT).timestamp()
        unsealed = connection.execute(_UNSEALED, {"before": before, "fork": ContinuesWhy.FORK.value, "most": _MOST}).fetchall()
    finally:
        connection.execute("DROP TABLE listed_objects")
    return [*map(_changed, changed), *map(_unsealed, unsealed)]


def _changed(row: tuple[str, int, str, int, int | None]) -> Finding:
    origin, batch, key, sealed, size = row
    if size is None:
        message = "the data object was there when it was indexed, and is not any more"
        return Finding(code=Code.DATA_MISSING, message=message, origin=origin, batch=batch, key=key)
    message = f"the data object has {size} bytes where {sealed} were sealed"
    return Finding(code=Code.DATA_ALTERED, message=message, origin=origin, batch=batch, key=key)


def _unsealed(row: tuple[str, str]) -> Finding:
    origin, key = row
    message = "the data object lies beyond the trail's end, and no seal names it"
    return Finding(code=Code.DATA_UNSEALED, message=message, origin=origin, key=key)
