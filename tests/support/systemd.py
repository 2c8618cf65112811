"""Boot a machine with a real systemd: a container whose root is a folder made here, and whose /usr is this host's, read-only.

Nothing is downloaded and no image is made: systemd populates an empty /etc and /var by itself, so a machine is up in half a
second, and what is in it can be read and written from outside. Units that would change the kernel that all machines share are
masked. The running interpreter's Python is in /usr/local, as the programs of a host may not come from somebody's home.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.agent_process import Trails, until
from tests.support.podman import COMMAND_SECONDS, Container

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.trail.seal import Seal

CHECKOUT: Final = Path(__file__).parents[2]
UNITS: Final = CHECKOUT / "deploy" / "systemd"
EXAMPLES: Final = UNITS / "examples"
TRAILSEAL: Final = "/opt/trailseal/bin/trailseal"
MANAGER: Final = ("sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd")
"""Outside a container systemd shares its mounts itself; without that the credentials of a service never reach it."""

_FOLDERS: Final = (
    "etc/systemd/system",
    "etc/ld.so.conf.d",
    "usr",
    "var/log",
    "run",
    "tmp",
    "proc",
    "sys",
    "dev",
    "root",
    "opt",
    "srv",
    "home",
)
_FILES: Final = {
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/ld.so.conf": "/usr/local/lib\n",
    # With an identity this is no first boot, at which systemd would enable whatever services the host has.
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
}
_MASKED: Final = (
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-udevd.service",
)


def own_wheel(folder: Path) -> Path:
    """Build this checkout's wheel into a folder, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return next(folder.glob("trailseal-*.whl"))


