"""Have the kernel audit what happens on a made machine, and the real auditd write it down.

There is one audit system for the whole kernel, so nothing is done if another auditd has it; the rules made here name one made user, or
files in the machine's folder, and are deleted afterwards, and the audit is off again if it was.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.login_services import LoginServices

_SECONDS: Final = 30.0

_SETTINGS: Final = """
log_file = {folder}/audit.log
log_format = RAW
log_group = root
flush = NONE
max_log_file = 8
max_log_file_action = IGNORE
name_format = NONE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
"""


@contextlib.contextmanager
def kernel_audit(machine: LoginServices, *rules: str) -> Iterator[Path]:
    """Audit by some rules until the block ends, and give the log's file, which is complete then.

    Args:
        machine: Where auditd runs.
        rules: As auditctl takes them: ``-a always,exit …`` or ``-w PATH …``.
    """
    before = _status(machine)
    assert before["pid"] == "0", "another auditd has the kernel's audit"
    folder = machine.folder / "auditd"
    (folder / "plugins.d").mkdir(parents=True)
    folder.chmod(0o750)
    (folder / "auditd.conf").write_text(_SETTINGS.format(folder=folder), encoding="utf-8")
    log = folder / "audit.log"
    made: list[str] = []
    with (folder / "output.txt").open("wb") as output:
        daemon = subprocess.Popen(machine.command("/sbin/auditd", "-n", "-s", "enable", "-c", folder), stdout=output, stderr=output)
    try:
        until(lambda: daemon.poll() is not None or _status(machine)["pid"] == str(daemon.pid), "auditd has the kernel's audit")
        assert daemon.poll() is None, (folder / "output.txt").read_text(encoding="utf-8")
        for rule in rules:
            done = machine.run("/sbin/auditctl", *rule.split())
            assert done.returncode == 0, done.stderr
            made.append(rule)
        yield log
    finally:
        for rule in made:
            machine.run("/sbin/auditctl", *rule.replace("-a ", "-d ", 1).replace("-w ", "-W ", 1).split())
        machine.run("/sbin/auditctl", "-e", before["enabled"])
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=_SECONDS)


def _status(machine: LoginServices) -> dict[str, str]:
    done = machine.run("/sbin/auditctl", "-s")
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
