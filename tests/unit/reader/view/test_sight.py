from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from agent.errors import ConfigError
from agent.reader.ask.filters import Filter, Scope, where
from agent.reader.view.sight import WITHHELD, Sight
from tests.support.two_services import BEGIN, HIDDEN, LATER, SHOWN, TURN, write_two_services
from tests.support.view_site import build_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.reader.index import Index

TABLES = ("trails", "batches", "sources", "event_rows", "quarantine", "gaps", "nodes", "findings", "events")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("sight")
    two = write_two_services(folder)
    with build_index(two.store, two.trust, folder / "index.duckdb") as made:
        yield made


def everything_in(sight: Index) -> str:
    return "\n".join(f"{table}: {row}" for table in TABLES for row in sight.rows(f"FROM {table}"))


def test_the_whole_index_holds_the_word_in_every_table(index: Index) -> None:
    """So that the tests below look for something that is there."""
    for table in set(TABLES) - {"nodes", "batches"}:
        assert HIDDEN in str(index.rows(f"FROM {table}")), table


def test_no_table_shows_anything_of_another_service(index: Index) -> None:
    with Sight(index, Scope((SHOWN,))) as sight:
        assert HIDDEN not in everything_in(sight)
        for table in set(TABLES) - {"nodes"}:
            assert sight.rows(f"FROM {table}"), table


def test_a_scope_of_no_service_that_exists_shows_nothing(index: Index) -> None:
    with Sight(index, Scope(("demo/nobody",))) as sight:
        for table in TABLES:
            assert sight.rows(f"FROM {table}") == [], table
        assert sight.trails() == []


def test_a_scope_of_everything_shows_everything(index: Index) -> None:
    with Sight(index, Scope(("*/*",)), everything=True) as sight:
        for table in TABLES:
            assert sorted(map(repr, sight.rows(f"FROM {table}"))) == sorted(map(repr, index.rows(f"FROM {table}"))), table


@pytest.mark.parametrize("name", ["events", "main.events", "temp.events", "temp.main.events", '"events"'])
def test_no_spelling_of_a_table_reaches_beyond_the_scope(index: Index, name: str) -> None:
    with Sight(index, Scope((SHOWN,))) as sight:
        assert HIDDEN not in str(sight.rows(f"FROM {name}"))


def test_another_connection_of_a_sight_sees_no_more(index: Index) -> None:
    with Sight(index, Scope((SHOWN,))) as sight:
        assert HIDDEN not in str(sight.cursor().execute("FROM events").fetchall())
        assert HIDDEN not in str(sight.cursor().execute("FROM trails").fetchall())


def test_times_bound_what_services_wrote(index: Index) -> None:
    with Sight(index, Scope((SHOWN,), None, TURN)) as before, Sight(index, Scope((SHOWN,), TURN)) as after:
        for table in ("events", "event_rows", "quarantine", "gaps"):
            assert LATER not in str(before.rows(f"FROM {table}")), table
            assert "okapi" not in str(after.rows(f"FROM {table}")), table
            assert "okapi" in str(before.rows(f"FROM {table}")), table
            assert LATER in str(after.rows(f"FROM {table}")), table


def test_the_beginning_of_a_range_is_in_it_and_its_end_is_not(index: Index) -> None:
    first = index.rows("SELECT min(occurred_at) FROM events WHERE service = 'shown'")[0][0].replace(tzinfo=BEGIN.tzinfo)
    with Sight(index, Scope((SHOWN,), first)) as sight:
        assert sight.rows("SELECT min(occurred_at) FROM events")[0][0] == first.replace(tzinfo=None)
    with Sight(index, Scope((SHOWN,), None, first)) as sight:
        assert sight.rows("SELECT count(*) FROM events") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM trails", "CREATE TABLE t(a INT)", "UPDATE meta SET value = ''", "INSERT INTO meta VALUES ('a', 'b')"],
)
def test_nothing_can_be_written(index: Index, statement: str) -> None:
    before = index.rows("SELECT count(*) FROM trails"), index.rows("FROM meta ORDER BY name")
    with Sight(index, Scope((SHOWN,))) as sight, pytest.raises(duckdb.Error):
        sight.rows(statement)
    assert (index.rows("SELECT count(*) FROM trails"), index.rows("FROM meta ORDER BY name")) == before


