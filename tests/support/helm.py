"""Render the project's charts with Helm's own code, and check what comes out against what Kubernetes takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import helm_python
import kubernetes_validate
import yaml

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "trailseal"
EXAMPLE: Final = ROOT / "deploy" / "helm" / "example-service"
KUBERNETES: Final = ("1.29", "1.32", "1.34")
FOREIGN: Final = "monitoring.coreos.com/"
"""The Prometheus operator's kinds, of which Kubernetes itself has no schema."""


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
    """Copy the example chart with this chart vendored into it, as `helm dependency build` does."""
    shutil.copytree(EXAMPLE, folder / "example")
    shutil.copytree(CHART, folder / "example" / "charts" / "trailseal")
    return folder / "example"


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]


def validate(objects: list[dict[str, Any]], version: str) -> None:
    """Check every object strictly against the schemas of a version of Kubernetes (kubernetes_validate.ValidationError)."""
    for found in objects:
        if not found["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(found, version, strict=True)


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pod specs among the objects."""
    return [found["spec"]["template"]["spec"] for found in objects if "template" in found.get("spec", {})]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every container of a pod, those of its start included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def restrictions_broken(pod: dict[str, Any]) -> list[str]:
    """Return in which ways a pod breaks the restricted Pod Security level (Kubernetes, "Pod Security Standards")."""
    allowed_volumes = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    outer = pod.get("securityContext", {})
    broken = [f"it shares the node's {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    broken += [
        f"volume {one['name']} is no {allowed_volumes}" for one in pod.get("volumes", []) if not set(one) - {"name"} <= allowed_volumes
    ]
    for one in containers(pod):
        inner = one.get("securityContext", {})
        both = {**outer, **inner}
        checks = {
            "is privileged": not inner.get("privileged", False),
            "may gain privileges": inner.get("allowPrivilegeEscalation") is False,
            "keeps capabilities": inner.get("capabilities", {}).get("drop") == ["ALL"] and "add" not in inner.get("capabilities", {}),
            "may run as root": both.get("runAsNonRoot") is True and both.get("runAsUser") != 0,
            "has no seccomp profile": both.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "uses the node's ports": not any("hostPort" in port for port in one.get("ports", [])),
            "changes /proc": inner.get("procMount", "Default") == "Default",
        }
        broken += [f"container {one['name']} {what}" for what, kept in checks.items() if not kept]
    return broken
