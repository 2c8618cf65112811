"""The commands as an operator runs them: a server process, links, TLS, and the trail of who looked at what."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import ssl
import stat
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pytest

from agent.reader.index import default_path
from tests.support.agent_process import TRAILSEAL, trailseal, until
from tests.support.certificates import make_certificate
from tests.support.two_services import HIDDEN, SHOWN, TwoServices, event, write_two_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class Server:
    """A running `trailseal view`."""

    def __init__(self, process: subprocess.Popen[str], log: Path, folder: Path) -> None:
        """Name the process, what it said, and the folder it works in."""
        self.process, self.log, self.folder = process, log, folder

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        found = re.search(r"evidence at (https?://\S+?)/ ", self.log.read_text(encoding="utf-8"))
        return found[1] if found else ""

    def link(self, *options: str) -> str:
        """Make a link with the command line, and return its token."""
        made = trailseal("grant", "--state", self.folder / "state", "--url", self.address, *options)
        assert made.returncode == 0, made.stderr
        address, _, token = made.stdout.strip().partition("#")
        assert address == f"{self.address}/enter"
        return token

    def ask(self, method: str, path: str, *, body: dict[str, str] | None = None, cookie: str = "") -> tuple[int, bytes, dict[str, str]]:
        """Send a request as a browser would."""
        parts = urlsplit(self.address)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(self.folder / "store.pem"))
            connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=30, context=context)
        else:
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        headers = {"Cookie": cookie} if cookie else {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, urlencode(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def enter(self, token: str) -> str:
        """Exchange a token for a cookie."""
        status, _, headers = self.ask("POST", "/enter", body={"token": token})
        assert status == 303
        return headers["Set-Cookie"].partition(";")[0]

    def end(self) -> int:
        """End it in order; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=50)


@pytest.fixture
def two(tmp_path: Path) -> TwoServices:
    return write_two_services(tmp_path / "evidence")


@contextmanager
def viewing(two: TwoServices, folder: Path, *options: str) -> Iterator[Server]:
    log = folder / "view.log"
    command = [TRAILSEAL, "view", two.store, "--trust", two.trust, "--listen", "127.0.0.1:0", "--state", folder / "state"]
    command += ["--record-to", folder / "viewers", *options]
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=said, stderr=said, text=True, env={**os.environ, "HOME": str(folder)}
        )
    server = Server(process, log, folder)
    try:
        until(lambda: server.address or process.poll() is not None, "the view listens")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield server
    finally:
        if process.poll() is None:
            server.end()


def test_every_access_is_an_event_of_a_trail_that_verifies(two: TwoServices, tmp_path: Path) -> None:
    with viewing(two, tmp_path) as server:
        token = server.link("--services", SHOWN, "--expires", "7d", "--name", "Jane Doe, auditor")
        cookie = server.enter(token)
        assert server.ask("GET", "/?actor=okapi-*", cookie=cookie)[0] == 200
        status, exported, headers = server.ask("GET", "/export/file?format=pack&actor=okapi-*", cookie=cookie)
        assert status == 200
        assert server.ask("GET", f"/event/{two.hidden[0]}/1", cookie=cookie)[0] == 404
        assert server.ask("GET", "/", cookie="trailseal_view=ts1.wrong.wrong")[0] == 401
        identifier = re.findall(r"[0-9a-f]{16}", trailseal("grant", "--list", "--state", tmp_path / "state").stdout)[0]
        assert trailseal("grant", "--revoke", identifier, "--state", tmp_path / "state").returncode == 0
        assert server.ask("GET", "/", cookie=cookie)[0] == 403
        assert server.end() == 0, server.log.read_text(encoding="utf-8")
        log = server.log.read_text(encoding="utf-8")
    assert token.rpartition(".")[2] not in log
    assert "okapi" not in log, "what was searched for stays out of the log"

    trust = tmp_path / "viewers.txt"
    trust.write_text(trailseal("trust", tmp_path / "viewers").stdout, encoding="utf-8")
    verified = trailseal("verify", tmp_path / "viewers", "--trust", trust)
    assert verified.returncode == 0, verified.stdout
    asked = trailseal("query", tmp_path / "viewers", "--trust", trust, "--format", "ndjson", "--index", tmp_path / "viewers.duckdb")
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    events = [one["event"] for one in found if "event" in one]
    assert [(one["action"], one["outcome"]) for one in events if one["action"] != "view.start"] == [
        ("grant.create", "success"),
        ("view.access", "success"),
        ("view.search", "success"),
        ("view.export", "success"),
        ("view.event", "denied"),
        ("view.denied", "denied"),
        ("grant.revoke", "success"),
        ("view.denied", "denied"),
        ("view.stop", "success"),
    ]
    by_jane = [one for one in events if one["actor"]["id"] == "Jane Doe, auditor"]
    assert {one["actor"]["session"] for one in by_jane} == {identifier}
    export = next(one for one in events if one["action"] == "view.export")
    assert export["context"]["sha256"] == hashlib.sha256(exported).hexdigest() == headers["X-Content-SHA256"]
    assert export["context"]["query"] == {"actor": ["okapi-*"]}
    assert token.rpartition(".")[2] not in asked.stdout


def test_a_pack_from_the_page_verifies_by_itself(two: TwoServices, tmp_path: Path) -> None:
    with viewing(two, tmp_path) as server:
        cookie = server.enter(server.link("--services", SHOWN, "--expires", "1h"))
        _, proof, _ = server.ask("GET", f"/event/{two.shown}/{two.grant_seq}/proof", cookie=cookie)
        _, leaf, _ = server.ask("GET", f"/event/{two.shown}/{two.grant_seq}/leaf", cookie=cookie)
    (tmp_path / "e.tlog-proof").write_bytes(proof)
    (tmp_path / "e.leaf").write_bytes(leaf)
    checked = trailseal("verify-proof", tmp_path / "e.tlog-proof", "--leaf", tmp_path / "e.leaf", "--trust", two.trust)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (tmp_path / "e.leaf").write_bytes(leaf.replace(b"okapi", b"okapj"))
    assert trailseal("verify-proof", tmp_path / "e.tlog-proof", "--leaf", tmp_path / "e.leaf", "--trust", two.trust).returncode == 10


