"""Measure `trailseal verify`: records/s on one core, all checks on, and memory as the trail grows.

    python benchmarks/verify.py [--records 400000] [--batch 10000]

Builds two trails in a temporary folder, the second ten times as long as the first, verifies each in a process of its own, and
prints records/s, MB/s of record lines, CPU seconds and the peak of RSS. Flat memory shows as two equal peaks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.reader.fetch import DirectoryReader
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, verify_store
from tests.support.trail_factory import START, TrailFactory, write_store


def build(root: Path, records: int, batch: int) -> None:
    """Write a stopped trail with this many records, and its trust file beside the store."""
    trail = TrailFactory()
    for first in range(0, records, batch):
        trail.add(min(batch, records - first))
        # What is on disk need not stay in memory: one batch at a time, as an agent does it.
        write_store(trail.objects, root / "store")
        trail.objects.clear()
    trail.stop()
    write_store(trail.objects, root / "store")
    (root / "trust").write_text(trail.trust_line)


def measure(root: Path) -> None:
    """Verify one store and print the figures as JSON."""
    options = Options(trust=TrustFile.load(root / "trust"))
    start, cpu = time.perf_counter(), time.process_time()
    report = verify_store(DirectoryReader(root / "store"), options, now=START.astimezone(UTC) + timedelta(days=1))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        json.dumps(
            {
                "verdict": report.severity.verdict,
                "records": report.records,
                "raw_bytes": sum(trail.tally.raw_bytes for trail in report.trails),
                "seconds": seconds,
                "cpu_seconds": cpu,
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def main() -> None:
    """Run both sizes and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400_000, help="records in the longer trail")
    parser.add_argument("--batch", type=int, default=10_000, help="records in a batch")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    for records in (arguments.records // 10, arguments.records):
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), records, arguments.batch)
            command = [sys.executable, __file__, "--measure", folder]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{found['records']:>9,} records  {found['verdict']}  {found['records'] / found['seconds']:>9,.0f} records/s  "
            f"{found['raw_bytes'] / found['seconds'] / 1e6:6.1f} MB/s  {found['cpu_seconds']:6.2f} CPU s  "
            f"{found['peak_rss_bytes'] / 2**20:6.1f} MiB peak RSS"
        )


if __name__ == "__main__":
    main()
