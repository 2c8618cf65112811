"""A real PostgreSQL with pgaudit: what was done in it, and tried, is in its log and becomes the right events, however it logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.agent_process import Site, until
from tests.support.login_services import login_services
from tests.support.mapped_log import MappedEvent, MappedLog, map_bytes, map_log
from tests.support.postgres import ALICE, ALICE_SECRET, CAROL_SECRET, DESTINATIONS, postgres

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PAIRS: Final = "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h "
PRECISE: Final = PAIRS.replace("%t", "%m")
"""With milliseconds, which are of the same look at the clock as those of the other logs; `%t` is of another."""
MAPPINGS: Final = {"jsonlog": "postgresql-json", "csvlog": "postgresql-csv", "stderr": "postgresql-stderr"}

SESSION: Final = """
admin auth.login database:postgres success
admin role.create role:reporting success
admin user.create user:carol success
admin schema.create table:public.orders success
admin role.grant role:carol success
admin permission.grant role:carol success
admin data.write table:public.orders success
admin data.read table:public.watched success
admin data.read table:public.watched success
admin data.read table:public.orders success
admin auth.password.change role:carol success
admin permission.revoke role:carol success
admin role.revoke role:carol success
admin schema.alter table:public.orders success
admin data.delete table:public.orders success
admin schema.drop table:public.orders success
admin user.delete user:carol success
admin role.delete role:reporting success
admin session.end database:postgres success
alice auth.login database:postgres denied
mallory'; -- auth.login database:postgres denied
alice postgresql.authenticated database:postgres success
alice auth.login database:postgres success
alice data.read table:secrets denied
alice permission.grant role:alice denied
alice role.grant role:alice denied
alice data.read table:public.watched success
alice data.read table:public.watched success
alice session.end database:postgres success
""".strip().splitlines()
"""What `Postgres.session` does; a watched table is named twice: as a table of the statement, and as the object that is watched."""

_IMITATION: Final = "AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,GRANT auditor TO alice,<none>"
_LOGIN: Final = "connection authorized: user=alice database=postgres"
_RECORD: Final = (
    f'2026-01-01 00:00:00.000 UTC,"admin","postgres",1,"[local]",6a.1,1,"x",2026-01-01 00:00:00 UTC,1/1,0,LOG,00000,"{_IMITATION}"'
    ',,,,,,,,,"psql","client backend",,0'
)
_BARE_RECORD: Final = (
    "2026-01-01 00:00:00.000 UTC,admin,postgres,1,[local],6a.1,1,x,2026-01-01 00:00:00 UTC,1/1,0,LOG,00000,"
    f"{_LOGIN},,,,,,,,,psql,client backend,,0"
)
_FORGERIES: Final = {"imitation": _IMITATION, "login": _LOGIN, "record": _RECORD, "bare": _BARE_RECORD}
STATEMENTS: Final = """
CREATE ROLE "Eve";
CREATE ROLE dave;
GRANT auditor /* TO nobody */ TO "Eve" -- , nobody
 , dave;
