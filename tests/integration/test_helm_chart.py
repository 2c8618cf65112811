"""The Helm charts: rendered by Helm's own code, against the schemas of Kubernetes, and the agent's own check of its configuration."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import helm_python
import kubernetes_validate
import pytest
import yaml

from tests.support.agent_process import TRAILSEAL
from tests.support.certificates import make_certificate
from tests.support.helm import (
    CHART,
    FOREIGN,
    KUBERNETES,
    ROOT,
    containers,
    example_with_its_dependency,
    of_kind,
    pods,
    render,
    restrictions_broken,
    validate,
    values_of,
)

if TYPE_CHECKING:
    from pathlib import Path

FILES: Final = sorted((CHART / "ci").glob("*.yaml"))
CASES: Final = {"defaults": {}, **{path.stem: values_of(path) for path in FILES}}
STORES: Final = {"config": {"stores": [{"id": "central", "bucket": "s3://audit/prod", "retention": {"days": 400}}]}}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What every values file makes; a sidecar's values are those of the example service's dependency."""
    example = example_with_its_dependency(tmp_path_factory.mktemp("helm"))
    made = {}
    for name, values in CASES.items():
        sidecar = values.get("mode") == "sidecar"
        made[name] = render(example, {"trailseal": copy.deepcopy(values)}, "payments") if sidecar else render(CHART, values)
    return made


def test_there_are_five_realistic_values_files() -> None:
    assert len(FILES) == 5


@pytest.mark.parametrize("name", CASES)
def test_the_chart_passes_lint_with_every_values_file(name: str) -> None:
    found = helm_python.lint(str(CHART), copy.deepcopy(CASES[name]), strict=True)
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", CASES)
def test_what_is_rendered_is_what_kubernetes_takes(rendered: dict[str, list[dict[str, Any]]], name: str, version: str) -> None:
    assert rendered[name]
    validate(rendered[name], version)


