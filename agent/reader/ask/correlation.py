"""Correlation: each event that matches, side by side with the other events that carry the same value in their context.

"Show every grant with its approval" is answered by the value of `context.approval_id`: the grant carries it, and so does the approval.
What an auditor looks for is the grant that has no approval, so each pair has a finding: there is no value, nothing else carries it,
only events that do not count carry it (one number used for several grants approves none of them), no counterpart succeeded, or there
is one that did. Unless somebody says which actions count, every action but the event's own does, also the request for what was never
approved. Values are compared as text; a value that says nothing (null, empty, blank, ``{}``, ``[]``) is no value.

Invariants: counterparts are looked for in everything the scope allows, whatever the filter's range, and nowhere else; an event is
never its own counterpart; the finding is made from all counterparts, also from those that are too many to be listed. This module
must not write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError
from .carriers import MAX_COUNTERPARTS, VALUE, CarrierTable
from .filters import ALL, Filter, is_unicode, plain, where
from .found import COLUMNS, ORDER, Found, Place, found
from .search import DEFAULT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...events.catalog import Catalog
    from ..index import Index
    from .carriers import Carriers, Counts
    from .filters import Scope

MAX_PAIRS: Final = 1000
MAX_PATH_CHARACTERS: Final = 500
_AT_ONCE: Final = 10_000
_BEGINNING: Final = "context."
_PATH: Final = re.compile(r"[^.]+(?:\.[^.]+)*")


class Finding(StrEnum):
    """What became of the search for counterparts."""

    FOUND = "found"
    NO_VALUE = "no_value"
    ALONE = "alone"
    ONLY_ALIKE = "only_alike"
    UNSUCCESSFUL = "unsuccessful"


EXPLANATIONS: Final = {
    Finding.FOUND: "other events carry this value",
    Finding.NO_VALUE: "no value: the event names nothing to look for",
    Finding.ALONE: "none found: nothing else carries this value",
    Finding.ONLY_ALIKE: "none found: only events that do not count carry this value",
    Finding.UNSUCCESSFUL: "none that succeeded",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """An event, and its counterparts.

    Attributes:
        event: The event that matches.
        value: The value they share, as text; None if the event has none.
        finding: What became of the search.
        counterparts: Other events with the value: those that count first, then by time; at most 20.
        total: How many there are.
        remarks: What is remarkable about the counterparts that count: each is true of all of them.
    """

    event: Found
    value: str | None
    finding: Finding
    counterparts: tuple[Found, ...]
    total: int
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            **self.event.as_json(),
            "correlation": {
                "value": self.value,
                "finding": self.finding.value,
                "remarks": list(self.remarks),
                "total": self.total,
                "counterparts": [counterpart.as_json() for counterpart in self.counterparts],
            },
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """A part of an answer.

    Attributes:
        pairs: In the order of the events.
        after: Where the next page goes on; None if this was the last.
    """

    pairs: tuple[Pair, ...]
    after: Place | None


def correlate(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    path: str,
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    limit: int = DEFAULT_LIMIT,
    after: Place | None = None,
    *,
    counterpart: tuple[str, ...] = (),
) -> Pairs:
    """Return a page of the events that match, each with its counterparts.

    Args:
        index: Where to look.
        filter: What is asked for.
        path: Where the value is: ``context.`` and keys joined by dots.
        scope: What may be seen, of counterparts, too.
        catalog: Gives events their category.
        limit: How many events, 1 to 1000.
        after: Go on after this place.
        counterpart: Globs over the actions that count as counterparts; by default every action but the event's own.

    Raises:
        ConfigError: The path or the limit is of another form.
    """
    pointer = json_pointer(path)
    if not 1 <= limit <= MAX_PAIRS:
        raise ConfigError(f"must be 1 to {MAX_PAIRS}", key="limit", hint="Ask for one page after another.")
    asking = _Asking(index, filter, pointer, scope, catalog, counterpart)
    matched, going_on = asking.matched(limit, after)
    return Pairs(tuple(asking.pairs(matched)), going_on)


def each_pair(
    index: Index,
    filter: Filter,  # noqa: A002 -- the API's word
    path: str,
    scope: Scope = ALL,
    catalog: Catalog | None = None,
    *,
    counterpart: tuple[str, ...] = (),
    limit: int | None = None,
) -> Iterator[Pair]:
    """Yield every event that matches, with its counterparts, in bounded memory; the arguments are those of `correlate`."""
    asking = _Asking(index, filter, json_pointer(path), scope, catalog, counterpart)
    after: Place | None = None
    left = limit
    while left is None or left > 0:
        matched, after = asking.matched(_AT_ONCE if left is None else min(left, _AT_ONCE), after)
        yield from asking.pairs(matched)
        left = None if left is None else left - len(matched)
        if after is None:
            return


@dataclass(frozen=True, slots=True)
class _Asking:
    """One question; the attributes are the arguments of `correlate`."""

    index: Index
    filter: Filter
    pointer: str
    scope: Scope
    catalog: Catalog | None
    counterpart: tuple[str, ...]

    def matched(self, limit: int, after: Place | None) -> tuple[list[tuple[Found, str | None]], Place | None]:
        """Return events that match, each with its value, and where to go on."""
        condition = where(self.filter, self.scope, self.catalog)
        parameters: dict[str, object] = {**condition.parameters, "limit": limit + 1, "path": self.pointer}
        going_on = ""
        if after is not None:
            going_on = " AND (occurred_at, origin, seq) > ($after_time, $after_origin, $after_seq)"
            parameters |= {"after_time": plain(after.occurred_at), "after_origin": after.origin, "after_seq": after.seq}
        sql = f"SELECT {COLUMNS}, {VALUE} FROM events WHERE {condition.sql}{going_on} ORDER BY {ORDER} LIMIT $limit"  # noqa: S608 -- constants
        rows = self.index.rows(sql, parameters)
        matched = [(found(row, self.catalog), said(row[-1])) for row in rows[:limit]]
        return matched, matched[-1][0].place if len(rows) > limit else None

    def pairs(self, matched: list[tuple[Found, str | None]]) -> Iterator[Pair]:
        """Yield the pairs of some events: everything is looked through once for all of them, and what was found is held for a part."""
        values = sorted({value for _, value in matched if value is not None})
        if not values:
            yield from (_lonely(event) for event, _ in matched)
            return
        with CarrierTable.collected(self.index, values, self.pointer, self.scope, self.counterpart, self.catalog) as table:
            carriers = table.of(())
            for begin in range(0, len(matched), MAX_PAIRS):
                part = matched[begin : begin + MAX_PAIRS]
                asked = {(value, event.action) for event, value in part if value is not None}
                if not asked <= carriers.counts.keys():
                    carriers = table.of(sorted(asked))
                yield from (_lonely(event) if value is None else _pair(event, value, carriers) for event, value in part)


def json_pointer(path: str) -> str:
    """Return the JSON pointer (RFC 6901) into the context for a dotted path.

    Raises:
        ConfigError: It does not begin with ``context.``, or has an empty key.
    """
    rest = path.removeprefix(_BEGINNING)
    if rest == path or len(path) > MAX_PATH_CHARACTERS or not _PATH.fullmatch(rest) or not is_unicode(rest):
        raise ConfigError(f"{path!r} is no path into the context", key="correlate", hint="For example context.approval_id.")
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in rest.split("."))


def said(value: str | None) -> str | None:
    """Return a value that says something; None for one that does not."""
    return None if value is None or value.strip() in ("", "{}", "[]") else value


def _lonely(event: Found) -> Pair:
    return Pair(event, None, Finding.NO_VALUE, (), 0, ())


def _pair(event: Found, value: str, carriers: Carriers) -> Pair:
    counts = carriers.counts[value, event.action]
    # The event carries its own value, and is none of its counterparts.
    own_good = counts.own_counts and event.outcome == "success"
    total, counting, succeeded = counts.total - 1, counts.counting - counts.own_counts, counts.succeeded - own_good
    finding = Finding.FOUND if succeeded else Finding.UNSUCCESSFUL if counting else Finding.ONLY_ALIKE if total else Finding.ALONE
    others = [(not one_counts, one) for one, one_counts in carriers.listed_for(event, value) if one.reference != event.reference]
    others.sort(key=lambda other: (other[0], other[1].outcome != "success", other[1].occurred_at, other[1].reference))
    remarks = _remarks(event, counts, own_good=own_good) if succeeded else ()
    return Pair(event, value, finding, tuple(one for _, one in others[:MAX_COUNTERPARTS]), total, remarks)


def _remarks(event: Found, counts: Counts, *, own_good: bool) -> tuple[str, ...]:
    """Return what is true of all counterparts that succeeded, of which there is one at least."""
    # Those of two times that are left without the event's own, which is the first if any of them is.
    earliest = counts.earliest[1:] if own_good and counts.earliest[:1] == (event.occurred_at,) else counts.earliest
    said_of_all = {
        "by the same actor": counts.first_actor_id == counts.last_actor_id == event.actor_id,
        "after the event": bool(earliest) and earliest[0] is not None and earliest[0] > event.occurred_at,
        "in a trail nobody vouches for": counts.trusted == (own_good and event.trusted),
    }
    return tuple(remark for remark, true in said_of_all.items() if true)
