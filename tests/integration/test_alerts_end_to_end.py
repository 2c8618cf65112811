"""The shipped alert rules in a real Prometheus, real agents that break, and a webhook that a real Alertmanager tells.

The rules' times are divided by `SCALE`, see `tests/support/alerting.py`; an hour passes in 45 seconds. `benchmarks/alert_delays.py` runs
the same cases at any scale, 1 included, and prints what is asserted here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from agent.vitals.catalogue import CATALOGUE, PREFIX
from tests.support import alert_cases, loggen
from tests.support.alerting import alerts, queries, with_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.alert_cases import Ran

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SCALE: Final = 80.0


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with alert_cases.ran(tmp_path_factory.mktemp("alerts"), SCALE) as found:
        yield found


@pytest.mark.parametrize("case", [alert_cases.Killed, alert_cases.Cut, alert_cases.Full, alert_cases.Clock, alert_cases.Troubled])
def test_the_right_alerts_reach_the_webhook_and_are_over_when_it_is_mended(ran: Ran, case: type[alert_cases.Fault]) -> None:
    rows = [row for row in ran.rows if row.fault == case.fault]
    assert [row.alert for row in rows] == list(case.alerts)
    for row in rows:
        # A notice about an instance carries what its rule says, and leads to a page.
        (first, *_) = ran.monitoring.webhook.heard(case.__name__.lower(), row.alert)
        assert first.labels["severity"] == alerts()[row.alert]["labels"]["severity"]
        assert first.annotations["runbook"] == f"docs/runbooks/{row.alert}.md"
        assert case.__name__.lower() in first.annotations["summary"]


def test_silence_is_said_within_three_heartbeats_and_a_scrape_whatever_the_cause(ran: Ran) -> None:
    silences = {row.fault: row for row in ran.rows if row.alert == "TrailsealSilent"}
    assert set(silences) == {case.fault for case in (alert_cases.Killed, alert_cases.Cut, alert_cases.Full)}
    bound = 3 * ran.timing.heartbeat + ran.timing.interval
    # An agent that never reached its store counts from its start, which takes a moment.
    never = silences.pop(alert_cases.Full.fault)
    assert {fault: row.began for fault, row in silences.items() if row.began > bound} == {}
    started = ran.monitoring.value('trailseal_start_timestamp_seconds{instance="full"}')
    assert started is not None
    (first, *_) = ran.monitoring.webhook.heard("full", never.alert)
    assert first.started - started <= bound


@pytest.mark.parametrize("name", ["idle", "busy"])
def test_an_hour_of_a_service_that_is_well_fires_nothing(ran: Ran, name: str) -> None:
    past = f"[{time.time() - ran.hour_began + 5:.0f}s]"
    assert ran.monitoring.webhook.heard(name) == []
    assert ran.monitoring.value(f'count(count_over_time(ALERTS{{instance="{name}",alertstate="firing"}}{past}))') is None
    scrapes = ran.monitoring.value(f'sum_over_time(up{{instance="{name}"}}{past})')
    assert scrapes is not None
    assert scrapes >= 0.9 * (3600 / SCALE) / ran.timing.interval
    events = ran.monitoring.value(f'sum(trailseal_records_total{{instance="{name}",kind="event"}})')
    beats = ran.monitoring.value(f'changes(trailseal_heartbeat_timestamp_seconds{{instance="{name}"}}{past})')
    assert events is not None
    assert beats is not None
    assert beats >= (3600 / SCALE) / (2 * ran.timing.heartbeat) / 2
    # Half of the audit lines that were to be written by now, since a slow machine may be behind.
    busy = alert_cases.LINES_A_SECOND / loggen.AUDIT_EVERY * (3600 / SCALE) / 2
    assert events == 0 if name == "idle" else events > busy


def test_every_rule_is_evaluated_over_what_the_agents_really_export(ran: Ran) -> None:
    assert list(ran.monitoring.problems()) == []
    shown = set(ran.monitoring.ask("label/__name__/values"))
    families = {f"{PREFIX}{entry.name}": entry.type for entry in CATALOGUE}
    assert {name for name, kind in families.items() if not shown & ({name} if kind != "histogram" else {f"{name}_bucket"})} == set()


def test_every_query_of_the_dashboard_is_answered_with_data_unless_it_shows_only_trouble(ran: Ran) -> None:
    empty = [expr for _, expr, _ in queries() if not ran.monitoring.ask("query", query=with_values(expr))["result"]]
    assert [expr for expr in empty if " > 0" not in expr and " < +Inf" not in expr] == []
