"""The agent under a real systemd, installed by the installer: ready, reloaded, watched, killed, stopped, and kept in its sandbox.

One machine is booted for all tests; each has an instance of the template to itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.errors import ConfigError
from tests.support.agent_process import believe, until, verify
from tests.support.loggen import audit_line, event_id
from tests.support.oracle import write
from tests.support.podman import wheelhouse
from tests.support.systemd import CHECKOUT, EXAMPLES, TRAILSEAL, Instance, Machine, lay_out, own_wheel

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    # The first test waits for the machine: the wheels of the requirements, where this host has none yet, and their installation.
    pytest.mark.timeout(240),
]

INSTALLER: Final = "/mnt/checkout/deploy/systemd/install.sh"
QUICK: Final = "[Service]\nRestartSec=100ms\n"
PROBE: Final = Path(__file__).parents[1] / "support" / "sandbox_probe.py"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a machine and install the agent on it, as its documentation says, without a network."""
    folder = tmp_path_factory.mktemp("systemd")
    wheel = own_wheel(folder / "dist")
    with Machine(lay_out(folder / "root"), [f"--volume={wheelhouse()}:/mnt/wheels:ro", f"--volume={wheel.parent}:/mnt/dist:ro"]) as booted:
        booted.installed = booted.exec(INSTALLER, "--wheels", "/mnt/wheels", f"/mnt/dist/{wheel.name}").stdout
        booted.sh("install --directory --owner=trailseal --group=trailseal --mode=750 /srv/trail")
        yield booted
        # All tests' trails are in one store, and it is verified once: what each finds in its own trail is also what was sealed.
        verdict = verify(booted.path("/srv/trail"), believe(booted.path("/srv/trail"), folder / "trust.txt"))
        assert verdict.code == 0, verdict.findings()
    # What the container's root made is root's here, too.
    shutil.rmtree(folder / "root")


def again(machine: Machine) -> subprocess.CompletedProcess[str]:
    """Run the installer another time."""
    wheel = machine.sh("ls /mnt/dist/*.whl")
    return machine.exec(INSTALLER, "--wheels", "/mnt/wheels", wheel)


def test_the_installer_changes_nothing_the_second_time(machine: Machine) -> None:
    assert "wrote /etc/systemd/system/trailseal.service" in machine.installed
    assert "not fit yet" in machine.installed, "there was no folder for the store"
    look = "ls -lR --full-time /etc/systemd/system /etc/trailseal /opt | sha256sum; readlink /opt/trailseal; id trailseal"
    before = machine.sh(look)
    second = again(machine)
    assert "is there already" in second.stdout
    assert "wrote" not in second.stdout
    assert "ready: systemctl enable --now trailseal" in second.stdout
    assert second.stderr == ""
    assert machine.sh(look) == before


def test_systemd_has_nothing_to_say_about_the_installed_units(machine: Machine) -> None:
    done = machine.exec("systemd-analyze", "verify", "trailseal.service", "trailseal@some.service")
    assert done.stdout + done.stderr == ""


def test_a_service_is_active_only_once_its_agent_is_ready(machine: Machine) -> None:
    # The process that systemd starts stops itself before it becomes the agent.
    hold = f"[Service]\nExecStart=\nExecStart=sh -c 'kill -STOP $$$$; exec {TRAILSEAL} run --config /etc/trailseal/ready.yaml'\n"
    agent = Instance(machine, "ready", hold)
    machine.systemctl("start", "--no-block", agent.unit)
    until(lambda: agent.main_pid and "State:\tT" in machine.sh(f"cat /proc/{agent.main_pid}/status"), "a process that is stopped")
    assert agent.show("ActiveState") == "activating"
    agent.kill("CONT")
    until(lambda: agent.show("ActiveState") == "active", "an active service")
    assert agent.status()["pid"] == agent.main_pid
    agent.stop()


