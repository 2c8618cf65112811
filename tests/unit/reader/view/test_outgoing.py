"""Files to take away: where they lie, how many there are, and how long a client may keep one."""

from __future__ import annotations

import asyncio
import tempfile
from typing import IO, TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.reader.view.desk import Bounds
from agent.reader.view.outgoing import Download
from agent.reader.view.pages.export import remove_leftovers
from tests.support.two_services import SHOWN, TwoServices, write_two_services
from tests.support.view_site import Site, site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KINDS = ("csv", "ndjson", "pack")


@pytest.fixture
def two(tmp_path: Path) -> TwoServices:
    return write_two_services(tmp_path / "made", with_hidden=False)


@pytest.fixture
async def running(two: TwoServices, tmp_path: Path) -> AsyncIterator[Site]:
    async with site(two.store, two.trust, tmp_path, bounds=Bounds(files=2)) as made:
        yield made


async def status_of(running: Site, kind: str) -> int:
    async with running.client(running.grant(SHOWN)) as client, client.get(f"/export/file?format={kind}") as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_of_an_export_lies_in_the_folder_for_everybody(
    running: Site, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    assert await status_of(running, kind) == 200
    assert sorted(tmp_path.iterdir()) == before, "nothing is left beside the index either"


async def test_an_index_in_a_folder_that_is_gone_gives_no_file_and_no_reason(running: Site, tmp_path: Path) -> None:
    running.desk.index.path = tmp_path / "gone" / "index.duckdb"
    async with running.client(running.grant(SHOWN)) as client, client.get("/export/file?format=csv") as answer:
        assert answer.status == 500
        assert str(tmp_path) not in await answer.text()


def test_what_a_killed_server_left_of_packs_is_removed_and_nothing_else(tmp_path: Path) -> None:
    index = tmp_path / "index.duckdb"
    for name in (".index.duckdb.export-abc", ".other.duckdb.export-abc", "trail-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pack.zip").write_bytes(b"half")
    index.write_bytes(b"")
    remove_leftovers(index)
    assert {path.name for path in tmp_path.iterdir()} == {"index.duckdb", ".other.duckdb.export-abc", "trail-1"}


async def test_files_that_have_not_left_yet_are_bounded_and_a_refusal_is_recorded(running: Site) -> None:
    held: list[IO[bytes]] = []
    for _ in range(2):
        with running.desk.outgoing.place() as keep:
            held.append(tempfile.TemporaryFile())  # noqa: SIM115 -- closed below
            keep(held[-1])
    assert await status_of(running, "csv") == 503
    assert (running.recorder.events[-1]["action"], running.recorder.events[-1]["outcome"]) == ("view.export", "failure")
    held[0].close()
    assert await status_of(running, "csv") == 200
    assert await status_of(running, "pack") == 200, "a file that was sent takes no place"
    held[1].close()


async def test_files_that_are_being_made_take_places_too(running: Site) -> None:
    with running.desk.outgoing.place(), running.desk.outgoing.place():
        assert await status_of(running, "csv") == 503
    assert await status_of(running, "csv") == 200


async def test_a_client_that_does_not_read_its_file_is_cut_off() -> None:
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- the answer closes it
    file.truncate(64 << 20)

    async def handler(request: web.Request) -> web.StreamResponse:
        return Download(request, file, seconds=0.2)

    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        async with asyncio.timeout(30):
            while not file.closed:
                await asyncio.sleep(0.01)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(64 << 20)
        writer.transport.abort()
