from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from agent.errors import ConfigError
from agent.events import Catalog, Category, Sensitivity
from agent.events.catalog import Listing

ROOT = Path(__file__).resolve().parents[3]
PLAIN = {"category": "security", "sensitivity": "low"}


def catalog(**actions: object) -> Catalog:
    return Catalog.from_mapping({"format": 1, "actions": {name.replace("__", "."): value for name, value in actions.items()}}, "c.yaml")


def test_an_entry_carries_every_field_of_the_file() -> None:
    found = catalog(
        role__grant={
            "category": "authorization",
            "sensitivity": "high",
            "privileged": True,
            "required_context": ["granted_role", "approval.id"],
            "description": "A role was given.",
        }
    ).entry("role.grant")
    assert found is not None
    assert (found.action, found.category, found.sensitivity, found.privileged, found.required_context, found.description) == (
        "role.grant",
        Category.AUTHORIZATION,
        Sensitivity.HIGH,
        True,
        ("granted_role", "approval.id"),
        "A role was given.",
    )


def test_an_exact_name_wins_over_a_pattern_and_a_longer_pattern_over_a_shorter_one() -> None:
    data = {"billing.*": PLAIN, "billing.plan.*": PLAIN, "billing.plan.change": PLAIN}
    found = Catalog.from_mapping({"format": 1, "actions": data}, "c.yaml")
    names = {
        action: entry.action if (entry := found.entry(action)) else None
        for action in ("billing.plan.change", "billing.plan.x", "billing.y", "billing", "b")
    }
    assert names == {
        "billing.plan.change": "billing.plan.change",
        "billing.plan.x": "billing.plan.*",
        "billing.y": "billing.*",
        "billing": None,
        "b": None,
    }


@pytest.mark.parametrize(
    ("context", "missing"),
    [
        ({"granted_role": "admin", "approval": {"id": 1}}, None),
        ({"granted_role": "", "approval": {"id": False}}, None),
        ({"approval": {"id": 1}}, "granted_role"),
        ({"granted_role": None, "approval": {"id": 1}}, "granted_role"),
        ({"granted_role": "admin"}, "approval.id"),
        ({"granted_role": "admin", "approval": "yes"}, "approval.id"),
        ({"granted_role": "admin", "approval.id": 1}, "approval.id"),
        ({"granted_role": "admin", "approval": {"id": None}}, "approval.id"),
    ],
)
def test_required_context_must_be_present_and_not_null(context: dict[str, object], missing: str | None) -> None:
    found = catalog(role__grant={**PLAIN, "required_context": ["granted_role", "approval.id"]}).entry("role.grant")
    assert found is not None
    assert found.missing_context(context) == missing


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ([], None),
        ({"actions": {}}, "format"),
        ({"format": True, "actions": {}}, "format"),
        ({"format": 2, "actions": {}}, "format"),
        ({"format": 1}, "actions"),
        ({"format": 1, "actions": {}, "extra": 1}, "extra"),
        ({"format": 1, "actions": {"a": None}}, "actions.a"),
        ({"format": 1, "actions": {"a b": PLAIN}}, "actions.a b"),
        ({"format": 1, "actions": {"*": PLAIN}}, "actions.*"),
        ({"format": 1, "actions": {"a*b": PLAIN}}, "actions.a*b"),
        ({"format": 1, "actions": {7: PLAIN}}, "actions.7"),
        ({"format": 1, "actions": {"a": {"sensitivity": "low"}}}, "actions.a.category"),
        ({"format": 1, "actions": {"a": {**PLAIN, "category": "securty"}}}, "actions.a.category"),
        ({"format": 1, "actions": {"a": {**PLAIN, "sensitivity": 3}}}, "actions.a.sensitivity"),
        ({"format": 1, "actions": {"a": {**PLAIN, "privileged": "yes"}}}, "actions.a.privileged"),
        ({"format": 1, "actions": {"a": {**PLAIN, "description": 5}}}, "actions.a.description"),
        ({"format": 1, "actions": {"a": {**PLAIN, "required_context": "x"}}}, "actions.a.required_context"),
        ({"format": 1, "actions": {"a": {**PLAIN, "required_context": ["x", "x"]}}}, "actions.a.required_context[1]"),
        ({"format": 1, "actions": {"a": {**PLAIN, "required_context": ["x..y"]}}}, "actions.a.required_context[0]"),
        ({"format": 1, "actions": {"a": {**PLAIN, "required": ["x"]}}}, "actions.a.required"),
    ],
)
def test_a_wrong_catalog_names_the_file_and_the_key(data: object, key: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Catalog.from_mapping(data, "c.yaml")
    assert (caught.value.file, caught.value.key) == ("c.yaml", key)
    assert caught.value.hint


def test_a_misspelt_category_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        catalog(a={**PLAIN, "category": "authorisation"})
    assert caught.value.hint == "Did you mean authorization?"


def test_the_catalog_that_is_shipped_is_valid_and_demands_what_made_an_action_privileged() -> None:
    data = YAML(typ="safe").load((ROOT / "config" / "catalog.yaml").read_text(encoding="utf-8"))
    shipped = Catalog.from_mapping(data, "config/catalog.yaml")
    grant = shipped.entry("role.grant")
    assert grant is not None
    assert grant.privileged
    assert "granted_role" in grant.required_context
    assert {entry.category for entry in shipped.entries} == set(Category)
    assert all(entry.description.endswith(".") for entry in shipped.entries)


def test_every_error_of_a_file_is_found_and_what_is_right_is_read_all_the_same() -> None:
    data = {
        "format": 2,
        "include": ["a.yaml", "a.yaml", 3, "\ud800", "b.yaml"],
        "what": 1,
        "actions": {
            "a b": PLAIN,
            "good": PLAIN,
            "bad": {
                "category": "secrity",
                "sensitivity": "huge",
                "privileged": "yes",
                "required_context": ["x", "x", "y z"],
                "description": 1,
            },
            "worse": [],
        },
    }
    listing = Listing.from_mapping(data, "c.yaml")
    assert [entry.action for entry in listing.entries] == ["good"]
    assert [tuple(include) for include in listing.includes] == [("a.yaml", "include[0]"), ("b.yaml", "include[4]")]
    assert [error.key for error in listing.errors] == [
        "what",
        "format",
        "include[1]",
        "include[2]",
        "include[3]",
        "actions.a b",
        "actions.bad.privileged",
        "actions.bad.description",
        "actions.bad.category",
        "actions.bad.sensitivity",
        "actions.bad.required_context[1]",
        "actions.bad.required_context[2]",
        "actions.worse",
    ]


@pytest.mark.parametrize("include", [[], {}, None, 7, ""])
def test_an_include_that_names_nothing_is_an_error(include: object) -> None:
    [error] = Listing.from_mapping({"format": 1, "include": include, "actions": {}}, "c.yaml").errors
    assert error.key == "include"


def test_a_file_may_only_include_but_not_say_nothing() -> None:
    assert Listing.from_mapping({"format": 1, "include": "a.yaml"}, "c.yaml").errors == ()
    [error] = Listing.from_mapping({"format": 1}, "c.yaml").errors
    assert error.key == "actions"


def test_plain_data_alone_cannot_include() -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml: include: names other files"):
        Catalog.from_mapping({"format": 1, "include": ["a.yaml"], "actions": {}}, "c.yaml")