def test_a_broken_object_is_noticed(rendered: dict[str, list[dict[str, Any]]]) -> None:
    broken = copy.deepcopy(of_kind(rendered["defaults"], "DaemonSet"))
    broken[0]["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(broken, KUBERNETES[0])


@pytest.mark.parametrize("name", CASES)
def test_every_object_has_a_name_and_no_two_the_same(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in rendered[name]]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", one) for _, one in names)


@pytest.mark.parametrize("name", [name for name, values in CASES.items() if values.get("mode") == "sidecar"])
def test_a_pod_with_the_sidecar_fits_the_restricted_level(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    found = pods(rendered[name])
    assert found
    assert [restrictions_broken(pod) for pod in found] == [[]] * len(found)


@pytest.mark.parametrize("name", [name for name, values in CASES.items() if values.get("mode") != "sidecar"])
def test_a_daemonset_breaks_that_level_only_where_the_nodes_logs_force_it_to(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    (daemonset,) = of_kind(rendered[name], "DaemonSet")
    broken = restrictions_broken(daemonset["spec"]["template"]["spec"])
    assert {re.sub(r"(host-logs-\d+|trailseal-state)", "X", one).partition(" is no")[0] for one in broken} == {
        "volume X",
        "container trailseal may run as root",
    }
    (agent,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert agent["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in agent["volumeMounts"] if mount["name"] != "trailseal-state")


@pytest.mark.parametrize("name", CASES)
def test_the_agent_accepts_its_configuration_and_the_probes_find_it(
    rendered: dict[str, list[dict[str, Any]]], name: str, tmp_path: Path
) -> None:
    config_map = next(found for found in of_kind(rendered[name], "ConfigMap") if "trailseal.yaml" in found["data"])
    for key, text in config_map["data"].items():
        # The pod's folders are not here; everything else is as it would be there.
        changed = text.replace("/var/lib/trailseal", str(tmp_path)).replace("/etc/trailseal/credentials", str(tmp_path))
        (tmp_path / key).write_text(changed.replace("0.0.0.0:9600", "127.0.0.1:0"), encoding="utf-8")
    make_certificate(tmp_path).rename(tmp_path / "ca.pem")
    environ = os.environ | {"TRAILSEAL_NODE": "node-1", "TRAILSEAL_POD": "payments-0", "TRAILSEAL_POD_NAMESPACE": "prod"}
    done = subprocess.run(
        [TRAILSEAL, "check", "--config", str(tmp_path / "trailseal.yaml")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    agents = [one for pod in pods(rendered[name]) for one in containers(pod) if one["name"] == "trailseal"]
    port = int(yaml.safe_load(config_map["data"]["trailseal.yaml"])["vitals"]["listen"].rpartition(":")[2])
    assert agents
    for agent in agents:
        assert agent["ports"] == [{"name": "metrics", "containerPort": port, "protocol": "TCP"}]
        for probe in ("startupProbe", "livenessProbe"):
            assert agent[probe]["httpGet"] == {"path": "/livez", "port": "metrics"}
        assert agent.get("readinessProbe", {"httpGet": {"path": "/readyz", "port": "metrics"}})["httpGet"]["path"] == "/readyz"


def test_the_sidecar_is_a_native_one_and_does_not_decide_whether_the_service_is_ready(rendered: dict[str, list[dict[str, Any]]]) -> None:
    (pod,) = pods(rendered["gke-sidecar"])
    (sidecar,) = pod["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("trailseal", "Always")
    assert "readinessProbe" not in sidecar
    logs = {one["name"]: {mount["name"]: mount for mount in one["volumeMounts"]} for one in containers(pod)}
    assert logs["trailseal"]["trailseal-logs"]["mountPath"] == logs["service"]["trailseal-logs"]["mountPath"] == "/var/log/payments"
    assert logs["trailseal"]["trailseal-logs"]["readOnly"] is True
    assert "readOnly" not in logs["service"]["trailseal-logs"]
    assert logs["service"]["trailseal-socket"]["readOnly"] is True
    assert pod["terminationGracePeriodSeconds"] == 45


def test_a_secret_never_comes_near_a_config_map(rendered: dict[str, list[dict[str, Any]]]) -> None:
    (daemonset,) = of_kind(rendered["ceph-private-ca"], "DaemonSet")
    agent = daemonset["spec"]["template"]["spec"]["containers"][0]
    assert agent["envFrom"] == [{"secretRef": {"name": "trailseal-ceph"}}]
    volumes = {one["name"]: one for one in daemonset["spec"]["template"]["spec"]["volumes"]}
    assert volumes["trailseal-credentials"]["secret"] == {"secretName": "trailseal-ceph", "defaultMode": 0o440}
    assert of_kind(rendered["ceph-private-ca"], "Secret") == []


def test_the_rules_in_the_chart_are_those_that_are_tested_and_reach_prometheus_unchanged(rendered: dict[str, list[dict[str, Any]]]) -> None:
    tested = (ROOT / "deploy" / "prometheus" / "trailseal-rules.yaml").read_text(encoding="utf-8")
    assert (CHART / "files" / "trailseal-rules.yaml").read_text(encoding="utf-8") == tested
    (rule,) = of_kind(rendered["hardened"], "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(tested)
    assert "{{ $labels" in json.dumps(rule["spec"])


def test_what_the_operator_of_prometheus_gets_selects_what_is_there(rendered: dict[str, list[dict[str, Any]]]) -> None:
    foreign = [found for objects in rendered.values() for found in objects if found["apiVersion"].startswith(FOREIGN)]
    assert {found["kind"] for found in foreign} == {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    (monitor,) = of_kind(rendered["eks-irsa"], "PodMonitor")
    (daemonset,) = of_kind(rendered["eks-irsa"], "DaemonSet")
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    (service,) = of_kind(rendered["ceph-private-ca"], "Service")
    (of_service,) = of_kind(rendered["ceph-private-ca"], "ServiceMonitor")
    assert of_service["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert of_kind(rendered["gke-sidecar"], "PodMonitor")[0]["spec"]["selector"] == {}


WRONG: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "mode": ({"mode": "deamonset"}, "mode"),
    "unknown key": ({"imagePullSecret": []}, "imagePullSecret"),
    "digest": ({"image": {"digest": "sha256:short"}}, "digest"),
    "no stores": ({"config": {"stores": []}}, "stores"),
    "grace": ({"terminationGracePeriodSeconds": "45"}, "terminationGracePeriodSeconds"),
    "grace too short": ({**STORES, "terminationGracePeriodSeconds": 27}, "give the pod at least 5 s more than the agent"),
    "grace in minutes": (
        {"config": {**STORES["config"], "shutdown_grace": "2m"}},
        "terminationGracePeriodSeconds is 45, and config.shutdown_grace 2m",
    ),
    "no port": ({"config": {**STORES["config"], "vitals": {"listen": "none"}}}, 'config.vitals.listen is "none"'),
    "loopback": ({"config": {**STORES["config"], "vitals": {"listen": "127.0.0.1:9600"}}}, "come from outside the pod"),
    "claim": ({"persistence": {"type": "claim"}}, "persistence.claimName is missing"),
    "watch": ({"watch": {"enabled": True, "store": "s3://b"}}, "watch.expected is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_are_refused_by_name(case: str) -> None:
    values, words = WRONG[case]
    with pytest.raises(helm_python.HelmError) as caught:
        render(CHART, copy.deepcopy(values))
    assert words in str(caught.value)


def paths(node: dict[str, Any], prefix: str = "") -> set[str]:
    """Return every key of a values file, with dots, down to where users put in what they like."""
    return {
        path
        for key, value in node.items()
        for path in ({f"{prefix}{key}"} | (paths(value, f"{prefix}{key}.") if isinstance(value, dict) else set()))
    }


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


def test_only_a_change_that_needs_a_start_changes_the_pods() -> None:
    def annotations(config: dict[str, Any]) -> dict[str, str]:
        (daemonset,) = of_kind(render(CHART, {"config": {**STORES["config"], **config}}), "DaemonSet")
        found: dict[str, str] = daemonset["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations({}) == annotations({"seal": {"max_age": "1s"}})
    assert annotations({}) != annotations({"service": "other"})
