"""The stores that tests and benchmarks are about are what they claim: real trails, without a finding but those planted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import yaml

from agent.events.catalog import Catalog
from agent.reader.fetch import DirectoryReader
from agent.reader.findings import Severity
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, verify_store
from tests.support.evidence_store import write_store
from tests.support.index_truth import LATER, lines_of

ROOT = Path(__file__).resolve().parents[4]


def report_of(written):
    options = Options(trust=TrustFile.load(written.trust))
    return verify_store(DirectoryReader(written.store), options, now=LATER, secret=bytes(32))


def events_in(written):
    for file in sorted((written.store / "records").rglob("*.zst")):
        for line in lines_of(file.read_bytes()):
            record = msgspec.json.decode(line)
            if record["kind"] == "event":
                yield record["event"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("made"), events=1200)


@pytest.mark.parametrize("closed", [True, False])
def test_a_clean_store_is_intact_and_complete(tmp_path, closed):
    written = write_store(tmp_path, events=600, closed=closed)
    report = report_of(written)
    assert report.severity is Severity.NOTICE
    assert (written.events, report.records) == (600, 600 + written.quarantined)
    assert sum(trail.tally.batches for trail in report.trails) == written.batches
    assert {trail.state for trail in report.trails} == ({"closed"} if closed else {"closed", "stopped"})


def test_what_was_planted_is_found_and_nothing_else(tmp_path):
    written = write_store(tmp_path, events=600, clean=False)
    found = [(one.code.value, one.origin) for one in report_of(written).log.kept if one.severity > Severity.NOTICE]
    assert sorted(found) == sorted((planted.code, planted.origin) for planted in written.planted)
    assert {code for code, _ in found} == {"gap", "silence"}


def test_the_same_call_makes_the_same_bytes_and_another_seed_others(tmp_path):
    def contents(name: str, seed: int) -> dict[str, bytes]:
        store = write_store(tmp_path / name, events=300, seed=seed).store
        return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}

    assert contents("one", 7) == contents("two", 7)
    assert contents("one", 7).keys().isdisjoint(contents("three", 8).keys())


def test_every_event_has_the_context_that_the_catalog_requires(written):
    catalog = Catalog.from_mapping(yaml.safe_load((ROOT / "config" / "catalog.yaml").read_text(encoding="utf-8")), "catalog.yaml")
    unknown = set()
    for event in events_in(written):
        entry = catalog.entry(event["action"])
        if entry is None:
            unknown.add(event["action"])
        else:
            assert entry.missing_context(event.get("context", {})) is None, event
    # So that a coverage report has something to say.
    assert unknown == {"role.request", "role.approve"}


def test_the_grants_are_told_as_they_are_written(written):
    events = {event["event_id"]: event for event in events_in(written)}
    assert len(events) == written.events
    granted = {event_id for event_id, event in events.items() if event["action"] == "role.grant"}
    assert granted == {grant.event_id for grant in written.grants}
    assert [first.occurred_at <= second.occurred_at for first, second in pairwise(written.grants)].count(False) == 0
    for grant in written.grants:
        event = events[grant.event_id]
        assert (event["actor"]["id"], event["target"]["id"], event["outcome"]) == (grant.actor, grant.target, grant.outcome)
        assert event["context"]["granted_role"] == grant.role
        assert event["context"].get("approval_id") == grant.approval_id
        assert event["context"].get("break_glass", False) == grant.break_glass
        if grant.approval_event_id:
            approval = events[grant.approval_event_id]
            assert (approval["action"], approval["outcome"], approval["actor"]["id"]) == ("role.approve", "success", grant.approved_by)
            assert approval["context"]["approval_id"] == grant.approval_id
            assert approval["occurred_at"] < event["occurred_at"]
    kinds = {(bool(grant.approval_id), bool(grant.approved_by), grant.outcome, grant.break_glass) for grant in written.grants}
    assert {(True, True, "success", False), (False, False, "success", True), (True, False, "success", False)} <= kinds


def test_a_day_and_one_service_are_enough(tmp_path):
    since = datetime(2026, 3, 2, tzinfo=UTC)
    written = write_store(
        tmp_path,
        events=90,
        since=since,
        until=since + timedelta(days=1),
        services=("billing",),
        heartbeat=timedelta(hours=6),
        batch_records=7,
    )
    assert report_of(written).severity is Severity.NOTICE
    assert {origin.split("/")[1] for origin in written.origins} == {"billing"}
    assert sum(written.by_day.values()) == written.events == 90


def test_half_an_hour_is_refused(tmp_path):
    with pytest.raises(ValueError, match="whole hours"):
        write_store(tmp_path, since=datetime(2026, 3, 2, 0, 30, tzinfo=UTC))
