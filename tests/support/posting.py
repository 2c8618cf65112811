"""Post events to a socket source as a service would, over plain sockets."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple

ONE = "application/json"
LINES = "application/x-ndjson"


class Answer(NamedTuple):
    """One answer: status, headers in small letters, and the JSON in it (None without a body)."""

    status: int
    headers: dict[str, str]
    body: Any


class Client(http.client.HTTPConnection):
    """One connection to a TCP port of the loopback interface, or to a path."""

    def __init__(self, where: int | str, timeout: float = 40.0) -> None:
        """Name the place; the first request connects."""
        super().__init__("127.0.0.1", where if isinstance(where, int) else None, timeout=timeout)
        self._where = where

    def connect(self) -> None:
        """Connect."""
        if isinstance(self._where, int):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._where)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request and read its answer; underscores in names of headers stand for hyphens."""
        self.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = self.getresponse()
        raw = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(raw) if raw else None)

    def post(self, body: bytes, content_type: str = LINES, query: str = "", **headers: str) -> Answer:
        """Post a body to the events."""
        return self.ask("POST", f"/v1/events{query}", body, Content_Type=content_type, **headers)


def takes_connections(path: str) -> bool:
    """Tell whether somebody listens on a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
