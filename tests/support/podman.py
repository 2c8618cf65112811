"""Build images and run containers with podman, the way the tests need them; install nothing, reach no image registry.

What is costly is made once on a machine and kept in podman's own store under a tag that names its content:

* `debian_image()`: a plain Debian of the host's release with systemd and the libraries that Python is linked with;
* `python_image()`: the same with the running interpreter's Python in ``/usr/local`` and pip, which is how the official
  ``python:3.12-slim`` is laid out, and what stands in for it;
* `trailseal_image()`: the project's Dockerfile built upon that, from the checkout as it is, without a network.

A program that is missing is a failure that says which Debian package has it. Needs root. The first test that asks for an image waits for
it, a minute on a slow machine, so such tests carry `pytest.mark.timeout(300)`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[2]
WORK: Final = Path("/var/tmp/trailseal-tests")
COMMAND_SECONDS: Final = 50.0
"""How long one command of podman may take on a busy machine."""
BUILD_SECONDS: Final = 280.0
"""How long an image may take to build."""

PROGRAMS: Final = {"podman": "podman", "runc": "runc", "catatonit": "catatonit", "mmdebstrap": "mmdebstrap"}
"""The programs that are needed, and the Debian package of each."""

CONTAINERS_CONF: Final = """\
[containers]
cgroups = "enabled"
default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
"""No systemd is asked for control groups or logs, since none runs on a machine that only runs tests; crun wants one, runc does not."""

DEBIAN_PACKAGES: Final = (
    "ca-certificates", "netbase", "tzdata",
    "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6", "libreadline8", "libsqlite3-0", "libssl3", "libstdc++6",
    "libuuid1", "zlib1g",
    "systemd", "systemd-sysv", "dbus", "curl",
)  # fmt: skip
LEFT_OUT_OF_PYTHON: Final = shutil.ignore_patterns(
    "__pycache__", "site-packages", "dist-packages", "test", "config-*", "idlelib", "tkinter"
)
LABEL: Final = "trailseal.test"
A_DAY_SECONDS: Final = 86_400


def podman(
    *arguments: str | Path, check: bool = True, text: str | None = None, seconds: float = COMMAND_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run one command of podman to its end, with `text` on its standard input; the test fails if it does, unless `check` is false."""
    done = subprocess.run(
        ["podman", *map(str, arguments)], input=text, capture_output=True, text=True, timeout=seconds, check=False, env=environment()
    )
    assert not check or done.returncode == 0, f"podman {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


@cache
def environment() -> dict[str, str]:
    """Return the environment that podman runs in here, after making sure that everything needed is installed."""
    assert os.geteuid() == 0, "containers are started by root here"
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    assert not missing, f"these Debian packages are missing: {' '.join(missing)}"
    WORK.mkdir(mode=0o700, exist_ok=True)
    assert WORK.stat().st_uid == 0
    assert not WORK.is_symlink()
    settings = WORK / "containers.conf"
    if not settings.exists() or settings.read_text() != CONTAINERS_CONF:
        fresh = settings.with_suffix(f".{os.getpid()}")
        fresh.write_text(CONTAINERS_CONF)
        fresh.replace(settings)
    return {**os.environ, "CONTAINERS_CONF": str(settings)}


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    """Keep the other test processes of this machine from making the same thing at the same time."""
    environment()
    with (WORK / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _exists(image: str) -> bool:
    return podman("image", "exists", image, check=False).returncode == 0


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


@cache
def debian_image() -> str:
    """Return the tag of a Debian of this host's release, made from the Debian archive when this machine has none yet."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    command = [
        "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--include={','.join(DEBIAN_PACKAGES)}", suite, "-",
    ]  # fmt: skip
    image = f"localhost/trailseal-test/debian:{_key(*command)}"
    with _alone("debian"):
        if not _exists(image):
            with subprocess.Popen(command, stdout=subprocess.PIPE, env={**environment(), "TMPDIR": str(WORK)}) as made:
                subprocess.run(
                    ["podman", "import", "--quiet", "--change", f"LABEL {LABEL}=debian", "-", image],
                    stdin=made.stdout, stdout=subprocess.DEVNULL, timeout=BUILD_SECONDS, check=True, env=environment(),
                )  # fmt: skip
            if made.returncode:
                podman("rmi", "--force", image)
                message = f"mmdebstrap: exit {made.returncode}"
                raise AssertionError(message)
    return image