GRANT auditor TO /* /* a comment in a comment */ */ dave;
DO $$BEGIN RAISE LOG '%(imitation)s'; END$$;
DO $$BEGIN RAISE LOG '%(login)s'; END$$;
ALTER ROLE ghost PASSWORD 'S3cret''of carol';
CREATE USER MAPPING FOR dave SERVER nowhere OPTIONS (user 'x', password 'S3cret''of carol');
SELECT '
%(record)s
%(bare)s
2026-01-01 00:00:00.000 UTC,' AS "2026-01-01 00:00:00.000 UTC,",
',' AS "
2026-01-01 00:00:00 UTC [1]: [1-1] user=admin,db=postgres,app=x,client=[local] STATEMENT:  x" FROM secrets;
SELECT 1;
ALTER ROLE alice NOLOGIN;
"""
"""What somebody does who knows how the log is read, and wants it read otherwise."""

HOSTILE: Final = """
admin auth.login database:postgres success
admin role.grant role:Eve, dave success
admin role.grant statement:GRANT auditor TO /* /* a comment in a comment */ */ dave; success
admin postgresql.do database:postgres success
admin postgresql.log-imitated database:postgres unknown
admin postgresql.do database:postgres success
admin postgresql.log-imitated database:postgres unknown
admin auth.password.change role:ghost failure
admin schema.create database:postgres failure
admin data.read table:public.secrets success
admin data.read database:postgres success
admin user.disable user:alice success
admin session.end database:postgres success
""".strip().splitlines()

FORGED: Final = "x\n2026-01-01 00:00:00 UTC [1]: [1-1] user=admin"
"""A name that ends a line, and begins one; whoever reaches the port can send it."""


ACTS: Final = ("prepared", "session", "hostile", "forged", "off")


class Logs(dict[str, MappedLog]):
    """Be the three logs of one server, by destination, and the bytes of each."""

    def __init__(self, files: dict[str, bytes]) -> None:
        """Map them."""
        super().__init__({name: map_bytes(data, MAPPINGS[name]) for name, data in files.items()})
        self.files = files

    def act(self, destination: str, name: str) -> list[MappedEvent]:
        """Return the events of an act, session by session; a session begins with its login, and ends when the server sees that it ended."""
        sessions: dict[str, list[MappedEvent]] = {}
        for event in self[destination].events:
            sessions.setdefault(event.event["actor"].get("session", ""), []).append(event)
        acts: dict[str, list[MappedEvent]] = {name: [] for name in ACTS}
        waiting = list(ACTS)
        for events in sessions.values():
            if events[0].event.get("context", {}).get("application") == f"end of {waiting[0]}":
                waiting.pop(0)
            elif waiting:
                acts[waiting[0]] += events
            if not waiting:
                break
        assert not waiting, waiting
        return acts[name]


@pytest.fixture(scope="module")
def logs() -> Logs:
    """Run one server that logs in all three ways, and do everything in it that is looked at here."""
    with postgres("stderr,csvlog,jsonlog", PRECISE) as server:
        server.run("", application="end of prepared")
        server.session()
        server.run("", application="end of session")
        server.run(STATEMENTS % _FORGERIES, application="hostile")
        server.run("", application="end of hostile")
        server.run("SELECT 1", FORGED, "guess")
        server.run("", application="end of forged")
        server.run("SET pgaudit.log = 'none';\nSELECT * FROM secrets;", application="quiet")
        server.run("", application="end of off")
        server.stop()
        return Logs({name: server.log(name).read_bytes() for name in DESTINATIONS})


def lines(events: list[MappedEvent]) -> list[str]:
    """Return who did what to whom with what outcome, a line each."""
    return list(map(str, events))


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_every_act_of_a_session_is_the_right_event_however_it_is_logged(logs: Logs, destination: str) -> None:
    assert lines(logs.act(destination, "session")) == SESSION


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_who_reads_the_log_is_not_misled_by_what_a_statement_says(logs: Logs, destination: str) -> None:
    hostile = [line for line in lines(logs.act(destination, "hostile")) if "role.create" not in line]

    assert hostile == HOSTILE


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_nothing_is_quarantined_but_the_line_that_was_forged(logs: Logs, destination: str) -> None:
    assert [(str(why.detail), unit) for why, unit in logs[destination].refused] == []


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_lines_that_are_not_audit_lines_pass(logs: Logs, destination: str) -> None:
    passed = b"\n".join(logs[destination].passed)

    assert all(
        text in passed
        for text in (b"database system is ready", b"connection received", b"division by zero", b"database system is shut down")
    )
    assert b"AUDIT: " not in passed


def test_json_and_csv_give_the_same_events(logs: Logs) -> None:
    json_events, csv_events = ([(event.event, event.client) for event in logs[name].events] for name in ("jsonlog", "csvlog"))

    assert json_events == csv_events
    assert len({event["event_id"] for event, _ in json_events}) == len(json_events)


def test_text_gives_what_its_prefix_can_say_of_the_same_events(logs: Logs) -> None:
    """SQLSTATE and the name of a session are not in the text."""
    text_events, json_events = (
        [event for act in ("session", "hostile") for event in logs.act(name, act)] for name in ("stderr", "jsonlog")
    )

    for text_event, json_event in zip(text_events, json_events, strict=True):
        assert _comparable(text_event) == _comparable(json_event)
        assert json_event.event["occurred_at"] == text_event.event["occurred_at"]


def _comparable(event: MappedEvent) -> dict[str, Any]:
    said = {name: event.event[name] for name in ("action", "target", "outcome")} | {"actor": event.event["actor"]["id"]}
    differing = {"error_code", "command", "duration"} | (
        {"application"} if event.event["action"] in {"auth.login", "postgresql.authenticated"} else set()
    )
    return said | {"context": {name: value for name, value in event.event["context"].items() if name not in differing}}


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_grant_says_what_was_granted_to_whom_by_whom_from_where(logs: Logs, destination: str) -> None:
    granted = [event for event in logs.act(destination, "session") if event.event["action"] in {"role.grant", "permission.grant"}]
    said = [{name: event.event["context"].get(name) for name in ("granted_role", "permission", "on", "source_ip")} for event in granted]

    assert said == [
        {"granted_role": "reporting", "permission": None, "on": None, "source_ip": None},
        {"granted_role": None, "permission": "SELECT, INSERT", "on": "public.orders", "source_ip": None},
        {"granted_role": None, "permission": "SELECT", "on": "secrets", "source_ip": "127.0.0.1"},
        {"granted_role": "auditor", "permission": None, "on": None, "source_ip": "127.0.0.1"},
    ]


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_no_password_gets_into_an_event_and_the_log_itself_has_some(logs: Logs, destination: str) -> None:
    """PostgreSQL writes the statement that failed as it was; so does the record, as raw, unless redaction is configured."""
    written = CAROL_SECRET.replace("'", "''").encode()

    assert not [event for event in logs[destination].events if CAROL_SECRET in repr(event.event) or written.decode() in repr(event.event)]
    assert written in logs.files[destination]
    assert [event for event in logs[destination].events if written in event.raw]


@pytest.mark.parametrize("destination", ["jsonlog", "csvlog"])
def test_a_login_refused_says_how_it_was_asked_for_and_that_the_client_chose_its_name(logs: Logs, destination: str) -> None:
    refused = [event for event in logs.act(destination, "session") if str(event).endswith("auth.login database:postgres denied")]

    assert [(event.event["context"]["method"], event.client) for event in refused] == [("scram-sha-256", ("actor.id", "target.id"))] * 2


@pytest.mark.parametrize("destination", ["jsonlog", "csvlog"])
def test_a_user_name_with_a_newline_forges_nothing(logs: Logs, destination: str) -> None:
    forged = logs.act(destination, "forged")

    assert [(event.event["actor"]["id"], event.event["outcome"]) for event in forged] == [(FORGED, "denied")]


def test_a_user_name_with_a_newline_writes_lines_of_text_which_is_why_text_is_not_recommended(logs: Logs) -> None:
    """PostgreSQL writes %u as it came. Nothing behind it can tell that line from one of the server's."""
    forged = logs.act("stderr", "forged")

    assert [event.event["actor"]["id"] for event in forged] == ["admin"]
    assert b"\n2026-01-01 00:00:00 UTC [1]: [1-1] user=admin,db=postgres" in logs.files["stderr"]


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_superuser_who_turns_pgaudit_off_for_a_session_leaves_no_line_of_it(logs: Logs, destination: str) -> None:
    """The limit of pgaudit: what it is told not to log, it does not log; the login and the end of the session are PostgreSQL's."""
    assert [event.event["action"] for event in logs.act(destination, "off")] == ["auth.login", "session.end"]


