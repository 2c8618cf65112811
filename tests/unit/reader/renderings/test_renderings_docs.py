"""The page says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.reader.renderings import ECS_VERSION, OCSF_VERSION, to_ecs, to_ocsf
from agent.reader.renderings.activities import CAPTIONS, CLASSES
from tests.unit.reader.renderings.example import stored

PAGE = (Path(__file__).parents[4] / "docs" / "renderings.md").read_text("utf-8")
OCSF, ECS = PAGE.partition("\n## ECS")[::2]
FULL = {"granted_role": "admin", "permission": "read", "member": "bob", "command": "id", "method": "GET"}


def rows(part: str) -> list[list[str]]:
    """Return the cells of the first table."""
    lines = part[part.index("| action |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> list[str]:
    """Return the actions that a cell names; one that begins with a dot goes on with the name before."""
    found: list[str] = []
    for word in re.findall(r"`([a-z.*]+)`", cell):
        found.append(found[-1].rpartition(".")[0] + word if word.startswith(".") else word)
    return [name.replace("*", "change") for name in found]


def test_the_versions_are_named() -> None:
    assert f"version {OCSF_VERSION}" in PAGE
    assert f"version {ECS_VERSION}" in PAGE


@pytest.mark.parametrize(
    "row", [row for row in rows(OCSF) if names(row[0]) and not re.search("other|anything else|where the context", row[0])]
)
def test_an_action_has_the_class_and_one_of_the_activities_of_its_row(row: list[str]) -> None:
    classes = {int(number) for number in re.findall(r"\b[36]00\d\b", row[1])}
    activities = {int(number) for number in re.findall(r"\b\d{1,2}\b", row[2])}
    for action in names(row[0]):
        kind = "table" if 6005 in classes else "user"
        rendered = to_ocsf(stored(action, (kind, "x"), context=FULL))
        assert rendered["class_uid"] in classes, action
        assert not activities or rendered["activity_id"] in activities, action


def test_every_class_that_is_used_is_on_the_page() -> None:
    assert {int(number) for number in re.findall(r"\b[36]00\d\b", OCSF)} == set(CLASSES) == set(CAPTIONS)


@pytest.mark.parametrize("row", [row for row in rows(ECS) if names(row[0]) and "anything" not in row[0]])
def test_an_action_has_the_category_of_its_row(row: list[str]) -> None:
    for action in names(row[0]):
        assert to_ecs(stored(action, ("x", "y")))["event"]["category"] == [row[1]], action


@pytest.mark.parametrize("field", re.findall(r"(?m)^\| `((?:event|user|source|service|related|group)\.[a-z.]+)`", ECS))
def test_a_field_of_the_page_is_one_that_is_written(field: str) -> None:
    rendered = to_ecs(
        stored("group.member.add", ("group", "staff"), context={"member": "bob", "source_ip": "192.0.2.1"}, raw="line")
        if not field.startswith("user.changes")
        else stored("role.grant", context=FULL)
    )
    place = rendered
    for name in field.split("."):
        place = place[name]
    assert place
