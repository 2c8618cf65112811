"""A store that is away, a spool that is full, and a stream that goes on: who waits, who ends, and what is stated, exactly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import bulky
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from tests.support.agent_process import Agent

LINES = 8000
"""Twice what the smallest spool holds."""
AUDIT_BYTES = len(bulky.audit_line(0))
SERVICE = (sys.executable, str(Path(bulky.__file__)))


def outage(folder: Path, when_full: str, **settings: object) -> Site:
    """Return a site whose store takes nothing and whose spool is as small as it may be."""
    spool = {"max_bytes": "16MiB", "when_full": when_full}
    site = Site(folder, **{"sources": None, "spool": spool, "shutdown_grace": "30s", **settings})
    site.store.write_text("in the way", encoding="utf-8")
    return site


def service(folder: Path, *options: str, lines: int = LINES) -> list[str]:
    return [*SERVICE, str(lines), str(folder / "written"), *options]


def written(folder: Path) -> tuple[int, int]:
    """Return how many lines and bytes the service has got rid of."""
    lines, size = (folder / "written").read_text(encoding="ascii").split()
    return int(lines), int(size)


def is_full(site: Site) -> bool:
    return bool((site.status() or {}).get("head")) and site.metrics()[f"{PREFIX}spool_full"] == 1


def full(site: Site) -> None:
    """Wait for the spool to be full and for everybody before it to wait as well."""
    until(lambda: is_full(site), "a full spool")
    time.sleep(1.0)


def ship(site: Site) -> None:
    """Bring the store back and let another run ship what the first one left."""
    site.store.unlink(missing_ok=True)
    with site.run("pipe") as agent:
        assert agent.process.wait(50) == 0, agent.log


def assert_stated(site: Site, lines: int, size: int) -> int:
    """Check that the trail and its one gap record make up what was written, exactly; return how many audit lines were lost."""
    found = site.trails.event_ids()
    (gap,) = site.trails.kind("gap")
    lost = (lines + 1) // 2 - len(found)
    assert lost > 0
    assert found == sorted(set(found))
    assert (gap["cause"], gap["certainty"]) == ("spool_full", "known")
    assert gap["detail"].startswith(f"{lost} audit lines of {lost * AUDIT_BYTES} bytes "), gap["detail"]
    missing = [number for number in range(0, lines, 2) if bulky.event_id(number) not in set(found)]
    offset = missing[0] // 2 * (AUDIT_BYTES + len(bulky.other_line(1)))
    # A step of the stream is given up as a whole, so the range may begin with an ordinary line before the first lost one.
    assert 0 <= offset - gap["from_offset"] <= len(bulky.other_line(1))
    assert missing == list(range(missing[0], missing[-1] + 1, 2))
    ends = {seal.manifest.sources[-1].file_id: seal.manifest.sources[-1].to_offset for seal in site.trails.seals() if seal.manifest.sources}
    assert size in ends.values()
    assert sum(seal.manifest.totals.bytes_lost for seal in site.trails.seals()[-1:]) == lost * AUDIT_BYTES
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) == (11, {"gap"})
    return lost


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_gap_states_an_outage_in_one_record_exact_in_lines_and_bytes(tmp_path: Path) -> None:
    site = outage(tmp_path, "gap", observability="stdout", shutdown_grace="12s")
    with site.run("exec", "--", *service(tmp_path), stdout=subprocess.PIPE) as agent:
        out, _ = agent.process.communicate(timeout=60)
        assert agent.process.returncode == 0, agent.log
    assert out == b"".join(bulky.other_line(number) for number in range(1, LINES, 2))
    ship(site)
    assert_stated(site, *written(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_service_that_block_holds_in_a_write_can_end_and_what_found_no_room_is_stated(tmp_path: Path) -> None:
    site = outage(tmp_path, "block", shutdown_grace="8s")
    with site.run("exec", "--", *service(tmp_path, "--exit-code", "9")) as agent:
        full(site)
        assert not (tmp_path / "written").exists()
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(40) == 9, agent.log
    ship(site)
    lines, size = written(tmp_path)
    assert lines < LINES
    assert_stated(site, lines, size)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_second_sigterm_waits_for_room_no_longer(tmp_path: Path) -> None:
    site = outage(tmp_path, "block", shutdown_grace="10m")
    with site.run("exec", "--", *service(tmp_path)) as agent:
        full(site)
        agent.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert agent.process.poll() is None
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(40) == 0, agent.log
    ship(site)
    assert_stated(site, *written(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_end_by_itself_with_a_full_spool_is_bounded_and_stated(tmp_path: Path) -> None:
    # So many lines that spool, relay and pipe hold the rest once the service is gone.
    site = outage(tmp_path, "block", shutdown_grace="6s")
    with site.run("exec", "--", *service(tmp_path, lines=5900)) as agent:
        assert agent.process.wait(60) == 0, agent.log
    ship(site)
    lines, size = written(tmp_path)
    assert lines == 5900
    assert_stated(site, lines, size)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_pipe_that_is_told_to_stop_while_its_writer_is_held_states_what_it_gives_up(tmp_path: Path) -> None:
    site = outage(tmp_path, "block", shutdown_grace="8s")
    with subprocess.Popen(service(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer:
        try:
            with site.run("pipe", stdin=writer.stdout) as agent:
                assert writer.stdout is not None
                writer.stdout.close()
                full(site)
                agent.process.send_signal(signal.SIGTERM)
                assert agent.process.wait(40) == 0, agent.log
        finally:
            writer.kill()
    ship(site)
    gaps = {(gap["cause"], gap["certainty"]) for gap in site.trails.kind("gap")}
    assert ("spool_full", "known") in gaps
    assert gaps <= {("spool_full", "known"), ("unreadable", "possible")}
    found = site.trails.event_ids()
    assert found == [bulky.event_id(number) for number in range(0, 2 * len(found), 2)]
    assert site.verify().code == 11


def peak_kib(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def peaks(agent: Agent) -> tuple[int, int]:
    """Return the peak resident memory of parent and worker, in KiB."""
    return peak_kib(agent.process.pid), peak_kib(agent.worker())


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("source", ["pipe", "file"])
def test_an_outage_longer_than_the_spool_costs_a_waiting_source_nothing(tmp_path: Path, source: str) -> None:
    options = {} if source == "pipe" else {"sources": [{"id": "app", "file": str(tmp_path / "logs" / "app.log")}]}
    site = outage(tmp_path, "block", **options)
    if source == "file":
        with site.log.open("wb") as log:
            subprocess.run(service(tmp_path), stdout=log, check=True)
    command = ("run",) if source == "file" else ("exec", "--", *service(tmp_path))
    with site.run(*command) as agent:
        full(site)
        pids = [agent.process.pid] if source == "file" else [agent.process.pid, agent.worker()]
        before = [peak_kib(pid) for pid in pids]
        time.sleep(3.0)
        after = [peak_kib(pid) for pid in pids]
        assert all(new - old < 2048 for old, new in zip(before, after, strict=True)), (before, after)
        assert (tmp_path / "written").exists() == (source == "file")
        site.store.unlink()
        if source == "file":
            site.wait_drained(site.log.stat().st_size)
            assert agent.stop() == 0, agent.log
        else:
            assert agent.process.wait(60) == 0, agent.log
    assert site.trails.event_ids() == [bulky.event_id(number) for number in range(0, LINES, 2)]
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
