"""Messages of several lines in real journal files, read by systemd's journalctl, with what the journal says beside them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agent.config import Journal
from agent.sources.journal import JournalSettings, JournalSource
from tests.support.joined_units import UnitRecorder, has_tag, raws
from tests.support.journal_files import UNIT, entry, write
from tests.support.memory_intake import MemoryIntake, MemorySink, StepClock

if TYPE_CHECKING:
    from pathlib import Path

FIRST = datetime(2026, 1, 8, 13, 46, 40, tzinfo=UTC)
MESSAGES = (b"AUDIT grant\n\tto alice\n\n\tby bob", b"plain\nof two lines", b"AUDIT one line", b"AUDIT" + b"\ny" * 300)


async def read(folder: Path, intake: MemoryIntake) -> tuple[UnitRecorder, MemorySink]:
    """Read what there is to its end."""
    recorder, sink = UnitRecorder(None, has_offsets=False), MemorySink()
    source = JournalSource(
        "journal",
        Journal(directory=str(folder), all=True),
        recorder,
        has_tag,
        intake,
        sink,
        StepClock(),
        file_id="01kebz2d3z0000000000000000",
        settings=JournalSettings(line_limit=500),
    )
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(40):
        assert await source.run(stop)
    return recorder, sink


async def test_a_message_is_one_unit_and_the_journal_says_whose_it_is(tmp_path):
    write(tmp_path, [entry(number, message, identifier=f"app-{number}") for number, message in enumerate(MESSAGES)])
    intake = MemoryIntake()
    recorder, sink = await read(tmp_path, intake)
    assert raws(intake.records()) == ["AUDIT grant\n\tto alice\n\n\tby bob", "AUDIT one line", f"{len(MESSAGES[3])} bytes"]
    assert sink.data == b"plain\nof two lines\n"
    found = [(header.time, header.program, header.unit) for header in recorder.headers if header is not None]
    assert found == [(FIRST + timedelta(milliseconds=number), f"app-{number}", UNIT) for number in range(3)]
    assert recorder.offsets == [0, len(MESSAGES[0]) + 1, len(MESSAGES[0]) + len(MESSAGES[1]) + 2]
    again, _ = await read(tmp_path, intake)
    assert again.headers == []
