"""`trailseal query` on stores as agents write them: the command, its files, its exit codes, and every command in docs/query.md."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from agent.reader.ask.correlation import Finding
from agent.reader.ask.question import Question
from agent.reader.ask.stated import Clock, Loss, Reason, Silence, Statement, TrailStatement
from agent.reader.control.catalogs import load_catalog
from tests.support.agent_process import TRAILSEAL
from tests.support.evidence_store import write_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.evidence_facts import Written

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "query.md"
CATALOG = Path(__file__).parents[2] / "config" / "catalog.yaml"
GRANTS = ("--action", "role.grant", "--text", '"granted_role":"admin"', "--since", "2026-03-01", "--until", "2026-06-01")
APPROVALS = ("--correlate", "context.approval_id", "--counterpart", "role.approve")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_store(tmp_path_factory.mktemp("clean"), events=2000)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_store(tmp_path_factory.mktemp("planted"), events=1200, clean=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Asking:
    """Runs the command in a folder, with a cache of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        """Remember both."""
        self.folder = folder
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "TZ": "Pacific/Auckland", "COLUMNS": "120"}

    def __call__(self, written: Written, *options: str | Path, trust: bool = True) -> subprocess.CompletedProcess[str]:
        believed = ("--trust", str(written.trust)) if trust else ()
        return self.run([TRAILSEAL, "query", str(written.store), *believed, *map(str, options)])

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, capture_output=True, text=True, timeout=50, check=False, cwd=self.folder, env=self.environment)

    def json(self, written: Written, *options: str, trust: bool = True) -> dict[str, Any]:
        done = self(written, "--json", *options, trust=trust)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def ask(tmp_path: Path, cache: Path) -> Asking:
    return Asking(tmp_path, cache)


def admin_grants(written: Written) -> list[Any]:
    since, until = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    return [grant for grant in written.grants if grant.role == "admin" and since <= grant.occurred_at < until]


def test_the_auditors_request_is_answered_grant_by_grant_as_it_happened(written: Written, ask: Asking) -> None:
    found = ask.json(written, *GRANTS, *APPROVALS)
    assert [event["event"]["event_id"] for event in found["events"]] == [grant.event_id for grant in admin_grants(written)]
    for event, grant in zip(found["events"], admin_grants(written), strict=True):
        correlation = event["correlation"]
        approvals = [
            one["event"]
            for one in correlation["counterparts"]
            if one["event"]["action"] == "role.approve" and one["event"]["outcome"] == "success"
        ]
        if grant.approval_id is None:
            assert correlation["finding"] == Finding.NO_VALUE
        elif grant.approved_by is None:
            assert correlation["finding"] in {Finding.UNSUCCESSFUL, Finding.ONLY_ALIKE}
        else:
            assert (correlation["finding"], correlation["remarks"]) == (Finding.FOUND, [])
            assert [approval["actor"]["id"] for approval in approvals] == [grant.approved_by]
            assert [approval["event_id"] for approval in approvals] == [grant.approval_event_id]
    assert found["statement"]["verdict"] == "complete"
    assert found["statement"]["matched"] == len(admin_grants(written)) == 18
    assert found["events_omitted"] == 0


def test_figures_are_those_of_the_store(written: Written, ask: Asking) -> None:
    found = ask.json(written, "--limit", "1")
    stated = found["statement"]
    assert (stated["matched"], stated["events_in_range"], found["events_omitted"]) == (written.events, written.events, written.events - 1)
    assert (stated["records"], stated["quarantined"]) == (written.events + written.quarantined, written.quarantined)
    assert sorted(trail["origin"] for trail in stated["trails"]) == sorted(written.origins)
    assert sum(trail["batches"] for trail in stated["trails"]) == written.batches
    mallory = ask.json(written, "--no-refresh", "--actor", written.incident_actor)
    assert len(mallory["events"]) == written.by_actor[written.incident_actor]
    logins = ask.json(
        written, "--no-refresh", "--service", "acme/directory", "--action", "auth.log[io]n", "--outcome", "failure", "--limit", "5000"
    )
    assert len(logins["events"]) == written.by_action["directory", "auth.login", "failure"]


