from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.reader.ask.correlation import Finding, correlate, each_pair, json_pointer
from agent.reader.ask.filters import ALL, Filter, Scope
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from agent.reader.ask.correlation import Pair
    from tests.unit.reader.ask.made import Made

GRANTS = Filter(action=("role.grant",))
PATH = "context.approval_id"


def grant(hours: float, approval: object = None, **values: Any) -> dict[str, Any]:
    return event(hours, approval_id=approval, **values)


def approval(hours: float, number: object, **values: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"actor": "boss", "action": "approval.grant", "target": "request"}
    return event(hours, approval_id=number, **usual | values)


def pairs(made: Made, *events: dict[str, Any], asked: Filter = GRANTS, scope: Scope = ALL, path: str = PATH, **more: Any) -> list[Pair]:
    made.trail().batch(at(48), *events)
    return list(correlate(made.index, asked, path, scope, **more).pairs)


def test_a_grant_and_its_approval_are_shown_side_by_side(made: Made) -> None:
    (pair,) = pairs(made, approval(1, "A-1"), grant(2, "A-1"), approval(3, "A-2"))
    assert (pair.finding, pair.value, pair.total, pair.remarks) == (Finding.FOUND, "A-1", 1, ())
    assert [(one.action, one.actor_id) for one in pair.counterparts] == [("approval.grant", "boss")]
    assert pair.as_json()["correlation"]["counterparts"][0]["event"]["context"] == {"approval_id": "A-1"}


def test_a_grant_without_approval_is_shown_alone(made: Made) -> None:
    (pair,) = pairs(made, approval(1, "A-1"), grant(2, "A-9"))
    assert (pair.finding, pair.value, pair.counterparts, pair.total) == (Finding.ALONE, "A-9", (), 0)


@pytest.mark.parametrize("nothing", [None, "", "  ", "\u2003", {}, []])
def test_a_value_that_says_nothing_joins_nothing(made: Made, nothing: object) -> None:
    (pair,) = pairs(made, approval(1, nothing), grant(2, nothing))
    assert (pair.finding, pair.value, pair.counterparts) == (Finding.NO_VALUE, None, ())


def test_a_context_without_the_key_no_context_and_no_json_have_no_value(made: Made) -> None:
    broken = grant(3) | {"context": '{"approval_id":'}
    found = pairs(made, event(1), event(2, other="A-1"), broken, grant(4, "A-1"))
    assert [pair.finding for pair in found] == [Finding.NO_VALUE] * 3 + [Finding.ALONE]


def test_one_number_used_for_two_grants_approves_neither(made: Made) -> None:
    found = pairs(
        made, grant(1, "A-1"), grant(2, "A-1"), event(0.5, approval_id="A-1"), asked=Filter(action=("role.grant",), since=at(0.9))
    )
    assert [(pair.finding, pair.total) for pair in found] == [(Finding.ONLY_ALIKE, 2)] * 2


def test_a_request_that_was_denied_is_no_approval(made: Made) -> None:
    (pair,) = pairs(made, approval(1, "A-1", outcome="denied"), approval(1.5, "A-1", outcome="failure"), grant(2, "A-1"))
    assert (pair.finding, [one.outcome for one in pair.counterparts]) == (Finding.UNSUCCESSFUL, ["denied", "failure"])


def test_who_approves_their_own_grant_is_pointed_out(made: Made) -> None:
    (pair,) = pairs(made, approval(1, "A-1", actor="alice"), grant(2, "A-1"))
    assert (pair.finding, pair.remarks) == (Finding.FOUND, ("by the same actor",))


def test_an_approval_that_came_after_the_grant_is_pointed_out(made: Made) -> None:
    (pair,) = pairs(made, grant(2, "A-1"), approval(3, "A-1"))
    assert pair.remarks == ("after the event",)


def test_one_good_approval_among_bad_ones_needs_no_remark(made: Made) -> None:
    (pair,) = pairs(made, approval(1, "A-1"), grant(2, "A-1"), approval(3, "A-1", actor="alice"))
    assert (pair.finding, pair.remarks, pair.total) == (Finding.FOUND, (), 2)


def test_an_approval_in_a_trail_nobody_vouches_for_is_pointed_out(made: Made) -> None:
    made.trail(trusted=False).batch(at(48), approval(1, "A-1"))
    (pair,) = pairs(made, grant(2, "A-1"))
    assert pair.remarks == ("in a trail nobody vouches for",)


def test_only_what_is_said_to_be_a_counterpart_counts(made: Made) -> None:
    events = (grant(1, "A-1"), event(2, action="role.revoke", approval_id="A-1"))
    (pair,) = pairs(made, *events)
    assert pair.finding is Finding.FOUND
    (pair,) = correlate(made.index, GRANTS, PATH, counterpart=("approval.*",)).pairs
    assert (pair.finding, [one.action for one in pair.counterparts]) == (Finding.ONLY_ALIKE, ["role.revoke"])
    (pair,) = correlate(made.index, GRANTS, PATH, counterpart=("*",)).pairs
    assert pair.finding is Finding.FOUND


def test_an_event_is_not_its_own_counterpart_even_if_its_action_counts(made: Made) -> None:
    (pair,) = pairs(made, grant(1, "A-1"), counterpart=("role.grant",))
    assert (pair.finding, pair.total) == (Finding.ALONE, 0)


