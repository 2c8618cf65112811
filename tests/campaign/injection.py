"""Inject faults at single system calls of the agent with strace, and see whether they were met.

strace counts the calls of each thread by itself, so a number means "the n-th such call of any one thread"; what a run really met is read
from its trace. With paths, only calls that name one of them, or a descriptor of one of them, are counted.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MARK: Final = "CAMPAIGN_MARK"
DURABLE_CALLS: Final = ("write", "pwrite64", "fsync", "fdatasync", "link", "unlink", "ftruncate", "fallocate", "mkdir")
READING_CALLS: Final = ("openat", "read", "pread64", "newfstatat", "getdents64")
_NO_DISK: Final = re.compile(r" write\(\d+<(?:anon_inode|pipe|socket|UNIX|/dev/pts)")
_CALL: Final = re.compile(r"^(\d+) +([a-z0-9_]+)\((.*)$")


class Call(NamedTuple):
    """One call of a traced run: the thread that made it, its name, its number among that thread's calls of the name, its text."""

    thread: int
    name: str
    number: int
    text: str


class Injection(NamedTuple):
    """What to do at which calls.

    Attributes:
        calls: The system calls' names.
        what: strace's words for it: `signal=KILL`, `error=EIO`, `delay_enter=50000`, `retval=0`.
        when: strace's words for the numbers: `12`, `12..40`, `3+`; empty for a run that is only traced.
        place: Which paths count: "" for all, or a name that the site's `places` knows.
    """

    calls: tuple[str, ...]
    what: str = ""
    when: str = ""
    place: str = ""


def command(injection: Injection, trace: Path, paths: Sequence[Path] = ()) -> list[str]:
    """Return the words that go before a command line so that it meets the injection.

    strace runs as the command's grandchild, so the process that is started is the command itself and ends as it ends.
    """
    names = ",".join(injection.calls)
    words = ["strace", "-D", "-f", "-q", "-e", "signal=none", "-o", str(trace), "-e", f"trace={names}"]
    if not injection.what.startswith("signal="):
        # The filter spares all other calls two stops each; strace 6.1 forgets to deliver an injected signal with it.
        words.append("--seccomp-bpf")
    if injection.what:
        words += ["-e", f"inject={names}:{injection.what}" + (f":when={injection.when}" if injection.when else "")]
    if injection.what.startswith("error=") and "write" in injection.calls:
        words.append("-y")
    for path in paths:
        words += ["-P", str(path)]
    return words


def counted(trace: Path) -> list[Call]:
    """Return the calls of a traced run, in their order."""
    numbers: dict[tuple[int, str], int] = {}
    found = []
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        key = (int(match[1]), match[2])
        numbers[key] = numbers.get(key, 0) + 1
        found.append(Call(*key, numbers[key], match[3]))
    return found


def met(trace: Path, injection: Injection) -> int:
    """Return how often a run met its injection, by what its trace says."""
    try:
        text = trace.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return 0
    if injection.what.startswith("signal="):
        return int(any(call.number == int(injection.when) and _is_last(call, text) for call in counted(trace)))
    return text.count("(DELAYED)" if injection.what.startswith("delay") else "(INJECTED)")


def _is_last(call: Call, text: str) -> bool:
    """Say whether a call never returned: that is all a trace shows of a process that was killed at it.

    Where another thread's end comes between, the call stands on two lines.
    """
    if not call.text.endswith("<unfinished ...>"):
        return call.text.endswith("= ?")
    resumed = f"{call.thread} <... {call.name} resumed>"
    return not any(line.startswith(resumed) and not line.endswith("= ?") for line in text.splitlines())


def is_impossible(trace: Path) -> bool:
    """Say whether a run met a disk's error where no disk is: in a write to an eventfd, pipe or socket, which no kernel answers so."""
    try:
        text = trace.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    return any("(INJECTED)" in line and _NO_DISK.search(line) is not None for line in text.splitlines())


def wrapper(folder: Path, python: str, tracing: Sequence[str]) -> Path:
    """Write a stand-in for the interpreter that puts the first worker of a relay under strace, and nothing else."""
    path = folder / "python"
    quoted = shlex.join(tracing)
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'"-P -m agent "*) mkdir "${MARK}" 2>/dev/null && exec {quoted} {shlex.quote(python)} "$@" ;;\n'
        "esac\n"
        f'exec {shlex.quote(python)} "$@"\n',
        encoding="ascii",
    )
    path.chmod(0o755)
    return path


def environment(mark: Path) -> dict[str, str]:
    """Return the environment in which a wrapper traces one worker."""
    return {**os.environ, MARK: str(mark)}
