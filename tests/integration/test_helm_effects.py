"""Every value of the chart does something: what is put in comes out, and where it belongs."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.helm import CHART, STORES, containers, example_with_its_dependency, of_kind, pods, render, restrictions_broken, values_of

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = "here-i-am"
OBJECT: Final = {"name": MARK}
NODE: Final[dict[str, Any]] = {"mode": "daemonset", **STORES}
WATCH: Final[dict[str, Any]] = {"mode": "none", "watch": {"enabled": True, "store": "s3://audit", "expected": {"trails": []}}}
SECRET: Final[dict[str, Any]] = {**NODE, "credentials": {"existingSecret": "keys", "asFiles": True}}
SIDECAR: Final[dict[str, Any]] = {"mode": "sidecar", **STORES, "sidecar": {"socket": {"enabled": True}}}
TEMPLATE: Final[dict[str, Any]] = {**SIDECAR, "persistence": {"type": "claimTemplate"}}
POLICY: Final[dict[str, Any]] = {**NODE, "networkPolicy": {"enabled": True}}

PROBES: Final[dict[str, tuple[dict[str, Any], Any]]] = {
    f"probes.{probe}.{key}": (NODE, value)
    for probe in ("liveness", "startup", "readiness")
    for key, value in (("enabled", False), ("periodSeconds", 17), ("failureThreshold", 19), ("timeoutSeconds", 3))
    if (probe, key) != ("startup", "timeoutSeconds")
}
MONITORS: Final[dict[str, tuple[dict[str, Any], Any]]] = {
    f"{kind}.{key}": ({**NODE, kind: {"enabled": key != "enabled"}}, value)
    for kind in ("podMonitor", "serviceMonitor", "prometheusRule")
    for key, value in (("enabled", True), ("interval", "17s"), ("labels", OBJECT), ("annotations", OBJECT))
    if (kind, key) != ("prometheusRule", "interval")
}
EFFECTS: Final[dict[str, tuple[dict[str, Any], Any]]] = {
    "mode": (NODE, "none"),
    "nameOverride": (NODE, MARK),
    "fullnameOverride": (NODE, MARK),
    "image.registry": (NODE, MARK),
    "image.repository": (NODE, MARK),
    "image.tag": (NODE, MARK),
    "image.digest": (NODE, "sha256:" + "0" * 64),
    "image.pullPolicy": (NODE, "Never"),
    "imagePullSecrets": (NODE, [OBJECT]),
    "config.stores": (NODE, [{"id": MARK}]),
    "catalog": (NODE, {MARK: 1}),
    "existingConfigMap": (NODE, MARK),
    "credentials.existingSecret": (NODE, MARK),
    "credentials.asEnv": (SECRET, False),
    "credentials.asFiles": (SECRET, False),
    "credentials.mountPath": (SECRET, f"/{MARK}"),
    "serviceAccount.create": (NODE, False),
    "serviceAccount.name": (NODE, MARK),
    "serviceAccount.automountToken": (NODE, True),
    "serviceAccount.annotations": (NODE, OBJECT),
    "persistence.type": (NODE, "emptyDir"),
    "persistence.hostPath": (NODE, f"/{MARK}"),
    "persistence.claimName": ({**SIDECAR, "persistence": {"type": "claim", "claimName": "x"}}, MARK),
    "persistence.sizeLimit": (SIDECAR, "17Gi"),
    "persistence.size": (TEMPLATE, "17Gi"),
    "persistence.storageClassName": (TEMPLATE, MARK),
    "persistence.accessModes": (TEMPLATE, ["ReadWriteOncePod"]),
    "resources.requests.cpu": (NODE, "17m"),
    "resources.requests.memory": (NODE, "17Mi"),
    "resources.limits.memory": (NODE, "17Mi"),
    **PROBES,
    "podSecurityContext": (NODE, {"supplementalGroups": [4711]}),
    "securityContext": (NODE, {"runAsGroup": 4711}),
    "terminationGracePeriodSeconds": (NODE, 4711),
    "extraVolumes": (NODE, [OBJECT]),
    "extraVolumeMounts": (NODE, [OBJECT]),
    "env": (NODE, [OBJECT]),
    "envFrom": (NODE, [{"secretRef": OBJECT}]),
    "podAnnotations": (NODE, OBJECT),
    "podLabels": (NODE, OBJECT),
    "nodeSelector": (NODE, OBJECT),
    "tolerations": (NODE, [{"key": MARK}]),
    "affinity": (NODE, {"nodeAffinity": OBJECT}),
    "priorityClassName": (NODE, MARK),
    "updateStrategy": (NODE, {"type": "OnDelete"}),
    "extraObjects": (NODE, [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": OBJECT}]),
    "daemonset.logs": (NODE, [f"/{MARK}"]),
    "daemonset.hostPaths": (NODE, [f"/{MARK}"]),
    "sidecar.name": (SIDECAR, MARK),
    "sidecar.logs.mountPath": (SIDECAR, f"/{MARK}"),
    "sidecar.logs.pattern": (SIDECAR, MARK),
    "sidecar.logs.sizeLimit": (SIDECAR, "17Gi"),
    "sidecar.socket.enabled": (SIDECAR, False),
    "sidecar.socket.mountPath": (SIDECAR, f"/{MARK}"),
    **MONITORS,
    "networkPolicy.enabled": (NODE, True),
    "networkPolicy.metricsFrom": (POLICY, [{"podSelector": {"matchLabels": OBJECT}}]),
    "networkPolicy.egress": (POLICY, [{"ports": [{"port": 4711}]}]),
    "watch.enabled": (WATCH, False),
    "watch.store": (WATCH, f"s3://{MARK}"),
    "watch.expected": (WATCH, OBJECT),
    "watch.trust": (WATCH, MARK),
    "watch.every": (WATCH, "17s"),
    "watch.forget": (WATCH, "17d"),
    "watch.ping": (WATCH, f"https://{MARK}"),
    "watch.extraArgs": (WATCH, [f"--{MARK}"]),
    "watch.port": (WATCH, 4711),
    "watch.serviceAccount.create": (WATCH, False),
    "watch.serviceAccount.name": (WATCH, MARK),
    "watch.serviceAccount.annotations": (WATCH, OBJECT),
    "watch.existingSecret": (WATCH, MARK),
    "watch.resources.requests.cpu": (WATCH, "17m"),
    "watch.resources.requests.memory": (WATCH, "17Mi"),
    "watch.resources.limits.memory": (WATCH, "17Mi"),
    "watch.nodeSelector": (WATCH, OBJECT),
    "watch.tolerations": (WATCH, [{"key": MARK}]),
    "watch.affinity": (WATCH, {"nodeAffinity": OBJECT}),
}
"""Each value, with the others that it needs to matter, and one that is not its default."""
ELSEWHERE: Final = {"sidecar.serviceStopSeconds"}
"""It only bounds another one, which the tests of wrong values hold."""


def leaves(node: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the values of a values file, with dots, without the mappings that only hold others."""
    return {
        path
        for key, value in node.items()
        for path in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"})
    }


