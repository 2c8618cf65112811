"""The renderings in a pack: what they hold, what may be done to them, and that each of that is found by `verify-pack`."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent import __version__
from agent.errors import FormatError
from agent.reader.ask.filters import Filter
from agent.reader.evidence import packing
from agent.reader.evidence.cli import export_command
from agent.reader.evidence.offline.cli import verify_pack_command
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.packcheck import check_pack
from agent.reader.evidence.rendered import Renderer
from agent.reader.evidence.selecting import Question
from agent.reader.fetch import MemoryReader
from agent.reader.findings import Severity
from agent.reader.index import open_index, refresh
from agent.reader.renderings import RENDERINGS, SCHEMAS, Stored
from agent.reader.trustfile import TrustFile
from agent.trail.manifest import ManifestReason, Window
from agent.trail.records import Reworked, reworked_block
from tests.support.trail_factory import START, TrailFactory, sample_trail, stamp, write_store
from tests.unit.reader.evidence.forging import contents, places, rewrite

if TYPE_CHECKING:
    from pathlib import Path

    Taken = tuple[Path, dict[str, bytes], TrustFile]

BOTH = ("ocsf", "ecs")
FILES = {"ocsf": "events.ocsf.ndjson", "ecs": "events.ecs.ndjson"}
AT = stamp(START)
LINE = b'{"who":"ada","did":"signed in","note":"=cmd|x \\u202e"}'


def lines_of(raw: bytes) -> list[Any]:
    return [json.loads(line) for line in raw.splitlines()]


def trail_of(*records: bytes) -> TrailFactory:
    """Return a trail that holds these bodies of events."""
    trail = TrailFactory()
    trail.seal(ManifestReason.AGE, after_seconds=1, bodies=list(records), counts={"events": len(records)}, window=Window(AT, AT, AT, AT))
    trail.stop()
    return trail


def event(context: dict[str, Any] | None = None) -> bytes:
    return json.dumps(
        {
            "stream": "audit",
            "event_id": "e-1",
            "occurred_at": AT,
            "actor": {"type": "user", "id": "ada"},
            "action": "auth.login",
            "target": {"type": "service", "id": "shop"},
            "outcome": "success",
            "context": context or {},
        }
    ).encode()


def mapped(raw: bytes) -> bytes:
    """Return the body of an event that a mapping made of a line."""
    made = Reworked(event({"source_ip": "192.0.2.7"}), mapping="shop/sign-in", client=("context.source_ip",), raw=raw, redacted=("raw",))
    return reworked_block("app", AT, [made]).rstrip(b"\n")


def restate(path, files, **changes: str) -> None:
    """Write a pack whose query says other things of its first rendering."""
    query = json.loads(files["query.json"])
    query["renderings"][0] |= changes
    rewrite(path, {**files, "query.json": json.dumps(query).encode()})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a pack with both renderings, made once: the attacks change copies of it."""
    folder, trail = tmp_path_factory.mktemp("made"), sample_trail()
    store, trust = MemoryReader(trail.objects), TrustFile.parse(trail.trust_line, "trust")
    refresh(store, folder / "index", trust=trust, now=trail.now + timedelta(seconds=1))
    with open_index(folder / "index") as index:
        question, now = Question(Filter(), renderings=BOTH), trail.now + timedelta(seconds=5)
        write_pack(folder / "x.zip", index, store, question, trust=trust, now=now)
    files: dict[str, bytes] = contents(folder / "x.zip")
    return files


@pytest.fixture
def taken(made: dict[str, bytes], tmp_path: Path) -> Taken:
    """Return where a changed pack goes, the files to change, and whom to believe."""
    return tmp_path / "x.zip", dict(made), TrustFile.parse(sample_trail().trust_line, "trust")


