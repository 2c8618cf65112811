"""Tell a service manager how the agent is: sd_notify(3), the protocol of systemd.

A message is one datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names; it takes no library, and none of
those that speak it is kept up. Invariants: nothing here waits, and nothing fails the agent: a manager that does not listen is
as good as none; once the end has begun, it is ready no more. The sign of life comes from the event loop, so that a loop that
stands still, or a process that does not run at all, is missed; other parts are the business of `agent.watchdog`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from .health import to_next_beat

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_STATUS_CHARACTERS: Final = 300


class Supervisor:
    """Speak to the service manager, if there is one.

    Attributes:
        watchdog_seconds: How soon a sign of life is missed; None where none is expected of this process.
    """

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        """Know where to send.

        Args:
            address: The socket's path, ``@…`` for an abstract one; empty for no manager.
            watchdog_seconds: See the attribute.
        """
        self.watchdog_seconds = watchdog_seconds
        # A leading null byte is how an abstract address is written.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self._stopping = self._told_ready = False

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Supervisor:
        """Return the one that the environment names, and take it out of there: no child shall speak in our name."""
        address, microseconds, process = (environ.pop(name, "") for name in VARIABLES)
        ours = microseconds.isdigit() and int(microseconds) > 0 and process in {"", str(os.getpid())}
        return cls(address, int(microseconds) / 1e6 if ours and address else None)

    def starting(self, what: str) -> None:
        """Say what the start waits for."""
        self._say_status(what)

    def ready(self) -> None:
        """Say that the agent reads its sources, or that it has taken a configuration over; nothing once it is stopping."""
        if not self._stopping:
            self._told_ready = True
            self._send("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` says that this is over."""
        if self._told_ready and not self._stopping:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, within_seconds: float) -> None:
        """Say that an orderly end has begun, and how long it may take."""
        if not self._stopping:
            self._stopping = True
            self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(within_seconds * 1e6)}")

    async def run(self, status: Callable[[], str]) -> None:
        """Give signs of life and keep the status current, until cancelled; once a second, as everything else of an idle agent.

        Args:
            status: Says in a line how the agent is.
        """
        while True:
            if self._address:
                self._say_status(status())
                if self.watchdog_seconds is not None:
                    self._send("WATCHDOG=1")
            pause = to_next_beat()
            await asyncio.sleep(pause if self.watchdog_seconds is None else min(pause, self.watchdog_seconds / 2))

    def _say_status(self, text: str) -> None:
        line = " ".join(text.split())[:_STATUS_CHARACTERS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def _send(self, message: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.sendto(message.encode(), self._address)
