"""From manifest to manifest: reasons, totals, source offsets and the spacing of heartbeats.

Invariants: holds running totals and one offset per file, nothing per batch; after a hole in the trail (`forget`) it judges only
what it can still know. This module must not look at bytes, keys or signatures.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..trail.manifest import Manifest, ManifestReason
from ..trail.records import STATE_SOURCE, GapCause
from .findings import Code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..trail.manifest import SourceProgress
    from .contents import GapRecord, Report

HEARTBEATS: Final = 3
_NANOSECONDS: Final = 10**9
_SUMMED: Final = ("records", "events", "quarantined", "gaps", "lines", "observability")


def moment(manifest: Manifest) -> datetime:
    """Return the time of a cut (aware, UTC); ValueError if it is none, such as a 13th month."""
    return datetime.fromisoformat(manifest.sealed_at)


class Carried(NamedTuple):
    """What a trail carries on from the one it continues.

    Attributes:
        offsets: The byte after the last one accounted for, per file_id, as far as it is known.
        complete: Whether a file that is not among them was never read before, so that its first range begins at 0.
    """

    offsets: Mapping[str, int]
    complete: bool


NOTHING: Final = Carried({}, complete=True)
"""What a trail carries on that continues none."""
UNKNOWN: Final = Carried({}, complete=False)
"""What it carries on from one that cannot be read."""


class Books(msgspec.Struct, frozen=True):
    """What an account knows between two batches, to be kept and opened again; see `Account` for the meaning of each."""

    offsets: dict[str, int]
    starts_known: bool
    rolled_back: tuple[str, ...]
    state_lost: bool
    moved: tuple[str, ...]
    last: Manifest | None
    totals_known: bool
    totals: dict[str, int]


class Account:
    """Carries one trail's books from batch to batch.

    Attributes:
        offsets: The byte after the last one accounted for, per file_id.
    """

    def __init__(self, carried: Carried) -> None:
        """Open the books.

        Args:
            carried: What the epoch that this one continues had read.
        """
        self.offsets: dict[str, int] = dict(carried.offsets)
        self._starts_known = carried.complete
        self._rolled_back: set[str] = set()
        self._state_lost = False
        self._moved: set[str] = set()
        self._last: Manifest | None = None
        self._totals_known = True
        self._totals = dict.fromkeys((*_SUMMED, "bytes_lost"), 0)

    @property
    def carried(self) -> Carried:
        """What a trail carries on that continues this one here."""
        return Carried(dict(self.offsets), self._starts_known)

    @property
    def books(self) -> Books:
        """Return what is known now."""
        return Books(
            offsets=dict(self.offsets),
            starts_known=self._starts_known,
            rolled_back=tuple(sorted(self._rolled_back)),
            state_lost=self._state_lost,
            moved=tuple(sorted(self._moved)),
            last=self._last,
            totals_known=self._totals_known,
            totals=dict(self._totals),
        )

    def reopen(self, books: Books) -> None:
        """Go on where another account of the same trail stood."""
        self.offsets, self._starts_known = dict(books.offsets), books.starts_known
        self._rolled_back, self._moved = set(books.rolled_back), set(books.moved)
        self._state_lost, self._last = books.state_lost, books.last
        self._totals_known, self._totals = books.totals_known, dict(books.totals)

    def forget(self) -> None:
        """Stop relying on the last manifest, because what followed it cannot be read."""
        self._last = None
        self._totals_known = self._starts_known = False
        self.offsets.clear()

    def check(self, manifest: Manifest, gaps: Sequence[GapRecord], report: Report) -> None:
        """Check the next manifest against the books, and enter it.

        Args:
            manifest: The manifest.
            gaps: The gap records of its batch.
            report: Called as ``report(code, message)`` for everything found.
        """
        last = self._last
        if last is not None:
            self._check_order(last, manifest, report)
            self._check_spacing(last, manifest, report)
        if manifest.reason is ManifestReason.HEARTBEAT and manifest.records.count:
            report(Code.REASON_WRONG, f"a heartbeat with {manifest.records.count} records")
        self._check_totals(manifest, report)
        # A file that was rolled back is read again as another file, from the newest byte that is still what it was.
        self._rolled_back.update(gap.source for gap in gaps if gap.cause is GapCause.ROLLED_BACK)
        # With its state an agent loses positions and reads from others; its gap record, without bounds, covers what is between.
        self._state_lost |= any(gap.cause is GapCause.STATE_LOST and gap.source == STATE_SOURCE for gap in gaps)
        for source in manifest.sources:
            self._check_offsets(source, gaps, report)
        self._last = manifest

    def _check_order(self, last: Manifest, manifest: Manifest, report: Report) -> None:
        before, reason = last.reason, manifest.reason
        if before is ManifestReason.CLOSE:
            report(Code.REASON_WRONG, f"a batch ({reason.value}) after the one that closed the trail")
        elif before is ManifestReason.STOP and reason is not ManifestReason.RESUME:
            report(Code.REASON_WRONG, f"{reason.value} directly after stop: a run begins with resume")
        elif reason is ManifestReason.RESUME and manifest.unclean is (before is ManifestReason.STOP):
            said = "uncleanly" if manifest.unclean else "cleanly"
            report(Code.REASON_WRONG, f"resume says that the last run ended {said}, but its last batch is {before.value}")

    def _check_spacing(self, last: Manifest, manifest: Manifest, report: Report) -> None:
        resumed = manifest.reason is ManifestReason.RESUME
        same_boot = last.agent.boot_id == manifest.agent.boot_id
        passed = (moment(manifest) - moment(last)).total_seconds()
        if passed < 0:
            report(Code.CLOCK_BACKWARDS, f"the wall clock went back {-passed:.3f} s, to {manifest.sealed_at}")
        if same_boot:
            ticks = manifest.monotonic_ns - last.monotonic_ns
            if ticks < 0 and not resumed:
                report(Code.MONOTONIC_BACKWARDS, f"the monotonic clock went back {-ticks} ns within boot {manifest.agent.boot_id}")
            passed = ticks / _NANOSECONDS if ticks >= 0 else passed
        allowed = HEARTBEATS * last.agent.heartbeat_seconds
        if passed > allowed:
            code = Code.AWAY if resumed else Code.SILENCE
            report(code, f"{passed:.0f} s without a batch before {manifest.sealed_at}; {allowed:g} s are three heartbeats")

    def _check_totals(self, manifest: Manifest, report: Report) -> None:
        stated = msgspec.structs.asdict(manifest.totals)
        if self._totals_known:
            records = manifest.records
            added = {
                "records": records.count,
                "events": records.events,
                "quarantined": records.quarantined,
                "gaps": records.gaps,
                "lines": sum(source.lines for source in manifest.sources),
                "observability": sum(source.observability for source in manifest.sources),
            }
            wrong = [name for name in _SUMMED if stated[name] != self._totals[name] + added[name]]
            if stated["bytes_lost"] < self._totals["bytes_lost"]:
                wrong.append("bytes_lost")
            if wrong:
                sums = ", ".join(f"{name} {stated[name]} (was {self._totals[name]}, {added.get(name, 0)} added)" for name in wrong)
                report(Code.TOTALS_WRONG, f"the totals do not follow from the batches: {sums}")
        self._totals, self._totals_known = stated, True

    def _check_offsets(self, source: SourceProgress, gaps: Sequence[GapRecord], report: Report) -> None:
        file_id, begin, end = source.file_id, source.from_offset, source.to_offset
        if file_id is None or begin is None or end is None:
            return
        known_start = self._starts_known and source.id not in self._rolled_back
        expected = self.offsets.get(file_id, 0 if known_start else begin)
        if self._state_lost and file_id not in self._moved:
            expected = begin
        name = f"{source.id} ({source.path})" if source.path else source.id
        about = [gap for gap in gaps if gap.file_id == file_id or (gap.file_id is None and gap.source == source.id)]
        if end < begin or (begin < expected and all(gap.cause is not GapCause.ROLLED_BACK for gap in about)):
            report(Code.OFFSETS_OVERLAP, f"{name} goes from byte {begin} to {end}, but {expected} bytes were accounted for already")
        elif begin > expected and not any(_covers(gap, expected, begin) for gap in about):
            report(Code.BYTES_UNACCOUNTED, f"bytes {expected} to {begin} of {name} are neither in a batch nor stated as lost")
        self.offsets[file_id] = end
        self._moved.add(file_id)


def _covers(gap: GapRecord, begin: int, end: int) -> bool:
    return gap.from_offset is not None and gap.from_offset <= begin and (gap.to_offset is None or gap.to_offset >= end)
