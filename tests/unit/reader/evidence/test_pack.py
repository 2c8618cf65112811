"""What a pack holds, and what a pack never does."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import tempfile
import zipfile
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from agent.errors import ConfigError, IntegrityError
from agent.reader.ask.filters import Filter, Scope
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.packcheck import check_pack
from agent.reader.evidence.selecting import Question
from agent.reader.evidence.telling import readme
from agent.reader.findings import Severity
from agent.reader.trustfile import TrustFile
from agent.trail.layout import seal_key
from agent.trail.manifest import ManifestReason, Window
from agent.trail.proof import TlogProof
from agent.trail.records import event_bodies
from tests.support.trail_factory import TrailFactory, sample_trail, stamp

EVERYTHING = Question(Filter())
INJECTIONS = (
    "</script><script>document.title='ran'</script>",
    '"><img src=x onerror="document.title=1">',
    "<!--<script>",
    "]]>{{data}}{{rows}}",
    "=HYPERLINK(1)",
    "@SUM(1)",
    "\u2028\u2029\u202e\u0007\ufeff\ud83d\ude00",
    "'; DROP TABLE events; --",
)


def with_strings(strings):
    """Return a trail whose events hold these strings in every field a service may fill freely."""
    trail = TrailFactory()
    at = stamp(trail.now)
    lines = [
        json.dumps(
            {
                "stream": "audit",
                "event_id": f"{number} {text}",
                "occurred_at": at,
                "actor": {"type": "user", "id": text, "session": text},
                "action": "data.read",
                "target": {"type": text, "id": text},
                "outcome": "success",
                "context": {"note": text, text: "key"},
            },
            ensure_ascii=number % 2 == 0,
        ).encode("utf-8", "surrogatepass")
        for number, text in enumerate(strings)
    ]
    window = Window(at, at, at, at)
    bodies = event_bodies("app", at, lines, None)
    trail.seal(ManifestReason.AGE, after_seconds=1, bodies=bodies, counts={"events": len(lines)}, window=window)
    trail.stop()
    return trail


@pytest.fixture
def packed(indexed, tmp_path):
    """Return a function that indexes trails and packs what a question finds."""

    def pack(*trails, question=EVERYTHING, trust=None, name="out.zip", now=None, change=lambda store: None):
        index, store = indexed(*trails, trust=trust)
        change(store)
        text = "".join(trail.trust_line for trail in trails) if trust is None else trust
        believed = TrustFile.parse(text, "trust")
        now = now or max(trail.now for trail in trails) + timedelta(seconds=5)
        return write_pack(tmp_path / name, index, store, question, trust=believed, now=now), tmp_path / name, believed

    return pack


def test_a_pack_holds_the_exact_bytes_in_order_and_a_proof_for_each(packed):
    trail = sample_trail()
    made, path, believed = packed(trail)
    with zipfile.ZipFile(path) as pack:
        lines = pack.read("events.ndjson").split(b"\n")[:-1]
        assert made.events == len(lines) == 12
        seqs = [json.loads(line)["seq"] for line in lines]
        assert seqs == sorted(seqs)
        folder = str(trail.origin).replace("/", ".")
        for seq, line in zip(seqs, lines, strict=True):
            proof = TlogProof.parse(pack.read(f"proofs/{folder}/{seq}.tlog-proof"))
            assert proof.verify(line, [trail.signer.verifier], str(trail.origin)).size == trail.frontier.size
        assert pack.read(f"seals/{folder}/opening.seal") == trail.objects[seal_key(trail.origin, 0)]
        assert pack.read(f"seals/{folder}/head.seal") == trail.objects[seal_key(trail.origin, trail.batch - 1)]
    assert check_pack(path, believed).severity is Severity.NOTICE
    assert made.exit_code == 0


def test_the_same_question_makes_the_same_bytes(packed):
    now = datetime(2026, 2, 1, tzinfo=UTC)
    _, first, _ = packed(sample_trail(), name="a.zip", now=now)
    _, second, _ = packed(sample_trail(), name="b.zip", now=now)
    assert sha256(first.read_bytes()).digest() == sha256(second.read_bytes()).digest()


def test_files_are_listed_by_name_and_the_manifest_names_all_others(packed, tmp_path):
    _, path, _ = packed(sample_trail())
    with zipfile.ZipFile(path) as pack:
        names = pack.namelist()
        assert names == sorted(names)
        pack.extractall(tmp_path / "out")
    done = subprocess.run(["sha256sum", "--check", "--strict", "MANIFEST.sha256"], cwd=tmp_path / "out", capture_output=True, check=False)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(names) - 1


def test_several_trails_stand_one_after_the_other(packed):
    first, second = sample_trail(), sample_trail(seed=b"other", service="console")
    made, path, believed = packed(first, second)
    assert [trail.origin for trail in made.trails] == sorted([str(first.origin), str(second.origin)])
    report = check_pack(path, believed)
    assert (report.events, report.proven, report.faults) == (24, 24, [])


def test_only_what_was_asked_for_is_in_it(packed):
    made, path, _ = packed(sample_trail(), question=Question(Filter(outcome=("denied",))))
    with zipfile.ZipFile(path) as pack:
        outcomes = {json.loads(line)["event"]["outcome"] for line in pack.read("events.ndjson").splitlines()}
        assert outcomes == {"denied"}
        query = json.loads(pack.read("query.json"))
    assert query["filter"]["outcome"] == ["denied"]
    assert query["events"] == made.events == 3


def test_a_scope_is_never_left(packed):
    payments, console = sample_trail(), sample_trail(seed=b"other", service="console")
    made, path, _ = packed(payments, console, question=Question(Filter(), Scope(services=("demo/console",))))
    assert [trail.origin for trail in made.trails] == [str(console.origin)]
    with zipfile.ZipFile(path) as pack:
        for name in pack.namelist():
            assert b"demo/payments" not in pack.read(name)
            assert "payments" not in name


def test_more_events_than_the_limit_are_an_error_and_leave_nothing(packed, tmp_path):
    with pytest.raises(ConfigError, match="more than 5 events match"):
        packed(sample_trail(), question=Question(Filter(), limit=5))
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(("bound", "most"), [("MAX_PACK_BYTES", 50_000), ("MAX_DOCUMENT_BYTES", 500)])
def test_no_pack_is_written_that_would_be_refused_for_its_size(packed, tmp_path, monkeypatch, bound, most):
    monkeypatch.setattr(f"agent.reader.evidence.packing.{bound}", most)
    with pytest.raises(ConfigError, match=f"would have more than {most:,} bytes"):
        packed(sample_trail())
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".out*"))


def test_nothing_of_a_pack_is_written_to_the_folder_that_everybody_shares(packed, tmp_path, monkeypatch):
    made, opened = tempfile.TemporaryFile, []

    def noted(*arguments, **named):
        opened.append(named.get("dir"))
        return made(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    packed(sample_trail())
    assert opened == [tmp_path] * 4


def test_a_pack_that_is_there_is_not_overwritten(packed, tmp_path):
    (tmp_path / "out.zip").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="there already"):
        packed(sample_trail())
    assert (tmp_path / "out.zip").read_bytes() == b"mine"


def test_a_store_that_changed_after_indexing_makes_no_pack(packed, tmp_path):
    def change(store):
        key = next(key for key in store.contents if key.startswith("records/"))
        store.contents[key] = store.contents[key][:-1] + b"\0"

    with pytest.raises(IntegrityError, match="is not what was sealed"):
        packed(sample_trail(), change=change)
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".out*"))


def test_events_that_cannot_be_proven_are_left_out_and_counted(packed):
    trail = TrailFactory()
    for _ in range(4):
        trail.add(4)
    trail.stop()
    del trail.objects[seal_key(trail.origin, 2)]
    made, path, believed = packed(trail)
    (left_out,) = made.not_proven
    assert (made.events, left_out.events) == (4, 8)
    assert made.exit_code == 12
    report = check_pack(path, believed)
    assert report.proven == 4
    assert report.severity is Severity.UNVERIFIED
    with zipfile.ZipFile(path) as pack:
        assert json.loads(pack.read("completeness.json"))["not_proven"][0]["events"] == 8
        for name in ("README.md", "index.html"):
            assert "NOT in this pack" in pack.read(name).decode()


def test_a_key_that_nobody_vouches_for_is_said_to_be_so(packed):
    made, path, believed = packed(sample_trail(), trust="")
    assert made.exit_code == 12
    with zipfile.ZipFile(path) as pack:
        assert b"NOBODY" in pack.read("keys.txt")
        assert TrustFile.parse(pack.read("keys.txt").decode(), "keys.txt").bindings[0].key == sample_trail().signer.verifier
    assert check_pack(path, believed).severity is Severity.UNVERIFIED


def test_a_gap_makes_the_verdict_incomplete_and_is_counted(packed):
    trail = TrailFactory()
    trail.add(5, gaps=1, quarantined=2)
    trail.stop()
    made, path, believed = packed(trail)
    assert (made.exit_code, made.statement.exit_code) == (0, 11)
    assert check_pack(path, believed).severity is Severity.INCOMPLETE
    with zipfile.ZipFile(path) as pack:
        counted = json.loads(pack.read("completeness.json"))["by_day_and_source"]
    day = {"day": "2026-01-08", "origin": str(trail.origin), "source": "app"}
    assert counted == {"events": [{**day, "count": 5}], "quarantined": [{**day, "count": 2}], "gaps": [{**day, "count": 1}]}


def test_an_answer_without_events_is_a_pack_in_which_nothing_is_signed(packed):
    made, path, believed = packed(sample_trail(), question=Question(Filter(action=("none",))))
    assert made.events == 0
    report = check_pack(path, believed)
    assert (report.events, report.severity) == (0, Severity.UNVERIFIED)


def test_no_string_of_an_event_is_markup_or_a_formula(packed):
    made, path, believed = packed(with_strings(INJECTIONS))
    assert made.events == len(INJECTIONS)
    assert check_pack(path, believed).severity is Severity.NOTICE
    with zipfile.ZipFile(path) as pack:
        html = pack.read("index.html").decode()
        rows = list(csv.reader(io.StringIO(pack.read("events.csv").decode(), newline="")))
    assert html.lower().count("</script") == 2
    assert html.lower().count("<script") == 2
    assert "<img" not in html
    assert "<!--" not in html
    assert "\u202e" not in html
    assert [len(row) for row in rows] == [len(rows[0])] * (len(INJECTIONS) + 1)
    for row in rows[1:]:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


def test_the_documents_in_a_pack_are_of_the_query_even_where_it_is_hostile(packed):
    text = "\n# heading <img src=x onerror=alert(1)> {{verdict}}"
    _, path, _ = packed(sample_trail(), question=Question(Filter(text=text)))
    with zipfile.ZipFile(path) as pack:
        readme, page = pack.read("README.md").decode(), pack.read("index.html").decode()
    assert "\n# heading" not in readme
    assert "<img" not in readme
    assert "<img" not in page


@pytest.mark.parametrize("text", ["{{verdict}}", "{{query}}", "{{trails}}{{version}}", "{{{query}}}", "{{none}}", "\\1\\g<0>{{records}}"])
def test_a_value_that_holds_a_placeholder_is_told_as_it_is(text):
    said = readme({"query": text, "store": text, "events": 7}, {"not_proven": [{"events": 1, "origin": text, "why": text}]})
    shown = text.replace("<", "&lt;")
    assert f"\n- asked: {shown}\n- records in this pack: 7\n" in said
    assert f" from {shown}, by trailseal " in said
    assert f"\n- 1 events of {shown}: NOT in this pack. {shown}\n" in said
