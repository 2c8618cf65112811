"""Run the soak and print what it measured: `python -m tests.soak --minutes 60`; exits 0 if nothing was lost or doubled."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from tests.soak.run import Plan, Result, Sample, Soak
from tests.support.rotation import COPYTRUNCATE, CREATE

if TYPE_CHECKING:
    from collections.abc import Sequence

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 60


def sparkline(values: Sequence[float]) -> str:
    """Return the course of a figure as one line of bars, at most 60 of them; each shows the largest of its part."""
    if not values:
        return ""
    step = max(1, -(-len(values) // _WIDTH))
    peaks = [max(values[start : start + step]) for start in range(0, len(values), step)]
    low, high = min(peaks), max(peaks)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1)) if high > low else 0] for value in peaks)


def line_of(sample: Sample) -> str:
    """Return one sample as a line for whoever watches."""
    rss = "-" if sample.rss_bytes is None else f"{sample.rss_bytes / 2**20:.1f}"
    lag = "-" if sample.lag_seconds is None else f"{sample.lag_seconds:.1f}"
    rate = "-" if sample.lines_per_second is None else f"{sample.lines_per_second:.0f}"
    descriptors = "-" if sample.descriptors is None else sample.descriptors
    return f"{sample.at_seconds:7.0f} s  RSS {rss:>6} MiB  fds {descriptors:>4}  lag {lag:>6} s  {rate:>6} lines/s  {sample.note}"


def show(console: Console, result: Result) -> None:
    """Print the tables."""
    samples = result.samples
    columns = {
        "RSS, MiB": [sample.rss_bytes / 2**20 for sample in samples if sample.rss_bytes is not None],
        "descriptors": [float(sample.descriptors) for sample in samples if sample.descriptors is not None],
        "lag, s": [sample.lag_seconds for sample in samples if sample.lag_seconds is not None],
        "lines/s": [sample.lines_per_second for sample in samples if sample.lines_per_second is not None],
    }
    table = Table("figure", "median", "largest", "last", "course", title=f"{len(samples)} samples")
    for name, values in columns.items():
        if values:
            table.add_row(name, f"{statistics.median(values):.1f}", f"{max(values):.1f}", f"{values[-1]:.1f}", sparkline(values))
    console.print(table)
    account = result.account
    end = Table("what", "count", title="the account")
    for what, count in (
        ("rotations", result.rotations),
        ("kills", result.kills),
        ("store outages", result.outages),
        ("ends nobody asked for", result.ended),
        ("audit lines written", account.written),
        ("found in the trail", account.found),
        ("twice", len(account.doubled)),
        ("missing, stated by a gap record", len(account.stated)),
        ("missing, not stated", len(account.unstated)),
        ("missing, though on the disk", len(account.overlooked)),
        ("gap records", len(account.gaps)),
        ("exit code of verify", result.verify_code),
    ):
        end.add_row(what, str(count))
    console.print(end)
    for gap in account.gaps:
        console.print(f"gap: {gap['cause']}, {gap['certainty']}, bytes {gap['from_offset']} to {gap['to_offset']} of {gap['path']}")
    console.print("nothing lost, nothing doubled" if result.good else "NOT GOOD")


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--lines-per-second", type=int, default=500)
    parser.add_argument("--rotate-seconds", type=float, default=5.0)
    parser.add_argument("--kill-seconds", type=float, default=60.0, help="mean time between kills; 0 for none")
    parser.add_argument("--outage-seconds", type=float, default=120.0, help="mean time between outages of the store; 0 for none")
    parser.add_argument("--sample-seconds", type=float, default=10.0)
    parser.add_argument("--mode", choices=(CREATE, COPYTRUNCATE), default=CREATE)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--dir", type=Path, help="where the folder of the run is made; it is kept if the run was not good")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = vars(parser.parse_args())
    as_json, base = options.pop("json"), options.pop("dir")
    plan = Plan(**options)
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="trailseal-soak-", dir=base))
    with redirect_stdout(sys.stderr):
        result = Soak(folder, plan, lambda sample: print(line_of(sample), flush=True)).run()  # noqa: T201 - whoever watches wants to see
    if result.good:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"the run is kept in {folder}\n")
    if as_json:
        sys.stdout.write(json.dumps({"plan": asdict(plan), "good": result.good, **asdict(result)}, indent=1) + "\n")
    else:
        show(console, result)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
