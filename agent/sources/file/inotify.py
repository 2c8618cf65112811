"""Ask Linux to say when watched files change: inotify(7), by way of the C library that is loaded already.

Invariants: reading waits in the event loop and never blocks it; nothing is looked for on the disk and no process is started to
find the C library. It must not know what is watched, or why.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MODIFY: Final = 0x002
ATTRIB: Final = 0x004
MOVE_SELF: Final = 0x800

OVERFLOW_WATCH: Final = -1
"""The watch of an event that says that others were lost (IN_Q_OVERFLOW)."""
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
_HEADER: Final = struct.Struct("=iIII")  # watch, mask, cookie, and how many bytes of a name follow
_READ_BYTES: Final = 65_536


class Event(NamedTuple):
    """Be one change.

    Attributes:
        watch: What `add_watch` returned, or `OVERFLOW_WATCH`.
        mask: What happened, as bits.
    """

    watch: int
    mask: int


class Inotify:
    """Hold one inotify instance; close it when it is not needed any more."""

    def __init__(self) -> None:
        """Open it.

        Raises:
            OSError: There is none to be had (EMFILE, ENFILE), or no memory.
        """
        self._fd = _call("inotify_init1", _FLAGS)

    def add_watch(self, path: str, mask: int) -> int:
        """Watch a file and return the watch; the same inode gives the same watch.

        Raises:
            OSError: There are no more watches (ENOSPC), or the file cannot be watched.
        """
        return _call("inotify_add_watch", self._fd, os.fsencode(path), mask)

    def rm_watch(self, watch: int) -> None:
        """End a watch.

        Raises:
            OSError: There is no such watch; it ends by itself with its file.
        """
        _call("inotify_rm_watch", self._fd, watch)

    async def get(self) -> list[Event]:
        """Wait for events and return those that are there, in their order; for one task at a time.

        Raises:
            OSError: The instance cannot be read.
        """
        while True:
            try:
                raw = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                await self._readable()
            else:
                return _events(raw)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)

    def close(self) -> None:
        """End all watches; nobody may be waiting for events."""
        os.close(self._fd)


def _events(raw: bytes) -> list[Event]:
    """Take what was read apart; the kernel returns whole events only."""
    found = []
    at = 0
    while at < len(raw):
        watch, mask, _, name_bytes = _HEADER.unpack_from(raw, at)
        found.append(Event(watch, mask))
        at += _HEADER.size + name_bytes
    return found


@cache
def _function(name: str) -> Callable[..., int]:
    function: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    return function


def _call(name: str, *arguments: int | bytes) -> int:
    """Call a function of the C library and return what it returns, or raise the error it left."""
    result = _function(name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
