"""What only shows when all trails are indexed: who vouches for them, how they follow each other, which are gone.

Invariants: judged anew at every refresh, and by what is in the index alone. This module must not read a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FormatError, ProofError
from ...trail.layout import Origin
from ...trail.manifest import Continues, ContinuesWhy
from ...trail.merkle import EMPTY_ROOT
from ...trail.note import VerifierKey, open_note
from ...trail.seal import parse_seal
from ..findings import Code, Finding
from ..links import Claim, Family, Walk, families
from .noting import Collected, write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime

    import duckdb

    from ..trustfile import TrustFile


def judge(
    connection: duckdb.DuckDBPyConnection, trust: TrustFile, listed: Collection[str] | None, others: Iterable[Finding], now: datetime
) -> None:
    """Write who vouches for each trail, and the findings that are about more than one batch.

    Args:
        connection: To the index, in the transaction that ends a refresh.
        trust: Whom to believe.
        listed: The origins that the store lists; None if the listing broke off.
        others: Findings that are to be written, too, and judged anew at the next refresh.
        now: The clock, aware, UTC.
    """
    gone = () if listed is None else _gone(connection, listed)
    found = [*_vouched(connection, trust), *gone, *_links(connection), *others]
    write(connection, found, now, lasting=False)


def claims(connection: duckdb.DuckDBPyConnection) -> dict[str, Claim]:
    """Return what the trails say about their predecessors, by origin, as far as their first seals are indexed."""
    sql = "SELECT origin, continues_origin, continues_size, continues_root, continues_why FROM trails WHERE continues_origin IS NOT NULL"
    return {
        origin: Claim(Origin.parse(origin), Continues(older, size, root, ContinuesWhy(why)))
        for origin, older, size, root, why in connection.execute(sql).fetchall()
    }


def _vouched(connection: duckdb.DuckDBPyConnection, trust: TrustFile) -> Iterator[Finding]:
    rows = connection.execute("SELECT trail, origin, opening, trusted_by FROM trails ORDER BY trail").fetchall()
    for trail, origin, opening, before in rows:
        trusted = None if opening is None else trusted_by(opening, trust.keys_for(origin))
        now = None if trusted is None else str(trusted)
        if now != before:
            connection.execute("UPDATE trails SET trusted_by = ? WHERE trail = ?", [now, trail])
        if trusted is None:
            what = (
                "the first seal cannot be used, so nothing binds a key to this trail" if opening is None else "nothing vouches for its key"
            )
            yield Finding(code=Code.KEY_UNKNOWN, message=what, origin=origin)


def trusted_by(opening: bytes, keys: tuple[VerifierKey, ...]) -> VerifierKey | None:
    """Return the key of the trust file that signed a trail's first checkpoint."""
    try:
        _, verified = open_note(parse_seal(opening).proof.note, keys)
    except (FormatError, ProofError):
        return None
    return next((key for key in keys if key in verified), None)


def _gone(connection: duckdb.DuckDBPyConnection, listed: Collection[str]) -> Iterator[Finding]:
    if not listed:
        yield Finding(code=Code.STORE_EMPTY, message="no trail was found")
    for (origin,) in connection.execute("SELECT origin FROM trails ORDER BY origin").fetchall():
        if origin not in listed:
            yield Finding(
                code=Code.VERSION_GONE, message="the trail was in the store when it was indexed, and is not any more", origin=origin
            )


def _links(connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Judge how the trails follow each other, by what the tables hold of them."""
    rows = connection.execute(
        """SELECT origin, trail, opening IS NOT NULL, coalesce(max(b.size), 0), max(b.batch)
            FROM trails t LEFT JOIN batches b USING (trail) GROUP BY ALL"""
    ).fetchall()
    known = {origin: tuple(others) for origin, *others in rows}
    said = claims(connection)
    log = Collected()
    for members in families(map(Origin.parse, known), said):
        family = Family(members, said)
        walks = {}
        for origin in members:
            trail, opened, size, batch = known[str(origin)]
            link = said[str(origin)].link if str(origin) in said else None
            walks[str(origin)] = Walk(origin, size, batch, opened, link, _roots(connection, trail, family.wanted_sizes(origin)))
        family.check(walks, known, log)
    yield from log.new


def _roots(connection: duckdb.DuckDBPyConnection, trail: int, sizes: Collection[int]) -> dict[int, str]:
    roots = {0: EMPTY_ROOT.hex()}
    for size in sizes:
        found = connection.execute("SELECT root FROM batches WHERE trail = ? AND size = ?", [trail, size]).fetchall()
        if found:
            roots[size] = found[0][0]
    return roots