def test_a_category_is_the_catalogs(written: Written, ask: Asking) -> None:
    catalog = load_catalog(CATALOG)
    expected = sum(
        count
        for (_, action, _), count in written.by_action.items()
        if (entry := catalog.entry(action)) and entry.category == "authorization"
    )
    found = ask.json(written, "--no-refresh", "--category", "authorization", "--catalog", str(CATALOG), "--limit", "10000")
    assert len(found["events"]) == expected > 0
    assert {event["category"] for event in found["events"]} == {"authorization"}


class TestVerdicts:
    def test_a_clean_store_is_complete_and_exits_0_even_if_that_is_demanded(self, written: Written, ask: Asking) -> None:
        done = ask(written, "--strict", "--limit", "3")
        assert done.returncode == 0, done.stdout
        assert done.stdout.rstrip().splitlines()[-1].startswith("complete: ")

    def test_without_a_trust_file_nobody_vouches_and_the_answer_says_so(self, written: Written, ask: Asking) -> None:
        done = ask(written, "--strict", "--limit", "3", "--index", ask.folder / "x.duckdb", trust=False)
        assert done.returncode == 12
        assert done.stdout.rstrip().splitlines()[-1].startswith("unverified: ")
        assert ask(written, "--limit", "3", "--index", ask.folder / "x.duckdb", trust=False).returncode == 0

    def test_a_gap_and_a_silence_make_their_ranges_incomplete_and_no_others(self, planted: Written, ask: Asking) -> None:
        found = ask.json(planted)["statement"]
        assert (found["verdict"], found["exit_code"]) == ("incomplete", 11)
        assert {reason["code"] for reason in found["reasons"] if reason["severity"] != "notice"} == {"gap", "silence"}
        for trouble in planted.planted:
            until = trouble.until + timedelta(hours=1)
            inside = ask.json(planted, "--no-refresh", "--since", trouble.since.isoformat(), "--until", until.isoformat())
            codes = {reason["code"] for reason in inside["statement"]["reasons"] if reason["severity"] != "notice"}
            assert trouble.code in codes, (trouble, inside["statement"]["reasons"])
        assert ask(planted, "--no-refresh", "--strict", "--since", "2026-02-02", "--until", "2026-02-20").returncode == 0

    def test_a_store_that_was_tampered_with_answers_without_what_was_changed_and_says_so(self, written: Written, ask: Asking) -> None:
        copy = dataclasses.replace(written, store=ask.folder / "copy")
        shutil.copytree(written.store, copy.store)
        grant = admin_grants(written)[0]
        marked = grant.event_id.encode()
        import zstandard

        changed = [
            path
            for path in sorted(copy.store.rglob("*.zst"))
            if marked in zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        ]
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(changed[0].read_bytes())
        changed[0].chmod(0o600)
        changed[0].write_bytes(zstandard.ZstdCompressor().compress(raw.replace(b'"granted_role":"admin"', b'"granted_role":"guest"')))
        found = ask.json(copy, *GRANTS, *APPROVALS)
        assert grant.event_id not in [event["event"]["event_id"] for event in found["events"]]
        assert (found["statement"]["verdict"], found["statement"]["exit_code"]) == ("unverified", 10)
        assert ask(copy, *GRANTS, "--no-refresh", "--strict").returncode == 10