def test_a_sight_is_of_one_moment(index: Index) -> None:
    with Sight(index, Scope((SHOWN,))) as sight:
        before = sight.rows("SELECT value FROM meta WHERE name = 'refreshed_at'")
        index.connection.execute("UPDATE meta SET value = '2027-01-01T00:00:00+00:00' WHERE name = 'refreshed_at'")
        try:
            assert sight.rows("SELECT value FROM meta WHERE name = 'refreshed_at'") == before
        finally:
            index.connection.execute("UPDATE meta SET value = ? WHERE name = 'refreshed_at'", [before[0][0]])


def test_a_table_that_nobody_thought_of_is_refused(index: Index) -> None:
    index.connection.execute("CREATE TABLE novelties(secret VARCHAR)")
    try:
        with pytest.raises(ConfigError, match="does not know"):
            Sight(index, Scope((SHOWN,)))
    finally:
        index.connection.execute("DROP TABLE novelties")


def test_a_finding_that_names_another_service_keeps_its_code_alone(index: Index) -> None:
    origin = index.rows("SELECT origin FROM trails WHERE service = 'shown' ORDER BY origin")[0][0]
    hidden = index.rows("SELECT origin FROM trails WHERE service <> 'shown' ORDER BY origin")[0][0]
    row = [origin, 1, f"trails/{hidden}/0.seal", "seal_misplaced", "tampered", f"a seal of {hidden}", None, None, None, True]
    index.connection.execute("INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    try:
        with Sight(index, Scope((SHOWN,))) as sight:
            found = sight.rows("SELECT code, severity, message, key FROM findings WHERE code = 'seal_misplaced'")
        assert found == [("seal_misplaced", "tampered", WITHHELD, None)]
    finally:
        index.connection.execute("DELETE FROM findings WHERE code = 'seal_misplaced'")


@pytest.mark.parametrize("origin", ["'; DROP TABLE findings; --", 'demo/shown"/x', "demo/shown'/x/y", "demo", "", "/", "demo/shown"])
def test_a_name_in_a_finding_is_never_a_part_of_the_statement(index: Index, origin: str) -> None:
    index.connection.execute("INSERT INTO findings VALUES (?, 1, NULL, 'gap', 'incomplete', 'x', 1, 2, NULL, TRUE)", [origin])
    try:
        with Sight(index, Scope((SHOWN,))) as sight:
            seen = sight.rows("SELECT count(*) FROM findings WHERE origin = ?", [origin])[0][0]
        assert seen == (origin == "demo/shown")
    finally:
        index.connection.execute("DELETE FROM findings WHERE message = 'x'")


def test_an_interrupted_sight_answers_nothing_more(index: Index) -> None:
    with Sight(index, Scope((SHOWN,))) as sight:
        sight.interrupt()
        with pytest.raises(duckdb.InterruptException):
            sight.rows("SELECT 1")
        with pytest.raises(duckdb.InterruptException):
            sight.cursor()


def test_the_trail_that_a_foreign_one_claims_to_be_is_not_named(index: Index) -> None:
    with Sight(index, Scope(("demo/secret-*",))) as sight:
        claims = {row[0] for row in sight.rows("SELECT continues_origin FROM trails")}
    assert claims == {None}


def test_a_narrowed_sight_holds_what_matches_in_scope_and_nothing_else(index: Index) -> None:
    with Sight(index, Scope((SHOWN,))) as sight:
        expected = sorted(sight.rows("SELECT origin, seq, context FROM events WHERE action LIKE 'role%'"))
        sight.narrow(where(Filter(action=("role.*",))))
        assert sorted(sight.rows("SELECT origin, seq, context FROM events")) == expected
        assert len(expected) == 1
        assert HIDDEN not in str(sight.rows("FROM events"))
        sight.rows("SELECT trusted, namespace, instance FROM events")
