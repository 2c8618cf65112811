"""Counts for the statement of a pack: what matched, was quarantined or stated as lost, by day and source.

Invariants: nothing outside the scope is counted. A day is a UTC day: of events when they occurred, of everything else when the agent
saw it. This module must not write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..ask.filters import services_where, where, within

if TYPE_CHECKING:
    from ..index import Index
    from .selecting import Question

_EVENTS: Final = """SELECT CAST(occurred_at AS DATE), origin, coalesce(source, ''), count(*) FROM events
    WHERE {condition} GROUP BY ALL ORDER BY ALL"""
_OTHERS: Final = """SELECT CAST(observed_at AS DATE), origin, coalesce(source, ''), count(*) FROM {table} JOIN trails USING (trail)
    WHERE {condition} GROUP BY ALL ORDER BY ALL"""


def counts(index: Index, question: Question) -> dict[str, list[dict[str, object]]]:
    """Return counts by day and source.

    Args:
        index: The index.
        question: What was asked; quarantined lines and gaps are counted for its services and times, as they have no other fields.

    Returns:
        ``events``, ``quarantined`` and ``gaps``: rows of ``day``, ``origin``, ``source`` and ``count``.
    """
    asked, scope = question.filter, question.scope
    events = where(asked, scope, question.catalog)
    others = (
        services_where(asked.service, scope, prefix="s")
        & within("observed_at", asked.since, asked.until, prefix="a")
        & within("observed_at", scope.since, scope.until, prefix="b")
    )
    found = {
        "events": index.rows(_EVENTS.format(condition=events.sql), events.parameters),
        "quarantined": index.rows(_OTHERS.format(table="quarantine", condition=others.sql), others.parameters),
        "gaps": index.rows(_OTHERS.format(table="gaps", condition=others.sql), others.parameters),
    }
    return {
        name: [{"day": str(day), "origin": origin, "source": source, "count": count} for day, origin, source, count in rows]
        for name, rows in found.items()
    }
