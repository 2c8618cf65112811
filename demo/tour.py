"""The demo itself: `python -m demo.tour` shows the product at work and checks everything it claims.

It starts the agent and the service, drives the service, looks at what came out, ends both, verifies the trail and tampers with
copies of it.

Invariants: whatever happens, nothing it started goes on running after it; only a folder that it made itself is ever
removed; the exit code is 0 only if every claim held. It uses the command line as a user would, and no network but loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import store as trail
from .clients import Caused, drive
from .stage import Agent, DemoError, Screen, command, fetch, free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).resolve().parents[1]
MARK: Final = ".made-by-the-demo"
HEARTBEAT: Final = timedelta(seconds=2)
SHOWN_SEALS: Final = 3
"""How many seals are shown, of the first ones and of the last ones."""
FINDING: Final = re.compile(r"(tampered|incomplete|not verified): [a-z_]+  |  batch ")
UNWRAPPED: Final = 300
"""A width at which a finding is one line."""
SHOWN_METRICS: Final = (
    "trailseal_records_total",
    "trailseal_observability_lines_total",
    'trailseal_quarantined_total{reason="missing_field"',
    "trailseal_store_receipts_total",
    "trailseal_heartbeat_timestamp_seconds",
)


def main() -> int:
    """Run the demo and return its exit code: 0 if every claim held, 1 if one did not, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/demo.sh", description="Show Trailseal at work on a real service.")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long the clients use the service (default 4)")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="where everything it makes goes (default demo-output)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen = Screen(ROOT)
    try:
        Tour(screen, prepare(options.output.resolve()), options.seconds).play()
    except KeyboardInterrupt:
        screen.line("\nInterrupted; everything that ran was ended.")
        return 130
    except BrokenPipeError:
        # Nobody reads on (`| head`), so there is nobody to tell; a second failure at exit would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DemoError, OSError) as error:
        screen.failed(str(error))
    return 1 if screen.failures else 0


def prepare(output: Path) -> Path:
    """Make the folder anew.

    Raises:
        DemoError: It exists and is not ours to remove.
    """
    if output.exists():
        if any(output.iterdir()) and not (output / MARK).exists():
            raise DemoError(f"{output} exists and was not made by this demo; move it away, or name another with --output")
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / MARK).touch()
    return output


