"""Real pods, made from what the charts render: a sidecar whose service dies first, and a node's agent. Nothing is lost.

Podman stands in for the kubelet. It knows neither native sidecars (an init container that goes on) nor the downward API, so the tests
make the sidecar an ordinary container and put the three names in. It gives an emptyDir to root alone, where the kubelet lets everybody
write, so an init container opens them. It would run probes with a shell, which the image does not have. Nothing else is changed but the
images, and the folders that are the store and the node.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.support import loggen
from tests.support.agent_process import Trails, believe, free_port, until, verify
from tests.support.container_logs import ContainerLog, envelope
from tests.support.helm import CHART, containers, example_with_its_dependency, of_kind, render
from tests.support.podman import play_kube, podman, python_image, trailseal_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WRITTEN: Final = 20_000
POSTED: Final = 50
DEATH: Final = 9
SERVICE: Final = f"""import datetime, http.client, json, os, socket, time

def event(name):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.dumps({{"stream": "audit", "event_id": name, "occurred_at": now, "actor": {{"type": "system", "id": "example"}},
        "action": "auth.login", "target": {{"type": "account", "id": "ada"}}, "outcome": "success", "context": {{"method": "password"}}}})

api = http.client.HTTPConnection("localhost")
api.sock = socket.socket(socket.AF_UNIX)
while api.sock.connect_ex("/run/trailseal/events.sock"):
    time.sleep(0.1)
for number in range({POSTED}):
    api.request("POST", "/v1/events", event(f"posted-{{number}}"), {{"Content-Type": "application/json"}})
    answer = api.getresponse()
    assert (answer.status, json.loads(answer.read())["durable"]) == (201, True)
with open("/var/log/app/app.log", "a") as log:
    for number in range({WRITTEN}):
        log.write(event(f"written-{{number}}") + "\\nserved a request\\n")
os._exit({DEATH})
"""
NAMES: Final = {"spec.nodeName": "node-1", "metadata.name": "web-0", "metadata.namespace": "prod"}
OWN: Final = f"payments-{os.getpid()}"
"""A release of this test run's own, since everybody on a machine shares podman's names."""


def as_podman_runs_it(template: dict[str, Any], images: dict[str, str]) -> dict[str, Any]:
    """Return the pod of a workload's template."""
    spec = template["spec"]
    for sidecar in spec.pop("initContainers", []):
        assert sidecar.pop("restartPolicy") == "Always"
        spec["containers"].append(sidecar)
    for container in spec["containers"]:
        for variable in container.get("env", []):
            variable["value"] = NAMES[variable.pop("valueFrom")["fieldRef"]["fieldPath"]]
        # On the host's network there are no ports to map.
        for key in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
            container.pop(key, None)
    if shared := [volume["name"] for volume in spec["volumes"] if "emptyDir" in volume]:
        opened = {
            "name": "kubelet",
            "command": ["python3", "-c", f"import os\nfor name in {shared}: os.chmod('/' + name, 0o777)"],
            "securityContext": {"runAsUser": 0, "runAsNonRoot": False},
            "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in shared],
        }
        spec["initContainers"] = [opened]
    for container in containers(spec):
        container |= {"image": images[container["name"]], "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": OWN, "labels": template["metadata"]["labels"]},
        "spec": {**spec, "hostNetwork": True, "restartPolicy": "Never"},
    }


@contextlib.contextmanager
def running(objects: list[dict[str, Any]], kind: str, images: dict[str, str], folder: Path) -> Iterator[None]:
    """Run the pod of the workload among the objects, with its ConfigMaps."""
    (workload,) = of_kind(objects, kind)
    configs = of_kind(objects, "ConfigMap")
    manifest = folder / "pod.yaml"
    manifest.write_text(yaml.safe_dump_all([*configs, as_podman_runs_it(workload["spec"]["template"], images)]), encoding="utf-8")
    try:
        with play_kube(manifest):
            yield
    finally:
        # A ConfigMap becomes a volume, which outlives its pod.
        podman("volume", "rm", "--force", *(found["metadata"]["name"] for found in configs))


