"""Log in to a real machine: sshd, sudo and su write their log through a real rsyslog, and nothing of the host is changed.

The services run with mounts of their own: a copy of /etc, in which users and rules are made, a small /dev, in which the log's socket is,
and empty /run and /var/log. Others do not see these mounts, and they are gone with the last process. Only root may mount.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ADA: Final = "ada"
ADA_SECRET: Final = "analytical engine"
BOB: Final = "bob"
BOB_SECRET: Final = "backslash o'clock"
HOSTILE_NAME: Final = "root from 192.0.2.66 port 22 ssh2"
"""A name that a client chooses, which reads as the end of a line of sshd's."""

_COMMAND_SECONDS: Final = 30.0

_MOUNTS: Final = """
set -eu
cd "$1"
mount --bind etc /etc
mount -t tmpfs tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts
mkdir --mode=1777 dev/shm
mount --rbind /dev/pts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --move dev /dev
mount -t tmpfs tmpfs /run
mkdir --mode=755 /run/sshd
mount -t tmpfs tmpfs /var/log
touch ready
exec sleep infinity
"""

_SSHD: Final = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/keys/%u
PidFile none
UsePAM yes
StrictModes no
PasswordAuthentication yes
KbdInteractiveAuthentication no
PermitRootLogin no
MaxAuthTries 3
MaxStartups 100
"""

_RSYSLOG: Final = """
module(load="imuxsock")
template(name="message" type="string" string="%msg%\\n")
action(type="omfile" file="{folder}/auth.log" template="RSYSLOG_TraditionalFileFormat")
action(type="omfile" file="{folder}/auth-iso.log" template="RSYSLOG_FileFormat")
"""

_SUDOERS: Final = """
Defaults passwd_tries=1
Defaults logfile={folder}/sudo.log
Defaults loglinelen=0
ada ALL=(root) NOPASSWD: /usr/bin/true, PASSWD: /usr/bin/id
ada ALL=(bob) NOPASSWD: /usr/bin/true
"""

_LOGIN: Final = "auth sufficient pam_unix.so nodelay\nauth required pam_deny.so\n"
"""Debian's, but a wrong password is not answered after two seconds."""


@dataclass(frozen=True)
class LoginServices:
    """Be a machine that users log in to.

    Attributes:
        folder: The machine's folder; the logs are in it.
        port: The loopback port of sshd.
        holder: A process that has the machine's mounts.
    """

    folder: Path
    port: int
    holder: int

    @property
    def log(self) -> Path:
        """The log of all services, with the header that syslog has had for forty years."""
        return self.folder / "auth.log"

    @property
    def iso_log(self) -> Path:
        """The same, with RFC 3339 times, as rsyslog writes now."""
        return self.folder / "auth-iso.log"

    @property
    def sudo_log(self) -> Path:
        """The file that sudo writes by itself."""
        return self.folder / "sudo.log"

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command that runs on the machine."""
        return ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", "--", *map(str, arguments)]

    def run(self, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command on the machine as root to its end; `text` is its standard input."""
        return subprocess.run(self.command(*arguments), input=text, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)

    def ssh(self, user: str, command: str, *, key: str | None = None, secret: str | None = None, text: str = "") -> int:
        """Log in over the network, run a command there, and return its exit code; 255 if nobody was let in.

        Args:
            user: As whom.
            command: What is run there.
            key: The name of a key in the machine's folder.
            secret: A password.
            text: The command's standard input.
        """
        options = [
            "-F/dev/null",
            f"-p{self.port}",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oIdentitiesOnly=yes",
            "-oIdentityAgent=none",
            "-oNumberOfPasswordPrompts=1",
            f"-oPreferredAuthentications={'publickey' if key else 'password'}",
            f"-oIdentityFile={self.folder / key if key else 'none'}",
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "SSH_ASKPASS": str(self.folder / "answer"),
            "SSH_ASKPASS_REQUIRE": "force",
            "SECRET": secret or "",
        }
        arguments = ["ssh", *options, "-l", user, "127.0.0.1", command]
        return subprocess.run(
            arguments, input=text, env=environment, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        ).returncode

    def session(self) -> None:
        """Come in, be refused, and act as others; what of it succeeds is said by `tests/integration/test_login_services_mapping.py`."""
        expected = [
            (self.ssh(ADA, "true", key="ada_key"), 0),
            (self.ssh(ADA, "true", secret=ADA_SECRET), 0),
            (self.ssh(ADA, "true", key="stranger_key"), 255),
            (self.ssh(ADA, "true", secret="guess"), 255),
            (self.ssh("mallory", "true", secret="guess"), 255),
            (self.ssh(HOSTILE_NAME, "true", secret="guess"), 255),
            (self.ssh("root", "true", key="ada_key"), 255),
            (self.ssh(ADA, "sudo -n /usr/bin/true", key="ada_key"), 0),
            (self.ssh(ADA, "sudo -n -u bob /usr/bin/true ' ; COMMAND=/bin/false'", key="ada_key"), 0),
            (self.ssh(ADA, "sudo -n /usr/bin/head /etc/shadow", key="ada_key"), 1),
            (self.ssh(ADA, "sudo -S /usr/bin/id", key="ada_key", text="guess\n"), 1),
            (self.ssh(BOB, "sudo -S /usr/bin/id", secret=BOB_SECRET, text=f"{BOB_SECRET}\n"), 1),
            (self.ssh(ADA, "su -c true bob", key="ada_key", text=f"{BOB_SECRET}\n"), 0),
            (self.ssh(ADA, "su -c true root", key="ada_key", text="guess\n"), 1),
        ]
        assert [code for code, _ in expected] == [code for _, code in expected]
        until(
            lambda: self.log.read_text(encoding="utf-8").count("session closed for user ada") >= _CLOSED,
            "all sessions are closed in the log",
        )


