from __future__ import annotations

import csv
import io
import json
import stat
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.reader.ask.correlation import correlate
from agent.reader.ask.filters import Filter
from agent.reader.ask.naming import unique
from agent.reader.ask.rows import EVENT_COLUMNS, PAIR_COLUMNS, Column, Rows, of_events, of_pairs
from agent.reader.ask.search import search
from agent.reader.ask.writers import plain, write_csv, write_ndjson, write_parquet
from agent.reader.writing import new_path
from tests.unit.reader.ask.made import at, event
from tests.unit.reader.ask.test_spreadsheet import FORMULAS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.reader.ask.made import Made

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(st.sampled_from("=+-@'\t\r\n \",;aé"), max_size=6)


def written(*rows: tuple[Any, ...], columns: tuple[str, ...] = ("a", "b"), terminal: bool = False) -> str:
    stream = io.StringIO(newline="")
    write_csv(Rows(tuple(Column(name) for name in columns), iter(rows)), stream, terminal=terminal)
    return stream.getvalue()


class TestCsv:
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_a_cell_that_a_spreadsheet_would_run_is_made_text(self, formula: str) -> None:
        row = list(csv.reader(io.StringIO(written((formula, "x")), newline="")))[1]
        assert row == [f"'{formula}", "x"]

    @given(text=TEXTS)
    @example(text="'")
    @example(text="''=")
    def test_one_apostrophe_taken_away_gives_back_what_was_there(self, text: str) -> None:
        cell = list(csv.reader(io.StringIO(written((text, "x")), newline="")))[1][0]
        assert cell.removeprefix("'") == text
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))

    def test_it_is_rfc_4180(self) -> None:
        assert (
            written(('say "hi"', "a,b"), (None, "two\r\nlines"), (True, 7)) == 'a,b\r\n"say ""hi""","a,b"\r\n,"two\r\nlines"\r\ntrue,7\r\n'
        )

    def test_numbers_stay_numbers_even_below_zero(self) -> None:
        assert written((-1, 0.5)) == "a,b\r\n-1,0.5\r\n"

    def test_what_drives_a_terminal_is_escaped_on_a_terminal_only(self) -> None:
        assert "\x1b" not in written(("\x1b[2J\u202e", "x"), terminal=True)
        assert "\x1b[2J" in written(("\x1b[2J", "x"))

    def test_names_of_columns_are_as_hostile_as_values(self) -> None:
        assert written(columns=("=1", "\x1b"), terminal=True) == "'=1,\\x1b\r\n"


def test_ndjson_is_one_ascii_document_a_line_whatever_is_in_it() -> None:
    stream = io.StringIO()
    documents: list[dict[str, Any]] = [{"a": "two\nlines\u2028é\x1b"}, {"b": [1.5, None, True]}, {"c": b"\xff"}]
    count = write_ndjson(documents, stream)
    lines = stream.getvalue().splitlines()
    assert (count, [json.loads(line) for line in lines]) == (3, [{"a": "two\nlines\u2028é\x1b"}, {"b": [1.5, None, True]}, {"c": "ff"}])
    assert stream.getvalue().isascii()


def test_every_value_of_a_database_has_a_plain_form() -> None:
    values = (datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), timedelta(seconds=90), memoryview(b"\x01"), {1}.__class__)
    assert [plain(value) for value in values[:4]] == ["2026-01-01T00:00:00+00:00", "2026-01-01", 90.0, "01"]