@cache
def python_image() -> str:
    """Return the tag of the stand-in for ``python:3.12-slim``: Debian with the running interpreter in ``/usr/local``."""
    debian = debian_image()
    image = f"localhost/trailseal-test/python:{_key(debian, sys.version, sys.base_prefix, '2')}"
    with _alone("python"):
        if not _exists(image):
            with tempfile.TemporaryDirectory(dir=WORK) as made:
                _python_tree(Path(made) / "local")
                build(Path(made), image, f"FROM {debian}\nCOPY local /usr/local\nRUN ldconfig\nLABEL {LABEL}=python\n")
    return image


def _python_tree(local: Path) -> None:
    """Lay out the running interpreter below `local` as the official image has it below ``/usr/local``."""
    name = f"python{sysconfig.get_python_version()}"
    (local / "bin").mkdir(parents=True)
    shutil.copy2(Path(sys.base_prefix, "bin", name).resolve(), local / "bin" / name)
    for link in ("python3", "python"):
        (local / "bin" / link).symlink_to(name)
    shutil.copytree(sysconfig.get_path("stdlib"), local / "lib" / name, ignore=LEFT_OUT_OF_PYTHON, symlinks=False)
    shared = Path(str(sysconfig.get_config_var("LIBDIR")), str(sysconfig.get_config_var("INSTSONAME")))
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        shutil.copy2(shared, local / "lib" / shared.name)
    ours = Path(sysconfig.get_path("purelib"))
    assert (ours / "pip").is_dir(), f"{sys.prefix} has no pip to give to the image"
    for found in [ours / "pip", *ours.glob("pip-*.dist-info")]:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(found, local / "lib" / name / "site-packages" / found.name, ignore=ignored)
    # Where Debian's own Python looks, should it be the one that runs.
    (local / "lib" / name / "dist-packages").symlink_to("site-packages")


