"""Make deterministic log lines, mixed or all audit, and write them as a service would: in steps, with rotation.

Line `n` of a run is the same bytes whenever and wherever it is asked for, so a test knows what must be in the trail. Among
the lines that are not audit are some in which the words of the tag occur without being one. Run as a program it writes to
standard output, or to a file that it rotates by renaming (`app.log` → `app.log.1` → `app.log.2` …).
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIT_EVERY: Final = 10
_LOOK_SECONDS: Final = 0.05
_FIRST: Final = datetime(2026, 1, 8, 14, 0, tzinfo=UTC)
_ACTORS: Final = (
    '{"type":"user","id":"ada@example.com","session":"s-%d"}',
    '{"type":"service","id":"billing"}',
    '{"type":"system","id":"scheduler","session":null}',
    '{"type":"user","id":"zo\u00eb \\"z\\" m\u00fcller"}',
)
_ACTIONS: Final = ("user.login", "role.grant", "data.export", "record.update")
_OUTCOMES: Final = ("success", "success", "success", "denied", "failure", "unknown")
_OTHERS: Final = (
    '10.0.0.%d - - [08/Jan/2026:14:32:07 +0000] "GET /items/%d HTTP/1.1" 200 512 "-" "curl/8.5"',
    '{"level":"info","msg":"cache refreshed","items":%d,"number":%d}',
    '{"level":"debug","msg":"sent {\\"stream\\":\\"audit\\"} to %d","number":%d}',
    '{"level":"warn","nested":{"stream":"audit","of":%d},"number":%d}',
    '\tat com.example.Ledger.post(Ledger.java:%d) stream "audit" %d',
)


def event_id(number: int, run: str = "run") -> str:
    """Return the event_id of the audit line with this number."""
    return f"{run}-{number:08d}"


def audit_line(number: int, run: str = "run") -> bytes:
    """Return one valid audit line, ended by a newline."""
    actor = _ACTORS[number // 3 % len(_ACTORS)]
    text = (
        f'{{"stream":"audit","event_id":"{event_id(number, run)}",'
        f'"occurred_at":"{_FIRST + timedelta(milliseconds=number):%Y-%m-%dT%H:%M:%S.%f}Z",'
        f'"actor":{actor.replace("%d", str(number % 97))},"action":"{_ACTIONS[number % len(_ACTIONS)]}",'
        f'"target":{{"type":"account","id":"acct-{number % 1009}"}},"outcome":"{_OUTCOMES[number % len(_OUTCOMES)]}",'
        f'"context":{{"request_id":"req-{number:x}","granted_role":"viewer","rows":{number % 5000}}}}}\n'
    )
    return text.encode()


def other_line(number: int) -> bytes:
    """Return one line that is not audit, ended by a newline."""
    return (_OTHERS[number % len(_OTHERS)] % (number % 251, number)).encode() + b"\n"


def is_audit(number: int, audit_every: int = AUDIT_EVERY) -> bool:
    """Say whether the line with this number is an audit line."""
    return number % audit_every == 0


def line(number: int, audit_every: int = AUDIT_EVERY, run: str = "run") -> bytes:
    """Return the line with this number: every `audit_every`-th is audit (1: all of them)."""
    return audit_line(number, run) if is_audit(number, audit_every) else other_line(number)


def block(first: int, count: int, audit_every: int = AUDIT_EVERY, run: str = "run") -> bytes:
    """Return `count` lines from number `first` on, as one piece."""
    return b"".join([line(number, audit_every, run) for number in range(first, first + count)])


def event_ids(count: int, audit_every: int = AUDIT_EVERY, run: str = "run") -> list[str]:
    """Return the event_ids of all audit lines among the first `count` lines, in order."""
    return [event_id(number, run) for number in range(count) if is_audit(number, audit_every)]


def others(count: int, audit_every: int = AUDIT_EVERY) -> bytes:
    """Return what passes through of the first `count` lines."""
    return b"".join([other_line(number) for number in range(count) if not is_audit(number, audit_every)])


def blocks(
    count: int,
    step: int,
    seconds: float,
    audit_every: int = AUDIT_EVERY,
    run: str = "run",
    *,
    first: int = 0,
    hurry: Path | None = None,
) -> Iterator[bytes]:
    """Yield the lines from number `first` to `count` in steps, spread evenly over a time, or at once when `hurry` exists."""
    started = time.monotonic()
    for number in range(first, count, step):
        due = started + seconds * (number - first) / (count - first)
        while (ahead := due - time.monotonic()) > 0 and not (hurry and hurry.exists()):
            time.sleep(min(ahead, _LOOK_SECONDS))
        yield block(number, min(step, count - number), audit_every, run)


def rotate(path: Path) -> None:
    """Move a log and its older ones up by one name, as logrotate does."""
    newest_first = [path]
    while (older := path.with_name(f"{path.name}.{len(newest_first)}")).exists():
        newest_first.append(older)
    for age in range(len(newest_first), 0, -1):
        newest_first[age - 1].rename(path.with_name(f"{path.name}.{age}"))


def main() -> int:
    """Write lines as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="the number after that of the last line")
    parser.add_argument("--first", type=int, default=0, help="the number of the first line")
    parser.add_argument("--seconds", type=float, default=0.0, help="spread the lines over this time")
    parser.add_argument("--hurry", type=Path, help="once this file exists, write the rest at once")
    parser.add_argument("--step", type=int, default=500, help="lines written at a time")
    parser.add_argument("--audit-every", type=int, default=AUDIT_EVERY)
    parser.add_argument("--run", default="run", help="begins every event_id")
    parser.add_argument("--file", type=Path, help="write here instead of to standard output")
    parser.add_argument("--rotations", type=int, default=0, help="how often the file is renamed on the way")
    parser.add_argument("--exit-code", type=int, default=0)
    options = parser.parse_args()
    lines = options.count - options.first
    rotate_at = {lines * turn // (options.rotations + 1) // options.step for turn in range(1, options.rotations + 1)}
    out = sys.stdout.buffer if options.file is None else options.file.open("ab", buffering=0)
    steps = blocks(options.count, options.step, options.seconds, options.audit_every, options.run, first=options.first, hurry=options.hurry)
    for number, piece in enumerate(steps):
        if number in rotate_at:
            out.close()
            rotate(options.file)
            out = options.file.open("ab", buffering=0)
        out.write(piece)
        out.flush()
    return int(options.exit_code)


if __name__ == "__main__":
    sys.exit(main())
