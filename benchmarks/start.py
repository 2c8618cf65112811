"""Measure the time from the start of the process to its readiness.

    python benchmarks/start.py [--runs 10]

Ready means that /readyz on the local socket answers 200, which it does when the trail is open and the store has confirmed its
first seal. Each run starts once on an empty state directory and once more on what that left behind.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.generate import write
from benchmarks.harness import Agent, add_common, median_and_spread, scratch, show


def main() -> None:
    """Measure some starts of both kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    add_common(parser)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"empty state": [], "resumed": []}
    with scratch(options.dir) as folder:
        for number in range(options.runs):
            place = folder / str(number)
            place.mkdir()
            write("mixed", 1000, place / "app.log")
            agent = Agent(place, place / "app.log")
            try:
                for times in found.values():
                    agent.start()
                    times.append(agent.until_ready())
                    agent.stop()
            finally:
                agent.kill()
    rows = []
    for kind, times in found.items():
        middle, spread = median_and_spread(times)
        rows.append((kind, f"median {middle:.3f} s   worst {max(times):.3f} s   (of {len(times)}, spread {spread:.0%})"))
    show("start to ready", rows, {kind: {"seconds": times} for kind, times in found.items()}, as_json=options.json)


if __name__ == "__main__":
    main()
