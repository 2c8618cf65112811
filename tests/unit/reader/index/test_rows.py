"""Odd but valid records become right rows, and an index is opened for reading only."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import duckdb
import pytest
from msgspec import UNSET

from agent.errors import ConfigError
from agent.reader.index import default_path, open_index, tables
from agent.trail.manifest import ManifestReason, Where, Window
from agent.trail.records import QuarantineReason, oversize_body, quarantine_body
from tests.support.index_truth import index_of, objects_of, trust_in
from tests.support.trail_factory import TrailFactory, sample_trail, stamp


def trail_of(
    *bodies: bytes, events: int, quarantined: int = 0, occurred: tuple[str, str] | None = None, where: Where | None = None
) -> TrailFactory:
    """Return a trail with one batch of these bodies."""
    trail = TrailFactory()
    trail.where = where or UNSET
    observed = stamp(trail.now)
    first, last = (occurred or (observed, observed)) if events else (None, None)
    window = Window(first, last, observed, observed)
    counts = {"events": events, "quarantined": quarantined}
    trail.seal(ManifestReason.AGE, after_seconds=5, bodies=list(bodies), counts=counts, window=window)
    return trail


def event_body(occurred_at: str, observed_at: str, *, extra: str = "", context: str = '{"a":1}', container: str = "") -> bytes:
    event = (
        f'{{"event_id":"e","occurred_at":"{occurred_at}","actor":{{"type":"user","id":"u"}},"action":"a","target":{{"type":"t","id":"x"}},'
        f'"outcome":"success","context":{context}}}'
    )
    return f',"kind":"event","source":"app",{container}"observed_at":"{observed_at}","event":{event}{extra}}}'.encode()


def utc(*parts: int) -> datetime:
    """Return a time as the tables have it: UTC, without saying so."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc,arg-type]


OBSERVED = stamp(TrailFactory().now)


@pytest.mark.parametrize(
    ("written", "indexed"),
    [
        ("2026-03-01T00:00:00Z", utc(2026, 3, 1)),
        ("2026-03-01T00:00:00.5Z", utc(2026, 3, 1, 0, 0, 0, 500_000)),
        ("2026-03-01T00:00:00.123456Z", utc(2026, 3, 1, 0, 0, 0, 123_456)),
        ("2026-03-01T00:00:00.123456789Z", utc(2026, 3, 1, 0, 0, 0, 123_456)),
        ("2026-03-01T00:00:00+00:00", utc(2026, 3, 1)),
        ("2024-02-29T23:59:59.999999Z", utc(2024, 2, 29, 23, 59, 59, 999_999)),
        ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
        ("9999-12-31T23:59:59Z", utc(9999, 12, 31, 23, 59, 59)),
    ],
)
def test_every_spelling_of_a_time_becomes_that_time_in_utc(tmp_path, written, indexed):
    trail = trail_of(event_body(written, OBSERVED), events=1, occurred=(written, written))
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        assert index.rows("SELECT occurred_at FROM events") == [(indexed,)]
        assert index.rows("SELECT occurred_min, occurred_max FROM batches WHERE records > 0") == [(indexed, indexed)]


def test_a_mapped_event_and_one_out_of_a_container_are_rows_like_any_other(tmp_path):
    container = '"container":{"namespace":"shop","pod":"web-1","container":"app","stream":"stdout"},'
    bodies = (
        event_body(OBSERVED, OBSERVED, extra=',"raw":"the \\"original\\" line","redacted":["context.card"]'),
        event_body(OBSERVED, OBSERVED, container=container),
    )
    trail = trail_of(*bodies, events=2)
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        rows = index.rows("SELECT event_id, container ->> 'pod', container ->> 'stream' FROM events ORDER BY seq")
    assert rows == [("e", None, None), ("e", "web-1", "stdout")]


@pytest.mark.parametrize(
    "context",
    ["{}", '{"a":{"b":[1,null,true]}}', '{"Key":1,"key2":"ü \\u00fc \\\\ \\" \\u2028"}', '{"n":9007199254740991,"m":1.50}'],
)
def test_a_context_keeps_its_keys_and_values(tmp_path, context):
    trail = trail_of(event_body(OBSERVED, OBSERVED, context=context), events=1)
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        ((found,),) = index.rows("SELECT context FROM events")
    assert json.loads(found) == json.loads(context)


def test_quarantined_lines_are_shown_as_far_as_they_can_be(tmp_path):
    huge = b'{"stream":"audit","note":"' + b"x" * 10_000 + b'"}'
    bodies = (
        quarantine_body("app", OBSERVED, QuarantineReason.MISSING_FIELD, "actor", huge),
        quarantine_body("app", OBSERVED, QuarantineReason.INVALID_UTF8, "byte 3", b'{"a":"\xff"}'),
        oversize_body("app", OBSERVED, b'{"stream":"audit"', 9_000_000, "ab" * 32),
    )
    trail = trail_of(*bodies, events=0, quarantined=3)
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        rows = index.rows("SELECT reason, detail, raw, length FROM quarantine ORDER BY seq")
    assert rows[0][:2] == ("missing_field", "actor")
    assert rows[0][2] == huge[:4096].decode()
    assert rows[1][:3] == ("invalid_utf8", "byte 3", "base64:eyJhIjoi/yJ9")
    assert (rows[2][0], rows[2][2], rows[2][3]) == ("too_long", '{"stream":"audit"', 9_000_000)


