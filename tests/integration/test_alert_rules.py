"""The shipped alert rules before Prometheus' own tool: each fires when it should, and does not when it should not."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from agent.vitals.catalogue import CATALOGUE, PREFIX
from tests.support.agent_process import free_port, until
from tests.support.alerting import (
    LAG,
    ROOT,
    RULES,
    SPAN,
    alertmanager,
    alerts,
    groups,
    labels_in,
    metrics_in,
    of_the_watch,
    promtool,
    rules,
    scaled,
)

if TYPE_CHECKING:
    from pathlib import Path

TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.yaml"))
QUIET = next(path for path in TESTS if path.stem == "quiet")
# What Prometheus itself makes, and what the rules record.
OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_TARGETS = {"job", "instance"}
RECORDED = {rule["record"]: {"burst"} for rule in rules() if "record" in rule}
FROM_AGENTS = {f"{PREFIX}{entry.name}": {label.name for label in entry.labels} for entry in CATALOGUE}


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_firing_and_not() -> None:
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for path in TESTS:
        assert load(path)["rule_files"] == [f"../{RULES.name}"]
        for test in load(path)["tests"]:
            for check in test.get("alert_rule_test", []):
                found[bool(check["exp_alerts"])].add(check["alertname"])
    assert found == {True: set(alerts()), False: set(alerts())}


def test_of_the_idle_and_the_busy_agent_everything_is_shown_that_a_rule_looks_at() -> None:
    (test,) = load(QUIET)["tests"]
    shown = {
        who: {entry["series"].partition("{")[0] for entry in test["input_series"] if f'"{who}"' in entry["series"]}
        for who in ("idle", "busy", "watch")
    }
    asked = {name for rule in rules() for name in metrics_in(rule["expr"])} - set(RECORDED)
    watched = asked & set(of_the_watch())
    assert watched
    assert watched - shown["watch"] - shown["idle"] == set()
    assert asked - watched - shown["idle"] == set()
    assert asked - watched - shown["busy"] == set()


def test_a_rule_that_is_too_eager_does_not_stay_unnoticed(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    eager = LAG.sub("2", RULES.read_text(encoding="utf-8"))
    (tmp_path / RULES.name).write_text(eager, encoding="utf-8")
    (tmp_path / "tests" / QUIET.name).write_text(QUIET.read_text(encoding="utf-8"), encoding="utf-8")
    done = promtool("test", "rules", tmp_path / "tests" / QUIET.name)
    assert done.returncode != 0
    assert "TrailsealShippingLag" in done.stdout + done.stderr


def test_the_rules_use_only_what_agents_and_the_watch_export() -> None:
    known = FROM_AGENTS | of_the_watch() | OF_PROMETHEUS | RECORDED
    for rule in rules():
        used = metrics_in(rule["expr"])
        assert used <= set(known), rule
        allowed = set().union(*(known[name] for name in used)) | OF_TARGETS
        assert labels_in(rule["expr"]) <= allowed, rule


def test_every_alert_says_how_bad_it_is_what_it_is_and_where_its_page_is() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert rule["annotations"]["summary"].endswith("."), name
        assert rule["annotations"]["description"].endswith((".", "}")), name


def test_silence_is_said_without_a_delay_of_its_own() -> None:
    assert "for" not in alerts()["TrailsealSilent"]
    assert [group["name"] for group in groups() if "interval" in group] == []


def test_the_scaled_rules_are_the_shipped_ones_with_other_times(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    assert (len(SPAN.findall(text)), len(LAG.findall(text))) == (text.count("start_timestamp_seconds < "), 1)
    fast = scaled(60)["groups"]
    assert [rule["for"] for group in fast for rule in group["rules"] if rule.get("alert") == "TrailsealAgentAbsent"] == ["2000ms"]
    for group, shipped in zip(fast, groups(), strict=True):
        for rule, original in zip(group["rules"], shipped["rules"], strict=True):
            assert {key: value for key, value in rule.items() if key not in {"expr", "for"}} == {
                key: value for key, value in original.items() if key not in {"expr", "for"}
            }
            assert metrics_in(rule["expr"]) == metrics_in(original["expr"])
    path = tmp_path / "fast.yaml"
    path.write_text(json.dumps(scaled(60)), encoding="utf-8")
    for file in (path, RULES):
        done = promtool("check", "rules", file)
        assert done.returncode == 0, done.stdout + done.stderr


def example(part: str) -> str:
    """Return the example of docs/alerts.md that has a key."""
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    (found,) = [text for text in (block.partition("```")[0] for block in page.split("```yaml\n")[1:]) if part in text]
    return found


def test_the_examples_for_prometheus_and_alertmanager_are_accepted_by_them(tmp_path: Path) -> None:
    prometheus = example("scrape_configs").replace("/etc/prometheus/trailseal-rules.yaml", str(RULES))
    (tmp_path / "prometheus.yml").write_text(prometheus, encoding="utf-8")
    (tmp_path / "alertmanager.yml").write_text(example("inhibit_rules"), encoding="utf-8")
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    checked = subprocess.run(["amtool", "check-config", tmp_path / "alertmanager.yml"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_one_cause_is_told_once_with_the_example_for_alertmanager(tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(example("inhibit_rules"), encoding="utf-8")
    port = free_port()
    here = {"job": "trailseal", "instance": "here", "source": "app"}
    told = ["TrailsealAgentAbsent", "TrailsealSpoolFull", "TrailsealBytesLost", "TrailsealQuarantineRateHigh"]
    quiet = [
        "TrailsealSilent",
        "TrailsealShippingLag",
        "TrailsealRestarting",
        "TrailsealSpoolFilling",
        "TrailsealGap",
        "TrailsealEventsQuarantined",
    ]
    sent = [{"alertname": name, **here} for name in (*told, *quiet)]
    # Another agent's silence is another cause.
    sent += [{"alertname": name, **here, "instance": "elsewhere"} for name in ("TrailsealSilent", "TrailsealGap")]
    with alertmanager(tmp_path, config, port):
        body = json.dumps([{"labels": labels} for labels in sent]).encode()
        url = f"http://127.0.0.1:{port}/api/v2/alerts"
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=10):
            pass

        def states() -> dict[tuple[str, str], str]:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return {(one["labels"]["alertname"], one["labels"]["instance"]): one["status"]["state"] for one in json.load(answer)}

        until(lambda: len(states()) == len(sent) and "unprocessed" not in states().values(), "alerts that are judged")
        active = {key for key, state in states().items() if state == "active"}
    assert active == {*((name, "here") for name in told), ("TrailsealSilent", "elsewhere"), ("TrailsealGap", "elsewhere")}