def test_counterparts_come_from_every_service_and_time_but_never_from_beyond_the_scope(made: Made) -> None:
    made.trail("demo", "approvals").batch(at(48), approval(0, "A-1"))
    made.trail("other", "secrets").batch(at(48), approval(0, "A-2", actor="mole"), grant(5, "A-1"))
    asked = Filter(action=("role.grant",), service=("payments",), since=at(1))
    found = pairs(made, grant(2, "A-1"), grant(3, "A-2"), asked=asked, scope=Scope(("demo/*",)))
    assert [(pair.finding, pair.total) for pair in found] == [(Finding.FOUND, 1), (Finding.ALONE, 0)]
    assert "mole" not in json.dumps([pair.as_json() for pair in found])
    everything = correlate(made.index, asked, PATH).pairs
    assert [(pair.finding, pair.total) for pair in everything] == [(Finding.FOUND, 2), (Finding.FOUND, 1)]
    narrow = correlate(made.index, asked, PATH, Scope(since=at(1))).pairs
    assert [(pair.finding, pair.total) for pair in narrow] == [(Finding.ONLY_ALIKE, 1), (Finding.ALONE, 0)]


def test_a_flood_of_carriers_hides_neither_the_approval_nor_its_absence(made: Made) -> None:
    flood = [grant(3 + number / 100, "A-1") for number in range(120)]
    events = (*flood, approval(9, "A-1"), *(event(2, action=f"x.{number}", outcome="failure", approval_id="A-2") for number in range(60)))
    found = pairs(made, *events, grant(20, "A-2"), asked=Filter(action=("role.grant",), since=at(4.15)))
    last_of_flood, with_failures = found[-2:]
    assert (last_of_flood.finding, last_of_flood.total, len(last_of_flood.counterparts)) == (Finding.FOUND, 120, 20)
    assert last_of_flood.counterparts[0].action == "approval.grant"
    assert (with_failures.finding, with_failures.total) == (Finding.UNSUCCESSFUL, 60)


def test_a_value_is_found_however_json_spells_it(made: Made) -> None:
    spelled = approval(1, "") | {"context": r'{"\u0061pproval_id" : "\u0041-1"}'}
    (pair,) = pairs(made, spelled, grant(2, "A-1"))
    assert pair.finding is Finding.FOUND


def test_numbers_and_texts_are_compared_as_text(made: Made) -> None:
    (pair,) = pairs(made, approval(1, 17), grant(2, "17"))
    assert pair.finding is Finding.FOUND


def test_pages_join_up(made: Made) -> None:
    events = [grant(1, f"A-{number % 4}") for number in range(9)]
    made.trail().batch(at(48), *events, *(approval(0.5, f"A-{number}") for number in range(3)))
    first = correlate(made.index, GRANTS, PATH, limit=4)
    second = correlate(made.index, GRANTS, PATH, limit=4, after=first.after)
    third = correlate(made.index, GRANTS, PATH, limit=4, after=second.after)
    joined = [pair.event.seq for page in (first, second, third) for pair in page.pairs]
    assert (joined, third.after) == (list(range(9)), None)
    assert [pair.event.seq for pair in each_pair(made.index, GRANTS, PATH)] == joined
    assert [pair.event.seq for pair in each_pair(made.index, GRANTS, PATH, limit=2)] == joined[:2]


@pytest.mark.parametrize(
    "path", ["approval_id", "context", "context.", "context..a", "context.a.", "", "actor.id", "context.\ud800", "context." + "a" * 500]
)
def test_a_path_that_is_none_is_refused(made: Made, path: str) -> None:
    with pytest.raises(ConfigError, match=r"context\.approval_id|no path"):
        correlate(made.index, GRANTS, path)


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="."), min_size=1, max_size=5)


@given(keys=st.lists(KEYS, min_size=1, max_size=3), ascii_only=st.booleans())
@example(keys=["*"], ascii_only=True)
@example(keys=["~1", "/", "$"], ascii_only=False)
@example(keys=['"', "'", "\\"], ascii_only=True)
def test_any_key_can_be_named(keys: list[str], ascii_only: bool) -> None:
    import duckdb

    context: Any = "value"
    for key in reversed(keys):
        context = {key: context, f"{key}x": "other"}
    text = json.dumps(context, ensure_ascii=ascii_only)
    sql = "SELECT json_extract_string($context, $path), contains($context, $key) OR contains($context, '\\')"
    values = {"context": text, "path": json_pointer("context." + ".".join(keys)), "key": keys[-1]}
    assert duckdb.execute(sql, values).fetchall() == [("value", True)]


def test_many_may_ask_at_the_same_time(made: Made) -> None:
    from concurrent.futures import ThreadPoolExecutor

    made.trail().batch(
        at(48), *(grant(number, f"A-{number}") for number in range(20)), *(approval(number, f"A-{number}") for number in range(10))
    )
    index = made.index

    def ask(number: int) -> list[Finding]:
        return [pair.finding for pair in correlate(index, Filter(action=("role.grant",), since=at(number)), PATH).pairs]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [0, 5, 10, 15] * 8))
    assert [len(answer) for answer in answers] == [20, 15, 10, 5] * 8
    assert all(answer.count(Finding.FOUND) == max(0, len(answer) - 10) for answer in answers)
