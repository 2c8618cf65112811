"""What is known of the pipeline itself: heartbeats, silences, losses, clocks, delays, integrity; as sentences with a weight.

Invariants: every figure is of the scope and the range alone; a fact that is not known is said to be not known. This module must not say
whether a figure is good enough: it says what would make a careful reader look closer.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ..ask.filters import Filter
from ..ask.statement import statement
from ..ask.words import as_command
from .reviews import MAX_DOUBTED
from .table import Fact

if TYPE_CHECKING:
    from datetime import datetime

    from ..ask.stated import Statement
    from ..index import Index
    from .reviews import Review
    from .tally import Range
    from .verification import Verification


class Weight(StrEnum):
    """How a fact is to be read."""

    EVIDENCE = "evidence"
    ATTENTION = "attention"
    """It is evidence, of something a careful reader looks into."""
    NONE = "none"
    """There is no evidence."""


@dataclass(frozen=True, slots=True)
class Stated:
    """One fact of the pipeline.

    Attributes:
        fact: Which.
        weight: How it is to be read.
        sentence: The fact, with its figures.
        command: The command that shows more; empty: none.
    """

    fact: Fact
    weight: Weight
    sentence: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What was asked of the tables once, for all facts; a batch is in the range if it was sealed in it, a record if it was read in it.

    Attributes:
        statement: The statement of completeness for the range.
        batches: Batches sealed in the range, by reason.
        unclean: How many runs began after an end that was not in order.
        unchained: Batches that only their own seal proves.
        synchronized: Batches during which the host's clock was synchronised.
        worst_offset_seconds: The greatest offset from the reference that an agent stated, without its sign; None if none did.
        quarantined: Lines in quarantine.
        losses: Gap records by cause and certainty.
        bytes_lost: Bytes of sources that are stated as lost.
        lag_seconds: The delay from an event to its being read: median, 99th percentile (both estimated), and the longest.
        grants: Rights given with success, and how many of them name an approval in their context.
        trails: How many trails there are in the scope, and how many of them somebody of the trust file vouches for.
    """

    statement: Statement
    batches: dict[str, int]
    unclean: int
    unchained: int
    synchronized: int
    worst_offset_seconds: float | None
    quarantined: int
    losses: dict[str, int]
    bytes_lost: int
    lag_seconds: tuple[float, float, float] | None
    grants: tuple[int, int]
    trails: tuple[int, int]

    @property
    def sealed(self) -> int:
        """All batches of the range."""
        return sum(self.batches.values())


_BATCHES: Final = """SELECT coalesce(reason, ''), count(*), count(*) FILTER (unclean), count(*) FILTER (NOT chained),
        count(*) FILTER (clock_synchronized), max(abs(clock_offset_seconds)), coalesce(sum(bytes_lost), 0)
    FROM batches JOIN trails USING (trail) WHERE {condition} GROUP BY 1 ORDER BY 1"""
_QUARANTINED: Final = "SELECT count(*) FROM quarantine JOIN trails USING (trail) WHERE {condition}"
_LOSSES: Final = """SELECT cause || ' (' || certainty || ')' AS what, count(*) FROM gaps JOIN trails USING (trail)
    WHERE {condition} GROUP BY 1 ORDER BY 1 LIMIT 100"""
_LAG: Final = """SELECT approx_quantile(lag, 0.5), approx_quantile(lag, 0.99), max(lag) FROM (
    SELECT epoch(observed_at) - epoch(occurred_at) AS lag FROM events WHERE observed_at IS NOT NULL AND {condition})"""
_GRANTS: Final = """SELECT count(*), count(*) FILTER (coalesce(
        nullif(trim(TRY(json_extract_string(context, '$.approval_id'))), ''),
        nullif(trim(TRY(json_extract_string(context, '$.approval.id'))), '')) IS NOT NULL)
    FROM events WHERE action IN ('role.grant', 'permission.grant') AND outcome = 'success' AND {condition}"""


def look(index: Index, asked: Range, now: datetime) -> Pipeline:
    """Ask the tables.

    Args:
        index: Where to look.
        asked: The range and the scope.
        now: The clock, aware, UTC.
    """
    sealed, observed, events = asked.trails("sealed_at"), asked.trails("observed_at"), asked.events()
    batches = index.rows(_BATCHES.format(condition=sealed.sql), sealed.parameters)
    lag = index.rows(_LAG.format(condition=events.sql), events.parameters)[0]
    trails = [trail for trail in index.trails() if asked.scope.allows(trail.namespace, trail.service)]
    return Pipeline(
        statement=statement(index, Filter(), asked.scope, now),
        batches={row[0]: row[1] for row in batches},
        unclean=sum(row[2] for row in batches),
        unchained=sum(row[3] for row in batches),
        synchronized=sum(row[4] for row in batches),
        worst_offset_seconds=max((row[5] for row in batches if row[5] is not None), default=None),
        quarantined=int(index.rows(_QUARANTINED.format(condition=observed.sql), observed.parameters)[0][0]),
        losses=dict(index.rows(_LOSSES.format(condition=observed.sql), observed.parameters)),
        bytes_lost=sum(int(row[6]) for row in batches),
        lag_seconds=None if lag[0] is None else (float(lag[0]), float(lag[1]), float(lag[2])),
        grants=_pair(index.rows(_GRANTS.format(condition=events.sql), events.parameters)[0]),
        trails=(len(trails), sum(trail.trusted_by is not None for trail in trails)),
    )