def build(context: Path, image: str, containerfile: str) -> None:
    """Build `image` in the folder `context` without a network, by the text of a Dockerfile."""
    arguments = ["build", "--pull=never", "--network=none", "--format=docker", "--tag", image, "--file", "-", str(context)]
    done = subprocess.run(
        ["podman", *arguments], input=containerfile, cwd=context, capture_output=True, text=True,
        timeout=BUILD_SECONDS, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, f"podman {' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


def wheelhouse() -> Path:
    """Return a folder with the locked wheels that an image is built from, fetched when this machine has none yet."""
    locks = [ROOT / "requirements/runtime.txt", ROOT / "requirements/dev.txt"]
    folder = WORK / f"wheels-{_key(sys.version, *(lock.read_text() for lock in locks))}"
    with _alone("wheels"):
        if not folder.exists():
            fresh = WORK / f"wheels-{os.getpid()}"
            builder = fresh / "builder.txt"
            fresh.mkdir(exist_ok=True)
            builder.write_text(locked_builder())
            fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
            for lock in (locks[0], builder):
                options = ["--require-hashes", "--requirement", str(lock), "--dest", str(fresh)]
                done = subprocess.run([*fetch, *options], timeout=BUILD_SECONDS, check=False, capture_output=True, text=True)
                assert done.returncode == 0, f"pip download of {lock.name}: exit {done.returncode}\n{done.stderr}"
            fresh.rename(folder)
    return folder


def locked_builder() -> str:
    """Return the part of the lock that builds the wheel, as ``scripts/wheel.sh`` cuts it out."""
    script = (ROOT / "scripts/wheel.sh").read_text()
    wanted = script.partition("wanted='")[2].partition("'")[0].split("|")
    entries = (ROOT / "requirements/dev.txt").read_text().replace("\n    ", "\0").splitlines()
    return "\n".join(entry.replace("\0", "\n    ") for entry in entries if entry.partition("==")[0] in wanted)


def trailseal_tag() -> str:
    """Return the tag that names the image of the checkout as it is at this moment."""
    made_of = ["Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "requirements/runtime.txt"]
    folders = {"scripts": "*.sh", "deploy/container": "*.py", "agent": "**/*.py"}
    files = [ROOT / name for name in made_of] + [file for folder, names in folders.items() for file in sorted((ROOT / folder).glob(names))]
    content = [f"{file.relative_to(ROOT)}\n{file.read_text()}" for file in files]
    return f"localhost/trailseal-test/trailseal:{_key(python_image(), *content)}"


@cache
def trailseal_image() -> str:
    """Return the tag of the project's image, built by its Dockerfile from the checkout as it is; once for each content."""
    base, wheels, image = python_image(), wheelhouse(), trailseal_tag()
    with _alone("trailseal"):
        if not _exists(image):
            _forget_images()
            build_trailseal(image, base, wheels)
        (WORK / f"used-{image.rpartition(':')[2]}").touch()
    return image


def _forget_images() -> None:
    """Remove the images of earlier states of the checkout that were asked for last more than a day ago."""
    for mark in WORK.glob("used-*"):
        if time.time() - mark.stat().st_mtime > A_DAY_SECONDS:
            podman("rmi", f"localhost/trailseal-test/trailseal:{mark.name.removeprefix('used-')}", check=False)
            mark.unlink()


def build_trailseal(image: str, base: str, wheels: Path, *options: str) -> None:
    """Build the project's image upon `base` by ``scripts/image.sh``, from wheels in a folder for want of a network."""
    settings = WORK / "pip.conf"
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    arguments = [image, "--pull=never", "--network=none", "--layers=false", f"--volume={wheels}:/wheels:ro", *options]
    done = subprocess.run(
        [ROOT / "scripts/image.sh", *arguments], capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
        env={**environment(), "ENGINE": "podman", "PYTHON_IMAGE": base, "PIP_CONF": str(settings), "SOURCE_DATE_EPOCH": "1580601600"},
    )  # fmt: skip
    assert done.returncode == 0, f"image.sh {' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


class Container:
    """Be a container that was started in the background, and remove it at the end of the `with` block."""

    def __init__(self, image: str, *command: str | Path, options: Sequence[str | Path] = ()) -> None:
        """Start a container of `image`; `options` go to ``podman run``, `command` is appended to the entry point.

        No network unless the options name one. Podman complains on its standard error that it has no systemd to time the health check; a
        test asks `healthy` when it wants to know.
        """
        network = [] if any(str(option).startswith("--network") for option in options) else ["--network=none"]
        self.id = podman("run", "--detach", *network, *options, image, *command).stdout.strip()

    def __enter__(self) -> Self:
        """Return the container itself."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Remove the container, running or not."""
        podman("rm", "--force", "--time=0", "--volumes", self.id)

    def inspect(self) -> dict[str, Any]:
        """Return what podman knows about the container."""
        found: dict[str, Any] = json.loads(podman("inspect", self.id).stdout)[0]
        return found

    def running(self) -> bool:
        """Tell whether the container's first process lives."""
        return bool(self.inspect()["State"]["Running"])

    def logs(self) -> str:
        """Return what the container wrote on both of its outputs."""
        done = podman("logs", self.id)
        return done.stdout + done.stderr

    def exec(self, *command: str | Path, check: bool = True, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command inside the container."""
        return podman("exec", *options, self.id, *command, check=check)

    def healthy(self) -> bool:
        """Run the image's health check, as the engine's timer would, and return the verdict."""
        return podman("healthcheck", "run", self.id, check=False).returncode == 0

    def signal(self, name: str) -> None:
        """Send a signal such as ``HUP`` to the container's first process."""
        podman("kill", "--signal", name, self.id)

    def stop(self, seconds: int = 30) -> int:
        """Stop the container by its stop signal, and by SIGKILL when it is not gone after `seconds`; return its exit code."""
        podman("stop", "--time", str(seconds), self.id, seconds=seconds + COMMAND_SECONDS)
        return self.wait()

    def wait(self, seconds: float = COMMAND_SECONDS) -> int:
        """Wait for the container's end and return its exit code."""
        return int(podman("wait", self.id, seconds=seconds).stdout)


@contextlib.contextmanager
def play_kube(manifest: Path) -> Iterator[None]:
    """Run a Kubernetes manifest's pods for the time of the `with` block; ``hostNetwork: true`` spares them a network plug-in."""
    try:
        podman("play", "kube", "--log-driver=k8s-file", manifest, seconds=BUILD_SECONDS)
        yield
    finally:
        podman("play", "kube", "--down", manifest, check=False)
