"""Which events go into a pack with their counterparts."""

from __future__ import annotations

import csv
import io
import json
import shlex
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.errors import ConfigError
from agent.events.catalog import Catalog
from agent.reader.ask.cli import query_command
from agent.reader.ask.filters import Filter, Scope
from agent.reader.evidence.cli import export_command
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.packcheck import check_pack
from agent.reader.evidence.selecting import Question, select
from agent.reader.findings import Severity
from agent.reader.trustfile import TrustFile
from agent.trail.manifest import ManifestReason, Window
from agent.trail.records import event_bodies
from tests.support.trail_factory import TrailFactory, stamp, write_store


def trail_of(events, **arguments):
    """Return a trail of events given as (id, action, approval id)."""
    trail = TrailFactory(**arguments)
    at = stamp(trail.now)
    lines = [
        json.dumps(
            {
                "stream": "audit",
                "event_id": name,
                "occurred_at": at,
                "actor": {"type": "user", "id": f"by-{name}"},
                "action": action,
                "target": {"type": "user", "id": "u"},
                "outcome": "success",
                "context": {"approval_id": approval} if approval else {},
            }
        ).encode()
        for name, action, approval in events
    ]
    window = Window(at, at, at, at)
    bodies = event_bodies("app", at, lines, None)
    trail.seal(ManifestReason.AGE, after_seconds=1, bodies=bodies, counts={"events": len(lines)}, window=window)
    trail.stop()
    return trail


@pytest.fixture
def company():
    """Return grants of one service, and what approves them in another."""
    grants = trail_of([("g1", "role.grant", "A"), ("g2", "role.grant", "B"), ("g3", "role.grant", None), ("x", "data.read", "A")])
    approvals = trail_of([("a1", "role.approve", "A"), ("n", "role.approve", "Z")], seed=b"other", service="console")
    return grants, approvals


GRANTS = Question(Filter(action=("role.grant",)), correlate="context.approval_id", counterpart=("role.approve",))


def ids_in(path):
    with zipfile.ZipFile(path) as pack:
        return sorted(json.loads(line)["event"]["event_id"] for line in pack.read("events.ndjson").splitlines())


def pack(company, indexed, path, question):
    index, store = indexed(*company)
    believed = TrustFile.parse("".join(trail.trust_line for trail in company), "t")
    made = write_pack(path, index, store, question, trust=believed, now=company[0].now + timedelta(seconds=5))
    assert check_pack(path, believed).severity is Severity.NOTICE
    return made


def test_a_grant_comes_with_its_approval_and_one_without_is_shown_alone(company, indexed, tmp_path):
    made = pack(company, indexed, tmp_path / "x.zip", GRANTS)
    assert ids_in(tmp_path / "x.zip") == ["a1", "g1", "g2", "g3", "x"]
    with zipfile.ZipFile(tmp_path / "x.zip") as opened:
        pairs = {row["event_id"]: row for row in csv.DictReader(io.StringIO(opened.read("pairs.csv").decode()))}
        said = json.loads(opened.read("completeness.json"))["correlation"]
    assert "role.approve success by by-a1" in pairs["g1"]["counterparts"]
    assert [pairs[name]["counterparts"] for name in ("g2", "g3")] == ["", ""]
    assert pairs.keys() == {"g1", "g2", "g3"}
    assert (said["matched"], said["counterparts"], said["counterparts_omitted"]) == (3, 2, 0)
    assert "--correlate" in made.statement.command


def test_a_counterpart_beyond_the_scope_stays_where_it_is(company, indexed, tmp_path):
    question = Question(GRANTS.filter, Scope(services=("demo/payments",)), correlate=GRANTS.correlate, counterpart=GRANTS.counterpart)
    pack(company, indexed, tmp_path / "x.zip", question)
    assert ids_in(tmp_path / "x.zip") == ["g1", "g2", "g3", "x"]
    with zipfile.ZipFile(tmp_path / "x.zip") as opened:
        assert not any(b"by-a1" in opened.read(name) or b"demo/console" in opened.read(name) for name in opened.namelist())


def test_without_a_wish_for_counterparts_there_is_no_table_of_them(company, indexed, tmp_path):
    pack(company, indexed, tmp_path / "x.zip", Question(GRANTS.filter))
    assert ids_in(tmp_path / "x.zip") == ["g1", "g2", "g3"]
    with zipfile.ZipFile(tmp_path / "x.zip") as opened:
        assert "pairs.csv" not in opened.namelist()


def test_counterparts_count_for_the_limit(company, indexed):
    index, _ = indexed(*company)
    question = Question(GRANTS.filter, limit=4, correlate=GRANTS.correlate)
    with pytest.raises(ConfigError, match="more than 4 events match"):
        select(index, question)
    assert len(select(index, Question(GRANTS.filter, limit=5, correlate=GRANTS.correlate)).wanted) == 5


def test_more_counterparts_than_are_listed_are_counted(indexed):
    many = trail_of([("g", "role.grant", "A"), *((f"a{number}", "role.approve", "A") for number in range(30))])
    index, _ = indexed(many)
    selected = select(index, GRANTS)
    assert (len(selected.wanted), selected.omitted) == (21, 10)
    assert "and 10 more" in selected.pairs[1]


def test_a_path_that_leads_nowhere_is_a_usage_error(company, indexed):
    index, _ = indexed(*company)
    with pytest.raises(ConfigError, match="is no path into the context"):
        select(index, Question(Filter(), correlate="approval_id"))


def test_the_words_that_repeat_a_question_are_all_of_it():
    asked = Filter(category=("data_export",))
    catalog = Catalog(())
    question = Question(asked, catalog=catalog, catalog_file=Path("my catalog.yaml"), correlate="context.x", counterpart=("a.*", "-b"))
    assert question.words == (
        *("--catalog", "my catalog.yaml", "--correlate", "context.x"),
        *("--counterpart", "a.*", "--counterpart=-b"),
    )
    assert Question(asked, catalog=catalog, catalog_file=Path("-c.yaml")).words == ("--catalog=-c.yaml",)
    assert Question(Filter(), catalog=catalog, catalog_file=Path("c.yaml")).words == ()


CATALOG = """format: 1
actions:
  role.grant:
    category: authorization
    sensitivity: high
    description: Somebody gave a role to somebody.
"""


def test_the_command_in_a_pack_asks_the_same_again(tmp_path, monkeypatch):
    """What `query.json` calls the command is run, catalog and all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    trail = trail_of([("g1", "role.grant", "A"), ("x", "data.read", "A")])
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    (tmp_path / "it's.yaml").write_text(CATALOG)
    asked = ["--trust", "trust", "--category", "authorization", "--catalog", "it's.yaml", "--correlate", "context.approval_id"]
    done = CliRunner().invoke(export_command, ["store", *asked, "--pack", "x.zip", "--quiet"])
    assert done.exit_code == 0, done.stderr
    with zipfile.ZipFile("x.zip") as pack:
        said = json.loads(pack.read("query.json"))
    words = shlex.split(said["command"])
    assert words[:2] == ["trailseal", "query"]
    again = CliRunner().invoke(query_command, [*words[2:], "--trust", "trust", "--json"])
    assert again.exit_code == 0, again.stderr
    document = json.loads(again.stdout)
    assert [one["event"]["event_id"] for one in document["events"]] == ["g1"]
    assert document["statement"]["command"] == said["command"]