class TestAttacks:
    @pytest.mark.parametrize("form", BOTH)
    def test_a_changed_field_is_found(self, taken: Taken, form: str) -> None:
        path, files, believed = taken
        files[FILES[form]] = files[FILES[form]].replace(b'"denied"', b'"success"', 1)
        rewrite(path, files)
        report = check_pack(path, believed)
        assert places(report) == [FILES[form]]
        assert report.severity is Severity.TAMPERED
        assert [(one.name, one.same) for one in report.renderings] == [(name, name != form) for name in BOTH]

    @pytest.mark.parametrize("other_version", [False, True])
    @pytest.mark.parametrize(
        "change",
        [
            lambda lines: lines[:4] + lines[5:],
            lambda lines: [*lines, lines[-1]],
            lambda lines: [*lines, b"\n"],
            lambda lines: [*lines, b'{"no":"newline"}'],
            lambda lines: [*lines[:-1], lines[-1].rstrip(b"\n")],
            lambda _: [],
        ],
        ids=["missing", "again", "empty line", "tail", "cut", "emptied"],
    )
    def test_a_line_too_few_or_too_many_is_found_whatever_version_made_it(self, taken: Taken, change, other_version: bool) -> None:
        path, files, believed = taken
        files[FILES["ocsf"]] = b"".join(change(files[FILES["ocsf"]].splitlines(keepends=True)))
        restate(path, files, **({"made_by": "trailseal 0.0.1"} if other_version else {}))
        assert places(check_pack(path, believed)) == [FILES["ocsf"]]

    def test_lines_that_changed_places_are_found(self, taken: Taken) -> None:
        path, files, believed = taken
        first, second, *rest = files[FILES["ecs"]].splitlines(keepends=True)
        files[FILES["ecs"]] = b"".join([second, first, *rest])
        rewrite(path, files)
        assert places(check_pack(path, believed)) == [FILES["ecs"]]

    def test_the_rendering_of_another_pack_is_found(self, taken: Taken, pack) -> None:
        path, files, believed = taken
        other, _ = pack(sample_trail(seed=b"other"), renderings=("ecs",), name="other.zip")
        rewrite(path, {**files, FILES["ecs"]: contents(other)[FILES["ecs"]]})
        assert places(check_pack(path, believed)) == [FILES["ecs"]]

    def test_a_rendering_that_the_manifest_does_not_list_is_found(self, taken: Taken) -> None:
        path, files, believed = taken
        files["MANIFEST.sha256"] = b"".join(
            line for line in files["MANIFEST.sha256"].splitlines(keepends=True) if b"events.ocsf.ndjson" not in line
        )
        rewrite(path, files, honest_manifest=False)
        assert places(check_pack(path, believed)) == [FILES["ocsf"]]

    @pytest.mark.parametrize("manifest", [True, False])
    def test_a_rendering_that_was_taken_out_is_missed(self, taken: Taken, manifest: bool) -> None:
        path, files, believed = taken
        del files[FILES["ocsf"]]
        rewrite(path, files, honest_manifest=manifest)
        assert set(places(check_pack(path, believed))) == {FILES["ocsf"]}

    def test_two_renderings_that_changed_places_are_found(self, taken: Taken) -> None:
        path, files, believed = taken
        rewrite(path, {**files, FILES["ecs"]: files[FILES["ocsf"]], FILES["ocsf"]: files[FILES["ecs"]]})
        assert places(check_pack(path, believed)) == list(FILES.values())

    def test_a_rendering_that_the_query_does_not_tell_of_is_refused(self, taken: Taken) -> None:
        path, files, believed = taken
        query = json.loads(files["query.json"])
        del query["renderings"]
        rewrite(path, {**files, "query.json": json.dumps(query).encode()})
        assert places(check_pack(path, believed)) == sorted(FILES.values())

    @pytest.mark.parametrize(
        "name", ["events.cef.ndjson", "EVENTS.OCSF.NDJSON", "Events.ndjson", "events.ocsf.ndjson/x", "./events.csv", "seals/x/opening.seal"]
    )
    def test_a_file_that_no_pack_has_is_refused(self, taken: Taken, name: str) -> None:
        path, files, believed = taken
        rewrite(path, {**files, name: b"{}\n" * 12})
        assert places(check_pack(path, believed)) == [name]

    def test_a_rendering_that_this_version_does_not_make_is_refused_if_it_says_that_it_made_it(self, taken: Taken) -> None:
        path, files, believed = taken
        files["events.cef.ndjson"] = files.pop(FILES["ocsf"])
        restate(path, files, rendering="cef")
        assert places(check_pack(path, believed)) == ["events.cef.ndjson"]
        restate(path, files, rendering="cef", made_by="trailseal 9.0.0")
        report = check_pack(path, believed)
        assert (places(report), places(report, Severity.UNVERIFIED)) == ([], ["events.cef.ndjson"])

    @pytest.mark.parametrize(
        "said",
        [
            7,
            [7],
            {},
            [{"rendering": "ocsf"}],
            [{"rendering": "../x", "schema": "OCSF 1.8.0", "made_by": "trailseal 0"}],
            [{"rendering": "", "schema": "OCSF 1.8.0", "made_by": "trailseal 0"}],
            [{"rendering": "ocsf\n", "schema": "OCSF 1.8.0", "made_by": "trailseal 0"}],
            [{"rendering": "ocsf", "schema": "s" * 1000, "made_by": "trailseal 0"}],
            [{"rendering": "ocsf", "schema": "OCSF 1.8.0", "made_by": "trailseal 0 <b>"}],
            [{"rendering": "ocsf", "schema": "OCSF 1.8.0", "made_by": f"trailseal {__version__}"}] * 2,
        ],
    )
    def test_a_query_that_says_no_such_thing_of_renderings_is_found(self, taken: Taken, said: object) -> None:
        path, files, believed = taken
        query = json.loads(files["query.json"]) | {"renderings": said}
        rewrite(path, {**files, "query.json": json.dumps(query).encode()})
        assert "query.json" in places(check_pack(path, believed))

    def test_of_records_that_are_not_proven_no_rendering_is_called_the_same(self, taken: Taken) -> None:
        path, files, believed = taken
        files["events.ndjson"] = files["events.ndjson"].replace(b'"denied"', b'"deniee"', 1)
        rewrite(path, files)
        report = check_pack(path, believed)
        assert report.severity is Severity.TAMPERED
        assert [one.same for one in report.renderings] == [None, None]


