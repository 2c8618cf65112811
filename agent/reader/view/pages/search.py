"""The search: events, what they are made of, and when they happened, with the statement of what the answer stands on.

Invariants: every value in an address made here is encoded, and leads to this site. This module must not put a value into SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ....errors import ConfigError
from ...ask.filters import CATEGORIES, OUTCOMES, Filter, where
from ...ask.found import Place
from ...ask.search import count, facets, histogram, search
from ...ask.statement import statement
from ...ask.words import as_command, in_words
from ..chart import draw
from ..guard import visit_of
from ..parameters import MANY, MAX_CHARACTERS, exactly, pairs, read_filter, text, written
from ..problems import Malformed
from ..rendering import query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...ask.search import Value
    from ..guard import Visit
    from ..sight import Sight

_FIELDS: Final = (
    ("actor", "Actor", "u-1*"),
    ("action", "Action", "role.*"),
    ("target", "Target", "acc-*"),
    ("service", "Service", "payments"),
)
_EXACT: Final = frozenset({"outcome", "category"})


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a facet, and the address that narrows to it; None where it is in use, or too long for an address."""

    value: str
    count: int
    address: str | None


def address(path: str, given: Sequence[tuple[str, str]]) -> str:
    """Return an address within this site."""
    return f"{path}?{query(list(given))}" if given else path


def chips(asked: Filter) -> list[tuple[str, str, str]]:
    """Return the filters in use: name, value, and the address without it."""
    given = pairs(asked)
    return [(name, value, address("/", [pair for pair in given if pair != (name, value)])) for name, value in given]


async def show_search(request: web.Request) -> web.StreamResponse:
    """Answer ``/``."""
    visit = visit_of(request)
    asked = read_filter(request.query)
    order = text(request.query, "order") or "newest"
    if order not in {"newest", "oldest"}:
        raise Malformed("The order is newest or oldest.")
    given = pairs(asked)
    visit.trace.action, visit.trace.context["query"] = "view.search", dict_of(given)
    after = _place(text(request.query, "after"))
    values = await visit.ask(lambda sight: _look(visit, sight, asked, after, newest_first=order == "newest"))
    visit.trace.context["matched"] = values["total"]
    ordered = [*given, *([("order", "oldest")] if order == "oldest" else [])]
    following = values.pop("after")
    return visit.page(
        "search.html",
        asked=asked,
        pairs=given,
        order=order,
        chips=chips(asked),
        fields=_FIELDS,
        single={name: getattr(asked, name)[0] if len(getattr(asked, name)) == 1 else "" for name, _, _ in _FIELDS},
        outcomes=OUTCOMES,
        categories=CATEGORIES if visit.desk.catalog is not None else (),
        since=written(asked.since) if asked.since else "",
        until=written(asked.until) if asked.until else "",
        first=address("/", ordered) if after is not None else None,
        next=address("/", [*ordered, ("after", str(following))]) if following is not None else None,
        **values,
    )


async def show_statement(request: web.Request) -> web.StreamResponse:
    """Answer ``/statement.json``."""
    visit = visit_of(request)
    asked = read_filter(request.query)
    visit.trace.action, visit.trace.context["query"] = "view.search", dict_of(pairs(asked))
    said = await visit.ask(lambda sight: statement(sight, asked, visit.grant.scope, visit.desk.now(), catalog=visit.desk.catalog).as_json())
    return web.json_response(said)


def dict_of(given: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return pairs as the context of an event holds them."""
    made: dict[str, list[str]] = {}
    for name, value in given:
        made.setdefault(name, []).append(value)
    return made


def _place(given: str | None) -> Place | None:
    try:
        return None if given is None else Place.parse(given)
    except ConfigError:
        raise Malformed("This page of the answer cannot be found; begin with the first.") from None


def _look(visit: Visit, sight: Sight, asked: Filter, after: Place | None, *, newest_first: bool) -> dict[str, Any]:
    """Ask everything that the page shows; runs in a thread."""
    desk, scope = visit.desk, visit.grant.scope
    whole = asked
    said = statement(sight, Filter(service=asked.service, since=asked.since, until=asked.until), scope, desk.now(), matched=0)
    if asked.text:
        sight.narrow(where(asked, scope, desk.catalog))
        asked = replace(asked, text=None)
    page = search(sight, asked, scope, desk.catalog, desk.bounds.page_events, after, newest_first=newest_first)
    total = count(sight, asked, scope, desk.catalog)
    found = facets(sight, asked, scope, desk.catalog)
    return {
        "found": page.events,
        "after": page.after,
        "total": total,
        "facets": [(name, _values(whole, name, values, desk.bounds.address_characters)) for name, values in found.items() if values],
        "chart": draw(histogram(sight, asked, scope, desk.catalog)),
        "said": replace(said, matched=total, query=in_words(whole, scope), command=as_command(whole, sight.store)),
    }


def _values(asked: Filter, name: str, values: Sequence[Value], most_characters: int) -> list[FacetValue]:
    used = getattr(asked, name) if name in MANY else ()
    others = [pair for pair in pairs(asked) if pair[0] != name]
    made = []
    for one in values:
        pattern = one.value if name in _EXACT else exactly(one.value)
        leads = address("/", [*others, (name, pattern)])
        good = used != (pattern,) and len(pattern) <= MAX_CHARACTERS and len(leads) <= most_characters
        made.append(FacetValue(one.value, one.count, leads if good else None))
    return made
