"""What a verifier makes of positions after an agent has lost its state, and has said so."""

from __future__ import annotations

import pytest

from agent.reader.account import Account, Carried
from agent.reader.contents import GapRecord
from agent.reader.findings import Code
from agent.trail.manifest import (
    AgentState,
    ClockState,
    Manifest,
    ManifestReason,
    RecordCounts,
    SourceProgress,
    SpoolState,
    Totals,
)
from agent.trail.records import STATE_SOURCE, Certainty, GapCause

LOSS = GapRecord(
    seq=1, source=STATE_SOURCE, cause=GapCause.STATE_LOST, certainty=Certainty.UNBOUNDED, from_offset=None, to_offset=None, detail=""
)


def manifest(begin: int, end: int) -> Manifest:
    """Return a manifest of which only the source's range matters here."""
    return Manifest(
        seq=0,
        batch=1,
        reason=ManifestReason.AGE,
        previous="0" * 64,
        sealed_at="2026-01-08T14:32:07Z",
        monotonic_ns=0,
        records=RecordCounts(0, 0, 0, 0, 0),
        data=None,
        window=None,
        sources=(SourceProgress("app", "file", "/var/log/app.log", "f", begin, end, 0, 0, 0, 0),),
        totals=Totals(0, 0, 0, 0, 0, 0, 0),
        spool=SpoolState(0, 0, 0),
        clock=ClockState(None, None, None),
        agent=AgentState("0", "h", "b", "0" * 64, 60),
    )


@pytest.mark.parametrize(("begin", "code"), [(50, Code.OFFSETS_OVERLAP), (150, Code.BYTES_UNACCOUNTED)])
def test_after_a_lost_state_a_files_first_range_may_begin_anywhere_and_the_next_may_not(begin: int, code: Code) -> None:
    found: list[Code] = []
    report = lambda code, _: found.append(code)  # noqa: E731 -- a callback of one line
    Account(Carried({"f": 100}, complete=True)).check(manifest(begin, 200), (), report)
    assert found == [code]
    found.clear()
    account = Account(Carried({"f": 100}, complete=True))
    account.check(manifest(begin, 200), (LOSS,), report)
    assert found == []
    account.check(manifest(150, 300), (), report)
    assert found == [Code.OFFSETS_OVERLAP]
