"""The command `report`, and the catalogs it reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.errors import ConfigError
from agent.reader.control.catalogs import load_catalog, with_own_actions
from agent.reader.control.cli import report_command, review_command
from agent.reader.index import open_index
from agent.reader.own_trail import Recorded, own_catalog
from tests.unit.reader.control.conftest import CATALOG_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from tests.unit.reader.control.conftest import Company

CATALOG = """format: 1
actions:
  role.grant: {category: authorization, sensitivity: high}
"""


@pytest.fixture
def ask(company: Company, tmp_path: Path) -> Any:
    """Run `report` on a company's store with an index of its own."""

    def run(*words: str) -> Result:
        written = company.written
        index = tmp_path / "index.duckdb"
        return CliRunner().invoke(report_command, [str(written.store), "--trust", str(written.trust), "--index", str(index), *words])

    return run


class TestReport:
    def test_the_format_is_what_the_file_s_ending_says(self, ask: Any, tmp_path: Path) -> None:
        for name, beginning in (("r.html", "<!DOCTYPE html>"), ("r.md", "# Control report"), ("r.json", '{\n  "format": 1')):
            done = ask("--catalog", str(CATALOG_FILE), "--output", str(tmp_path / name))
            assert done.exit_code == 0, done.output
            assert (tmp_path / name).read_text().startswith(beginning)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["index.duckdb", "r.html", "r.json", "r.md"]

    def test_without_a_file_markdown_goes_to_stdout(self, ask: Any) -> None:
        done = ask("--range", "2026-03")
        assert done.exit_code == 0
        assert done.stdout.startswith("# Control report\n")
        assert "Period: 2026\\-03\\-01 to before 2026\\-04\\-01" in done.stdout

    def test_it_is_limited_to_the_services_that_were_named(self, ask: Any) -> None:
        done = ask("--services", "acme/directory", "--format", "json")
        assert json.loads(done.stdout)["services"] == ["acme/directory"]
        assert "acme/payments" not in done.stdout

    def test_a_file_that_is_there_is_not_replaced_unless_told_to(self, ask: Any, tmp_path: Path) -> None:
        there = tmp_path / "r.md"
        there.write_text("mine")
        done = ask("--output", str(there))
        assert (done.exit_code, there.read_text()) == (2, "mine")
        assert "--force" in done.stderr
        assert ask("--output", str(there), "--force").exit_code == 0
        assert there.read_text().startswith("# Control report")

    def test_a_report_that_cannot_be_written_leaves_nothing_behind(self, ask: Any, tmp_path: Path) -> None:
        done = ask("--output", str(tmp_path / "none" / "r.html"))
        assert (done.exit_code, "cannot write there" in done.stderr) == (2, True)
        (tmp_path / "folder").mkdir()
        there = {path.name for path in tmp_path.iterdir()}
        done = ask("--output", str(tmp_path / "folder"), "--format", "html", "--force")
        assert (done.exit_code, "is a directory" in done.stderr) == (2, True)
        assert {path.name for path in tmp_path.iterdir()} == there

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--range", "2026", "--since", "1d"), "stands in place"),
            (("--range", "2026-13"), "no period"),
            (("--since", "yesterday"), "no time"),
            (("--since", "2026-04-01", "--until", "2026-03-01"), "ends before"),
            (("--output", "report.pdf"), "which format"),
            (("--services", "payments"), "no scope"),
            (("--catalog", "/none.yaml"), "the catalog cannot be read"),
        ],
    )
    def test_a_wrong_word_is_a_usage_error_that_says_why(self, ask: Any, words: tuple[str, ...], said: str) -> None:
        done = ask(*words)
        assert done.exit_code == 2
        assert said in done.stderr

    def test_help_needs_no_database(self) -> None:
        for command, words in ((report_command, []), (review_command, []), (review_command, ["sign"]), (review_command, ["list"])):
            done = CliRunner().invoke(command, [*words, "--help"])
            assert done.exit_code == 0
            assert "Usage" in done.stdout


def test_the_index_is_free_for_others_while_a_review_is_recorded(company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent takes seconds, and another reviewer's command waits for the index no longer than that."""
    path = tmp_path / "index.duckdb"
    opened: list[str] = []

    def record(signed: dict[str, Any], _: object) -> Recorded:
        # One process cannot have a file open for reading and for writing.
        with open_index(path, writable=True) as index:
            opened.append(index.store)
        return Recorded(signed["event_id"], "trailseal/reviews/e/i", 1, 1)

    monkeypatch.setattr("agent.reader.own_trail.record_once", record)
    words = ["--query", "q", "--finding", "f", "--reviewer", "ada", "--outcome", "no_findings", "--state", str(tmp_path / "state")]
    store = [str(company.written.store), "--trust", str(company.written.trust), "--index", str(path)]
    done = CliRunner().invoke(review_command, ["sign", *store, *words])
    assert done.exit_code == 0, done.output
    assert opened == [str(company.written.store)]


class TestCatalogs:
    def test_our_own_actions_are_known_beside_any_catalog(self, tmp_path: Path) -> None:
        file = tmp_path / "catalog.yaml"
        file.write_text(CATALOG)
        both = with_own_actions(load_catalog(file))
        assert [entry.action for entry in both.entries] == ["role.grant", *(entry.action for entry in own_catalog().entries)]
        assert with_own_actions(None) == own_catalog()

    def test_a_catalog_brings_what_it_includes_and_a_shipped_one_is_taken_by_its_name(self, ask: Any, tmp_path: Path) -> None:
        file = tmp_path / "catalog.yaml"
        file.write_text(CATALOG.replace("format: 1", "format: 1\ninclude: shipped:vault"))
        for named, actions in (("shipped:vault", {"vault.*", "policy.update"}), (str(file), {"role.grant", "vault.*"})):
            done = ask("--catalog", named, "--output", str(tmp_path / "r.json"), "--force")
            assert done.exit_code == 0, done.output
            entries = json.loads((tmp_path / "r.json").read_text())["coverage"]["entries"]
            assert actions <= {each["entry"]["action"] for each in entries}

    def test_an_entry_of_the_given_catalog_wins(self, tmp_path: Path) -> None:
        file = tmp_path / "catalog.yaml"
        file.write_text(CATALOG.replace("role.grant", "review.sign"))
        entry = with_own_actions(load_catalog(file)).entry("review.sign")
        assert entry is not None
        assert entry.category.value == "authorization"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b"format: 1\nactions: {role.grant: {category: authorisation, sensitivity: high}}", "actions.role.grant.category"),
            (b"format: 1\nactions: [", r":\d+: not YAML"),
            (b"format: 1\nformat: 1\nactions: {}", r":2: format: this key stands here twice"),
            (b"\xff\xfe", "not UTF-8"),
            (b"", r":1: the file is empty"),
            (b"format: 1\nactions: " + b"[" * 5000, "not YAML"),
            (b"!!python/object:os.system x", "must be a mapping"),
        ],
    )
    def test_a_wrong_catalog_is_an_error_with_its_place(self, tmp_path: Path, text: bytes, said: str) -> None:
        file = tmp_path / "catalog.yaml"
        file.write_bytes(text)
        with pytest.raises(ConfigError, match=said):
            load_catalog(file)

    def test_a_catalog_that_is_too_large_is_not_read(self, tmp_path: Path) -> None:
        file = tmp_path / "catalog.yaml"
        with file.open("wb") as growing:
            growing.truncate(1 << 30)
        with pytest.raises(ConfigError, match="bytes"):
            load_catalog(file)
