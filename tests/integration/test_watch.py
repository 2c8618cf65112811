"""`trailseal watch` on stores of real agents: the command, its metrics, its ping."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Site, believe, trailseal, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

EXPECTED = "trails:\n  - {namespace: demo, service: payments, instance: node-1, max_silence: 3s}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "expected.yaml").write_text(EXPECTED)
    site = Site(tmp_path, seal={"max_age": "200ms", "heartbeat": "1s"})
    site.log.write_bytes(loggen.block(0, 20))
    return site


def watch(site: Site, *options: str) -> tuple[int, dict[str, Any]]:
    done = trailseal("watch", str(site.store), "--expected", str(site.folder / "expected.yaml"), "--json", *options)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode
    return done.returncode, found


def state(site: Site, *options: str) -> str:
    return str(watch(site, *options)[1]["trails"][0]["state"])


def test_a_running_agent_is_live_a_killed_one_silent_and_one_that_comes_back_live_again(site: Site) -> None:
    with site.run() as agent:
        until(lambda: len(site.trails.event_ids()) == 2, "the events")
        believe(site.store, site.folder / "trust.txt")
        code, found = watch(site, "--trust", str(site.folder / "trust.txt"))
        assert (code, found["counts"], found["missing"]) == (0, {"live": 1}, [])
        assert found["trails"][0]["origin"] == str(site.trails.seals()[-1].checkpoint().origin)
        agent.kill()
    until(lambda: state(site) == "silent", "silence")
    assert watch(site)[0] == 11
    with site.run() as agent:
        until(lambda: state(site) == "live", "life")
        assert agent.stop() == 0
    until(lambda: state(site) == "unclosed", "an end that is not closed")


def test_an_ephemeral_agent_that_ends_in_order_is_closed_for_good(site: Site) -> None:
    site.configure(ephemeral=True, sources=None)
    with site.run("exec", "--", "echo", loggen.audit_line(1).decode().strip()) as agent:
        assert agent.process.wait(40) == 0, agent.log
    code, found = watch(site, "--once")
    assert (code, found["counts"]) == (0, {"closed": 1})
    # But nobody is at work any more, and where that is wanted it is said.
    (site.folder / "expected.yaml").write_text(EXPECTED.replace("}", ", live: 1}"))
    code, found = watch(site)
    assert (code, found["fine"], len(found["missing"])) == (11, False, 1)


def test_what_was_never_there_is_missing_and_a_store_that_is_not_there_is_no_good_news(site: Site) -> None:
    site.store.mkdir()
    code, found = watch(site)
    why = "no instance matches line 2 of the expected file"
    assert (code, found["missing"]) == (11, [{"expected": "demo/payments/*/node-1", "line": 2, "why": why}])
    site.store.rmdir()
    done = trailseal("watch", str(site.store), "--expected", str(site.folder / "expected.yaml"))
    assert done.returncode == 12
    assert "there is no store" in done.stderr


def test_a_wrong_expected_file_is_named_with_its_line(site: Site) -> None:
    (site.folder / "expected.yaml").write_text("trails:\n  - {namespace: demo, servce: payments, instance: node-1}\n")
    done = trailseal("watch", str(site.folder), "--expected", str(site.folder / "expected.yaml"))
    assert done.returncode == 2
    assert "expected.yaml:2: trails[0].servce: unknown key" in done.stderr


class Switch(HTTPServer):
    """Count the pings."""

    pings = 0


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Switch)
        self.server.pings += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def switch() -> Iterator[Switch]:
    server = Switch(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_keeps_looking_tells_prometheus_and_pings_only_while_all_is_well(site: Site, switch: Switch) -> None:
    arguments = [TRAILSEAL, "watch", str(site.store), "--expected", str(site.folder / "expected.yaml"), "--every", "200ms"]
    arguments += ["--listen", "127.0.0.1:0", "--ping", f"http://127.0.0.1:{switch.server_port}/", "--json"]
    with site.run() as agent:
        until(lambda: len(site.trails.event_ids()) == 2, "the events")
        out = site.folder / "looks"
        with out.open("wb") as stdout, subprocess.Popen(arguments, stdout=stdout, stderr=subprocess.PIPE) as watching:
            try:
                assert watching.stderr is not None
                url = watching.stderr.readline().decode().split()[-1]
                until(lambda: switch.pings >= 2, "pings")
                assert metrics(url)['trailseal_watch_trail_silent{instance="node-1",namespace="demo",service="payments"}'] == 0
                agent.kill()
                until(
                    lambda: metrics(url)['trailseal_watch_trail_silent{instance="node-1",namespace="demo",service="payments"}'] == 1,
                    "silence",
                )
                pings = switch.pings
                before = metrics(url)["trailseal_watch_last_success_timestamp_seconds"]
                until(lambda: metrics(url)["trailseal_watch_last_success_timestamp_seconds"] > before + 0.5, "looks that go on")
                assert switch.pings == pings
                site.store.rename(site.folder / "elsewhere")
                until(lambda: metrics(url)["trailseal_watch_failed_looks_total"] >= 1, "a look that failed")
                stands_still = metrics(url)["trailseal_watch_last_success_timestamp_seconds"]
                failed = metrics(url)["trailseal_watch_failed_looks_total"]
                until(lambda: metrics(url)["trailseal_watch_failed_looks_total"] > failed, "another one that failed")
                assert metrics(url)["trailseal_watch_last_success_timestamp_seconds"] == stands_still
                (site.folder / "elsewhere").rename(site.store)
                until(
                    lambda: metrics(url)["trailseal_watch_last_success_timestamp_seconds"] > stands_still, "a look at a store that is back"
                )
                watching.send_signal(signal.SIGTERM)
                assert watching.wait(20) == 0
            finally:
                watching.kill()
    looks = [json.loads(line) for line in out.read_text().splitlines()]
    assert looks[0]["fine"]
    assert not looks[-1]["fine"]


def metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 -- our own server
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
