"""docs/faults.md has a row for every fault of the closed list, and every row names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
COUNTS: Final = {"A": 6, "B": 4, "C": 2, "D": 3, "E": 5, "F": 4, "G": 3, "H": 6, "I": 5, "J": 5}
IDS: Final = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]
ROWS: Final = [
    [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    for line in (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]\d+ \|", line)
]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of a file's test functions, without running it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def test_the_rows_are_the_closed_list_in_order():
    assert [row[0] for row in ROWS] == IDS
    assert [row[0] for row in ROWS if len(row) != 4 or not all(row)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_that_exist_under_fault_or_integration(row: list[str]):
    named = re.findall(r"`(tests/(?:fault|integration)/test_\w+\.py)::(test_\w+)`", row[3])
    assert named
    assert row[3] == ", ".join(f"`{path}::{name}`" for path, name in named)
    assert [f"{path}::{name}" for path, name in named if not (ROOT / path).exists() or name not in names_in(ROOT / path)] == []
