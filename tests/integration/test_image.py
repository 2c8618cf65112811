"""The container image as its users run it: nobody's rights, a root that cannot be written, nothing in it but what runs."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from agent.errors import ConfigError
from tests.support import loggen
from tests.support.agent_process import Site, until
from tests.support.podman import Container, build_trailseal, podman, python_image, trailseal_image, trailseal_tag, wheelhouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT: Final = Path(__file__).parents[2]
USER: Final = 65532
CONFIG: Final = "/etc/trailseal/trailseal.yaml"
PAGE: Final = (ROOT / "docs/container.md").read_text()
DOCUMENTED: Final = tuple(
    re.findall(
        r"(?m)(--(?:read-only|(?:cap-drop|security-opt|memory|pids-limit|stop-timeout)=\S+))",
        PAGE.partition("```sh")[2].partition("```")[0],
    )
)
"""How the documentation confines the container."""
CONFINED: Final = (*DOCUMENTED, "--memory-swap=128m", "--read-only-tmpfs=false")
"""The same, and without what podman gives a read-only container besides: swap, and folders that can be written."""
LARGEST_BYTES: Final = 180_000_000
"""How large the image may become; docs/container.md has what it is."""
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION: Final = PROJECT["version"]


@pytest.fixture(scope="module")
def image() -> str:
    """Return the project's image, built from this checkout."""
    return trailseal_image()


@pytest.fixture(scope="module")
def inspected(image) -> dict[str, Any]:
    """Return what the image states about itself."""
    found: dict[str, Any] = json.loads(podman("image", "inspect", image).stdout)[0]
    return found


@pytest.fixture(scope="module")
def files(image) -> dict[str, os.stat_result]:
    """Return every file and folder of the image, by its path in it."""
    root = Path(podman("image", "mount", image).stdout.strip())
    try:
        return {f"/{path.relative_to(root)}": path.lstat() for path in root.rglob("*")}
    finally:
        podman("image", "unmount", image)


@pytest.fixture
def site(tmp_path) -> Site:
    """Lay out a machine whose log folder the service owns, and whose store and state the image's user owns."""
    site = Site(tmp_path, seal={"max_age": "200ms", "heartbeat": "1s"}, state="/var/lib/trailseal")
    for folder in (site.state, site.store):
        folder.mkdir()
        os.chown(folder, USER, USER)
    site.config.chmod(0o644)
    return site


def mounts(site: Site) -> list[str]:
    """Return the volumes of a sidecar: the service's logs, which it may only read, its state and its store."""
    return [
        f"--volume={site.config}:{CONFIG}:ro", f"--volume={site.logs}:{site.logs}:ro", f"--volume={site.store}:{site.store}",
        f"--volume={site.state}:/var/lib/trailseal",
    ]  # fmt: skip


def let_in(store: Path, mode: int) -> None:
    """Set the permissions of all folders of the store."""
    for folder in [store, *(path for path in store.rglob("*") if path.is_dir())]:
        folder.chmod(mode)


def test_a_confined_container_ships_verifies_tells_its_health_and_ends_in_order(image, site):
    site.log.write_bytes(loggen.block(0, 100))
    with Container(image, options=[*CONFINED, *mounts(site)]) as agent:
        until(lambda: len(site.trails.events()) == 10 or not agent.running(), "ten events in the store")
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{agent.inspect()['State']['Pid']}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(USER)] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        for folder in ("/tmp", "/run", "/etc/trailseal", "/opt/trailseal", str(site.logs)):
            refused = agent.exec("python3", "-c", f"import os; print(os.open({folder!r}, os.O_TMPFILE | os.O_WRONLY))", check=False)
            assert "Read-only file system" in refused.stderr, folder

        assert agent.healthy()
        let_in(site.store, 0o500)
        until(lambda: not agent.healthy(), "a container that is unhealthy, because its store takes nothing", step_seconds=0.3)
        let_in(site.store, 0o700)
        until(agent.healthy, "a container that is healthy again", step_seconds=0.3)

        (site.logs / "trust.txt").write_text(agent.exec("trailseal", "trust", site.store).stdout)
        verified = agent.exec("trailseal", "verify", site.store, "--trust", site.logs / "trust.txt", check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr

        with site.log.open("ab") as log:
            log.write(loggen.block(100, 100))
        assert agent.stop() == 0, agent.logs()
        assert not agent.inspect()["State"]["OOMKilled"]
    assert site.trails.event_ids() == loggen.event_ids(200)
    assert site.trails.reasons()[-1] == "stop"
    assert site.verify().code == 0


def test_without_a_running_agent_the_health_check_fails(image, site):
    options = [*CONFINED, *mounts(site), "--entrypoint=python3"]
    with Container(image, "-c", "import time; time.sleep(60)", options=options) as idle:
        assert not idle.healthy()


def test_exec_with_a_program_from_a_volume_needs_no_shell_either(image, site, tmp_path):
    site.configure(sources=None)
    options = [*CONFINED, *mounts(site), f"--volume={Path(loggen.__file__).parent}:/service:ro"]
    words = ["exec", "--config", CONFIG, "--", "python3", "/service/loggen.py", "100"]
    with Container(image, *words, options=options) as both:
        assert both.wait() == 0, both.logs()
    assert site.trails.event_ids() == loggen.event_ids(100)


def test_the_image_holds_no_shell_no_package_tools_and_no_tests(files):
    programs = {Path(path).name for path, found in files.items() if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111}
    assert "trailseal" in programs
    assert not programs & {"sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "pip", "pip3", "perl", "openssl", "ldconfig"}
    packages = {found[1] for path in files if (found := re.search(r"/site-packages/([^/]+)\.dist-info$", path))}
    locked = re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", (ROOT / "requirements/runtime.txt").read_text())
    expected = {f"{name}-{version}" for name, version in locked} | {f"trailseal-{VERSION}"}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in packages} == {re.sub(r"[-_.]+", "-", name).lower() for name in expected}
    assert not [path for path in files if re.search(r"/(ensurepip|tests|pip|setuptools)(/|$)", path) and "/site-packages/" not in path]
    assert not [path for path in files if path.startswith("/src")]


def test_nothing_in_the_image_can_be_changed_by_its_user_or_lends_rights(files):
    writable = {path for path, found in files.items() if not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o002}
    assert writable == {"/tmp"}
    assert {path for path, found in files.items() if found.st_uid or found.st_gid} == {"/var/lib/trailseal"}
    assert stat.S_IMODE(files["/var/lib/trailseal"].st_mode) == 0o700
    assert not [path for path, found in files.items() if stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID)]


