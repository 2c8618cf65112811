"""The Helm charts' values: wrong ones are refused by name, and every one is explained and in the schema."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

import helm_python
import pytest

from tests.support.helm import CHART, ROOT, STORES, example_with_its_dependency, of_kind, of_the_example, render, values_of

if TYPE_CHECKING:
    from pathlib import Path


def graced(grace: float | str) -> dict[str, Any]:
    """Return values with this shutdown grace."""
    return {"config": {**STORES["config"], "shutdown_grace": grace}}


WRONG: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "mode": ({"mode": "deamonset"}, "mode"),
    "unknown key": ({"imagePullSecret": []}, "imagePullSecret"),
    "digest": ({"image": {"digest": "sha256:short"}}, "digest"),
    "no stores": ({"config": {"stores": []}}, "stores"),
    "grace": ({"terminationGracePeriodSeconds": "45"}, "terminationGracePeriodSeconds"),
    "grace too short": ({**STORES, "terminationGracePeriodSeconds": 29}, "with config.shutdown_grace 25s: give the pod at least 30"),
    "grace in minutes": (graced("2m"), "terminationGracePeriodSeconds is 45, with config.shutdown_grace 2m: give the pod at least 125"),
    "grace without unit": (graced(41), "with config.shutdown_grace 41: give the pod at least 46"),
    "grace from outside": (graced("${GRACE}"), "config/shutdown_grace"),
    "no port": ({"config": {**STORES["config"], "vitals": {"listen": "none"}}}, 'config.vitals.listen is "none"'),
    "loopback": ({"config": {**STORES["config"], "vitals": {"listen": "127.0.0.1:9600"}}}, "come from outside the pod"),
    "claim of a node": ({"persistence": {"type": "claim", "claimName": "spool"}}, 'persistence.type is "claim": each node'),
    "spool of two": ({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}, "maxSurge would start a second agent"),
    "scraped twice": ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "are both enabled"),
    "nothing to scrape": ({"mode": "none", "podMonitor": {"enabled": True}}, "nothing runs that could be scraped"),
    "no policy": ({"mode": "sidecar", "networkPolicy": {"enabled": True}}, "networkPolicy.enabled has no pod to speak of"),
    "watch": ({"watch": {"enabled": True, "store": "s3://b"}}, "watch.expected is missing"),
    "unknown key below": ({"watch": {"expcted": {}}}, "expcted"),
}
WRONG_SIDECARS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "claim": ({"persistence": {"type": "claim"}}, "persistence.claimName is missing"),
    "shared spool": ({"persistence": {"type": "hostPath"}}, "two of your pods on one node would share a spool"),
    "nothing to read": ({"sidecar": {"logs": {"mountPath": ""}}}, "the sidecar has nothing to read"),
    "the service's time": (
        {"sidecar": {"serviceStopSeconds": 16}},
        "with config.shutdown_grace 25s and sidecar.serviceStopSeconds 16: give the pod at least 46",
    ),
    "access": ({"persistence": {"type": "claimTemplate", "accessModes": ["RWO"]}}, "accessModes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_are_refused_by_name(case: str) -> None:
    values, words = WRONG[case]
    with pytest.raises(helm_python.HelmError) as caught:
        render(CHART, copy.deepcopy(values))
    assert words in str(caught.value)


@pytest.mark.parametrize("case", WRONG_SIDECARS)
def test_wrong_values_of_a_sidecar_are_refused_by_name(tmp_path: Path, case: str) -> None:
    values, words = WRONG_SIDECARS[case]
    with pytest.raises(helm_python.HelmError) as caught:
        of_the_example(example_with_its_dependency(tmp_path), {"mode": "sidecar", **copy.deepcopy(values)})
    assert words in str(caught.value)


@pytest.mark.parametrize("grace", ["40s", 40, "39.5", "0.6m", "1500ms"])
def test_a_grace_that_the_pod_has_room_for_is_taken_in_every_unit(grace: float | str) -> None:
    (daemonset,) = of_kind(render(CHART, graced(grace)), "DaemonSet")
    assert daemonset["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 45


def notes(values: dict[str, Any]) -> str:
    """Return what Helm says after an installation."""
    rendered: dict[str, str] = helm_python.Chart.load(str(CHART)).render(values, name="audit", namespace="trailseal")
    return rendered["trailseal/templates/NOTES.txt"]


def test_the_notes_say_that_nothing_is_shipped_yet_where_it_is_so_and_only_there() -> None:
    assert "NOTHING IS SHIPPED YET" in notes({})
    assert "NOTHING IS SHIPPED YET" not in notes(copy.deepcopy(STORES))
    assert "NOTHING IS SHIPPED YET" not in notes({"existingConfigMap": "mine"})


def test_the_notes_say_that_nobody_hears_an_alert_until_there_are_rules() -> None:
    assert "No alert rules are installed" in notes({})
    assert "No alert rules are installed" not in notes({"prometheusRule": {"enabled": True}})


def test_the_chart_installs_the_version_that_it_is_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (daemonset,) = of_kind(render(CHART, copy.deepcopy(STORES)), "DaemonSet")
    (agent,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert agent["image"].rpartition(":")[2] == project["version"]


def paths(node: dict[str, Any], prefix: str = "") -> set[str]:
    """Return every key of a values file, with dots, down to where users put in what they like."""
    return {
        path
        for key, value in node.items()
        for path in ({f"{prefix}{key}"} | (paths(value, f"{prefix}{key}.") if isinstance(value, dict) else set()))
    }


def test_the_readme_explains_no_value_that_there_is_not() -> None:
    rows = re.findall(r"^\| (`[a-z][^|]*) \|[^|]*\|[^|]*\|$", (CHART / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 40
    assert set(named) <= paths(values_of(CHART / "values.yaml"))


def test_every_value_is_explained_and_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    text = (CHART / "README.md").read_text(encoding="utf-8")
    values = values_of(CHART / "values.yaml")
    for key in values:
        assert f"`{key}" in text, key
    for path in paths({key: value for key, value in values.items() if key not in ("config", "catalog", "resources")}):
        node = schema
        for key in path.split("."):
            if key in ("resources", "expected") or "properties" not in node:
                break
            assert key in node["properties"], path
            node = node["properties"][key]
            assert node.get("description"), path
