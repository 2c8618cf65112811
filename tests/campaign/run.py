"""Run one fault from its beginning to the oracle's word.

A run: the site at a workload's beginning, the agent under the fault while the workload goes on, then the agent without faults until it has
drained, then the oracle. A process that ended is started again, as a supervisor would.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tests.support.agent_process import TRAILSEAL, Agent

from . import injection
from .oracle import Allowance, event_ids, judge
from .workloads import STREAM_LINES, WORKLOADS, Writer, generator, ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.agent_process import Site

    from .faults import Fault
    from .oracle import Findings
    from .workloads import Rig

START_SECONDS: Final = 10.0
END_SECONDS: Final = 15.0
DRAIN_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 0.2
TRACER_SECONDS: Final = 0.05
SERVICE_RAN: Final = "service-ran"


@dataclass(slots=True)
class Outcome:
    """How one fault ended.

    Attributes:
        id: The fault's id.
        letter: Its kind's letter.
        kind: Its row in the table.
        met: How often the agent really met it; 0 does not count as a fault.
        written: Audit lines in the source.
        lost: Of them, in no sealed batch, and nothing says so.
        stated: Of them, in no sealed batch, and a gap record (or, for a store that lied, `verify`) says so.
        duplicated: Records that repeat an event unexplained.
        flagged: Records that repeat an event where a fork explains it.
        gaps: Gap records.
        verify: `verify`'s exit code.
        exits: The exit codes of the faulted processes; negative for a signal.
        starts: How many starts without a fault it took until everything was in the store.
        seconds: How long the run took.
        problems: What must not be; empty if the promise held.
        kept: Where the site was kept; empty if it was not.
    """

    id: str
    letter: str
    kind: str
    met: int = 0
    written: int = 0
    lost: int = 0
    stated: int = 0
    duplicated: int = 0
    flagged: int = 0
    gaps: int = 0
    verify: int = 0
    exits: list[int] = field(default_factory=list)
    starts: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    kept: str = ""

    def take(self, found: Findings) -> None:
        """Add the oracle's word."""
        self.written, self.duplicated, self.flagged = found.written, found.duplicated, found.flagged
        self.lost, self.stated = (0, found.lost) if found.stated else (found.lost, 0)
        self.gaps, self.verify = len(found.gaps), found.verify
        self.problems += found.problems


def perform(fault: Fault, rig: Rig, keep: Path | None = None) -> Outcome:
    """Run a fault and return how it ended.

    Args:
        fault: The fault.
        rig: The machine; its site is written anew.
        keep: Where the site of a violation is kept.
    """
    from . import scenarios

    outcome = Outcome(fault.id, fault.letter, fault.kind)
    began = time.monotonic()
    try:
        if fault.what == "scenario":
            scenarios.SCENARIOS[fault.name](fault, rig, outcome)
        elif WORKLOADS[fault.workload].source == "file":
            _file_run(fault, rig, outcome)
        else:
            _stream_run(fault, rig, outcome)
    except Exception as error:  # noqa: BLE001 -- a campaign goes on; what a run could not do is its outcome
        outcome.problems.append(f"{type(error).__name__}: {error}")
    if fault.what.startswith("error=") and injection.is_impossible(rig.root / "trace"):
        # What a hang in a waker's write proves is nothing; what is lost or doubled counts all the same.
        outcome.met = 0
        outcome.problems = [one for one in outcome.problems if "did not end" not in one]
    outcome.seconds = round(time.monotonic() - began, 2)
    if outcome.problems and keep is not None and rig.folder.exists():
        target = keep / fault.id.replace("/", "_").replace(",", "+")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(rig.folder, target, ignore=shutil.ignore_patterns("*.sock"), symlinks=True)
        if (rig.root / "trace").exists():
            shutil.copy(rig.root / "trace", target / "trace")
        outcome.kept = str(target)
    return outcome