def test_the_unit_ships_what_a_group_may_read_with_the_key_that_only_root_can_read(machine: Machine, tmp_path: Path) -> None:
    log = machine.path("/var/log/payments/app.log")
    log.parent.mkdir()
    ids = write(log, 0, 50)
    os.chown(log, 0, int(machine.sh("getent group adm").split(":")[2]))
    log.chmod(0o640)
    trust = machine.sh(f"{TRAILSEAL} keygen demo/payments --out /etc/trailseal/credentials/enrolment.key 2>/dev/null")
    first = machine.path("/etc/trailseal/trailseal.yaml")
    text = first.read_text(encoding="utf-8").replace("#enrolment_key", "enrolment_key").replace("  #- {id: units", "  - {id: units")
    first.write_text(text.replace("vitals:", "seal: {max_age: 200ms}\nvitals:"), encoding="utf-8")
    assert "BAD" not in machine.exec(INSTALLER, "--check").stdout
    entry = audit_line(7, "journal").decode().strip()
    machine.systemctl("enable", "--now", "trailseal")
    # The journal belongs to the group systemd-journal, and the unit's name is the entry's by the kernel's word.
    machine.exec("systemd-run", "--wait", "--quiet", "--unit=payments", "echo", entry)
    agent = Instance(machine, "payments")
    agent.wait_for([*ids, event_id(7, "journal")])
    until(
        lambda: 'Status: "ready; every batch is stored"' in machine.systemctl("status", "trailseal"), "the agent's own words in its status"
    )
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9600/metrics').read().decode())"
    metrics = machine.exec("/opt/trailseal/bin/python", "-c", fetch).stdout
    assert re.search(r"^trailseal_clock_synchronized [01]\.0$", metrics, re.MULTILINE), "the clock's state cannot be read"
    machine.systemctl("disable", "--now", "trailseal")
    assert machine.show("trailseal", "Result") == "success"
    assert sorted(agent.event_ids()) == sorted([*ids, event_id(7, "journal")])
    # The one line of trust names the enrolment key, and nothing but that.
    only = tmp_path / "trust.txt"
    only.write_text(trust + "\n")
    verdict = verify(machine.path("/srv/trail"), only, "--origin", "demo/payments/*/*")
    assert verdict.code == 0, verdict.findings()


def test_a_reload_takes_a_changed_configuration_over_without_another_process(machine: Machine) -> None:
    agent = Instance(machine, "reload", reload="on_signal")
    first = write(agent.logs / "a.log", 0, 10)
    agent.start()
    more = machine.path("/var/log/reload-more")
    more.mkdir()
    second = write(more / "b.log", 10, 20)
    agent.configure(sources=[*agent.settings["sources"], {"id": "more", "file": "/var/log/reload-more/*.log"}])
    agent.wait_for(first)
    assert agent.event_ids() == first
    before = agent.main_pid
    machine.systemctl("reload", agent.unit)
    agent.wait_for([*first, *second])
    assert (agent.main_pid, agent.show("ActiveState"), agent.show("NRestarts")) == (before, "active", "0")
    agent.stop()
    agent.assert_once([*first, *second])


def test_an_agent_that_gives_no_sign_of_life_is_killed_and_started_again_and_the_trail_is_whole(machine: Machine) -> None:
    agent = Instance(machine, "hung", "[Service]\nRestartSec=100ms\nWatchdogSec=3s\nTimeoutAbortSec=500ms\n")
    ids = write(agent.logs / "a.log", 0, 100)
    agent.start()
    agent.wait_for(ids)
    before = agent.main_pid
    agent.kill("STOP")
    ids += write(agent.logs / "a.log", 100, 200)
    agent.wait_restarted(before)
    ids += write(agent.logs / "a.log", 200, 300)
    agent.wait_for(ids)
    journal = machine.journal(agent.unit)
    assert "Watchdog timeout" in journal
    # The trace says where each thread was.
    assert "Fatal Python error: Aborted" in journal
    assert "most recent call first" in journal
    assert agent.show("NRestarts") == "1"
    agent.stop()
    agent.assert_once(ids)


