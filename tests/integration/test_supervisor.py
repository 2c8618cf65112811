"""What a service manager hears of the agent, over the protocol of sd_notify(3)."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from agent.vitals.supervisor import VARIABLES, Supervisor
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class Manager:
    """Be the manager's end of the socket."""

    def __init__(self, address: str) -> None:
        """Listen at a path, or at an abstract address."""
        self.address = address
        self._messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """Return everything that was said, in order."""
        while True:
            try:
                self._messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return list(self._messages)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify.sock") if request.param == "path" else f"@trailseal-test-{os.getpid()}")
    yield manager
    manager.close()


def environment(manager: Manager, **more: str) -> dict[str, str]:
    return os.environ | {"NOTIFY_SOCKET": manager.address} | more


def test_the_manager_hears_of_the_start_a_reload_signs_of_life_and_the_end(tmp_path: Path, manager: Manager) -> None:
    site = Site(tmp_path / "site")
    with site.run(env=environment(manager, WATCHDOG_USEC="1000000")) as agent:
        until(lambda: "READY=1" in manager.heard(), "READY=1")
        assert manager.heard()[0] == "STATUS=opening the spool"
        until(lambda: "STATUS=ready; every batch is stored" in manager.heard(), "the status")
        until(lambda: manager.heard().count("WATCHDOG=1") >= 6, "six signs of life")
        agent.process.send_signal(signal.SIGHUP)
        until(lambda: manager.heard().count("READY=1") == 2, "the end of the reload")
        reloading = next(message for message in manager.heard() if message.startswith("RELOADING=1\nMONOTONIC_USEC="))
        assert abs(int(reloading.rpartition("=")[2]) / 1e6 - time.monotonic()) < 60
        assert manager.heard().index(reloading) < len(manager.heard()) - 1 - manager.heard()[::-1].index("READY=1")
        assert agent.stop() == 0
    last = [message for message in manager.heard() if not message.startswith(("STATUS", "WATCHDOG"))]
    assert last[-1] == "STOPPING=1\nEXTEND_TIMEOUT_USEC=27000000"
    assert last.count("READY=1") == 2


def test_a_store_that_is_away_shows_in_the_status(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "store").write_text("not a folder")
    site = Site(tmp_path / "site")
    with site.run(env=environment(manager)):
        until(lambda: any(message.startswith("STATUS=not ready: store main: ") for message in manager.heard()), "the trouble")
        until(lambda: "READY=1" in manager.heard(), "READY=1, store or no store")
        assert "WATCHDOG=1" not in manager.heard()


def test_beside_a_command_the_agent_is_silent_and_the_command_keeps_the_socket(tmp_path: Path, manager: Manager) -> None:
    site = Site(tmp_path / "site", sources=None)
    program = "import os,socket\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\na=os.environ['NOTIFY_SOCKET']\n"
    program += "s.sendto(b'READY=1\\nX_FROM=service', chr(0)+a[1:] if a[0]=='@' else a)"
    with site.run("exec", "--", "python3", "-c", program, env=environment(manager)) as agent:
        assert agent.process.wait(40) == 0, agent.log
    assert manager.heard() == ["READY=1\nX_FROM=service"]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_signs_of_life_are_given_where_they_are_expected_of_this_process(environ: dict[str, str], seconds: float | None) -> None:
    given = {"NOTIFY_SOCKET": "/nowhere", "HOME": "/", **environ}
    supervisor = Supervisor.of(given)
    assert supervisor.watchdog_seconds == seconds
    assert not given.keys() & set(VARIABLES)
    supervisor.ready()  # nobody listens there, which is no error
