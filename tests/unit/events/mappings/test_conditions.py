"""Which lines conditions hold for."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events.mappings.conditions import compile_condition, equalities
from agent.events.mappings.place import Place

LINE = {"verb": "create", "code": 403, "text": "403", "flag": True, "float": 2.0, "list": ["a", "b"], "empty": "", "deep": {"x": 1}}
HERE = Place("m.yaml", "when")


@pytest.mark.parametrize(
    "condition",
    [
        {"verb": "create"},
        {"verb": ["delete", "create"]},
        {"code": 403},
        {"code": "403"},
        {"text": 403},
        {"float": 2},
        {"flag": True},
        {"flag": "true"},
        {"deep.x": 1},
        {"verb": {"present": True}},
        {"empty": {"present": False}},
        {"nobody": {"present": False}},
        {"verb": {"starts": "cre"}},
        {"verb": {"starts": ["x", "cr"]}},
        {"verb": {"ends": "ate"}},
        {"verb": {"contains": "eat"}},
        {"list": {"contains": "b"}},
        {"verb": {"matches": "^c.+e$"}},
        {"code": {"at_least": 400, "below": 500}},
        {"text": {"at_least": 403}},
        {"verb": {"not": "delete"}},
        {"verb": {"not": {"starts": "x"}}},
        {"nobody": {"not": "x"}},
        {"any": [{"verb": "x"}, {"code": 403}]},
        {"all": [{"verb": "create"}, {"code": 403}]},
        {"not": {"verb": "delete"}},
        {"verb": "create", "code": 403},
    ],
)
def test_a_condition_holds(condition):
    assert compile_condition(condition, HERE)(dict(LINE)) is True


@pytest.mark.parametrize(
    "condition",
    [
        {"verb": "creat"},
        {"verb": ["delete"]},
        {"code": 40},
        {"nobody": "x"},
        {"nobody": ["x"]},
        {"verb": {"present": False}},
        {"list": {"contains": "ab"}},
        {"nobody": {"starts": "x"}},
        {"verb": {"at_least": 1}},
        {"nobody": {"matches": ".*"}},
        {"code": {"at_least": 400, "below": 403}},
        {"verb": "create", "code": 404},
        {"any": [{"verb": "x"}]},
        {"not": {"verb": "create"}},
    ],
)
def test_a_condition_does_not_hold(condition):
    assert compile_condition(condition, HERE)(dict(LINE)) is False


@pytest.mark.parametrize(
    "condition",
    [
        {}, [], "verb", {"verb": None}, {"verb": []}, {"verb": {}}, {"verb": {"like": "x"}}, {"verb": {"matches": "("}},
        {"code": {"below": "x"}}, {"any": {}}, {"any": []}, {"verb": {"present": "yes"}}, {"verb": [["x"]]}, {"a..b": 1},
    ],
)  # fmt: skip
def test_a_condition_that_is_wrong_is_refused_with_its_file_and_key(condition):
    with pytest.raises(ConfigError, match=r"^m\.yaml: when"):
        compile_condition(condition, HERE)


def test_what_single_paths_must_equal_is_known_and_nothing_else():
    found = equalities({"verb": ["a", "b"], "code": 7, "x": {"starts": "a"}, "any": [{"verb": "z"}], "not": {"verb": "y"}})
    assert {demand.path: demand.values for demand in found} == {"verb": {"a", "b"}, "code": {"7"}}
