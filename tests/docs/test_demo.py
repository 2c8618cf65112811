"""The demo shows what it claims, fails when it cannot, leaves nothing running, and removes nothing that is not its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from demo import stage, tour
from demo import store as trail

ROOT = Path(__file__).parents[2]
TOUR = [sys.executable, "-m", "demo.tour"]
pytestmark = pytest.mark.timeout(120)
WIDTH = 80
CLAIMS = 15


def play(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"COLUMNS": str(WIDTH), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [*TOUR, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


def verify(store: Path, trust: Path) -> int:
    program = str(Path(sys.executable).with_name("trailseal"))
    return subprocess.run([program, "verify", str(store), "--trust", str(trust), "--quiet"], capture_output=True, check=False).returncode


def processes_naming(folder: Path) -> list[str]:
    """Return the command lines of the processes whose environment names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"DEMO_OUTPUT={folder}\0".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Play the demo once, shortened."""
    output = tmp_path_factory.mktemp("demo")
    return play("--seconds", "0.5", "--output", str(output)), output


@pytest.mark.slow
def test_every_claim_of_the_demo_holds(played):
    done, _ = played
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAILED" not in done.stdout
    assert len(re.findall(r"(?m)^   ok  ", done.stdout)) == CLAIMS
    assert [int(n) for n in re.findall(r"(?m)^(\d)  ", done.stdout)] == list(range(1, 9))
    assert done.stdout.endswith("Every claim above was checked, and held.\n")


@pytest.mark.slow
def test_the_demo_is_readable_without_a_wide_or_coloured_terminal(played):
    done, output = played
    assert "\x1b" not in done.stdout
    shown = done.stdout.replace(str(output), "demo-output")
    assert [line for line in shown.splitlines() if len(line) > WIDTH] == []


@pytest.mark.slow
def test_the_demo_leaves_a_trail_that_verifies_and_copies_that_do_not(played):
    _, output = played
    trust = output / "trust.txt"
    assert verify(output / "store", trust) == 0
    assert {copy.name: verify(copy, trust) for copy in sorted(output.glob("tampered-*"))} == {
        "tampered-cut": 11,
        "tampered-hole": 10,
        "tampered-seal": 10,
        "tampered-word": 10,
    }


@pytest.mark.slow
def test_the_trail_of_the_demo_holds_what_an_auditor_asks_for(played):
    _, output = played
    records = trail.all_records(output / "store")
    events = [record["event"] for record in records if record["kind"] == "event"]
    told = {(event["action"], event["outcome"]) for event in events}
    assert told == {
        ("auth.login", "success"),
        ("auth.login", "failure"),
        ("auth.login", "denied"),
        ("role.grant", "success"),
        ("role.grant", "denied"),
        ("data.export", "success"),
        ("config.change", "success"),
        ("job.reconcile", "success"),
        ("system.start", "success"),
        ("system.stop", "success"),
    }
    assert {event["actor"]["type"] for event in events if event["action"].startswith(("job.", "system."))} == {"system"}
    assert {event["context"]["approval_id"] for event in events if event["action"] == "role.grant"} == {"CHG-1007", None}
    reasons = [seal.manifest["reason"] for seal in trail.seals(output / "store")]
    assert (reasons[0], reasons[-1]) == ("open", "stop")
    assert "heartbeat" in reasons


@pytest.mark.slow
def test_the_demo_is_ended_by_ctrl_c_with_all_it_started(tmp_path):
    output = tmp_path / "out"
    with subprocess.Popen([*TOUR, "--seconds", "30", "--output", str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("metrics http://" in line for line in process.stdout)
        assert len(processes_naming(output)) == 3, "the agent's two processes and the service"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(30) == 130
    assert "Interrupted" in rest
    deadline = time.monotonic() + 10
    while processes_naming(output) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_naming(output) == []


def test_the_demo_removes_no_folder_that_is_not_its_own(tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    done = play("--output", str(tmp_path))
    assert done.returncode == 1
    # The path before these words may be long enough for the line to be broken within them.
    assert "was not made by this demo" in " ".join(done.stdout.split())
    assert kept.read_text() == "mine"


@pytest.fixture
def signals_restored():
    """Put back the handlers that the demo's own main replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_restored")
def test_the_demo_fails_when_the_agent_does_not_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tour, "ROOT", tmp_path)
    for name in ("DEMO_OUTPUT", "DEMO_METRICS_PORT"):
        monkeypatch.setenv(name, "put back after the test, because the demo sets it")
    monkeypatch.setattr(sys, "argv", ["demo", "--output", str(tmp_path / "out")])
    assert tour.main() == 1
    assert "cannot read this file" in " ".join(capsys.readouterr().out.split())


def test_a_claim_that_does_not_hold_is_said_and_counted(capsys):
    screen = stage.Screen(ROOT)
    screen.claim(True, "water is wet")
    screen.claim(False, "the moon is cheese")
    screen.end()
    assert screen.failures == 1
    assert capsys.readouterr().out == "   ok  water is wet\n   FAILED  the moon is cheese\n\n1 of the claims above did not hold.\n"


def test_the_script_does_its_set_up_and_hands_over():
    script = (ROOT / "scripts" / "demo.sh").read_text()
    assert os.access(ROOT / "scripts" / "demo.sh", os.X_OK)
    assert re.search(r"(?m)^scripts/setup\.sh$", script)
    assert re.search(r'(?m)^exec "\$VENV/bin/python" -m demo\.tour "\$@"$', script)
