"""Make the event of a review: who looked, at which events, through which filters, of what exactly, and what they found.

Invariants: what was there to be reviewed is fixed by the heads of all trails that were asked for (origin, size, root, and the seal that
states them), so a trail that is altered later no longer fits the review; a store that holds nothing cannot be reviewed. This module
must not record anything, and must not believe that the reviewer is who they say.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError, NotVerifiedError
from ...events.schema import MAX_NAME_CHARS
from ..ask.filters import ALL, Filter, services_where
from ..ask.found import zulu
from ..ask.statement import statement
from ..own_trail import own_event
from ..own_trail.events import MAX_TEXT_CHARACTERS
from .reviews import ACTION, RESULTS, Head

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ...events.catalog import Catalog
    from ..index import Index

MAX_HEADS: Final = 500
_TIMES: Final = frozenset({"since", "until"})
_HEADS: Final = """SELECT t.origin, t.size, lower(hex(t.root)), b.seal_sha256
    FROM trails t JOIN batches b ON b.trail = t.trail AND b.batch = t.head_batch
    WHERE {services} AND t.root IS NOT NULL ORDER BY t.origin LIMIT {most}"""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a reviewer says.

    Attributes:
        reviewer: Who signs; nothing proves it but the trail's key.
        query: What was looked for, in the reviewer's words.
        finding: What was found, in the reviewer's words.
        result: ``no_findings``, ``findings`` or ``follow_up``.
    """

    reviewer: str
    query: str
    finding: str
    result: str

    def __post_init__(self) -> None:
        """Refuse empty and endless texts, and a result that is none (ConfigError)."""
        for key, text in (("query", self.query), ("finding", self.finding), ("reviewer", self.reviewer)):
            most = MAX_NAME_CHARS if key == "reviewer" else MAX_TEXT_CHARACTERS
            if not text.strip() or len(text) > most:
                raise ConfigError(f"must have 1 to {most} characters", key=key, hint="Say it in a sentence or two.")
        if self.result not in RESULTS:
            raise ConfigError(f"must be one of {', '.join(RESULTS)}", key="outcome", hint="Choose one of them.")


def review_event(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    signature: Signature,
    now: datetime,
    *,
    catalog: Catalog | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the event of a review.

    Args:
        index: What was reviewed.
        filter: Which events, and the range.
        signature: Who found what.
        now: The clock, aware, UTC.
        catalog: Needed where the filter names a category.
        more: More for the context, such as the user's name on this machine.

    Raises:
        ConfigError: There are more than 500 trails.
        NotVerifiedError: No verified trail belongs to what was asked for.
    """
    heads = _heads(index, filter)
    stated = statement(index, filter, ALL, now, catalog=catalog)
    return own_event(
        ACTION,
        actor={"type": "reviewer", "id": signature.reviewer},
        target={"type": "store", "id": index.store},
        now=now,
        context={
            "range": {"since": _time(filter.since), "until": _time(filter.until)},
            "query": signature.query,
            "filter": {
                each.name: getattr(filter, each.name) for each in fields(filter) if each.name not in _TIMES and getattr(filter, each.name)
            },
            "command": stated.command,
            "matched": stated.matched,
            "population": stated.records,
            "verdict": stated.verdict,
            "heads": [{"origin": head.origin, "size": head.size, "root": head.root, "seal": head.seal} for head in heads],
            "finding": signature.finding,
            "result": signature.result,
            "indexed_at": zulu(index.refreshed_at),
            "version": stated.version,
            **(more or {}),
        },
    )


def _time(time: datetime | None) -> str | None:
    return None if time is None else zulu(time)


def _heads(index: Index, filter: Filter) -> list[Head]:  # noqa: A002 -- the API's word
    condition = services_where(filter.service)
    rows = index.rows(_HEADS.format(services=condition.sql, most=MAX_HEADS + 1), condition.parameters)
    if not rows:
        raise NotVerifiedError(
            "there is no verified trail to review", hint="Check STORE and --service; `trailseal verify STORE` says more."
        )
    if len(rows) > MAX_HEADS:
        raise ConfigError(f"there are more than {MAX_HEADS} trails", key="service", hint="Review a few services at a time with --service.")
    return [Head(*row) for row in rows]
