from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import ConfigError
from agent.events.catalog import Catalog
from agent.reader.ask.filters import Filter, Scope
from agent.reader.ask.found import Place
from agent.reader.ask.search import Value, count, each, facets, histogram, search
from agent.reader.ask.search import event as one_event
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from agent.reader.ask.found import Found
    from tests.unit.reader.ask.made import Made

CATALOG = Catalog.from_mapping(
    {
        "format": 1,
        "actions": {
            "role.*": {"category": "authorization", "sensitivity": "high"},
            "auth.login": {"category": "authentication", "sensitivity": "low"},
        },
    },
    "catalog.yaml",
)


def fill(made: Made) -> tuple[str, str]:
    """Fill two trails with events that are neither in the order of time nor all at different times."""
    mine, other = made.trail(), made.trail("other", "secrets")
    mine.batch(at(10), *(event(9 - number // 3, actor=f"user-{number % 4}") for number in range(12)))
    other.batch(at(10), *(event(7 + number // 2, action="auth.login", outcome="denied", actor="mallory") for number in range(6)))
    return mine.origin, other.origin


def order(made: Made) -> list[tuple[Any, ...]]:
    names = {0: "demo", 1: "other"}
    return sorted((values["occurred_at"], names[values["trail"]], values["seq"]) for values in made.events)


def test_events_come_in_the_order_of_time_then_trail_then_seq(made: Made) -> None:
    fill(made)
    found = search(made.index, Filter())
    assert [(one.occurred_at, one.namespace, one.seq) for one in found.events] == order(made)
    assert found.after is None
    turned = search(made.index, Filter(), newest_first=True)
    assert turned.events == found.events[::-1]


@pytest.mark.parametrize("size", [1, 2, 5, 18, 19])
@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_join_up_without_losing_or_repeating_any(made: Made, size: int, newest_first: bool) -> None:
    fill(made)
    joined: list[Found] = []
    after = None
    while True:
        page = search(made.index, Filter(), limit=size, after=after, newest_first=newest_first)
        joined += page.events
        if page.after is None:
            break
        after = Place.parse(str(page.after))
    assert tuple(joined) == search(made.index, Filter(), newest_first=newest_first).events


def test_all_events_come_one_by_one_as_they_do_in_pages(made: Made) -> None:
    fill(made)
    assert tuple(each(made.index, Filter(), catalog=CATALOG)) == search(made.index, Filter(), catalog=CATALOG).events
    assert len(list(each(made.index, Filter(), limit=3))) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2026-03-01T00:00:00Z",
        "2026-03-01T00:00:00Z~a/b/c/d~1",
        "2026-99-01T00:00:00Z~demo/p/01jmzzzzzzzzzzzzzzzzzzzzz0/n~1",
        "'; --",
    ],
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no place"):
        Place.parse(text)


def test_a_limit_has_bounds(made: Made) -> None:
    for limit in (0, 10_001):
        with pytest.raises(ConfigError, match="1 to 10000"):
            search(made.index, Filter(), limit=limit)


def test_one_event_is_found_by_its_trail_and_seq_and_only_by_who_may_see_it(made: Made) -> None:
    mine, other = fill(made)
    found = one_event(made.index, mine, 3, catalog=CATALOG)
    assert found is not None
    assert (found.origin, found.seq, found.category, found.reference) == (mine, 3, "authorization", (mine, 3))
    mine_only = Scope(("demo/*",))
    assert one_event(made.index, other, 0, mine_only) is None
    assert one_event(made.index, other, 0) is not None
    assert one_event(made.index, mine, 0, Scope(until=at(5))) is None
    for nothing in (12, 99, -1, 1 << 63):
        assert one_event(made.index, mine, nothing) is None
    assert one_event(made.index, "' OR TRUE --", 0) is None


def test_counts_facets_and_bars_agree_with_the_events(made: Made) -> None:
    fill(made)
    found = search(made.index, Filter(), catalog=CATALOG).events
    assert count(made.index, Filter()) == len(found) == 18
    shown = facets(made.index, Filter(), catalog=CATALOG)
    assert shown["actor"][0] == Value("mallory", 6)
    assert shown["outcome"] == (Value("success", 12), Value("denied", 6))
    assert shown["service"] == (Value("demo/payments", 12), Value("other/secrets", 6))
    assert shown["category"] == (Value("authorization", 12), Value("authentication", 6))
    assert shown["target"] == (Value("account/bob", 18),)
    assert shown["action"] == (Value("role.grant", 12), Value("auth.login", 6))
    assert len(facets(made.index, Filter(), top=2)["actor"]) == 2
    bars = histogram(made.index, Filter(), bucket="hour").bars
    assert {(bar.start, bar.outcome): bar.count for bar in bars} == Counter((one.occurred_at, one.outcome) for one in found)


def test_facets_and_bars_stay_within_the_scope(made: Made) -> None:
    fill(made)
    mine = Scope(("demo/*",))
    shown = facets(made.index, Filter(service=("*",)), mine, CATALOG)
    assert "mallory" not in str(shown)
    assert "secrets" not in str(shown)
    assert {bar.outcome for bar in histogram(made.index, Filter(), mine).bars} == {"success"}
    assert count(made.index, Filter(), mine) == 12


@pytest.mark.parametrize(("spread", "bucket"), [(1, "minute"), (100, "hour"), (100 * 24, "day"), (600 * 24, "week"), (4000 * 24, "month")])
def test_the_shortest_bucket_is_chosen_that_makes_few_bars(made: Made, spread: float, bucket: str) -> None:
    made.trail().batch(at(1), event(0.0), event(spread))
    found = histogram(made.index, Filter())
    assert found.bucket == bucket
    assert sum(bar.count for bar in found.bars) == 2
    assert all(bar.start.tzinfo is UTC for bar in found.bars)


def test_no_events_make_no_bars_and_an_unknown_bucket_is_refused(made: Made) -> None:
    assert histogram(made.index, Filter()).bars == ()
    unknown: Any = "fortnight'; --"
    with pytest.raises(ConfigError, match="minute"):
        histogram(made.index, Filter(), bucket=unknown)


def test_a_time_that_only_the_database_can_express_is_shown_as_the_last_there_is(made: Made) -> None:
    made.trail().batch(at(1), event(1))
    made.execute("UPDATE event_rows SET occurred_at = TIMESTAMP '290000-01-01'")
    (found,) = search(made.index, Filter()).events
    assert found.occurred_at == datetime.max.replace(tzinfo=UTC)
    assert found.as_json()["event"]["occurred_at"] == "9999-12-31T23:59:59.999999Z"
    assert found.occurred_at - timedelta(days=1) < found.occurred_at


def test_an_event_is_shown_in_the_frozen_schema_with_its_context_as_it_was(made: Made) -> None:
    made.trail().batch(at(2), event(1, granted_role="admin", big=12345678901234567890123, nested={"a": [1.5, None]}))
    (found,) = search(made.index, Filter(), catalog=CATALOG).events
    plain = found.as_json()
    assert plain["event"] == {
        "event_id": "e-0-0",
        "occurred_at": "2026-03-01T01:00:00.000000Z",
        "actor": {"type": "user", "id": "alice", "session": None},
        "action": "role.grant",
        "target": {"type": "account", "id": "bob"},
        "outcome": "success",
        "context": {"granted_role": "admin", "big": 12345678901234567890123, "nested": {"a": [1.5, None]}},
    }
    assert (plain["seq"], plain["trusted"], plain["category"]) == (0, True, "authorization")
