"""A real sshd, sudo, su and the tools that keep accounts, through a real rsyslog: who came in, who was refused, who acted as whom."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent_process import Site, until
from tests.support.login_services import ADA_SECRET, BOB_SECRET, HOSTILE_NAME, LoginServices, login_services
from tests.support.mapped_log import MappedEvent, MappedLog, map_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

MAPPINGS: Final = ("sshd", "sudo", "su", "shadow")

CAME: Final = Counter(
    {
        "ada auth.login publickey success": 7,
        "ada auth.login password success": 1,
        "bob auth.login password success": 1,
        "ada auth.login password denied": 1,
        "mallory auth.login password denied": 1,
        f"{HOSTILE_NAME} auth.login password denied": 1,
        "mallory auth.login unknown denied": 1,
        f"{HOSTILE_NAME} auth.login unknown denied": 1,
        # A key that is refused leaves no line of its own; that the client left does. It does so after each refusal here.
        "ada auth.login unknown failure": 2,
        "root auth.login unknown failure": 1,
        "mallory auth.login unknown failure": 1,
        f"{HOSTILE_NAME} auth.login unknown failure": 1,
    }
)
"""Who came in over the network, how, and who did not."""

ACTED: Final = Counter(
    {
        "ada command.run command:/usr/bin/true success": 1,
        # An argument that reads like another command: no reading is chosen.
        "ada command.run command:(unclear) success": 1,
        "ada command.run command:/usr/bin/id denied": 1,
        "bob command.run command:/usr/bin/id denied": 1,
        "ada privilege.use user:bob success": 1,
        "ada privilege.use user:root denied": 1,
        # PAM's own line of the wrong password behind the refused command, the only one there would be if the next one had been right.
        f"ada privilege.use host:{socket.gethostname()} denied": 1,
    }
)
"""Who acted as somebody else, and who tried."""

KEPT: Final = Counter(
    {
        "useradd user.create user:ada success": 1,
        "useradd user.create user:bob success": 1,
        "chpasswd auth.password.change user:ada success": 1,
        "chpasswd auth.password.change user:bob success": 1,
        "groupadd group.create group:deployers success": 1,
        "usermod group.member.add group:deployers success": 1,
        "root group.member.remove group:deployers success": 1,
        "groupdel group.delete group:deployers success": 1,
    }
)
"""What became of accounts and groups, besides those of the same name that come with an account."""


@pytest.fixture(scope="module")
def machine() -> Iterator[LoginServices]:
    """Run the machine, with a session in its log."""
    with login_services() as running:
        running.session()
        yield running


@pytest.fixture(scope="module")
def log(machine: LoginServices) -> MappedLog:
    """Map the log that has the traditional header."""
    return map_log(machine.log, *MAPPINGS)


def of(log: MappedLog, *mappings: str) -> list[MappedEvent]:
    """Return the events by some mappings."""
    return [event for event in log.events if event.rule.partition("/")[0] in mappings]


def test_every_login_and_every_refusal_is_an_event_with_how_it_was_tried(log: MappedLog) -> None:
    logins = [event.event for event in of(log, "sshd") if event.event["action"] == "auth.login"]

    assert Counter(f"{event['actor']['id']} auth.login {event['context']['method']} {event['outcome']}" for event in logins) == CAME


def test_a_name_that_reads_like_an_address_does_not_move_the_address(log: MappedLog) -> None:
    logins = [event for event in of(log, "sshd") if event.event["action"] == "auth.login"]

    assert {event.event["context"]["source_ip"] for event in logins} == {"127.0.0.1"}
    assert {"actor.id" in event.client for event in logins if event.event["actor"]["id"] == HOSTILE_NAME} == {True}


def test_every_session_begins_and_ends(log: MappedLog) -> None:
    said = Counter(event.event["action"] for event in of(log, "sshd") if event.event["action"].startswith("session."))

    assert said == {"session.create": 9, "session.end": 9}


def test_who_acted_as_whom_and_who_was_not_let_is_an_event(log: MappedLog) -> None:
    acts = [event for event in of(log, "sudo", "su") if event.event["action"] in {"command.run", "privilege.use"}]

    assert Counter(map(str, acts)) == ACTED
    assert [event.event["context"]["error"] for event in acts if str(event) == "bob command.run command:/usr/bin/id denied"] == [
        "user NOT in sudoers"
    ]


def test_accounts_and_groups_that_are_made_changed_and_removed_are_events(log: MappedLog) -> None:
    kept = Counter(map(str, of(log, "shadow")))

    assert {said: kept[said] for said in KEPT} == dict(KEPT)


def test_nothing_is_quarantined_and_other_lines_pass(log: MappedLog) -> None:
    passed = b"\n".join(log.passed)

    assert log.refused == []
    assert all(text in passed for text in (b"Server listening", b"rsyslogd: ", b"deprecated reading of user environment"))
    assert not [line for line in log.passed if any(text in line for text in (b"Accepted ", b"Failed ", b"COMMAND="))]


def test_both_headers_of_rsyslog_give_the_same_events(machine: LoginServices, log: MappedLog) -> None:
    precise = map_log(machine.iso_log, *MAPPINGS)

    assert precise.refused == []
    assert precise.said() == log.said()
    assert [event.event["occurred_at"][:19] for event in precise.events] == [event.event["occurred_at"][:19] for event in log.events]


def test_the_file_that_sudo_writes_says_what_syslog_was_not_told(machine: LoginServices, log: MappedLog) -> None:
    """That a password would have been needed (`sudo -n`) stands in sudo's own file only."""
    own = map_log(machine.sudo_log, "sudo")

    assert own.refused == []
    assert Counter(own.said()) - Counter(map(str, of(log, "sudo"))) == {"ada command.run command:/usr/bin/head denied": 1}


def test_no_password_is_in_an_event(log: MappedLog) -> None:
    said = repr([event.event for event in log.events])

    assert ADA_SECRET not in said
    assert BOB_SECRET not in said


def test_the_agent_takes_the_log_of_all_programs_by_several_mappings(machine: LoginServices, log: MappedLog, tmp_path: Path) -> None:
    site = Site(tmp_path, sources=[{"id": "logins", "file": str(machine.log), "mapping": list(MAPPINGS)}])

    with site.run():
        until(lambda: len(site.trails.events()) >= len(log.events), "all events are in the store")
    records = site.trails.kind("event")

    assert [record["event"]["action"] for record in records] == [event.event["action"] for event in log.events]
    assert [record["mapping"] for record in records] == [event.rule for event in log.events]
    assert site.trails.kind("quarantine") == []
    assert site.verify().code == 0
