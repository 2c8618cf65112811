"""What a drill says: on a terminal, as JSON, and on paper; the exit code follows from it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import StringIO

import pytest
from rich.console import Console

from agent.reader.drill.catalogue import CATALOGUE, NOT_IN_A_FOLDER
from agent.reader.drill.paper import _markdown, as_html, as_markdown
from agent.reader.drill.report import DrillReport, as_json
from agent.reader.drill.run import Exercise
from agent.reader.drill.terminal import closing_line, render
from agent.reader.drill.timeline import Entry, Timeline
from agent.reader.drill.values import Expectation, Outcome, Result, Verdict, Who
from agent.reader.findings import Code, Finding, Severity

NASTY = "<img src=x onerror=alert(1)>|`**\x1b[2J\u202e\n# heading\n=cmd()"
LIMIT = next(entry for entry in CATALOGUE if entry.expectation is Expectation.LIMIT)
FOUND = Finding(code=Code.DATA_ALTERED, message=f"changed {NASTY}", origin="a/b/c/d", batch=3, key=NASTY)


def result(outcome: Outcome = Outcome.CAUGHT, *, tampering=CATALOGUE[0], **more) -> Result:
    tried = outcome not in (Outcome.NOT_TRIED, Outcome.FAULT)
    facts = {"found": (FOUND,), "exit_code": 10, "untouched_exit_code": 0, "objects": 1} if tried else {}
    return Result(tampering=tampering, outcome=outcome, done=f"done {NASTY}", seconds=0.25, **{**facts, **more})


NASTY_ENTRY = Entry(
    kind="did",
    at=NASTY,
    origin="a/b/c/d",
    batch=1,
    seq=7,
    actor=NASTY,
    session=NASTY,
    action=NASTY,
    target=NASTY,
    outcome=NASTY,
    context=NASTY,
)
TIMELINE = Timeline(
    actor=NASTY,
    chosen=True,
    entries=(
        NASTY_ENTRY,
        replace(NASTY_ENTRY, kind="target"),
        replace(NASTY_ENTRY, kind="session"),
        replace(NASTY_ENTRY, kind="gap", seq=None, remark=NASTY),
    ),
    omitted=2,
    outcomes={NASTY: 1},
    sessions={NASTY: 1},
    events=10,
    unreadable=1,
    verified=5,
    unverified=1,
    unvouched=("x/y/z/w",),
)
CLEAN = Verdict(records=10, batches=4, trails=1)


def report(*results: Result, original=CLEAN, control=CLEAN, restored=True, timeline=TIMELINE, **more) -> DrillReport:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    given = results or (result(), result(Outcome.AS_DOCUMENTED, tampering=LIMIT), result(Outcome.NOT_TRIED))
    facts = {
        "store": NASTY,
        "version": "9.9",
        "began_at": now,
        "judged_at": now,
        "seconds": 1.5,
        "seed": 42,
        "trust_file": NASTY,
        "trust_sha256": "ab" * 32,
        "whole": False,
        "copied_bytes": 1000,
        "trails_left_out": 3,
        "missing": (NASTY,),
        "not_tried": NOT_IN_A_FOLDER,
    }
    exercise = Exercise(control, restored, ("a/b/c/d",), given)
    return DrillReport(original=original, exercise=exercise, timeline=timeline, **{**facts, **more})


def shown(made: DrillReport, width: int = 100) -> str:
    out = StringIO()
    render(made, Console(file=out, width=width))
    return out.getvalue()


# ---- the exit code ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "exit_code", "words"),
    [
        (report(), 0, "all 1 tamperings that were tried were caught"),
        (report(result(), result(Outcome.MISSED)), 10, "FAILED: 1 of 2"),
        (report(result(), result(Outcome.MISREAD)), 10, "FAILED: 1 of 2"),
        (report(result(), result(Outcome.FAULT)), 12, "1 tamperings could not be prepared"),
        (report(result(Outcome.NOT_TRIED)), 12, "nothing could be tried"),
        (report(result(Outcome.AS_DOCUMENTED, tampering=LIMIT)), 12, "nothing could be tried"),
        (report(restored=False), 12, "the copy was not the same in the end"),
        (report(control=replace(CLEAN, severity=Severity.INCOMPLETE)), 12, "does not give the store's own verdict"),
        (report(control=replace(CLEAN, findings=(FOUND,))), 12, "does not give the store's own verdict"),
        (report(result(Outcome.MISSED), restored=False), 10, "FAILED"),
    ],
)
def test_the_exit_code_is_0_only_if_everything_was_caught_on_a_copy_like_the_store(made, exit_code, words):
    assert made.exit_code == exit_code
    assert words in made.verdict
    assert str(closing_line(made)) == f"{made.verdict} (exit {exit_code}, 1.5 s)"
    assert as_json(made)["exit_code"] == exit_code


def test_a_limit_that_is_seen_after_all_is_no_failure_and_no_catch():
    made = report(result(), result(Outcome.CAUGHT, tampering=LIMIT))
    assert (made.exit_code, made.exercise.tried, made.exercise.caught) == (0, 1, 1)


def test_a_notice_more_in_the_store_does_not_make_the_copy_another_one():
    notice = Finding(code=Code.FOREIGN_OBJECT, message="", key="x")
    assert report(original=replace(CLEAN, findings=(notice,))).same
    assert not report(original=replace(CLEAN, findings=(FOUND,))).same


def test_what_limits_the_result_is_said_everywhere():
    damaged = replace(CLEAN, severity=Severity.TAMPERED, codes={"data_altered": 1}, findings=(FOUND,))
    made = report(result(), result(Outcome.NOT_TRIED), original=damaged, control=damaged)
    words = (
        "The store itself is tampered (exit 10)",
        "3 trails were left out",
        "1 objects could not be copied",
        "1 tamperings were not tried",
    )
    told = " ".join(shown(made, 1000).split())
    for word in words:
        assert word in " ".join(made.of_interest)
        assert word in told
        assert word in as_html(made)
        assert word.replace("(", "\\(").replace(")", "\\)") in as_markdown(made)


# ---- hostile text -----------------------------------------------------------------------------------------------------------------


def test_nothing_from_a_store_drives_a_terminal_or_passes_for_the_verdict():
    text = shown(report(), 80)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert [line for line in text.splitlines() if line.startswith(("#", "=", "all "))] == [str(closing_line(report()))]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        """Collect the tags and attributes of a page."""
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_nothing_from_a_store_becomes_a_part_of_the_page():
    page = as_html(report())
    parser = _Tags()
    parser.feed(page)
    assert parser.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert parser.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|url\(|@import|\bsrc=x onerror=alert\(1\)>", page)
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_nothing_from_a_store_becomes_markdown():
    text = as_markdown(report())
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)<", text)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Tampering drill of 2026\\-03\\-01",
        *[f"## Tamperings by {_markdown(who.value)}" for who in Who],
        "## Known limits",
        "## Not tried",
        *[line for line in text.splitlines() if line.startswith("## What ")],
    ]
    rows = [line for line in text.splitlines() if line.startswith("| data\\-bit")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


# ---- completeness -----------------------------------------------------------------------------------------------------------------


def test_json_is_plain_and_holds_what_paper_shows():
    document = json.loads(json.dumps(as_json(report())))
    assert document["seed"] == 42
    assert document["tamperings"][0]["found"][0]["code"] == "data_altered"
    assert document["tamperings"][0]["must"] == ["data_altered"]
    assert document["tamperings"][0]["expected_exit_codes"] == [10]
    assert document["timeline"]["entries"][3]["remark"] == NASTY
    assert {entry["name"] for entry in document["not_tried"]} == {entry.name for entry in NOT_IN_A_FOLDER}
    assert as_json(report(timeline=None))["timeline"] is None


def test_paper_names_every_tampering_with_what_was_expected_and_found():
    every = [result(tampering=tampering) for tampering in CATALOGUE if tampering.expectation is Expectation.CAUGHT]
    page, text = as_html(report(*every)), as_markdown(report(*every))
    for tampering in CATALOGUE:
        if tampering.expectation is Expectation.CAUGHT:
            assert f">{tampering.name}</td>" in page
            assert f"| {tampering.name} |".replace("-", "\\-") in text
    assert "Performed by" in page
    assert "Performed by" in text


def test_a_missed_tampering_stands_out_with_what_was_wanted():
    text = " ".join(shown(report(result(), result(Outcome.MISSED)), 200).split())
    assert "NOT CAUGHT: data-bit" in text
    assert "wanted: data_altered" in text