def trace(workload: str, rig: Rig, calls: Sequence[str] = injection.DURABLE_CALLS) -> list[injection.Call]:
    """Run a workload without a fault and return the calls of the agent's threads.

    Raises:
        RuntimeError: The run without a fault is not clean, so a campaign over it would prove nothing.
    """
    from .faults import Fault

    outcome = Outcome("", "", "")
    fault = Fault("a", workload, ",".join(calls), "", "")
    (_file_run if WORKLOADS[workload].source == "file" else _stream_run)(fault, rig, outcome)
    if outcome.problems:
        raise RuntimeError(f"the workload {workload} without a fault: {'; '.join(outcome.problems)}")
    return injection.counted(rig.root / "trace")


def places(site: Site, place: str) -> list[Path]:
    """Return the paths that an injection's place stands for."""
    state, store = site.state, site.store
    if place == "source":
        return [site.log, *(site.log.with_name(f"{site.log.name}.{age}") for age in range(1, 6)), site.logs]
    if place == "spool":
        return [state / "spool.db", state / "spool.db-wal", state / "spool.db-journal", state / "lock", state / "ballast", state]
    if place == "store":
        inside = [path for path in store.rglob("*") if path.is_dir()] if store.is_dir() else []
        return [store, store / ".incoming", store / "trails", *inside]
    return []


