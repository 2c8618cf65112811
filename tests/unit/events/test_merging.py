from __future__ import annotations

from dataclasses import replace

import pytest

from agent.events.catalog import Category, Entry, Sensitivity
from agent.events.merging import Merged, Place, Placed, Shadowed, merge_included, merge_listed

GRANT = Entry("role.grant", Category.AUTHORIZATION, Sensitivity.HIGH, privileged=True, required_context=("a", "b"), description="Given.")
WEAK = replace(GRANT, required_context=())
OTHER = replace(GRANT, action="role.revoke")


def at(file: str, *entries: Entry) -> Merged:
    """A file that says nothing but these entries, one a line."""
    return Merged(tuple(Placed(entry, Place(file, line)) for line, entry in enumerate(entries, 1)))


def own(*entries: Entry) -> tuple[Placed, ...]:
    return at("own.yaml", *entries).placed


def in_force(merged: Merged) -> dict[str, str]:
    return {placed.entry.action: str(placed.place) for placed in merged.placed}


@pytest.mark.parametrize(
    "different",
    [
        replace(GRANT, category=Category.SECURITY),
        replace(GRANT, sensitivity=Sensitivity.LOW),
        replace(GRANT, privileged=False),
        replace(GRANT, required_context=("a",)),
        replace(GRANT, description="Handed over."),
    ],
)
def test_two_included_files_that_differ_in_any_field_are_a_conflict_of_two_places(different: Entry) -> None:
    merged, [conflict] = merge_included((), [at("a.yaml", GRANT), at("b.yaml", OTHER, different)])
    assert (str(conflict.first.place), str(conflict.second.place)) == ("a.yaml:1", "b.yaml:2")
    assert merged.catalog().entry("role.grant") == GRANT
    assert merged.shadowed == ()


def test_the_including_file_s_own_entry_decides_and_what_lost_is_kept() -> None:
    merged, conflicts = merge_included(own(OTHER, GRANT), [at("a.yaml", GRANT), at("b.yaml", WEAK)])
    assert conflicts == ()
    assert in_force(merged) == {"role.revoke": "own.yaml:1", "role.grant": "own.yaml:2"}
    assert merged.shadowed == (Shadowed(Placed(WEAK, Place("b.yaml", 1)), Placed(GRANT, Place("own.yaml", 2))),)


def test_an_own_beginning_does_not_decide_about_an_exact_name() -> None:
    beginning = replace(GRANT, action="role.*")
    _, conflicts = merge_included(own(beginning), [at("a.yaml", GRANT), at("b.yaml", WEAK)])
    assert [conflict.second.entry for conflict in conflicts] == [WEAK]


def test_entries_that_say_the_same_are_no_conflict_whatever_the_order_of_the_context() -> None:
    turned = replace(GRANT, required_context=("b", "a"))
    merged, conflicts = merge_included((), [at("a.yaml", GRANT), at("b.yaml", turned)])
    assert (conflicts, merged.shadowed) == ((), ())
    assert in_force(merged) == {"role.grant": "a.yaml:1"}


def test_three_files_of_which_the_last_two_agree_are_two_conflicts_with_the_first() -> None:
    _, conflicts = merge_included((), [at("a.yaml", GRANT), at("b.yaml", WEAK), at("c.yaml", WEAK)])
    assert [str(conflict.second.place) for conflict in conflicts] == ["b.yaml:1", "c.yaml:1"]


def test_of_a_list_the_later_wins_and_keeps_the_place_of_the_first_in_the_order() -> None:
    merged = merge_listed([at("a.yaml", GRANT, OTHER), at("b.yaml", WEAK)])
    assert [str(placed.place) for placed in merged.placed] == ["b.yaml:1", "a.yaml:2"]
    assert [(str(each.loser.place), str(each.winner.place)) for each in merged.shadowed] == [("a.yaml:1", "b.yaml:1")]
    assert merged.catalog().entries == (WEAK, OTHER)


def test_what_lost_below_is_told_above_once() -> None:
    first, _ = merge_included(own(GRANT), [at("a.yaml", WEAK)])
    again, _ = merge_included((), [first, first])
    assert again.shadowed == first.shadowed
    assert len(again.shadowed) == 1
    assert merge_listed([first, again]).shadowed == first.shadowed


def test_nothing_merges_to_nothing() -> None:
    assert merge_listed([]) == Merged()
    assert merge_included((), []) == (Merged(), ())