class TestAnotherVersion:
    @pytest.mark.parametrize("change", [{"made_by": "trailseal 0.0.1"}, {"made_by": "trailseal 0.0.1", "schema": "OCSF 1.7.0"}])
    def test_what_differs_is_not_checked_and_not_called_tampered(self, taken: Taken, change: dict[str, str]) -> None:
        path, files, believed = taken
        files[FILES["ocsf"]] = files[FILES["ocsf"]].replace(b'"1.8.0"', b'"1.7.0"')
        restate(path, files, **change)
        report = check_pack(path, believed)
        assert (report.severity, report.proven, report.renderings[0].same) == (Severity.UNVERIFIED, 12, None)
        (fault,) = report.faults
        assert (fault.place, fault.message.startswith("not checked: made by another version")) == (FILES["ocsf"], True)
        assert all(value in fault.message for value in (*change.values(), f"trailseal {__version__}", SCHEMAS["ocsf"]))

    @pytest.mark.parametrize("change", [{"schema": "OCSF 1.7.0"}, {"made_by": "trailseal 0.0.1", "schema": "OCSF 1.7.0"}])
    def test_a_text_that_is_called_another_schema_than_it_is_is_found(self, taken: Taken, change: dict[str, str]) -> None:
        path, files, believed = taken
        restate(path, files, **change)
        assert places(check_pack(path, believed)) == [FILES["ocsf"]]

    def test_a_changed_text_does_not_pass_for_another_schema_of_this_version(self, taken: Taken) -> None:
        path, files, believed = taken
        files[FILES["ocsf"]] = files[FILES["ocsf"]].replace(b'"1.8.0"', b'"1.7.0"')
        restate(path, files, schema="OCSF 1.7.0")
        assert places(check_pack(path, believed)) == [FILES["ocsf"]]

    def test_what_is_the_same_all_the_same_is_checked(self, taken: Taken) -> None:
        path, files, believed = taken
        restate(path, files, made_by="trailseal 0.0.1")
        report = check_pack(path, believed)
        assert (report.severity, [one.same for one in report.renderings], report.faults) == (Severity.NOTICE, [True, True], [])