class Tour:
    """Play the acts, in order."""

    def __init__(self, screen: Screen, output: Path, seconds: float) -> None:
        """Bind the screen, the folder for everything that is made, and how long clients use the service."""
        self._screen = screen
        self._output = output
        self._store = output / "store"
        self._trust = output / "trust.txt"
        self._seconds = seconds
        self._port = free_port()
        os.environ.update(DEMO_OUTPUT=str(output), DEMO_METRICS_PORT=str(self._port))
        self._config = ROOT / "demo" / "trailseal.yaml"

    def play(self) -> None:
        """Play everything."""
        show = self._screen
        show.title("Trailseal: a service, its audit trail, and somebody who tampers with it")
        service = [sys.executable, str(ROOT / "demo" / "service.py")]
        show.section("A service runs under the agent")
        show.command(f"trailseal exec --config {show.path(self._config)} -- python demo/service.py")
        with Agent(self._config, service, self._output) as agent:
            caused = self._use(agent)
            self._show_passed_through(agent)
            self._show_sealed(caused)
            key = self._show_vitals(caused)
            self._stop(agent)
        self._audit(key)
        self._tamper()
        self._leave()

    def _use(self, agent: Agent) -> Caused:
        show = self._screen
        port = agent.service_port()
        show.line(f"service http://127.0.0.1:{port}, metrics http://127.0.0.1:{self._port}/metrics")
        caused = drive(port, self._seconds)
        made = ", ".join(f"{count} {what}" for what, count in caused.requests.items())
        show.paragraph(f"Clients made {caused.total} requests in {caused.seconds:.1f} s: {made}.")
        until(self._is_quiet, "a heartbeat in the store")
        return caused

    def _is_quiet(self) -> bool:
        """Tell whether the newest batch in the store says that nothing happened."""
        return bool(trail.seals(self._store)[-1].manifest["reason"] == "heartbeat")

    def _show_passed_through(self, agent: Agent) -> None:
        show = self._screen
        show.section("Ordinary lines pass through as before")
        lines, errors = agent.stdout_lines(), agent.service_errors()
        access = [line for line in lines if line.startswith("127.0.0.1 ")]
        for line in (access[0], next(line for line in lines if '"reconciling' in line), access[-1]):
            show.quote(f"stdout  {line}")
        for line in (errors[0], errors[-1]):
            show.quote(f"stderr  {line}")
        passed = len(lines) + len(errors)
        show.claim(not any('"audit"' in line for line in lines + errors), f"{passed} lines passed through, no audit event among them")

    def _show_sealed(self, caused: Caused) -> None:
        show = self._screen
        show.section("Audit events arrive in the store, in sealed batches")
        seals = trail.seals(self._store)
        show.table("batch  sealed (UTC)  why        records  SHA-256 of it     names as previous")
        for index, seal in enumerate(seals):
            if index < SHOWN_SEALS or index >= len(seals) - SHOWN_SEALS:
                m = seal.manifest
                when, previous = f"{seal.sealed_at:%H:%M:%S.%f}"[:-4], (m["previous"] or "none")[:16]
                show.table(f"{m['batch']:5}  {when:12}  {m['reason']:<9}  {m['records']['count']:7}  {seal.sha256[:16]}  {previous}")
            elif index == SHOWN_SEALS:
                show.table(f"  ...  ({len(seals) - 2 * SHOWN_SEALS} more)")
        show.claim(trail.chain_holds(seals), "each seal names the SHA-256 of the one before it")
        records = trail.all_records(self._store)
        kept = [record["event"]["event_id"] for record in records if record["kind"] == "event"]
        quarantined = [record for record in records if record["kind"] == "quarantine"]
        expected = sorted(set(caused.event_ids) - set(caused.without_actor))
        found = sorted(event_id for event_id in kept if event_id in set(expected))
        show.claim(found == expected, f"all {len(expected)} valid events the clients caused are in the trail, each exactly once")
        event = next(r for r in records if r["kind"] == "event" and r["event"]["action"] == "role.grant")
        show.line("One of them, and the one event that the service printed without an actor:")
        show.quote(json.dumps(event, separators=(",", ":")), lines=6)
        show.quote(json.dumps(quarantined[0] if quarantined else None, separators=(",", ":")), lines=3)
        named = [(r["reason"], r["detail"], json.loads(r["raw"])["event_id"]) for r in quarantined]
        wanted = [("missing_field", "actor", event_id) for event_id in caused.without_actor]
        show.claim(named == wanted, "the event without an actor is kept in quarantine, inside the trail, with the reason")

    def _show_vitals(self, caused: Caused) -> str:
        show = self._screen
        show.section("The agent tells how it is")
        show.command(f"curl http://127.0.0.1:{self._port}/metrics    (a few lines of it)")
        metrics = fetch(self._port, "/metrics").splitlines()
        for line in metrics:
            if line.startswith(SHOWN_METRICS) and not line.endswith(" 0.0"):
                show.table(line)
        show.command(f"trailseal status --config {show.path(self._config)}")
        status = command("status", "--config", str(self._config))
        for line in status.stdout.splitlines():
            show.quote(line)
        show.claim(status.returncode == 0, "the agent is ready, and a store has confirmed what it sealed")
        counted = sum(float(line.rsplit(" ", 1)[1]) for line in metrics if line.startswith("trailseal_quarantined_total{"))
        show.claim(counted == len(caused.without_actor), "the quarantined event is counted, for an alert")
        answer = json.loads(fetch(self._port, "/status"))
        return str(answer["head"]["key"])

    def _stop(self, agent: Agent) -> None:
        show = self._screen
        show.section("The service ends in order")
        show.command(f"kill -TERM {agent.pid}")
        code = agent.stop()
        last = trail.seals(self._store)[-1].manifest
        final = trail.all_records(self._store)[-1]
        show.claim(code == 0, "the signal reached the service, and its exit code is the agent's: 0")
        stopped = final["kind"] == "event" and final["event"]["action"] == "system.stop"
        show.claim(stopped and last["reason"] == "stop", "its last event is in the last batch, whose reason is `stop`")
        passed = len(agent.stdout_lines()) + len(agent.service_errors())
        show.claim(last["totals"]["observability"] == passed, f"that batch counts {passed} ordinary lines; as many passed through")

    def _audit(self, key: str) -> None:
        show = self._screen
        show.section("An auditor verifies: no agent, no network, no secret")
        show.command(f"trailseal trust {show.path(self._store)} > {show.path(self._trust)}")
        found = command("trust", str(self._store))
        self._trust.write_text(found.stdout, encoding="utf-8")
        keys = [line.split()[1] for line in found.stdout.splitlines() if line and not line.startswith("#")]
        show.claim(keys == [key], "the key in the store is the one `status` showed on the agent's machine")
        show.command(f"trailseal verify {show.path(self._store)} --trust {show.path(self._trust)}")
        result = command("verify", str(self._store), "--trust", str(self._trust), width=show.width, colours=show.colours)
        for line in result.stdout.splitlines():
            if line.strip():
                show.raw(line)
        show.claim(result.returncode == 0, f"exit code {result.returncode}: intact and complete")

    def _tamper(self) -> None:
        show = self._screen
        show.section("Somebody tampers, with copies of the store")
        show.line("Of each answer, the findings; the table is left out.")
        self._case(
            "word",
            10,
            "data_altered",
            lambda copy: "In batch {}, seq {}: a denied role grant is made to read `success`.".format(*trail.rewrite_outcome(copy)),
        )
        self._case(
            "seal",
            10,
            "proof_wrong",
            lambda copy: "The same in batch {}, seq {}, and the manifest in the seal is made to agree.".format(
                *trail.rewrite_outcome_and_manifest(copy)
            ),
        )
        self._case("hole", 10, "seal_missing", lambda copy: f"Batch {trail.remove_batch(copy)} is removed, seal and data.")
        self._case("cut", 11, "unclosed", self._cut)

    def _cut(self, copy: Path) -> str:
        head = trail.cut_off_end(copy)
        # A head younger than three heartbeats could be that of an agent at work.
        until(lambda: datetime.now(UTC) - head.sealed_at > 3.5 * HEARTBEAT, "a head older than three heartbeats")
        return f"The newest batches are removed; batch {head.manifest['batch']} is the last one now."

    def _case(self, name: str, code: int, finding: str, forge: Callable[[Path], str]) -> None:
        show = self._screen
        copy = trail.copy(self._store, self._output / f"tampered-{name}")
        show.line(forge(copy), above=True)
        show.command(f"trailseal verify {show.path(copy)} --trust {show.path(self._trust)}")
        result = command("verify", str(copy), "--trust", str(self._trust), width=UNWRAPPED)
        lines = result.stdout.splitlines()
        for line in lines:
            if FINDING.match(line):
                show.quote(line, lines=2)
        named = any(finding in line for line in lines)
        show.claim(result.returncode == code and named, f"exit code {result.returncode}: `{finding}`")

    def _leave(self) -> None:
        show = self._screen
        show.section("What you have now, and what to do next")
        show.line(f"In {show.path(self._output)}/ (made anew by every run):")
        show.line("  store/          the trail: seals, and records as NDJSON (try zstdcat)")
        show.line("  trust.txt       whose key an auditor has to believe")
        show.line("  tampered-*/     the changed copies; change another one and verify it")
        show.line("  service.*.log   what passed through; stderr has the agent's log, too")
        show.line("Next: beside your own service    README.md, Five minutes")
        show.line("      what is proven, and not    docs/threat-model.md")
        show.line("      all tests                  scripts/test.sh")
        show.end()


if __name__ == "__main__":
    sys.exit(main())
