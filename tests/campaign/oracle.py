"""Decide whether nothing was lost: what a source held against what its store holds, and what `verify` says of it.

Invariants: an event is lost if it is in no sealed batch; it is duplicated if two records hold it and no fork explains the second one; a gap
is a statement, never an excuse: where no byte was destroyed there must be none. This module must not start the agent or change a site.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from agent.reader.opening import open_store
from agent.reader.trustfile import TrustFile, trust_lines
from agent.reader.verify import Options, verify_store
from agent.trail.batch import read_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.agent_process import Site

INTACT: Final = 0
INCOMPLETE: Final = 11


@dataclass(slots=True)
class Findings:
    """What the oracle found.

    Attributes:
        written: How many audit lines the source held.
        lost: How many of them are in no sealed batch.
        stated: Whether that loss is one that may be, and is stated.
        duplicated: How many records repeat an event without a fork that explains it.
        flagged: How many records repeat an event beyond the point at which a fork's new epoch went on.
        gaps: The gap records.
        verify: The exit code of the verification.
        problems: One sentence for each thing that must not be.
    """

    written: int = 0
    lost: int = 0
    stated: bool = False
    duplicated: int = 0
    flagged: int = 0
    gaps: list[dict[str, Any]] = field(default_factory=list)
    verify: int = INTACT
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a workload or a fault may leave behind without being a violation.

    Attributes:
        gap_causes: Causes that gap records may have.
        gap_certainties: Certainties they may have.
        lost: Whether events may be missing if a gap record states it (bytes that really were destroyed).
        detected: Whether events may be missing if `verify` does not pass the store (a store that lied about having taken them).
        unordered: Whether two sources, or a fork, make the order of events no property.
        forked: Whether events may be repeated where a fork explains it: only a state that was put back may fork.
        codes: Further codes of `verify` that are right here.
        clock_ahead_seconds: How far the verifier's clock is put forward, for trails written under a clock that ran ahead.
    """

    gap_causes: frozenset[str] = frozenset()
    gap_certainties: frozenset[str] = frozenset()
    lost: bool = False
    detected: bool = False
    unordered: bool = False
    forked: bool = False
    codes: frozenset[str] = frozenset()
    clock_ahead_seconds: float = 0.0


NOTHING: Final = Allowance()
"""What most faults may leave behind."""


def event_ids(site: Site) -> list[str]:
    """Return the events' ids in the order of the trails; none for a store that cannot be read now."""
    return [record["event"]["event_id"] for record, _ in _records(site) if record["kind"] == "event"]


def judge(site: Site, expected: Sequence[str], allowance: Allowance) -> Findings:
    """Compare the source with the store and verify the store.

    Args:
        site: The site, with no agent running.
        expected: The event_ids of the source's audit lines, in order.
        allowance: What is right for this workload and this fault.

    Returns:
        What was found; `problems` is empty if the promise held.
    """
    found = Findings(written=len(expected))
    try:
        records = list(_records(site))
    except Exception as error:  # noqa: BLE001 -- whatever makes the store unreadable is the finding
        found.problems.append(f"the store cannot be read: {type(error).__name__}: {error}")
        records = []
    found.gaps = [record for record, _ in records if record["kind"] == "gap"]
    _verify(found, site, allowance)
    _compare(found, records, expected, allowance)
    return found


def _records(site: Site) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield every sealed record, and whether it lies beyond the point at which a later epoch went on after a fork."""
    seals = site.trails.seals()
    ends = {}
    for seal in seals:
        link = seal.manifest.continues
        if link and link.why.value == "fork":
            ends[link.origin] = link.size
    for seal in seals:
        data = seal.manifest.data
        if data is None or not (site.store / data.key).exists():
            continue
        end = ends.get(seal.checkpoint().origin)
        for line in read_data((site.store / data.key).read_bytes(), data.raw_bytes):
            record = json.loads(line)
            yield record, end is not None and record["seq"] >= end


def _compare(found: Findings, records: Sequence[tuple[dict[str, Any], bool]], expected: Sequence[str], allowance: Allowance) -> None:
    ids = [record["event"]["event_id"] for record, _ in records if record["kind"] == "event"]
    counts = Counter(ids)
    beyond = Counter(record["event"]["event_id"] for record, forked in records if forked and record["kind"] == "event")
    wanted = set(expected)
    missing = [one for one in expected if one not in counts]
    for one, count in counts.items():
        flagged = min(beyond[one], count - 1)
        found.flagged += flagged
        found.duplicated += count - 1 - flagged
    found.lost = len(missing)
    found.stated = bool(allowance.lost and found.gaps) or (allowance.detected and found.verify != INTACT)
    if found.gaps and found.verify == INTACT:
        found.problems.append("verify says intact although a gap record is there")
    if missing and not found.stated:
        found.problems.append(f"{len(missing)} of {len(expected)} events are missing, from {missing[0]} to {missing[-1]}")
    if found.duplicated:
        twice = [one for one, count in counts.items() if count - beyond[one] > 1]
        found.problems.append(f"{found.duplicated} events are there twice, from {twice[0]} to {twice[-1]}")
    if found.flagged and not allowance.forked:
        found.problems.append(f"{found.flagged} events are repeated in a new epoch after a fork, and nobody put the state back")
    if foreign := counts.keys() - wanted:
        found.problems.append(f"{len(foreign)} events were never in the source, one of them {min(foreign)}")
    if not allowance.unordered and not found.duplicated and not found.flagged:
        _check_order(found, ids, expected)
    if quarantined := [record for record, _ in records if record["kind"] == "quarantine"]:
        found.problems.append(f"{len(quarantined)} lines were quarantined, the first for {quarantined[0]['reason']}")
    _check_gaps(found, allowance)


def _check_order(found: Findings, ids: Sequence[str], expected: Sequence[str]) -> None:
    there, wanted = set(ids), set(expected)
    if [one for one in ids if one in wanted] != [one for one in expected if one in there]:
        found.problems.append("the events are not in the order of the source")


def _check_gaps(found: Findings, allowance: Allowance) -> None:
    for gap in found.gaps:
        if gap["cause"] not in allowance.gap_causes or gap["certainty"] not in allowance.gap_certainties:
            found.problems.append(
                f"a gap where nothing was destroyed: {gap['cause']}, {gap['certainty']}, {gap['from_offset']} to {gap['to_offset']}"
            )


def _verify(found: Findings, site: Site, allowance: Allowance) -> None:
    store = open_store(str(site.store))
    try:
        trust = TrustFile.parse("\n".join(trust_lines(store)), "campaign")
    except Exception as error:  # noqa: BLE001 -- as in `judge`
        found.problems.append(f"the trust lines cannot be read: {type(error).__name__}: {error}")
        return
    now = datetime.now(UTC) + timedelta(seconds=allowance.clock_ahead_seconds)
    report = verify_store(store, Options(trust=trust), now=now)
    found.verify = report.severity.exit_code
    counted = [one for one in report.log.kept if one.code.severity]
    codes = {str(one.code) for one in counted}
    allowed = set(allowance.codes) | ({"gap"} if found.gaps else set())
    if codes - allowed and not allowance.detected:
        first = next(one for one in counted if str(one.code) in codes - allowed)
        found.problems.append(f"verify {found.verify}: {', '.join(sorted(codes - allowed))}: {first.message}")
    if found.verify not in (INTACT, INCOMPLETE) and not allowance.detected:
        found.problems.append(f"verify ended with {found.verify}")
