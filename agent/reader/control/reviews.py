"""Reviews that people signed: read back from the events of the action ``review.sign``.

Invariants: what a review says comes from a store and may say anything, so a field that is not as it should be is None, never an error;
the scope holds for reviews as for all events. This module must not say whether a review was thorough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ...trail.layout import Origin, seal_key
from ..ask.filters import ALL, Filter, where
from ..ask.found import COLUMNS, NEWEST_FIRST, found, parsed
from ..trustfile import MAX_SEAL_BYTES
from .tally import Range

if TYPE_CHECKING:
    from ..ask.filters import Scope
    from ..ask.found import Found
    from ..fetch import StoreReader
    from ..index import Index

ACTION: Final = "review.sign"
SERVICE: Final = "trailseal/reviews"
"""The service in whose trails reviews belong."""
RESULTS: Final = ("no_findings", "findings", "follow_up")
MAX_REVIEWS: Final = 10_000
"""How many are read, those that nothing speaks against first."""
MAX_DOUBTED: Final = 500
"""How many of the others: whoever can print an event can print a million, of any size."""
_SOUND: Final = f"(namespace || '/' || service = '{SERVICE}' AND trusted)"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint of a trail when it was reviewed: it fixes what was there to be seen.

    Attributes:
        origin: The trail.
        size: Leaves in it.
        root: The tree's root, hex.
        seal: The SHA-256 of the seal that states it, hex.
    """

    origin: str
    size: int
    root: str
    seal: str


@dataclass(frozen=True, slots=True)
class Review:
    """One review.

    Attributes:
        origin: The trail that holds it.
        seq: Its leaf.
        batch: The batch that sealed it.
        trusted: Whether the trust file vouches for that trail.
        event_id: The event's id.
        signed_at: When it was signed, by the reviewing machine's clock; aware, UTC.
        reviewer: The name that the reviewer gave.
        store: The store that was reviewed.
        since: The beginning of what was reviewed; None: from the first event on.
        until: Its end, not included.
        query: What was looked for, in the reviewer's words.
        filter: The filters, by name.
        matched: How many events matched; None if it does not say.
        finding: What the reviewer found, in their words.
        result: ``no_findings``, ``findings`` or ``follow_up``; None if it is something else.
        heads: What was there.
    """

    origin: str
    seq: int
    batch: int
    trusted: bool
    event_id: str
    signed_at: datetime
    reviewer: str
    store: str
    since: datetime | None
    until: datetime | None
    query: str
    filter: dict[str, Any]
    matched: int | None
    finding: str
    result: str | None
    heads: tuple[Head, ...]

    @property
    def service(self) -> str:
        """Whose trail holds it, ``namespace/service``."""
        return "/".join(self.origin.split("/")[:2])

    @property
    def doubt(self) -> str:
        """Why a careful reader does not take it for a review yet; empty where nothing speaks against it.

        Any service can print an event of this action into its own trail; that makes nobody a reviewer.
        """
        if self.service != SERVICE:
            return f"in the trail of {self.service}, not of {SERVICE}"
        return "" if self.trusted else "nobody vouches for this trail"


def reviews(
    index: Index, scope: Scope = ALL, since: datetime | None = None, until: datetime | None = None, *, limit: int = MAX_REVIEWS
) -> tuple[Review, ...]:
    """Return the reviews that were signed in a range, the oldest first.

    Where there are too many, those in trails of the reviewers that somebody vouches for stay before all others, and the newest before
    older ones.

    Args:
        index: Where to look.
        scope: What may be seen; reviews are in a service of their own, ``trailseal/reviews`` unless told otherwise.
        since: Signed at this time or later.
        until: Signed before this time.
        limit: How many at most; of those in other trails, `MAX_DOUBTED` at most.
    """
    asked = Range.of(scope, since, until)
    if asked.empty:
        return ()
    sound = _newest(index, asked.scope, _SOUND, limit)
    doubted = _newest(index, asked.scope, f"NOT {_SOUND}", min(limit - len(sound), MAX_DOUBTED))
    return tuple(sorted(sound + doubted, key=lambda review: (review.signed_at, review.origin, review.seq)))


