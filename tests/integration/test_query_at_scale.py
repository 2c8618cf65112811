"""docs/query-at-scale.md: what it says of DuckDB is run, on a store that a real agent wrote; ClickHouse and Spark by scripts/engines.sh."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from tests.support.engines import ENGINES, PAGE, QUESTION, ROOT, ask_duckdb, make, statements
from tests.support.index_truth import lines_of


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    return folder / "store", make(folder)


def test_duckdb_answers_what_was_put_in(answer):
    store, wanted = answer
    assert len(wanted) > 10
    assert any(without for *_, without in wanted)
    assert ask_duckdb(store) == wanted


def test_an_object_that_no_seal_names_is_in_the_raw_answer_and_not_in_the_sealed_one(answer):
    store, wanted = answer
    (sealed,) = (store / "records").rglob("*.zst")
    extra = sealed.with_name(sealed.name.replace("-0", "-9", 1))
    extra.write_bytes(sealed.read_bytes())
    try:
        doubled = [(*row[:3], 2 * row[3], 2 * row[4]) for row in wanted]
        assert ask_duckdb(store) == doubled
        (question,) = statements("DuckDB", QUESTION)
        only_sealed = question.replace("FROM records", "FROM sealed_records")
        assert only_sealed != question
        assert ask_duckdb(store, "only what a seal names", question=[only_sealed]) == wanted
    finally:
        extra.unlink()


def test_every_record_is_there_with_its_context_as_text_of_the_same_value(answer):
    store, _ = answer
    (sealed,) = (store / "records").rglob("*.zst")
    everything = "SELECT seq, kind, event.context, reason, raw, namespace, service FROM records ORDER BY seq"
    rows = ask_duckdb(store, question=[everything])
    lines = lines_of(sealed.read_bytes())
    assert len(rows) == len(lines)
    contexts = [context for _, kind, context, *_ in rows if kind == "event" and context]
    originals = [json.loads(line)["event"].get("context") for line in lines if b'"kind":"event"' in line]
    assert list(map(json.loads, contexts)) == [context for context in originals if context is not None]
    assert {'{"UserId":"A","n":9007199254740991}', '{"userid":"b","n":1.5,"deep":{"a":[null]}}'} <= set(contexts)
    assert [reason for _, kind, _, reason, *_ in rows if kind == "quarantine"] == ["missing_field", "not_json"]
    assert {row[5:] for row in rows} == {("acme", "directory")}


def test_inferred_columns_fail_as_the_page_says(answer):
    store, _ = answer
    with pytest.raises(duckdb.NotImplementedException, match='Duplicate name "userid" in struct'), duckdb.connect() as connection:
        connection.execute("SELECT * FROM read_json(?, sample_size = -1)", [f"{store}/records/**/*.ndjson.zst"])
    assert 'Duplicate name "userid" in struct' in PAGE.read_text(encoding="utf-8").replace("\n", " ")


def test_the_page_has_a_table_and_the_question_for_every_engine():
    for engine in ENGINES:
        assert statements(engine, "table")
        assert len(statements(engine, QUESTION)) == 1


def test_the_page_and_the_script_name_the_same_versions():
    page, script = PAGE.read_text(encoding="utf-8"), (ROOT / "scripts" / "engines.sh").read_text(encoding="utf-8")
    for package in ("chdb", "pyspark"):
        (version,) = re.findall(rf"{package}==([\d.]+)", script)
        assert f" {version}" in page
    assert f"| DuckDB | {duckdb.__version__} |" in page


def test_the_columns_of_every_table_are_those_of_the_trail_format():
    known = set(re.findall(r'"(\w+)"', (ROOT / "docs" / "trail-format.md").read_text(encoding="utf-8")))
    known |= {
        "from_offset",
        "to_offset",
        "event_id",
        "occurred_at",
        "actor",
        "session",
        "action",
        "target",
        "outcome",
        "context",
        "id",
        "type",
    }
    for engine in ENGINES:
        text = " ".join(statements(engine, "table"))
        for column in (
            "seq",
            "kind",
            "source",
            "observed_at",
            "event",
            "reason",
            "detail",
            "raw",
            "cause",
            "certainty",
            "from_offset",
            "to_offset",
        ):
            assert re.search(rf"\b{column}\b", text), (engine, column)
            assert column in known


def test_the_script_may_be_run_and_is_shell_without_a_syntax_error():
    """No more than that: it fetches 1.4 GB of engines, so what it does is seen when somebody runs it."""
    script = Path(ROOT / "scripts" / "engines.sh")
    assert script.stat().st_mode & 0o111
    parsed = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")
