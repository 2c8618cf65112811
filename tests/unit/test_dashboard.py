"""The dashboard: what it asks for exists, Prometheus can parse it, and Grafana finds its way about."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from agent.vitals.catalogue import CATALOGUE, PREFIX
from tests.support.alerting import DASHBOARD, labels_in, metrics_in, of_the_watch, panels, promtool, queries, with_values

if TYPE_CHECKING:
    from pathlib import Path

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
OF_TARGETS = {"job", "instance"}
KNOWN = {
    **{PREFIX + entry.name: {label.name for label in entry.labels} for entry in CATALOGUE},
    **of_the_watch(),
    **{f"{PREFIX}{entry.name}_bucket": {"le"} for entry in CATALOGUE if entry.type == "histogram"},
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}


def test_panels_have_ids_of_their_own_a_title_an_explanation_and_a_place_of_their_own() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) > 30
    places: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & places, panel["title"]
        places |= cells


def test_the_data_source_is_chosen_by_a_variable_everywhere() -> None:
    targets = [target for panel in panels() for target in panel["targets"]]
    users = [*panels(), *targets, *BOARD["annotations"]["list"], *BOARD["templating"]["list"][1:]]
    assert BOARD["templating"]["list"][0]["type"] == "datasource"
    assert [user for user in users if user["datasource"] != {"type": "prometheus", "uid": "${datasource}"}] == []
    assert DASHBOARD.read_text(encoding="utf-8").count('"datasource":') == len(users)


def test_job_instance_source_and_store_can_be_chosen() -> None:
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "job", "instance", "source", "store"]
    for variable in BOARD["templating"]["list"][1:]:
        expr = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert expr
        assert expr[2] == variable["name"]
        (metric,) = metrics_in(expr[1])
        assert expr[2] in KNOWN[metric] | OF_TARGETS


@pytest.mark.parametrize(
    ("title", "expr", "legend"), queries(), ids=[f"{title} {number}" for number, (title, _, _) in enumerate(queries())]
)
def test_a_query_asks_for_metrics_and_labels_that_exist_and_honours_the_variables(title: str, expr: str, legend: str) -> None:
    used = metrics_in(expr)
    assert used
    assert used <= set(KNOWN)
    labels = set().union(*(KNOWN[name] for name in used)) | OF_TARGETS
    assert labels_in(expr) <= labels
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels
    if used <= set(of_the_watch()):
        return  # A watch looks at whole stores; the variables choose agents.
    for name, inner in re.findall(r"(\w+)\{([^}]*)\}", expr):
        chosen = {"job", "instance"} | (KNOWN[name] & {"source", "store"})
        assert {f'{label}=~"${label}"' for label in chosen} <= set(inner.split(", ")), title
    assert set(re.findall(r"\$(\w+)", expr)) <= {"job", "instance", "source", "store", "__rate_interval"}


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    listed = [{"record": f"panel:{number}", "expr": with_values(expr)} for number, (_, expr, _) in enumerate(queries())]
    path = tmp_path / "panels.yaml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": listed}]}), encoding="utf-8")
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(listed)} rules found" in done.stdout
