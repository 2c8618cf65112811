"""A separator for tests of sources whose lines join to units: it keeps what it is given, whatever a mapping would make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from agent.events.mappings.joining import Joining
from agent.separator import Separated
from agent.sources.file import FileSource, TailSettings
from agent.trail.records import QuarantineReason, oversize_body, quarantine_body
from tests.support.tail_bench import AT_ONCE, Bench

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.events.mappings.header import Header
    from agent.separator import Places

TAG = b"AUDIT"
START = Joining("start", r"^\d+ ", patience_seconds=0.05)
"""Units begin with a number and a blank, and wait for a moment."""

TRACE = Joining("continues", r"^\s", patience_seconds=3600)
"""What is indented goes on; nothing is complete for want of more."""


def has_tag(line: bytes) -> bool:
    return TAG in line


class TagRule:
    """Say what is audit; all that a source asks of a rule."""

    is_audit = staticmethod(has_tag)


class UnitRecorder:
    """Record each unit with the tag as it is, as quarantine of several lines; the others pass."""

    def __init__(self, joining: Joining | None, *, has_offsets: bool = True) -> None:
        """Begin with nothing seen."""
        self.joining = joining
        self.headers: list[Header | None] = []
        self.offsets: list[int] = []
        self._has_offsets = has_offsets

    def separate(self, block: bytes, offset: int, observed_at: str, places: Places | None = None) -> Separated:
        assert self.joining is not None
        spans = self.joining.units(block)
        assert [start for start, _ in spans] == [0, *(end + 1 for _, end in spans[:-1])]
        if places is None:
            at, members = [(offset + start, end - start) for start, end in spans], [b""] * len(spans)
        else:
            at, members = places.of(spans)
        return self._separated([block[start:end] for start, end in spans], at, observed_at, members)

    def separate_units(self, units: Sequence[bytes], headers: Sequence[Header | None] | None, offset: int, observed_at: str) -> Separated:
        self.headers += [None] * len(units) if headers is None else headers
        offsets = []
        for unit in units:
            offsets.append(offset)
            offset += len(unit) + 1
        self.offsets += offsets
        return self._separated(units, [(0, 0)] * len(units), observed_at, [b""] * len(units))

    def overlong(self, observed_at: str, head: bytes, length: int, sha256_hex: str, at: tuple[int, int] | None, member: bytes) -> bytes:
        return oversize_body("app", observed_at, head, length, sha256_hex, at, member=member)

    def quarantined(self, observed_at: str, reason: QuarantineReason, detail: str, raw: bytes) -> bytes:
        return quarantine_body("app", observed_at, reason, detail, raw)

    def _separated(
        self, units: Sequence[bytes], places: Sequence[tuple[int, int]], observed_at: str, members: Sequence[bytes]
    ) -> Separated:
        kept = [(unit, at, member) for unit, at, member in zip(units, places, members, strict=True) if has_tag(unit)]
        reason = QuarantineReason.MULTI_LINE
        bodies = [
            quarantine_body("app", observed_at, reason, "as it is", unit, at if self._has_offsets else None, member=member)
            for unit, at, member in kept
        ]
        return Separated(
            bodies=b"".join(body + b"\n" for body in bodies),
            records=len(kept),
            quarantined=len(kept),
            lines=len(units),
            observability_lines=len(units) - len(kept),
            observability=b"".join(unit + b"\n" for unit in units if not has_tag(unit)),
            reasons={reason.value: len(kept)} if kept else {},
        )


def raws(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return what records hold of their units: the text, or how long the unit was."""
    return [record["raw"] if "raw" in record else f"{record['length']} bytes" for record in records if record["kind"] == "quarantine"]


class UnitBench(Bench):
    """Run a file source over a log whose lines join to units."""

    def __init__(
        self, folder: Path, joining: Joining = START, settings: TailSettings = AT_ONCE, patterns: Sequence[str] = ("*.log",)
    ) -> None:
        """Prepare a folder."""
        super().__init__(folder, settings, patterns)
        self.joining = joining
        self._units: FileSource | None = None

    def source(self) -> FileSource:
        """Return the running source, a new one after a stop or crash."""
        if self._source is None:
            self._source = FileSource(
                "app",
                self.patterns,
                lambda: UnitRecorder(self.joining),
                self.intake,
                self.sink,
                self.clock,
                self.settings,
                rule=cast("Any", TagRule()),
                problem=lambda path, text: self.problems.append((path, text)),
                joining=self.joining,
            )
        return self._source

    def append(self, text: str | bytes) -> None:
        """Write to the log."""
        with self.path.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    def units(self) -> list[str]:
        """Return the durable units."""
        return raws(self.intake.records())

    def cursor_offset(self) -> int:
        """Return up to where the log is durable."""
        return max((cursor.offset for cursor in self.intake.all_cursors()), default=0)