def _file_run(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    workload = WORKLOADS[fault.workload]
    site = rig.site(workload)
    tracing = injection.command(fault.injection, rig.root / "trace", places(site, fault.place))
    (rig.root / "trace").unlink(missing_ok=True)
    writer = Writer(site, workload)
    writer.start()
    try:
        outcome.exits.append(faulted(site, writer, tracing, outcome))
        if fault.when.endswith("+"):
            # A fault that lasts meets the next start, too; a supervisor does not know better.
            outcome.exits.append(faulted(site, writer, tracing, outcome))
    finally:
        writer.finish()
    recover(site, writer.expected, outcome)
    outcome.met = injection.met(rig.root / "trace", fault.injection)
    outcome.take(judge(site, writer.expected, allowance_for(fault)))


def allowance_for(fault: Fault) -> Allowance:
    """Return what is right after a fault."""
    allowance = WORKLOADS[fault.workload].allowance
    if fault.when.endswith("+") and WORKLOADS[fault.workload].source != "file":
        # A disk that refuses for as long as the service lives, and longer than the grace period: there is nowhere to keep its bytes.
        return replace(allowance, lost=True, gap_causes=frozenset({"worker_crashed"}), gap_certainties=frozenset({"possible"}))
    return replace(allowance, detected=True) if fault.letter == "h" else allowance


def run_under(site: Site, tracing: Sequence[str], **options: Any) -> Agent:
    """Start the agent with words before its command line."""
    return Agent(site, [*tracing, TRAILSEAL, "run", "--config", str(site.config)], **options)


def faulted(site: Site, writer: Writer, tracing: Sequence[str], outcome: Outcome, **options: Any) -> int:
    """Run the agent under a fault while the writer goes on, end it if it lives, and return its exit code."""
    with run_under(site, tracing, **options) as agent:
        while agent.process.poll() is None and not writer.done:
            time.sleep(0.01)
        if agent.process.poll() is None:
            return end(agent, outcome)
        writer.hurry.set()
        # strace writes the last line after the process has gone, and leaving the `with` block kills it.
        time.sleep(TRACER_SECONDS)
        return int(agent.process.returncode)


def end(agent: Agent, outcome: Outcome) -> int:
    """End an agent that may be hindered; a process that does not end within its bound is a violation."""
    limit = time.monotonic() + START_SECONDS
    while agent.process.poll() is None and not agent.site.is_ready() and time.monotonic() < limit:
        # Not ready is what a hindered agent says for as long as it is hindered: what counts is that it can be asked to end.
        if agent.site.status() is not None and time.monotonic() > limit - START_SECONDS + LINGER_SECONDS:
            break
        time.sleep(0.02)
    if agent.process.poll() is None:
        time.sleep(LINGER_SECONDS)
        agent.process.send_signal(signal.SIGTERM)
    try:
        return int(agent.process.wait(END_SECONDS))
    except subprocess.TimeoutExpired:
        outcome.problems.append(f"the agent did not end within {END_SECONDS:.0f} s after SIGTERM")
        agent.kill()
        return -9


def recover(site: Site, expected: Sequence[str], outcome: Outcome) -> None:
    """Start the agent without a fault until everything is in the store; it must never end by itself."""
    last, limit = set(expected), time.monotonic() + DRAIN_SECONDS
    for start in range(1, 4):
        outcome.starts = start
        with site.run() as agent:
            while agent.process.poll() is None and not site.is_ready() and time.monotonic() < limit:
                time.sleep(0.02)
            patience = time.monotonic() + (0.0 if start == 1 else 3.0)
            while agent.process.poll() is None and time.monotonic() < patience and not last <= set(event_ids(site)):
                time.sleep(0.1)
            code = agent.stop() if agent.process.poll() is None else int(agent.process.returncode)
            if code:
                outcome.problems.append(f"a start without a fault ended with {code}: {agent.log.strip().splitlines()[-1:]}")
                return
        if last <= set(event_ids(site)):
            return


def _stream_run(fault: Fault, rig: Rig, outcome: Outcome) -> None:
    workload = WORKLOADS[fault.workload]
    site = rig.site(workload)
    mark = rig.root / "mark"
    shutil.rmtree(mark, ignore_errors=True)
    (rig.root / "trace").unlink(missing_ok=True)
    tracing = injection.command(fault.injection, rig.root / "trace", places(site, fault.place))
    stand_in = injection.wrapper(rig.root, sys.executable, tracing)
    with stream(site, workload.source, injection.environment(mark), stand_in) as agent:
        outcome.exits.append(wait_stream(agent, outcome))
    recover_stream(site)
    outcome.met = injection.met(rig.root / "trace", fault.injection)
    # Exit code 2 is a relay that refused to begin, as for a wrong configuration: it has read nothing.
    refused = outcome.exits == [2] and not event_ids(site)
    outcome.take(judge(site, [] if refused else written_by_service(site), allowance_for(fault)))


def written_by_service(site: Site) -> list[str]:
    """Return the event_ids of what a stream's service wrote: nothing if it was never started."""
    return ids(STREAM_LINES) if (site.folder / SERVICE_RAN).exists() else []


_AS = "import sys; sys.executable = sys.argv[1]; sys.argv = ['trailseal', *sys.argv[2:]]; from agent.cli import main; sys.exit(main())"


@contextlib.contextmanager
def stream(site: Site, source: str, environ: dict[str, str], python: Path | str = sys.executable) -> Iterator[Agent]:
    """Run `exec` or `pipe` over the generator; `python` is the interpreter its worker is started with."""
    words = [sys.executable, "-c", _AS, str(python), source, "--config", str(site.config)]
    if source == "exec":
        noting = ["sh", "-c", ': > "$0"; exec "$@"', str(site.folder / SERVICE_RAN)]
        with Agent(site, [*words, "--", *noting, *generator()], env=environ) as agent:
            yield agent
        return
    (site.folder / SERVICE_RAN).touch()
    with subprocess.Popen(generator(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as service:
        assert service.stdout is not None
        try:
            with Agent(site, words, stdin=service.stdout, env=environ) as agent:
                service.stdout.close()
                yield agent
        finally:
            service.kill()


def wait_stream(agent: Agent, outcome: Outcome) -> int:
    """Wait until a relay has ended by itself; one that does not is a violation."""
    try:
        return int(agent.process.wait(START_SECONDS + END_SECONDS + DRAIN_SECONDS))
    except subprocess.TimeoutExpired:
        outcome.problems.append("the relay did not end after its service had ended")
        os.killpg(agent.process.pid, signal.SIGKILL)
        return -9


def recover_stream(site: Site) -> None:
    """Let a worker ship what is left, over a service that says nothing."""
    with site.run("exec", "--", "true") as agent:
        agent.process.wait(DRAIN_SECONDS)
