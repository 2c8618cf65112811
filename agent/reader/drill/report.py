"""The outcome of a drill as one value, and as JSON.

Invariants: the exit code follows from what is reported and from nothing else; JSON holds everything the other forms show. This module
must not format for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .values import Expectation, Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from ..findings import Finding
    from .run import Exercise
    from .timeline import Entry, Timeline
    from .values import NotTried, Result, Verdict

JSON_FORMAT: Final = 1
NOT_CAUGHT_EXIT: Final = 10
NO_GROUND_EXIT: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """Everything about one drill.

    Attributes:
        store: The store's name.
        version: The version of this program.
        began_at: When it began.
        judged_at: The moment by which everything was judged.
        seconds: How long it took.
        seed: Where every choice came from.
        trust_file: The trust file's path.
        trust_sha256: And the SHA-256 of its bytes.
        whole: Whether the whole store was copied.
        copied_bytes: How much was copied.
        trails_left_out: How many trails were not.
        missing: Keys of objects that could not be copied.
        original: What `verify` says of the store, as far as it was copied.
        exercise: What came of the tampering.
        not_tried: What a folder cannot show.
        timeline: The reconstruction; None if the copy has no verified event.
    """

    store: str
    version: str
    began_at: datetime
    judged_at: datetime
    seconds: float
    seed: int
    trust_file: str
    trust_sha256: str
    whole: bool
    copied_bytes: int
    trails_left_out: int
    missing: tuple[str, ...]
    original: Verdict
    exercise: Exercise
    not_tried: tuple[NotTried, ...]
    timeline: Timeline | None

    @property
    def same(self) -> bool:
        """Whether the untouched copy gives the store's own verdict."""
        control = self.exercise.control
        return control.severity is self.original.severity and control.serious == self.original.serious

    @property
    def exit_code(self) -> int:
        """0 only if everything that was tried was caught, on a copy that is like the store."""
        if self.exercise.failed:
            return NOT_CAUGHT_EXIT
        return 0 if self.same and self.exercise.restored and self.exercise.tried and not self.exercise.faults else NO_GROUND_EXIT

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        exercise = self.exercise
        if exercise.failed:
            missed = sum(result.outcome.failed for result in exercise.results)
            return f"FAILED: {missed} of {exercise.tried} tamperings were not caught, or were taken for something else"
        if not self.same:
            return "no result: the untouched copy does not give the store's own verdict"
        if not exercise.restored:
            return "no result: the copy was not the same in the end as in the beginning"
        if not exercise.tried:
            return "no result: nothing could be tried"
        if exercise.faults:
            return f"no result: {exercise.faults} tamperings could not be prepared, by an error of the program"
        return f"all {exercise.caught} tamperings that were tried were caught"

    @property
    def of_interest(self) -> tuple[str, ...]:
        """What a reader has to know beside the outcome, one sentence each."""
        told: list[str] = []
        verdict = self.original.severity.verdict
        if self.original.severity:
            codes = ", ".join(f"{code} ({count})" for code, count in self.original.codes.items())
            told.append(
                f"The store itself is {verdict} (exit {self.original.severity.exit_code}): {codes}. "
                "A tampering counts as caught only by a finding beyond these."
            )
        if not self.whole:
            told.append(f"Only a part of the store was copied: {self.trails_left_out} trails were left out. Nothing is shown about those.")
        if self.missing:
            told.append(f"{len(self.missing)} objects could not be copied, the first is {self.missing[0]}.")
        untried = sum(
            result.outcome is Outcome.NOT_TRIED and result.tampering.expectation is Expectation.CAUGHT for result in self.exercise.results
        )
        if untried:
            told.append(f"{untried} tamperings were not tried, because the copied trails have no place for them; the table says why.")
        return tuple(told)


def as_json(report: DrillReport) -> dict[str, Any]:
    """Return the report as plain data; docs/drill.md describes every key."""
    exercise = report.exercise
    return {
        "format": JSON_FORMAT,
        "store": _unicode(report.store),
        "version": report.version,
        "began_at": report.began_at.isoformat(),
        "judged_at": report.judged_at.isoformat(),
        "seconds": round(report.seconds, 3),
        "seed": report.seed,
        "trust_file": _unicode(report.trust_file),
        "trust_sha256": report.trust_sha256,
        "outcome": report.verdict,
        "exit_code": report.exit_code,
        "remarks": [_unicode(remark) for remark in report.of_interest],
        "whole": report.whole,
        "copied_bytes": report.copied_bytes,
        "trails_left_out": report.trails_left_out,
        "missing": [_unicode(key) for key in report.missing],
        "original": _verdict(report.original),
        "control": _verdict(exercise.control),
        "same": report.same,
        "restored": exercise.restored,
        "tampered_trails": list(exercise.origins),
        "tried": exercise.tried,
        "caught": exercise.caught,
        "tamperings": [_result(result) for result in exercise.results],
        "not_tried": [{"name": entry.name, "wants": entry.wants, "why": entry.why} for entry in report.not_tried],
        "timeline": _timeline(report.timeline) if report.timeline else None,
    }


def _unicode(text: str) -> str:
    """Return a text with what is no Unicode, as in file names that are not UTF-8, as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.severity.verdict,
        "exit_code": verdict.severity.exit_code,
        "trails": verdict.trails,
        "batches": verdict.batches,
        "records": verdict.records,
        "counts": dict(verdict.codes),
    }


def _result(result: Result) -> dict[str, Any]:
    tampering = result.tampering
    return {
        "name": tampering.name,
        "who": tampering.who.value,
        "wants": tampering.wants,
        "done": _unicode(result.done),
        "must": sorted(code.value for code in tampering.must),
        "may": sorted(code.value for code in tampering.may),
        "expected_exit_codes": list(tampering.exits),
        "expectation": tampering.expectation.value,
        "remedy": tampering.remedy,
        "outcome": result.outcome.value,
        "found": [_finding(finding) for finding in result.found],
        "exit_code": result.exit_code,
        "untouched_exit_code": result.untouched_exit_code,
        "objects": result.objects,
        "seconds": round(result.seconds, 3),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code.value,
        "origin": finding.origin,
        "batch": finding.batch,
        "key": None if finding.key is None else _unicode(finding.key),
        "message": _unicode(finding.message),
    }


def _timeline(timeline: Timeline) -> dict[str, Any]:
    return {
        "actor": timeline.actor,
        "chosen": timeline.chosen,
        "events": timeline.events,
        "unreadable": timeline.unreadable,
        "verified_batches": timeline.verified,
        "unverified_batches": timeline.unverified,
        "unvouched_trails": list(timeline.unvouched),
        "outcomes": dict(sorted(timeline.outcomes.items())),
        "sessions": dict(timeline.sessions),
        "omitted": timeline.omitted,
        "entries": [_entry(entry) for entry in timeline.entries],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "at": entry.at,
        "origin": entry.origin,
        "batch": entry.batch,
        "seq": entry.seq,
        "actor": entry.actor,
        "session": entry.session,
        "action": entry.action,
        "target": entry.target,
        "outcome": entry.outcome,
        "context": entry.context,
        "remark": _unicode(entry.remark),
    }