class TestParquet:
    def test_events_keep_their_types_and_every_character(self, made: Made, tmp_path: Path) -> None:
        hostile = "'; DROP TABLE x; -- \x00\x1b\u202e🎈\"\\"
        made.trail().batch(at(2), event(1, actor=hostile, note=hostile), event(1.5, outcome="denied"))
        found = search(made.index, Filter()).events
        path = tmp_path / "it's.parquet"
        assert write_parquet(of_events(found), path) == 2
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        rows = (
            duckdb.connect()
            .execute("SELECT actor_id, seq, occurred_at, trusted, context FROM read_parquet(?) ORDER BY seq", [str(path)])
            .fetchall()
        )
        assert rows[0] == (hostile, 0, at(1).replace(tzinfo=None), True, json.dumps({"note": hostile}))
        assert rows[1][1:] == (1, at(1.5).replace(tzinfo=None), True, None)
        assert [name for name in tmp_path.iterdir() if name.name.startswith(".trailseal")] == []

    def test_no_rows_make_a_file_with_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "none.parquet"
        write_parquet(of_events([]), path)
        described = duckdb.connect().execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        assert [(row[0], row[1]) for row in described] == [(column.name, column.type) for column in EVENT_COLUMNS]

    def test_names_that_are_sql_stay_names(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        names = ("a', b: 'INTEGER'} --", 'q"', "ü")
        write_parquet(Rows(tuple(Column(name) for name in names), iter([("1", "2", "3")])), path)
        read = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(path)])
        assert [column[0] for column in read.description or ()] == list(names)
        assert read.fetchall() == [("1", "2", "3")]

    def test_columns_whose_names_differ_in_case_only_are_two_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        names = unique(["id", "ID", "id"])
        write_parquet(Rows(tuple(Column(name) for name in names), iter([("1", "2", "3")])), path)
        read = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(path)])
        assert [column[0] for column in read.description or ()] == ["id", "ID_2", "id_3"]
        assert read.fetchall() == [("1", "2", "3")]

    @pytest.mark.parametrize("length", [(1 << 20) - 20, 1 << 20, 40 << 20])
    def test_a_row_of_any_length_is_written_between_short_ones(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / "long.parquet"
        assert write_parquet(Rows((Column("a"), Column("b", "BIGINT")), iter([("s", 0), ("x" * length, 1), ("t", 2)])), path) == 3
        read = duckdb.connect().execute("SELECT length(a), b FROM read_parquet(?) ORDER BY b", [str(path)])
        assert read.fetchall() == [(1, 0), (length, 1), (1, 2)]


def test_an_event_without_counterpart_is_a_row_too_and_one_with_two_is_two(made: Made) -> None:
    made.trail().batch(
        at(9),
        event(1, approval_id="A"),
        event(2, action="approve", approval_id="A"),
        event(3, action="request", approval_id="A"),
        event(4, approval_id="B"),
    )
    found = correlate(made.index, Filter(action=("role.grant",)), "context.approval_id").pairs
    rows = [dict(zip((column.name for column in PAIR_COLUMNS), row, strict=True)) for row in of_pairs(found).rows]
    assert [(row["seq"], row["correlation_value"], row["correlation_finding"], row["with_action"]) for row in rows] == [
        (0, "A", "found", "approve"),
        (0, "A", "found", "request"),
        (3, "B", "alone", None),
    ]
    assert rows[2]["with_seq"] is None


class TestFiles:
    @staticmethod
    def fail_half_way(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("half way")

    def test_a_file_appears_whole_or_not_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        with pytest.raises(RuntimeError, match="half way"):  # noqa: SIM117 -- it is raised within
            with new_path(path) as temporary:
                self.fail_half_way(temporary)
        assert list(tmp_path.iterdir()) == []
        with new_path(path) as temporary:
            temporary.write_text("whole")
            assert not path.exists()
        assert path.read_text() == "whole"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_what_is_there_is_never_replaced_unasked_not_even_if_it_came_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        with pytest.raises(ConfigError, match="already"), new_path(path):
            path.write_text("theirs")
        assert path.read_text() == "theirs"
        with pytest.raises(ConfigError, match="already"), new_path(path):
            pass
        with new_path(path, force=True) as temporary:
            temporary.write_text("mine")
        assert path.read_text() == "mine"
        assert [name.name for name in tmp_path.iterdir()] == ["out"]

    def test_a_link_that_leads_nowhere_and_a_folder_are_there_too(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        (tmp_path / "folder").mkdir()
        for name, force in (("link", False), ("folder", False), ("folder", True)):
            with pytest.raises(ConfigError, match="already"), new_path(tmp_path / name, force=force):
                pass
        with pytest.raises(ConfigError, match="cannot write"), new_path(tmp_path / "no" / "x"):
            pass
