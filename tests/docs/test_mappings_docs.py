"""docs/mappings.md says what the engine can do, its example works, and each shipped mapping has a page and examples that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config.document import parse_document
from agent.config.mappings import load_mapping, shipped_names
from agent.events.mappings import Mapping, run_examples
from agent.events.mappings.conditions import TESTS
from agent.events.mappings.expressions import NAMES
from agent.events.mappings.mapping import KEYS
from agent.events.mappings.times import FORMATS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mappings.md").read_text(encoding="utf-8")
PAGES = ROOT / "docs" / "mappings"


def section(title):
    return PAGE.partition(f"\n{title}\n")[2].partition("\n#")[0]


def rows(text):
    return [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| `")]


def test_the_page_has_every_key_of_a_file_and_no_other():
    assert {key for row in rows(section("## A file")) for key in re.findall(r"`(\w+)`", row)} == set(KEYS)


def test_the_page_has_every_expression_and_no_other():
    named = {part.split(":")[0] for row in rows(section("### Expressions")) for part in re.findall(r"`([^`]+)`", row)}
    assert named == set(NAMES)


def test_the_page_has_every_test_of_a_condition_and_every_format_of_a_time():
    assert all(f"`{name}`" in section("### Conditions") for name in TESTS)
    assert all(f"`{name}`" in section("### Expressions") for name in FORMATS)


def test_the_example_of_the_page_works():
    [text] = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL) if block.startswith("format:")]
    found = Mapping.from_mapping(parse_document("doors.yaml", text.encode(), None).plain({}), "doors.yaml")
    assert run_examples(found) == []
    assert len(found.examples) == 2


@pytest.mark.parametrize("name", shipped_names())
def test_every_example_of_a_shipped_mapping_holds(name):
    mapping = load_mapping(name)
    assert run_examples(mapping) == []
    assert len(mapping.examples) > len(mapping.rules)


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_mapping_has_a_page_that_says_what_goes_where(name):
    pages = [page for page in PAGES.glob("*.md") if f"`{name}`" in page.read_text(encoding="utf-8").split("\n## ")[0]]
    assert len(pages) == 1, "its name stands in the first lines of one page"
    text = pages[0].read_text(encoding="utf-8")
    configured = {named for line in re.findall(r"mapping: (\[[^\]]*\]|\S+)", text) for named in re.findall(r"[a-z0-9-]+", line)}
    assert configured & set(re.findall(r"`([a-z0-9-]+)`", text.split("\n## ")[0])), "there is a configuration to copy"
    assert "client" in text


def test_every_page_is_of_a_shipped_mapping():
    text = "\n".join(page.read_text(encoding="utf-8").split("\n## ")[0] for page in PAGES.glob("*.md"))
    assert {name for name in re.findall(r"`([a-z0-9-]+)`", text) if name in shipped_names()} == set(shipped_names())