def with_value(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of the values with one more."""
    changed = copy.deepcopy(values)
    *parents, last = path.split(".")
    node = changed
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    return changed


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example service's chart, for what only a sidecar has."""
    return example_with_its_dependency(tmp_path_factory.mktemp("helm"))


def made(example: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the values make, beside the example service where they are a sidecar's."""
    if values["mode"] != "sidecar":
        return render(CHART, values)
    return render(example, {"stateful": values.get("persistence", {}).get("type") == "claimTemplate", "trailseal": values}, "payments")


def test_every_value_is_in_the_table_of_effects() -> None:
    assert set(EFFECTS) | ELSEWHERE == leaves(values_of(CHART / "values.yaml"))


@pytest.mark.parametrize("path", EFFECTS)
def test_a_value_that_is_set_comes_out(example: Path, path: str) -> None:
    values, value = EFFECTS[path]
    before, after = (json.dumps(made(example, one)) for one in (copy.deepcopy(values), with_value(values, path, value)))
    assert before != after
    if MARK in json.dumps(value):
        assert MARK not in before
        assert MARK in after


def test_a_sidecar_is_restricted_by_itself_whatever_the_pod_around_it_says(example: Path) -> None:
    (pod,) = pods(made(example, copy.deepcopy(SIDECAR)))
    assert restrictions_broken({"containers": pod["initContainers"]}) == []


def test_an_image_is_named_by_its_digest_as_registries_want_it() -> None:
    digest = "sha256:" + "0" * 64
    (pod,) = pods(render(CHART, with_value(NODE, "image", {"tag": "1", "digest": digest})))
    assert pod["containers"][0]["image"] == f"docker.io/trailseal/trailseal@{digest}"


def test_no_pod_has_a_token_for_the_cluster(example: Path) -> None:
    for values in (NODE, WATCH, SIDECAR):
        objects = made(example, copy.deepcopy(values))
        assert [pod["automountServiceAccountToken"] for pod in pods(objects)] == [False]
        assert not any(found["automountServiceAccountToken"] for found in of_kind(objects, "ServiceAccount"))


def test_the_watcher_has_its_own_account_and_secret_and_the_agent_has_not() -> None:
    both = {
        **copy.deepcopy(SECRET),
        "watch": {**WATCH["watch"], "existingSecret": "reader", "serviceAccount": {"annotations": {"role": "reader"}}},
    }
    both["serviceAccount"] = {"annotations": {"role": "writer"}}
    objects = render(CHART, both)
    roles = {found["metadata"]["name"]: found["metadata"]["annotations"]["role"] for found in of_kind(objects, "ServiceAccount")}
    held = {}
    for pod in pods(objects):
        (container,) = containers(pod)
        (mounted,) = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        (named,) = [source["secretRef"]["name"] for source in container["envFrom"]]
        held[roles[pod["serviceAccountName"]]] = {mounted, named}
    assert held == {"writer": {"keys"}, "reader": {"reader"}}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("namespace", "x"),
        ("service", "x"),
        ("instance", "x"),
        ("state", "/var/lib/trailseal/x"),
        ("ephemeral", True),
        ("vitals", {"listen": "0.0.0.0:9700"}),
    ],
)
def test_each_setting_that_only_a_start_can_change_starts_the_pods_anew(setting: str, value: Any) -> None:
    before, after = (
        of_kind(render(CHART, one), "DaemonSet")[0]["spec"]["template"]["metadata"]["annotations"]
        for one in (copy.deepcopy(NODE), with_value(NODE, f"config.{setting}", value))
    )
    assert before != after