def ended_in_order(container: str) -> None:
    """End a container as the kubelet does, and see it succeed in time."""
    podman("stop", "--time=40", container, seconds=60)
    assert podman("inspect", "--format={{.State.ExitCode}}", container).stdout.strip() == "0", podman("logs", container).stderr


def config(**more: Any) -> dict[str, Any]:
    """Return an agent's settings: a folder is its store."""
    store = {"id": "main", "directory": "/srv/trail/store"}
    return {"stores": [store], "seal": {"max_age": "500ms"}, "vitals": {"listen": f"0.0.0.0:{free_port()}"}, **more}


def mounted_store(store: Path) -> dict[str, Any]:
    """Return the values that mount a folder of the node as the store's place."""
    return {
        "extraVolumes": [{"name": "store", "hostPath": {"path": str(store), "type": "Directory"}}],
        "extraVolumeMounts": [{"name": "store", "mountPath": "/srv/trail"}],
    }


def test_a_service_that_dies_while_the_store_is_away_loses_nothing_to_its_sidecar(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    sidecar = {"mode": "sidecar", "config": config(), "sidecar": {"socket": {"enabled": True}}, **mounted_store(place)}
    objects = render(example_with_its_dependency(tmp_path), {"command": ["python3", "-c", SERVICE], "trailseal": sidecar}, OWN, "prod")
    images = {"kubelet": python_image(), "service": python_image(), "trailseal": trailseal_image()}
    trails = Trails(place / "store")
    with running(objects, "Deployment", images, tmp_path):
        assert podman("wait", f"{OWN}-service", seconds=60).stdout.strip() == str(DEATH), podman("logs", f"{OWN}-service").stderr
        assert podman("inspect", "--format={{.State.Running}}", f"{OWN}-trailseal").stdout.strip() == "true"
        assert trails.event_ids() == []
        # The store is back, and at once the pod's end comes: what is left has to go out within the grace.
        place.chmod(0o777)
        ended_in_order(f"{OWN}-trailseal")
    ids = trails.event_ids()
    assert [one for one in ids if one.startswith("posted")] == [f"posted-{number}" for number in range(POSTED)]
    assert [one for one in ids if one.startswith("written")] == [f"written-{number}" for number in range(WRITTEN)]
    assert len(ids) == POSTED + WRITTEN
    (*_, last) = trails.seals()
    assert str(last.checkpoint().origin).startswith(f"prod/{OWN}/")
    assert last.manifest.reason == "close"
    verdict = verify(place / "store", believe(place / "store", tmp_path / "trust.txt"))
    assert verdict.code == 0, verdict.findings()


def test_a_nodes_agent_reads_what_root_alone_may_read_and_goes_on_where_it_was(tmp_path: Path) -> None:
    node, place = tmp_path / "node", tmp_path / "place"
    node.mkdir()
    place.mkdir()
    logs = [ContainerLog(node, pod) for pod in ("web-1", "web-2")]
    values = {
        "config": config(),
        "daemonset": {"logs": [f"{node}/pods/*/*/*.log"], "hostPaths": [f"{node}/pods"]},
        "persistence": {"hostPath": str(tmp_path / "spool")},
        **mounted_store(place),
    }
    trails = Trails(place / "store")
    expected: list[str] = []

    def all_there() -> bool:
        return len(trails.event_ids()) >= len(expected)

    for run in ("first", "second"):
        for log in logs:
            log.write(*(envelope(loggen.line(number, 2, f"{run}-{log.folder.parent.name}").rstrip()) for number in range(200)))
            log.path.chmod(0o640)
            expected += loggen.event_ids(200, 2, f"{run}-{log.folder.parent.name}")
        with running(render(CHART, values, OWN, "prod"), "DaemonSet", {"trailseal": trailseal_image()}, tmp_path):
            until(all_there, "every event in the store")
            ended_in_order(f"{OWN}-trailseal")
    assert sorted(trails.event_ids()) == sorted(expected)
    assert len({seal.checkpoint().origin for seal in trails.seals()}) == 1
    assert str(trails.seals()[0].checkpoint().origin).endswith("/node-1")
    assert trails.reasons().count("stop") == 2
    assert verify(place / "store", believe(place / "store", tmp_path / "trust.txt")).code == 0
