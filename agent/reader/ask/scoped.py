"""What else an index holds, within a scope: trails, batches, quarantine, gaps and findings.

A batch belongs to a range if the time between the seal before it and its own touches the range, or if an event in it occurred in
the range. Records that are no events are in the range by the time at which the agent observed them. A finding is in the range if it
is about the whole trail, or if the verified batches around it do not put it outside.

Invariants: every function takes the scope and returns nothing beyond it; under a scope that names services, text that may name
another trail is replaced by what its code means, and names of other trails are left out. This module must not write.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...errors import FormatError
from ...trail.layout import Origin, parse_data_key, parse_seal_key
from ..findings import EXPLANATIONS, Code, Severity
from .filters import ALL, Condition, plain, service_matches, services_where, within
from .found import with_moments
from .stated import Loss

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..index import Index, IndexedTrail
    from .filters import Scope

MAX_ROWS: Final = 1000

CHOSEN: Final = "chosen AS (SELECT t.* FROM trails t WHERE {services})"
WINDOWS: Final = """windows AS (
    SELECT b.*, c.origin, lag(b.batch) OVER w AS previous_batch, lag(b.sealed_at) OVER w AS previous_at,
        lag(b.reason) OVER w AS previous_reason, lag(b.monotonic_ns) OVER w AS previous_ns, lag(b.boot_id) OVER w AS previous_boot,
        lag(b.heartbeat_seconds) OVER w AS promised
    FROM batches b JOIN chosen c USING (trail) WINDOW w AS (PARTITION BY b.trail ORDER BY b.batch))"""
COVERED: Final = """covered AS (
    SELECT *,
        coalesce(sealed_at >= $since::TIMESTAMP, TRUE) AND (previous_batch IS NULL AND batch > 0
            OR coalesce(coalesce(previous_at, sealed_at) < $until::TIMESTAMP, TRUE)) AS sealed_within,
        coalesce(occurred_max >= coalesce($since::TIMESTAMP, occurred_max)
            AND occurred_min < coalesce($until::TIMESTAMP, TIMESTAMP 'infinity'), FALSE) AS holds
    FROM windows WHERE sealed_within OR holds)"""
"""Parts of a WITH clause: the trails asked for, their batches beside the one before each, and those that cover `$since` to `$until`."""

LOSS_COLUMNS: Final = "origin, seq, observed_at, source, cause, certainty, from_offset, to_offset, detail"
_NEIGHBOURS: Final = """SELECT f.origin, f.batch, f.key, f.code, f.severity, f.message, coalesce(n.batch = f.batch, FALSE)
    FROM (SELECT f.*, t.trail, split_part(f.origin, '/', 1) AS namespace, split_part(f.origin, '/', 2) AS service
        FROM findings f LEFT JOIN trails t USING (origin)) f
    ASOF LEFT JOIN batches p ON f.trail = p.trail AND f.batch > p.batch
    ASOF LEFT JOIN batches n ON f.trail = n.trail AND f.batch <= n.batch
    WHERE (f.origin IS NULL OR {services}) AND coalesce(n.sealed_at >= $since::TIMESTAMP, TRUE)
        AND coalesce(p.sealed_at < $until::TIMESTAMP, TRUE)
    ORDER BY f.found_at, f.origin, f.batch, f.code, f.message"""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that is no valid event; kept, with the reason.

    Attributes:
        origin: The trail.
        seq: Its leaf.
        batch: The batch that sealed it.
        observed_at: When the agent read it, aware, UTC.
        source: The source.
        reason: Why, of a closed list.
        detail: What exactly, if stated.
        raw: The line, at most its first 4096 characters.
        length: Its whole length in bytes, if stated.
    """

    origin: str
    seq: int
    batch: int
    observed_at: datetime | None
    source: str
    reason: str
    detail: str | None
    raw: str | None
    length: int | None


@dataclass(frozen=True, slots=True)
class IndexedFinding:
    """Something that was found when the index was built.

    Attributes:
        origin: The trail; None where it is about the store.
        batch: The batch, where it is about one.
        key: The object, where it is about one.
        code: A code of `agent.reader.findings`.
        severity: How bad it is.
        message: One sentence.
        indexed: Whether the batch it is about was verified all the same, and is in the index.
    """

    origin: str | None
    batch: int | None
    key: str | None
    code: str
    severity: Severity
    message: str
    indexed: bool


def scoped_trails(index: Index, scope: Scope = ALL) -> list[IndexedTrail]:
    """Return the trails that may be seen: of the scope's services, and with a batch in its range if it has one.

    A trail's head may be newer than the scope's end: that it goes on is no secret of anybody who may see it. The name of a trail that
    it continues is left out if that one may not be seen.
    """
    seen = [trail for trail in index.trails() if scope.allows(trail.namespace, trail.service)]
    if scope.since is not None or scope.until is not None:
        services = services_where((), scope)
        rows = index.rows(
            f"WITH {CHOSEN.format(services=services.sql)}, {WINDOWS}, {COVERED} SELECT DISTINCT trail FROM covered",  # noqa: S608 -- constants
            {**services.parameters, **bounds(scope.since, scope.until)},
        )
        within_range = {row[0] for row in rows}
        seen = [trail for trail in seen if trail.trail in within_range]
    return [trail if _may_name(trail.continues_origin, scope) else dataclasses.replace(trail, continues_origin=None) for trail in seen]


