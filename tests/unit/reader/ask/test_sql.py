from __future__ import annotations

import resource
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import ConfigError, TrailsealError
from agent.reader.ask.sql import asking
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.reader.ask.made import Made


@pytest.fixture
def index(made: Made) -> Path:
    made.trail().batch(at(2), event(1), event(1.5, actor="carol"))
    made.close()
    return made.path


def rows(path: Path, text: str, seconds: float = 20.0) -> list[tuple[Any, ...]]:
    with asking(path, text, seconds) as found:
        return list(found.rows)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT actor_id FROM events ORDER BY 1",
        "FROM events SELECT actor_id ORDER BY 1;",
        "WITH e AS (SELECT * FROM events) SELECT actor_id FROM e ORDER BY 1 -- a remark",
        "VALUES ('alice'), ('carol')",
        "SELECT * FROM query('SELECT actor_id FROM events ORDER BY 1')",
    ],
)
def test_a_query_is_answered(index: Path, text: str) -> None:
    assert rows(index, text) == [("alice",), ("carol",)]


def test_the_settings_may_be_looked_at_and_say_how_tight_they_are(index: Path) -> None:
    found = dict(rows(index, "SELECT name, value FROM duckdb_settings()"))
    assert (found["enable_external_access"], found["lock_configuration"], found["access_mode"]) == ("false", "true", "read_only")
    assert rows(index, "DESCRIBE events")[0][0] == "origin"
    assert rows(index, "EXPLAIN SELECT 1")


@pytest.mark.parametrize(
    "text",
    [
        "COPY events TO '{folder}/stolen.csv'",
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "EXPORT DATABASE '{folder}/stolen'",
        "ATTACH '{folder}/other.duckdb'",
        "ATTACH ':memory:' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FORCE INSTALL httpfs FROM community",
        "PRAGMA database_list",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "SET memory_limit = '64GB'",
        "RESET memory_limit",
        "SET GLOBAL enable_external_access = true",
        "CREATE TABLE x(i INTEGER)",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE MACRO f() AS 1",
        "INSERT INTO findings(code) VALUES ('x')",
        "UPDATE event_rows SET actor_id = 'x'",
        "DELETE FROM event_rows",
        "DROP TABLE event_rows",
        "EXPLAIN ANALYZE DELETE FROM event_rows",
        "EXPLAIN COPY events TO '{folder}/stolen.csv'",
        "EXPLAIN ANALYZE COPY events TO '{folder}/stolen.csv'",
        "WITH d AS (DELETE FROM event_rows RETURNING *) SELECT * FROM d",
        "PREPARE p AS SELECT 1",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "CREATE SECRET (TYPE s3)",
        "USE memory",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE event_rows",
        "",
        "-- nothing",
        ";",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_json('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '{folder}/*.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "SELECT * FROM query('COPY events TO ''{folder}/stolen.csv''')",
        "SELECT * FROM query_table('/etc/passwd')",
        "SELECT getenv('HOME')",
        "SELECT * FROM python_rows",
        "SELECT * FROM sqlite_scan('{folder}/x', 'y')",
        "SELECT",
        "SELECT '\ud800'",
        "\x00",
        "SELECT error('x')",
        "SELECT nothing FROM nowhere",
        "SELECT " + "1," * 60_000 + "1",
    ],
)
def test_whatever_is_no_harmless_query_is_refused(index: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    python_rows = [("a variable of the program",)]

    def connect(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    before, bytes_before = sorted(tmp_path.iterdir()), index.read_bytes()
    with pytest.raises(ConfigError):
        rows(index, text.replace("{folder}", str(tmp_path)))
    assert sorted(tmp_path.iterdir()) == before
    assert index.read_bytes() == bytes_before
    assert python_rows


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM range(1000000000000) a, range(1000000) b",
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
        "SELECT a.range FROM range(1000000000000) a WHERE a.range < 0",
    ],
)
def test_a_question_without_end_is_ended(index: Path, text: str) -> None:
    with pytest.raises(TrailsealError, match=r"ended after 0\.3 s"):
        rows(index, text, 0.3)


def test_the_time_runs_while_rows_are_fetched_too(index: Path) -> None:
    with pytest.raises(TrailsealError, match="ended after"), asking(index, "SELECT range FROM range(100000000000)", 0.3) as found:
        for _ in found.rows:
            pass


@pytest.mark.parametrize("text", ["SELECT length(repeat('x', 3000000000))", "SELECT list(range) FROM range(100000000000)"])
def test_memory_is_bounded_and_the_bound_is_lifted_afterwards(index: Path, text: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises((ConfigError, TrailsealError)):
        rows(index, text)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert rows(index, "SELECT 1") == [(1,)]


def test_no_thread_is_left_behind(index: Path) -> None:
    before = threading.active_count()
    rows(index, "SELECT 1")
    assert threading.active_count() == before


def test_columns_of_one_name_are_told_apart_and_types_are_kept_where_a_file_can(index: Path) -> None:
    with asking(index, "SELECT 1::BIGINT AS a, TIMESTAMP '2026-01-01' AS a, [1] AS c, 'x' AS d") as found:
        assert [(column.name, column.type) for column in found.columns] == [
            ("a", "BIGINT"),
            ("a_2", "TIMESTAMP"),
            ("c", "VARCHAR"),
            ("d", "VARCHAR"),
        ]


def test_an_index_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no index"):
        rows(tmp_path / "none.duckdb", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_every_type_of_the_database_comes_out_in_every_form(index: Path, tmp_path: Path) -> None:
    import io
    import json

    from agent.reader.ask.rows import Rows
    from agent.reader.ask.show import values_table
    from agent.reader.ask.writers import jsonable, write_csv, write_ndjson, write_parquet

    text = "SELECT *, MAP {[1]: 2} AS odd_keys, 'nan'::DOUBLE AS nan, [1.5, '-inf'::DOUBLE] AS infinite FROM test_all_types()"
    with asking(index, text) as found:
        columns, all_rows = found.columns, list(found.rows)
    assert (len(all_rows), write_csv(Rows(columns, iter(all_rows)), io.StringIO(newline=""))) == (3, 3)
    stream = io.StringIO()
    names = [column.name for column in columns]
    write_ndjson((dict(zip(names, map(jsonable, row), strict=True)) for row in all_rows), stream)

    def constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    read = [json.loads(line, parse_constant=constant) for line in stream.getvalue().splitlines()]
    assert (read[0]["nan"], read[0]["infinite"], read[2]["bigint"]) == ("nan", [1.5, "-inf"], None)
    assert write_parquet(Rows(columns, iter(all_rows)), tmp_path / "all.parquet") == 3
    assert values_table(columns, all_rows).row_count == 3
