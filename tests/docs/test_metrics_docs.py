"""docs/metrics.md describes every metric as the catalogue does, and names no other."""

from __future__ import annotations

import re
from pathlib import Path

from agent.vitals.catalogue import CATALOGUE, PREFIX

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its head."""
    lines = PAGE.partition(heading)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" |")])
    return table


def test_the_table_is_the_catalogue():
    assert rows("# Metrics") == [
        [
            f"`{PREFIX}{entry.name}`",
            entry.type,
            ", ".join(f"`{label.name}`" for label in entry.labels) or "-",
            entry.unit or "-",
            entry.help.rstrip("."),
        ]
        for entry in CATALOGUE
    ]


def test_the_closed_lists_are_the_catalogue_s():
    assert rows("## Closed lists") == [
        [f"`{label.name}` of `{PREFIX}{entry.name}`", ", ".join(f"`{value}`" for value in label.values)]
        for entry in CATALOGUE
        for label in entry.labels
        if label.values is not None
    ]


def test_every_metric_named_in_the_text_exists():
    assert set(re.findall(rf"{PREFIX}\w+", PAGE)) == {PREFIX + entry.name for entry in CATALOGUE}


def test_every_unit_is_named():
    assert all(entry.unit for entry in CATALOGUE if entry.type != "info")
