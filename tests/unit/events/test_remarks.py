from __future__ import annotations

from dataclasses import replace

import pytest

from agent.events.catalog import Catalog, Category, Entry, Sensitivity
from agent.events.merging import Merged, Place, Placed, merge_listed
from agent.events.remarks import remarks, unmet

LOGIN = Entry(
    "auth.*", Category.AUTHENTICATION, Sensitivity.MEDIUM, privileged=False, required_context=("method",), description="Any step."
)


def at(file: str, *entries: Entry) -> Merged:
    return Merged(tuple(Placed(entry, Place(file, line)) for line, entry in enumerate(entries, 1)))


def test_a_longer_beginning_that_demands_less_is_worth_a_look() -> None:
    lax = replace(LOGIN, action="auth.token.*", required_context=())
    [remark] = remarks(at("c.yaml", LOGIN, lax))
    assert (remark.kind, remark.action, str(remark.place)) == ("overlap", "auth.*", "c.yaml:1")
    assert remark.other is not None
    assert (remark.other.entry, str(remark.other.place)) == (lax, "c.yaml:2")


@pytest.mark.parametrize("sensitivity", [Sensitivity.HIGH, Sensitivity.LOW])
def test_a_longer_beginning_of_another_sensitivity_is_worth_a_look_only_in_another_file(sensitivity: Sensitivity) -> None:
    other = replace(LOGIN, action="auth.mfa.*", sensitivity=sensitivity)
    assert list(remarks(at("c.yaml", LOGIN, other))) == []
    [remark] = remarks(merge_listed([at("c.yaml", LOGIN), at("d.yaml", other)]))
    assert remark.kind == "overlap"


def test_an_entry_that_is_not_in_force_and_one_without_a_description_are_worth_a_look() -> None:
    bare = replace(LOGIN, description=" ")
    found = list(remarks(merge_listed([at("c.yaml", LOGIN), at("d.yaml", bare)])))
    assert [(remark.kind, str(remark.place)) for remark in found] == [("shadowed", "c.yaml:1"), ("no_description", "d.yaml:1")]


def test_an_event_of_a_mapping_that_would_be_quarantined_is_found_once_for_each_reason() -> None:
    examples = [
        {"title": "by password", "event": {"action": "auth.login", "context": {"method": "password"}}},
        {"title": "by magic", "event": {"action": "auth.login", "context": {}}},
        {"title": "by more magic", "event": {"action": "auth.login"}},
        {"title": "a door", "event": {"action": "door.open"}},
        {"title": "another door", "event": {"action": "door.open"}},
        {"title": "an ordinary line", "passes": True},
        {"title": "no action", "event": {"action": 7}},
        "no example",
    ]
    found = [(each.action, each.missing_context, each.example) for each in unmet(examples, Catalog((LOGIN,)))]
    assert found == [("auth.login", "method", "by magic"), ("door.open", None, "a door")]