def lay_out(root: Path) -> Path:
    """Make the folders and files that a system needs besides its /usr."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name, text in _FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    units = root / "etc/systemd/system"
    for name in _MASKED:
        (units / name).symlink_to("/dev/null")
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    # Services of an empty machine reach into the folders that lead to it; pytest's own are closed to others.
    root.chmod(0o755)
    return root


class Machine(Container):
    """Be a booted machine; leaving the `with` block throws it away.

    Attributes:
        root: Where its root folder is on the host.
        installed: What the installer said, for who calls it to keep.
    """

    installed = ""

    def __init__(self, root: Path, options: Sequence[str | Path] = ()) -> None:
        """Boot it from a root folder that `lay_out` made."""
        self.root = root
        volumes = ["--volume=/usr:/usr:ro", f"--volume={CHECKOUT}:/mnt/checkout:ro"]
        if sys.base_prefix not in {"/usr", "/usr/local"}:
            volumes.append(f"--volume={sys.base_prefix}:/usr/local:ro")
        (root / "mnt/checkout").mkdir(parents=True)
        super().__init__(str(root), *MANAGER, options=["--systemd=always", "--privileged", *volumes, *options, "--rootfs"])
        self._pid = str(self.inspect()["State"]["Pid"])

    def __enter__(self) -> Self:
        """Wait until it is up."""
        try:
            until(self._booted, "a machine that is up")
            assert self.systemctl("is-system-running", check=False) == "running", self.systemctl("--failed", check=False)
            self.exec("ldconfig")
        except BaseException:
            self.__exit__()
            raise
        return self

    def exec(self, *command: str | Path, check: bool = True, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command inside; by itself, because podman takes longer for that than most commands do. `options` are nsenter's."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--uts", "--ipc", "--net", "--pid", *options, "--", *map(str, command)]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(enter, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False, env=environment, cwd="/")
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def _booted(self) -> bool:
        return self.systemctl("is-system-running", check=False) in {"running", "degraded"}

    def path(self, name: str) -> Path:
        """Return where a path of the machine is on the host."""
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str) -> None:
        """Write a file in the machine, with the folders it needs."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def configure(self, name: str, **settings: Any) -> None:
        """Write a configuration of the agent (JSON is YAML)."""
        self.write(f"/etc/trailseal/{name}.yaml", json.dumps(settings, indent=1))

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a line of shell in the machine and return what it wrote to standard output."""
        return self.exec("sh", "-c", script, check=check).stdout.strip()

    def systemctl(self, *words: str, check: bool = True) -> str:
        """Run systemctl and return its output."""
        return self.exec("systemctl", *words, check=check).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def journal(self, unit: str) -> str:
        """Return what a unit, and the manager about it, wrote to the journal."""
        return self.exec("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout


class Instance:
    """Be one agent of a machine, ``trailseal@NAME.service``, with a folder of logs and a trail of its own in the one store."""

    def __init__(self, machine: Machine, name: str, drop_in: str = "", **settings: Any) -> None:
        """Write its configuration and its drop-in; `settings` replace those at the top level."""
        self.machine, self.name = machine, name
        self.unit = f"trailseal@{name}.service"
        self.logs = machine.path(f"/var/log/{name}")
        self.logs.mkdir(exist_ok=True)
        self._trails = Trails(machine.path("/srv/trail"))
        self.settings: dict[str, Any] = {
            "namespace": "demo",
            "service": name,
            "instance": "node-1",
            "state": f"/var/lib/trailseal@{name}",
            "sources": [{"id": "app", "file": f"/var/log/{name}/*.log"}],
            "observability": "none",
            "seal": {"max_age": "200ms", "heartbeat": "10s"},
            "stores": [{"id": "main", "directory": "/srv/trail"}],
            "vitals": {"listen": "none"},
        }
        self.configure(**settings)
        if drop_in:
            machine.write(f"/etc/systemd/system/{self.unit}.d/test.conf", drop_in)
            machine.systemctl("daemon-reload")

    def configure(self, **settings: Any) -> None:
        """Change settings at the top level and write the file."""
        self.settings |= settings
        self.machine.configure(self.name, **self.settings)

    def start(self) -> Self:
        """Start it and wait for systemd to call it started."""
        self.machine.systemctl("start", self.unit)
        return self

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.machine.systemctl("stop", self.unit)

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.machine.show(self.unit, name)

    @property
    def main_pid(self) -> int:
        """The process id of the agent, as the machine sees it; 0 without one."""
        return int(self.show("MainPID"))

    def status(self) -> dict[str, Any]:
        """Return what the agent says of itself to `trailseal status`; nothing if it does not answer."""
        command = (TRAILSEAL, "status", "--json", "--config", f"/etc/trailseal/{self.name}.yaml")
        answer: dict[str, Any] = json.loads(self.machine.exec(*command, check=False).stdout or "{}")
        return answer

    def kill(self, signal: str) -> None:
        """Send a signal to the agent's process and to no other."""
        self.machine.systemctl("kill", "--kill-who=main", f"--signal={signal}", self.unit)

    def wait_for(self, ids: Sequence[str]) -> None:
        """Wait until all these events are in the store."""
        wanted = set(ids)
        until(lambda: wanted <= set(self.event_ids()), f"events of {self.unit} in the store", step_seconds=0.05)

    def wait_restarted(self, before: int) -> None:
        """Wait until systemd has started another agent than the one with this process id, and calls it started."""
        until(lambda: self.main_pid not in {0, before} and self.show("ActiveState") == "active", "another agent", step_seconds=0.1)

    def reasons(self) -> list[str]:
        """Return why each of its batches was sealed."""
        return [seal.manifest.reason.value for seal, _ in self._batches()]

    def event_ids(self) -> list[str]:
        """Return its events' ids in the order of the trail."""
        return [record["event"]["event_id"] for _, records in self._batches() for record in records if record["kind"] == "event"]

    def _batches(self) -> Iterator[tuple[Seal, list[dict[str, Any]]]]:
        ours = f"{self.settings['namespace']}/{self.settings['service']}/"
        return (batch for batch in self._trails.batches() if batch[0].checkpoint().origin.startswith(ours))

    def assert_once(self, ids: Sequence[str]) -> None:
        """Check that these events and no others are in the trail, each once and in order, and that no loss is stated."""
        assert self.event_ids() == list(ids)
        assert [record for _, records in self._batches() for record in records if record["kind"] == "gap"] == []
