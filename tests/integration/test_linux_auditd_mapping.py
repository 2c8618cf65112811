"""The kernel's own audit of a made machine, written by a real auditd: what was run, read, changed and refused is the right event.

There is one audit system for a kernel, and others may log in meanwhile: only what names the machine's folder, or its users, is looked at.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from tests.support.agent_process import Site, until
from tests.support.kernel_audit import kernel_audit
from tests.support.login_services import ADA, ADA_SECRET, login_services
from tests.support.mapped_log import MappedEvent, MappedLog, map_bytes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

MAPPING: Final = "linux-auditd"


class Audited(NamedTuple):
    """Be what was audited.

    Attributes:
        log: The events of the log.
        data: Its bytes.
        watched: The file that was watched.
        user: What the kernel calls the user.
    """

    log: MappedLog
    data: bytes
    watched: str
    user: str


@pytest.fixture(scope="module")
def audited() -> Audited:
    """Log in to a machine whose user's commands are audited, and one of whose files is watched."""
    with login_services() as machine:
        watched = machine.folder / "watched file"
        watched.write_text("x", encoding="utf-8")
        number = machine.run("id", "-u", ADA).stdout.strip()
        rules = (f"-a always,exit -F arch=b64 -S execve -F auid={number} -k commands", f"-w {machine.folder} -p wa -k watched")
        with kernel_audit(machine, *rules) as path:
            assert (
                machine.ssh(ADA, f"cat '{watched}'; echo x >> '{watched}'; /usr/bin/id --name 'a \"quoted\" wörd'; true", key="ada_key")
                == 0
            )
            assert machine.ssh(ADA, "sudo -n /usr/bin/true", key="ada_key") == 0
            assert machine.ssh(ADA, "true", secret="guess") != 0
            assert machine.ssh(ADA, "true", secret=ADA_SECRET) == 0
            assert machine.ssh("mallory", "true", secret="guess") != 0
            assert machine.run("userdel", "bob").returncode == 0
        data = path.read_bytes()
        return Audited(map_bytes(data, MAPPING), data, str(watched), f"uid {number}")


def own(audited: Audited) -> list[MappedEvent]:
    """Return the events of the machine's user."""
    return [event for event in audited.log.events if event.event["actor"]["id"] in {audited.user, ADA}]


def test_nothing_that_the_kernel_wrote_is_quarantined(audited: Audited) -> None:
    assert audited.log.refused == []
    assert audited.log.events


def test_a_command_is_said_with_its_arguments_by_the_one_who_logged_in_whoever_it_ran_as(audited: Audited) -> None:
    commands = [event for event in own(audited) if event.rule == f"{MAPPING}/command"]
    said = {event.event["context"]["command"]: (event.event["outcome"], event.event["context"]["effective_user"]) for event in commands}

    assert said['/usr/bin/id --name a "quoted" wörd'] == ("success", audited.user)
    assert said[f"cat {audited.watched}"] == ("success", audited.user)
    assert said["/usr/bin/true"] == ("success", "uid 0")
    assert {event.client for event in commands} == {("context.command", "context.working_directory")}


def test_what_one_may_not_write_is_a_refused_write_of_that_file(audited: Audited) -> None:
    assert f"{audited.user} data.write file:{audited.watched} denied" in map(str, own(audited))


def test_logins_that_were_let_in_and_refused_are_events(audited: Audited) -> None:
    said = Counter(map(str, audited.log.events))

    assert said["mallory auth.login host:localhost denied"] >= 1
    assert said[f"{ADA} auth.login host:localhost denied"] >= 1
    assert said[f"{audited.user} session.create user:{ADA} success"] == 3
    assert said[f"{audited.user} session.end user:{ADA} success"] == 3


def test_sudo_tells_the_kernel_what_was_run_as_root(audited: Audited) -> None:
    (command,) = [event.event for event in own(audited) if event.rule == f"{MAPPING}/command-by-sudo"]

    assert (command["target"]["id"], command["outcome"]) == ("/usr/bin/true", "success")


def test_an_account_that_is_removed_and_an_audit_that_is_turned_off_are_events(audited: Audited) -> None:
    actions = Counter(event.event["action"] for event in audited.log.events)

    assert actions["user.delete"] == 1
    assert actions["audit.enable"] == 1
    assert actions["audit.disable"] == 2
    assert actions["config.change"] >= 4


def test_the_agent_joins_the_records_of_one_event(audited: Audited, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(audited.data)
    site = Site(tmp_path / "site", sources=[{"id": "audit", "file": str(log), "mapping": MAPPING}])

    with site.run():
        until(lambda: len(site.trails.events()) >= len(audited.log.events), "all events are in the store")
    records: list[dict[str, Any]] = site.trails.kind("event")

    assert [record["event"]["action"] for record in records] == [event.event["action"] for event in audited.log.events]
    assert [record["raw"].encode() for record in records] == [event.raw for event in audited.log.events]
    assert site.trails.kind("quarantine") == []
