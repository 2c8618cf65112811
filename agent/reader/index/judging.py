"""What only shows when all trails are indexed: who vouches for them, how they follow each other, which are gone.

Invariants: judged anew at every refresh, and by what is in the index alone. This module must not read a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FormatError, ProofError
from ...trail.layout import Origin
from ...trail.manifest import Continues
from ...trail.merkle import EMPTY_ROOT
from ...trail.note import VerifierKey, open_note
from ...trail.seal import parse_seal
from ..findings import Code, Finding, FindingLog
from ..links import Claim, Family, Walk, families

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
    rows = [
        (
            one.origin,
            one.batch,
            one.key,
            one.code.value,
            one.severity.name.lower(),
            one.message,
            None,
            None,
            now.replace(tzinfo=None),
            False,
        )
        for one in found
    ]
    if rows:
        connection.executemany("INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _vouched(connection: duckdb.DuckDBPyConnection, trust: TrustFile) -> Iterator[Finding]:
    for trail, origin, opening in connection.execute("SELECT trail, origin, opening FROM trails ORDER BY trail").fetchall():
        trusted = None if opening is None else trusted_by(opening, trust.keys_for(origin))
        connection.execute("UPDATE trails SET trusted_by = ? WHERE trail = ?", [None if trusted is None else str(trusted), trail])
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
        """SELECT origin, trail, opening, (SELECT max(size) FROM batches b WHERE b.trail = t.trail),
            (SELECT max(batch) FROM batches b WHERE b.trail = t.trail) FROM trails t ORDER BY origin"""
    ).fetchall()
    origins = {name: Origin.parse(name) for name, *_ in rows}
    openings = {name: parse_seal(opening).manifest.continues for name, _, opening, *_ in rows if opening is not None}
    claims = {name: Claim(origins[name], link) for name, link in openings.items() if isinstance(link, Continues)}
    log = FindingLog()
    for members in families(origins.values(), claims):
        family = Family(members, claims)
        walks = {}
        for name, trail, _, size, batch in rows:
            if origins[name] in members:
                link = claims[name].link if name in claims else None
                roots = _roots(connection, trail, family.wanted_sizes(origins[name]))
                walks[name] = Walk(origins[name], size or 0, batch, name in openings, link, roots)
        family.check(walks, origins, log)
    yield from log.kept


def _roots(connection: duckdb.DuckDBPyConnection, trail: int, sizes: Collection[int]) -> dict[int, str]:
    roots = {0: EMPTY_ROOT.hex()}
    for size in sizes:
        found = connection.execute("SELECT root FROM batches WHERE trail = ? AND size = ?", [trail, size]).fetchall()
        if found:
            roots[size] = found[0][0]
    return roots
