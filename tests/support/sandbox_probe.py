"""Run in an agent's place under systemd, and find out what the sandbox allows; writes found.json into the state directory.

Uses the standard library only, and no module of the tests: it is copied into the machine.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LIBC: Final = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER: Final = 0x10000000
SCHED_FIFO: Final = 1
PERSONA_UNAME26: Final = 0x0020000
STATE: Final = os.environ["STATE_DIRECTORY"]
FOLDERS: Final = (
    *("/", "/dev", "/dev/shm", "/etc", "/etc/trailseal", "/home", "/opt/trailseal", "/root", "/run", os.environ["RUNTIME_DIRECTORY"]),
    *(
        "/srv",
        "/srv/trail",
        "/sys",
        "/sys/fs/cgroup",
        "/tmp",
        "/usr",
        "/var",
        "/var/lib",
        "/var/lib/trailseal",
        STATE,
        "/var/log",
        "/var/tmp",
    ),
)


def refused(attempt: Callable[[], object]) -> bool:
    """Tell whether an attempt fails with an error of the system."""
    try:
        return attempt() == -1
    except OSError:
        return True


def writable(folder: str) -> bool:
    """Tell whether a file can be made in a folder."""
    path = Path(folder, "probe")
    return not refused(path.touch)


def attempts() -> dict[str, Callable[[], object]]:
    """Return what must not be possible, by a name."""
    return {
        "another user": lambda: os.setuid(0),
        "a namespace": lambda: LIBC.unshare(CLONE_NEWUSER),
        "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "memory that is written and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
        "real-time scheduling": lambda: os.sched_setscheduler(0, SCHED_FIFO, os.sched_param(1)),
        "another personality": lambda: LIBC.personality(PERSONA_UNAME26),
        "a set-user-ID file": lambda: Path("/tmp/suid").touch(mode=0o4755),
        "a file of another owner": lambda: os.chown("found.json", 0, 0),
        "a mount": lambda: LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "the host's name": lambda: socket.sethostname("other"),
        "a kernel setting": lambda: Path("/proc/sys/kernel/hostname").write_text("other", encoding="ascii"),
        "the kernel's log": lambda: Path("/dev/kmsg").read_bytes(),
        "a disk": lambda: os.open("/dev/vda", os.O_RDONLY),
        "root's credentials": lambda: list(Path("/etc/trailseal/credentials").iterdir()),
        "somebody's home": lambda: Path("/home/somebody/file").read_bytes(),
        "the kernel's keyring": lambda: LIBC.syscall(250, 0, -3, 1),
        "a debugger": lambda: LIBC.ptrace(16, 1, 0, 0),
    }


def status() -> dict[str, str]:
    """Return the fields of this process's status."""
    return dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if ":\t" in line)


def main() -> None:
    """Try everything and write down what came of it."""
    state = Path(STATE)
    fields = status()
    tried = attempts()
    (state / "found.json").touch()
    found = {
        "uid": os.getuid(),
        "capabilities": {name: int(value, 16) for name, value in fields.items() if name.startswith("Cap")},
        "writable": [folder for folder in FOLDERS if writable(folder)],
        "tried": list(tried),
        "refused": [name for name, attempt in tried.items() if refused(attempt)],
        "adjtimex": LIBC.adjtimex(ctypes.create_string_buffer(512)),
        "credential": Path(os.environ["CREDENTIALS_DIRECTORY"], "credential_secret").read_text(encoding="ascii"),
        "others_processes": [each.name for each in Path("/proc").iterdir() if each.name.isdigit() and int(each.name) != os.getpid()],
        "state_mode": oct(state.stat().st_mode & 0o7777),
    }
    (state / "found.json").write_text(json.dumps(found), encoding="ascii")


main()
