"""Words that all formats of a report share.

Invariants: nothing is escaped here, whoever shows it does that. This module is pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..findings import Severity
from .pipeline import Weight

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .tally import Seen

WEIGHTS: Final = {Weight.EVIDENCE: "Evidence", Weight.ATTENTION: "Look closer", Weight.NONE: "No evidence"}
_RESULTS: Final = {"no_findings": "no findings", "findings": "findings", "follow_up": "to be followed up"}
_SHOWN_NAMES: Final = 6


def period(since: datetime | None, until: datetime | None) -> str:
    """Return a range as people write it, whole days as days; the end is not part of it."""
    if since is None and until is None:
        return "everything"
    if until is None:
        return f"from {_short(since)} on"
    return f"before {_short(until)}" if since is None else f"{_short(since)} to before {_short(until)}"


def _short(time: datetime | None) -> str:
    if time is None:
        return ""
    midnight = not (time.hour or time.minute or time.second or time.microsecond)
    return f"{time:%Y-%m-%d}" if midnight else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def outcomes(seen: Seen) -> str:
    """Return the outcomes with their numbers."""
    return ", ".join(f"{count:,} {outcome}" for outcome, count in seen.outcomes)


def names(counted: Sequence[tuple[str, int]]) -> str:
    """Return the most frequent names, and how many there are beside them."""
    shown = ", ".join(name for name, _ in counted[:_SHOWN_NAMES])
    left = len(counted) - _SHOWN_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown


def result_words(result: str | None) -> str:
    """Return the outcome of a review."""
    return _RESULTS.get(result or "", "not stated")


def severity_word(severity: Severity) -> str:
    """Return how bad something is."""
    return "notice" if severity is Severity.NOTICE else severity.verdict
