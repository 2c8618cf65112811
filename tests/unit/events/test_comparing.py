from __future__ import annotations

from dataclasses import replace

import pytest

from agent.events.catalog import Catalog, Category, Entry, Sensitivity
from agent.events.comparing import Direction, compare

GRANT = Entry("role.grant", Category.AUTHORIZATION, Sensitivity.MEDIUM, privileged=True, required_context=("a", "b"), description="Given.")
ALL_ROLES = replace(GRANT, action="role.*")


def test_a_narrow_new_entry_that_demands_less_than_the_beginning_before_it_is_weaker() -> None:
    [change] = compare(Catalog((ALL_ROLES,)), Catalog((ALL_ROLES, replace(GRANT, required_context=("a",)))))
    assert (change.action, change.kind, change.beside, change.direction) == ("role.grant", "added", "role.*", Direction.WEAKER)
    assert [(field.name, field.old, field.new) for field in change.fields] == [("required_context", "a, b", "a")]


def test_a_narrow_new_beginning_that_demands_less_is_weaker() -> None:
    narrow = replace(ALL_ROLES, action="role.admin.*", privileged=False)
    [change] = compare(Catalog((ALL_ROLES,)), Catalog((ALL_ROLES, narrow)))
    assert (change.beside, change.direction) == ("role.*", Direction.WEAKER)


def test_an_entry_that_is_gone_is_weaker_unless_what_covers_it_now_demands_as_much() -> None:
    [bare] = compare(Catalog((GRANT,)), Catalog())
    [covered] = compare(Catalog((GRANT, ALL_ROLES)), Catalog((ALL_ROLES,)))
    lax = replace(ALL_ROLES, sensitivity=Sensitivity.LOW)
    [loosened] = compare(Catalog((GRANT, lax)), Catalog((lax,)))
    assert (bare.kind, bare.beside, bare.direction) == ("removed", None, Direction.WEAKER)
    assert (covered.kind, covered.beside, covered.direction) == ("removed", "role.*", Direction.NEITHER)
    assert (loosened.beside, loosened.direction) == ("role.*", Direction.WEAKER)


def test_an_action_that_nothing_covered_is_stronger() -> None:
    [change] = compare(Catalog(), Catalog((GRANT,)))
    assert (change.kind, change.beside, change.fields, change.direction) == ("added", None, (), Direction.STRONGER)


@pytest.mark.parametrize(
    ("changed", "field", "direction"),
    [
        (replace(GRANT, required_context=("a",)), "required_context", Direction.WEAKER),
        (replace(GRANT, required_context=("a", "c")), "required_context", Direction.WEAKER),
        (replace(GRANT, required_context=("b", "a", "c")), "required_context", Direction.STRONGER),
        (replace(GRANT, sensitivity=Sensitivity.LOW), "sensitivity", Direction.WEAKER),
        (replace(GRANT, sensitivity=Sensitivity.HIGH), "sensitivity", Direction.STRONGER),
        (replace(GRANT, privileged=False), "privileged", Direction.WEAKER),
        (replace(GRANT, category=Category.SECURITY), "category", Direction.NEITHER),
        (replace(GRANT, description=""), "description", Direction.NEITHER),
    ],
)
def test_each_field_says_whether_it_is_weaker(changed: Entry, field: str, direction: Direction) -> None:
    [change] = compare(Catalog((GRANT,)), Catalog((changed,)))
    assert (change.kind, [each.name for each in change.fields], change.direction) == ("changed", [field], direction)


def test_one_weaker_field_outweighs_a_stronger_one() -> None:
    [change] = compare(Catalog((GRANT,)), Catalog((replace(GRANT, sensitivity=Sensitivity.HIGH, privileged=False),)))
    assert [field.direction for field in change.fields] == [Direction.STRONGER, Direction.WEAKER]
    assert change.direction is Direction.WEAKER


def test_order_is_no_difference() -> None:
    other = replace(GRANT, action="role.revoke")
    assert compare(Catalog((GRANT, other)), Catalog((other, replace(GRANT, required_context=("b", "a"))))) == ()