@pytest.mark.parametrize(
    ("prefix", "actor", "database"),
    [
        ("%m [%p] ", "unknown", "unknown"),
        ("%m [%p] %q%u@%d ", "admin", "postgres"),
        ("%t [%p-%l] %q%u@%d ", "admin", "postgres"),
        ("%t [%p]: [%l-1] db=%d,user=%u,app=%a,client=%h ", "admin", "postgres"),
        ("%t:%r:%u@%d:[%p]:", "admin", "postgres"),
    ],
)
def test_the_usual_prefixes_are_read(prefix: str, actor: str, database: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    with postgres("stderr", prefix, zone="Europe/Berlin") as server:
        server.run("CREATE ROLE reporting;\nGRANT reporting\n TO alice;")
        server.run("SELECT * FROM secrets;\nSELECT 1\n FROM secrets", ALICE, ALICE_SECRET)
        server.stop()
        log = map_log(server.log("stderr"), "postgresql-stderr")
    after = datetime.now(UTC)

    assert log.refused == []
    grants = [event.event for event in log.events if event.event["action"] == "role.grant"]
    assert [(event["actor"]["id"], event["target"]["id"], event["context"].get("database", "unknown")) for event in grants] == [
        (actor, "alice", database)
    ]
    assert before <= datetime.fromisoformat(grants[0]["occurred_at"]) <= after
    denied = [event.event for event in log.events if event.event["outcome"] == "denied" and event.event["target"]["type"] == "table"]
    assert [(event["action"], event["target"]["id"]) for event in denied] == [("data.read", "secrets")] * 2
    assert denied[1]["context"]["statement"] == "SELECT 1\n FROM secrets"


def test_what_goes_through_syslog_is_put_together_again() -> None:
    """Syslog splits a message into pieces; rsyslog writes the tab at the beginning of a further line as #011."""
    parts = [f"'a long list, part {part}'" for part in range(60)]
    statement = f"SELECT 1 FROM secrets WHERE value IN ({', '.join(parts)});"  # noqa: S608 -- the test wrote all of it
    with login_services() as machine, postgres("syslog", PAIRS, within=machine.command()) as server:
        server.run(f"GRANT auditor\n TO alice;\n{statement}")
        server.run("SELECT *\n FROM secrets;", ALICE, ALICE_SECRET)
        server.stop()
        log = map_log(machine.log, "postgresql-stderr")

    assert log.refused == []
    said = lines(log.events)
    assert "admin role.grant role:alice success" in said
    assert "alice data.read table:secrets denied" in said
    (read,) = [event for event in log.events if str(event) == "admin data.read table:public.secrets success"]
    assert read.event["context"]["statement"] == statement


def test_the_agent_takes_the_log_of_a_running_server_as_events(tmp_path: Path) -> None:
    with postgres("csvlog") as server:
        server.session()
        server.stop()
        log = server.log("csvlog")
        expected = lines(map_log(log, "postgresql-csv").events)
        site = Site(tmp_path, sources=[{"id": "postgres", "file": str(log), "mapping": "postgresql-csv"}])
        with site.run():
            until(lambda: len(site.trails.events()) == len(expected), "all events are in the store")
        records = site.trails.kind("event")

    assert [str(MappedEvent(record["event"], "", (), b"")) for record in records] == expected
    assert {record["mapping"].partition("/")[0] for record in records} == {"postgresql-csv"}
    assert site.trails.kind("quarantine") == []
    assert [record["raw"] for record in records if "\n" in record["raw"]]
    assert site.verify().code == 0