class TestWhatIsInThem:
    def test_there_is_a_line_for_each_record_in_their_order(self, pack) -> None:
        first, second = sample_trail(), sample_trail(seed=b"other", service="console")
        path, believed = pack(first, second, renderings=BOTH)
        files = contents(path)
        query = json.loads(files["query.json"])
        origins = [trail["origin"] for trail in query["trails"] for _ in range(trail["events"])]
        wanted = [(origin, line["seq"]) for origin, line in zip(origins, lines_of(files["events.ndjson"]), strict=True)]
        assert len(wanted) == 24
        assert [line["metadata"]["uid"] for line in lines_of(files[FILES["ocsf"]])] == [f"{origin}#{seq}" for origin, seq in wanted]
        ecs = [(line["trailseal"]["origin"], line["trailseal"]["seq"]) for line in lines_of(files[FILES["ecs"]])]
        assert ecs == wanted
        report = check_pack(path, believed)
        assert (report.severity, [one.same for one in report.renderings]) == (Severity.NOTICE, [True, True])

    def test_the_original_line_of_a_mapped_record_is_in_both(self, pack) -> None:
        path, believed = pack(trail_of(mapped(LINE)), renderings=BOTH)
        files = contents(path)
        (ocsf,), (ecs,) = (lines_of(files[name]) for name in FILES.values())
        assert (ocsf["raw_data"], ecs["event"]["original"]) == (LINE.decode(),) * 2
        assert ocsf["metadata"]["log_format"] == "shop"
        assert ocsf["unmapped"]["trailseal"]["redacted"] == ecs["trailseal"]["redacted"] == ["raw"]
        assert check_pack(path, believed).severity is Severity.NOTICE

    def test_a_line_that_is_no_text_is_left_to_the_record(self, pack) -> None:
        path, believed = pack(trail_of(mapped(b"\xff\xfe")), renderings=BOTH)
        files = contents(path)
        assert b"raw_base64" in files["events.ndjson"]
        assert "raw_data" not in lines_of(files[FILES["ocsf"]])[0]
        assert check_pack(path, believed).severity is Severity.NOTICE

    def test_a_record_that_says_it_lies_elsewhere_is_not_believed(self, pack) -> None:
        """A record has no such members; an agent that somebody changed could write them, and would point at another's trail."""
        lies = b'"origin":"acme/bank/e/i","batch":9,"trusted":true,"category":"authentication","host":"x"'
        trail = trail_of(b',"kind":"event","source":"app","observed_at":"%b","event":%b,%b}' % (AT.encode(), event(), lies))
        path, _ = pack(trail, renderings=BOTH)
        files = contents(path)
        (ocsf,), (ecs,) = (lines_of(files[name]) for name in FILES.values())
        assert ocsf["metadata"]["uid"] == f"{trail.origin}#{ecs['trailseal']['seq']}"
        assert b"acme/bank" not in files[FILES["ocsf"]] + files[FILES["ecs"]]
        for said in (ocsf["unmapped"]["trailseal"], ecs["trailseal"]):
            assert said["origin"] == str(trail.origin)
            assert not said.keys() & {"batch", "trusted", "category", "host"}

    @pytest.mark.parametrize("text", ["</script>\u2028\u0085\x1b[2J", "\ud83d\ude00\0".encode("utf-16", "surrogatepass").decode("utf-16")])
    def test_no_text_ends_a_line_or_drives_a_terminal(self, pack, text: str) -> None:
        body = b',"kind":"event","source":"app","observed_at":"%b","event":%b}' % (AT.encode(), event({"note": text}))
        path, believed = pack(trail_of(body), renderings=BOTH)
        for name in FILES.values():
            raw = contents(path)[name]
            assert raw.isascii()
            assert (raw.count(b"\n"), b"\x1b" in raw) == (1, False)
        assert check_pack(path, believed).severity is Severity.NOTICE

    @pytest.mark.parametrize("leaf", [b"", b"{}", b"[]", b"\xff", b'{"event":7}', b'{"event":{"context":[1]},"client":7,"raw":[]}'])
    def test_a_leaf_of_any_shape_makes_one_line_each(self, leaf: bytes) -> None:
        made = list(Renderer(BOTH).lines("acme/shop/e/i", 3, leaf))
        assert [name for name, _ in made] == list(BOTH)
        assert all(line.endswith(b"\n") and isinstance(json.loads(line), dict) for _, line in made)

    def test_a_leaf_nested_as_deeply_as_it_can_be_read_ends_in_a_line_or_a_clear_error(self) -> None:
        ended: set[int | str] = set()
        for depth in range(800, 1000):
            leaf = b'{"event":{"context":{"deep":%b}}}' % (b"[" * depth + b"]" * depth)
            try:
                ended.add(len(list(Renderer(BOTH).lines("acme/shop/e/i", 3, leaf))))
            except FormatError as error:
                ended.add(error.message)
        assert ended <= {2, "seq 3 of acme/shop/e/i is nested too deeply to be rendered"}

    def test_no_events_make_empty_files(self, pack) -> None:
        trail = TrailFactory()
        trail.stop()
        path, believed = pack(trail, renderings=BOTH)
        assert {contents(path)[name] for name in FILES.values()} == {b""}
        assert check_pack(path, believed).severity is Severity.UNVERIFIED


