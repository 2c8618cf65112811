"""The campaign can fail: its oracle names every kind of loss, its disk forgets what was not synced, its ids repeat a run."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.campaign.faults import Fault, draw
from tests.campaign.injection import Call, Injection, counted, is_impossible, met
from tests.campaign.oracle import NOTHING, Allowance, judge
from tests.campaign.powercut import Change, Disk, Inode, Replay
from tests.campaign.run import Outcome
from tests.campaign.table import summary
from tests.support import loggen
from tests.support.agent_process import Site

if TYPE_CHECKING:
    from pathlib import Path

LINES = 40


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("shipped"))
    site.log.write_bytes(loggen.block(0, LINES, 2))
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    return site


def expected() -> list[str]:
    return loggen.event_ids(LINES, 2)


def test_the_oracle_has_nothing_to_say_of_a_clean_run(shipped: Site) -> None:
    found = judge(shipped, expected(), NOTHING)
    assert (found.problems, found.lost, found.duplicated, found.verify) == ([], 0, 0, 0)
    assert found.written == LINES // 2


def test_the_oracle_sees_an_event_that_is_missing(shipped: Site) -> None:
    found = judge(shipped, [*expected(), "never-shipped"], NOTHING)
    assert found.lost == 1
    assert "1 of 21 events are missing" in found.problems[0]


def test_a_loss_without_a_gap_record_is_not_excused_by_an_allowance(shipped: Site) -> None:
    found = judge(shipped, [*expected(), "never-shipped"], Allowance(lost=True))
    assert not found.stated
    assert found.problems


def test_the_oracle_sees_an_event_that_was_never_written(shipped: Site) -> None:
    found = judge(shipped, expected()[:-1], NOTHING)
    assert "never in the source" in found.problems[0]


def test_the_oracle_sees_another_order(shipped: Site) -> None:
    ids = expected()
    found = judge(shipped, [ids[1], ids[0], *ids[2:]], NOTHING)
    assert found.problems == ["the events are not in the order of the source"]


def test_the_oracle_sees_an_event_that_is_there_twice(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.log.write_bytes(loggen.block(0, LINES, 2) * 2)
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    found = judge(site, expected(), NOTHING)
    assert found.duplicated == LINES // 2
    assert "there twice" in found.problems[0]


def test_only_a_state_that_was_put_back_may_fork(tmp_path: Path) -> None:
    site = Site(tmp_path)
    saved = tmp_path / "saved"
    for turn in range(3):
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * LINES, LINES, 2))
        if turn == 2:
            shutil.rmtree(site.state)
            saved.rename(site.state)
        with site.run() as agent:
            agent.ready()
            assert agent.stop() == 0, agent.log
        if turn == 0:
            shutil.copytree(site.state, saved)
    ids = loggen.event_ids(3 * LINES, 2)
    allowed = judge(site, ids, Allowance(unordered=True, forked=True))
    assert (allowed.problems, allowed.duplicated, allowed.flagged) == ([], 0, LINES // 2)
    assert "nobody put the state back" in judge(site, ids, Allowance(unordered=True)).problems[0]


def test_the_oracle_sees_a_store_that_does_not_verify(shipped: Site, tmp_path: Path) -> None:
    copy = shipped.copy_store("tampered")
    (data,) = [path for path in copy.rglob("*.zst") if path.is_file()]
    data.chmod(0o600)
    data.unlink()
    site = Site(tmp_path)
    copy.rename(site.store)
    found = judge(site, [], NOTHING)
    assert found.verify == 10
    assert any("data_missing" in problem for problem in found.problems)


def test_a_disk_forgets_what_was_written_after_the_last_fsync(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    disk = Disk([folder])
    record = [
        f'7 openat(AT_FDCWD, "{_hex(folder / "new")}", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<{_hex(folder / "new")}>',
        f'7 pwrite64(3<{_hex(folder / "new")}>, "{_hex("durable")}", 7, 0) = 7',
        f"7 fsync(3<{_hex(folder / 'new')}>) = 0",
        f'7 pwrite64(3<{_hex(folder / "new")}>, "{_hex("lost")}", 4, 7) = 4',
    ]
    Replay(disk).play(iter(record))
    dice = random.Random(1)
    assert disk.image("worst", dice) == {str(folder): None, str(folder / "old"): b"old"}
    Replay(disk).play(iter([f"7 fsync(4<{_hex(folder)}>) = 0"]))
    assert disk.image("worst", dice)[str(folder / "new")] == b"durable"
    assert disk.image("worst", dice, str(folder))[str(folder / "new")] == b"durablelost"


def test_a_write_that_begins_after_an_fsync_began_is_not_covered_by_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"....")
    disk = Disk([tmp_path])
    record = [
        f'7 pwrite64(3<{_hex(path)}>, "{_hex("a")}", 1, 0) = 1',
        f"7 fsync(3<{_hex(path)}> <unfinished ...>",
        f'8 pwrite64(3<{_hex(path)}>, "{_hex("b")}", 1, 1) = 1',
        "7 <... fsync resumed>) = 0",
    ]
    Replay(disk).play(iter(record))
    assert disk.image("worst", random.Random(1))[str(path)] == b"a..."


def test_an_fsync_that_failed_makes_nothing_durable(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"....")
    disk = Disk([tmp_path])
    write = f'7 pwrite64(3<{_hex(path)}>, "{_hex("a")}", 1, 0) = 1'
    Replay(disk).play(iter([write, f"7 fsync(3<{_hex(path)}>) = -1 EIO (Input/output error)"]))
    assert disk.image("worst", random.Random(1))[str(path)] == b"...."


def test_a_link_is_gone_until_its_folder_was_synced_and_an_unlink_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    disk = Disk([tmp_path])
    names = f'"{_hex(tmp_path / "a")}", "{_hex(tmp_path / "b")}"'
    Replay(disk).play(iter([f"7 link({names}) = 0", f'7 unlink("{_hex(tmp_path / "a")}") = 0']))
    assert set(disk.image("worst", random.Random(1))) == {str(tmp_path), str(tmp_path / "a")}
    Replay(disk).play(iter([f"7 fsync(4<{_hex(tmp_path)}>) = 0"]))
    assert set(disk.image("worst", random.Random(1))) == {str(tmp_path), str(tmp_path / "b")}


def test_a_torn_write_keeps_whole_sectors_of_its_beginning() -> None:
    change = Change(0, bytes(2000))
    assert {len(change.torn(random.Random(seed)).data or b"") for seed in range(50)} == {0, 512, 1024, 1536}
    assert Inode(b"abcdef", [Change(3, None)]).now() == b"abc"


def test_a_kill_counts_only_at_the_call_that_never_returned(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("7 fsync(3) = 0\n8 fsync(4) = 0\n7 fsync(3) = ?\n", encoding="ascii")
    assert counted(trace) == [Call(7, "fsync", 1, "3) = 0"), Call(8, "fsync", 1, "4) = 0"), Call(7, "fsync", 2, "3) = ?")]
    assert met(trace, Injection(("fsync",), "signal=KILL", "2")) == 1
    assert met(trace, Injection(("fsync",), "signal=KILL", "1")) == 0
    assert met(tmp_path / "none", Injection(("fsync",), "signal=KILL", "1")) == 0


def test_a_disk_error_from_a_waker_is_no_fault(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("7 write(5<anon_inode:[eventfd]>, ...) = -1 EIO (Input/output error) (INJECTED)\n", encoding="ascii")
    assert is_impossible(trace)
    trace.write_text("7 write(5</state/file>, ...) = -1 EIO (Input/output error) (INJECTED)\n", encoding="ascii")
    assert not is_impossible(trace)
    assert met(trace, Injection(("write",), "error=EIO", "1")) == 1


def test_the_same_seed_draws_the_same_faults_and_ids_can_be_read_back() -> None:
    calls = [Call(1, name, number, "") for name in ("write", "fsync", "link", "pwrite64") for number in range(1, 9)]
    traces = {"busy": calls, "exec": calls}
    drawn = draw(60, 3, traces)
    assert drawn == draw(60, 3, traces)
    assert drawn != draw(60, 4, traces)
    assert len(set(drawn)) == len(drawn)
    assert {fault.letter for fault in drawn} == set("abcdefgh")
    assert [Fault.parse(fault.id) for fault in drawn] == drawn
    with pytest.raises(ValueError, match="is not a fault's id"):
        Fault.parse("nonsense")


def test_runs_that_met_no_fault_do_not_count_but_their_violations_do() -> None:
    sums = summary([Outcome("1", "a", "k", met=1, written=5), Outcome("2", "a", "k", met=0, written=5, problems=["x"])])
    assert (sums["faults"], sums["written"], sums["not_met"], sums["violations"]) == (1, 5, 1, 1)


def _hex(text: object) -> str:
    return "".join(f"\\x{byte:02x}" for byte in str(text).encode())