def test_every_module_of_the_agent_and_every_library_it_names_is_there(image):
    # What asks and proves is on an auditor's machine, with its extra.
    asking = tuple(f"agent.reader.{name}." for name in ("index", "ask", "evidence", "control", "view"))
    script = (
        "import agent, importlib, pkgutil\n"
        "found = pkgutil.walk_packages(agent.__path__, 'agent.', onerror=lambda _: None)\n"
        f"names = [m.name for m in found if not m.name.endswith('__main__') and not (m.name + '.').startswith({asking!r})]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "import asyncio, ctypes, curses, hashlib, lzma, readline, sqlite3, ssl, zoneinfo, bz2\n"
        "assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 50\n"
        "print(len(names))\n"
    )
    done = podman("run", "--rm", "--network=none", *CONFINED, "--entrypoint=python3", image, "-c", script)
    assert int(done.stdout) > 100


def test_a_command_that_asks_says_which_extra_it_needs(image):
    done = podman("run", "--rm", "--network=none", *CONFINED, image, "query", "/var/lib/trailseal", check=False)
    assert done.returncode == ConfigError.exit_code
    assert "this command needs DuckDB, which is not installed" in done.stderr
    assert "trailseal[evidence]" in done.stderr


def test_the_image_states_what_it_is_and_how_it_is_run(inspected):
    config = inspected["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["trailseal"]
    assert config["Cmd"] == ["run", "--config", CONFIG]
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert list(config["Volumes"]) == ["/var/lib/trailseal"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?|unknown", labels["org.opencontainers.image.revision"])
    assert inspected["Healthcheck"]["Test"] == ["CMD", "trailseal", "status", "--config", CONFIG]
    assert inspected["Size"] < LARGEST_BYTES


def test_the_same_checkout_makes_the_same_layers_again(image, inspected):
    again = f"{image}-again"
    build_trailseal(again, python_image(), wheelhouse(), "--no-cache")
    try:
        assert trailseal_tag() == image, "somebody changed the checkout while this ran"
        assert json.loads(podman("image", "inspect", again).stdout)[0]["RootFS"] == inspected["RootFS"]
    finally:
        podman("rmi", again)


def test_the_page_confines_the_container_and_names_every_build_argument():
    assert [flag.partition("=")[0] for flag in DOCUMENTED] == [
        "--read-only", "--cap-drop", "--security-opt", "--memory", "--pids-limit", "--stop-timeout",
    ]  # fmt: skip
    rows = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    arguments = set(re.findall(r"(?m)^ARG (\w+)", (ROOT / "Dockerfile").read_text()))
    assert set(re.findall(r"`([A-Z_]+)`", rows)) == arguments


def test_the_dockerfile_pins_its_base_by_digest_and_runs_nothing_through_a_shell_at_run_time():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"(?m)^ARG PYTHON_IMAGE=docker\.io/library/python:3\.12-slim@sha256:[0-9a-f]{64}$", text)
    final = text.partition("\nFROM scratch\n")[2]
    assert final
    assert "\nRUN" not in final
    assert re.findall(r"(?m)^(?:ENTRYPOINT|CMD| +CMD) (.)", final) == ["[", "[", "["]
