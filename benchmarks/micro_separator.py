"""Measure the separator alone: one thread, one block, no files.

Prints, for each kind of block, the median and the best of several runs in lines per second and microseconds per line.
Run it as ``python benchmarks/micro_separator.py``; see ``--help`` for the block's size and the number of runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agent.events import AllRule, Catalog, FieldRule, PrefixRule, Rule, Validator
from agent.separator import Separator

if TYPE_CHECKING:
    from collections.abc import Callable

OBSERVED_AT = "2026-01-08T14:32:07.201934Z"
CATALOG = Catalog.from_mapping(
    {
        "format": 1,
        "actions": {
            "auth.login": {"category": "authentication", "sensitivity": "medium", "required_context": ["method"]},
            "role.grant": {"category": "authorization", "sensitivity": "high", "required_context": ["granted_role"]},
            "data.*": {"category": "data_access", "sensitivity": "medium"},
        },
    },
    "benchmark",
)


def event(number: int, rng: random.Random) -> dict[str, object]:
    """Make up one valid event of about 330 bytes in canonical form."""
    occurred = datetime(2026, 1, 8, 14, tzinfo=UTC) + timedelta(microseconds=number * 977 + 1)
    action = rng.choice(("auth.login", "role.grant", "data.read", "invoice.send"))
    context: dict[str, object] = {"ip": f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}", "attempt": rng.randrange(5)}
    context |= {"auth.login": {"method": "password"}, "role.grant": {"granted_role": "admin"}}.get(action, {"rows": rng.randrange(10**6)})
    return {
        "stream": "audit",
        "event_id": f"{rng.getrandbits(128):032x}",
        "occurred_at": occurred.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "actor": {"type": "user", "id": f"u-{rng.randrange(10**6)}", "session": f"s-{rng.getrandbits(32):08x}"},
        "action": action,
        "target": {"type": "account", "id": f"acct-{rng.randrange(10**6)}"},
        "outcome": rng.choice(("success", "failure", "denied")),
        "context": context,
    }


def observability(number: int, rng: random.Random) -> bytes:
    """Make up one access line of about 370 bytes."""
    line = {
        "ts": f"2026-01-08T14:32:{number % 60:02d}.201934Z",
        "level": "info",
        "logger": "http.access",
        "message": f'request "{number}" handled',
        "method": "GET",
        "path": f"/api/v1/accounts/{rng.randrange(10**6)}/invoices",
        "status": rng.choice((200, 204, 304, 404)),
        "duration_ms": rng.randrange(10**5) / 100,
        "request_id": f"{rng.getrandbits(128):032x}",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
        "bytes": rng.randrange(10**5),
    }
    return json.dumps(line, separators=(",", ":")).encode()


def compact(value: dict[str, object]) -> bytes:
    """Write an event without white space."""
    return json.dumps(value, separators=(",", ":")).encode()


def spaced(value: dict[str, object]) -> bytes:
    """Write an event as Python's json does by default."""
    return json.dumps(value).encode()


def block_of(block_bytes: int, line: Callable[[int], bytes]) -> bytes:
    """Fill a block with whole lines."""
    lines: list[bytes] = []
    size = 0
    while size < block_bytes:
        lines.append(line(len(lines)))
        size += len(lines[-1]) + 1
    return b"\n".join(lines) + b"\n"


def measure(name: str, block: bytes, rule: Rule, runs: int, *, keep: bool = False) -> None:
    """Separate a block several times and print one line of figures."""
    separator = Separator("app", rule, Validator(rule, CATALOG), keep_observability=keep, has_offsets=True)
    result = separator.separate(block, 10**9, OBSERVED_AT)
    seconds: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        separator.separate(block, 10**9, OBSERVED_AT)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    counts = f"{result.lines:6} lines {len(block) / result.lines:4.0f} B/line {result.events:6} events {result.quarantined:6} quarantined"
    speed = f"median {result.lines / median:11,.0f} lines/s {median / result.lines * 1e6:6.2f} us/line"
    print(f"{name:38} {counts}  {speed}  best {result.lines / min(seconds):11,.0f}")


def main() -> None:
    """Measure every kind of block."""
    parser = argparse.ArgumentParser(description="Measure the separator alone.")
    parser.add_argument("--block-bytes", type=int, default=1 << 20)
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--audit-share", type=float, default=0.1, help="share of audit lines in the mixed blocks")
    parser.add_argument("--gc", action="store_true", help="leave the cyclic garbage collector on")
    options = parser.parse_args()
    rng = random.Random(7)
    size, runs = options.block_bytes, options.runs
    if not options.gc:
        gc.disable()

    def mixed(write: Callable[[dict[str, object]], bytes]) -> bytes:
        return block_of(size, lambda n: write(event(n, rng)) if rng.random() < options.audit_share else observability(n, rng))

    all_compact, all_spaced = (block_of(size, lambda n, write=write: write(event(n, rng))) for write in (compact, spaced))  # type: ignore[misc]
    field = FieldRule()
    measure("mixed, compact", mixed(compact), field, runs)
    measure("mixed, compact, observability kept", mixed(compact), field, runs, keep=True)
    measure("mixed, spaced", mixed(spaced), field, runs)
    measure("all audit by tag, compact", all_compact, field, runs)
    measure("all audit by tag, spaced", all_spaced, field, runs)
    measure("all audit by source, compact", all_compact, AllRule(), runs)
    measure("all audit by prefix, compact", b"AUDIT " + all_compact[:-1].replace(b"\n", b"\nAUDIT ") + b"\n", PrefixRule("AUDIT "), runs)
    measure("all audit, nested contexts", all_compact.replace(b'"attempt":', b'"device":{"os":"linux"},"attempt":'), field, runs)
    measure("all audit, one bad line in 50", block_of(size, lambda n: compact(event(n, rng))[: None if n % 50 else -2]), field, runs)
    measure("all audit, every line without actor", all_compact.replace(b'"actor"', b'"actr"'), field, runs)
    measure("all audit, every line truncated", all_compact.replace(b"}}\n", b"\n"), field, runs)
    nested_only = all_compact.replace(b'"stream":"audit"', b'"copy":{"stream":"audit"}')
    measure("every line with the tag nested", nested_only, field, runs)
    measure("all audit, non-ASCII text escaped", all_compact.replace(b'"u-', b'"\\u00fc-'), field, runs)


if __name__ == "__main__":
    main()
