"""However a runtime cuts, interleaves and rotates, and whenever the agent dies: each line is recorded once, in order per stream."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.sources.file import TailSettings
from tests.support.container_logs import ContainerBench, Format, pieces
from tests.support.memory_intake import audit_line

SMALL = TailSettings(block_bytes=16_000, line_limit=1000, head_bytes=100, eof_hold_seconds=0, linger_seconds=0)
STREAMS = ("stdout", "stderr")

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["audit", "plain"]), st.integers(0, 1), st.sampled_from([40, 100, 5000])),
        st.tuples(st.just("emit"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("emit"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.sampled_from(["rotate", "pack", "drain", "drain", "crash", "stop", "hold"]), st.just(0), st.just(0)),
        st.tuples(st.just("commit"), st.integers(0, 3), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)
Step = tuple[str, int, int]


class Model:
    """A service with two streams, a runtime that cuts its lines, a kubelet that rotates, and an agent, taking turns."""

    def __init__(self, folder: Path, form: Format, pattern: str) -> None:
        """Begin with an empty log."""
        self.bench = ContainerBench(folder, SMALL, (pattern,))
        self.form = form
        self.buffers: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self.written: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        self.plain: dict[str, list[bytes]] = {stream: [] for stream in STREAMS}
        self._count = 0

    def say(self, kind: str, stream: int, size: int) -> None:
        """Let the service write a line, which the runtime cuts."""
        self._count += 1
        name = STREAMS[stream]
        if kind == "audit":
            line = audit_line(self._count, padding=self._count % 7 * 20)
            self.written[name].append(f"e{self._count}")
        else:
            line = f"{name} {self._count} ".encode() + b"p" * (self._count % 300)
            self.plain[name].append(line)
        self.buffers[stream].extend(pieces(line, size, name, self.form))

    def emit(self, stream: int, count: int) -> None:
        """Let the runtime write some of what it has."""
        buffer = self.buffers[stream]
        self.bench.log.write(*[buffer.popleft() for _ in range(min(count, len(buffer)))])

    async def take(self, what: str, number: int, size: int) -> None:
        bench = self.bench
        match what:
            case "audit" | "plain":
                self.say(what, number, size)
            case "emit":
                self.emit(number, size)
            case "rotate" | "pack":
                bench.log.rotate(pack=what == "pack")
            case "drain":
                await self.drain()
            case "crash":
                bench.intake.held = False
                await bench.crash()
            case "stop":
                bench.intake.commit()
                bench.intake.held = False
                await bench.stop()
            case "hold":
                bench.intake.held = True
            case "commit":
                bench.intake.commit(number)

    async def drain(self) -> None:
        if not self.bench.intake.held:
            await self.bench.drain()
            return
        try:
            async with asyncio.timeout(0.02):
                await self.bench.drain()
        except TimeoutError:
            await self.bench.crash()

    async def end(self) -> None:
        self.emit(0, 999)
        self.emit(1, 999)
        self.bench.intake.held = False
        await self.bench.crash()
        await self.bench.drain()
        await self.bench.drain()
        await self.bench.stop()

    def found(self, stream: str) -> list[str]:
        return [one["event"]["event_id"] for one in self.bench.intake.of_kind("event") if one["container"]["stream"] == stream]


def play(steps: list[Step], form: Format, pattern: str = "pods/*/*/*.log") -> Model:
    async def run() -> Model:
        with tempfile.TemporaryDirectory() as folder:
            model = Model(Path(folder), form, pattern)
            model.say("audit", 0, 5000)
            model.emit(0, 1)
            await model.bench.drain()
            for step in steps:
                await model.take(*step)
            await model.end()
            return model

    return asyncio.run(run())


# A log that was empty when it was seen, and is a compressed file with content after the next start.
EMPTY_THEN_PACKED: list[Step] = [("audit", 0, 40), ("rotate", 0, 0), ("drain", 0, 0), ("emit", 0, 1), ("rotate", 0, 0), ("pack", 0, 0)]


@pytest.mark.parametrize("form", ["cri", "json"])
@given(steps=STEPS)
@example(steps=EMPTY_THEN_PACKED)
@example(steps=[*EMPTY_THEN_PACKED, ("drain", 0, 0)])
@example(steps=[*EMPTY_THEN_PACKED[:-1], ("emit", 0, 1), ("pack", 0, 0), ("drain", 0, 0)])
@settings(max_examples=150, deadline=None)
def test_each_audit_line_is_recorded_once_and_in_the_order_of_its_stream(form: Format, steps: list[Step]):
    model = play(steps, form)
    assert {stream: model.found(stream) for stream in STREAMS} == model.written
    assert model.bench.gaps() == []
    assert model.bench.intake.of_kind("quarantine") == []


@given(steps=STEPS)
@settings(max_examples=80, deadline=None)
def test_links_to_the_logs_are_as_good_as_the_logs(steps: list[Step]):
    model = play(steps, "cri", "containers/*.log")
    assert {stream: model.found(stream) for stream in STREAMS} == model.written
    assert model.bench.gaps() == []


@given(steps=STEPS)
@settings(max_examples=80, deadline=None)
def test_offsets_join_up_and_records_lie_inside_the_bytes_of_their_append(steps: list[Step]):
    model = play(steps, "cri")
    reached: dict[str, int] = {}
    for append in model.bench.intake.durable:
        ranges = []
        for one in append.progress:
            assert one.kind == "container"
            assert one.file_id is not None
            assert one.from_offset == reached.get(one.file_id, 0)
            assert one.to_offset is not None
            assert one.lines == one.audit + one.observability
            reached[one.file_id] = one.to_offset
            ranges.append((one.from_offset, one.to_offset))
        assert append.records == append.bodies.count(b"\n")
        records: list[dict[str, Any]] = [json.loads(b'{"seq":0' + body) for body in append.bodies.splitlines()]
        at = [(record["at"][0], sum(record["at"])) for record in records]
        assert all(any(low <= start <= end <= high for low, high in ranges) for start, end in at)
        if len(ranges) == 1:
            assert all(end <= start for (_, end), (start, _) in pairwise(at))


@given(steps=STEPS)
@settings(max_examples=80, deadline=None)
def test_without_a_crash_what_passes_through_is_the_service_s_own_lines(steps: list[Step]):
    calm = [step for step in steps if step[0] not in {"crash", "hold", "commit"}]
    model = play(calm, "cri")
    passed = model.bench.sink.data.splitlines()
    for stream in STREAMS:
        assert [line for line in passed if line.startswith(stream.encode())] == model.plain[stream]
