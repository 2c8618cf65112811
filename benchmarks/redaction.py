"""Measure what redaction costs: events in which nothing is found, and events in which something is.

Run it with ``python -m benchmarks.redaction``; it prints events per second, the best of five runs.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from agent.events.redaction import BUILT_IN, PathRule, PatternRule, PseudonymKey, Redactor, Treatment

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENTS = 2560
BLOCK_EVENTS = 256
RUNS = 5


def events(**context: str) -> list[bytes]:
    """Make events of some 330 bytes."""
    return [
        json.dumps(
            {
                "event_id": f"0190a5f2-7c1e-7b3a-9d{number:08x}",
                "occurred_at": "2026-01-08T14:32:07.123456Z",
                "actor": {"type": "user", "id": f"u_{number}", "session": "s-1"},
                "action": "role.grant",
                "target": {"type": "user", "id": "u_9013"},
                "outcome": "success",
                "context": {"granted_role": "admin", "source_ip": "192.0.2.1", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)"} | context,
                "stream": "audit",
            },
            separators=(",", ":"),
        ).encode()
        for number in range(EVENTS)
    ]


def rate(redactor: Redactor, lines: Sequence[bytes]) -> float:
    """Return events per second."""
    best = 0.0
    for _ in range(RUNS):
        began = time.perf_counter()
        for first in range(0, len(lines), BLOCK_EVENTS):
            redactor.redact_events(lines[first : first + BLOCK_EVENTS])
        best = max(best, len(lines) / (time.perf_counter() - began))
    return best


def mapped_rate(redactor: Redactor) -> float:
    """Return lines per second of which a mapping made events, each with two names in it that are redacted in event and line."""
    line = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "stage": "ResponseComplete",
        "requestURI": "/apis/rbac.authorization.k8s.io/v1/rolebindings",
        "verb": "create",
        "user": {"username": "alice@example.com", "groups": ["system:authenticated"]},
        "sourceIPs": ["192.0.2.1"],
        "responseStatus": {"code": 201},
        "requestObject": {
            "roleRef": {"name": "admin", "kind": "Role"},
            "subjects": [{"kind": "User", "name": "bob@example.com"}] * 3,
            "metadata": {"labels": {f"key-{number}": f"value-{number}" for number in range(16)}},
        },
    }
    raw = json.dumps(line, separators=(",", ":")).encode()
    event = events()[0].replace(b'"u_0"', b'"alice@example.com"').replace(b'"u_9013"', b'"bob@example.com"')
    best = 0.0
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(EVENTS):
            redactor.redact_mapping(event, raw)
        best = max(best, EVENTS / (time.perf_counter() - began))
    return best


def main() -> None:
    """Measure and print."""
    key = PseudonymKey(bytes(32))
    mask, hashed = Treatment("mask"), Treatment("hash", key=key)
    redactors = {
        "all patterns": Redactor((), [PatternRule.of(name, mask) for name in BUILT_IN], key),
        "path context.email": Redactor([PathRule.of("context.email", hashed)], (), key),
        "path actor.id": Redactor([PathRule.of("actor.id", hashed)], (), key),
    }
    for name, redactor in redactors.items():
        for kind, lines in (("nothing to find", events()), ("an address in each", events(email="alice@example.com"))):
            print(f"{name:24} {kind:20} {rate(redactor, lines):>12,.0f} events/s")
    names = [PathRule.of("actor.id", hashed), PathRule.of("target.id", hashed)]
    by = {"paths of who and whom": Redactor(names, (), key), "pattern email": Redactor((), [PatternRule.of("email", hashed)], key)}
    for name, redactor in by.items():
        print(f"{name:24} {'event and its line':20} {mapped_rate(redactor):>12,.0f} lines/s")


if __name__ == "__main__":
    main()
