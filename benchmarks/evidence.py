"""Measure the index: records/s while it is built and verified, memory as it grows, and how long questions take.

    python benchmarks/evidence.py [--events 1_000_000] [--dir FOLDER] [--rounds 5] [--json]

Writes a store of realistic trails (tests/support/evidence_store.py), indexes it in a process of its own that looks at its memory at
every tenth of the way, indexes it once more (nothing is new), and asks the questions of the budget in another process: events
of an actor in a range, and an aggregation over everything. A first time counts the opening of the index; the others are a median.
Flat memory shows as tenths that do not climb. Ten million events need 1 GB of disk and about four minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.reader.ask.filters import ALL, Filter
from agent.reader.ask.search import count, each, facets, histogram, search
from agent.reader.ask.statement import statement
from agent.reader.fetch import DirectoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile
from benchmarks.harness import add_common, median_and_spread, scratch, show
from tests.support.evidence_store import write_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.reader.index import Index

BATCH_RECORDS: Final = 10_000
ACTOR: Final = "grace.okafor@acme.example"
SINCE: Final = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL: Final = datetime(2026, 6, 1, tzinfo=UTC)
_TENTHS: Final = 10
_DAY_BY_DAY: Final = (
    "SELECT service, action, outcome, date_trunc('day', occurred_at), count(*), count(DISTINCT actor_id) FROM events GROUP BY ALL"
)
_BY_ACTION: Final = "SELECT service, action, outcome, count(*) FROM events GROUP BY ALL"


def _resident_bytes() -> int:
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make(folder: Path, events: int) -> dict[str, Any]:
    """Write the store."""
    begin = time.perf_counter()
    written = write_store(folder, events=events, batch_records=BATCH_RECORDS)
    seconds = time.perf_counter() - begin
    return {
        "events": written.events,
        "records": written.events + written.quarantined,
        "batches": written.batches,
        "trails": len(written.origins),
        "grants": len(written.grants),
        "bytes": _folder_bytes(written.store),
        "seconds": seconds,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def build(folder: Path) -> dict[str, Any]:
    """Index the store, and note memory at every tenth of its bytes."""
    total = _folder_bytes(folder / "store")
    read = 0
    tenths: list[int] = []

    def advance(size: int) -> None:
        nonlocal read
        read += size
        while read * _TENTHS >= total * (len(tenths) + 1) and len(tenths) < _TENTHS:
            tenths.append(_resident_bytes())

    begin, cpu = time.perf_counter(), time.process_time()
    path = folder / "index.duckdb"
    trust = TrustFile.load(folder / "trust")
    done = refresh(DirectoryReader(folder / "store"), path, trust=trust, now=datetime.now(UTC), advance=advance)
    return {
        "records": done.records,
        "findings": {severity.name.lower(): count for severity, count in done.findings.items()},
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rss_bytes_at_tenths": tenths,
        "index_bytes": path.stat().st_size,
    }


def _timed(ask: Callable[[Index], int], path: Path, rounds: int) -> dict[str, Any]:
    """Ask with a newly opened index, then again and again."""
    begin = time.perf_counter()
    with open_index(path) as index:
        rows = ask(index)
        first = time.perf_counter() - begin
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            ask(index)
            times.append(time.perf_counter() - begin)
    median, spread = median_and_spread(times)
    return {"rows": rows, "first_seconds": first, "median_seconds": median, "spread": spread}


def ask(folder: Path, rounds: int) -> dict[str, Any]:
    """Ask what the budget names, and what `query` and `view` ask besides."""
    of_actor = Filter(actor=(ACTOR,), since=SINCE, until=UNTIL)
    grants = Filter(action=("role.grant",), since=SINCE, until=UNTIL)
    everything = Filter()
    now = datetime.now(UTC)
    questions: dict[str, Callable[[Index], int]] = {
        "actor and range, the first 1,000 events": lambda index: len(search(index, of_actor, limit=1000).events),
        "actor and range, counted": lambda index: count(index, of_actor),
        "actor and range, all events read": lambda index: sum(1 for _ in each(index, of_actor)),
        "role grants in a range, all events read": lambda index: sum(1 for _ in each(index, grants)),
        "statement of completeness for the first": lambda index: statement(index, of_actor, ALL, now).events_in_range,
        "all by service, action, outcome": lambda index: len(index.rows(_BY_ACTION)),
        "all by day, service, action, outcome; distinct actors": lambda index: len(index.rows(_DAY_BY_DAY)),
        "all facets of the view": lambda index: len(facets(index, everything)),
        "timeline of the view": lambda index: len(histogram(index, everything).bars),
    }
    path = folder / "index.duckdb"
    answers = {name: _timed(question, path, rounds) for name, question in questions.items()}
    return {"questions": answers, "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _apart(*arguments: str) -> dict[str, Any]:
    """Run a part in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, *arguments]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _rows(made: dict[str, Any], first: dict[str, Any], again: dict[str, Any], asked: dict[str, Any]) -> list[tuple[str, str]]:
    store = f"{made['events']:,} events, {made['batches']:,} batches, {made['trails']} trails, {_mib(made['bytes'])}"
    tenths = " ".join(f"{size / 2**20:.0f}" for size in first["rss_bytes_at_tenths"])
    rows = [
        ("store", f"{store}; written in {made['seconds']:.0f} s, {_mib(made['peak_rss_bytes'])} peak RSS"),
        ("indexed", f"{first['records'] / first['seconds']:,.0f} records/s: {first['seconds']:.1f} s, {first['cpu_seconds']:.1f} CPU s"),
        ("memory", f"{_mib(first['peak_rss_bytes'])} peak RSS; MiB at each tenth: {tenths}"),
        ("index", f"{_mib(first['index_bytes'])}, {first['index_bytes'] / first['records']:.0f} bytes a record"),
        ("findings", json.dumps(first["findings"])),
        ("indexed again, nothing new", f"{again['seconds']:.2f} s, {_mib(again['peak_rss_bytes'])} peak RSS"),
    ]
    for name, answer in asked["questions"].items():
        what = f"median {answer['median_seconds']:.3f} s (spread {answer['spread']:.0%}), first {answer['first_seconds']:.3f} s"
        rows.append((name, f"{what}, {answer['rows']:,} rows"))
    return [*rows, ("memory of asking", f"{_mib(asked['peak_rss_bytes'])} peak RSS")]


def main() -> None:
    """Run every part and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="how often a question is asked for its median")
    parser.add_argument("--part", choices=("make", "build", "ask"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_common(parser)
    options = parser.parse_args()
    if options.part:
        parts = {
            "make": lambda: make(options.folder, options.events),
            "build": lambda: build(options.folder),
            "ask": lambda: ask(options.folder, options.rounds),
        }
        print(json.dumps(parts[options.part]()))
        return
    with scratch(options.dir) as scratched:
        folder = str(scratched)
        made = _apart("--part", "make", "--folder", folder, "--events", str(options.events))
        first = _apart("--part", "build", "--folder", folder)
        again = _apart("--part", "build", "--folder", folder)
        asked = _apart("--part", "ask", "--folder", folder, "--rounds", str(options.rounds))
    document: dict[str, object] = {"made": made, "indexed": first, "indexed_again": again, "asked": asked}
    show("evidence: index and questions", _rows(made, first, again, asked), document, as_json=options.json)


if __name__ == "__main__":
    main()
