"""Counterparts of many events and from many carriers: the same as by looking at each, without holding each."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.reader.ask import carriers, correlation
from agent.reader.ask.correlation import Finding, correlate, each_pair
from agent.reader.ask.filters import Filter
from agent.reader.ask.found import found
from agent.reader.ask.search import each
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from agent.reader.ask.correlation import Pair
    from agent.reader.ask.found import Found
    from tests.unit.reader.ask.made import Made

PATH = "context.approval_id"
EVERYTHING = Filter()


def value_of(one: Found) -> str | None:
    said = one.as_json()["event"]["context"]
    return said["approval_id"] if said else None


def by_looking_at_each(event: Found, everything: list[Found], counterpart: tuple[str, ...]) -> tuple[Any, ...]:
    """Return finding, total and remarks of an event as the documentation has them, the long way."""
    if value_of(event) is None:
        return Finding.NO_VALUE, 0, ()
    others = [one for one in everything if one.reference != event.reference and value_of(one) == value_of(event)]
    counting = [one for one in others if (one.action in counterpart if counterpart else one.action != event.action)]
    good = [one for one in counting if one.outcome == "success"]
    remarks = {
        "by the same actor": all(one.actor_id == event.actor_id for one in good),
        "after the event": all(one.occurred_at > event.occurred_at for one in good),
        "in a trail nobody vouches for": not any(one.trusted for one in good),
    }
    finding = Finding.FOUND if good else Finding.UNSUCCESSFUL if counting else Finding.ONLY_ALIKE if others else Finding.ALONE
    return finding, len(others), tuple(remark for remark, true in remarks.items() if good and true)


def any_events(chance: random.Random, number: int) -> list[dict[str, Any]]:
    return [
        event(
            chance.randrange(20),
            actor=chance.choice("ab"),
            action=chance.choice(("role.grant", "role.approve", "role.ask")),
            outcome=chance.choice(("success", "success", "denied")),
            **({} if chance.random() < 0.1 else {"approval_id": f"A-{chance.randrange(number // 3)}"}),
        )
        for _ in range(number)
    ]


def plainly(pairs: list[Pair]) -> list[tuple[Any, ...]]:
    return [(pair.finding, pair.total, pair.remarks) for pair in pairs]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_found_is_what_is_found_by_looking_at_each(made: Made, seed: int) -> None:
    chance = random.Random(seed)
    made.trail().batch(at(48), *any_events(chance, 40))
    made.trail("demo", "other", trusted=False).batch(at(48), *any_events(chance, 40))
    everything = list(each(made.index, EVERYTHING))
    for counterpart in ((), ("role.approve",), ("role.grant", "role.approve"), ("none",)):
        pairs = list(each_pair(made.index, EVERYTHING, PATH, counterpart=counterpart))
        assert [pair.event for pair in pairs] == everything
        assert plainly(pairs) == [by_looking_at_each(pair.event, everything, counterpart) for pair in pairs]
        assert all(len(pair.counterparts) == pair.total for pair in pairs)


def test_parts_join_up_to_the_same_answer(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.trail().batch(at(48), *any_events(random.Random(7), 60))
    whole = list(each_pair(made.index, EVERYTHING, PATH))
    monkeypatch.setattr(correlation, "_AT_ONCE", 7)
    monkeypatch.setattr(correlation, "MAX_PAIRS", 3)
    assert list(each_pair(made.index, EVERYTHING, PATH)) == whole
    assert list(each_pair(made.index, EVERYTHING, PATH, limit=20)) == whole[:20]


def test_another_grant_that_counts_and_came_later_is_after_the_event(made: Made) -> None:
    """The event itself is among the carriers of its value, and is not its own earliest counterpart."""
    made.trail().batch(at(48), event(1, approval_id="A"), event(2, approval_id="A"))
    first, second = correlate(made.index, EVERYTHING, PATH, counterpart=("role.grant",)).pairs
    assert (first.remarks, second.remarks) == (("by the same actor", "after the event"), ("by the same actor",))


def test_a_flood_of_carriers_is_counted_where_it_lies(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write events may write many with one value, each by another actor, with an action of its own."""
    made.trail().batch(at(48), *(event(30 + number, approval_id="A", actor=f"g-{number}") for number in range(50)))
    made.execute(
        """INSERT INTO event_rows BY NAME SELECT * EXCLUDE i REPLACE (1000 + i AS seq, 'f-' || i AS event_id, 'f-' || i AS actor_id,
            'flood.' || i AS action, occurred_at - INTERVAL 1 HOUR AS occurred_at)
            FROM (FROM event_rows LIMIT 1), range(20000) r(i)"""
    )
    held = []

    def noted(*arguments: Any) -> Found:
        held.append(found(*arguments))
        return held[-1]

    monkeypatch.setattr(carriers, "found", noted)
    pairs = list(each_pair(made.index, Filter(action=("role.grant",)), PATH))
    assert {(pair.finding, pair.total, len(pair.counterparts)) for pair in pairs} == {(Finding.FOUND, 20_049, 20)}
    assert len(held) <= 2 * carriers.MAX_COUNTERPARTS + 1