def _newest(index: Index, scope: Scope, which: str, limit: int) -> list[Review]:
    """Return the newest reviews of one kind."""
    condition = where(Filter(action=(ACTION,)), scope)
    sql = f"SELECT {COLUMNS} FROM events WHERE {condition.sql} AND {which} ORDER BY {NEWEST_FIRST} LIMIT {int(limit)}"  # noqa: S608 -- constants
    return [_review(found(row, None)) for row in index.rows(sql, condition.parameters)]


def _review(one: Found) -> Review:
    context = parsed(one.context)
    context = context if isinstance(context, dict) else {}
    period = context.get("range")
    period = period if isinstance(period, dict) else {}
    result, chosen = context.get("result"), context.get("filter")
    matched, heads = context.get("matched"), context.get("heads")
    return Review(
        origin=one.origin,
        seq=one.seq,
        batch=one.batch,
        trusted=one.trusted,
        event_id=one.event_id,
        signed_at=one.occurred_at,
        reviewer=one.actor_id,
        store=one.target_id,
        since=_time(period.get("since")),
        until=_time(period.get("until")),
        query=_text(context.get("query")),
        filter=chosen if isinstance(chosen, dict) else {},
        matched=matched if isinstance(matched, int) and not isinstance(matched, bool) and matched >= 0 else None,
        finding=_text(context.get("finding")),
        result=result if result in RESULTS else None,
        heads=tuple(_heads(heads)) if isinstance(heads, list) else (),
    )


def _heads(values: list[Any]) -> list[Head]:
    heads = []
    for value in values:
        if not isinstance(value, dict):
            continue
        origin, size, root, seal = (value.get(key) for key in ("origin", "size", "root", "seal"))
        if type(size) is not int or not 0 <= size < 1 << 63:
            continue
        # JSON can spell halves of characters, which no database takes.
        if isinstance(origin, str) and isinstance(root, str) and isinstance(seal, str) and (origin + root + seal).isascii():
            heads.append(Head(origin, size, root, seal))
    return heads


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if time is None or time.tzinfo is None else _utc(time)


def _utc(time: datetime) -> datetime | None:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return None


class Standing(StrEnum):
    """Whether the checkpoints that a reviewer saw are still those of the store."""

    HOLDS = "holds"
    """Every head that the review names is there, in the same seal; what lies below them, `verify` checks."""
    CHANGED = "changed"
    """One is not there any more, or in another seal: what was reviewed was altered or removed since."""
    ELSEWHERE = "elsewhere"
    """Another store was reviewed, and none of its trails is in this one."""
    UNKNOWN = "unknown"
    """The review names no heads, so nothing can be compared."""


def standing(index: Index, review: Review, store: StoreReader | None = None) -> Standing:
    """Compare the heads that a review names; never within a scope, because it may name trails of others.

    Args:
        index: Holds what was verified, now or at an earlier time.
        review: The review.
        store: The store as it is now; without it, only the index is asked.

    Raises:
        NotVerifiedError: A seal is there but cannot be read.
    """
    if not review.heads:
        return Standing.UNKNOWN
    if all(_is_there(index, head, store) for head in review.heads):
        return Standing.HOLDS
    known = {trail.origin for trail in index.trails()}
    if review.store != index.store and known.isdisjoint(head.origin for head in review.heads):
        return Standing.ELSEWHERE
    return Standing.CHANGED


def _is_there(index: Index, head: Head, store: StoreReader | None) -> bool:
    sql = "SELECT batch FROM batches JOIN trails USING (trail) WHERE origin = ? AND batches.size = ? AND seal_sha256 = ?"
    rows = index.rows(sql, [head.origin, head.size, head.seal])
    if not rows or store is None:
        return bool(rows)
    # An index does not forget what it verified once: a seal that was removed since is still in it.
    raw = store.read(seal_key(Origin.parse(head.origin), rows[0][0]), MAX_SEAL_BYTES)
    return raw is not None and sha256(raw).hexdigest() == head.seal
