"""Measure a long outage of a bucket: what the agent's memory does while its spool fills, and how quickly it drains afterwards.

    python benchmarks/outage.py                              # events that hardly compress, 256 MiB of spool
    python benchmarks/outage.py --events plain --spool 64MiB # ordinary events

A real Ceph RGW on this machine (Debian's radosgw, ceph-mon and ceph-osd; bucket with Object Lock) behind a proxy that refuses with
503 while the spool fills to its bound, which is what the bound makes of an outage of any length: the spool is full after so many
bytes, not after so many hours. The drain is timed from the first receipt to the last; what waits before it is the pause between two
tries, 30 s at most. Server, proxy and agent share this machine's cores, so the rate is a lower bound.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import BenchmarkError, scratch, show
from tests.support.agent_process import until
from tests.support.bucket_site import BucketSite
from tests.support.object_servers.proxy import Proxy
from tests.support.object_servers.rgw import Rgw

if TYPE_CHECKING:
    from tests.support.agent_process import Agent

MIB = 1 << 20
RECEIPTS = 'trailseal_store_receipts_total{store="main"}'
STORED = "trailseal_seal_stored_bytes_total"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CHUNK = 250


def event(number: int, dice: random.Random, *, bulky: bool) -> bytes:
    """Return one audit line: of about 4 KB that hardly compress, or of an ordinary 300 bytes."""
    if bulky:
        context: dict[str, Any] = {"blob": base64.b64encode(dice.randbytes(3000)).decode()}
    else:
        context = {"ip": f"203.0.113.{number % 250}", "granted_role": "admin", "session": f"{dice.getrandbits(64):016x}"}
    line = {
        "stream": "audit",
        "event_id": f"e{number:08d}",
        "occurred_at": "2026-01-08T14:32:07Z",
        "actor": {"type": "user", "id": f"ada{number % 1000}"},
        "action": "data.export",
        "target": {"type": "file", "id": f"f{number % 97}"},
        "outcome": "success",
        "context": context,
    }
    return json.dumps(line).encode() + b"\n"


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Return a process's resident memory, or with ``VmHWM`` its peak."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"no {field} of process {pid}")


def forget_peak(pid: int) -> None:
    """Let VmHWM begin again (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def fill(site: BucketSite, agent: Agent, options: argparse.Namespace) -> tuple[int, list[float]]:
    """Write events until the spool is full, and a little longer; return how many, and the memory seen meanwhile in MiB."""
    dice, count, seen = random.Random(1), 0, []
    with site.log.open("ab") as log:
        while not site.metrics()["trailseal_spool_full"]:
            log.write(b"".join(event(count + n, dice, bulky=options.events == "bulky") for n in range(CHUNK)))
            log.flush()
            count += CHUNK
            seen.append(resident_mib(agent.process.pid))
            if agent.process.poll() is not None:
                raise BenchmarkError(agent.log)
    for _ in range(options.full_seconds * 2):
        time.sleep(0.5)
        seen.append(resident_mib(agent.process.pid))
    return count, seen


def drain(site: BucketSite, agent: Agent) -> dict[str, float]:
    """Wait until nothing waits; return sealed bytes, seconds, batches."""
    before = site.metrics()
    until(lambda: site.metrics()[RECEIPTS] > before[RECEIPTS], "a first receipt", 90, step_seconds=0.01)
    began, first = time.monotonic(), site.metrics()
    until(lambda: site.metrics()["trailseal_batches_waiting"] == 0, "nothing that waits", 600, step_seconds=0.05)
    after = site.metrics()
    return {
        "sealed_bytes": before["trailseal_spool_bytes"] + after[STORED] - first[STORED],
        "seconds": time.monotonic() - began,
        "batches": after[RECEIPTS] - first[RECEIPTS],
        "peak_mib": resident_mib(agent.process.pid, "VmHWM"),
    }


def main() -> int:
    """Run it once and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", choices=["bulky", "plain"], default="bulky")
    parser.add_argument("--spool", default="256MiB", help="spool.max_bytes")
    parser.add_argument("--full-seconds", type=int, default=20, help="how long the spool stays full")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    with scratch() as folder, Rgw(folder / "rgw") as rgw, Proxy("127.0.0.1", rgw.port) as proxy:
        rgw.bucket("audit", lock="compliance")
        seal = {"max_age": "1s", "heartbeat": "5s"}
        store = {"retention": {"days": 400}}
        site = BucketSite(
            folder / "site", rgw, "audit", endpoint=proxy.endpoint, store=store, seal=seal, spool={"max_bytes": options.spool}
        )
        with site.run() as agent:
            agent.ready()
            idle = resident_mib(agent.process.pid)
            proxy.answer(503, SLOW_DOWN)
            events, seen = fill(site, agent, options)
            filling = resident_mib(agent.process.pid, "VmHWM")
            forget_peak(agent.process.pid)
            held = site.metrics()["trailseal_spool_bytes"]
            waiting = site.metrics()["trailseal_batches_waiting"]
            proxy.pass_on()
            drained = drain(site, agent)
            site.wait_for(agent, ["any"] * events, 300)
            if agent.stop():
                raise BenchmarkError(agent.log)
        site.mirror()
        found = site.trails.event_ids()
        if found != [f"e{number:08d}" for number in range(events)]:
            raise BenchmarkError(f"{len(found)} events of {events}, or not in order")
        verdict = site.verify()
        if verdict.code or any(len(versions) != 1 for versions in site.versions().values()):
            raise BenchmarkError(f"verify: {verdict.code} {verdict.findings()}")
    rate = drained["sealed_bytes"] / drained["seconds"] / 1e6
    half = len(seen) // 2
    rows = [
        ("events", f"{events:,}, all there, in order, once; verify 0"),
        ("spool when full", f"{held / MIB:.0f} MiB, {waiting:.0f} batches"),
        ("RSS idle", f"{idle:.1f} MiB"),
        (
            "RSS while filling",
            f"{min(seen[2:half]):.1f} to {max(seen[2:half]):.1f} MiB, then {min(seen[half:]):.1f} to {max(seen[half:]):.1f}",
        ),
        ("peak RSS", f"{filling:.1f} MiB while filling, {drained['peak_mib']:.1f} MiB while draining"),
        ("drained", f"{drained['sealed_bytes'] / 1e6:.0f} MB sealed in {drained['seconds']:.1f} s: {rate:.1f} MB/s"),
        ("batches", f"{drained['batches'] / drained['seconds']:.1f}/s"),
    ]
    document: dict[str, object] = {"events": events, "idle_mib": idle, "filling_mib": filling, "rate_mb_s": rate, **drained}
    show(f"an outage of a bucket, {options.events} events, {os.cpu_count()} cores", rows, document, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