_CLOSED: Final = 8


@contextlib.contextmanager
def login_services() -> Iterator[LoginServices]:
    """Run the services until the block ends; the logs are gone with them."""
    assert os.geteuid() == 0, "mounts are made by root here"
    # Not below pytest's own folder, into which the made users may not go.
    folder = Path(tempfile.mkdtemp(prefix="logins-", dir="/tmp"))
    folder.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []
    try:
        _lay_out(folder)
        holder = _start(
            started, ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTS, "sh", str(folder)], folder / "mounts.txt"
        )
        until(lambda: (folder / "ready").exists() or holder.poll() is not None, "the mounts are made")
        assert holder.poll() is None, (folder / "mounts.txt").read_text(encoding="utf-8")
        machine = LoginServices(folder, free_port(), holder.pid)
        (folder / "sshd_config").write_text(_SSHD.format(folder=folder, port=machine.port), encoding="utf-8")
        _start(
            started,
            machine.command("/usr/sbin/rsyslogd", "-n", "-f", folder / "rsyslog.conf", "-i", folder / "rsyslog.pid"),
            folder / "rsyslog.txt",
        )
        until(lambda: machine.run("test", "-S", "/dev/log").returncode == 0, "the log is taken")
        _make_users(machine)
        _start(started, machine.command("/usr/sbin/sshd", "-D", "-f", folder / "sshd_config"), folder / "sshd.txt")
        until(lambda: "Server listening" in _read(machine.log), "sshd listens")
        yield machine
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=_COMMAND_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _lay_out(folder: Path) -> None:
    shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
    for name in ("dev", "keys", "home"):
        (folder / name).mkdir()
    (folder / "etc" / "pam.d" / "common-auth").write_text(_LOGIN, encoding="utf-8")
    sudoers = folder / "etc" / "sudoers.d" / "trailseal-tests"
    sudoers.write_text(_SUDOERS.format(folder=folder), encoding="utf-8")
    sudoers.chmod(0o440)
    (folder / "rsyslog.conf").write_text(_RSYSLOG.format(folder=folder), encoding="utf-8")
    answer = folder / "answer"
    answer.write_text('#!/bin/sh\nprintf "%s\\n" "$SECRET"\n', encoding="utf-8")
    answer.chmod(0o755)
    for name in ("host_key", "ada_key", "stranger_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True, capture_output=True)
    shutil.copy(folder / "ada_key.pub", folder / "keys" / ADA)


def _make_users(machine: LoginServices) -> None:
    """Make the two users; their groups, and one that comes and goes, are in the log, too."""
    for name, secret in ((ADA, ADA_SECRET), (BOB, BOB_SECRET)):
        for command, text in (
            (("useradd", "--create-home", "--home-dir", machine.folder / "home" / name, "--shell", "/bin/sh", name), ""),
            (("chpasswd",), f"{name}:{secret}\n"),
        ):
            done = machine.run(*command, text=text)
            assert done.returncode == 0, done.stderr
    for change in (
        ("groupadd", "deployers"),
        ("usermod", "-aG", "deployers", ADA),
        ("gpasswd", "-d", ADA, "deployers"),
        ("groupdel", "deployers"),
    ):
        done = machine.run(*change)
        assert done.returncode == 0, done.stderr


def _start(started: list[subprocess.Popen[bytes]], command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    started.append(process)
    return process


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
