"""Run the fault campaign: `python -m tests.campaign --faults 1200 --workers 2`.

It ends with 0 if every run's promise held and with 1 otherwise; a violation's site is kept and the command that repeats it printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .faults import KINDS, Fault, draw
from .pool import begin, perform_here, trace_here
from .table import render, summary
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from .run import Outcome


def main() -> int:
    """Run a campaign as the command line says; return the exit code."""
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="campaign-", dir=options.folder))
    keep = Path(options.keep)
    keep.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 200)
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    for number in range(options.workers):
        numbers.put(number)
    outcomes: list[Outcome] = []
    with (
        Path(options.log or os.devnull).open("a", encoding="utf-8") as log,
        ProcessPoolExecutor(options.workers, mp_context=context, initializer=begin, initargs=(str(root), numbers)) as pool,
    ):
        faults = [Fault.parse(text) for text in options.repeat] if options.repeat else _draw(pool, options, console)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("faults", total=len(faults))
            futures = [pool.submit(perform_here, fault, str(keep)) for fault in faults]
            end = time.monotonic() + 60 * options.minutes
            for done in as_completed(futures):
                if done.cancelled():
                    continue
                if time.monotonic() > end:
                    for future in futures:
                        future.cancel()
                outcome = done.result()
                outcomes.append(outcome)
                bad = sum(bool(one.problems) for one in outcomes)
                progress.update(task, advance=1, description=f"faults, {bad} violations")
                log.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
                log.flush()
                for problem in outcome.problems:
                    progress.console.print(f"{outcome.id}: {problem}", markup=False, highlight=False)
    shutil.rmtree(root, ignore_errors=True)
    outcomes.sort(key=lambda one: one.id)
    if options.json:
        print(json.dumps({"seed": options.seed, **summary(outcomes), "outcomes": [dataclasses.asdict(one) for one in outcomes]}, indent=1))  # noqa: T201 -- a command's answer
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(render(outcomes), highlight=False)
    return int(any(one.problems for one in outcomes))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=1200, help="how many runs (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides which faults are drawn (default %(default)s)")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="runs at a time (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="begin no more runs after this time")
    parser.add_argument("--only", default="".join(KINDS), help="letters of the kinds: " + ", ".join(f"{k} {v}" for k, v in KINDS.items()))
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="names, joined by commas (default all)")
    parser.add_argument("--repeat", metavar="ID", action="append", help="run this fault again; may be given several times")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--log", metavar="FILE", help="append each outcome as a line of JSON")
    parser.add_argument("--folder", default="/dev/shm", help="where the sites are made (default %(default)s)")
    parser.add_argument(
        "--keep", default=str(Path(tempfile.gettempdir()) / "campaign-violations"), help="where the sites of violations are kept"
    )
    return parser.parse_args()


def _draw(pool: ProcessPoolExecutor, options: argparse.Namespace, console: Console) -> list[Fault]:
    names = options.workloads.split(",")
    with console.status("counting the calls of each workload"):
        traces = dict(zip(names, pool.map(trace_here, names), strict=True))
    return draw(options.faults, options.seed, traces, options.only)


if __name__ == "__main__":
    sys.exit(main())
