"""Faults that need more than one system call: full disks, power cuts, rolled-back states, clocks, and the processes of a relay.

Each takes a fault, a machine and the outcome to fill, and sets `met` only if what it is about really happened.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from . import injection, powercut
from .oracle import judge
from .run import Outcome, allowance_for, end, faulted, recover, recover_stream, run_under, stream, wait_stream, written_by_service
from .workloads import WORKLOADS, Writer, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from .faults import Fault
    from .workloads import Rig

DISK_BYTES: Final = 64 << 20
FULL_SECONDS: Final = 0.6
FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
JUMP_SECONDS: Final = 3600


def full_or_read_only(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Let the disk of the state or of the store fill up, or turn read-only, while the agent works; then mend it."""
    dice = random.Random(fault.when)
    how, _, which = fault.name.rpartition("-")
    site = rig.site(WORKLOADS[fault.workload])
    folder = site.state if which == "state" else site.store
    with small_disk(folder):
        writer = Writer(site, WORKLOADS[fault.workload])
        with site.run() as agent:
            writer.start()
            time.sleep(dice.uniform(0.8, 2.0))
            if how == "full":
                outcome.met = int(fill(folder / "filler"))
            else:
                done = subprocess.run(["mount", "-o", "remount,ro", str(folder)], capture_output=True, check=False)
                # A disk with files open for writing cannot be remounted; -o bind,ro is what such a system then does.
                outcome.met = int(done.returncode == 0 or _bind_read_only(folder))
            time.sleep(FULL_SECONDS)
            if dice.random() < 0.5:
                outcome.exits.append(end(agent, outcome))
            (folder / "filler").unlink(missing_ok=True) if how == "full" else _writable(folder)
            writer.finish()
            if agent.process.poll() is None:
                outcome.exits.append(end(agent, outcome))
        recover(site, writer.expected, outcome)
        outcome.take(judge(site, writer.expected, allowance_for(fault)))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a folder's content on a small disk of its own (needs root)."""
    aside = folder.with_name(folder.name + "-before")
    folder.rename(aside) if folder.exists() else aside.mkdir()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
    finally:
        # A folder that was made read-only by a second mount has two.
        while folder.is_mount():
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(aside)


def _bind_read_only(folder: Path) -> bool:
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    return subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=False).returncode == 0


def _writable(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], capture_output=True, check=False)
    subprocess.run(["mount", "-o", "remount,bind,rw", str(folder)], capture_output=True, check=False)


