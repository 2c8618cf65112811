"""Measure how long an audit line takes to become durable, and to be in the store.

    python benchmarks/latency.py                  # 100 events a second, 10 seconds for each of the two
    python benchmarks/latency.py --observability-rate 2000

Both are seen from outside, and both figures are upper bounds.

Durable: a line is written, and the running agent is asked over its local socket how many records its spool holds until the
line is among them; it counts one only after the transaction's fsync. The time includes the last answer's way, which is shown.
(Watching the write-ahead log instead would show the write and not the fsync.) Nothing is sealed meanwhile.

In the store: a line counts as stored when the seal that covers it, by its manifest's totals, has its name in the store.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.generate import chunks
from benchmarks.harness import Agent, BenchmarkError, add_common, percentile, scratch, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

_PATIENCE_SECONDS = 60.0
_BETWEEN_QUESTIONS_SECONDS = 0.0015


class Writer:
    """Write audit lines to a file at a rate, and remember when."""

    def __init__(self, file: FileIO, rate: float, count: int, observability_rate: float) -> None:
        """Prepare the lines."""
        self._file = file
        self._rate = rate
        self._lines = list(chunks("audit", count, chunk_lines=1))
        # Other lines come in bundles before the audit line, as a busy service writes them.
        self._others = [b'{"level":"info","msg":"request handled","number":%d}\n' % n for n in range(int(observability_rate / rate))]

    def run(self, after_each: Callable[[int, float], None]) -> None:
        """Write every line at its time; the function is called with its number and the time just before the write."""
        rng = random.Random(1)
        begin = time.perf_counter()
        for number, line in enumerate(self._lines):
            # Not quite regular, so that no timer of the agent falls into step with it.
            due = begin + (number + rng.random() * 0.5) / self._rate
            time.sleep(max(0.0, due - time.perf_counter()))
            bundle = b"".join((*self._others, line))
            written = time.perf_counter()
            self._file.write(bundle)
            after_each(number, written)


def durable(agent: Agent, writer: Writer) -> tuple[list[float], list[float]]:
    """Return for every line the seconds until it was durable, and of every question the seconds until its answer."""
    found: list[float] = []
    answers: list[float] = []

    def wait(number: int, written: float) -> None:
        while True:
            # Every question takes the agent's time from the work that is measured: not too many of them.
            time.sleep(_BETWEEN_QUESTIONS_SECONDS)
            asked = time.perf_counter()
            text = agent.ask("/status")
            now = time.perf_counter()
            answers.append(now - asked)
            if text is not None and json.loads(text)["spool"]["records"] > number:
                found.append(now - written)
                return
            if now - written > _PATIENCE_SECONDS:
                raise BenchmarkError(f"line {number} did not become durable")

    writer.run(wait)
    return found, answers


def stored(agent: Agent, writer: Writer, count: int) -> list[float]:
    """Return for every line the seconds until its batch's seal was in the store."""
    written: list[float] = []
    seals: dict[Path, tuple[float, int]] = {}
    writing = threading.Thread(target=writer.run, args=(lambda _number, at: written.append(at),))
    writing.start()
    end = time.perf_counter() + _PATIENCE_SECONDS + len(written)
    while not seals or max(total for _, total in seals.values()) < count:
        now = time.perf_counter()
        for path in (agent.store / "trails").rglob("*.seal"):
            if path not in seals:
                manifest = json.loads(path.read_bytes().split(b"\n", 1)[0])
                seals[path] = (now, manifest["totals"]["records"])
        if now > end:
            raise BenchmarkError("the lines did not reach the store")
        time.sleep(0.005)
    writing.join()
    ordered = sorted(seals.values(), key=lambda seal: seal[1])
    return [next(at for at, total in ordered if total > number) - when for number, when in enumerate(written)]


def _row(values: Sequence[float]) -> str:
    p50, p99 = percentile(values, 50), percentile(values, 99)
    return f"p50 {p50 * 1e3:9.2f} ms   p99 {p99 * 1e3:9.2f} ms   max {max(values) * 1e3:9.2f} ms"


def _figures(values: Sequence[float]) -> dict[str, float]:
    return {"p50_seconds": percentile(values, 50), "p99_seconds": percentile(values, 99), "max_seconds": max(values)}


def main() -> None:
    """Measure both, each with an agent of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100.0, help="audit events a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each of the two takes")
    parser.add_argument("--observability-rate", type=float, default=0.0, help="other lines a second besides")
    parser.add_argument("--seal-age", type=float, default=5.0, help="seal.max_age in seconds, for the second measurement")
    add_common(parser)
    options = parser.parse_args()
    count = int(options.rate * options.seconds)
    results: dict[str, list[float]] = {}
    for name, seal_age in (("durable", 600.0), ("stored", options.seal_age)):
        with scratch(options.dir) as folder, (folder / "app.log").open("wb", buffering=0) as file:
            agent = Agent(folder, folder / "app.log", max_age_seconds=seal_age)
            try:
                agent.start()
                agent.until_ready()
                time.sleep(1.0)
                writer = Writer(file, options.rate, count, options.observability_rate)
                if name == "durable":
                    results[name], results["answer"] = durable(agent, writer)
                else:
                    results[name] = stored(agent, writer, count)
                agent.stop()
            finally:
                agent.kill()
    rows = [
        ("line written → durable in the spool", _row(results["durable"])),
        ("  of that, the way of the answer", _row(results["answer"])),
        (f"line written → in the store (seal age {options.seal_age:g} s)", _row(results["stored"])),
    ]
    title = f"latency at {options.rate:g} events/s"
    document: dict[str, object] = {name: _figures(values) for name, values in results.items()}
    show(title, rows, {"rate": options.rate, "seal_age_seconds": options.seal_age, **document}, as_json=options.json)


if __name__ == "__main__":
    main()