def test_an_agent_that_somebody_kills_or_ends_is_started_again_and_the_trail_is_whole(machine: Machine) -> None:
    agent = Instance(machine, "killed", QUICK).start()
    ids: list[str] = []
    for turn, name in enumerate(("KILL", "TERM")):
        before = agent.main_pid
        ids += write(agent.logs / "a.log", 100 * turn, 100 * turn + 50)
        agent.kill(name)
        ids += write(agent.logs / "a.log", 100 * turn + 50, 100 * turn + 100)
        agent.wait_restarted(before)
    agent.wait_for(ids)
    assert agent.show("NRestarts") == "2"
    agent.stop()
    agent.assert_once(ids)


def test_a_stop_seals_and_ships_what_was_read(machine: Machine) -> None:
    agent = Instance(machine, "stopped", seal={"max_age": "60s"})
    ids = write(agent.logs / "a.log", 0, 5000)
    agent.start()
    until(lambda: agent.status()["spool"]["records"] == len(ids), "every event in the spool", step_seconds=0.2)
    assert agent.event_ids() == []
    begin = time.monotonic()
    agent.stop()
    assert time.monotonic() - begin < 10
    assert agent.show("Result") == "success"
    assert agent.reasons()[-1] == "stop"
    agent.assert_once(ids)


def test_a_stop_may_take_the_grace_that_the_configuration_gives_and_leaves_the_rest_for_the_next_start(machine: Machine) -> None:
    away = [{"id": "main", "directory": "/srv/away"}]
    agent = Instance(machine, "grace", "[Service]\nTimeoutStopSec=500ms\n", stores=away, shutdown_grace="2s")
    ids = write(agent.logs / "a.log", 0, 100)
    agent.start()
    until(lambda: (agent.status().get("head") or {}).get("events") == len(ids), "sealed events", step_seconds=0.2)
    told = "not ready: store main: cannot create /srv/away"
    until(lambda: told in agent.show("StatusText"), "the store's own words in systemd's status", step_seconds=0.2)
    begin = time.monotonic()
    agent.stop()
    assert 1.5 < time.monotonic() - begin < 10
    assert agent.show("Result") == "success", "systemd had no patience"
    agent.configure(stores=[{"id": "main", "directory": "/srv/trail"}])
    agent.start()
    agent.wait_for(ids)
    agent.stop()
    agent.assert_once(ids)


def test_a_wrong_configuration_is_told_once_and_not_started_for_ever(machine: Machine) -> None:
    agent = Instance(machine, "wrong", QUICK, seal={"max_age": "soon"})
    assert machine.exec("systemctl", "start", agent.unit, check=False).returncode != 0
    until(lambda: agent.show("ActiveState") == "failed", "a failed service")
    time.sleep(0.5)
    assert (agent.show("ActiveState"), agent.show("NRestarts"), agent.show("ExecMainStatus")) == ("failed", "0", str(ConfigError.exit_code))
    assert "/etc/trailseal/wrong.yaml:" in machine.journal(agent.unit)


def probe(machine: Machine) -> dict[str, Any]:
    """Run the probe in the place of an agent and return what it found."""
    machine.write("/opt/probe.py", PROBE.read_text(encoding="utf-8"))
    machine.write("/etc/trailseal/credentials/secret", "s3cret\n")
    machine.write("/home/somebody/file", "private\n")
    drop_in = "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\nExecStart=/opt/trailseal/bin/python /opt/probe.py\n"
    agent = Instance(machine, "probe", drop_in).start()
    found: dict[str, Any] = json.loads(machine.path("/var/lib/trailseal@probe/found.json").read_text(encoding="utf-8"))
    assert agent.show("Result") == "success"
    return found


