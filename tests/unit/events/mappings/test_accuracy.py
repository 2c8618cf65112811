"""How well shipped mappings do on samples that their authors did not see; the figures and the misses are those of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.events.mappings.accuracy import Explained, explanation, first_measurement, formats, is_right, measure, not_accepted, table

PAGE = (Path(__file__).parents[4] / "docs" / "mapping-accuracy.md").read_text(encoding="utf-8")
FIRSTS, EXPLAINED = first_measurement()


def of(name: str) -> list[Explained]:
    """Return what is said of the misses of a format."""
    return [miss for miss in EXPLAINED if miss.format == name]


@pytest.mark.parametrize("name", formats())
def test_the_misses_are_those_that_are_explained_and_no_others(name: str) -> None:
    measured = measure(name)
    shown = [f"{miss.sample}: {miss.field}: expected {miss.expected}, got {miss.got}" for miss in measured.misses]
    print(*shown, sep="\n")  # noqa: T201 -- for who reads the report of a run (-rP)
    assert {(miss.sample, miss.field) for miss in measured.misses} == {
        (miss.sample, field) for miss in of(name) if miss.now == "missed" for field in miss.fields
    }


@pytest.mark.parametrize("name", formats())
def test_the_expected_values_are_those_that_were_frozen_before_the_first_measurement(name: str) -> None:
    assert measure(name).digest == FIRSTS[name].digest


@pytest.mark.parametrize("name", formats())
def test_what_was_missed_at_first_is_explained_whole(name: str) -> None:
    measured = measure(name)
    assert measured.expected - FIRSTS[name].right == sum(len(miss.fields) for miss in of(name))
    assert measured.right >= FIRSTS[name].right


@pytest.mark.parametrize("name", formats())
def test_the_shipped_catalog_accepts_each_event_that_is_made_of_a_sample(name: str) -> None:
    assert not_accepted(name) == []


def test_every_explanation_is_about_a_format_and_says_whose_fault_it_is() -> None:
    assert {miss.format for miss in EXPLAINED} <= set(formats()) == set(FIRSTS)
    assert {miss.verdict for miss in EXPLAINED} <= {"mapping", "expectation", "taste"}
    assert {miss.now for miss in EXPLAINED} <= {"missed", "mended"}


@pytest.mark.slow
def test_the_page_has_the_figures_and_a_line_for_each_miss() -> None:
    rows = table()
    print("| samples of | samples | fields | right at first | right now |", *rows, sep="\n")  # noqa: T201 -- as above
    assert [line for line in PAGE.splitlines() if line.startswith("| ")][1:] == rows
    assert [line for line in PAGE.splitlines() if line.startswith("- **")] == [explanation(miss) for miss in EXPLAINED]


@pytest.mark.parametrize(
    ("field", "expected", "got", "right"),
    [
        ("actor.id", "max", "max@example.com", False),
        ("actor.id", "max$", "arn:aws:iam::111122223333:user/max", True),
        ("actor.id", ["max", "1000"], "1000", True),
        ("context.error_code", "1045", 1045, True),
        ("occurred_at", "2026-06-02T08:00:00+02:00", "2026-06-02T06:00:00.000000Z", True),
        ("occurred_at", "2026-06-02T08:00:00Z", "2026-06-02T06:00:00Z", False),
        ("outcome", "denied", None, False),
    ],
)
def test_a_value_is_right_only_if_it_is_what_was_expected(field: str, expected: object, got: object, right: bool) -> None:
    assert is_right(field, expected, got) is right
