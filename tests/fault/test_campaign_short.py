"""The fault campaign's short version: a few faults of every kind, each from its beginning to the oracle's word.

The long version is `make campaign`. A failure's name is the fault's id, and `python -m tests.campaign --repeat ID` runs it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.campaign.faults import Fault
from tests.campaign.run import perform
from tests.campaign.workloads import Rig

if TYPE_CHECKING:
    from pathlib import Path

KILLS = (
    "a/fresh/pwrite64/signal=KILL/9",
    "a/busy/write/signal=KILL/2",
    "a/busy/fsync/signal=KILL/5",
    "a/busy/link/signal=KILL/2",
    "a/backlog/fdatasync/signal=KILL/6",
    "a/backlog/unlink/signal=KILL/4",
    "a/away/pwrite64/signal=KILL/22",
    "a/exec/fdatasync/signal=KILL/9",
)
ERRORS = (
    "b/fresh/mkdir/error=EACCES/2",
    "b/busy/fdatasync/error=EIO/4",
    "b/busy/pwrite64/error=ENOSPC/8..14",
    "b/backlog/link/error=EDQUOT/2..6",
    "b/exec/pwrite64/error=EINTR/30..34",
    "b/busy/pread64/error=EIO/2..5/source",
    "b/busy/newfstatat/error=EIO/9..21/source",
    "b/backlog/getdents64/error=EIO/4..24/source",
    "b/copytruncate2/openat/error=EACCES/16/source",
)
OTHERS = (
    "c/busy/full-state/scenario/7",
    "c/busy/read-only-store/scenario/7",
    "d/busy/power-cut-worst/scenario/11",
    "d/busy/power-cut-random/scenario/12",
    "d/busy/power-cut-torn/scenario/13",
    "d/backlog/power-cut-state-only/scenario/14",
    "e/busy/rollback/scenario/7",
    "e/busy/two-agents/scenario/7",
    "e/busy/clock-forward/scenario/7",
    "e/busy/resize/scenario/7",
    "f/busy/unlink/signal=KILL/3",
    "f/busy/link/delay_enter=100000/1..4",
    "g/exec/kill-worker/scenario/7",
    "g/pipe/freeze-worker/scenario/7",
    "g/exec/kill-all/scenario/7",
)


pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("campaign"))


def assert_survived(fault_id: str, rig: Rig, keep: Path) -> None:
    outcome = perform(Fault.parse(fault_id), rig, keep)
    assert outcome.problems == [], outcome
    assert outcome.met, "the agent never met the fault"
    assert (outcome.lost, outcome.duplicated) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("fault_id", KILLS)
def test_a_kill_at_a_call_loses_and_doubles_nothing(fault_id: str, rig: Rig, tmp_path: Path) -> None:
    assert_survived(fault_id, rig, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault_id", ERRORS)
def test_an_error_from_a_call_loses_and_doubles_nothing(fault_id: str, rig: Rig, tmp_path: Path) -> None:
    assert_survived(fault_id, rig, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault_id", OTHERS)
def test_a_fault_of_the_machine_loses_and_doubles_nothing_unstated(fault_id: str, rig: Rig, tmp_path: Path) -> None:
    assert_survived(fault_id, rig, tmp_path)


@pytest.mark.slow
def test_a_store_that_lies_about_a_link_is_found_out_by_verify(rig: Rig, tmp_path: Path) -> None:
    outcome = perform(Fault.parse("h/backlog/link/retval=0/2"), rig, tmp_path)
    assert outcome.problems == [], outcome
    assert outcome.met
    assert outcome.verify == 10
