"""Measure what an agent costs that has nothing to do: CPU and memory.

    python benchmarks/idle.py [--seconds 30]

The agent tails one quiet file with default settings. CPU is user and system time of the whole process over the span, in
per cent of one core; the kernel counts in hundredths of a second.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.generate import write
from benchmarks.harness import Agent, add_common, scratch, show


def main() -> None:
    """Measure one span."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--settle", type=float, default=8.0, help="seconds after the start that do not count")
    add_common(parser)
    options = parser.parse_args()
    with scratch(options.dir) as folder:
        write("mixed", 1000, folder / "app.log")
        agent = Agent(folder, folder / "app.log")
        try:
            agent.start()
            agent.until_ready()
            time.sleep(options.settle)
            before = agent.cpu_seconds()
            time.sleep(options.seconds)
            share = (agent.cpu_seconds() - before) / options.seconds
            rss, peak = agent.memory()
            agent.stop()
        finally:
            agent.kill()
    rows = [
        ("CPU, per cent of a core", f"{share:.2%}"),
        ("RSS", f"{rss / 2**20:.1f} MiB"),
        ("peak RSS", f"{peak / 2**20:.1f} MiB"),
    ]
    document: dict[str, object] = {"seconds": options.seconds, "cpu_share": share, "rss_bytes": rss, "peak_rss_bytes": peak}
    show(f"idle for {options.seconds:g} s", rows, document, as_json=options.json)


if __name__ == "__main__":
    main()