def _pair(row: tuple[Any, ...]) -> tuple[int, int]:
    return int(row[0]), int(row[1])


def facts(pipeline: Pipeline, reviews: tuple[Review, ...], store: str, verification: Verification | None = None) -> dict[Fact, Stated]:
    """Return every fact, with its sentence.

    Args:
        pipeline: What was asked.
        reviews: The reviews that were signed in the range.
        store: The store's name, for commands.
        verification: What `verify` said of the store, if that is known.
    """
    found = [
        _timeliness(pipeline, store),
        _trust(pipeline, store),
        _approvals(pipeline, store),
        _reviews(reviews, store),
        _retention(verification, store),
    ]
    of_batches = (_heartbeats, _silences, _losses, _quarantine, _clock, _integrity, _restarts)
    if pipeline.sealed:
        found += [make(pipeline, store) for make in of_batches]
    else:
        nothing = "No batch was sealed in this period, so nothing shows that anything ran."
        kinds = (Fact.HEARTBEATS, Fact.SILENCES, Fact.LOSSES, Fact.QUARANTINE, Fact.CLOCK, Fact.INTEGRITY, Fact.RESTARTS)
        found += [Stated(kind, Weight.NONE, nothing) for kind in kinds]
    return {each.fact: each for each in found}


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _command(verb: str, store: str, *more: str) -> str:
    return shlex.join(["trailseal", verb, store, *more])


def _heartbeats(pipeline: Pipeline, store: str) -> Stated:
    empty = pipeline.batches.get("heartbeat", 0)
    sentence = f"{_plural(pipeline.sealed, 'batch was', 'batches were')} sealed, {empty:,} of them heartbeats without a record."
    return Stated(Fact.HEARTBEATS, Weight.EVIDENCE, sentence, _command("verify", store))


def _silences(pipeline: Pipeline, store: str) -> Stated:
    total = pipeline.statement.silences_total
    if not total:
        return Stated(
            Fact.SILENCES, Weight.EVIDENCE, "No running agent was silent for more than three heartbeats.", _command("verify", store)
        )
    longest = max((each.seconds for each in pipeline.statement.silences), default=0.0)
    sentence = f"Running agents were silent for more than three heartbeats {_plural(total, 'time')}; the longest took {duration(longest)}."
    return Stated(Fact.SILENCES, Weight.ATTENTION, sentence, _command("verify", store))


def _losses(pipeline: Pipeline, store: str) -> Stated:
    total = sum(pipeline.losses.values())
    if not total:
        return Stated(Fact.LOSSES, Weight.EVIDENCE, "No loss is stated: there is no gap record.", _command("verify", store))
    causes = ", ".join(f"{count:,} {what}" for what, count in pipeline.losses.items())
    sentence = f"{_plural(total, 'gap record states', 'gap records state')} a loss, {pipeline.bytes_lost:,} bytes of known size: {causes}."
    return Stated(Fact.LOSSES, Weight.ATTENTION, sentence, _command("verify", store))


def _quarantine(pipeline: Pipeline, store: str) -> Stated:
    del store
    count = pipeline.quarantined
    if not count:
        return Stated(Fact.QUARANTINE, Weight.EVIDENCE, "No line that claims to be an audit event had to be quarantined.")
    sentence = f"{_plural(count, 'line is', 'lines are')} kept in quarantine: no valid events, and not lost either."
    return Stated(Fact.QUARANTINE, Weight.ATTENTION, sentence)


def _clock(pipeline: Pipeline, store: str) -> Stated:
    del store
    worst = pipeline.worst_offset_seconds
    offset = "" if worst is None else f" The greatest stated offset is {duration(worst)}."
    sentence = f"In {pipeline.synchronized:,} of {_plural(pipeline.sealed, 'batch', 'batches')} the host's clock was synchronised.{offset}"
    return Stated(Fact.CLOCK, Weight.EVIDENCE if pipeline.synchronized == pipeline.sealed else Weight.ATTENTION, sentence)


def _timeliness(pipeline: Pipeline, store: str) -> Stated:
    del store
    if pipeline.lag_seconds is None:
        return Stated(Fact.TIMELINESS, Weight.NONE, "No event in this period.")
    median, most, longest = map(duration, pipeline.lag_seconds)
    sentence = f"From an event to its being read it took about {median} (median), {most} (99 in 100); at most {longest}."
    return Stated(Fact.TIMELINESS, Weight.EVIDENCE, sentence)