class TestForms:
    def test_every_form_holds_the_same_events_and_lies_beside_its_statement(self, written: Written, ask: Asking) -> None:
        expected = [grant.event_id for grant in admin_grants(written)]
        for form in ("csv", "ndjson", "parquet"):
            path = ask.folder / f"grants.{form}"
            done = ask(written, *GRANTS, "--format", form, "--output", path)
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
            stated = json.loads(path.with_name(f"{path.name}.statement.json").read_text("ascii"))
            assert (stated["verdict"], stated["matched"]) == ("complete", len(expected))
            assert done.stderr.rstrip().splitlines()[-1].startswith("complete: ")
        with (ask.folder / "grants.csv").open(newline="", encoding="utf-8") as stream:
            assert [row["event_id"] for row in csv.DictReader(stream)] == expected
        lines = (ask.folder / "grants.ndjson").read_text("ascii").splitlines()
        assert [json.loads(line)["event"]["event_id"] for line in lines] == expected
        rows = duckdb.execute("SELECT event_id FROM read_parquet(?)", [str(ask.folder / "grants.parquet")]).fetchall()
        assert [row[0] for row in rows] == expected

    def test_what_is_there_is_kept_and_nothing_is_left_over(self, written: Written, ask: Asking) -> None:
        (ask.folder / "mine.csv.statement.json").write_text("mine")
        done = ask(written, "--format", "csv", "--output", ask.folder / "mine.csv")
        assert done.returncode == 2
        assert "already" in done.stderr
        assert [path.name for path in ask.folder.iterdir()] == ["mine.csv.statement.json"]
        assert (ask.folder / "mine.csv.statement.json").read_text() == "mine"
        assert ask(written, "--format", "csv", "--output", ask.folder / "mine.csv", "--force").returncode == 0

    def test_a_pipe_gets_the_rows_and_stderr_the_statement(self, written: Written, ask: Asking) -> None:
        done = ask(written, "--format", "csv", "--action", "role.grant")
        rows = list(csv.reader(done.stdout.splitlines()))
        assert len(rows) == len(written.grants) + 1
        assert "Population" not in done.stdout
        assert "Population" in done.stderr

    def test_a_reader_that_goes_away_is_no_traceback(self, written: Written, ask: Asking) -> None:
        words = shlex.join([TRAILSEAL, "query", str(written.store), "--trust", str(written.trust), "--format", "ndjson"])
        done = ask.run(["bash", "-c", f"{words} | head -n 1"])
        assert json.loads(done.stdout)["seq"] >= 0
        assert "Traceback" not in done.stderr

    def test_a_limit_says_how_many_more_there_are(self, written: Written, ask: Asking) -> None:
        done = ask(written, "--action", "role.grant", "--limit", "2")
        assert f"{len(written.grants) - 2} more events not shown" in done.stdout
        assert "more event" not in ask(written, *GRANTS).stdout

    def test_nothing_found_is_said_and_stated(self, written: Written, ask: Asking) -> None:
        done = ask(written, "--actor", "nobody")
        assert done.stdout.startswith("No event matches.")
        assert "complete: " in done.stdout


