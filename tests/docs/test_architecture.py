"""ARCHITECTURE.md describes the rooms that are there, in the order that import-linter holds, and the demo keeps its promise."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAPER = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
TABLE = PAPER.partition("## The rooms")[2].partition("\n## ")[0]
ROWS = [re.findall(r"`(\w+)(?:\.py|/)`", line.split(" |")[0]) for line in TABLE.splitlines() if line.startswith("| `")]


def layers() -> dict[str, int]:
    """Return how deep each room lies, the topmost at 0."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [found] = [contract["layers"] for contract in contracts if contract["id"] == "one-direction"]
    return {name.strip(" ()"): depth for depth, layer in enumerate(found) for name in re.split(r"[|:]", layer)}


def test_every_room_is_described_and_no_other():
    there = {path.stem for path in (ROOT / "agent").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {room for row in ROWS for room in row} == {room for room in there if not room.startswith("__")}


def test_the_rooms_stand_in_the_order_of_the_layers():
    depth = layers()
    depths = [depth[room] for row in ROWS for room in row]
    assert depths == sorted(depths)


def test_every_path_named_in_the_paper_exists():
    named = set(re.findall(r"`((?:agent|tests|docs|reader|demo|benchmarks)/[\w./]*)`", PAPER))
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists() and not (ROOT / "agent" / path).exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "demo").glob("*.py")), ids=lambda path: path.name)
def test_the_demo_imports_nothing_of_the_package(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(node.module or "")
        assert [name for name in names if name.partition(".")[0] == "agent"] == []
