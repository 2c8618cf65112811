"""Make log lines that look like a service's: quickly, and the same ones for the same seed.

    python benchmarks/generate.py mixed --lines 2000000 --out mixed.log
    python benchmarks/generate.py audit --lines 1000 --rate 100

`mixed` is one audit event in ten lines among access lines, application lines and stack traces, 367 bytes a line on average;
`audit` is audit events only, about 330 bytes each. Every event is valid by the schema and by the shipped catalog, and every
event_id occurs once.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED: Final = 20260108
CHUNK_LINES: Final = 8000
KINDS: Final = ("mixed", "audit")
_FIRST: Final = datetime(2026, 1, 8, 14, 0, tzinfo=UTC)
_STEP_MICROSECONDS: Final = 137

_EVENTS: Final = (
    ("auth.login", "authn", '"ip":"10.%d.7.%d","method":"password","mfa":true'),
    ("auth.login", "authn", '"ip":"10.%d.9.%d","method":"sso","provider":"okta"'),
    ("session.create", "session", '"ip":"172.16.%d.%d","device":"laptop"'),
    ("role.grant", "account", '"granted_role":"admin","approval_id":"CHG-%d%d"'),
    ("role.revoke", "account", '"revoked_role":"billing","ticket":"OPS-%d%d"'),
    ("invoice.send", "invoice", '"amount_cents":9%d00,"currency":"EUR","attempt":%d'),
    ("document.read", "document", '"pages":%d,"classification":"internal","size":%d'),
    ("api_token.use", "token", '"scope":"read:ledger","route":"/v2/ledger/%d","hits":%d'),
)
_OUTCOMES: Final = ("success", "success", "success", "success", "success", "failure", "denied", "unknown")
_ACTORS: Final = ("user", "user", "user", "service")
_METHODS: Final = ("GET", "GET", "GET", "POST", "PUT", "DELETE", "PATCH", "GET")
_STATUSES: Final = (200, 200, 200, 201, 204, 304, 404, 500)
_ROUTES: Final = ("accounts", "invoices", "ledgers", "documents", "sessions", "exports", "roles", "audit-reports")
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "payments-client/4.12.1 (linux; arm64) okhttp/4.12.0 build/20251104",
)
_MESSAGES: Final = (
    "cache refreshed",
    "retrying upstream call, connection reset by peer",
    'template \\"monthly statement\\" rendered',
    "queue depth within limits, nothing to do",
)
_FRAMES: Final = (
    "\tat com.example.payments.ledger.LedgerService.post(LedgerService.java:{0})",
    "\tat com.example.payments.web.AuditController.list(AuditController.java:{0})",
    "\tat org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:{0}) [spring-webmvc-6.1.14.jar:6.1.14]",
    "\tat java.base/java.util.concurrent.ThreadPoolExecutor$Worker.run(ThreadPoolExecutor.java:{0}) ~[na:na]",
)
_TRACE_FRAMES: Final = 7


def _time_texts(first: int, count: int) -> list[str]:
    """Return the times of some lines, RFC 3339 without the Z, microseconds included."""
    begin = _FIRST + timedelta(microseconds=first * _STEP_MICROSECONDS)
    return [(begin + timedelta(microseconds=step * _STEP_MICROSECONDS)).isoformat(timespec="microseconds")[:26] for step in range(count)]


def _event(when: str, bits: int, unique: int) -> str:
    """Return one valid audit event."""
    action, target, context = _EVENTS[bits & 7]
    return (
        f'{{"stream":"audit","event_id":"{bits >> 96:08x}-{unique:010x}","occurred_at":"{when}Z",'
        f'"actor":{{"type":"{_ACTORS[bits >> 3 & 3]}","id":"u-{bits >> 8 & 0xFFFFF}","session":"s-{bits >> 28 & 0xFFFFFFFF:08x}"}},'
        f'"action":"{action}","target":{{"type":"{target}","id":"{target}-{bits >> 60 & 0xFFFFFF}"}},'
        f'"outcome":"{_OUTCOMES[bits >> 5 & 7]}",'
        f'"context":{{{context % (bits >> 84 & 0xFF, bits >> 92 & 0xFF)},"trace":"{bits >> 40 & 0xFFFFFF:06x}"}}}}'
    )


def _access(when: str, bits: int) -> str:
    """Return one access line."""
    return (
        f'{{"ts":"{when}Z","level":"info","logger":"http.access","msg":"request handled","request_id":"{bits:032x}",'
        f'"method":"{_METHODS[bits & 7]}","path":"/api/v1/{_ROUTES[bits >> 3 & 7]}/{bits >> 6 & 0xFFFFF}/items?page={bits >> 26 & 0xFF}",'
        f'"status":{_STATUSES[bits >> 34 & 7]},"duration_ms":{(bits >> 37 & 0xFFFF) / 100},"bytes":{bits >> 53 & 0xFFFF},'
        f'"remote":"10.{bits >> 69 & 0xFF}.{bits >> 77 & 0xFF}.{bits >> 85 & 0xFF}","user_agent":"{_AGENTS[bits >> 93 & 3]}",'
        f'"trace":"{bits >> 63 ^ bits & 0xFFFFFFFFFFFFFFFF:016x}"}}'
    )


def _application(when: str, bits: int) -> str:
    """Return one line of an application's own log."""
    return (
        f'{{"ts":"{when}Z","level":"debug","logger":"payments.worker-{bits & 31}","msg":"{_MESSAGES[bits >> 5 & 3]}",'
        f'"job":"{bits >> 7 & 0xFFFFFFFFFF:010x}","elapsed_ms":{bits >> 47 & 0xFFF}}}'
    )


