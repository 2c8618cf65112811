"""docs/view.md says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.reader.own_trail.events import own_catalog
from agent.reader.view.cli import grant_command, view_command
from agent.reader.view.desk import Bounds

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "view.md").read_text(encoding="utf-8")


def test_the_page_has_every_option_and_no_other() -> None:
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    there = {option for command in (view_command, grant_command) for parameter in command.params for option in parameter.opts}
    assert named == {option for option in there if option.startswith("--")}


def test_the_page_has_every_action_that_is_recorded() -> None:
    named = set(re.findall(r"`((?:view|grant)\.[a-z]+)`", PAGE))
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "agent" / "reader" / "view").rglob("*.py"))
    # One such word is the name of a file.
    written = set(re.findall(r'"((?:view|grant)\.[a-z]+)"', source)) - {"grant.key"}
    assert named == written
    assert named <= {entry.action for entry in own_catalog().entries}


@pytest.mark.parametrize(
    "claim",
    [
        f"{Bounds().page_events} events a page",
        f"CSV and NDJSON (up to {Bounds().export_events:,} events)",
        f"(up to {Bounds().pack_events:,} events)",
        f"a page stops after {Bounds().query_seconds:.0f} s, a file after {Bounds().export_seconds / 60:.0f} min",
        {10: "more than ten wrong tokens a minute from one address, or a hundred from all"}.get(Bounds().failed_tokens, "?"),
    ],
)
def test_the_page_has_the_bounds(claim: str) -> None:
    assert claim in PAGE


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"\((pictures/[^)]+)\)", PAGE)
    assert len(pictures) >= 3
    for picture in pictures:
        assert (ROOT / "docs" / picture).read_bytes().startswith(b"\x89PNG"), picture
