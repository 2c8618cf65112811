"""The control table: every count is repeatable, and nothing claims more than was counted."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from agent.errors import ConfigError
from agent.events.catalog import Catalog
from agent.reader.ask.filters import ALL, Scope
from agent.reader.ask.search import count
from agent.reader.control.controls import controls
from agent.reader.control.formats import KINDS
from agent.reader.control.html import controls_fragment
from agent.reader.control.pipeline import Weight, duration
from agent.reader.control.plain import as_plain
from agent.reader.control.report import make_report
from agent.reader.control.table import CONTROLS, Fact
from agent.reader.control.verification import load_verification
from agent.reader.fetch import DirectoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile
from tests.support.evidence_store import write_store
from tests.unit.reader.ask.made import at, event
from tests.unit.reader.control.conftest import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from agent.reader.control.controls import ControlTable
    from agent.reader.control.pipeline import Stated
    from agent.reader.control.verification import Verification
    from tests.unit.reader.ask.made import Made
    from tests.unit.reader.control.conftest import Company

SINCE, UNTIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)


def fact(table: ControlTable, wanted: Fact) -> Stated:
    return next(each for control in table.controls for each in control.facts if each.fact is wanted)


class TestTable:
    def test_it_has_the_criteria_that_were_asked_for_in_their_order(self) -> None:
        wanted = "CC6.1 CC6.2 CC6.3 CC6.6 CC6.7 CC7.1 CC7.2 CC7.3 CC8.1 A1 PI1"
        assert [control.id for control in CONTROLS] == wanted.split()

    def test_every_glob_is_a_whole_name_or_a_beginning(self) -> None:
        globs = [glob for control in CONTROLS for question in control.questions for glob in question.actions]
        assert globs
        assert all(not set(glob.removesuffix("*")) & set("*?[") for glob in globs)

    def test_every_question_can_be_answered_without_a_catalog(self) -> None:
        assert all(question.actions for control in CONTROLS for question in control.questions)


class TestCounts:
    @pytest.mark.parametrize("with_catalog", [True, False])
    @pytest.mark.parametrize("scope", [ALL, Scope(("acme/payments", "acme/con*")), Scope(since=datetime(2026, 4, 1, tzinfo=UTC))])
    def test_each_count_is_what_the_query_beside_it_finds(
        self, company: Company, catalog: Catalog, scope: Scope, *, with_catalog: bool
    ) -> None:
        used = catalog if with_catalog else None
        table = controls(company.index, scope, used, SINCE, UNTIL, now=NOW, catalog_file="catalog.yaml")
        evidence = [each for control in table.controls for each in control.evidence]
        assert [each.seen.count for each in evidence] == [count(company.index, each.filter, scope, used) for each in evidence]
        assert sum(each.seen.count > 0 for each in evidence) > 15

    def test_each_command_names_the_store_the_filter_and_the_catalog(self, company: Company, catalog: Catalog) -> None:
        table = controls(company.index, ALL, catalog, SINCE, UNTIL, now=NOW, catalog_file="my catalog.yaml")
        for control in table.controls:
            for each in control.evidence:
                words = shlex.split(each.command)
                assert words[:3] == ["trailseal", "query", company.index.store]
                assert words[words.index("--since") + 1].startswith("2026-03-01T")
                assert ("my catalog.yaml" in words) == bool(each.filter.category)

    def test_rights_without_an_approval_are_counted(self, company: Company) -> None:
        granted = [grant for grant in company.written.grants if grant.outcome == "success"]
        named = sum(grant.approval_id is not None for grant in granted)
        assert 0 < named < len(granted)
        stated = fact(controls(company.index, now=NOW), Fact.APPROVALS)
        assert stated.weight is Weight.ATTENTION
        assert stated.sentence.startswith(f"{named} of {len(granted)} rights given name an approval")
        assert "--correlate context.approval_id" in stated.command


class TestHonesty:
    def test_where_there_is_nothing_it_says_so_for_every_control(self, made: Made, catalog: Catalog) -> None:
        table = controls(made.index, catalog=catalog, now=NOW)
        assert not any(control.has_evidence for control in table.controls)
        assert all(each.weight is Weight.NONE for control in table.controls for each in control.facts)

    def test_a_control_with_events_has_evidence_and_its_neighbour_without_has_none(self, made: Made) -> None:
        made.trail().batch(at(2), event(action="data.export"))
        by_id = {control.id: control for control in controls(made.index, now=NOW).controls}
        assert by_id["CC6.7"].has_evidence
        assert not by_id["CC6.2"].has_evidence
        assert not by_id["CC8.1"].has_evidence

    def test_a_gap_a_silence_and_a_bad_clock_are_to_be_looked_at(self, company: Company) -> None:
        table = controls(company.index, now=NOW)
        for wanted in (Fact.LOSSES, Fact.SILENCES, Fact.CLOCK, Fact.QUARANTINE, Fact.INTEGRITY, Fact.RESTARTS):
            assert fact(table, wanted).weight is Weight.ATTENTION, wanted
        assert "4,096 bytes" in fact(table, Fact.LOSSES).sentence
        assert "incomplete" in fact(table, Fact.INTEGRITY).sentence
        assert f"{company.written.quarantined} lines" in fact(table, Fact.QUARANTINE).sentence
        assert f"{company.written.batches:,} batches" in fact(table, Fact.HEARTBEATS).sentence

    def test_a_trail_that_nobody_vouches_for_is_to_be_looked_at(self, made: Made) -> None:
        made.trail(trusted=False).batch(at(2), event())
        stated = fact(controls(made.index, now=NOW), Fact.TRUST)
        assert stated.weight is Weight.ATTENTION
        assert "0 of 1 trail" in stated.sentence

    def test_a_clean_store_has_nothing_lost_and_nobody_silent(self, tmp_path: Path) -> None:
        written = write_store(tmp_path, events=200, until=datetime(2026, 2, 8, tzinfo=UTC))
        path = tmp_path / "index.duckdb"
        refresh(DirectoryReader(written.store), path, trust=TrustFile.load(written.trust), now=NOW)
        with open_index(path) as index:
            table = controls(index, now=NOW)
        for wanted in (Fact.LOSSES, Fact.SILENCES, Fact.INTEGRITY, Fact.TRUST):
            assert fact(table, wanted).weight is Weight.EVIDENCE, fact(table, wanted)

    def test_the_retention_is_never_claimed_from_an_index(self, company: Company) -> None:
        stated = fact(controls(company.index, now=NOW), Fact.RETENTION)
        assert stated.weight is Weight.NONE
        assert stated.command.endswith("--level locked")

    def test_the_number_of_a_request_is_no_approval(self, made: Made) -> None:
        made.trail().batch(at(2), event(request_id="req-1"), event(request_id="req-2", approval_id="A-1"))
        assert fact(controls(made.index, now=NOW), Fact.APPROVALS).sentence.startswith("1 of 2 rights")

    def test_an_event_that_answers_several_questions_counts_once_for_the_control(self, made: Made) -> None:
        actions = ("user.create", "user.create", "user.delete", "role.request", "role.grant", "role.update")
        asked = [event(action=action) for action in actions]
        made.trail().batch(at(2), *asked)
        found = {control.id: control for control in controls(made.index, now=NOW).controls}
        assert found["CC6.2"].events == 4, "no question of this control has them all"
        assert found["CC6.3"].events == 3, "all that is of rights answers the last question too"
        assert controls_fragment(controls(made.index, now=NOW)).count('<td class="number">3 of 3</td><td class="number">4</td>') == 1

    def test_silences_that_are_not_listed_are_counted(self, made: Made) -> None:
        trail = made.trail()
        for hour in range(0, 53 * 24, 24):
            trail.batch(at(hour), reason="heartbeat")
        report = make_report(made.index, now=NOW)
        assert (len(report.timeline.silences), report.timeline.omitted) == (50, 2)
        assert "2 more silences and losses are left out." in KINDS["html"](report)
        assert "2 more silences and losses are left out." in KINDS["markdown"](report)
        assert json.loads(KINDS["json"](report))["timeline"]["omitted"] == 2

    def test_no_time_that_a_batch_or_an_event_claims_makes_a_report_fail(self, made: Made) -> None:
        last, first = datetime.max.replace(tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)
        made.trail().batch(last, {**event(), "occurred_at": last}, {**event(), "occurred_at": first}, observed_min=first, monotonic_ns=1)
        made.trail("demo", "other", trusted=False).batch(last, {**event(), "occurred_at": last}, monotonic_ns=1)
        for catalog in (None, Catalog(())):
            report = make_report(made.index, catalog=catalog, now=NOW)
            assert sum(bar.total for bar in report.timeline.bars) + report.timeline.outside == 3
            for kind in KINDS.values():
                assert "9999-12-31" in kind(report)

    def test_a_broken_context_counts_as_no_approval(self, made: Made) -> None:
        texts = ("{", "[]", '"x"', '{"approval_id":null}', '{"approval_id":" "}', '{"approval":7}', "nul\\0")
        broken = [{**event(), "context": text} for text in texts]
        made.trail().batch(at(2), *broken, event(approval_id="A-1"), event(approval={"id": "A-2"}))
        assert fact(controls(made.index, now=NOW), Fact.APPROVALS).sentence.startswith("2 of 9 rights")


class TestVerification:
    DOCUMENT: ClassVar[dict[str, Any]] = {
        "format": 1,
        "store": "s3://audit/production",
        "checked_at": "2026-07-01T10:00:00+00:00",
        "verdict": "intact",
        "exit_code": 0,
        "assurance": "locked",
        "attestation": {"reason": None, "versions": 1200, "looked_at": 1200, "shortest_retention_seconds": 34_560_000},
    }

    def load(self, folder: Path, **changed: Any) -> Verification:
        file = folder / "verify.json"
        file.write_text(json.dumps(self.DOCUMENT | changed))
        return load_verification(file, "s3://audit/production")

    def test_what_verify_said_of_the_locks_is_evidence(self, company: Company, tmp_path: Path) -> None:
        stated = fact(controls(company.index, now=NOW, verification=self.load(tmp_path)), Fact.RETENTION)
        assert stated.weight is Weight.EVIDENCE
        assert "assurance locked; 1,200 of 1,200 versions looked at, the shortest retention is 400 d" in stated.sentence

    @pytest.mark.parametrize(
        "changed",
        [
            {"exit_code": 11, "verdict": "incomplete"},
            {"attestation": {**DOCUMENT["attestation"], "reason": "no lock"}, "assurance": "unanchored"},
        ],
    )
    def test_what_did_not_verify_is_to_be_looked_at(self, company: Company, tmp_path: Path, changed: dict[str, Any]) -> None:
        stated = fact(controls(company.index, now=NOW, verification=self.load(tmp_path, **changed)), Fact.RETENTION)
        assert stated.weight is Weight.ATTENTION

    def test_it_is_of_all_services_and_no_part_of_a_scope(self, company: Company, tmp_path: Path) -> None:
        report = make_report(company.index, Scope(("acme/payments",)), now=NOW, verification=self.load(tmp_path))
        assert fact(report.table, Fact.RETENTION).weight is Weight.NONE

    @pytest.mark.parametrize(
        "changed",
        [
            {"format": 2},
            {"store": "s3://audit/other"},
            {"assurance": "certain"},
            {"exit_code": True},
            {"exit_code": "0"},
            {"checked_at": "yesterday"},
            {"attestation": None},
            {"attestation": {**DOCUMENT["attestation"], "versions": "all"}},
            {"attestation": {**DOCUMENT["attestation"], "shortest_retention_seconds": float("nan")}},
            {"attestation": {**DOCUMENT["attestation"], "shortest_retention_seconds": float("inf")}},
            {"attestation": {**DOCUMENT["attestation"], "shortest_retention_seconds": 10**400}},
            {"checked_at": "0001-01-01T00:00:00+14:00"},
        ],
    )
    def test_anything_else_is_refused(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            self.load(tmp_path, **changed)

    @pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
    def test_what_is_no_such_document_is_refused(self, tmp_path: Path, text: bytes) -> None:
        file = tmp_path / "verify.json"
        file.write_bytes(text)
        with pytest.raises(ConfigError, match="verify --json"):
            load_verification(file, "s3://audit/production")


class TestScope:
    def test_a_scope_shows_nothing_of_another_service(self, company: Company, catalog: Catalog) -> None:
        table = controls(company.index, Scope(("acme/directory",)), catalog, now=NOW)
        shown = json.dumps(as_plain(table))
        assert "acme/directory" in shown
        assert "payments" not in shown
        assert "console" not in shown
        # The gap and the silence are of payments.
        assert fact(table, Fact.LOSSES).weight is Weight.EVIDENCE
        assert fact(table, Fact.SILENCES).weight is Weight.EVIDENCE
        assert "2 of 2 trails" in fact(table, Fact.TRUST).sentence

    def test_a_range_beside_the_scope_holds_nothing(self, company: Company, catalog: Catalog) -> None:
        scope = Scope(until=datetime(2026, 4, 1, tzinfo=UTC))
        table = controls(company.index, scope, catalog, datetime(2026, 5, 1, tzinfo=UTC), now=NOW)
        assert not any(each.seen.count for control in table.controls for each in control.evidence)
        assert fact(table, Fact.HEARTBEATS).weight is Weight.NONE
        # Nor does the statement look beyond the scope.
        assert table.statement.until == scope.until
        assert table.statement.silences == ()
        assert table.statement.events_in_range == 0
        assert len(table.statement.trails) <= len(company.written.origins)
        assert all(trail.batches <= 1 for trail in table.statement.trails)

    def test_a_range_before_the_scope_holds_nothing_either(self, company: Company) -> None:
        scope = Scope(since=datetime(2026, 5, 1, tzinfo=UTC))
        table = controls(company.index, scope, until=datetime(2026, 4, 1, tzinfo=UTC), now=NOW)
        assert table.statement.since == scope.since
        assert table.statement.events_in_range == 0
        assert fact(table, Fact.LOSSES).weight is Weight.NONE


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.25, "250 ms"),
        (-4.0, "-4.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (3_599.9, "1 h"),
        (90_000, "1 d 1 h"),
        (86_400 * 1e6, "1,000,000 d"),
    ],
)
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words
