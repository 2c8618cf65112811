"""Measure the whole way from a file to a directory store, with the real agent as a process.

    python benchmarks/throughput.py mixed                 # 2,000,000 lines, pinned to one core
    python benchmarks/throughput.py audit --cores 2       # 1,000,000 events, two cores
    python benchmarks/throughput.py mixed --against ../old  # two source trees in turns: A B A B

A run begins with the start of the process and ends with its orderly end: imports, opening the state, reading, separating,
fsyncs, sealing, signing, and every batch confirmed by the store. Afterwards the store is verified by `trailseal verify`, and
has to hold as many records as the log has audit events.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.generate import KINDS, write
from benchmarks.harness import ROOT, Agent, BenchmarkError, Usage, add_common, median_and_spread, scratch, show

LINES = {"mixed": 2_000_000, "audit": 1_000_000}


class Log(NamedTuple):
    """Be the input: its path, lines, bytes and audit events."""

    path: Path
    lines: int
    size: int
    events: int


def run_once(folder: Path, log: Log, options: argparse.Namespace, tree: Path, *, check: bool) -> Usage:
    """Ship the log once."""
    folder.mkdir()
    cores = sorted(os.sched_getaffinity(0))[-options.cores :]
    agent = Agent(folder, log.path, cores=cores, observability=options.observability, tree=tree)
    try:
        agent.start()
        agent.until_read(log.size)
        usage = agent.stop()
        if check:
            found = agent.verified_records()
            if found != log.events:
                raise BenchmarkError(f"the store holds {found} records of {log.events} events")
        return usage
    finally:
        agent.kill()
        shutil.rmtree(folder)


def report(name: str, log: Log, runs: list[Usage]) -> tuple[list[tuple[str, str]], dict[str, object]]:
    """Sum up the runs of one tree."""
    seconds, spread = median_and_spread([run.seconds for run in runs])
    cpu, cpu_spread = median_and_spread([run.cpu_seconds for run in runs])
    rss = max(run.peak_rss_bytes for run in runs)
    per_million = cpu / log.lines * 1e6
    rows = [
        (f"{name} lines/s", f"{log.lines / seconds:>10,.0f}   (median of {len(runs)}, spread {spread:.0%})"),
        (f"{name} MB/s", f"{log.size / seconds / 1e6:>10.1f}"),
        (f"{name} events/s", f"{log.events / seconds:>10,.0f}"),
        (f"{name} seconds", f"{seconds:>10.2f}"),
        (f"{name} CPU seconds", f"{cpu:>10.2f}   (spread {cpu_spread:.0%})"),
        (f"{name} CPU s / 1M lines", f"{per_million:>10.2f}"),
        (f"{name} peak RSS MiB", f"{rss / 2**20:>10.1f}   (highest)"),
    ]
    return rows, {
        "lines_per_second": log.lines / seconds,
        "bytes_per_second": log.size / seconds,
        "events_per_second": log.events / seconds,
        "cpu_seconds": cpu,
        "cpu_seconds_per_million_lines": per_million,
        "peak_rss_bytes": rss,
        "seconds": [run.seconds for run in runs],
    }


def main() -> None:
    """Measure one kind of log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS, nargs="?", default="mixed")
    parser.add_argument("--lines", type=int, help="default: 2,000,000 mixed lines or 1,000,000 audit events")
    parser.add_argument("--log", type=Path, help="use this log, made by generate.py, instead of making one")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1, help="how many cores the agent may use")
    parser.add_argument("--observability", choices=("none", "stdout"), default="none", help="stdout passes the other lines on to /dev/null")
    parser.add_argument("--against", type=Path, help="a second source tree, run in turns with this one")
    parser.add_argument("--no-verify", action="store_true", help="do not verify the store after each run")
    add_common(parser)
    options = parser.parse_args()
    trees = {"this": ROOT} | ({"other": options.against.resolve()} if options.against else {})
    runs: dict[str, list[Usage]] = {name: [] for name in trees}
    with scratch(options.dir) as folder:
        if options.log:
            content = options.log.read_bytes()
            log = Log(options.log.resolve(), content.count(b"\n"), len(content), content.count(b'{"stream":"audit"'))
            del content
        else:
            lines = options.lines or LINES[options.kind]
            log = Log(folder / "app.log", lines, *write(options.kind, lines, folder / "app.log"))
        for number in range(options.runs):
            for name, tree in trees.items():
                runs[name].append(run_once(folder / f"{name}-{number}", log, options, tree, check=not options.no_verify))
    rows: list[tuple[str, str]] = []
    document: dict[str, object] = {"lines": log.lines, "bytes": log.size, "events": log.events, "cores": options.cores}
    for name in trees:
        more, figures = report(name if len(trees) > 1 else "", log, runs[name])
        rows += more
        document |= {name: figures} if len(trees) > 1 else figures
    if len(trees) > 1:
        ratios = [other.seconds / this.seconds for this, other in zip(runs["this"], runs["other"], strict=True)]
        rows.append(("this / other, pairs", "  ".join(f"{ratio:.3f}" for ratio in ratios)))
        document["speed_ratios"] = ratios
    cores = "one core" if options.cores == 1 else f"{options.cores} cores"
    title = f"{options.kind}: {log.lines:,} lines, {log.size / 1e6:,.0f} MB, file to directory store on {cores}"
    show(title, [(name.strip(), value) for name, value in rows], document, as_json=options.json)


if __name__ == "__main__":
    main()
