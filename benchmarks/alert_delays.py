"""Measure how long each alert takes, from the fault to a webhook, and from the mending until it is over there.

    python benchmarks/alert_delays.py              # the rules' times divided by 80: a minute
    python benchmarks/alert_delays.py --scale 1    # the shipped rules as they are, and an hour

Real agents, a real Prometheus and a real Alertmanager (Debian's prometheus and prometheus-alertmanager; strace for the clock). The cases
are those of `tests/integration/test_alerts_end_to_end.py`, all at the same time, beside an idle and a busy agent of which nothing may be
heard; the exit code is 1 if something is. At scale 1 heartbeat, scrape and evaluation are the defaults: 60 s, 15 s, 15 s.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import scratch
from tests.support import alert_cases


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=80.0, help="divide the rules' times by this (default 80)")
    options = parser.parse_args()
    with scratch() as folder, alert_cases.ran(folder, options.scale) as ran:
        timing = ran.timing
        print(
            f"heartbeat {timing.heartbeat:g} s, scrape and evaluation every {timing.interval:g} s, times of the rules / {timing.scale:g}\n"
        )
        print("| fault | alert | heard after | over after mending |")
        print("|---|---|---|---|")
        for row in ran.rows:
            print(f"| {row.fault} | {row.alert} | {row.heard:.1f} s | {row.cleared:.1f} s |")
        wrong = [notice for name in ("idle", "busy") for notice in ran.monitoring.webhook.heard(name)]
        for notice in wrong:
            print(f"\nheard of an agent that was well: {dict(notice.labels)}")
        if not wrong:
            print("\nidle and busy agent: nothing was heard")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
