"""A real pod of two containers that share an emptyDir, made from what the example chart renders: the service dies first, nothing is lost.

Podman stands in for the kubelet. It knows neither native sidecars (an init container that goes on) nor the downward API, so the test
makes the sidecar an ordinary container and puts the three names in. It gives an emptyDir to root alone, where the kubelet lets everybody
write, so an init container opens them. Nothing else is changed but the images and the place of the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.agent_process import Trails, believe, until, verify
from tests.support.helm import example_with_its_dependency, of_kind, render
from tests.support.podman import play_kube, podman, python_image, trailseal_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 400
SERVICE = f"""import datetime, json, time
with open("/var/log/app/app.log", "a") as log:
    for number in range({EVENTS}):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event = {{"stream": "audit", "event_id": f"e-{{number}}", "occurred_at": now,
                 "actor": {{"type": "system", "id": "example"}}, "action": "auth.login",
                 "target": {{"type": "account", "id": "ada"}}, "outcome": "success", "context": {{"method": "password"}}}}
        print(json.dumps(event), file=log, flush=True)
        print("served", number, file=log, flush=True)
        time.sleep(0.005)
"""
NAMES = {"spec.nodeName": "node-1", "metadata.name": "payments-0", "metadata.namespace": "prod"}


def pod_of(objects: list[dict[str, Any]], images: dict[str, str]) -> dict[str, Any]:
    """Return the deployment's pod as podman can run it."""
    (deployment,) = of_kind(objects, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (sidecar,) = spec.pop("initContainers")
    assert sidecar.pop("restartPolicy") == "Always"
    for variable in sidecar["env"]:
        variable["value"] = NAMES[variable.pop("valueFrom")["fieldRef"]["fieldPath"]]
    spec["containers"].append(sidecar)
    for container in spec["containers"]:
        container["image"] = images[container["name"]]
        container["imagePullPolicy"] = "Never"
        # The kubelet's probes: podman would run them with a shell that the image does not have. On the host's network it maps no ports.
        for key in ("startupProbe", "livenessProbe", "ports"):
            container.pop(key, None)
    shared = [volume["name"] for volume in spec["volumes"] if "emptyDir" in volume]
    spec["initContainers"] = [
        {
            "name": "kubelet",
            "image": images["service"],
            "imagePullPolicy": "Never",
            "command": ["python3", "-c", f"import os\nfor name in {shared}: os.chmod('/' + name, 0o777)"],
            "securityContext": {"runAsUser": 0, "runAsNonRoot": False},
            "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in shared],
        }
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "trailseal-example", "labels": deployment["spec"]["template"]["metadata"]["labels"]},
        "spec": {**spec, "hostNetwork": True, "restartPolicy": "Never"},
    }


def test_a_service_that_dies_first_loses_nothing_to_its_sidecar(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o777)
    values = {
        "command": ["python3", "-c", SERVICE],
        "trailseal": {
            "mode": "sidecar",
            "config": {
                "stores": [{"id": "main", "directory": "/srv/trail/store"}],
                "seal": {"max_age": "500ms"},
                "vitals": {"listen": "0.0.0.0:19600"},
            },
            "extraVolumes": [{"name": "store", "hostPath": {"path": str(store), "type": "Directory"}}],
            "extraVolumeMounts": [{"name": "store", "mountPath": "/srv/trail"}],
        },
    }
    objects = render(example_with_its_dependency(tmp_path), values, "payments", "prod")
    pod = pod_of(objects, {"service": python_image(), "trailseal": trailseal_image()})
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump_all([*of_kind(objects, "ConfigMap"), pod]), encoding="utf-8")
    trails = Trails(store / "store")
    agent, service = "trailseal-example-trailseal", "trailseal-example-service"
    with play_kube(manifest):
        assert podman("wait", service, seconds=60).stdout.strip() == "0", podman("logs", service).stderr
        until(lambda: len(trails.event_ids()) == EVENTS, "every event in the store")
        # The agent outlives the service, and ends in order when the pod does.
        assert podman("inspect", "--format={{.State.Running}}", agent).stdout.strip() == "true"
        podman("stop", "--time=40", agent, seconds=60)
        assert podman("inspect", "--format={{.State.ExitCode}}", agent).stdout.strip() == "0", podman("logs", agent).stderr
    assert trails.event_ids() == [f"e-{number}" for number in range(EVENTS)]
    seals = trails.seals()
    assert str(seals[-1].checkpoint().origin).startswith("prod/payments/")
    assert seals[-1].manifest.reason == "close"
    verdict = verify(store / "store", believe(store / "store", tmp_path / "trust.txt"))
    assert verdict.code == 0, verdict.findings()
