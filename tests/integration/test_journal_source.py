"""The journal source over real journal files and systemd's journalctl, with an intake in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.config import Journal
from agent.events.catalog import Catalog
from agent.events.classify import FieldRule, Rule
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.journal import JournalSettings, JournalSource
from agent.sources.journal.command import arguments, matches, probe
from tests.support import loggen
from tests.support.journal_files import audit_entries, entry, write
from tests.support.memory_intake import MemoryIntake, MemorySink, StepClock, audit_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE_SECONDS = 30.0


class Reading:
    """A source that runs, and what it works with."""

    def __init__(self, intake: MemoryIntake, journal: Journal, rule: Rule, settings: dict[str, Any]) -> None:
        """Start it."""
        self.intake = intake
        self.sink = MemorySink()
        self.problems: list[str | None] = []
        self.stop = asyncio.Event()
        separator = Separator("journal", rule, Validator(rule, Catalog()), keep_observability=True, has_offsets=False)
        self.source = JournalSource(
            "journal",
            journal,
            separator,
            rule.is_audit,
            intake,
            self.sink,
            StepClock(),
            file_id="01kebz2d3z0000000000000000",
            settings=JournalSettings(**{"retry_seconds": (0.05, 0.2), "settled_seconds": 0.3, **settings}),
            problem=lambda _path, what: self.problems.append(what),
        )
        self.running = asyncio.ensure_future(self.source.run(self.stop))

    async def until(self, condition: Any, what: str = "what was waited for") -> None:
        """Wait until something holds."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition() and not self.running.done():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(what) from None
        if self.running.done():
            await self.running

    async def until_events(self, ids: list[str]) -> None:
        """Wait until so many events are there; they must be these."""
        await self.until(lambda: len(self.intake.event_ids()) >= len(ids), f"{len(ids)} events")
        assert self.intake.event_ids() == ids


@contextlib.asynccontextmanager
async def reading(folder: Path, intake: MemoryIntake | None = None, rule: Rule | None = None, **options: Any) -> AsyncIterator[Reading]:
    selectors: dict[str, Any] = {name: options.pop(name) for name in ("units", "identifiers") if name in options}
    journal = Journal(directory=str(folder), **(selectors or {"all": True}))
    found = Reading(intake or MemoryIntake(), journal, rule or FieldRule(), options)
    try:
        yield found
    finally:
        found.stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await found.running


def ids(first: int, last: int) -> list[str]:
    return [loggen.event_id(number) for number in range(first, last)]


async def test_what_is_there_comes_first_then_what_is_written_while_it_is_followed(tmp_path):
    write(tmp_path, audit_entries(0, 300))
    async with reading(tmp_path) as site:
        await site.until_events(ids(0, 300))
        for first in (300, 310):
            write(tmp_path, audit_entries(first, first + 10))
            await site.until_events(ids(0, first + 10))
        site.stop.set()
        assert await site.running is True
    steps = [step for append in site.intake.durable for step in append.progress]
    assert [step.from_offset for step in steps] == [0, *[step.to_offset for step in steps[:-1]]]
    assert steps[-1].to_offset == sum(len(loggen.audit_line(number)) for number in range(320))
    assert {(step.kind, step.path) for step in steps} == {("journal", str(tmp_path))}
    assert all(problem is None for problem in site.problems)


async def test_another_run_goes_on_behind_the_cursor(tmp_path):
    intake = MemoryIntake()
    for last in (50, 100, 100, 150):
        write(tmp_path, audit_entries(len(intake.event_ids()), last))
        async with reading(tmp_path, intake) as site:
            await site.until_events(ids(0, last))
    [cursor] = intake.all_cursors()
    assert cursor.token.startswith("s=")
    assert intake.of_kind("gap") == []


async def test_what_was_not_durable_is_read_again(tmp_path):
    intake = MemoryIntake()
    write(tmp_path, audit_entries(0, 20))
    async with reading(tmp_path, intake) as site:
        await site.until_events(ids(0, 20))
        intake.held = True
        write(tmp_path, audit_entries(20, 40))
        await site.until(lambda: intake._waiting, "an append that waits")
    intake.crash()
    intake.held = False
    async with reading(tmp_path, intake) as site:
        await site.until_events(ids(0, 40))


