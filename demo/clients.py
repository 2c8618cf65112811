"""The people who use the demo's service: a bounded number of requests over loopback.

Invariants: every request ends or fails within a few seconds; what was caused is known exactly, because the service names the
audit event of each answer. The module must not look at the trail.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

TIMEOUT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.2


class UnexpectedAnswerError(Exception):
    """The service answered with another status than the demo's story has."""


@dataclass
class Caused:
    """Hold what the clients caused.

    Attributes:
        requests: How many requests were made, by what they were for.
        event_ids: The audit events that the answers named, in order.
        without_actor: Those of them that the service printed without an actor.
        seconds: How long it took.
    """

    requests: dict[str, int] = field(default_factory=dict)
    event_ids: list[str] = field(default_factory=list)
    without_actor: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """The number of all requests."""
        return sum(self.requests.values())


def drive(port: int, seconds: float) -> Caused:
    """Use the service for a while: rounds of one story, with a pause between them, and at least one round.

    Args:
        port: The service's port on the loopback address.
        seconds: How long to begin new rounds.

    Raises:
        OSError: The service does not answer.
        UnexpectedAnswerError: It answers something else than the story has.
    """
    caused = Caused()
    began = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection:
        client = _Client(connection, caused)
        client.ask("refund (its handler forgets the actor)", 200, "POST", "/refunds", {"payment": "pay-77", "amount": 4200})
        caused.without_actor = list(caused.event_ids)
        while caused.total == 1 or time.monotonic() - began < seconds:
            _round(client)
            time.sleep(PAUSE_SECONDS)
    caused.seconds = time.monotonic() - began
    return caused


def _round(client: _Client) -> None:
    for _ in range(4):
        client.ask("health checks", 200, "GET", "/health")
    client.ask("wrong passwords", 401, "POST", "/login", {"user": "grace", "password": "guess"})
    client.ask("logins to a locked account", 403, "POST", "/login", {"user": "mallory", "password": "letmein"})
    client.session = client.ask("logins", 200, "POST", "/login", {"user": "ada", "password": "correct horse"})["session"]
    client.ask("role grants", 200, "POST", "/roles", {"user": "grace", "role": "billing-admin", "approval_id": "CHG-1007"})
    client.ask("role grants without approval", 403, "POST", "/roles", {"user": "mallory", "role": "billing-admin"})
    client.ask("exports", 200, "POST", "/exports", {"scope": "payouts 2026-Q1"})
    client.ask("changes of a setting", 200, "PUT", "/settings", {"setting": "payout_limit", "value": 5000})
    client.ask("reports that crash", 500, "GET", "/report")


class _Client:
    """Keeps one connection, one session, and count."""

    def __init__(self, connection: http.client.HTTPConnection, caused: Caused) -> None:
        self._connection = connection
        self._caused = caused
        self.session = ""

    def ask(self, what: str, status: int, method: str, path: str, body: dict[str, object] | None = None) -> dict[str, str]:
        """Make one request, count it, and return the answer's body."""
        self._connection.request(method, path, None if body is None else json.dumps(body), {"X-Session": self.session})
        answer = self._connection.getresponse()
        content: dict[str, str] = json.loads(answer.read())
        if answer.status != status:
            raise UnexpectedAnswerError(f"{method} {path}: {answer.status} instead of {status}")
        self._caused.requests[what] = self._caused.requests.get(what, 0) + 1
        event_id = answer.headers["X-Audit-Event"]
        if event_id:
            self._caused.event_ids.append(event_id)
        return content
