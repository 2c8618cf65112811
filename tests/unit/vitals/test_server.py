from __future__ import annotations

import asyncio
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from agent.config import load
from agent.errors import ConfigError, StateError
from agent.vitals.ask import SOCKET_NAME, fetch_status
from agent.vitals.clock import ManualClock
from agent.vitals.health import ALIVE_SECONDS, Health
from agent.vitals.metrics import Metrics
from agent.vitals.server import serve

STATUS = {"origin": "demo/payments/01jh/host", "size": 1042, "stores": {"main": "ok"}}


class Agent:
    """What a runtime hands to the server."""

    def __init__(self, folder: Path, listen: str = "127.0.0.1:0", state: str = "state") -> None:
        """Write a configuration and make what a runtime makes of it."""
        config = folder / "trailseal.yaml"
        config.write_text(
            f'namespace: n\nservice: s\nstate: {state}\nvitals: {{listen: "{listen}"}}\nstores: [{{id: main, directory: store}}]\n',
            encoding="utf-8",
        )
        self.settings = load(str(config), {})
        Path(self.settings.state).mkdir(parents=True, exist_ok=True)
        self.clock = ManualClock(datetime(2026, 1, 8, tzinfo=UTC))
        self.health = Health(self.clock)
        self.metrics = Metrics(version="1", config_sha256="", started_at=self.clock.now())

    def serve(self, status=lambda: STATUS):
        return serve(self.settings, self.metrics, self.health, status)


@pytest.fixture
def running(tmp_path):
    return Agent(tmp_path)


async def test_readiness_is_a_status_code_and_reasons(running):
    async with running.serve() as server, aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
        async with client.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ready": True, "reasons": []})
            assert answer.headers["Cache-Control"] == "no-store"
        running.health.set("spool", False, "the disk is full")
        async with client.get("/readyz") as answer:
            body = await answer.json()
            assert (answer.status, body["ready"], body["reasons"][0]["detail"]) == (503, False, "the disk is full")


async def test_liveness_is_the_event_loop_s(running):
    async with running.serve() as server, aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
        await asyncio.sleep(0)
        async with client.get("/livez") as answer:
            assert (answer.status, await answer.json()) == (200, {"alive": True, "silent_seconds": 0.0})
        running.clock.advance(ALIVE_SECONDS + 5)
        async with client.get("/livez") as answer:
            assert answer.status == 503


async def test_metrics_in_both_formats(running):
    async with running.serve() as server, aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
        async with client.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "trailseal_head_size 0.0" in await answer.text()
        async with client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert (await answer.text()).endswith("# EOF\n")


async def test_the_index_lists_pages_that_exist_and_nothing_can_be_posted(running):
    async with running.serve() as server, aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
        async with client.get("/") as answer:
            pages = [line for line in (await answer.text()).splitlines() if line.startswith("/")]
        assert pages == ["/metrics", "/livez", "/readyz", "/status"]
        for page in pages:
            async with client.get(page) as answer:
                assert answer.status == 200
            async with client.post(page) as answer:
                assert answer.status == 405


@pytest.mark.parametrize("state", ["state", "deep/" * 30 + "state"])
async def test_status_is_asked_over_the_socket_however_long_its_path(tmp_path, state):
    running = Agent(tmp_path, listen="none", state=state)
    async with running.serve() as server:
        assert server.port is None
        path = Path(server.socket_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asyncio.to_thread(fetch_status, running.settings.state) == STATUS
    assert not path.exists()
    with pytest.raises(StateError, match="no agent runs on"):
        fetch_status(running.settings.state)


async def test_a_socket_left_by_a_dead_process_is_replaced(running):
    path = Path(running.settings.state) / SOCKET_NAME
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(StateError, match="no agent runs on"):
        fetch_status(running.settings.state)
    async with running.serve():
        assert await asyncio.to_thread(fetch_status, running.settings.state) == STATUS


async def test_a_busy_port_names_the_key(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = Agent(tmp_path, listen=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError) as caught:
            async with running.serve():
                pass
    assert str(caught.value) == f"{tmp_path}/trailseal.yaml:4: vitals.listen: another program listens on 127.0.0.1:{port} already"
    assert not (Path(running.settings.state) / SOCKET_NAME).exists()


async def test_an_address_of_another_machine_names_the_key(tmp_path):
    with pytest.raises(ConfigError, match=r"yaml:4: vitals\.listen: cannot listen on 192\.0\.2\.1:9600"):
        async with Agent(tmp_path, listen="192.0.2.1:9600").serve():
            pass


async def test_a_status_that_fails_is_the_asker_s_error_only(running):
    def broken() -> dict[str, object]:
        raise RuntimeError

    async with running.serve(broken):
        with pytest.raises(StateError, match="answered 500"):
            await asyncio.to_thread(fetch_status, running.settings.state)


async def test_an_agent_that_does_not_answer_is_given_up_on(running, monkeypatch):
    monkeypatch.setattr("agent.vitals.ask._STATUS_TIMEOUT_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(Path(running.settings.state) / SOCKET_NAME))
        mute.listen()
        with pytest.raises(StateError, match=r"did not answer within 0\.1 s"):
            fetch_status(running.settings.state)


async def test_what_is_not_http_is_an_error_in_words(running):
    async def babble(_reader, writer):
        writer.write(b"\x00\x01\x02\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(babble, str(Path(running.settings.state) / SOCKET_NAME))
    async with server:
        with pytest.raises(StateError, match="gave no usable answer"):
            await asyncio.to_thread(fetch_status, running.settings.state)


def test_a_state_directory_that_is_not_there():
    with pytest.raises(StateError, match="no agent runs on /nowhere"):
        fetch_status("/nowhere")
    with pytest.raises(StateError, match="no agent runs on"):
        fetch_status("/nowhere/" + "x" * 120)


async def test_cancellation_closes_everything(running):
    started = asyncio.Event()

    async def run() -> None:
        async with running.serve():
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (Path(running.settings.state) / SOCKET_NAME).exists()