async def test_a_stop_brings_in_what_is_there(tmp_path):
    write(tmp_path, audit_entries(0, 2000))
    async with reading(tmp_path) as site:
        site.stop.set()
        assert await site.running is True
    assert site.intake.event_ids() == ids(0, 2000)


async def test_entries_of_all_boots_are_read(tmp_path):
    old = b"".join(entry(number, audit_line(number), boot="aa" * 16) for number in range(5))
    write(tmp_path, old)
    write(tmp_path, b"".join(entry(number, audit_line(number), boot="bb" * 16) for number in range(5, 10)))
    async with reading(tmp_path) as site:
        await site.until_events([f"e{number}" for number in range(10)])
        write(tmp_path, [entry(10, audit_line(10), boot="cc" * 16)], "b")
        await site.until_events([f"e{number}" for number in range(11)])


async def test_units_and_identifiers_are_each_enough(tmp_path):
    write(
        tmp_path,
        [
            entry(1, audit_line(1), unit="one.service", identifier="x"),
            entry(2, audit_line(2), unit="two.service", identifier="x"),
            entry(3, audit_line(3), unit="three.service", identifier="tool"),
            entry(4, audit_line(4), unit="four.service", identifier="x"),
            entry(5, audit_line(5), unit="two.socket", identifier="x"),
        ],
    )
    async with reading(tmp_path, units=("one", "two.service"), identifiers=("tool",)) as site:
        await site.until_events(["e1", "e2", "e3"])


async def test_another_selection_is_no_loss(tmp_path):
    intake = MemoryIntake()
    write(tmp_path, [entry(1, audit_line(1), unit="one.service"), entry(2, audit_line(2), unit="two.service")])
    async with reading(tmp_path, intake, units=("one",)) as site:
        await site.until_events(["e1"])
    async with reading(tmp_path, intake, units=("two",)) as site:
        await site.until_events(["e1", "e2"])
    assert intake.of_kind("gap") == []


async def test_messages_of_any_bytes_are_kept_or_passed_byte_for_byte(tmp_path):
    several = audit_line(2)[:-1] + b',\n"x":"\x00\xff"}'
    messages = [
        audit_line(1),
        several,
        b"plain",
        b"two\nlines\x00",
        b"",
        audit_line(3) + b"\n",
        b'{"stream":"audit"}\xff',
        b'{"stream":"audit","x":"' + b"y" * 3000 + b'"}',
        b"z" * 5000,
        b'{"x":"' + b"y" * 3000 + b'","stream":"audit"}',
        audit_line(4),
    ]
    write(tmp_path, [entry(number, message) for number, message in enumerate(messages)] + [entry(50, None)])
    async with reading(tmp_path, line_limit=2000) as site:
        await site.until_events(["e1", "e3", "e4"])
    quarantined = site.intake.of_kind("quarantine")
    assert [record["reason"] for record in quarantined] == ["multi_line", "invalid_utf8", "too_long", "too_long"]
    assert [record.get("sha256") for record in quarantined[2:]] == [hashlib.sha256(messages[at]).hexdigest() for at in (7, 9)]
    assert site.sink.data == b"plain\ntwo\nlines\x00\n\n" + messages[8] + b"\n" + messages[9] + b"\n"
    steps = [step for append in site.intake.durable for step in append.progress]
    assert sum(step.lines for step in steps) == len(messages)
    assert sum(step.audit for step in steps) == 7
    assert steps[-1].to_offset == sum(len(message) + 1 for message in messages)


@pytest.mark.parametrize("rest", [True, False])
async def test_a_vacuumed_journal_is_an_unbounded_gap_stated_once(tmp_path, rest):
    intake = MemoryIntake()
    old = write(tmp_path, audit_entries(0, 20), "old")
    async with reading(tmp_path, intake) as site:
        await site.until_events(ids(0, 20))
    if rest:
        write(tmp_path, audit_entries(20, 30), "lost")
        write(tmp_path, audit_entries(30, 40), "new")
        (tmp_path / "lost.journal").unlink()
    old.unlink()
    kept = ids(0, 20) + (ids(30, 40) if rest else [])
    for _ in range(2):
        async with reading(tmp_path, intake) as site:
            await site.until(lambda: intake.of_kind("gap"), "a gap record")
            await site.until_events(kept)
    write(tmp_path, audit_entries(40, 50), "newer")
    async with reading(tmp_path, intake) as site:
        await site.until_events(kept + ids(40, 50))
    [gap] = intake.of_kind("gap")
    assert (gap["cause"], gap["certainty"], gap["to_offset"]) == ("rotated_away", "unbounded", None)
    assert gap["from_offset"] == sum(len(loggen.audit_line(number)) for number in range(20))


