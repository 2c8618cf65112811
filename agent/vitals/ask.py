"""Ask a running agent over the socket in its state directory.

It is what health checks run every minute, so it loads nothing of the server it asks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_NAME: Final = "agent.sock"
_MAX_SOCKET_PATH_BYTES: Final = 100
_STATUS_TIMEOUT_SECONDS: Final = 5.0


def fetch_status(state_directory: str) -> dict[str, Any]:
    """Ask the agent that runs on a state directory for its status (blocking).

    Args:
        state_directory: The directory from the configuration.

    Raises:
        StateError: No agent runs there, or it does not answer.
    """
    try:
        with short_path(state_directory) as path, contextlib.closing(_UnixConnection(path)) as connection:
            connection.request("GET", "/status")
            response = connection.getresponse()
            body = response.read()
            if response.status != http.client.OK:
                raise StateError(f"the agent on {state_directory} answered {response.status} {response.reason}")
            answer: dict[str, Any] = json.loads(body)
            return answer
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise StateError(f"no agent runs on {state_directory}", hint="Start one, or name its configuration with --config FILE.") from error
    except PermissionError as error:
        raise StateError(f"the agent's socket in {state_directory} is not yours to use", hint="Run this as the agent's user.") from error
    except TimeoutError as error:
        raise StateError(f"the agent on {state_directory} did not answer within {_STATUS_TIMEOUT_SECONDS:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StateError(f"the agent on {state_directory} gave no usable answer: {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    """Speak HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_STATUS_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextlib.contextmanager
def short_path(state_directory: str) -> Iterator[str]:
    """Yield a path of the socket that fits into ``sockaddr_un`` (108 bytes, unix(7)), however deep the directory lies."""
    plain = str(Path(state_directory) / SOCKET_NAME)
    if len(os.fsencode(plain)) <= _MAX_SOCKET_PATH_BYTES:
        yield plain
        return
    descriptor = os.open(state_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
