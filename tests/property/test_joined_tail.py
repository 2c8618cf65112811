"""Whatever happens to a log whose lines join to units, each unit is in the trail once, whole, and in the writer's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.mappings.joining import Joining
from tests.support.joined_units import UnitBench
from tests.support.tail_model import SMALL, STEPS, Model, run

if TYPE_CHECKING:
    from pathlib import Path

SEVERAL = st.lists(STEPS, min_size=3, max_size=25)
NEVER = Joining("start", r"^\d+ ", patience_seconds=300)


class LogOfUnits(UnitBench):
    """Write units, whose lines end in different places of the first forty bytes."""

    def next_audit(self) -> str:
        """Return a new unit, without its last newline, and expect it in the trail."""
        number = len(self.written) + 1
        unit = f"{number} AUDIT{'y' * (number * 7 % 33)}\n  at one\n\n  at two {'z' * (20 + number * 5 % 40)}"
        self.written.append(unit)
        return unit


class ModelOfUnits(Model):
    """The same with units. One that was begun is finished before the log is rotated, as a unit does not go on in the next file."""

    def __init__(self, folder: Path, patterns: tuple[str, ...]) -> None:
        """Begin with an empty folder."""
        super().__init__(folder, patterns)
        self.bench = LogOfUnits(folder, NEVER, SMALL, patterns)

    def put(self, text: str) -> None:
        super().put("0 " + text if text.startswith("p") else text)

    async def end(self) -> None:
        self.finish_line()
        self.put("p is the last\n")
        await super().end()


@given(steps=SEVERAL)
@settings(max_examples=150, deadline=None)
def test_units_are_there_once_whole_and_in_order(steps: list[tuple[str, int]]):
    model = run(ModelOfUnits, steps, ("*.log",))
    assert isinstance(model.bench, UnitBench)
    assert model.bench.units() == model.bench.written
    assert model.bench.gaps() == []


@given(steps=SEVERAL)
@settings(max_examples=100, deadline=None)
def test_patterns_that_name_the_rotated_files_too_change_nothing_and_offsets_join_up(steps: list[tuple[str, int]]):
    model = run(ModelOfUnits, steps, ("app.log*",))
    assert isinstance(model.bench, UnitBench)
    assert model.bench.units() == model.bench.written
    reached: dict[str, int] = {}
    for append in model.bench.intake.durable:
        for one in append.progress:
            assert one.file_id is not None
            assert one.from_offset == reached.get(one.file_id, 0)
            assert one.to_offset is not None
            reached[one.file_id] = one.to_offset
            assert one.lines == one.audit + one.observability
        assert append.records == append.events + append.quarantined + append.gaps == append.bodies.count(b"\n")
