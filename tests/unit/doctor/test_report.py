"""The doctor's table and JSON."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from agent.doctor.findings import Check, Finding, Report, StoreReport, bad, note, ok, untested, warning
from agent.doctor.report import as_json, render


def report(*findings: Finding) -> Report:
    """Return a report of one store."""
    store = StoreReport(id="central", kind="s3", place="s3://audit", required=True, probe="probes/a/b/c/2026-01-08T1432", findings=findings)
    return Report(file="trailseal.yaml", checked_at=datetime(2026, 1, 8, 14, 32, tzinfo=UTC), stores=(store,))


def shown(of: Report, width: int = 100) -> str:
    """Return the table as plain text."""
    out = io.StringIO()
    render(of, Console(file=out, width=width))
    return out.getvalue()


def test_only_bad_changes_the_exit_code() -> None:
    assert report(ok(Check.LIST, "refused"), warning(Check.CREATE, "weak", "x"), untested(Check.CLOCK, "why", "x")).exit_code == 0
    assert report(ok(Check.LIST, "refused"), bad(Check.DELETE, "allowed", "deny it")).exit_code == 1


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_cut_at_any_width_and_there_are_no_colours_without_a_terminal(width: int) -> None:
    text = shown(report(bad(Check.SHORTEN_RETENTION, "these credentials shorten " + "7" * 90, "deny " + "z" * 60)), width)
    assert max(map(len, text.splitlines())) <= width
    assert (text.count("7"), text.count("z")) == (90, 60)
    assert "\x1b" not in text
    assert text.rstrip().endswith("(exit 1)")


def test_what_was_not_tested_for_one_reason_is_one_row() -> None:
    many = [untested(check, "no object could be stored", "Mend that first.") for check in list(Check)[2:12]]
    text = shown(report(bad(Check.REACHABLE, "refused", "x"), *many, note(Check.BUCKET_POLICY, "to know")))
    assert text.count("no object could be stored") == 1
    assert "10 checks" in text


def test_text_from_a_store_cannot_drive_a_terminal() -> None:
    assert "\\x1b[2J" in shown(report(bad(Check.REACHABLE, "\x1b[2Jgone", "x")))


def test_the_json_document_holds_every_finding_and_ascii_only() -> None:
    document = json.dumps(as_json(report(ok(Check.LIST, "refused"), bad(Check.DELETE, "erlaubt: ä", "deny it"))))
    found = json.loads(document)
    assert document.isascii()
    assert (found["exit_code"], found["stores"][0]["counts"]["BAD"]) == (1, 1)
    assert found["stores"][0]["findings"][0] == {"check": "list", "verdict": "ok", "seen": "refused", "fix": None}
