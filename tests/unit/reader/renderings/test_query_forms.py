"""`query --format ocsf` and `--format ecs`: the same events as ever, one document a line, the statement beside them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.config.mappings import load_mapping
from agent.events.mappings import Mapped, Moment
from agent.reader.ask.cli import query_command
from tests.support.trail_factory import sample_trail, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trail = sample_trail()
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    return tmp_path


def ask(site: Path, form: str, *words: str) -> Result:
    return CliRunner().invoke(query_command, [str(site / "store"), "--trust", str(site / "trust"), "--format", form, *words])


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("form", ["ocsf", "ecs"])
class TestBoth:
    def test_every_event_is_rendered_and_can_be_mapped_back(self, site: Path, form: str) -> None:
        plain = documents(ask(site, "ndjson").stdout)
        done = ask(site, form)
        assert done.exit_code == 0, done.stderr
        assert len(plain) == 12
        mapping, moment = load_mapping(form), Moment(datetime(2026, 6, 30, tzinfo=UTC))
        for before, line in zip(plain, done.stdout.splitlines(), strict=True):
            back = mapping.map(line.encode(), moment)
            assert isinstance(back, Mapped), back
            event = json.loads(back.event)
            assert {name: event[name] for name in ("event_id", "action", "target", "outcome")} == {
                name: before["event"][name] for name in ("event_id", "action", "target", "outcome")
            }
            assert event["actor"]["id"] == before["event"]["actor"]["id"]
            assert datetime.fromisoformat(event["occurred_at"]) == datetime.fromisoformat(before["event"]["occurred_at"])
            assert (event["context"]["origin"], event["context"]["seq"]) == (before["origin"], before["seq"])

    def test_what_is_said_about_the_answer_is_not_among_its_lines(self, site: Path, form: str) -> None:
        done = ask(site, form, "--outcome", "denied")
        assert len(documents(done.stdout)) == 3
        assert "complete" in done.stderr
        assert done.stdout.isascii()

    def test_a_file_has_its_statement_beside_it(self, site: Path, form: str) -> None:
        done = ask(site, form, "--output", str(site / "x"))
        assert (done.exit_code, done.stdout) == (0, ""), done.stderr
        told = json.loads((site / "x.statement.json").read_bytes())
        assert told["answer_sha256"] == sha256((site / "x").read_bytes()).hexdigest()
        assert (told["verdict"], told["matched"]) == ("complete", 12)

    @pytest.mark.parametrize("words", [("--sql", "SELECT 1"), ("--correlate", "context.approval_id"), ("--json",)])
    def test_what_is_no_list_of_events_is_refused(self, site: Path, form: str, words: tuple[str, ...]) -> None:
        done = ask(site, form, *words)
        assert done.exit_code != 0
        assert done.stdout == ""
        assert "format" in str(done.exception) + done.stderr
