"""A folder with a log in it, and a file source over it that tests can drain, stop and crash."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.file import FileSource, TailSettings
from tests.support.memory_intake import MemoryIntake, MemorySink, StepClock, audit_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.sources.base import TimeOfDay

AT_ONCE = TailSettings(eof_hold_seconds=0, linger_seconds=0, rescan_seconds=0.05)


def turn(path: Path) -> None:
    """Rotate by renaming, numbers counted up, as logrotate does; compressed files keep their ending."""
    number = 1
    while (name := _numbered(path, number)) is not None:
        number += 1
    for one in range(number - 1, 0, -1):
        name = _numbered(path, one)
        if name is not None:
            name.rename(path.with_name(f"{path.name}.{one + 1}{'.gz' if name.suffix == '.gz' else ''}"))
    path.rename(path.with_name(f"{path.name}.1"))


def _numbered(path: Path, number: int) -> Path | None:
    names = [path.with_name(f"{path.name}.{number}{ending}") for ending in ("", ".gz")]
    return next((name for name in names if name.exists()), None)


def copy(path: Path) -> None:
    """Copy a log to the name ``.1``, after counting up the older ones' numbers."""
    number = 1
    while path.with_name(f"{path.name}.{number}").exists():
        number += 1
    for one in range(number, 1, -1):
        path.with_name(f"{path.name}.{one - 1}").rename(path.with_name(f"{path.name}.{one}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))


def copy_and_truncate(path: Path) -> None:
    """Rotate as logrotate's ``copytruncate`` does."""
    copy(path)
    os.truncate(path, 0)


class Bench:
    """Write to a log and run a source over it."""

    def __init__(self, folder: Path, settings: TailSettings = AT_ONCE, patterns: Sequence[str] = ("*.log",)) -> None:
        """Prepare a folder; the source starts with the first drain."""
        self.folder = folder
        self.path = folder / "app.log"
        self.settings = settings
        self.patterns = [str(folder / pattern) for pattern in patterns]
        self.intake = MemoryIntake()
        self.sink = MemorySink()
        self.clock: TimeOfDay = StepClock()
        self.problems: list[tuple[str, str | None]] = []
        self.written: list[str] = []
        self._count = 0
        self._source: FileSource | None = None

    def source(self) -> FileSource:
        """Return the running source, a new one after a stop or crash."""
        if self._source is None:
            rule = FieldRule()
            self._source = FileSource(
                "app",
                self.patterns,
                lambda: Separator("app", rule, Validator(rule), keep_observability=True, has_offsets=True),
                self.intake,
                self.sink,
                self.clock,
                self.settings,
                rule=rule,
                problem=lambda path, text: self.problems.append((path, text)),
            )
        return self._source

    async def drain(self) -> None:
        await self.source().drain_once()

    async def stop(self) -> None:
        """End the source in good order."""
        if self._source is not None:
            source, self._source = self._source, None
            await source.close()

    async def crash(self) -> None:
        """End the source and lose what is not durable."""
        self.intake.crash()
        await self.stop()

    def next_audit(self) -> str:
        """Return a new audit line and expect it in the trail."""
        self._count += 1
        self.written.append(f"e{self._count}")
        return audit_line(self._count).decode()

    def write(self, *, audit: int = 0, text: str = "", path: Path | None = None) -> None:
        """Append audit lines, then other text."""
        data = "".join(self.next_audit() + "\n" for _ in range(audit)) + text
        with (path or self.path).open("ab") as file:
            file.write(data.encode())

    def ids(self) -> list[str]:
        return self.intake.event_ids()

    def gaps(self) -> list[dict[str, Any]]:
        return self.intake.of_kind("gap")
