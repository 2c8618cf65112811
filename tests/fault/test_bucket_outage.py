"""A bucket that is away until the spool is full: the source waits or its loss is stated, memory stays flat, all drains in order."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import bulky
from tests.support.agent_process import Site, until
from tests.support.bucket_site import LOCKED, BucketSite
from tests.support.object_servers.proxy import Proxy
from tests.support.object_servers.rgw import Rgw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agent_process import Agent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LINES = 8000
"""Every second one an audit line of 8 KB that hardly compresses: twice what the smallest spool holds."""
AUDIT_BYTES = len(bulky.audit_line(0))
SERVICE = (sys.executable, str(Path(bulky.__file__)))
SLOW_DOWN = b"<Error><Code>SlowDown</Code></Error>"
FULL_SECONDS = 5.0
PEAK_KIB = 110 << 10
"""What no agent with a bucket may need, ever; docs/performance.md has what it needs."""


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        server.bucket("block", lock="compliance")
        server.bucket("gap", lock="compliance")
        yield server


@pytest.fixture
def proxy(rgw: Rgw) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", rgw.port) as between:
        yield between


def site_of(folder: Path, rgw: Rgw, proxy: Proxy, when_full: str) -> BucketSite:
    return BucketSite(
        folder,
        rgw,
        when_full,
        endpoint=proxy.endpoint,
        store=LOCKED,
        sources=None,
        spool={"max_bytes": "16MiB", "when_full": when_full},
        shutdown_grace="60s",
    )


def service(folder: Path) -> list[str]:
    return [*SERVICE, str(LINES), str(folder / "written")]


def memory_kib(agent: Agent, field: str) -> int:
    worker = agent.worker()
    assert worker is not None
    return int(Path(f"/proc/{worker}/status").read_text(encoding="ascii").split(f"{field}:")[1].split()[0])


def peak_kib_until_the_end(agent: Agent) -> int:
    """Wait until the agent has ended by itself; return the most memory its worker ever had, as far as it was seen."""
    peak = 0
    end = time.monotonic() + 120
    while agent.process.poll() is None:
        assert time.monotonic() < end, agent.log
        # The worker ends before its parent does.
        with contextlib.suppress(AssertionError, FileNotFoundError, ProcessLookupError, IndexError):
            peak = max(peak, memory_kib(agent, "VmHWM"))
        time.sleep(0.05)
    return peak


def full(site: Site) -> bool:
    return bool((site.status() or {}).get("head")) and site.metrics()[f"{PREFIX}spool_full"] == 1


def test_block_makes_the_service_wait_and_every_event_arrives_once_and_in_order(tmp_path: Path, rgw: Rgw, proxy: Proxy) -> None:
    site = site_of(tmp_path, rgw, proxy, "block")
    with site.run("exec", "--", *service(tmp_path)) as agent:
        until(lambda: (site.status() or {}).get("last_confirmed"), "a first confirmation")
        proxy.answer(503, SLOW_DOWN)
        until(lambda: full(site), "a full spool")
        held = []
        end = time.monotonic() + FULL_SECONDS
        while time.monotonic() < end:
            held.append(memory_kib(agent, "VmRSS"))
            time.sleep(0.1)
        assert not (tmp_path / "written").exists(), "the service did not wait"
        assert not site.is_ready()
        assert "SlowDown" in site.get("/readyz")[1]
        # Whatever the outage's length, the last second needs no more than the first one did.
        assert max(held[-10:]) <= max(held[:10]) + (2 << 10)
        proxy.pass_on()
        peak = peak_kib_until_the_end(agent)
        assert agent.process.wait(1) == 0, agent.log
    assert (tmp_path / "written").exists(), "the service was not done"
    assert 0 < peak < PEAK_KIB
    site.mirror()
    assert site.trails.event_ids() == [bulky.event_id(number) for number in range(0, LINES, 2)]
    assert all(len(versions) == 1 for versions in site.versions().values())
    verdict = site.verify()
    assert (verdict.code, verdict.report["assurance"]) == (0, "locked"), verdict.findings()


def test_gap_lets_the_service_go_on_and_states_what_was_lost(tmp_path: Path, rgw: Rgw, proxy: Proxy) -> None:
    site = site_of(tmp_path, rgw, proxy, "gap")
    with site.run("exec", "--", *service(tmp_path)) as agent:
        until(lambda: (site.status() or {}).get("last_confirmed"), "a first confirmation")
        proxy.answer(503, SLOW_DOWN)
        until((tmp_path / "written").exists, "a service that did not wait", 90)
        proxy.pass_on()
        assert agent.process.wait(90) == 0, agent.log
    site.mirror()
    found = site.trails.event_ids()
    (gap,) = site.trails.kind("gap")
    lost = LINES // 2 - len(found)
    assert lost > 0
    assert found == sorted(set(found))
    assert (gap["cause"], gap["certainty"]) == ("spool_full", "known")
    # What the worker read and gave up is counted in lines; what the parent threw away, if the worker took nothing, in bytes.
    read = re.search(r"(\d+) audit lines of (\d+) bytes between these offsets were given up", gap["detail"])
    unread = re.search(r"the relay threw away (\d+) bytes", gap["detail"])
    assert read or unread, gap["detail"]
    given_up = int(read[1]) if read else 0
    assert given_up == (int(read[2]) if read else 0) / AUDIT_BYTES
    assert given_up * AUDIT_BYTES + int(unread[1] if unread else 0) <= gap["to_offset"] - gap["from_offset"], gap["detail"]
    starts = dict(zip(range(LINES), accumulate((len(bulky.line(number)) for number in range(LINES)), initial=0), strict=False))
    missing = set(range(0, LINES, 2)) - {int(one[1:]) for one in found}
    assert all(gap["from_offset"] <= starts[number] < gap["to_offset"] for number in missing)
    assert given_up == lost or unread, gap["detail"]
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) == (11, {"gap"})
