"""The real agent with a socket: what was answered is in the trail, once, whatever dies."""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import pytest

from agent.trail.note import VerifierKey
from agent.trail.proof import TlogProof
from tests.support import loggen
from tests.support.agent_process import Site, until
from tests.support.posting import LINES, ONE, Client, takes_connections

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CLIENTS = 4


def make_site(folder: Path, **settings: Any) -> Site:
    return Site(folder, sources=[{"id": "api", "socket": {"path": "events.sock", "mode": "0600"}}], **settings)


class Posters:
    """Clients that post without a pause, each event once; a broken connection is no reason to post it again."""

    def __init__(self, path: str) -> None:
        """Name the socket; the block starts them."""
        self._path = path
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(number,)) for number in range(CLIENTS)]
        self.answered: list[str] = []
        self.unknown: list[str] = []
        self.refused: list[str] = []
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and wait for it."""
        self.end()

    def end(self) -> None:
        """Let each client finish its request."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def has_more(self, than: int) -> bool:
        """Tell whether more than so many events have been answered."""
        return len(self.answered) > than

    def _post(self, client_number: int) -> None:
        number = 0
        dice = random.Random(client_number)
        client = Client(self._path)
        while not self._end.is_set():
            count = dice.choice((1, 1, 3, 40))
            run = f"c{client_number}"
            ids = [loggen.event_id(each, run) for each in range(number, number + count)]
            body = b"".join(loggen.audit_line(each, run) for each in range(number, number + count))
            number += count
            try:
                answer = client.post(body, ONE if count == 1 else LINES)
            except (OSError, http.client.HTTPException):
                # Nobody knows, unless there was no connection at all.
                self.unknown += ids
                client.close()
                time.sleep(0.02)
                continue
            if answer.status == 201:
                self.answered += ids
                if [each.get("event_id") for each in answer.body["results"]] != ids:
                    self.failures.append(f"an answer for other events: {answer.body}")
            elif answer.status == 503:
                self.refused += ids
                client.close()
                time.sleep(0.02)
            else:
                self.failures.append(f"{answer.status}: {answer.body}")
        client.close()


def assert_kept(site: Site, posters: Posters) -> None:
    """Check the oracle: answered is in the trail, refused is not, nothing is there twice, and `verify` agrees."""
    assert posters.failures == []
    found = site.trails.event_ids()
    assert len(found) == len(set(found)), "an event is in the trail twice"
    assert set(posters.answered) - set(found) == set(), "an answered event is missing"
    assert set(found) - set(posters.answered) - set(posters.unknown) == set(), "an event that was refused is there"
    assert [record for record in site.trails.records() if record["kind"] != "event"] == []
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.timeout(180)
def test_kill_9_under_concurrent_clients_loses_no_answered_event(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    dice = random.Random(20260108)
    with Posters(str(tmp_path / "events.sock")) as posters:
        for _ in range(12):
            answered = len(posters.answered)
            with site.run() as agent:
                until(partial(posters.has_more, answered), "an answer")
                time.sleep(dice.uniform(0, 0.6))
                agent.kill()
        with site.run() as agent:
            answered = len(posters.answered)
            until(partial(posters.has_more, answered), "an answer after the last kill")
            posters.end()
            assert agent.stop() == 0, agent.log
    assert posters.unknown, "no request was under way at any kill"
    assert_kept(site, posters)


def test_an_orderly_end_under_load_seals_each_answered_event(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with Posters(str(tmp_path / "events.sock")) as posters:
        for end in (signal.SIGTERM, signal.SIGINT):
            answered = len(posters.answered)
            with site.run() as agent:
                until(partial(posters.has_more, answered + 500), "500 answers")
                agent.process.send_signal(end)
                assert agent.process.wait(40) == 0, agent.log
            assert set(posters.answered) - set(site.trails.event_ids()) == set()
            assert site.trails.reasons()[-1] == "stop"
        posters.end()
    assert_kept(site, posters)


def test_a_proof_from_the_socket_holds_against_the_store(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with site.run() as agent, contextlib.closing(Client(str(tmp_path / "events.sock"))) as client:
        agent.ready()
        until(partial(takes_connections, str(tmp_path / "events.sock")), "the socket")
        answer = client.post(loggen.block(0, 7, audit_every=1), LINES, "?wait=sealed")
        assert (answer.status, answer.body["sealed"]) == (201, True)
        assert agent.stop() == 0, agent.log
    first = site.trails.seals()[0].manifest
    assert isinstance(first.key, str)
    key = VerifierKey.parse(first.key)
    records = {record["seq"]: record for record in site.trails.records()}
    for result in answer.body["results"]:
        assert records[result["seq"]]["event"]["event_id"] == result["event_id"]
        TlogProof.parse(result["proof"].encode()).verify(result["record"].encode(), {key}, key.name)
    [step] = [step for seal in site.trails.seals() for step in seal.manifest.sources]
    assert (step.kind, step.path, step.lines, step.audit) == ("socket", str(tmp_path / "events.sock"), 7, 7)
    assert site.verify().code == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("when_full", ["block", "gap"])
def test_a_full_spool_refuses_and_takes_again(tmp_path: Path, when_full: str) -> None:
    site = make_site(tmp_path, spool={"max_bytes": "16MiB", "when_full": when_full})
    site.store.write_text("in the way", encoding="utf-8")
    dice = random.Random(1)
    answered: list[str] = []
    with site.run() as agent, contextlib.closing(Client(str(tmp_path / "events.sock"))) as client:
        until(partial(takes_connections, str(tmp_path / "events.sock")), "the socket")
        answer = client.ask("GET", "/healthz")
        assert answer.status == 200
        for number in range(400):
            blob = base64.b64encode(dice.randbytes(90_000)).decode()
            line = loggen.audit_line(number).replace(b'"request_id":"', b'"blob":"' + blob.encode() + b'","request_id":"')
            answer = client.post(line, ONE)
            if answer.status == 503:
                break
            assert answer.status == 201, answer.body
            answered.append(loggen.event_id(number))
        assert (answer.status, answer.body["type"], answer.headers["retry-after"]) == (503, "urn:trailseal:problem:no_room", "5")
        assert len(answered) > 50
        site.store.unlink()
        until(lambda: client.post(loggen.audit_line(999), ONE).status == 201, "room again", step_seconds=0.2)
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == [*answered, loggen.event_id(999)]
    assert site.trails.kind("gap") == []
    assert site.verify().code == 0


def test_only_the_events_are_served_there(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with site.run() as agent, contextlib.closing(Client(str(tmp_path / "events.sock"))) as client:
        until(partial(takes_connections, str(tmp_path / "events.sock")), "the socket")
        for path in ("/", "/status", "/metrics", "/v1/../status", "/v1/events/"):
            assert client.ask("GET", path).status == 404
        assert agent.stop() == 0, agent.log
    assert not (tmp_path / "events.sock").exists()
