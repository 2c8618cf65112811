"""What the facts of a directory store mean."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from agent.doctor.facts import FolderFacts
from agent.doctor.findings import OF_FOLDERS, Check, Verdict
from agent.doctor.folder_judge import judge_folder

GOOD: Final = FolderFacts(
    exclusive=True,
    reads_back=True,
    object_mode=0o444,
    folder_mode=0o755,
    folder_owner="trailseal",
    owner_is_agent=True,
    free_bytes=50 << 30,
    total_bytes=100 << 30,
    free_names=1_000_000,
)


def test_a_folder_of_the_agents_own_on_another_disk_has_nothing_to_mend() -> None:
    found = judge_folder(GOOD, "/srv/trail")
    assert tuple(each.check for each in found) == OF_FOLDERS
    assert {each.check: each.verdict for each in found if each.verdict is not Verdict.OK} == {Check.OBJECT_LOCK: Verdict.NOTE}


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({"exclusive": False}, Check.CREATE, Verdict.BAD),
        ({"reads_back": False}, Check.READ_OWN, Verdict.BAD),
        ({"folder_mode": 0o777}, Check.OWNERSHIP, Verdict.BAD),
        ({"folder_mode": 0o775}, Check.OWNERSHIP, Verdict.WARNING),
        ({"folder_mode": 0o1777}, Check.OWNERSHIP, Verdict.OK),
        ({"object_mode": 0o644}, Check.OWNERSHIP, Verdict.BAD),
        ({"owner_is_agent": False}, Check.OWNERSHIP, Verdict.WARNING),
        ({"same_disk": True}, Check.SAME_DISK, Verdict.WARNING),
        ({"free_bytes": 1 << 20}, Check.FREE_SPACE, Verdict.BAD),
        ({"free_bytes": 3 << 30}, Check.FREE_SPACE, Verdict.WARNING),
        ({"free_names": 3}, Check.FREE_SPACE, Verdict.BAD),
        ({"free_names": 300}, Check.FREE_SPACE, Verdict.WARNING),
        ({"free_names": None}, Check.FREE_SPACE, Verdict.OK),
    ],
)
def test_each_departure_has_its_verdict(changed: dict[str, Any], check: Check, verdict: Verdict) -> None:
    found = {each.check: each for each in judge_folder(msgspec.structs.replace(GOOD, **changed), "/srv/trail")}
    assert found[check].verdict is verdict
    assert bool(found[check].fix) == (verdict is not Verdict.OK)


def test_a_folder_that_cannot_be_written_to_is_bad_and_nothing_else_is_said_to_be_well() -> None:
    first, *others = judge_folder(FolderFacts(trouble="cannot create /srv/trail/x: Permission denied"), "/srv/trail")
    assert (first.check, first.verdict) == (Check.REACHABLE, Verdict.BAD)
    assert "/srv/trail" in first.fix
    assert {each.verdict for each in others} == {Verdict.NOT_TESTED}