def _integrity(pipeline: Pipeline, store: str) -> Stated:
    stated = pipeline.statement
    checked = f"{_plural(stated.records, 'record')} in {_plural(len(stated.trails), 'trail')} were verified against signed trees"
    verdict = f"{checked}; the statement for this period is: {stated.verdict}."
    worse = [reason for reason in stated.reasons if reason.severity]
    if not worse and not pipeline.unchained:
        return Stated(Fact.INTEGRITY, Weight.EVIDENCE, verdict, _command("verify", store))
    alone = f" {_plural(pipeline.unchained, 'batch is', 'batches are')} proven by their own seal only." if pipeline.unchained else ""
    kinds = f" Reasons: {', '.join(sorted({reason.code for reason in worse}))}." if worse else ""
    return Stated(Fact.INTEGRITY, Weight.ATTENTION, f"{verdict}{kinds}{alone}", _command("verify", store))


def _trust(pipeline: Pipeline, store: str) -> Stated:
    trails, vouched = pipeline.trails
    if not trails:
        return Stated(Fact.TRUST, Weight.NONE, "There is no trail.")
    sentence = f"The trust file vouches for the keys of {vouched:,} of {_plural(trails, 'trail')}."
    if vouched == trails:
        return Stated(Fact.TRUST, Weight.EVIDENCE, sentence)
    more = " Whoever could write to the store could have made the others."
    return Stated(Fact.TRUST, Weight.ATTENTION, sentence + more, _command("trust", store))


def _restarts(pipeline: Pipeline, store: str) -> Stated:
    del store
    opened, resumed = pipeline.batches.get("open", 0), pipeline.batches.get("resume", 0)
    sentence = (
        f"Agents opened {_plural(opened, 'trail')} and resumed {_plural(resumed, 'time')}, {pipeline.unclean:,} of these after a crash."
    )
    return Stated(Fact.RESTARTS, Weight.ATTENTION if pipeline.unclean else Weight.EVIDENCE, sentence)


def _approvals(pipeline: Pipeline, store: str) -> Stated:
    grants, named = pipeline.grants
    if not grants:
        return Stated(Fact.APPROVALS, Weight.NONE, "No right was given in this period.")
    sentence = f"{named:,} of {_plural(grants, 'right')} given name an approval; the command lays each beside it, and shows those alone."
    stated = pipeline.statement
    asked = Filter(action=("role.grant", "permission.grant"), outcome=("success",), since=stated.since, until=stated.until)
    command = as_command(asked, store, ["--correlate", "context.approval_id"])
    return Stated(Fact.APPROVALS, Weight.EVIDENCE if named == grants else Weight.ATTENTION, sentence, command)


def _reviews(reviews: tuple[Review, ...], store: str) -> Stated:
    if not reviews:
        return Stated(Fact.REVIEWS, Weight.NONE, "No review of the trail was signed in this period.")
    sound = [each for each in reviews if not each.doubt]
    doubted = len(reviews) - len(sound)
    newest = f", the newest by {sound[-1].reviewer}" if sound else ""
    sentence = f"{_plural(len(sound), 'review was', 'reviews were')} signed{newest}."
    if doubted:
        at_least = "At least " if doubted >= MAX_DOUBTED else ""
        sentence += (
            f" {at_least}{_plural(doubted, 'more is', 'more are')} in a trail that is not the reviewers', or that nobody vouches for."
        )
    return Stated(Fact.REVIEWS, Weight.ATTENTION if doubted else Weight.EVIDENCE, sentence, _command("review", "list", store))


def _retention(verification: Verification | None, store: str) -> Stated:
    command = _command("verify", store, "--level", "locked")
    if verification is None:
        sentence = "Whether the store's retention lock was on is not part of an index; the command asks the store."
        return Stated(Fact.RETENTION, Weight.NONE, sentence, command)
    looked = f"{verification.looked_at:,} of {_plural(verification.versions, 'version')} looked at"
    shortest = "" if verification.shortest_seconds is None else f", the shortest retention is {duration(verification.shortest_seconds)}"
    why = "" if verification.reason is None else f", because {verification.reason}"
    sentence = (
        f"trailseal verify said on {verification.checked_at:%Y-%m-%d %H:%M} UTC: {verification.verdict}; assurance "
        f"{verification.assurance}{why}; {looked}{shortest}."
    )
    good = verification.exit_code == 0 and verification.reason is None
    return Stated(Fact.RETENTION, Weight.EVIDENCE if good else Weight.ATTENTION, sentence, command)


def duration(seconds: float) -> str:
    """Return a duration for a person, with two units at most."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if seconds >= size:
            whole, rest = divmod(round(seconds / part), size // part)
            return f"{whole:,} {unit} {rest} {smaller}" if rest else f"{whole:,} {unit}"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