class TestSql:
    def test_a_question_is_answered_in_every_form(self, written: Written, ask: Asking) -> None:
        text = "SELECT action, count(*) AS n, max(occurred_at) AS last FROM events WHERE action = 'role.grant' GROUP BY ALL"
        done = ask(written, "--sql", text)
        assert (done.returncode, "role.grant" in done.stdout) == (0, True)
        assert ask.json(written, "--sql", text)["rows"][0]["n"] == len(written.grants)
        for form in ("csv", "ndjson", "parquet"):
            assert ask(written, "--sql", text, "--format", form, "--output", ask.folder / f"x.{form}").returncode == 0
        assert duckdb.execute("SELECT n, typeof(last) FROM read_parquet(?)", [str(ask.folder / "x.parquet")]).fetchall() == [
            (len(written.grants), "TIMESTAMP")
        ]
        assert json.loads((ask.folder / "x.csv.statement.json").read_text())["query"] == f"SQL: {text}"

    def test_what_is_no_query_is_refused_in_one_line(self, written: Written, ask: Asking) -> None:
        for text in ("COPY events TO 'stolen.csv'", "SELECT * FROM read_csv('/etc/passwd')", "SELECT 1; SELECT 2", "SELECT nothing"):
            done = ask(written, "--sql", text)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith("trailseal: sql: ")
            assert "Traceback" not in done.stderr
        assert not (ask.folder / "stolen.csv").exists()

    def test_a_question_without_end_ends(self, written: Written, ask: Asking) -> None:
        done = ask(written, "--sql", "SELECT count(*) FROM range(1000000000000) a, range(1000000) b", "--seconds", "0.5")
        assert done.returncode == 1
        assert "ended after 0.5 s" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--since", "yesterday"),
        ("--since", "2026-03-01", "--until", "2026-03-01"),
        ("--correlate", "approval_id"),
        ("--counterpart", "x"),
        ("--category", "security"),
        ("--category", "secrecy"),
        ("--outcome", "Success"),
        ("--limit", "0"),
        ("--sql", "SELECT 1", "--actor", "x"),
        ("--sql", "SELECT 1", "--correlate", "context.x"),
        ("--json", "--format", "csv"),
        ("--format", "parquet"),
        ("--output", "x"),
        ("--force",),
        ("--service", "a/b/c"),
        ("--actor", "\udcff"),
        ("--actor", ""),
        ("--catalog", "none.yaml", "--category", "security"),
    ],
)
def test_options_that_make_no_sense_are_a_usage_error(written: Written, ask: Asking, options: tuple[str, ...]) -> None:
    done = ask(written, *options)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


class TestDocs:
    def test_every_command_of_the_page_runs_and_says_what_the_page_says(self, written: Written, ask: Asking) -> None:
        page = DOCS.read_text("utf-8")
        shutil.copy(written.trust, ask.folder / "trust.txt")
        shutil.copy(CATALOG, ask.folder / "catalog.yaml")
        commands = [
            line[2:]
            for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL)
            for line in block.splitlines()
            if line.startswith("$ ")
        ]
        assert len(commands) >= 7
        printed = ""
        for command in commands:
            words = shlex.split(command.replace("/srv/trail", str(written.store)))
            assert words[0] == "trailseal"
            done = ask.run([TRAILSEAL, *words[1:]])
            assert done.returncode == 0, (command, done.stderr)
            printed += done.stdout
        assert {path.name for path in ask.folder.glob("*.csv")} == {"exports.csv", "grants.csv", "logins.csv"}
        told = [line for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
        squeezed = " ".join(printed.split())
        for line in told:
            for part in re.split(r"\s{2,}|…", line):
                if part.strip(" ,}─"):
                    assert " ".join(part.rstrip(" ,}").split()) in squeezed, part

    def test_the_page_names_every_option_and_every_key_and_no_other(self) -> None:
        page = DOCS.read_text("utf-8")
        from agent.reader.ask.cli import query_command

        options = {option for parameter in query_command.params for option in parameter.opts if option.startswith("--")}
        reach = {"--endpoint", "--region", "--profile", "--ca-file"}
        assert {option for option in options if option not in page} <= reach
        named = set(re.findall(r"--[a-z][a-z-]*", page))
        assert named - options <= {"--expected", "--pack"}
        for kind in (Statement, TrailStatement, Reason, Clock):
            for field in dataclasses.fields(kind):
                assert f"`{field.name}`" in page, field.name
        assert {field.name for kind in (Silence, Loss) for field in dataclasses.fields(kind)} == set(
            re.findall(r"`([a-z_]+)`", page.partition("Each silence has")[2].partition("\n\n")[0])
        )
        assert all(f"`{finding.value}`" in page for finding in Finding)
        assert {field.name for field in dataclasses.fields(Question)} > {"correlate", "counterpart", "sql"}

    def test_the_help_teaches_with_examples(self, ask: Asking) -> None:
        done = ask.run([TRAILSEAL, "query", "--help"])
        assert done.returncode == 0
        assert done.stdout.count("trailseal query ") >= 5
        assert "UTC" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 120