def test_a_file_name_that_holds_a_quote_or_a_pattern_is_no_trouble(tmp_path):
    trail = sample_trail()
    path = tmp_path / "it's [1] * ;--" / "index"
    index_of(objects_of(trail), path, trust_in(trail))
    with open_index(path) as index:
        assert index.rows("SELECT count(*) FROM batches") == [(trail.batch,)]


def test_nobody_writes_through_an_index_that_was_opened_to_be_asked(tmp_path):
    trail = sample_trail()
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index, pytest.raises(duckdb.Error):
        index.rows("DELETE FROM findings")


def test_many_may_ask_at_the_same_time(tmp_path):
    trail = sample_trail()
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    script = """
        import sys
        from pathlib import Path
        from agent.reader.index import open_index

        with open_index(Path(sys.argv[1])) as index:
            print(index.rows("SELECT count(*) FROM batches")[0][0])
    """
    with open_index(tmp_path / "index") as index:
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "index")]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(ended.stdout) == index.rows("SELECT count(*) FROM batches")[0][0] == trail.batch


def test_an_index_that_another_process_writes_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PATIENCE_SECONDS", 0.1, raising=False)
    trail = sample_trail()
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    script = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "index")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ConfigError) as refused:
            index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
        other.stdin.close()
    assert "another process" in f"{refused.value.message} {refused.value.hint}".lower()


def test_there_is_no_index_and_another_format_are_said_by_name(tmp_path):
    with pytest.raises(ConfigError, match="there is no index"):
        open_index(tmp_path / "index")
    with duckdb.connect(str(tmp_path / "index")) as connection:
        connection.execute("CREATE TABLE meta(name VARCHAR, value VARCHAR)")
        connection.execute("INSERT INTO meta VALUES ('format', '99')")
    with pytest.raises(ConfigError, match="99"):
        open_index(tmp_path / "index")


def test_each_store_has_an_index_of_its_own_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = default_path("/srv/trail"), default_path("s3://audit/production")
    assert one != two
    assert one.parent == two.parent == tmp_path / "trailseal" / "index"


POD = {"namespace": "shop", "pod": "web-1", "container": "app"}


@pytest.mark.parametrize(
    ("where", "written", "indexed"),
    [
        (None, None, None),
        (Where(pod="audit-0", node="node-7"), None, {"pod": "audit-0", "node": "node-7"}),
        (None, POD, POD),
        # An agent that reads the logs of a node's containers: whose log it is counts, and the node is the agent's own.
        (Where(namespace="agents", pod="audit-0", node="node-7"), POD, POD | {"node": "node-7"}),
        (Where(pod="audit-0"), POD, POD),
    ],
)
def test_each_event_says_where_it_comes_from(tmp_path, where, written, indexed):
    container = "" if written is None else f'"container":{json.dumps(written)},'
    trail = trail_of(event_body(OBSERVED, OBSERVED, container=container), events=1, where=where)
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        [(host, found)] = index.rows("SELECT host, container FROM events")
    assert host == "web-1.example"
    assert (None if found is None else json.loads(found)) == indexed


def test_each_event_says_what_made_it_what_the_client_said_and_what_was_removed(tmp_path):
    extra = ',"mapping":"sshd/accepted","client":["context.a"],"raw":"x","redacted":["raw","context.b"]'
    trail = trail_of(event_body(OBSERVED, OBSERVED, extra=extra), event_body(OBSERVED, OBSERVED), events=2)
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        assert index.rows("SELECT mapping, client, redacted FROM events ORDER BY seq") == [
            ("sshd/accepted", ["context.a"], ["raw", "context.b"]),
            (None, None, None),
        ]


@pytest.mark.slow
def test_a_record_of_thirty_megabytes_is_one_row(tmp_path):
    long = b'{"stream":"audit","note":"' + b"0123456789abcdef" * (30 << 16) + b'"}'
    trail = trail_of(
        quarantine_body("app", OBSERVED, QuarantineReason.MISSING_FIELD, "actor", long),
        event_body(OBSERVED, OBSERVED),
        events=1,
        quarantined=1,
    )
    index_of(objects_of(trail), tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        assert index.rows("SELECT count(*), max(length(raw)) FROM quarantine") == [(1, 4096)]
        assert index.rows("SELECT count(*) FROM events") == [(1,)]
        assert index.rows("SELECT code FROM findings") == []
