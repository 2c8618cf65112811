"""What docs/report.md and docs/reviews.md say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from agent.reader.control.cli import list_reviews, report_command, sign
from agent.reader.control.reviews import RESULTS, Standing
from agent.reader.control.table import CONTROLS, Fact

DOCS = Path(__file__).parents[4] / "docs"
REPORT, REVIEWS = ((DOCS / name).read_text() for name in ("report.md", "reviews.md"))


def options(command: click.Command) -> set[str]:
    return {name for each in command.params if isinstance(each, click.Option) for name in each.opts}


@pytest.mark.parametrize(("command", "text"), [(report_command, REPORT), (sign, REVIEWS)])
def test_every_option_is_documented_and_every_documented_option_exists(command: click.Command, text: str) -> None:
    table = "\n".join(re.findall(r"(?m)^\| `--.*$", text))
    documented = {name for row in table.splitlines() for name in re.findall(r"`(--[a-z-]+)", row.split("|")[1])}
    assert documented == options(command)


def test_the_list_s_options_are_named() -> None:
    last = REVIEWS[REVIEWS.index("`review list` takes") :]
    own = {"--range", "--since", "--until", "--json"}
    assert own <= options(list_reviews)
    assert own <= set(re.findall(r"`(--[a-z-]+)`", last))


def test_the_table_of_controls_is_the_program_s() -> None:
    rows = dict(re.findall(r"(?m)^\| ((?:CC|A|PI)[0-9.]+) \| ([^|]*) \|", REPORT))
    assert rows == {control.id: control.sentence for control in CONTROLS}
    for control in CONTROLS:
        row = next(line for line in REPORT.splitlines() if line.startswith(f"| {control.id} |"))
        assert all(question.title[1:] in row for question in control.questions)
        assert all(fact.value in row for fact in control.facts)


def test_every_fact_result_and_standing_is_explained() -> None:
    assert {name for name in re.findall(r"(?m)^\| `(\w+)` \|", REPORT) if name in set(Fact)} == set(Fact)
    assert all(f"`{result}`" in REVIEWS for result in RESULTS)
    assert set(re.findall(r"(?m)^\| `(holds|changed|elsewhere|unknown)` \|", REVIEWS)) == set(Standing)