def fill(path: Path) -> bool:
    """Write a file until the disk is full; say whether it became so."""
    with path.open("wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 65536)
        try:
            filler.write(b"\0" * 4096)
        except OSError:
            return True
    return False


def power_cut(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Take the power away at a call of a recorded run, and go on from what is on the disk then."""
    dice = random.Random(fault.when)
    workload = WORKLOADS[fault.workload]
    recorded = rig.root / f"recorded-{fault.workload}"
    if not recorded.exists():
        _record(fault, rig, recorded)
    site = rig.site(workload)
    shutil.rmtree(rig.folder)
    shutil.copytree(recorded / "before", rig.folder)
    disk = powercut.Disk([site.state, site.store])
    lines = (recorded / "trace").read_text(encoding="ascii").splitlines()
    cut = dice.choice(powercut.moments(lines, [site.state, site.store]))
    powercut.Replay(disk).play(iter(lines[: cut + 1]))
    policy = fault.name.removeprefix("power-cut-")
    image = disk.image("worst" if policy == "state-only" else policy, dice, str(site.store) if policy == "state-only" else "")
    for folder in (site.state, site.store, site.logs):
        shutil.rmtree(folder, ignore_errors=True)
    powercut.write_image(image)
    # Moved, not copied: a log that was seen and not read yet is recognised by its inode alone.
    (recorded / "logs").rename(site.logs)
    try:
        outcome.met = 1
        expected = ids((recorded / "lines").stat().st_size)
        recover(site, expected, outcome)
        outcome.take(judge(site, expected, allowance_for(fault)))
    finally:
        site.logs.rename(recorded / "logs")
        site.logs.mkdir()


def _record(fault: Fault, rig: Rig, recorded: Path) -> None:
    """Run a workload without a fault and keep the beginning, every byte the agent wrote, and the logs."""
    workload = WORKLOADS[fault.workload]
    site = rig.site(workload)
    making = recorded.with_name(recorded.name + "-making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    shutil.copytree(rig.folder, making / "before")
    plain = injection.Injection(powercut.CALLS)
    tracing = injection.command(plain, making / "trace")
    tracing[1:1] = powercut.TRACING
    writer = Writer(site, workload)
    writer.start()
    clean = Outcome("", "", "")
    try:
        code = faulted(site, writer, tracing, clean)
    finally:
        writer.finish()
    if code or clean.problems:
        raise RuntimeError(f"the run that was to be recorded ended with {code}: {clean.problems}")
    time.sleep(0.3)
    site.logs.rename(making / "logs")
    # As many bytes as there are lines: a number that a folder of files can hold.
    (making / "lines").write_bytes(b"." * writer.lines_in_all)
    making.rename(recorded)


def rollback(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Put the state directory back to an older copy of itself, as a restored snapshot of a machine does."""
    dice = random.Random(fault.when)
    site = rig.site(WORKLOADS[fault.workload])
    older = rig.root / "older"
    shutil.rmtree(older, ignore_errors=True)
    writer = Writer(site, WORKLOADS[fault.workload])
    with site.run() as agent:
        writer.start()
        agent.ready()
        time.sleep(dice.uniform(0.0, 0.4))
        os.kill(agent.process.pid, signal.SIGSTOP)
        shutil.copytree(site.state, older, ignore=shutil.ignore_patterns("*.sock"))
        before = len(site.trails.seals())
        os.kill(agent.process.pid, signal.SIGCONT)
        limit = time.monotonic() + 3.0
        while len(site.trails.seals()) == before and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 0.4))
        agent.kill()
    outcome.exits.append(-9)
    writer.finish()
    shutil.rmtree(site.state)
    shutil.copytree(older, site.state)
    outcome.met = int(len(site.trails.seals()) > before)
    recover(site, writer.expected, outcome)
    outcome.take(judge(site, writer.expected, replace(allowance_for(fault), unordered=True, forked=True)))