async def test_files_that_go_while_others_come_are_followed(tmp_path):
    old = write(tmp_path, audit_entries(0, 10), "a")
    async with reading(tmp_path) as site:
        await site.until_events(ids(0, 10))
        write(tmp_path, audit_entries(10, 20), "b")
        await site.until_events(ids(0, 20))
        old.unlink()
        write(tmp_path, audit_entries(20, 30), "c")
        await site.until_events(ids(0, 30))
    assert site.intake.of_kind("gap") == []


async def test_a_journalctl_that_dies_is_started_again(tmp_path):
    write(tmp_path, audit_entries(0, 10))
    pids = tmp_path / "pids"
    script = f'echo $$ >> {pids}; exec journalctl "$@"'
    async with reading(tmp_path, program=("sh", "-c", script, "journalctl")) as site:
        for last in (10, 20, 30):
            await site.until_events(ids(0, last))
            known = len(site.problems)
            await asyncio.sleep(0.2)
            os.kill(int(pids.read_text().split()[-1]), 9)
            await site.until(lambda known=known: len(site.problems) > known, "a problem")
            write(tmp_path, audit_entries(last, last + 10))
        await site.until_events(ids(0, 40))
        await site.until(lambda: site.problems[-1] is None, "a cure")
    assert any("status -9" in (problem or "") for problem in site.problems)


async def test_a_missing_journalctl_is_reported_and_waited_for(tmp_path):
    write(tmp_path / "j", audit_entries(0, 10))
    program = tmp_path / "bin" / "journalctl"
    async with reading(tmp_path / "j", program=(str(program),)) as site:
        await site.until(lambda: len(site.problems) > 2, "problems")
        assert site.problems[0] == f"{program} cannot be started: No such file or directory"
        program.parent.mkdir()
        program.symlink_to(shutil.which("journalctl") or "")
        await site.until_events(ids(0, 10))
        await site.until(lambda: site.problems[-1] is None, "a cure")


async def test_a_missing_folder_is_reported_and_waited_for(tmp_path):
    async with reading(tmp_path / "later") as site:
        await site.until(lambda: site.problems, "a problem")
        assert "No such file or directory" in (site.problems[0] or "")
        write(tmp_path / "later", audit_entries(0, 5))
        await site.until_events(ids(0, 5))


async def test_an_empty_folder_is_waited_for(tmp_path):
    async with reading(tmp_path) as site:
        await asyncio.sleep(0.5)
        write(tmp_path, audit_entries(0, 5))
        await site.until_events(ids(0, 5))


async def test_a_journalctl_that_hangs_does_not_hold_up_the_end(tmp_path):
    program = (sys.executable, "-c", "import time; time.sleep(600)")
    async with reading(tmp_path, program=program, stop_seconds=0.3) as site:
        await asyncio.sleep(0.3)
        site.stop.set()
        assert await site.running is False


def test_how_journalctl_is_called():
    journal = Journal(units=("a", "b.socket"), identifiers=("c",), directory="/j")
    assert matches(journal) == ["_SYSTEMD_UNIT=a.service", "_SYSTEMD_UNIT=b.socket", "+", "SYSLOG_IDENTIFIER=c"]
    assert matches(Journal(identifiers=("c",))) == ["SYSLOG_IDENTIFIER=c"]
    assert matches(Journal(all=True)) == []
    assert "--merge" in arguments(journal, "", follow=True)
    assert "--merge" not in arguments(Journal(all=True), "", follow=True)
    assert "--follow" not in arguments(journal, "s=1", follow=False)
    assert not set(matches(journal)) & set(probe(journal, "s=1"))
