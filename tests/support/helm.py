"""Render the project's charts with Helm's own code, and check what comes out against what Kubernetes takes."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import helm_python
import kubernetes_validate
import yaml

from tests.support.agent_process import TRAILSEAL
from tests.support.certificates import make_certificate

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "trailseal"
EXAMPLE: Final = ROOT / "deploy" / "helm" / "example-service"
KUBERNETES: Final = ("1.29", "1.32", "1.34")
FOREIGN: Final = "monitoring.coreos.com/"
"""The Prometheus operator's kinds, of which Kubernetes itself has no schema."""

FILES: Final = sorted((CHART / "ci").glob("*.yaml"))
STORES: Final = {"config": {"stores": [{"id": "central", "bucket": "s3://audit/prod", "retention": {"days": 400}}]}}

VOLUMES: Final = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS: Final = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES: Final = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def values_of(path: Path) -> dict[str, Any]:
    """Return a values file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def render(chart: Path, values: dict[str, Any], name: str = "audit", namespace: str = "trailseal") -> list[dict[str, Any]]:
    """Return the objects that an installation would make."""
    rendered = helm_python.Chart.load(str(chart)).render(values, name=name, namespace=namespace)
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def example_with_its_dependency(folder: Path) -> Path:
    """Copy the charts, and let Helm bring this one into the example as `helm dependency build` does."""
    for chart in (EXAMPLE, CHART):
        shutil.copytree(chart, folder / chart.name)
    helm_python.dependency_build(str(folder / EXAMPLE.name))
    return folder / EXAMPLE.name


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]


def validate(objects: list[dict[str, Any]], version: str) -> None:
    """Check every object strictly against the schemas of a version of Kubernetes (kubernetes_validate.ValidationError)."""
    for found in objects:
        if not found["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(found, version, strict=True)


def templates(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pod templates of the workloads among the objects."""
    return [found["spec"]["template"] for found in objects if "template" in found.get("spec", {})]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pod specs among the objects."""
    return [template["spec"] for template in templates(objects)]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every container of a pod, those of its start included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def restrictions_broken(pod: dict[str, Any]) -> list[str]:
    """Return in which ways a pod breaks the restricted Pod Security level.

    Rule by rule as Kubernetes has them in "Pod Security Standards" (1.34), those of the baseline included. Where a rule leaves the choice
    between the pod and its containers, a container's own setting wins.
    """
    outer = pod.get("securityContext", {})
    broken = [f"the pod shares the node's {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    broken += [
        f"volume {one['name']} is of no kind that is allowed" for one in pod.get("volumes", []) if not set(one) - {"name"} <= VOLUMES
    ]
    broken += [f"the pod sets {one['name']}" for one in outer.get("sysctls", []) if one["name"] not in SYSCTLS]
    for one in containers(pod):
        inner = one.get("securityContext", {})
        both = {**outer, **inner}
        added = set(inner.get("capabilities", {}).get("add", []))
        checks = {
            "is privileged": not inner.get("privileged"),
            "may gain privileges": inner.get("allowPrivilegeEscalation") is False,
            "keeps capabilities": "ALL" in inner.get("capabilities", {}).get("drop", []),
            "adds capabilities": added <= {"NET_BIND_SERVICE"},
            "may run as root": both.get("runAsNonRoot") is True,
            "runs as root": both.get("runAsUser") != 0,
            "has no seccomp profile": both.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "lifts AppArmor": both.get("appArmorProfile", {}).get("type") != "Unconfined",
            "chooses its SELinux type": both.get("seLinuxOptions", {}).get("type", "") in SELINUX_TYPES,
            "chooses its SELinux user or role": not {"user", "role"} & set(both.get("seLinuxOptions", {})),
            "uses the node's ports": not any(port.get("hostPort") for port in one.get("ports", [])),
            "changes /proc": inner.get("procMount", "Default") == "Default",
            "is a process of a Windows host": not both.get("windowsOptions", {}).get("hostProcess"),
            "is probed at another host": not any("host" in probe for probe in _probes(one)),
        }
        broken += [f"container {one['name']} {what}" for what, kept in checks.items() if not kept]
    return broken


def _probes(container: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a container's probes and lifecycle hooks ask."""
    asked = [container.get(f"{name}Probe", {}) for name in ("startup", "liveness", "readiness")] + list(
        container.get("lifecycle", {}).values()
    )
    return [one[kind] for one in asked for kind in ("httpGet", "tcpSocket") if kind in one]


def of_the_example(example: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the example service makes of a sidecar's values."""
    stateful = values.get("persistence", {}).get("type") == "claimTemplate"
    return render(example, {"trailseal": copy.deepcopy(values), "stateful": stateful}, "payments")


def settings(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the agent's configuration among the objects."""
    (text,) = (found["data"]["trailseal.yaml"] for found in of_kind(objects, "ConfigMap") if "trailseal.yaml" in found["data"])
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def assert_accepted(files: dict[str, str], folder: Path) -> None:
    """Let `trailseal check` look at a ConfigMap's files."""
    for key, text in files.items():
        # The pod's folders are not here; everything else is as it would be there.
        changed = text.replace("/var/lib/trailseal", str(folder)).replace("/etc/trailseal/credentials", str(folder))
        (folder / key).write_text(changed.replace("0.0.0.0:9600", "127.0.0.1:0"), encoding="utf-8")
    make_certificate(folder).rename(folder / "ca.pem")
    environ = os.environ | {"TRAILSEAL_NODE": "node-1", "TRAILSEAL_POD": "payments-0", "TRAILSEAL_POD_NAMESPACE": "prod"}
    done = subprocess.run(
        [TRAILSEAL, "check", "--config", str(folder / "trailseal.yaml")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