def _trace(when: str, bits: int) -> list[str]:
    """Return a stack trace: a header and its frames, one line each."""
    head = f"{when[:23]} ERROR 1 --- [nio-8080-exec-{bits & 31}] c.e.p.Ledger : posting {bits >> 5 & 0xFFFFFF} failed: java.io.IOException"
    return [head, *(_FRAMES[bits >> (29 + 2 * step) & 3].format(bits >> (43 + 9 * step) & 0x1FF) for step in range(_TRACE_FRAMES))]


def _mixed_chunk(rng: random.Random, first: int, count: int) -> list[str]:
    lines: list[str] = []
    times = _time_texts(first, count)
    # One draw a line, as 128 bits of which each maker takes what it needs.
    draws = rng.getrandbits(128 * count).to_bytes(16 * count, "little")
    while len(lines) < count:
        number = len(lines)
        bits = int.from_bytes(draws[16 * number : 16 * number + 16], "little")
        choice = (bits >> 101) % 1000
        if choice < 110:
            lines.append(_event(times[number], bits, first + number))
        elif choice < 935:
            lines.append(_access(times[number], bits))
        elif choice < 986:
            lines.append(_application(times[number], bits))
        else:
            lines += _trace(times[number], bits)
    return lines[:count]


def _audit_chunk(rng: random.Random, first: int, count: int) -> list[str]:
    draws = rng.getrandbits(128 * count).to_bytes(16 * count, "little")
    return [
        _event(when, int.from_bytes(draws[16 * number : 16 * number + 16], "little"), first + number)
        for number, when in enumerate(_time_texts(first, count))
    ]


def chunks(kind: str, lines: int, seed: int = SEED, chunk_lines: int = CHUNK_LINES) -> Iterator[bytes]:
    """Yield a log in pieces of whole lines.

    Args:
        kind: `mixed` or `audit`.
        lines: How many lines altogether.
        seed: Where the made-up values come from; the same seed (and piece length) gives the same bytes.
        chunk_lines: Lines in a piece.
    """
    rng = random.Random(seed)
    make = _mixed_chunk if kind == "mixed" else _audit_chunk
    for first in range(0, lines, chunk_lines):
        yield ("\n".join(make(rng, first, min(chunk_lines, lines - first))) + "\n").encode("ascii")


def write(kind: str, lines: int, path: Path, seed: int = SEED) -> tuple[int, int]:
    """Write a log to a file.

    Returns:
        Its size in bytes, and how many audit events it holds.
    """
    size = events = 0
    with path.open("wb", buffering=0) as file:
        for chunk in chunks(kind, lines, seed):
            file.write(chunk)
            size += len(chunk)
            events += chunk.count(b'{"stream":"audit"')
    return size, events


def _pour(kind: str, lines: int, seed: int, rate: float) -> None:
    """Write to standard output, at a rate in lines per second if there is one."""
    out = sys.stdout.buffer
    step = 1 if 0 < rate <= 1000 else (max(1, int(rate / 100)) if rate else CHUNK_LINES)
    begin = time.monotonic()
    for number, chunk in enumerate(chunks(kind, lines, seed, step), 1):
        out.write(chunk)
        if rate:
            out.flush()
            time.sleep(max(0.0, begin + number * step / rate - time.monotonic()))


def main() -> None:
    """Write one log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--rate", type=float, default=0.0, help="lines per second, to standard output only; 0 is as fast as possible")
    parser.add_argument("--out", type=Path, help="the file; standard output by default")
    options = parser.parse_args()
    if options.out is None:
        _pour(options.kind, options.lines, options.seed, options.rate)
        return
    begin = time.perf_counter()
    size, events = write(options.kind, options.lines, options.out, options.seed)
    seconds = time.perf_counter() - begin
    share = f"{size / options.lines:.0f} bytes a line, {events:,} audit events ({events / options.lines:.1%})"
    print(f"{options.lines:,} lines, {size / 1e6:,.0f} MB, {share}, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
