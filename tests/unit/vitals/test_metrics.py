from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import get_type_hints

import pytest
from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agent.vitals.catalogue import CATALOGUE, PREFIX
from agent.vitals.clock import UNKNOWN, ClockState
from agent.vitals.metrics import Metrics

TYPES = {"counter": Counter, "gauge": Gauge, "histogram": Histogram, "info": Info}


@pytest.fixture
def metrics():
    return Metrics(
        version="1.2.3", config_sha256="ab" * 32, started_at=datetime(2026, 1, 8, tzinfo=UTC), sources=["app", "web"], stores=["main"]
    )


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def test_the_typed_attributes_are_the_catalogue(metrics):
    declared = get_type_hints(Metrics, include_extras=True)
    assert declared == {entry.name: TYPES[entry.type] for entry in CATALOGUE}
    assert all(type(getattr(metrics, entry.name)) is TYPES[entry.type] for entry in CATALOGUE)


def test_names_say_their_unit():
    for entry in CATALOGUE:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", entry.name)
        assert (entry.type == "counter") == entry.name.endswith("_total")
        assert ("seconds" in entry.name) == (entry.unit in {"seconds", "Unix time"})
        assert ("bytes" in entry.name) == (entry.unit == "bytes")


def test_everything_is_exposed_and_nothing_else(metrics):
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    exposed = {re.sub(r"_total$", "", name) for name in families if not name.startswith("process_")}
    assert exposed == {re.sub(r"_total$", "", PREFIX + entry.name) for entry in CATALOGUE}
    assert not [name for name in families if name.endswith("_created")]
    assert "process_resident_memory_bytes" in families


def test_openmetrics_where_it_is_asked_for(metrics):
    text, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert {family.name for family in parse_openmetrics(text.decode())} >= {"trailseal_build", "trailseal_lines"}


def test_known_series_begin_at_zero(metrics):
    assert value(metrics, "lines_total", source="web") == 0
    assert value(metrics, "quarantined_total", source="app", reason="missing_field") == 0
    assert value(metrics, "gaps_total", source="app", cause="rotated_away") == 0
    assert value(metrics, "records_total", source="app", kind="event") == 0
    assert value(metrics, "store_attempts_total", store="main", outcome="conflict") == 0
    assert value(metrics, "batches_sealed_total", reason="heartbeat") == 0
    assert value(metrics, "source_problem", source="app") == 0


def test_what_runs_is_named(metrics):
    assert value(metrics, "build_info", version="1.2.3") == 1
    assert value(metrics, "config_info", sha256="ab" * 32) == 1
    assert value(metrics, "start_timestamp_seconds") == 1767830400


def test_the_heartbeat_is_zero_until_it_is_confirmed(metrics):
    metrics.batches_sealed_total.labels("heartbeat").inc()
    metrics.store_receipts_total.labels("main").inc()
    assert value(metrics, "heartbeat_timestamp_seconds") == 0
    metrics.confirm_heartbeat(datetime(2026, 1, 8, 0, 1, tzinfo=UTC))
    assert value(metrics, "heartbeat_timestamp_seconds") == 1767830460


def test_the_clock_is_nan_where_the_kernel_says_nothing(metrics):
    names = ("clock_synchronized", "clock_offset_seconds", "clock_max_error_seconds")
    assert all((found := value(metrics, name)) != found for name in names)
    metrics.note_clock(ClockState(synchronized=True, offset_seconds=-0.5, max_error_seconds=0.25))
    assert [value(metrics, name) for name in names] == [1, -0.5, 0.25]
    metrics.note_clock(UNKNOWN)
    assert all((found := value(metrics, name)) != found for name in names)


def test_two_agents_in_one_process_do_not_share_metrics(metrics):
    other = Metrics(version="2", config_sha256="", started_at=datetime(2026, 1, 8, tzinfo=UTC))
    metrics.forks_total.inc()
    assert (value(metrics, "forks_total"), value(other, "forks_total")) == (1, 0)


def test_a_commit_of_a_quarter_millisecond_is_told_from_one_of_ten(metrics):
    metrics.spool_commit_seconds.observe(0.0002)
    assert (value(metrics, "spool_commit_seconds_bucket", le="0.0001"), value(metrics, "spool_commit_seconds_bucket", le="0.00025")) == (
        0,
        1,
    )


def test_the_service_s_multi_process_mode_is_not_ours(tmp_path):
    script = (
        "from datetime import UTC, datetime; from agent.vitals.metrics import Metrics\n"
        "metrics = Metrics(version='1', config_sha256='', started_at=datetime.now(UTC), sources=['app'])\n"
        "metrics.lines_total.labels('app').inc(3); print(metrics.exposition()[0].decode())"
    )
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    assert 'trailseal_lines_total{source="app"} 3.0' in done.stdout
    assert list(tmp_path.iterdir()) == []
