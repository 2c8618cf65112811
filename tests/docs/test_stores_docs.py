"""`docs/stores.md` says what the doctor does, both ways: every check, verdict, option, exit code and JSON key."""

import re
from datetime import UTC, datetime
from pathlib import Path

from agent.commands.doctor import doctor
from agent.doctor import Check, Report, StoreReport, Verdict
from agent.doctor.findings import OF_BUCKETS, OF_FOLDERS, ok
from agent.doctor.report import as_json

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/stores.md").read_text(encoding="utf-8")


def table(heading: str) -> list[str]:
    """Return the first cells of the table under a heading row, without backquotes."""
    body = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0]
    return [row.split(" | ")[0].removeprefix("| ").replace("`", "") for row in body.splitlines()[2:]]


def test_every_check_is_explained_in_the_order_in_which_it_is_shown():
    assert table("check") == [check.value for check in Check]


def test_every_check_belongs_to_a_kind_of_store():
    assert set(OF_BUCKETS) | set(OF_FOLDERS) == set(Check)


def test_every_verdict_is_explained():
    assert table("verdict") == [verdict.value for verdict in Verdict]


def test_every_option_is_explained():
    options = {option for parameter in doctor.params for option in parameter.opts if option.startswith("--")}
    assert {row.split(" ")[0] for row in table("option")} == options


def test_the_exit_codes_are_those_of_the_help():
    assert doctor.help is not None
    assert table("exit") == re.findall(r"(?m)^ +(\d) ", doctor.help)


def test_the_keys_of_the_json_document_are_explained():
    found = ok(Check.REACHABLE, "there")
    store = StoreReport(id="main", kind="s3", place="s3://b", required=True, probe="", findings=(found,))
    document = as_json(Report(file="f", checked_at=datetime(2026, 1, 1, tzinfo=UTC), stores=(store,)))
    section = PAGE[PAGE.index("### As JSON") : PAGE.index("## What it costs")]
    named = set(re.findall(r"`(\w+)`", section)) - {"directory", "s3", "gs", "az"}
    [shown] = document["stores"]
    assert named == {*document, *shown, *shown["findings"][0]}
    assert list(shown["counts"]) == [verdict.value for verdict in Verdict]


def test_the_policies_that_the_findings_name_exist():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "agent/doctor").glob("*.py"))
    named = set(re.findall(r"\{POLICIES\}/([\w./-]+\w)", sources))
    assert "aws/bucket-policy.json" in named
    assert [name for name in named if not (ROOT / "deploy/policies" / name).exists()] == []
    explained = (ROOT / "deploy/policies/README.md").read_text(encoding="utf-8")
    statements = set(re.findall(r"\b(?:Deny|Create|Read|Tell)[A-Z]\w+", sources))
    assert {name for name in statements if f"| `{name}` |" not in explained} == set()
