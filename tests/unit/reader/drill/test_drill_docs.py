"""docs/drill.md and the code name the same tamperings, options, exit codes and JSON keys."""

from __future__ import annotations

import re
from pathlib import Path

from agent.reader.drill.catalogue import CATALOGUE, NOT_IN_A_FOLDER
from agent.reader.drill.cli import drill_command
from agent.reader.drill.report import as_json
from agent.reader.drill.timeline import MOST_ENTRIES
from agent.reader.drill.values import Expectation, Who
from tests.unit.reader.drill.test_report import report

TEXT = (Path(__file__).parents[4] / "docs" / "drill.md").read_text("utf-8")


def section(title: str, level: str = "##") -> str:
    return TEXT.split(f"\n{level} {title}\n")[1].split("\n## ")[0].split("\n### ")[0]


def rows(text: str) -> list[tuple[str, ...]]:
    found = [tuple(line.strip("| ").split(" | ")) for line in text.splitlines() if line.startswith("| `")]
    return [(cells[0].strip("`"), *cells[1:]) for cells in found]


def test_every_tampering_is_documented_with_its_codes_and_exit_and_no_other():
    for who in Who:
        wanted = [
            (
                entry.name,
                entry.wants,
                " or ".join(f"`{code.value}`" for code in sorted(entry.must)),
                " or ".join(map(str, entry.exits)) if entry.exits != (0,) else "notice",
            )
            for entry in CATALOGUE
            if entry.who is who and entry.expectation is Expectation.CAUGHT
        ]
        assert rows(section(f"By {who.value}", "###")) == wanted


def test_every_limit_is_documented_with_what_shows_it():
    limits = [(entry.name, entry.wants, entry.remedy) for entry in CATALOGUE if entry.expectation is Expectation.LIMIT]
    assert rows(section("Known limits")) == limits


def test_everything_that_is_not_tried_is_documented_with_the_reason():
    assert rows(section("Not tried")) == [(entry.name, entry.wants, entry.why) for entry in NOT_IN_A_FOLDER]


def test_every_option_is_documented_and_no_other():
    table = section("Options")
    written = {name for line in table.splitlines() if line.startswith("| `--") for name in re.findall(r"--[a-z-]+", line.split(" | ")[0])}
    assert written == {name for parameter in drill_command.params for name in parameter.opts if name.startswith("--")}


def test_the_exit_codes_of_the_help_are_those_of_the_page():
    table = section("Options").partition("| exit | meaning |")[2]
    written = {int(code) for line in table.splitlines() for code in re.findall(r"\d+", line.split(" | ")[0])}
    helped = {int(code) for code in re.findall(r"^ {2,3}(\d+)  ", str(drill_command.help), re.MULTILINE)}
    assert written == helped == {0, 1, 2, 10, 12}


def test_every_json_key_is_documented_and_no_other():
    document = as_json(report())
    named = set(re.findall(r"`([a-z0-9_]+)`", section("JSON").partition("|---|---|\n")[2]))
    named |= {
        name.removesuffix("[]").rpartition(".")[2]
        for line in section("JSON").splitlines()
        for name in re.findall(r"`([a-z0-9_.\[\]]+)`", line.split(" | ")[0])
    }
    keys = set(document) | set(document["tamperings"][0]) | set(document["tamperings"][0]["found"][0]) | set(document["not_tried"][0])
    keys |= set(document["control"]) | set(document["timeline"]) | set(document["timeline"]["entries"][0])
    kinds = {"did", "target", "session", "gap", "silence", "away", "bytes_unaccounted", "unverified", "caught"}
    assert named - kinds == keys - kinds


def test_the_number_of_entries_is_the_one_in_the_code():
    assert f"At most {MOST_ENTRIES:,} entries" in TEXT
