"""The Helm charts: rendered by Helm's own code, against the schemas of Kubernetes, and the agent's own check of its configuration.

Kubernetes has no schema of the Prometheus operator's kinds, so what they select is compared with what there is.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final, Literal

import helm_python
import kubernetes_validate
import pytest
import yaml

from tests.support.agent_process import TRAILSEAL
from tests.support.helm import (
    CHART,
    FILES,
    KUBERNETES,
    ROOT,
    STORES,
    assert_accepted,
    containers,
    example_with_its_dependency,
    of_kind,
    of_the_example,
    pods,
    render,
    restrictions_broken,
    settings,
    templates,
    validate,
    values_of,
)

if TYPE_CHECKING:
    from pathlib import Path


CASES: Final = {"defaults": {}, **{path.stem: values_of(path) for path in FILES}}
SIDECARS: Final = [name for name, values in CASES.items() if values.get("mode") == "sidecar"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What every values file makes; a sidecar's values are those of the example service's dependency."""
    example = example_with_its_dependency(tmp_path_factory.mktemp("helm"))
    made = {}
    for name, values in CASES.items():
        made[name] = of_the_example(example, values) if name in SIDECARS else render(CHART, values)
    return made


def test_there_are_five_realistic_values_files() -> None:
    assert len(FILES) == 5


@pytest.mark.parametrize("name", CASES)
def test_the_chart_passes_lint_with_every_values_file(name: str) -> None:
    found = helm_python.lint(str(CHART), copy.deepcopy(CASES[name]), strict=True)
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


def test_the_example_chart_passes_lint(tmp_path: Path) -> None:
    found = helm_python.lint(str(example_with_its_dependency(tmp_path)), strict=True)
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