def test_what_is_written_to_the_store_appears_without_a_restart(two: TwoServices, tmp_path: Path) -> None:
    from datetime import timedelta

    from tests.support.trail_factory import TrailFactory, write_store
    from tests.support.two_services import BEGIN, seal

    with viewing(two, tmp_path, "--refresh", "200ms") as server:
        cookie = server.enter(server.link("--services", "shown", "--expires", "1h"))
        assert b"quagga" not in server.ask("GET", "/", cookie=cookie)[1]
        later = TrailFactory(seed=b"later", start=BEGIN + timedelta(days=30), service="shown", instance="web-2", heartbeat_seconds=864_000)
        seal(later, BEGIN + timedelta(days=31), [event(0, BEGIN + timedelta(days=31), "quagga")], "quagga")
        write_store(later.objects, two.store)
        statuses: list[int] = []

        def there() -> bool:
            status, body, _ = server.ask("GET", "/", cookie=cookie)
            statuses.append(status)
            return b"quagga-actor" in body

        until(there, "the new event is found", step_seconds=0.1)
        assert set(statuses) == {200}, "a refresh keeps nobody waiting, and refuses nobody"


def test_over_tls_the_cookie_goes_nowhere_else(two: TwoServices, tmp_path: Path) -> None:
    pem = make_certificate(tmp_path)
    with viewing(two, tmp_path, "--tls-cert", str(pem), "--tls-key", str(pem)) as server:
        assert server.address.startswith("https://")
        status, _, headers = server.ask("POST", "/enter", body={"token": server.link("--services", "*", "--expires", "1h")})
        assert status == 303
        assert "Secure" in headers["Set-Cookie"]
        assert headers["Strict-Transport-Security"]
        status, body, _ = server.ask("GET", "/", cookie=headers["Set-Cookie"].partition(";")[0])
        assert status == 200
        assert HIDDEN.encode() in body


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--listen", "0.0.0.0:0"], "nothing would be encrypted"),
        (["--listen", "[::]:0"], "nothing would be encrypted"),
        (["--listen", "192.0.2.1:0"], "nothing would be encrypted"),
        (["--listen", "evidence.example.com:0"], "nothing would be encrypted"),
        (["--tls-cert", "x.pem"], "belong together"),
        (["--tls-cert", "/nowhere/x.pem", "--tls-key", "/nowhere/y.pem"], "cannot be used"),
        (["--listen", "127.0.0.1"], "HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], "HOST:PORT"),
    ],
)
def test_what_would_show_the_evidence_to_the_network_is_refused(two: TwoServices, tmp_path: Path, options: list[str], message: str) -> None:
    ended = trailseal("view", two.store, "--state", tmp_path / "state", *options)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_view_on_the_same_state_is_refused_clearly(two: TwoServices, tmp_path: Path) -> None:
    with viewing(two, tmp_path):
        ended = trailseal("view", two.store, "--state", tmp_path / "state", "--listen", "127.0.0.1:0", "--record-to", tmp_path / "viewers")
    assert ended.returncode in {2, 75}
    assert "Traceback" not in ended.stderr


def test_nothing_is_served_where_nothing_can_be_recorded(two: TwoServices, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the trail's folder should be", encoding="utf-8")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / f"trail-{default_path(str(tmp_path / 'viewers')).stem[:8]}").symlink_to(tmp_path / "blocked")
    ended = trailseal("view", two.store, "--state", state, "--listen", "127.0.0.1:0", "--record-to", tmp_path / "viewers")
    assert ended.returncode != 0
    assert "evidence at" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_link_is_printed_once_and_kept_nowhere(tmp_path: Path) -> None:
    made = trailseal("grant", "--state", tmp_path / "state", "--services", "acme/*", "--expires", "36h", "--name", "Jane")
    token = made.stdout.strip().partition("#")[2]
    assert made.returncode == 0
    assert len(made.stdout.splitlines()) == 1
    assert token not in made.stderr
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert token.encode() not in path.read_bytes()
    listed = trailseal("grant", "--state", tmp_path / "state", "--list")
    assert "acme/*" in listed.stdout
    assert "for Jane" in listed.stdout
    assert token not in listed.stdout


@pytest.mark.parametrize(
    "options",
    [
        [], ["--services", "a/b"], ["--expires", "1d"], ["--services", "a/b", "--expires", "0s"], ["--services", "A/b", "--expires", "1d"],
        ["--services", "", "--expires", "1d"], ["--list", "--revoke", "x"], ["--revoke", "0000000000000000"],
        ["--services", "a", "--expires", "1d", "--since", "2026-02-01", "--until", "2026-01-01"],
        ["--services", "a", "--expires", "1d", "--since", "tomorrow"], ["--services", "a", "--expires", "99999999999d"],
        ["--services", "a", "--expires", "1d", "--url", "javascript:alert(1)"], ["--services", "a", "--expires", "1d", "--url", "https://x/?q=1"],
    ],
)  # fmt: skip
def test_a_link_that_makes_no_sense_is_not_made(tmp_path: Path, options: list[str]) -> None:
    ended = trailseal("grant", "--state", tmp_path / "state", *options)
    assert ended.returncode == 2, ended.stdout
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
