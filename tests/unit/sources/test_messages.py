"""Messages that are units by themselves: of several lines, with what came beside them, too long, and none of it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from agent.config import Journal
from agent.events.catalog import Catalog
from agent.events.classify import AllRule
from agent.events.mappings.header import Header
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.journal.beside import FIELDS, header_of
from agent.sources.journal.command import arguments
from agent.sources.journal.export import MAX_FIELD_BYTES, Entry, ExportParser
from agent.sources.socket.judge import judge_lines, judge_message
from agent.sources.tally import Tally
from agent.sources.units import add_messages
from tests.support.joined_units import START, UnitRecorder, has_tag, raws
from tests.support.journal_files import entry

if TYPE_CHECKING:
    from agent.events.mappings.joining import Joining
    from agent.sources.socket.judge import Judged

NOW = "2026-01-08T14:32:07.000000Z"
LIMIT = 60


def records(tally: Tally) -> list[str]:
    return raws([json.loads(b'{"seq":0' + body) for body in b"".join(tally.bodies).splitlines()])


def test_messages_of_several_lines_go_to_a_separator_that_takes_them_with_what_came_beside_them():
    recorder = UnitRecorder(None, has_offsets=False)
    tally = Tally("app", NOW)
    who = Header(program="su")
    messages = [(b"AUDIT\n a\n", who), (b"plain\n b", None), (b"AUDIT" + b"y" * LIMIT, who), (b"", None), (b"AUDIT c", who)]
    add_messages(tally, messages, recorder, has_tag, LIMIT, offset=100)
    assert records(tally) == ["AUDIT\n a", f"{LIMIT + 5} bytes", "AUDIT c"]
    assert recorder.headers == [who, None, None, who]
    assert recorder.offsets == [100, 109, 110 + 9 + LIMIT + 6, 110 + 9 + LIMIT + 7]
    assert b"".join(tally.passed) == b"plain\n b\n\n"
    assert (tally.lines, tally.records, tally.passed_lines) == (5, 3, 2)


def test_without_a_mapping_a_message_of_several_lines_is_still_quarantined():
    rule = AllRule()
    separator = Separator("app", rule, Validator(rule, Catalog()), keep_observability=True, has_offsets=False)
    tally = Tally("app", NOW)
    add_messages(tally, [(b'{"a":\n1}', Header(program="su"))], separator, rule.is_audit, LIMIT)
    assert tally.reasons == {"multi_line": 1}
    assert records(tally) == ['{"a":\n1}']


# ---- the journal -----------------------------------------------------------------------------------------------------------


def headers(data: bytes, *, step: int = 7, wanted: frozenset[bytes] = FIELDS) -> list[Header]:
    parser = ExportParser(has_tag, 100, fields=wanted)
    items = [item for start in range(0, len(data), step) for item in parser.feed(data[start : start + step])]
    return [header_of(item.beside) for item in items if isinstance(item, Entry)]


def fields(*lines: bytes) -> bytes:
    return b"\n".join([b"__CURSOR=s=1;i=1", *lines, b"MESSAGE=x", b"", b""])


def test_an_entry_says_who_wrote_it_and_when():
    data = fields(
        b"__REALTIME_TIMESTAMP=1767880000000001",
        b"_SOURCE_REALTIME_TIMESTAMP=1767880000000000",
        b"_HOSTNAME=web-1.example.com",
        b"SYSLOG_IDENTIFIER=sshd",
        b"SYSLOG_PID=7",
        b"_PID=812",
        b"_SYSTEMD_UNIT=ssh.service",
        b"_UID=0",
        b"_COMM=sshd",
    )
    time = datetime(2026, 1, 8, 13, 46, 40, tzinfo=UTC)
    assert headers(data) == [Header(time, "web-1.example.com", "sshd", "812", "ssh.service", "0")]
    assert headers(data, wanted=frozenset()) == [Header()]


def test_what_an_entry_does_not_say_is_not_known_and_nothing_of_the_entry_before_is_left():
    first = fields(b"__REALTIME_TIMESTAMP=1767880000000000", b"SYSLOG_IDENTIFIER=su", b"SYSLOG_PID=9")
    second = fields(b"__REALTIME_TIMESTAMP=1767880000000000", b"SYSLOG_IDENTIFIER=")
    time = datetime(2026, 1, 8, 13, 46, 40, tzinfo=UTC)
    assert headers(first + second) == [Header(time, program="su", pid="9"), Header(time)]


@pytest.mark.parametrize(
    "line",
    [
        b"SYSLOG_IDENTIFIER=" + b"y" * (MAX_FIELD_BYTES + 1),
        b"SYSLOG_IDENTIFIER\n" + struct.pack("<Q", 7) + b"two\nlin",
        b"_SOURCE_REALTIME_TIMESTAMP=-1",
        b"_SOURCE_REALTIME_TIMESTAMP=" + b"9" * 30,
        b"__REALTIME_TIMESTAMP=\xd9\xa1",
        b"=x",
    ],
)
def test_a_value_that_cannot_be_used_is_not_known(line):
    assert headers(fields(line)) == [Header()]


def test_a_writer_that_gives_a_field_twice_is_what_it_said_first():
    assert headers(fields(b"SYSLOG_IDENTIFIER=one", b"SYSLOG_IDENTIFIER=two", b"_HOSTNAME=\xff")) == [Header(host="\ufffd", program="one")]


def test_journalctl_is_asked_for_the_fields_only_if_they_are_wanted():
    journal = Journal(units=("a",))
    assert "--output-fields=MESSAGE" in arguments(journal, "", follow=False)
    (asked,) = [word for word in arguments(journal, "", follow=False, fields=["_PID", "SYSLOG_PID"]) if word.startswith("--output-fields=")]
    assert asked == "--output-fields=MESSAGE,_PID,SYSLOG_PID"


def test_journal_files_of_the_test_suite_name_their_writer():
    (header,) = headers(b"__CURSOR=s=1;i=1\n" + entry(0, b"x", identifier="sudo"))
    assert (header.program, header.unit) == ("sudo", "payments.service")


# ---- requests --------------------------------------------------------------------------------------------------------------


def judged(body: bytes, joining: Joining | None = None, *, one: bool = False) -> Judged:
    recorder = UnitRecorder(joining, has_offsets=False)
    if one:
        return judge_message("api", body, NOW, recorder, has_tag, LIMIT)
    return judge_lines("api", body, NOW, recorder, has_tag, LIMIT, joining)


def statuses(found: Judged) -> list[str]:
    assert [verdict.line for verdict in found.verdicts] == list(range(1, len(found.verdicts) + 1))
    assert len(found.verdicts) == found.tally.lines
    assert sum(verdict.status != "passed" for verdict in found.verdicts) == found.tally.records == len(found.bodies)
    return [verdict.reason or verdict.status for verdict in found.verdicts]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_requests_end_ends_its_last_unit_and_each_unit_has_a_verdict(end):
    found = judged(b"  before\n1 AUDIT\n  a\n2 plain\n  AUDIT\n3 x\n4 " + b"y" * LIMIT + b"\n  y\n5 AUDIT" + b"\n  z" * 50 + end, START)
    assert statuses(found) == ["passed", "multi_line", "multi_line", "passed", "passed", "too_long"]
    assert records(found.tally)[:2] == ["1 AUDIT\n  a", "2 plain\n  AUDIT"]


def test_lines_for_a_mapping_are_judged_by_what_became_of_them():
    assert statuses(judged(b"AUDIT a\nb\n\nAUDIT c")) == ["multi_line", "passed", "passed", "multi_line"]


def test_one_message_is_one_unit():
    found = judged(b"\n AUDIT\nb \n", one=True)
    assert records(found.tally) == ["AUDIT\nb"]
    assert statuses(found) == ["multi_line"]


def test_sources_without_a_mapping_load_nothing_of_the_mappings():
    program = """
import sys
import agent.sources.container, agent.sources.file, agent.sources.journal, agent.sources.socket, agent.sources.stream
sys.exit(" ".join(name for name in sys.modules if name == "re2" or name.startswith("agent.events.mappings")) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
