"""Make the statement of an answer: what the index holds for the range, and what it does not.

What is lost, missing or silent is placed in time by when the batches around it were sealed, by the hosts' clocks.

Invariants: a reason is given for everything that verification would not pass over: by what the tables show where they show it, by
the findings of the index otherwise; text out of a store only gets into messages, never into a decision. This module must not write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ... import __version__
from ..findings import Code, Severity
from .filters import Filter, services_where
from .found import with_moments, zulu
from .scoped import CHOSEN, COVERED, LOSS_COLUMNS, WINDOWS, bounds, findings
from .search import count
from .stated import Clock, Loss, Reason, Silence, Statement, TrailStatement
from .words import as_command, in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ...events.catalog import Catalog
    from ..index import Index
    from .filters import Scope
    from .stated import HeadState

__all__ = ["Statement", "statement"]

HEARTBEATS: Final = 3
MAX_SHOWN: Final = 50
MAX_REASONS: Final = 200

_TRAILS: Final = """SELECT c.origin, c.key, c.trusted_by,
        count(b.batch), min(b.size - b.records - 1) FILTER (b.sealed_within), max(b.size - 1) FILTER (b.sealed_within),
        arg_min(coalesce(b.previous_at, b.sealed_at), b.batch) FILTER (b.sealed_within),
        arg_max(b.sealed_at, b.batch) FILTER (b.sealed_within), count(*) FILTER (NOT b.sealed_within),
        coalesce(sum(b.records), 0), coalesce(sum(b.events), 0), coalesce(sum(b.quarantined), 0), coalesce(sum(b.gaps), 0),
        coalesce(sum(b.bytes_lost), 0),
        coalesce(sum(b.batch - coalesce(b.previous_batch, -1) - 1) FILTER (b.sealed_within), 0), count(*) FILTER (NOT b.chained),
        count(*) FILTER (b.clock_synchronized), max(abs(b.clock_offset_seconds)), max(b.clock_max_error_seconds),
        c.head_sealed_at, c.head_reason, c.heartbeat_seconds,
        (SELECT min(f.sealed_at) FROM batches f WHERE f.trail = c.trail), c.origin IN (SELECT continues_origin FROM trails)
    FROM chosen c LEFT JOIN covered b USING (trail) GROUP BY ALL ORDER BY c.origin"""
_SILENCES: Final = """, spaced AS (
    SELECT origin, batch, previous_at, sealed_at, reason,
        CASE WHEN boot_id = previous_boot AND monotonic_ns >= previous_ns THEN (monotonic_ns - previous_ns) / 1e9
            ELSE epoch(sealed_at) - epoch(previous_at) END AS passed, {heartbeats} * promised AS allowed
    FROM covered WHERE sealed_within AND batch = previous_batch + 1 AND previous_reason NOT IN ('stop', 'close'))
    SELECT origin, previous_at, sealed_at, passed, allowed, reason = 'resume',
        count(*) OVER (), count(*) FILTER (reason <> 'resume') OVER ()
    FROM spaced WHERE passed > allowed ORDER BY reason = 'resume', passed DESC, origin, batch LIMIT {shown}"""
_LOSSES: Final = """SELECT {columns}, count(*) OVER () FROM (SELECT g.*, c.origin FROM gaps g JOIN covered c USING (trail, batch))
    ORDER BY observed_at, origin, seq LIMIT {shown}"""


def statement(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    scope: Scope,
    now: datetime,
    *,
    catalog: Catalog | None = None,
    matched: int | None = None,
    everywhere: bool = False,
    more: Sequence[str] = (),
) -> Statement:
    """State what an answer stands on.

    Args:
        index: What was asked.
        filter: What was asked for.
        scope: What may be seen; nothing beyond it is counted.
        now: The clock, aware, UTC.
        catalog: Needed where the filter names a category.
        matched: How many events match, if that is known.
        everywhere: Whether the answer also depends on all other services and times (counterparts are looked for everywhere), so that
            completeness has to be stated for the whole scope.
        more: Further words of the command line.
    """
    services = () if everywhere else filter.service
    since = scope.since if everywhere else _latest(filter.since, scope.since)
    until = scope.until if everywhere else _earliest(filter.until, scope.until)
    look = _Look(index, services, scope, since, until)
    trails, reasons = look.trails()
    silences, silences_total, silent = look.silences()
    losses, losses_total = look.losses()
    reasons += _reasons_of(look, losses_total, silent, silences)
    ranked = sorted(reasons, key=lambda reason: -reason.severity)
    covering = [trail for trail in trails if _concerns(trail)]
    return Statement(
        query=in_words(filter, scope),
        command=as_command(filter, index.store, more),
        store=index.store,
        since=since,
        until=until,
        matched=count(index, filter, scope, catalog) if matched is None else matched,
        events_in_range=count(index, Filter(service=services, since=since, until=until), scope),
        records=sum(trail.records for trail in covering),
        quarantined=sum(trail.quarantined for trail in covering),
        trails=tuple(covering),
        trails_outside=len(trails) - len(covering),
        losses=losses,
        losses_total=losses_total,
        silences=silences,
        silences_total=silences_total,
        clock=_together([trail.clock for trail in covering]),
        reasons=tuple(ranked[:MAX_REASONS]),
        reasons_omitted=len(ranked[MAX_REASONS:]),
        answered_at=now,
        refreshed_at=index.refreshed_at,
        version=__version__,
        index_version=index.version,
        everywhere=everywhere,
    )


class _Look:
    """Asks the tables about some services in a range."""

    def __init__(self, index: Index, services: Sequence[str], scope: Scope, since: datetime | None, until: datetime | None) -> None:
        self.index, self.services, self.scope = index, services, scope
        self.since, self.until = since, until
        condition = services_where(services, scope)
        self._with = f"WITH {CHOSEN.format(services=condition.sql)}, {WINDOWS}, {COVERED}"
        self._parameters = {**condition.parameters, **bounds(since, until)}

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.index.rows(f"{self._with} {sql}", self._parameters)

    def trails(self) -> tuple[list[TrailStatement], list[Reason]]:
        """Return what each trail holds, and what is wrong with the trails themselves."""
        made: list[TrailStatement] = []
        reasons: list[Reason] = []
        for row in self._rows(_TRAILS):
            trail = self._trail(with_moments(row, 6, 7, 19, 22))
            made.append(trail)
            if _concerns(trail):
                reasons += _reasons_of_trail(trail)
        reasons += _reasons_of_services(made, self.since, self.until)
        if not made:
            reasons.append(Reason(Severity.UNVERIFIED, "no_trail", "the index holds no trail of the services that were asked for"))
        elif not any(trail.batches for trail in made):
            reasons.append(Reason(Severity.INCOMPLETE, "no_batch", "no verified batch covers the range"))
        return made, reasons

    def _trail(self, row: list[Any]) -> TrailStatement:
        head_at, head_reason, heartbeat, first_at, continued = row[19:24]
        return TrailStatement(
            origin=row[0],
            key=row[1],
            trusted_by=row[2],
            batches=row[3],
            first_seq=row[4],
            last_seq=row[5],
            from_time=row[6],
            to_time=row[7],
            late_batches=row[8],
            records=int(row[9]),
            events=int(row[10]),
            quarantined=int(row[11]),
            gaps=int(row[12]),
            bytes_lost=int(row[13]),
            missing_batches=int(row[14]),
            unchained_batches=row[15],
            head=self._head(head_at, head_reason, heartbeat, continued=bool(continued)),
            head_sealed_at=head_at,
            begins_after=bool(self.since and first_at and first_at > self.since),
            ends_before=bool(head_at and (self.until is None or head_at < self.until)),
            clock=Clock(row[3], row[16], row[17], row[18]),
        )

    def _head(self, sealed_at: datetime | None, reason: str | None, heartbeat: float | None, *, continued: bool) -> HeadState:
        if sealed_at is None:
            return "unknown"
        if self.until is not None and sealed_at >= self.until:
            return "beyond"
        if reason in ("stop", "close"):
            return "closed" if reason == "close" else "stopped"
        if continued:
            return "continued"
        age = (self.index.refreshed_at - sealed_at).total_seconds()
        return "live" if age <= HEARTBEATS * (heartbeat or 0) else "open"

    def silences(self) -> tuple[tuple[Silence, ...], int, int]:
        """Return the longest silent periods, how many there are, and how many of them the agent does not account for."""
        rows = self._rows(_SILENCES.format(heartbeats=HEARTBEATS, shown=MAX_SHOWN))
        made = tuple(Silence(*with_moments(row[:6], 1, 2)) for row in rows)
        return made, *((rows[0][6], rows[0][7]) if rows else (0, 0))

    def losses(self) -> tuple[tuple[Loss, ...], int]:
        """Return the first gap records, and how many there are."""
        rows = self._rows(_LOSSES.format(columns=LOSS_COLUMNS, shown=MAX_SHOWN))
        return tuple(Loss(*with_moments(row[:-1], 2)) for row in rows), rows[0][-1] if rows else 0


def _reasons_of_trail(trail: TrailStatement) -> list[Reason]:
    made: list[Reason] = []

    def add(severity: Severity, code: str, message: str) -> None:
        made.append(Reason(severity, code, message, trail.origin))

    if trail.trusted_by is None:
        add(Severity.UNVERIFIED, Code.KEY_UNKNOWN, "nobody vouches for the key of this trail: it is in no trust file that was given")
    if trail.head == "unknown":
        add(Severity.UNVERIFIED, "no_batch", "nothing of this trail was verified")
    if trail.head == "open":
        add(Severity.INCOMPLETE, Code.UNCLOSED, f"it was not closed, and nothing came after {_shown(trail.head_sealed_at)}")
    if trail.missing_batches:
        add(Severity.INCOMPLETE, "batches_missing", f"{trail.missing_batches:,} batches are missing, or did not verify")
    if trail.unchained_batches:
        message = f"{trail.unchained_batches:,} batches are proven by their own seal only, because something before them is missing"
        add(Severity.INCOMPLETE, "not_chained", message)
    if trail.quarantined:
        message = f"{trail.quarantined:,} records of the range are in quarantine: no valid events, so no filter finds them"
        add(Severity.NOTICE, "quarantined", message)
    return made


def _concerns(trail: TrailStatement) -> bool:
    """Tell whether a trail says something about the range; one that was not closed goes on, silent, from its end until now."""
    return bool(trail.batches) or trail.head in {"unknown", "open"}


def _reasons_of_services(trails: Sequence[TrailStatement], since: datetime | None, until: datetime | None) -> list[Reason]:
    """Note the services that cover only a part of the range, or nothing of it: one trail may end where the next begins."""
    services: dict[str, list[TrailStatement]] = {}
    for trail in trails:
        services.setdefault("/".join(trail.origin.split("/")[:2]), []).append(trail)
    made: list[Reason] = []
    for service, its in services.items():
        covering = [trail for trail in its if trail.batches]
        first = min((trail.from_time for trail in covering if trail.from_time), default=None)
        last = max((trail.to_time for trail in covering if trail.to_time), default=None)
        ended = all(trail.head in {"closed", "stopped", "continued"} for trail in covering)
        if not covering:
            message = f"no trail of {service} covers the range: each ended before it, or begins after it"
            made.append(Reason(Severity.NOTICE, "uncovered", message))
            continue
        if since and first and first > since:
            made.append(Reason(Severity.NOTICE, "begins_after", f"{service} is covered from {zulu(first)} on only"))
        if last and ended and (until is None or last < until):
            made.append(Reason(Severity.NOTICE, "ends_before", f"{service} is covered until {zulu(last)} only; it ended in an orderly way"))
    return made


def _reasons_of(look: _Look, losses: int, silent: int, silences: Sequence[Silence]) -> list[Reason]:
    made: list[Reason] = []
    if losses:
        made.append(
            Reason(Severity.INCOMPLETE, Code.GAP, f"{losses:,} gap record{_s(losses)} in the range: bytes of sources are, or may be, lost")
        )
    if silent:
        longest = max(silence.seconds for silence in silences if not silence.resumed)
        message = f"{silent:,} silent period{_s(silent)} in the range, the longest of {longest:,.0f} s"
        made.append(Reason(Severity.INCOMPLETE, Code.SILENCE, message))
    shown = {code for code, number in ((Code.GAP, losses), (Code.SILENCE, silent), (Code.AWAY, len(silences))) if number}
    known = {row[0] for row in look.index.rows("SELECT origin FROM trails")}
    for one in findings(look.index, look.services, look.scope, look.since, look.until):
        # The tables say the same, and say it better; a finding that they do not bear out is kept.
        by_tables = one.indexed and one.code in shown
        if not by_tables and not (one.code == Code.KEY_UNKNOWN and one.origin in known):
            batch = "" if one.batch is None else f"batch {one.batch}: "
            made.append(Reason(one.severity, one.code, f"{batch}{one.message}", one.origin))
    refreshed = look.index.refreshed_at
    if look.until is None or look.until > refreshed:
        made.append(
            Reason(Severity.NOTICE, "as_of", f"the store was looked at until {zulu(refreshed)}; what came later is not in this answer")
        )
    return made


def _together(clocks: Sequence[Clock]) -> Clock:
    offsets = [clock.worst_offset_seconds for clock in clocks if clock.worst_offset_seconds is not None]
    errors = [clock.worst_error_seconds for clock in clocks if clock.worst_error_seconds is not None]
    return Clock(
        sum(clock.batches for clock in clocks),
        sum(clock.synchronized for clock in clocks),
        max(offsets, default=None),
        max(errors, default=None),
    )


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _shown(time: datetime | None) -> str:
    return "an unknown time" if time is None else zulu(time)


def _s(number: int) -> str:
    return "" if number == 1 else "s"
