"""The catalogs that come with the package fit the mappings that come with it, and docs/catalogs.md says what is true of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.commands.catalog import catalog_command
from agent.config import read_catalogs, shipped_catalogs
from agent.config.catalogs import MAX_BYTES, MAX_DEPTH, MAX_FILES
from agent.config.document import read_document
from agent.config.mappings import load_mapping, path_of, shipped_names
from agent.events.catalog import Category, Sensitivity
from agent.events.remarks import remarks, unmet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "catalogs.md").read_text(encoding="utf-8")
SHIPPED = ROOT / "agent" / "events" / "catalogs"
COPIES = ROOT / "config" / "catalogs"
TABLE = {
    row[1]: re.findall(r"`([a-z0-9-]+)`", row[2]) for row in re.finditer(r"^\| `shipped:([a-z-]+)` \| (.*) \|$", PAGE, flags=re.MULTILINE)
}
MAPPINGS = [(catalog, mapping) for catalog, mappings in TABLE.items() for mapping in mappings]


def values(data: Any) -> Iterator[str]:
    """Every text of a mapping that can become a part of an event: conditions and patterns are none."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from () if key in {"when", "pattern", "patterns"} else values(value)
    elif isinstance(data, list):
        for value in data:
            yield from values(value)
    elif isinstance(data, str):
        yield data


def made(mapping: str) -> str:
    """All that a mapping's rules and examples can make, as one text."""
    data: Any = read_document(str(path_of(mapping)), environ=None).plain({})
    events = [example["event"]["action"] for example in data["examples"] if "event" in example]
    return "\n".join(values([data.get("lookups"), data.get("let"), data.get("event"), data["rules"], events]))


def can_be_made(action: str, text: str) -> bool:
    """Whether the action, or a template of the format's own names such as ``kubernetes.{verb}``, stands in the text."""
    end = "" if action.endswith("*") else r"(?![\w.])"
    name, template = re.escape(action.removesuffix("*")), re.escape(f"{action.partition('.')[0]}.{{")
    return re.search(rf"(?<![\w.]){name}{end}|^{template}", text, flags=re.MULTILINE) is not None


def test_the_copies_in_config_are_the_files_of_the_package():
    assert sorted(path.name for path in COPIES.iterdir()) == sorted(path.name for path in SHIPPED.iterdir())
    differing = [path.name for path in SHIPPED.iterdir() if (COPIES / path.name).read_bytes() != path.read_bytes()]
    assert differing == [], f"cp {SHIPPED.relative_to(ROOT)}/*.yaml {COPIES.relative_to(ROOT)}/"


def test_the_page_names_every_shipped_catalog_and_mapping_once():
    assert sorted(TABLE) == list(shipped_catalogs())
    assert sorted(mapping for _, mapping in MAPPINGS) == list(shipped_names())


@pytest.mark.parametrize("name", shipped_catalogs())
def test_a_shipped_catalog_is_without_error_and_warning(name):
    reading = read_catalogs([f"shipped:{name}"])
    assert reading.errors == ()
    assert list(remarks(reading.merged)) == []


def test_all_shipped_catalogs_can_be_included_together(tmp_path):
    names = ", ".join(f"shipped:{name}" for name in shipped_catalogs())
    (tmp_path / "all.yaml").write_text(f"format: 1\ninclude: [{names}]\n", encoding="utf-8")
    reading = read_catalogs([str(tmp_path / "all.yaml")])
    assert [error.message for error in reading.errors] == []
    assert len(reading.files) == len(shipped_catalogs()) + 1


@pytest.mark.parametrize(("catalog", "mapping"), MAPPINGS)
def test_every_event_of_a_mapping_s_examples_is_catalogued_and_has_the_required_context(catalog, mapping):
    examples: Any = load_mapping(mapping).examples
    assert sum("event" in example for example in examples) > 0
    assert list(unmet(examples, read_catalogs([f"shipped:{catalog}"]).catalog())) == []


@pytest.mark.parametrize("catalog", [name for name, mappings in TABLE.items() if mappings])
def test_a_catalog_expects_nothing_that_its_mappings_cannot_make(catalog):
    text = "\n".join(made(mapping) for mapping in TABLE[catalog])
    entries = read_catalogs([f"shipped:{catalog}"]).catalog().entries
    assert [entry.action for entry in entries if not can_be_made(entry.action, text)] == []


def test_the_page_has_every_category_and_sensitivity_and_bound():
    [categories] = re.findall(r"^\| `actions\.NAME\.category` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", categories) == [category.value for category in Category]
    [sensitivities] = re.findall(r"^\| `actions\.NAME\.sensitivity` \| (.*?):", PAGE, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", sensitivities) == [sensitivity.value for sensitivity in Sensitivity]
    assert f"{MAX_DEPTH} files deep, and all files together may be {MAX_FILES}, of {MAX_BYTES >> 20} MiB" in PAGE


@pytest.mark.parametrize("name", ["list", "check", "diff"])
def test_the_page_has_every_option_and_no_other(name):
    section = PAGE.partition(f"## trailseal catalog {name}\n")[2].partition("\n## ")[0]
    options = {option for param in catalog_command.commands[name].params for option in param.opts if option.startswith("--")}
    assert set(re.findall(r"`(--[a-z]+)", section)) == options


def test_the_page_shows_what_check_finds_of_entries_that_are_too_strict(monkeypatch):
    monkeypatch.chdir(ROOT)
    [(words, shown)] = re.findall(r"\$ trailseal catalog check (.*?) \| grep \^mapping\n(.*?)```", PAGE, flags=re.DOTALL)
    printed = CliRunner().invoke(catalog_command, ["check", *words.split()]).output
    found = [line.partition(" (example")[0] for line in printed.splitlines() if line.startswith("mapping")]
    assert [line.partition(" (example")[0] for line in shown.splitlines()] == found
    assert len(found) > 1


def test_the_page_shows_what_list_and_diff_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grant = "  role.grant: {category: authorization, sensitivity: high, required_context: [granted_role], description: Given.}\n"
    revoke = "  session.revoke: {category: authentication, sensitivity: medium, description: Ended.}\n"
    Path("old.yaml").write_text(f"format: 1\nactions:\n{grant}{revoke}", encoding="utf-8")
    Path("new.yaml").write_text(f"format: 1\nactions:\n{grant.replace('[granted_role]', '[]')}", encoding="utf-8")
    shown = re.findall(r"```console\n\$ trailseal catalog (list|diff) (.*?)\n(.*?)```", PAGE, flags=re.DOTALL)
    assert [command for command, _, _ in shown] == ["list", "diff"]
    for command, words, output in shown:
        printed = CliRunner().invoke(catalog_command, [command, *words.split()]).output
        assert [line.rstrip() for line in printed.splitlines()] == output.splitlines()
