"""Make fsync and fdatasync of this very process hang for ever, as on a disk that has stopped to answer.

A seccomp filter hands the two calls to a supervisor that never says anything (seccomp_unotify(2)): the calling thread waits in the
kernel, the others run, and the process can be ended. No right is needed, and nothing outside of the process changes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import time
from pathlib import Path

_NUMBERS = {"x86_64": (317, 74, 75), "aarch64": (277, 82, 83)}
"""By machine: seccomp, fsync, fdatasync."""
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_FLAGS = 1 | 8 | 16  # all threads; with a listener; say ESRCH if a thread could not follow
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def hang_syncs() -> None:
    """Let every fsync and fdatasync of every thread of this process hang from now on.

    Raises:
        OSError: The kernel refused.
    """
    seccomp, *syncs = _NUMBERS[os.uname().machine]
    jumps = [(_JUMP_IF_EQUAL, len(syncs) - index, 0, number) for index, number in enumerate(syncs)]
    steps = [(_LOAD, 0, 0, 0), *jumps, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # The listener's descriptor stays open and unread: without one the calls would fail instead of waiting.
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(seccomp, _SET_MODE_FILTER, _FLAGS, ctypes.byref(program)) < 0:
        raise OSError(ctypes.get_errno(), "no filter for system calls could be installed")


def hang_syncs_once(marker: str) -> None:
    """Do so as soon as a file exists; returns at once."""

    def wait() -> None:
        while not Path(marker).exists():
            time.sleep(0.02)
        hang_syncs()
        Path(marker).unlink()

    threading.Thread(target=wait, daemon=True).start()