def two_agents(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Start a second agent on the state directory of a running one: it must refuse, and disturb nothing."""
    dice = random.Random(fault.when)
    site = rig.site(WORKLOADS[fault.workload])
    writer = Writer(site, WORKLOADS[fault.workload])
    with site.run() as agent:
        writer.start()
        agent.ready()
        time.sleep(dice.uniform(0.0, 0.6))
        with site.run() as second:
            code = second.process.wait(20)
            outcome.exits.append(code)
            outcome.met = 1
            if code != 75:
                outcome.problems.append(f"the second agent ended with {code} and not with 75")
        writer.finish()
        if agent.process.poll() is not None:
            outcome.problems.append(f"the first agent ended with {agent.process.returncode}")
        else:
            outcome.exits.append(end(agent, outcome))
    recover(site, writer.expected, outcome)
    outcome.take(judge(site, writer.expected, allowance_for(fault)))


def clock(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Let the wall clock jump by an hour while the agent runs; the monotonic clock goes on."""
    dice = random.Random(fault.when)
    site = rig.site(WORKLOADS[fault.workload])
    jump = JUMP_SECONDS if fault.name == "clock-forward" else -JUMP_SECONDS
    offset = rig.root / "clock"
    offset.write_text("+0\n", encoding="ascii")
    environ = {
        **os.environ, "LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1",
    }  # fmt: skip
    writer = Writer(site, WORKLOADS[fault.workload])
    with run_under(site, (), env=environ) as agent:
        writer.start()
        agent.ready()
        time.sleep(dice.uniform(0.0, 0.5))
        offset.write_text(f"{jump:+d}\n", encoding="ascii")
        writer.hurry.wait(0.5)
        if dice.random() < 0.5:
            agent.kill()
            outcome.exits.append(-9)
        writer.finish()
        if agent.process.poll() is None:
            outcome.exits.append(end(agent, outcome))
    hours = [seal.manifest.sealed_at for seal in site.trails.seals()]
    outcome.met = int(_spread_seconds(hours) > JUMP_SECONDS / 2)
    # The next start is under the right clock again: a second jump, the other way.
    recover(site, writer.expected, outcome)
    outcome.take(judge(site, writer.expected, replace(allowance_for(fault), clock_ahead_seconds=0.0)))


def _spread_seconds(times: list[str]) -> float:
    from datetime import datetime

    moments = [datetime.fromisoformat(one) for one in times]
    return (max(moments) - min(moments)).total_seconds() if moments else 0.0


def resize(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Change the spool's bound between a kill and the next start, to the least there is and back."""
    dice = random.Random(fault.when)
    site = rig.site(WORKLOADS[fault.workload])
    writer = Writer(site, WORKLOADS[fault.workload])
    writer.start()
    for size in ("16MiB", "64MiB", "16MiB"):
        site.configure(spool={"max_bytes": size})
        with site.run() as agent:
            time.sleep(dice.uniform(0.6, 1.4))
            if agent.process.poll() is not None:
                outcome.problems.append(f"the agent ended with {agent.process.returncode} after the bound was made {size}")
            agent.kill()
            outcome.exits.append(-9)
            outcome.met += 1
    writer.finish()
    recover(site, writer.expected, outcome)
    outcome.take(judge(site, writer.expected, allowance_for(fault)))


def frozen(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Stop the agent for a while, as a suspended machine does, with rotations going on; then let it run again."""
    dice = random.Random(fault.when)
    site = rig.site(WORKLOADS[fault.workload])
    writer = Writer(site, WORKLOADS[fault.workload])
    with site.run() as agent:
        writer.start()
        time.sleep(dice.uniform(0.6, 1.6))
        os.kill(agent.process.pid, signal.SIGSTOP)
        outcome.met = 1
        writer.finish()
        time.sleep(0.2)
        os.kill(agent.process.pid, signal.SIGCONT)
        outcome.exits.append(end(agent, outcome))
    recover(site, writer.expected, outcome)
    outcome.take(judge(site, writer.expected, allowance_for(fault)))


def relay(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    """Kill or freeze the worker of a relay, or kill the relay as a whole."""
    dice = random.Random(fault.when)
    source = WORKLOADS[fault.workload].source
    site = rig.site(WORKLOADS[fault.workload])
    allowance = allowance_for(fault)
    with stream(site, source, dict(os.environ)) as agent:
        limit = time.monotonic() + 10
        while (worker := agent.worker()) is None and agent.process.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(dice.uniform(0.0, 0.7))
        if fault.name == "kill-all":
            os.killpg(agent.process.pid, signal.SIGKILL)
            if worker is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            outcome.met = 1
            # What was in the pipes and in the parent's memory died with them.
            certainty = frozenset({"possible"})
            allowance = replace(allowance, lost=True, gap_causes=frozenset({"worker_crashed"}), gap_certainties=certainty)
        elif worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL if fault.name == "kill-worker" else signal.SIGSTOP)
                outcome.met = 1
                if fault.name == "freeze-worker":
                    time.sleep(dice.uniform(0.2, 1.0))
                    os.kill(worker, signal.SIGCONT)
        outcome.exits.append(wait_stream(agent, outcome))
    # Killed before its first trail was open, a relay left nothing behind that could state a loss.
    unborn = fault.name == "kill-all" and '"trail opened"' not in agent.log
    recover_stream(site)
    outcome.take(judge(site, [] if unborn else written_by_service(site), allowance))


SCENARIOS: Final[Mapping[str, Callable[[Fault, Rig, Outcome], None]]] = {
    "full-state": full_or_read_only,
    "full-store": full_or_read_only,
    "read-only-state": full_or_read_only,
    "read-only-store": full_or_read_only,
    "power-cut-worst": power_cut,
    "power-cut-random": power_cut,
    "power-cut-torn": power_cut,
    "power-cut-state-only": power_cut,
    "rollback": rollback,
    "two-agents": two_agents,
    "clock-forward": clock,
    "clock-back": clock,
    "resize": resize,
    "frozen": frozen,
    "kill-worker": relay,
    "freeze-worker": relay,
    "kill-all": relay,
}
