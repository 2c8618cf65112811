"""A writer, a rotator and an agent that take turns, for property tests of the tail."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from agent.sources.file import TailSettings
from tests.support.tail_bench import Bench, turn

SMALL = TailSettings(block_bytes=1500, line_limit=1000, head_bytes=100, eof_hold_seconds=0, linger_seconds=0)
"""Blocks of a few lines, so that every block boundary is met."""

STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 12)),
    st.tuples(st.just("plain"), st.integers(1, 1400)),
    st.tuples(st.just("half"), st.just(0)),
    st.tuples(st.sampled_from(["rotate", "drain", "drain", "crash", "stop", "hold"]), st.just(0)),
    st.tuples(st.just("commit"), st.integers(0, 3)),
)


class Model:
    """A writer, a rotator and an agent that take turns."""

    def __init__(self, folder: Path, patterns: tuple[str, ...]) -> None:
        """Begin with an empty folder."""
        self.bench = Bench(folder, SMALL, patterns)
        self.half = ""

    def put(self, text: str) -> None:
        self.bench.write(text=text)

    def finish_line(self) -> None:
        """End a line that was begun, as one writer never leaves it half behind."""
        if self.half:
            self.put(self.half + "\n")
            self.half = ""

    async def drain(self) -> None:
        """Let the agent bring in what it can, as far as commits allow."""
        if not self.bench.intake.held:
            await self.bench.drain()
            return
        try:
            async with asyncio.timeout(0.02):
                await self.bench.drain()
        except TimeoutError:
            # A hop that was cancelled leaves a source in an unknown state: it is thrown away, as in a crash.
            await self.bench.crash()

    async def take(self, step: str, number: int) -> None:
        if step in {"write", "plain", "rotate", "half"}:
            self.log(step, number)
        else:
            await self.run_agent(step, number)

    def log(self, step: str, number: int) -> None:
        bench = self.bench
        if step != "half":
            self.finish_line()
        if step == "write":
            bench.write(audit=number)
        elif step == "plain":
            self.put("p" * number + "\n")
        elif step == "half" and not self.half:
            line = bench.next_audit()
            self.put(line[:40])
            self.half = line[40:]
        elif step == "rotate" and bench.path.exists():
            self.rotate()

    async def run_agent(self, step: str, number: int) -> None:
        bench = self.bench
        if step == "drain":
            await self.drain()
        elif step == "crash":
            bench.intake.held = False
            await bench.crash()
        elif step == "stop":
            bench.intake.commit()
            bench.intake.held = False
            await bench.stop()
        elif step == "hold":
            bench.intake.held = True
        elif step == "commit":
            bench.intake.commit(number)

    def rotate(self) -> None:
        turn(self.bench.path)

    async def end(self) -> None:
        self.finish_line()
        self.bench.intake.held = False
        await self.bench.crash()
        await self.bench.drain()
        await self.bench.drain()
        await self.bench.stop()


def run(model_type: type[Model], steps: list[tuple[str, int]], patterns: tuple[str, ...]) -> Model:
    async def play() -> Model:
        with tempfile.TemporaryDirectory() as folder:
            model = model_type(Path(folder), patterns)
            model.bench.write(audit=1)
            await model.bench.drain()
            for step, number in steps:
                await model.take(step, number)
            await model.end()
            return model

    return asyncio.run(play())
