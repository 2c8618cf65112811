"""What the parent asks of the operating system: signals as a stream, children, file descriptors, its own log lines.

Invariants: every call returns at once; no log line carries a byte of a stream; children get the signal mask and the
dispositions this process was started with. Log lines leave by a thread, in their order, and the process's end waits a
second for them. It must not know what a stream or a worker is.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ..vitals.line_writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORWARDED: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH},
)
STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
# Python ignores these two at its start, and a program that inherits that never learns that its reader went away.
_RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_SENT_BY_KERNEL: Final = 128  # SI_KERNEL, sigaction(2)
_NOTE: Final = struct.Struct("=ii")
_LOG_BYTES: Final = 65_536


class Received(NamedTuple):
    """Say which signal came, and whether the kernel sent it to the whole foreground group (a key on the terminal)."""

    number: int
    from_terminal: bool


class Signals:
    """Turn signals into bytes on a pipe that `select.poll` can wait for.

    They are blocked and taken by `sigwaitinfo` in a thread of its own, because only that says who sent them: a Ctrl-C
    has reached the whole foreground group already, so forwarding it would make the service see it twice.
    """

    def __init__(self) -> None:
        """Block the signals in this thread, which must be the main one, and begin to take them."""
        taken = FORWARDED | {signal.SIGCHLD}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would lose the children's exit codes
        self.inherited_mask = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
        self.fd, write_fd = os.pipe()
        threading.Thread(target=self._take, args=(taken, write_fd), name="signals", daemon=True).start()

    @staticmethod
    def _take(taken: frozenset[signal.Signals], write_fd: int) -> None:
        while True:
            info = signal.sigwaitinfo(taken)
            os.write(write_fd, _NOTE.pack(info.si_signo, info.si_code))

    def read(self) -> list[Received]:
        """Return what came since the last call; call it when `fd` is readable."""
        raw = os.read(self.fd, _NOTE.size * 64)
        return [Received(number, code == _SENT_BY_KERNEL) for number, code in _NOTE.iter_unpack(raw)]


def spawn(argv: Sequence[str], environ: Mapping[str, str], mask: set[int], descriptors: Mapping[int, int | None]) -> int:
    """Start a program in this process's group and return its process id.

    Args:
        argv: The program, looked up on PATH, and its arguments.
        environ: Its environment.
        mask: Its signal mask.
        descriptors: Which of our descriptors becomes which of its own; None gives it /dev/null.

    Raises:
        OSError: It could not be started (not found, not executable, no memory).
    """
    return os.posix_spawnp(argv[0], list(argv), environ, file_actions=_actions(descriptors), setsigmask=mask, setsigdef=_RESTORED)


def spawn_apart(argv: Sequence[str], environ: Mapping[str, str], mask: set[int], passed: Sequence[int]) -> int:
    """Start a program in a process group of its own, so that keys on the terminal do not reach it.

    Args:
        argv: The program, looked up on PATH, and its arguments.
        environ: Its environment.
        mask: Its signal mask.
        passed: Descriptors it inherits under the same numbers; its standard input is /dev/null.

    Raises:
        OSError: It could not be started.
    """
    for fd in passed:
        os.set_inheritable(fd, True)  # noqa: FBT003 - the function takes it by position only
    try:
        return os.posix_spawnp(
            argv[0], list(argv), environ, file_actions=_actions({0: None}), setsigmask=mask, setsigdef=_RESTORED, setpgroup=0
        )
    finally:
        for fd in passed:
            os.set_inheritable(fd, False)  # noqa: FBT003 - as above


def _actions(descriptors: Mapping[int, int | None]) -> list[tuple[int, int, str, int, int] | tuple[int, int, int]]:
    return [
        (os.POSIX_SPAWN_OPEN, theirs, os.devnull, os.O_RDWR, 0) if ours is None else (os.POSIX_SPAWN_DUP2, ours, theirs)
        for theirs, ours in descriptors.items()
    ]


def reap() -> dict[int, int]:
    """Return the exit code of every child that has ended, by process id; 128 + n for one ended by signal n."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code


def tell(pid: int, number: int) -> None:
    """Send a signal to a child that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def readable(fd: int) -> bool:
    """Say whether a read would return at once."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def keep_standard_descriptors_taken() -> None:
    """Open /dev/null in place of a closed standard descriptor, so that no pipe of ours gets its number."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)  # noqa: FBT003 - as above
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def log(level: str, event: str, **fields: str | float | None) -> None:
    """Log one JSON line to standard error; it is dropped and counted where nobody reads, and nobody waits."""
    _standard_error.put(_log_line(level, event, fields))


def _log_line(level: str, event: str, fields: Mapping[str, str | float | None]) -> bytes:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    return json.dumps({"time": stamp, "level": level, "event": event, "program": "relay", **fields}).encode()


def _note_dropped(lines: int) -> bytes:
    return _log_line("warning", "log lines were dropped, as nobody read them", {"lines": lines})


_standard_error: Final = LineWriter(2, _note_dropped, _LOG_BYTES)
atexit.register(_standard_error.wait)
