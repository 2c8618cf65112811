"""The disk below the state: full by a quota, read-only, shared, resized; and the ballast on it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.spool.ballast import BALLAST_BYTES
from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Agent, Site, until
from tests.support.batches import event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


def run_injected(site: Site, fault: str) -> Agent:
    """Run an agent of which a system call fails as told; of the agent's calls only SQLite makes those."""
    tracer = ["strace", "-D", "-f", "-qq", "-o", str(site.folder / "strace.out")]
    rule = ["-e", f"trace={fault.split(':', maxsplit=1)[0]}", "-e", f"inject={fault}"]
    return Agent(site, [*tracer, *rule, TRAILSEAL, "run", "--config", str(site.config)])


@pytest.mark.slow
def test_a_quota_that_is_used_up_is_a_full_disk_that_is_waited_for(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.run() as agent:
        agent.ready()
        agent.stop()
    site.log.write_bytes(loggen.block(0, 2000))
    with run_injected(site, "pwrite64:error=EDQUOT:when=40..52") as agent:
        until(lambda: '"the spool is full"' in agent.log, "an alarm")
        site.wait_drained(site.log.stat().st_size)
        until(lambda: '"the spool has room again"' in agent.log, "the end of the alarm")
        assert agent.stop() == 0, agent.log
    assert "EDQUOT" in (tmp_path / "strace.out").read_text()
    assert site.trails.event_ids() == loggen.event_ids(2000)
    assert site.verify().code == 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["pwrite64:error=EROFS:when=20+", "pwrite64:error=EIO:when=20+", "pread64:error=EIO:when=6+"])
def test_a_disk_that_refuses_ends_the_agent_loudly_and_the_next_start_goes_on(tmp_path: Path, fault: str) -> None:
    site = Site(tmp_path)
    with site.run() as agent:
        agent.ready()
        assert agent.stop() == 0, agent.log
    site.log.write_bytes(loggen.block(0, 2000))
    with run_injected(site, fault) as agent:
        until(lambda: agent.process.poll() is not None, "the end of the agent")
        assert agent.process.returncode == 1, agent.log
        assert '"the agent ends"' in agent.log
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert not (site.state / "damaged").exists(), "a disk that refuses is no damage"
    assert site.trails.event_ids() == loggen.event_ids(2000)
    assert site.verify().code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in memory; tests of disks run as root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_mounted_read_only_is_refused_and_taken_up_again_when_it_can_be_written(small_disk: Path, tmp_path: Path) -> None:
    site = Site(tmp_path, state=str(small_disk / "state"))
    site.state = small_disk / "state"
    site.log.write_bytes(loggen.block(0, 500))
    with site.run() as agent:
        agent.ready()
        agent.kill()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with site.run() as agent:
        assert agent.process.wait(30) == 2
        assert "Read-only file system" in agent.log
        assert '"hint"' in agent.log
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == loggen.event_ids(500)
    assert len({seal.checkpoint().origin for seal in site.trails.seals()}) == 1
    assert site.verify().code == 0


@pytest.mark.slow
def test_another_bound_than_before_is_an_ordinary_start(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="1s", spool={"max_bytes": "64MiB"})
    site.store.write_text("in the way", encoding="utf-8")
    lines = 240
    site.log.write_bytes(b"".join(event(number, 200_000) + b"\n" for number in range(lines)))
    with site.run() as agent:
        until(lambda: ((site.status() or {}).get("spool") or {"records": 0})["records"] >= lines, "everything in the spool")
        assert agent.stop() == 0, agent.log
        held = (site.state / "spool.db").stat().st_size
    assert held > 1 << 24
    for bound in ("16MiB", "128MiB"):
        site.configure(spool={"max_bytes": bound})
        with site.run() as agent:
            until(lambda: site.status() is not None, "an agent that answers")
            assert agent.stop() == 0, agent.log
    site.configure(spool={"max_bytes": "16MiB"}, shutdown_grace="20s")
    site.store.unlink()
    with site.run() as agent:
        agent.ready()
        with site.log.open("ab") as log:
            log.write(event(lines) + b"\n")
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == [f"e-{number:06d}" for number in range(lines + 1)]
    assert site.verify().code == 0


@pytest.mark.slow
def test_a_second_agent_on_one_state_refuses_and_the_first_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.log.write_bytes(loggen.block(0, 500))
    with site.run() as first:
        first.ready()
        with site.run() as second:
            assert second.process.wait(30) == 75
            assert "in use by another agent" in second.log
            assert f"process {first.process.pid}" in second.log
        with site.log.open("ab") as log:
            log.write(loggen.block(500, 500))
        site.wait_drained(site.log.stat().st_size)
        assert first.stop() == 0, first.log
    assert site.trails.event_ids() == loggen.event_ids(1000)
    assert site.verify().code == 0


@pytest.mark.parametrize("state_of_it", ["gone", "short"])
def test_a_ballast_that_is_gone_or_short_is_made_anew_at_the_start(tmp_path: Path, state_of_it: str) -> None:
    site = Site(tmp_path)
    ballast = site.state / "ballast"
    with site.run() as agent:
        agent.ready()
        agent.kill()
    if state_of_it == "gone":
        ballast.unlink()
    else:
        ballast.write_bytes(b"short")
    with site.run() as agent:
        agent.ready()
        status = ballast.stat()
        assert (status.st_size, status.st_blocks * 512 >= BALLAST_BYTES) == (BALLAST_BYTES, True)
        assert agent.stop() == 0, agent.log
