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

import dataclasses
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from ...errors import ConfigError
from .filters import ALL, Filter, is_unicode, plain, where
from .found import COLUMNS, ORDER, Found, Place, found, with_moments
from .search import DEFAULT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ...events.catalog import Catalog
    from ..index import Index
    from .filters import Condition, Scope

MAX_COUNTERPARTS: Final = 20
MAX_PAIRS: Final = 1000
MAX_PATH_CHARACTERS: Final = 500
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
    condition = where(filter, scope, catalog)
    parameters: dict[str, object] = {**condition.parameters, "limit": limit + 1, "path": pointer}
    going_on = ""
    if after is not None:
        going_on = " AND (occurred_at, origin, seq) > ($after_time, $after_origin, $after_seq)"
        parameters |= {"after_time": plain(after.occurred_at), "after_origin": after.origin, "after_seq": after.seq}
    sql = f"SELECT {COLUMNS}, {_VALUE} FROM events WHERE {condition.sql}{going_on} ORDER BY {ORDER} LIMIT $limit"  # noqa: S608 -- constants
    rows = index.rows(sql, parameters)
    matched = [(found(row, catalog), said(row[-1])) for row in rows[:limit]]
    values = sorted({value for _, value in matched if value is not None})
    carriers = _Carriers.of(index, values, pointer, where(Filter(), scope), where(Filter(action=counterpart), prefix="w"), catalog)
    pairs = tuple(_pair(event, value, carriers, explicit=bool(counterpart)) for event, value in matched)
    return Pairs(pairs, pairs[-1].event.place if len(rows) > limit else None)


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
    """Yield every event that matches, with its counterparts, page by page; the arguments are those of `correlate`."""
    after: Place | None = None
    left = limit
    while left is None or left > 0:
        size = MAX_PAIRS if left is None else min(left, MAX_PAIRS)
        page = correlate(index, filter, path, scope, catalog, size, after, counterpart=counterpart)
        yield from page.pairs
        after = page.after
        left = None if left is None else left - len(page.pairs)
        if after is None:
            return


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


@dataclass(frozen=True, slots=True)
class _Kind:
    """The carriers of a value that have action, actor and outcome in common.

    Attributes:
        action: What they did.
        actor_id: Who did it.
        outcome: How it ended.
        wanted: Whether the action is one of those asked for as counterparts.
        count: How many there are.
        earliest: When the first of them occurred.
        trusted: Whether somebody vouches for the trail of any of them.
    """

    action: str
    actor_id: str
    outcome: str
    wanted: bool
    count: int
    earliest: datetime | None
    trusted: bool


@dataclass(frozen=True, slots=True)
class _Carriers:
    """All events that carry one of some values: what kinds there are, and some of them."""

    kinds: dict[str, list[_Kind]]
    listed: dict[str, list[Found]]

    @classmethod
    def of(cls, index: Index, values: list[str], pointer: str, allowed: Condition, wanted: Condition, catalog: Catalog | None) -> Self:
        kinds: dict[str, list[_Kind]] = {value: [] for value in values}
        listed: dict[str, list[Found]] = {value: [] for value in values}
        if not values:
            return cls(kinds, listed)
        cursor = index.cursor()
        try:
            # Temporary tables are the connection's own, and this connection is ours alone.
            made = _MAKE.format(columns=COLUMNS, value=_VALUE, allowed=allowed.sql, wanted=wanted.sql)
            hint = {"key": pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")}
            cursor.execute(made, {**allowed.parameters, **wanted.parameters, "path": pointer, "values": values, **hint})
            for value, *row in cursor.execute(_KINDS).fetchall():
                kinds[value].append(_Kind(*with_moments(row, 5)))
            for *row, value in cursor.execute(_LISTED.format(columns=COLUMNS), {"most": 2 * MAX_COUNTERPARTS + 1}).fetchall():
                listed[value].append(found(row, catalog))
        finally:
            cursor.close()
        return cls(kinds, listed)


_VALUE: Final = "TRY(json_extract_string(context, $path)) AS correlation_value"
# Few contexts hold the key; those that hold none and no escape either are not parsed.
_MAKE: Final = """CREATE TEMP TABLE carriers AS SELECT *, {wanted} AS wanted FROM (
    SELECT {columns}, {value} FROM events WHERE {allowed} AND (contains(context, $key) OR contains(context, '\\')))
    WHERE correlation_value IN (SELECT unnest($values::VARCHAR[]))"""
_KINDS: Final = """SELECT correlation_value, action, actor_id, outcome, wanted, count(*), min(occurred_at), bool_or(trusted)
    FROM carriers GROUP BY ALL"""
_LISTED: Final = f"""SELECT {{columns}}, correlation_value FROM (
        SELECT *, row_number() OVER (PARTITION BY correlation_value, action ORDER BY outcome <> 'success', {ORDER}) AS turn
        FROM carriers)
    QUALIFY row_number() OVER (PARTITION BY correlation_value ORDER BY wanted DESC, turn, {ORDER}) <= $most"""  # noqa: S608 -- constants


def _pair(event: Found, value: str | None, carriers: _Carriers, *, explicit: bool) -> Pair:
    if value is None:
        return Pair(event, None, Finding.NO_VALUE, (), 0, ())

    def counts(action: str, *, wanted: bool) -> bool:
        return wanted if explicit else action != event.action

    kinds = [_without(kind, event) for kind in carriers.kinds[value]]
    total = sum(kind.count for kind in kinds)
    counting = [kind for kind in kinds if kind.count and counts(kind.action, wanted=kind.wanted)]
    succeeded = [kind for kind in counting if kind.outcome == "success"]
    finding = Finding.FOUND if succeeded else Finding.UNSUCCESSFUL if counting else Finding.ONLY_ALIKE if total else Finding.ALONE
    actions = {kind.action for kind in counting}
    others = [one for one in carriers.listed[value] if one.reference != event.reference]
    others.sort(key=lambda one: (one.action not in actions, one.outcome != "success", one.occurred_at, one.reference))
    return Pair(event, value, finding, tuple(others[:MAX_COUNTERPARTS]), total, _remarks(event, succeeded))


def _without(kind: _Kind, event: Found) -> _Kind:
    """Return a kind without the event itself, which carries its own value."""
    same = (kind.action, kind.actor_id, kind.outcome) == (event.action, event.actor_id, event.outcome)
    return dataclasses.replace(kind, count=kind.count - 1) if same else kind


def _remarks(event: Found, kinds: list[_Kind]) -> tuple[str, ...]:
    said_of_all = {
        "by the same actor": all(kind.actor_id == event.actor_id for kind in kinds),
        "after the event": all(kind.earliest is not None and kind.earliest > event.occurred_at for kind in kinds),
        "in a trail nobody vouches for": not any(kind.trusted for kind in kinds),
    }
    return tuple(remark for remark, true in said_of_all.items() if kinds and true)
