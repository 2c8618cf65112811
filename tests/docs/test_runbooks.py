"""Each alert has a page and each page an alert; what the pages name exists."""

from __future__ import annotations

import re

import pytest

from agent.cli import COMMANDS
from agent.vitals.catalogue import CATALOGUE, PREFIX
from tests.support.alerting import ROOT, alerts, metrics_in, of_the_watch, rules

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "runbooks").glob("*.md"))}
ALERTS_PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
SECTIONS = ["What it means", "What is at risk", "How to look", "How to mend", "When it clears"]
METRICS = {PREFIX + entry.name for entry in CATALOGUE} | set(of_the_watch())


def named_alerts(text: str) -> set[str]:
    return set(re.findall(r"\bTrailseal[A-Z]\w+", text))


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    assert set(PAGES) == set(alerts())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_means_what_is_at_risk_how_to_look_how_to_mend_and_when_it_clears(name: str) -> None:
    page = PAGES[name]
    assert page.startswith(f"# {name}\n\nSeverity: {alerts()[name]['labels']['severity']}.")
    assert re.findall(r"(?m)^## (.*)$", page) == SECTIONS
    for heading in SECTIONS:
        text = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        assert len(text.split()) >= 5, heading
    look = page.partition("## How to look")[2].partition("\n## ")[0]
    assert re.search(r"(?m)^\$ \w", look)


@pytest.mark.parametrize("name", PAGES)
def test_the_metrics_alerts_and_commands_of_a_page_exist(name: str) -> None:
    page = PAGES[name]
    assert {word for word in re.findall(rf"\b{PREFIX}\w+", page) if not word.endswith("_")} <= METRICS
    assert named_alerts(page) <= set(alerts())
    commands = set(re.findall(r"(?:^\$ |`)trailseal ([a-z]+)", page, re.MULTILINE))
    assert commands <= set(COMMANDS)


def test_what_a_page_quotes_of_the_agent_s_log_is_logged() -> None:
    agent = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "agent").rglob("*.py"))
    quoted = {text for page in PAGES.values() for text in re.findall(r"(?m)^\$ grep '([^'\"]+)' AGENT-LOG$", page)}
    assert len(quoted) >= 4
    assert {text for text in quoted if f'"{text}' not in agent} == set()


def test_the_table_of_alerts_is_that_of_the_rules() -> None:
    rows = re.findall(r"(?m)^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \| .* \| ([\w ]+) \|$", ALERTS_PAGE)
    assert rows == [(name, name, rule["labels"]["severity"], rule.get("for", "at once")) for name, rule in alerts().items()]


def test_every_metric_and_alert_of_the_page_on_alerts_exists() -> None:
    assert set(re.findall(rf"\b{PREFIX}\w+", ALERTS_PAGE)) <= METRICS
    assert named_alerts(ALERTS_PAGE) - {"TrailsealSilent|Restarting"} <= set(alerts()) | {"Trailseal"}


def test_the_alerts_that_the_metrics_page_recommends_are_shipped() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").partition("## What to alert on")[2].partition("\n## ")[0]
    asked = {
        name
        for row in re.findall(r"(?m)^\| [^|]+ \| (.*) \|$", page)[1:]
        for expr in re.findall(r"`([^`]+)`", row)
        for name in metrics_in(expr)
    }
    assert len(asked) > 10
    assert asked - {name for rule in rules() for name in metrics_in(rule["expr"])} == set()
