"""Run a real PostgreSQL with pgaudit, whose log is what the mappings of `postgresql` are tried on.

A cluster is made in a temporary folder of its own and is gone afterwards. It listens on a loopback port and on a socket in that folder, so
that nothing else on the machine reaches or disturbs it. PostgreSQL refuses to run as root; where the tests do, it runs as the user that
Debian's package made for it, and as whoever runs the tests otherwise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.agent_process import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
ADMINISTRATOR: Final = "admin"
ALICE: Final = "alice"
ALICE_SECRET: Final = "correct-horse-battery-staple"
CAROL_SECRET: Final = "S3cret'of carol"
"""What no event may hold; the quotation mark ends the text of whoever looks for the next one only."""

DESTINATIONS: Final = {"stderr": "server.log", "csvlog": "server.csv", "jsonlog": "server.json"}
_COMMAND_SECONDS: Final = 40.0

_ACCESS: Final = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
shared_buffers = 16MB
max_connections = 20
shared_preload_libraries = 'pgaudit'
password_encryption = 'scram-sha-256'
timezone = '{zone}'
log_timezone = '{zone}'
logging_collector = on
log_directory = '{folder}/log'
log_filename = 'server.log'
log_destination = '{destination}'
log_line_prefix = '{prefix}'
log_connections = on
log_disconnections = on
log_min_messages = warning
pgaudit.log = '{classes}'
pgaudit.log_relation = {relation}
pgaudit.role = 'auditor'
{more}
"""

PREPARED: Final = """
CREATE EXTENSION pgaudit;
CREATE ROLE auditor;
CREATE ROLE alice LOGIN PASSWORD 'correct-horse-battery-staple';
CREATE TABLE watched (id int PRIMARY KEY, note text);
CREATE TABLE secrets (id int, value text);
GRANT SELECT ON watched TO auditor;
GRANT SELECT ON watched TO alice;
"""
"""What there is before the session begins; the log says it, too."""

SESSION: Final = """
CREATE ROLE reporting;
CREATE USER carol PASSWORD 'S3cret''of carol';
CREATE TABLE public.orders (id int, amount numeric);
GRANT reporting TO carol;
GRANT SELECT, INSERT ON public.orders TO carol;
INSERT INTO public.orders VALUES (1, 2);
SELECT note FROM watched;
SELECT *
  FROM public.orders -- "quotes", commas,
 WHERE id = 1
\t AND amount > 0;
ALTER ROLE carol PASSWORD $$S3cret'of carol$$;
REVOKE SELECT ON public.orders FROM carol;
REVOKE reporting FROM carol;
ALTER TABLE public.orders ADD COLUMN paid bool;
SELECT 1/0;
DELETE FROM public.orders;
DROP TABLE public.orders;
DROP USER carol;
DROP ROLE reporting;
"""
"""What the administrator does, in this order."""

DENIED: Final = """
SELECT value FROM secrets;
GRANT SELECT ON secrets TO alice;
GRANT auditor TO alice;
SELECT count(*) FROM watched;
"""
"""What a user tries who may only do the last of it."""


@dataclass(frozen=True)
class Postgres:
    """Be a server that runs.

    Attributes:
        folder: Its folder; the log is in `log`.
        port: The loopback port it listens on.
        process: The server.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def log(self, destination: str) -> Path:
        """Return the file of a log destination: ``stderr``, ``csvlog`` or ``jsonlog``."""
        return self.folder / "log" / DESTINATIONS[destination]

    def run(self, statements: str, user: str = ADMINISTRATOR, secret: str | None = None, application: str = "psql") -> str:
        """Have psql send statements, going on after those that fail, and return what it said.

        Args:
            statements: SQL.
            user: Who sends it.
            secret: A password, which goes over TCP; without one the socket is used, which asks for none.
            application: What the client calls itself.
        """
        host = str(self.folder) if secret is None else "127.0.0.1"
        environment = {
            "PATH": os.environ["PATH"],
            "PGHOST": host,
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PGDATABASE": "postgres",
            "PGAPPNAME": application,
            "PGPASSWORD": secret or "",
            "PGSSLMODE": "disable",
            "LC_ALL": "C",
        }
        command = [str(BINARIES / "psql"), "--no-psqlrc", "--no-password", "--quiet", "--file=-"]
        done = subprocess.run(
            command,
            input=statements,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            cwd=self.folder,
        )
        return done.stdout + done.stderr

    def stop(self) -> None:
        """End the server, if it runs; all it had to say is in the log then."""
        if self.process.poll() is None:
            # "Fast": who is connected is thrown out.
            self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=_COMMAND_SECONDS)

    def session(self) -> str:
        """Do what an auditor asks about, as the administrator and as others, and return what psql said."""
        said = [
            self.run(SESSION, application="migrations"),
            self.run("SELECT 1", ALICE, "wrong"),
            self.run("SELECT 1", "mallory'; --", "guess", application="AUDIT: SESSION,1,1,ROLE"),
            self.run(DENIED, ALICE, ALICE_SECRET, application='report "tool"'),
        ]
        return "".join(said)


@contextlib.contextmanager
def postgres(
    destination: str = "stderr",
    prefix: str = "%m [%p] ",
    *,
    classes: str = "write, ddl, role, function, read",
    relation: str = "on",
    zone: str = "UTC",
    more: str = "",
    within: Sequence[str] = (),
) -> Iterator[Postgres]:
    """Run a server with pgaudit until the block ends, with which its log is gone, too.

    Args:
        destination: ``log_destination``: one or more of ``stderr``, ``csvlog`` and ``jsonlog``, with commas between.
        prefix: ``log_line_prefix``.
        classes: ``pgaudit.log``.
        relation: ``pgaudit.log_relation``: a line for each table of a statement.
        zone: The time zone of the log.
        more: Further lines of the configuration.
        within: A command that runs another command, with mounts of its own; root's.
    """
    # Not below pytest's own folder, into which only its owner may go; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = folder / "data"
    port = free_port()
    try:
        initialise = [
            str(BINARIES / "initdb"),
            f"--username={ADMINISTRATOR}",
            "--auth=trust",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            str(data),
        ]
        subprocess.run(initialise, check=True, capture_output=True, timeout=_COMMAND_SECONDS, cwd=folder, **identity)
        settings = _SETTINGS.format(
            port=port, folder=folder, destination=destination, prefix=prefix, classes=classes, relation=relation, zone=zone, more=more
        )
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(settings)
        (data / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")
        with (folder / "start.txt").open("wb") as output:
            command = [str(BINARIES / "postgres"), "-D", str(data)]
            if within:
                # Only root gets in there, so the user is changed behind the door; none of these leaves a process of its own behind.
                command, identity = [*within, "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command], {}
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, **identity)
        running = Postgres(folder, port, server)
        try:
            ready = [str(BINARIES / "pg_isready"), "--quiet", f"--host={folder}", f"--port={port}"]
            until(
                lambda: server.poll() is not None or subprocess.run(ready, check=False, timeout=_COMMAND_SECONDS).returncode == 0,
                "the server answers",
            )
            if server.poll() is not None:
                raise AssertionError((folder / "start.txt").read_text(encoding="utf-8", errors="replace"))
            said = running.run(PREPARED)
            assert "ERROR" not in said, said
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
