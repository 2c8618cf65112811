"""However a runtime cuts, interleaves and rotates, and whenever the agent dies: each line of a unit is recorded once, and in order."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.mappings.joining import Joining
from tests.property.test_container_model import SMALL, STEPS, STREAMS, Model, Step
from tests.support.container_logs import ContainerBench, Format, pieces
from tests.support.joined_units import raws

BULK = replace(SMALL, line_limit=8000)
"""So that many lines are taken out at once where none is in pieces."""

PATTERN = "pods/*/*/*.log"
LONG = Joining("start", r"^\d+ ", patience_seconds=300)
SHORT = Joining("start", r"^\d+ ", max_lines=3, patience_seconds=300)
ONE_STREAM = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["audit", "audit", "plain", "plain", "plain"]), st.just(0), st.sampled_from([40, 100, 5000])),
        st.tuples(st.just("emit"), st.just(0), st.integers(1, 5)),
        st.tuples(st.sampled_from(["drain", "drain", "crash", "stop"]), st.just(0), st.just(0)),
    ),
    min_size=5,
    max_size=50,
)


class ModelOfUnits(Model):
    """The same with units: what was an audit line begins one, what was a plain line goes on with it. All have the tag."""

    def __init__(self, folder: Path, form: Format, joining: Joining) -> None:
        """Begin with an empty log."""
        super().__init__(folder, form, PATTERN)
        self.bench = ContainerBench(folder, BULK if joining is LONG else SMALL, (PATTERN,), joining=joining)
        self.lines: dict[str, list[str]] = {stream: [] for stream in STREAMS}

    def say(self, kind: str, stream: int, size: int) -> None:
        self._count += 1
        begin = f"{self._count} AUDIT " if kind == "audit" else f"  AUDIT {self._count} "
        line = begin + "y" * (self._count * 37 % 120)
        self.lines[STREAMS[stream]].append(line)
        self.buffers[stream].extend(pieces(line.encode(), size, STREAMS[stream], self.form))

    async def end(self) -> None:
        for stream in (0, 1):
            self.emit(stream, 999)
            self.say("audit", stream, 5000)
            self.lines[STREAMS[stream]].pop()
            self.emit(stream, 1)
        await super().end()


def play(steps: list[Step], form: Format, joining: Joining = LONG) -> ModelOfUnits:
    async def run() -> ModelOfUnits:
        with tempfile.TemporaryDirectory() as folder:
            model = ModelOfUnits(Path(folder), form, joining)
            model.say("audit", 0, 5000)
            model.emit(0, 1)
            await model.bench.drain()
            for step in steps:
                await model.take(*step)
            await model.end()
            return model

    return asyncio.run(run())


def found(model: ModelOfUnits, stream: str) -> list[str]:
    """Return the lines of one stream's records, in order; without the one that only ended the unit before it."""
    last = f"{model._count} AUDIT", f"{model._count - 1} AUDIT"
    records = [record for record in model.bench.intake.records() if record["container"]["stream"] == stream]
    return [line for record in records for line in record["raw"].split("\n") if not line.startswith(last)]


@pytest.mark.parametrize("form", ["cri", "json"])
@given(steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_each_line_is_recorded_once_and_in_the_order_of_its_stream(form: Format, steps: list[Step]):
    model = play(steps, form)
    assert model.bench.gaps() == []
    assert {stream: found(model, stream) for stream in STREAMS} == model.lines


@given(steps=STEPS)
@settings(max_examples=150, deadline=None)
def test_offsets_join_up_and_records_lie_inside_the_bytes_of_their_append(steps: list[Step]):
    model = play(steps, "cri")
    reached: dict[str, int] = {}
    for append in model.bench.intake.durable:
        ranges = []
        for one in append.progress:
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


@pytest.mark.parametrize("form", ["cri", "json"])
@given(steps=ONE_STREAM)
@settings(max_examples=200, deadline=None)
def test_units_of_one_stream_are_whole(form: Format, steps: list[Step]):
    model = play(steps, form, SHORT)
    units: list[list[str]] = []
    for line in model.lines["stdout"]:
        if line[0].isdigit() or not units:
            units.append([])
        units[-1].append(line)
    wanted = ["\n".join(unit) if len(unit) <= SHORT.max_lines else f"{sum(map(len, unit)) + len(unit) - 1} bytes" for unit in units]
    # Behind them stands what the model ends with.
    assert raws(model.bench.intake.records())[: len(wanted)] == wanted
