"""Names of columns and folders, each once."""

from __future__ import annotations

import sys

from agent.reader.ask.naming import Names, unique


def test_names_that_come_again_are_numbered_also_where_the_number_is_taken() -> None:
    assert unique(["a", "a", "a_2", "a"]) == ("a", "a_2", "a_2_2", "a_3")
    assert unique(["a_2", "a", "a", "a"]) == ("a_2", "a", "a_3", "a_4")


def test_names_that_differ_in_case_only_are_the_same_name() -> None:
    assert unique(["Actor", "actor", "ACTOR", "Actor_2"]) == ("Actor", "actor_2", "ACTOR_3", "Actor_2_2")
    assert unique(["É", "é"]) == ("É", "é_2")


def test_the_joint_is_the_callers() -> None:
    folders = Names("-")
    assert [folders.take("a.b.c.d") for _ in range(3)] == ["a.b.c.d", "a.b.c.d-2", "a.b.c.d-3"]


def test_many_columns_of_one_name_take_work_in_proportion_to_their_number() -> None:
    def calls_for(number: int) -> int:
        calls = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        names = ["a"] * number + [f"a_{n}" for n in range(number)]
        sys.setprofile(count)
        try:
            made = unique(names)
        finally:
            sys.setprofile(None)
        assert len(set(made)) == 2 * number
        return calls

    assert calls_for(2000) < 2.5 * calls_for(1000)