def test_the_sandbox_lets_the_agent_do_its_work_and_nothing_else(machine: Machine) -> None:
    found = probe(machine)
    assert found["uid"] == int(machine.sh("id -u trailseal"))
    assert found["capabilities"] == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0}
    assert found["writable"] == ["/run/trailseal@probe", "/srv/trail", "/tmp", "/var/lib/trailseal@probe", "/var/tmp"]
    assert found["refused"] == found["tried"]
    assert found["adjtimex"] >= 0
    assert found["credential"] == "s3cret\n"
    assert found["others_processes"] == []
    assert found["state_mode"] == "0o700"
    assert machine.sh("ls -A /tmp /var/tmp | grep -c probe || true") == "0", "the temporary folders are the service's own"


def put_example(machine: Machine, name: str, **replaced: str) -> None:
    """Install an example where it says it belongs."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in replaced.items():
        text = text.replace(f"/usr/bin/{old}", new)
    place = re.search(r"^# (/etc/systemd/system/\S+)$", text, re.MULTILINE)
    assert place is not None
    machine.write(place[1], text)


def test_a_fifo_keeps_what_is_written_while_the_agent_is_away(machine: Machine) -> None:
    put_example(machine, "trailseal-pipe@.socket")
    put_example(machine, "pipe.conf")
    shutil.move(
        machine.path("/etc/systemd/system/trailseal@payments.service.d"), machine.path("/etc/systemd/system/trailseal@fifo.service.d")
    )
    agent = Instance(machine, "fifo", sources=[])
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "trailseal-pipe@fifo.socket")
    line = [audit_line(number).decode() for number in range(30)]
    send = "cat > /run/trailseal-pipe/fifo <<'END'\n{}END"
    machine.sh(send.format("".join(line[:10])))
    agent.wait_for([event_id(number) for number in range(10)])
    agent.stop()
    machine.sh(send.format("".join(line[10:20])))
    assert machine.path("/run/trailseal-pipe/fifo") is not None
    agent.start()
    machine.sh(send.format("".join(line[20:])))
    agent.wait_for([event_id(number) for number in range(30)])
    agent.stop()
    agent.assert_once([event_id(number) for number in range(30)])


def test_a_service_that_is_wrapped_runs_as_itself_and_its_audit_lines_are_shipped(machine: Machine) -> None:
    lines = "".join(audit_line(number).decode() for number in range(10))
    machine.write("/opt/payments", f"#!/bin/sh\ncat <<'END'\n{lines}END\necho not for the trail\nexec sleep 1000\n")
    machine.path("/opt/payments").chmod(0o755)
    machine.write("/etc/systemd/system/payments.service", "[Service]\nUser=trailseal\nExecStart=/opt/payments\n")
    put_example(machine, "exec.conf", payments="/opt/payments")
    agent = Instance(machine, "payments", service="wrapped", sources=[], observability="stdout")
    agent.unit = "payments.service"
    machine.systemctl("daemon-reload")
    agent.start()
    agent.wait_for([event_id(number) for number in range(10)])
    assert "not for the trail" in machine.journal("payments.service")
    agent.stop()
    # It ended with 128 + SIGTERM, which systemd takes for a failure unless it is told otherwise.
    assert "payments.service: Deactivated successfully" in machine.journal("payments.service")
    agent.assert_once([event_id(number) for number in range(10)])


def test_the_documented_way_to_remove_it_leaves_the_state_and_the_trail(machine: Machine) -> None:
    text = (CHECKOUT / "docs" / "systemd.md").read_text(encoding="utf-8")
    block = re.search(r"## Remove.*?```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    machine.exec("sh", "-euc", block[1])
    assert machine.sh("ls -d /opt/trailseal* /etc/systemd/system/trailseal* /etc/sysusers.d/trailseal.conf 2>/dev/null || true") == ""
    assert machine.sh("ls -d /var/lib/trailseal /srv/trail /etc/trailseal") == "/etc/trailseal\n/srv/trail\n/var/lib/trailseal"
    assert machine.systemctl("list-units", "--no-legend", "trailseal*") == ""
