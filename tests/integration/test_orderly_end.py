"""SIGTERM under load, early, twice, and with nobody to ship to: what was read is durable, and the next start ships it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import LOGGEN, Agent, Site, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SLOW_START = """
import asyncio, sys
from agent.spool import Spool
opened = Spool.open
async def slowly(self):
    print("opening", flush=True)
    await asyncio.sleep(1.5)
    await opened(self)
Spool.open = slowly
from agent.cli import main
sys.exit(main(sys.argv[1:]))
"""


def has_more_seals(site: Site, than: int) -> bool:
    return len(site.trails.seals()) > than


def assert_everything_once(site: Site, lines: int) -> None:
    assert site.trails.event_ids() == loggen.event_ids(lines)
    assert [record for record in site.trails.records() if record["kind"] != "event"] == []
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.timeout(120)
def test_sigterm_under_load_on_files_ends_in_order_again_and_again(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="20s")
    lines, hurry = 80_000, tmp_path / "no-more-ends"
    site.log.write_bytes(b"")
    command = [*LOGGEN, str(lines), "--file", str(site.log), "--seconds", "90", "--hurry", str(hurry), "--rotations", "9", "--step", "100"]
    generator = subprocess.Popen(command)
    try:
        for _ in range(6):
            with site.run() as agent:
                agent.ready()
                batches = len(site.trails.seals())
                until(partial(has_more_seals, site, batches + 2), "seals")
                asked = time.monotonic()
                assert agent.stop() == 0, agent.log
                assert time.monotonic() - asked < 20
                assert site.trails.reasons()[-1] == "stop"
                assert "not everything is shipped" not in agent.log
        assert generator.poll() is None, "the generator ended before the last end"
        hurry.touch()
        assert generator.wait(60) == 0
        with site.run() as agent:
            agent.ready()
            site.wait_drained(sum(file.stat().st_size for file in site.logs.iterdir()))
            assert agent.stop() == 0, agent.log
    finally:
        generator.kill()
        generator.wait()
    assert {seal.manifest.unclean for seal in site.trails.seals() if seal.manifest.reason.value == "resume"} == {False}
    assert_everything_once(site, lines)


@pytest.mark.parametrize("kind", ["exec", "pipe"])
def test_sigterm_under_load_on_a_stream_keeps_everything_the_service_wrote(tmp_path: Path, kind: str) -> None:
    site = Site(tmp_path, sources=None, observability="stdout", shutdown_grace="15s")
    out = tmp_path / "out"
    # A service that writes until it is told to stop, says how many lines that were, and writes nothing after that.
    service = (
        "import os, pathlib, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import loggen\n"
        "told = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: told.append(1))\n"
        "number = 0\n"
        "while not told:\n"
        "    rest = memoryview(loggen.block(number, 500)); number += 500\n"
        "    while rest: rest = rest[os.write(1, rest):]\n"
        "pathlib.Path(sys.argv[2]).write_text(str(number))\n"
    )
    words = [sys.executable, "-c", service, LOGGEN[1].rpartition("/")[0], str(tmp_path / "written")]
    with out.open("wb") as stdout:
        if kind == "exec":
            with site.run("exec", "--", *words, stdout=stdout) as agent:
                until(lambda: len(site.trails.event_ids()) > 200, "events in the store")
                assert agent.stop() == 0, agent.log
        else:
            with (
                subprocess.Popen(words, stdout=subprocess.PIPE) as generator,
                site.run("pipe", stdin=generator.stdout, stdout=stdout) as agent,
            ):
                assert generator.stdout is not None
                generator.stdout.close()
                until(lambda: len(site.trails.event_ids()) > 200, "events in the store")
                # As a shell's pipeline is ended: the writer first, then its reader.
                generator.send_signal(signal.SIGTERM)
                assert generator.wait(30) == 0
                assert agent.stop() == 0, agent.log
    lines = int((tmp_path / "written").read_text(encoding="ascii"))
    assert site.trails.reasons()[-1] == "stop"
    assert out.read_bytes() == loggen.others(lines)
    assert_everything_once(site, lines)


@pytest.mark.parametrize("ephemeral", [False, True])
def test_sigterm_while_the_agent_starts_ends_in_order(tmp_path: Path, ephemeral: bool) -> None:
    site = Site(tmp_path, ephemeral=ephemeral)
    site.log.write_bytes(loggen.block(0, 100))
    slowly = [sys.executable, "-c", SLOW_START, "run", "--config", str(site.config)]
    with Agent(site, slowly, stdout=subprocess.PIPE) as agent:
        assert agent.process.stdout is not None
        assert agent.process.stdout.readline() == b"opening\n"
        assert agent.stop() == 0, agent.log
    assert site.trails.reasons()[-1] == ("close" if ephemeral else "stop")
    assert_everything_once(site, 100)


def test_a_signal_before_there_is_a_handler_waits_for_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    # The parser of the configuration is the last thing that is loaded before the runtime: it is told to stop while it reads.
    early = (
        "import os, signal, sys\n"
        "from agent import config\n"
        "load = config.load\n"
        "early = [signal.SIGHUP, signal.SIGTERM]\n"
        "def told(*arguments):\n"
        "    while early: os.kill(os.getpid(), early.pop())\n"
        "    return load(*arguments)\n"
        "config.load = told\n"
        "from agent.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with Agent(site, [sys.executable, "-c", early, "run", "--config", str(site.config)]) as agent:
        assert agent.process.wait(40) == 0, agent.log
    assert "told to stop" in agent.log
    assert site.trails.reasons() == ["open", "stop"]


def test_with_the_store_away_everything_is_on_disk_before_the_end_and_the_next_start_ships_it(tmp_path: Path) -> None:
    site = Site(tmp_path, shutdown_grace="3s", seal={"max_age": "1m", "heartbeat": "1m"})
    site.store.write_text("in the way", encoding="utf-8")
    site.log.write_bytes(loggen.block(0, 1000))
    with site.run() as agent:
        until(lambda: (site.status() or {}).get("spool", {}).get("records") == 100, "100 records in the spool")
        with site.log.open("ab") as log:
            log.write(loggen.block(1000, 1000))
        asked = time.monotonic()
        assert agent.stop() == 0, agent.log
        assert time.monotonic() - asked < 10
    assert "stays in the spool" in agent.log
    # What is on disk is all there is: the log is gone, and so is the agent.
    site.log.unlink()
    site.store.unlink()
    with site.run() as agent:
        until(lambda: site.trails.event_ids() == loggen.event_ids(2000), "everything in the store")
        assert agent.stop() == 0, agent.log


@pytest.mark.parametrize("kind", ["exec", "pipe"])
def test_a_second_sigterm_to_a_stream_does_not_wait_for_the_stores(tmp_path: Path, kind: str) -> None:
    site = Site(tmp_path, sources=None, shutdown_grace="5m")
    site.store.write_text("in the way", encoding="utf-8")
    # The service ends by the first signal, so that the last seal shows that it was taken.
    service = "import loggen, os, signal; os.write(1, loggen.block(0, 1000)); signal.pause()"
    code = f"import sys; sys.path.insert(0, {LOGGEN[1].rpartition('/')[0]!r}); {service}"
    words = ["exec", "--", sys.executable, "-c", code] if kind == "exec" else ["pipe"]
    with site.run(*words, stdin=subprocess.PIPE) as agent:
        assert agent.process.stdin is not None
        if kind == "pipe":
            agent.process.stdin.write(loggen.block(0, 1000))
            agent.process.stdin.flush()
        until(lambda: ((site.status() or {}).get("head") or {}).get("events") == 100, "100 events sealed")
        agent.process.send_signal(signal.SIGTERM)
        until(lambda: "sealed the rest" in agent.log, "the last seal")
        assert agent.process.poll() is None
        asked = time.monotonic()
        agent.stop()
        assert time.monotonic() - asked < 30
    site.store.unlink()
    with site.run("pipe") as agent:
        assert agent.process.wait(40) == 0, agent.log
    assert site.trails.event_ids() == loggen.event_ids(1000)


def test_close_is_not_written_when_the_bound_left_bytes_unread(tmp_path: Path) -> None:
    # A spool without room keeps the source from its end.
    site = Site(tmp_path, ephemeral=True, shutdown_grace="6s", spool={"max_bytes": "16MiB"})
    site.store.write_text("in the way", encoding="utf-8")
    with site.log.open("wb") as log:
        dice = random.Random(1)
        for number in range(8000):
            noise = b64encode(dice.randbytes(3000))
            log.write(loggen.audit_line(number).replace(b'"request_id":"', b'"request_id":"' + noise))
    with site.run() as agent:
        until(lambda: site.status() and site.metrics()[f"{PREFIX}spool_full"] == 1, "a full spool")
        assert agent.stop() in {0, 1}, agent.log
    site.store.unlink()
    with site.run() as agent:
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    reasons = site.trails.reasons()
    assert reasons.count("close") == 1
    assert reasons[-1] == "close"
    assert site.trails.event_ids() == [loggen.event_id(number) for number in range(8000)]