@pytest.mark.parametrize("name", SIDECARS)
def test_a_pod_with_the_sidecar_and_the_watcher_fit_the_restricted_level(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    found = pods(rendered[name])
    assert found
    assert [restrictions_broken(pod) for pod in found] == [[]] * len(found)


BREAKS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "the pod shares the node's hostNetwork": ("pod", {"hostNetwork": True}),
    "the pod shares the node's hostPID": ("pod", {"hostPID": True}),
    "the pod shares the node's hostIPC": ("pod", {"hostIPC": True}),
    "volume logs is of no kind that is allowed": ("pod", {"volumes": [{"name": "logs", "hostPath": {"path": "/var/log"}}]}),
    "the pod sets kernel.msgmax": ("outer", {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    "is privileged": ("inner", {"privileged": True}),
    "may gain privileges": ("inner", {"allowPrivilegeEscalation": None}),
    "keeps capabilities": ("inner", {"capabilities": {"drop": ["NET_RAW"]}}),
    "adds capabilities": ("inner", {"capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}}),
    "may run as root": ("inner", {"runAsNonRoot": False}),
    "runs as root": ("inner", {"runAsUser": 0}),
    "has no seccomp profile": ("inner", {"seccompProfile": {"type": "Unconfined"}}),
    "lifts AppArmor": ("inner", {"appArmorProfile": {"type": "Unconfined"}}),
    "chooses its SELinux type": ("inner", {"seLinuxOptions": {"type": "spc_t"}}),
    "chooses its SELinux user or role": ("inner", {"seLinuxOptions": {"role": "sysadm_r"}}),
    "uses the node's ports": ("container", {"ports": [{"containerPort": 9600, "hostPort": 9600}]}),
    "changes /proc": ("inner", {"procMount": "Unmasked"}),
    "is a process of a Windows host": ("inner", {"windowsOptions": {"hostProcess": True}}),
    "is probed at another host": ("container", {"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_every_rule_of_the_restricted_level_is_one_that_can_be_broken(rendered: dict[str, list[dict[str, Any]]], rule: str) -> None:
    where, change = BREAKS[rule]
    pod = copy.deepcopy(pods(rendered["gke-sidecar"])[0])
    (sidecar,) = pod["initContainers"]
    {"pod": pod, "outer": pod["securityContext"], "container": sidecar, "inner": sidecar["securityContext"]}[where].update(change)
    assert restrictions_broken(pod) == [rule if where in ("pod", "outer") else f"container trailseal {rule}"]


@pytest.mark.parametrize("name", [name for name in CASES if name not in SIDECARS])
def test_a_daemonset_breaks_that_level_only_where_the_nodes_logs_force_it_to(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    (daemonset,) = of_kind(rendered[name], "DaemonSet")
    broken = restrictions_broken(daemonset["spec"]["template"]["spec"])
    assert {re.sub(r"host-logs-\d+|trailseal-state", "X", one) for one in broken} == {
        "volume X is of no kind that is allowed",
        "container trailseal may run as root",
        "container trailseal runs as root",
    }
    (agent,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert agent["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in agent["volumeMounts"] if mount["name"] != "trailseal-state")


@pytest.mark.parametrize("name", CASES)
def test_the_agent_accepts_its_configuration_and_the_probes_find_it(
    rendered: dict[str, list[dict[str, Any]]], name: str, tmp_path: Path
) -> None:
    config_map = next(found for found in of_kind(rendered[name], "ConfigMap") if "trailseal.yaml" in found["data"])
    assert_accepted(config_map["data"], tmp_path)
    agents = [one for pod in pods(rendered[name]) for one in containers(pod) if one["name"] == "trailseal"]
    port = int(yaml.safe_load(config_map["data"]["trailseal.yaml"])["vitals"]["listen"].rpartition(":")[2])
    assert agents
    for agent in agents:
        assert agent["ports"] == [{"name": "trailseal", "containerPort": port, "protocol": "TCP"}]
        for probe in ("startupProbe", "livenessProbe"):
            assert agent[probe]["httpGet"] == {"path": "/livez", "port": "trailseal"}
        assert agent.get("readinessProbe", {"httpGet": {"path": "/readyz", "port": "trailseal"}})["httpGet"]["path"] == "/readyz"


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
    # As a sidecar the agent is neither their owner nor, without an fsGroup, of their group.
    beside = {one["name"]: one for pod in pods(rendered["hardened"]) for one in pod["volumes"]}
    assert beside["trailseal-credentials"]["secret"] == {"secretName": "audit-writer", "defaultMode": 0o444}
    assert all(of_kind(objects, "Secret") == [] for objects in rendered.values())


def test_the_rules_in_the_chart_are_those_that_are_tested_and_reach_prometheus_unchanged(rendered: dict[str, list[dict[str, Any]]]) -> None:
    tested = (ROOT / "deploy" / "prometheus" / "trailseal-rules.yaml").read_text(encoding="utf-8")
    assert (CHART / "files" / "trailseal-rules.yaml").read_text(encoding="utf-8") == tested
    (rule,) = of_kind(rendered["hardened"], "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(tested)
    assert "{{ $labels" in json.dumps(rule["spec"])


@pytest.mark.parametrize("name", CASES)
def test_what_is_mounted_is_there_and_what_is_there_is_mounted(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    for found in rendered[name]:
        if "template" not in found.get("spec", {}):
            continue
        pod = found["spec"]["template"]["spec"]
        volumes = [one["name"] for one in [*pod["volumes"], *(one["metadata"] for one in found["spec"].get("volumeClaimTemplates", []))]]
        assert len(volumes) == len(set(volumes))
        assert {mount["name"] for one in containers(pod) for mount in one["volumeMounts"]} == set(volumes)


def test_a_spool_that_outlives_its_pod_belongs_to_a_stateful_set_and_is_not_ephemeral(rendered: dict[str, list[dict[str, Any]]]) -> None:
    ephemeral = {name: settings(rendered[name])["ephemeral"] for name in CASES}
    assert ephemeral == {name: name == "gke-sidecar" for name in CASES}
    (workload,) = of_kind(rendered["hardened"], "StatefulSet")
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "3Gi"}},
    }
    (service,) = (
        found for found in of_kind(rendered["hardened"], "Service") if found["metadata"]["name"] == workload["spec"]["serviceName"]
    )
    assert service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def test_the_example_neither_mounts_a_claim_that_nobody_makes_nor_makes_one_that_nobody_mounts(tmp_path: Path) -> None:
    example = example_with_its_dependency(tmp_path)
    claims = {"mode": "sidecar", **copy.deepcopy(STORES), "persistence": {"type": "claimTemplate"}}
    with pytest.raises(helm_python.HelmError, match="which only a StatefulSet has: set stateful"):
        render(example, {"trailseal": claims})
    (workload,) = of_kind(render(example, {"stateful": True, "trailseal": {"mode": "sidecar", **copy.deepcopy(STORES)}}), "StatefulSet")
    assert "volumeClaimTemplates" not in workload["spec"]


@pytest.mark.parametrize("mode", ["daemonset", "none"])
def test_a_pod_that_includes_the_sidecar_says_so_in_the_mode(tmp_path: Path, mode: str) -> None:
    with pytest.raises(helm_python.HelmError, match=f'mode is "{mode}", and a pod includes'):
        render(example_with_its_dependency(tmp_path), {"trailseal": {"mode": mode, **copy.deepcopy(STORES)}})


@pytest.mark.parametrize("kind", ["podMonitor", "serviceMonitor"])
@pytest.mark.parametrize("name", CASES)
def test_every_agent_and_watcher_is_scraped_once_under_a_name_that_the_rules_know(
    tmp_path: Path, name: str, kind: Literal["podMonitor", "serviceMonitor"]
) -> None:
    off: dict[str, Any] = {"podMonitor": {"enabled": False}, "serviceMonitor": {"enabled": False}}
    values = {**copy.deepcopy(CASES[name]), "fullnameOverride": "other", **off, kind: {"enabled": True}}
    objects = of_the_example(example_with_its_dependency(tmp_path), values) if name in SIDECARS else render(CHART, values)
    monitors = of_kind(objects, kind[0].upper() + kind[1:])
    seen = []
    for template in templates(objects):
        labels = template["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for one in containers(template["spec"]) for port in one.get("ports", [])}
        for monitor in monitors:
            if kind == "podMonitor":
                (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
                if monitor["spec"]["selector"]["matchLabels"].items() <= labels:
                    seen.append((template, endpoint, ports[endpoint["port"]]))
            else:
                (endpoint,) = monitor["spec"]["endpoints"]
                selected = monitor["spec"]["selector"]["matchLabels"].items()
                (service,) = (one for one in of_kind(objects, "Service") if selected <= one["metadata"].get("labels", {}).items())
                (port,) = (one for one in service["spec"]["ports"] if one["name"] == endpoint["port"])
                assert service["spec"]["publishNotReadyAddresses"] is True
                if service["spec"]["selector"].items() <= labels:
                    seen.append((template, endpoint, port["targetPort"]))
    assert len(seen) == len(monitors) == len(templates(objects))
    assert {port for _, _, port in seen} == ({9600, 9601} if values.get("watch") else {9600})
    rules = (CHART / "files" / "trailseal-rules.yaml").read_text(encoding="utf-8")
    (pattern,) = set(re.findall(r'job=~"([^"]+)"', rules))
    jobs = [endpoint["relabelings"][0]["replacement"] for _, endpoint, _ in seen]
    assert len(set(jobs)) == len(jobs)
    assert all(re.fullmatch(pattern, job) for job in jobs)
    assert all(endpoint["honorLabels"] and endpoint["path"] == "/metrics" for _, endpoint, _ in seen)


def test_a_network_policy_is_about_the_charts_own_pods_and_never_about_the_service(rendered: dict[str, list[dict[str, Any]]]) -> None:
    (policy,) = of_kind(rendered["hardened"], "NetworkPolicy")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    caught = [template for template in templates(rendered["hardened"]) if selected <= template["metadata"]["labels"].items()]
    assert [one["name"] for template in caught for one in template["spec"]["containers"]] == ["watch"]
    (ingress,) = policy["spec"]["ingress"]
    assert ingress["ports"][0]["port"] in {port["name"] for port in caught[0]["spec"]["containers"][0]["ports"]}
    assert ingress["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {53, 443, 7480}


def test_the_watcher_has_rights_of_its_own_and_its_command_is_one_that_trailseal_knows(
    rendered: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    (watcher,) = of_kind(rendered["hardened"], "Deployment")
    (account,) = of_kind(rendered["hardened"], "ServiceAccount")
    pod = watcher["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"] == "audit-watch"
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "audit-reader"}}]
    (config_map,) = (found for found in of_kind(rendered["hardened"], "ConfigMap") if found["metadata"]["name"] == "audit-watch")
    for key, text in config_map["data"].items():
        (tmp_path / key).write_text(text, encoding="utf-8")
    # One look at an empty store instead of many at a bucket; whom it pings and where it listens has no part in that.
    lasting = ("--every=", "--listen=", "--ping=")
    assert [word.partition("=")[0] + "=" for word in container["args"] if word.startswith(lasting)] == ["--every=", "--ping=", "--listen="]
    words = [word.replace("/etc/trailseal/watch", str(tmp_path)) for word in container["args"] if not word.startswith(lasting)]
    (tmp_path / "store" / "trails").mkdir(parents=True)
    words[words.index("s3://audit/prod")] = str(tmp_path / "store")
    done = subprocess.run([TRAILSEAL, *words], capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, "no instance matches" in done.stdout) == (11, True), done.stdout + done.stderr


def test_the_manifest_without_helm_is_whole(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (block,) = (found for found in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if found.startswith("apiVersion"))
    objects = list(yaml.safe_load_all(block))
    for version in KUBERNETES:
        validate(objects, version)
    (pod,) = pods(objects)
    assert restrictions_broken(pod) == []
    (by_hand,) = pod["initContainers"]
    made = of_the_example(example_with_its_dependency(tmp_path), {"mode": "sidecar"})
    (by_helm,) = pods(made)[0]["initContainers"]
    assert {mount["mountPath"] for mount in by_hand["volumeMounts"]} == {mount["mountPath"] for mount in by_helm["volumeMounts"]}
    for key in ("restartPolicy", "args", "resources"):
        assert by_hand[key] == by_helm[key]
    assert settings(objects).items() >= {**settings(made), "stores": settings(objects)["stores"]}.items()
    assert_accepted({"trailseal.yaml": of_kind(objects, "ConfigMap")[0]["data"]["trailseal.yaml"]}, tmp_path)


def test_only_a_change_that_needs_a_start_changes_the_pods() -> None:
    def annotations(config: dict[str, Any]) -> dict[str, str]:
        (daemonset,) = of_kind(render(CHART, {"config": {**STORES["config"], **config}}), "DaemonSet")
        found: dict[str, str] = daemonset["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations({}) == annotations({"seal": {"max_age": "1s"}})
    assert annotations({}) != annotations({"service": "other"})
