"""How many events a second each shipped mapping makes, and how long it takes to load.

The lines are those of the mapping's own examples that become events, repeated in blocks of 256 KiB. What is timed is what an agent does
with a block before the spool: find the lines, join them, map, judge, write the record bodies. One thread; per second of its own CPU
time, the median of several runs.

    python benchmarks/mappings.py [--runs 5] [--json] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Final

from agent.config.mappings import load_mapping, shipped_names
from agent.events.classify import AllRule
from agent.events.mappings.selection import Selection
from agent.events.validate import Validator
from agent.mapped import MappedSeparator

BLOCK_BYTES: Final = 256 * 1024
OBSERVED_AT: Final = "2026-06-30T12:00:00.000001Z"
BAR: Final = 30_000


def lines_of(examples: tuple[object, ...]) -> list[bytes]:
    """Return the units of the examples that are events."""
    units = []
    for example in examples:
        if isinstance(example, dict) and "event" in example:
            lines = example["lines"] if "lines" in example else [example["line"]]
            units.append("\n".join(lines).removesuffix("\n").encode())
    return units


def measure(name: str, runs: int) -> dict[str, float | str]:
    """Measure one mapping."""
    started = time.perf_counter()
    mapping = load_mapping(name)
    load_seconds = time.perf_counter() - started
    units = lines_of(mapping.examples)
    block = b"".join(unit + b"\n" for unit in units)
    block *= max(1, BLOCK_BYTES // len(block))
    separator = MappedSeparator("bench", Selection((mapping,)), Validator(AllRule()), keep_observability=False, has_offsets=True)
    events = separator.separate(block, 0, OBSERVED_AT).events
    rates = []
    for _ in range(runs):
        started, made = time.process_time(), 0
        while time.process_time() - started < 0.5:
            made += separator.separate(block, 0, OBSERVED_AT).events
        rates.append(made / (time.process_time() - started))
    return {
        "mapping": name,
        "events_per_second": round(statistics.median(rates)),
        "least": round(min(rates)),
        "line_bytes": round(len(block) / max(1, events)),
        "load_seconds": round(load_seconds, 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="Which mappings; all that are shipped by default.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [measure(name, options.runs) for name in options.names or shipped_names()]
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'mapping':<20} {'events/s':>10} {'least':>10} {'bytes/event':>12} {'load s':>8}")
    for one in found:
        mark = "" if float(one["events_per_second"]) >= BAR else "  below the bar of 30,000"
        figures = f"{one['events_per_second']:>10,} {one['least']:>10,} {one['line_bytes']:>12,} {one['load_seconds']:>8}"
        print(f"{one['mapping']:<20} {figures}{mark}")


if __name__ == "__main__":
    main()
