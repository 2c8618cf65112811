"""What a copying's command line is made of: its two ends, its report, and the page that explains both."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.commands.copy import copy
from agent.config import Retention
from agent.copying.ends import Terms, folder_of, open_target, reading, refuse_itself
from agent.copying.outcome import Cause, Failure, Report, Stop, TrailOutcome
from agent.copying.progress import SILENT, progress
from agent.copying.report import as_json, closing_line, render
from agent.errors import ConfigError
from agent.reader.fetch import DirectoryReader, MemoryReader
from agent.reader.findings import Code, Finding, FindingLog
from agent.reader.opening import Reach
from agent.reader.verify import Options, verify_store
from agent.trail.layout import Origin
from agent.vitals.clock import SystemClock
from tests.support.trail_factory import sample_trail, write_store

PAGE = (Path(__file__).parents[2] / "docs/copy.md").read_text(encoding="utf-8")
BEGAN = datetime(2026, 1, 8, 15, tzinfo=UTC)
ORIGIN = Origin("demo", "payments", "01kef0b7s24h1fzvpydar7g7t7", "web-1")


def report(*trails: TrailOutcome, findings: tuple[Finding, ...] = (), **others: Any) -> Report:
    log = FindingLog()
    for finding in findings:
        log.add(finding)
    return Report(**{"source": "/from", "target": "/to", "dry_run": False, "began": BEGAN, "trails": trails, "log": log, **others})


def shown(made: Report) -> str:
    file = io.StringIO()
    render(made, Console(file=file, width=100))
    return file.getvalue()


def target(where: str, terms: Terms | None = None) -> Any:
    return open_target(where, terms or Terms(), SystemClock(), dry_run=False, tell=lambda _: None)


def stopped(cause: Cause) -> TrailOutcome:
    return TrailOutcome(ORIGIN, stop=Stop(3, cause, "some/key", "why it stopped"))


class TestExitCodes:
    @pytest.mark.parametrize(
        ("made", "code"),
        [
            (report(TrailOutcome(ORIGIN)), 0),
            (report(stopped(Cause.DAMAGED)), 10),
            (report(stopped(Cause.CONFLICT)), 10),
            (report(stopped(Cause.NOT_VERIFIED)), 12),
            (report(failure=Failure("full", "")), 1),
            (report(stopped(Cause.NOT_VERIFIED), failure=Failure("full", "")), 1),
            (report(stopped(Cause.DAMAGED), failure=Failure("full", "")), 10),
            (report(unread=Failure("gone", "")), 12),
            (report(findings=(Finding(code=Code.GAP, message="a loss"),)), 0),
            (report(findings=(Finding(code=Code.STORE_EMPTY, message="empty"),)), 12),
            (report(findings=(Finding(code=Code.LINK_WRONG, message="wrong"),)), 10),
        ],
    )
    def test_the_worst_wins(self, made, code):
        assert made.exit_code == code

    def test_the_verification_counts(self):
        verification = verify_store(MemoryReader({}), Options(), now=BEGAN)
        assert report(verification=verification).exit_code == 12
        assert report(stopped(Cause.CONFLICT), verification=verification).exit_code == 10


class TestShowing:
    def test_the_last_line_says_what_was_copied_and_the_exit_code(self):
        trail = TrailOutcome(ORIGIN, batches=4, records=9, created=3, created_bytes=4096, present=2)
        assert closing_line(report(trail)).plain == "copied: 1 trail, 3 objects created (4.1 kB), 2 there already; not verified (exit 0)"
        dry = closing_line(report(trail, dry_run=True)).plain
        assert dry == "would be copied: 1 trail, 3 objects to create (4.1 kB), 2 there already; nothing was written (exit 0)"
        assert closing_line(report(stopped(Cause.DAMAGED))).plain.startswith("not all was copied: 1 trail, 0 objects created")

    def test_everything_that_forbids_exit_0_is_shown(self):
        made = report(
            stopped(Cause.CONFLICT),
            findings=(
                Finding(code=Code.DATA_ALTERED, message="other bytes", origin=str(ORIGIN), batch=3),
                Finding(code=Code.FOREIGN_OBJECT, message="nobody's", key="odd\x1b[2Jname"),
                Finding(code=Code.SILENCE, message="said by the verification"),
            ),
            probes=2,
            warnings=("weak create",),
            failure=Failure("the disk is full", "make room"),
            unread=Failure("cannot list it", "ask for the right"),
        )
        text = shown(made)
        for words in (
            "stopped before batch 3: why it stopped",
            "its key is not vouched for",
            "tampered: data_altered",
            "not copied: odd\\x1b[2Jname (foreign_object)",
            "not copied: 2 probes",
            "warning: weak create",
            "/to takes nothing more: the disk is full",
            "/to cannot be verified: cannot list it",
        ):
            assert words in text
        assert "silence" not in text
        assert text.rstrip().endswith("(exit 10)")

    def test_of_a_crowd_what_stopped_is_shown_and_the_rest_counted(self):
        foreign = tuple(Finding(code=Code.FOREIGN_OBJECT, message="nobody's", key=f"odd-{number}") for number in range(60))
        text = shown(report(*[TrailOutcome(ORIGIN)] * 50, stopped(Cause.DAMAGED), findings=foreign))
        assert "stopped before batch 3" in text
        assert "… and 11 trails more" in text
        assert "20 objects more that no seal names" in text


class TestEnds:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("/srv/trail", "/srv/trail/"),
            ("/srv/trail", "file:///srv/trail/copy"),
            ("/srv/trail", "/srv"),
            ("s3://audit/production", "s3://audit/production"),
            ("s3://audit", "s3a://audit/production"),
        ],
    )
    def test_a_store_is_not_copied_into_itself(self, one, other):
        with pytest.raises(ConfigError, match="the same store"):
            refuse_itself(one, Reach(), other, Reach())

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("/srv/trail", "/srv/trail-2"),
            ("/srv/trail", "s3://audit"),
            ("s3://audit/one", "s3://audit/one-more"),
            ("s3://audit", "gs://audit"),
            ("az://account/audit", "az://another/audit"),
        ],
    )
    def test_other_stores_are_others(self, one, other):
        refuse_itself(one, Reach(), other, Reach())

    def test_one_name_on_two_servers_is_two_stores(self, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://one.example/")
        refuse_itself("s3://audit", Reach(), "s3://audit", Reach("https://other.example"))
        with pytest.raises(ConfigError):
            refuse_itself("s3://audit", Reach(), "s3://audit", Reach("https://one.example"))

    def test_a_link_to_the_source_is_the_source(self, tmp_path):
        (tmp_path / "store").mkdir()
        (tmp_path / "link").symlink_to("store")
        with pytest.raises(ConfigError):
            refuse_itself(str(tmp_path / "store"), Reach(), str(tmp_path / "link"), Reach())

    def test_a_file_url_names_a_folder_of_this_machine(self):
        assert folder_of("file:///srv/a%20trail") == Path("/srv/a trail")
        assert folder_of("s3://audit") is None
        with pytest.raises(ConfigError, match="this machine"):
            folder_of("file://elsewhere/srv")

    def test_what_is_about_buckets_does_not_fit_a_folder(self, tmp_path):
        for terms in (Terms(reach=Reach("https://s3.example")), Terms(allow_unlocked=True), Terms(retention=Retention(days=1))):
            with pytest.raises(ConfigError, match="no bucket"):
                target(str(tmp_path), terms)

    def test_a_file_is_no_target(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="not a folder"):
            target(str(tmp_path / "file"))

    @pytest.mark.parametrize(
        ("where", "terms", "words"),
        [
            ("s3://", Terms(), "not the name of a bucket"),
            ("ftp://there", Terms(), "is no bucket"),
            ("s3://audit", Terms(reach=Reach("http://s3.example")), "without TLS"),
            ("s3://audit", Terms(reach=Reach("s3.example")), "the URL of a server"),
            ("s3://audit", Terms(allow_unlocked=True, retention=Retention(days=1)), "choose one"),
            ("gs://audit", Terms(reach=Reach(region="eu")), "belongs to an s3:// bucket"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, where, terms, words):
        with pytest.raises(ConfigError, match=words):
            target(where, terms)

    def test_a_bucket_is_asked_first_for_what_it_lists_and_one_that_does_not_answer_lists_nothing(self, monkeypatch):
        monkeypatch.setattr("agent.reader.bucket.TRIES", 2)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        made = target("s3://audit/x", Terms(reach=Reach("http://127.0.0.1:9")))
        assert (made.name, made.parallel) == ("s3://audit/x", 4)
        assert made.newest(ORIGIN) == -1
        assert target("/srv/trail").newest is None

    def test_a_folder_is_read_as_it_is(self, tmp_path):
        with reading(str(tmp_path), Reach()) as store:
            assert isinstance(store, DirectoryReader)


class TestProgress:
    def test_there_is_no_bar_without_a_terminal(self, tmp_path):
        with progress(DirectoryReader(tmp_path), whole=True, wanted=True) as bar:
            assert bar is SILENT

    def test_on_a_terminal_it_shows_bytes_and_objects(self, tmp_path, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        store = DirectoryReader(write_store(sample_trail().objects, tmp_path))
        with progress(store, whole=True, wanted=True) as bar:
            bar.read(1000)
            bar.placed()
        assert re.search(r"copying.*1\.0 kB of \d+\.\d kB, 1 objects", terminal.getvalue())
        with progress(store, whole=False, wanted=False) as bar:
            assert bar is SILENT


def table(heading: str) -> list[str]:
    """Return the first cells of the table under a heading row, without backquotes."""
    body = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0]
    return [row.split(" | ")[0].removeprefix("| ").replace("`", "") for row in body.splitlines()[2:]]


class TestThePage:
    def test_every_option_is_explained(self):
        options = {name for parameter in copy.params for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")}
        assert {name.split(" ")[0] for row in table("option") for name in row.split(", ")} == options

    def test_the_exit_codes_are_those_of_the_help(self):
        assert copy.help is not None
        said = re.findall(r"(?m)^ +(\d+)  (.*)$", copy.help)
        rows = re.findall(r"(?m)^\| (\d+) \| (.*) \|$", PAGE)
        assert [code for code, _ in said] == [code for code, _ in rows]
        assert all(meaning.startswith(words) for (_, words), (_, meaning) in zip(said, rows, strict=True))

    def test_every_cause_is_explained(self):
        assert table("cause") == [cause.value for cause in Cause]

    def test_the_keys_of_the_json_document_are_explained(self):
        verification = verify_store(MemoryReader({}), Options(), now=BEGAN)
        document = as_json(
            report(
                stopped(Cause.CONFLICT),
                findings=(Finding(code=Code.GAP, message="a loss"),),
                failure=Failure("full", "make room"),
                verification=verification,
            )
        )
        [trail], [finding] = document["trails"], document["findings"]
        named = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## As JSON") : PAGE.index("| cause |")]))
        assert named == {*document, *trail, *trail["stopped"], *finding, *document["failure"]}
        assert document["verification"]["exit_code"] == 12
        assert (trail["stopped"]["cause"], finding["severity"], document["counts"]) == ("conflict", "incomplete", {"gap": 1})