class TestWhatIsSaidOfThem:
    def test_a_pack_without_renderings_says_nothing_of_them(self, pack) -> None:
        path, _ = pack(sample_trail())
        files = contents(path)
        assert not [name for name in files if name.startswith("events.") and name not in {"events.ndjson", "events.csv"}]
        assert "renderings" not in json.loads(files["query.json"])
        for name in ("README.md", "index.html"):
            assert b"endering" not in files[name].partition(b"<script")[0]

    def test_the_readme_the_manifest_the_page_and_the_query_name_them(self, pack) -> None:
        path, _ = pack(sample_trail(), renderings=("ecs", "ocsf", "ecs"))
        files = contents(path)
        made_by = f"trailseal {__version__}"
        assert json.loads(files["query.json"])["renderings"] == [
            {"rendering": name, "schema": SCHEMAS[name], "made_by": made_by} for name in BOTH
        ]
        for name in BOTH:
            assert f"\n| `{FILES[name]}` | the same events as {SCHEMAS[name]}" in files["README.md"].decode()
            assert f"  {FILES[name]}\n" in files["MANIFEST.sha256"].decode()
            assert f"{FILES[name]} ({SCHEMAS[name]}" in files["index.html"].decode()

    def test_the_names_are_those_of_the_renderings(self) -> None:
        assert tuple(RENDERINGS) == tuple(SCHEMAS) == packing.RENDERINGS
        assert {name: packing.rendering_name(name) for name in packing.RENDERINGS} == FILES

    def test_the_commands_make_and_check_them(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        trail = sample_trail()
        write_store(trail.objects, tmp_path / "store")
        (tmp_path / "trust").write_text(trail.trust_line)
        words = [str(tmp_path / "store"), "--trust", str(tmp_path / "trust"), "--pack", str(tmp_path / "x.zip")]
        run = CliRunner().invoke
        done = run(export_command, [*words, "--rendering", "ocsf", "--rendering", "ecs"])
        assert done.exit_code == 0, done.output
        assert "Rendered: events.ocsf.ndjson (OCSF 1.8.0), events.ecs.ndjson (ECS 8.17.0)" in done.output.splitlines()
        refused = run(export_command, [*words, "--force", "--rendering", "cef"])
        assert (refused.exit_code, "cef" in refused.output) == (2, True)
        checked = run(verify_pack_command, [str(tmp_path / "x.zip"), "--trust", str(tmp_path / "trust")])
        assert checked.exit_code == 0
        assert f"{FILES['ecs']}: ECS 8.17.0, the same as made again from the records" in checked.output.splitlines()
        document = json.loads(run(verify_pack_command, [str(tmp_path / "x.zip"), "--key", trail.vkey, "--json"]).stdout)
        assert document["renderings"][0] == {
            "rendering": "ocsf",
            "file": FILES["ocsf"],
            "schema": "OCSF 1.8.0",
            "made_by": f"trailseal {__version__}",
            "same": True,
        }


def test_a_stored_event_of_a_record_takes_from_it_only_what_a_record_has() -> None:
    record = {"seq": 1, "kind": "event", "origin": "a/b/c/d", "trusted": True, "source": "app", "raw": "line", "at": [0, 4], "event": {}}
    made = Stored.of_record(record, origin="acme/shop/e/i", seq=3)
    assert (made.origin, made.seq, made.trusted, made.source, made.raw) == ("acme/shop/e/i", 3, None, "app", "line")