def scoped(scope: Scope, column: str, *, prefix: str = "scope") -> Condition:
    """Return the condition for a table that is joined with `trails`: the scope's services, and its range over a column of times.

    Use it for tables and columns that no function here returns; `namespace` and `service` have to be unambiguous.
    """
    return services_where((), scope, prefix=f"{prefix}_s") & within(column, scope.since, scope.until, prefix=f"{prefix}_t")


def scoped_quarantine(index: Index, scope: Scope = ALL, limit: int = MAX_ROWS, after: tuple[str, int] | None = None) -> list[Quarantined]:
    """Return records that are no valid events, by trail and seq.

    Args:
        index: Where to look.
        scope: What may be seen.
        limit: How many at most.
        after: Go on after this trail and seq.
    """
    rows = _records(index, "quarantine", "origin, seq, batch, observed_at, source, reason, detail, raw, length", scope, limit, after)
    return [Quarantined(*with_moments(row, 3)) for row in rows]


def scoped_gaps(index: Index, scope: Scope = ALL, limit: int = MAX_ROWS, after: tuple[str, int] | None = None) -> list[Loss]:
    """Return statements of loss, by trail and seq; the arguments are those of `scoped_quarantine`."""
    rows = _records(index, "gaps", LOSS_COLUMNS, scope, limit, after)
    return [Loss(*with_moments(row, 2)) for row in rows]


def scoped_findings(index: Index, scope: Scope = ALL) -> list[IndexedFinding]:
    """Return what was found when the index was built, worst first."""
    return findings(index, (), scope, scope.since, scope.until)


def findings(index: Index, services: Sequence[str], scope: Scope, since: datetime | None, until: datetime | None) -> list[IndexedFinding]:
    """Return what was found about some services in a range, worst first.

    Args:
        index: Where to look.
        services: Globs, as in `Filter.service`; empty: all.
        scope: What may be seen; its range is not looked at.
        since: Nothing that lies wholly before this time.
        until: Nothing that lies wholly after it.
    """
    condition = services_where(services, scope)
    rows = index.rows(_NEIGHBOURS.format(services=condition.sql), {**condition.parameters, **bounds(since, until)})
    found = [
        IndexedFinding(origin, batch, key, code, _severity(severity), message, indexed)
        for origin, batch, key, code, severity, message, indexed in rows
        if origin is not None or key is None or _about(key, services, scope)
    ]
    return sorted((_discreet(one, scope) if scope.services else one for one in found), key=lambda one: -one.severity)


def bounds(since: datetime | None, until: datetime | None) -> dict[str, object]:
    """Return the parameters `since` and `until` as the index holds times."""
    return {"since": None if since is None else plain(since), "until": None if until is None else plain(until)}


def _records(index: Index, table: str, columns: str, scope: Scope, limit: int, after: tuple[str, int] | None) -> list[tuple[Any, ...]]:
    condition = scoped(scope, "observed_at")
    parameters: dict[str, object] = {**condition.parameters, "limit": limit}
    going_on = ""
    if after is not None:
        going_on = " AND (origin, seq) > ($after_origin, $after_seq)"
        parameters |= {"after_origin": after[0], "after_seq": after[1]}
    sql = f"SELECT {columns} FROM {table} JOIN trails USING (trail) WHERE {condition.sql}{going_on} ORDER BY origin, seq LIMIT $limit"  # noqa: S608 -- constants
    return index.rows(sql, parameters)


def _severity(name: str) -> Severity:
    # What an index calls otherwise is taken for the worst: nothing unknown may make an answer look better.
    return Severity.__members__.get(name.upper(), Severity.TAMPERED)


def _may_name(origin: str | None, scope: Scope) -> bool:
    if origin is None or not scope.services:
        return True
    try:
        parsed = Origin.parse(origin)
    except FormatError:
        return False
    return scope.allows(parsed.namespace, parsed.service)


def _about(key: str, services: Sequence[str], scope: Scope) -> bool:
    """Tell whether an object belongs to a service that was asked for and may be seen; one that belongs to none does if all may."""
    try:
        origin, _ = parse_seal_key(key)
        namespace, service = origin.namespace, origin.service
    except FormatError:
        try:
            data = parse_data_key(key)
        except FormatError:
            return not scope.services
        namespace, service = data.namespace, data.service
    return scope.allows(namespace, service) and service_matches(services, namespace, service)


def _discreet(found: IndexedFinding, scope: Scope) -> IndexedFinding:
    code = Code.__members__.get(found.code.upper())
    meaning = "Something was found that this version does not know." if code is None else EXPLANATIONS[code].meaning
    key = found.key if found.key is not None and _about(found.key, (), scope) else None
    return dataclasses.replace(found, message=meaning, key=key)
