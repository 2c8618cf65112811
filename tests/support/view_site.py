"""A view over a real store: an application, grants, and a client with a cookie; for tests.

Two services stand in one store: `demo/shown`, which is in scope, and `demo/secret`, whose every text holds `MARKER`. What a client may
see is compared with that.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from agent.reader.fetch import DirectoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile
from agent.reader.view.app import make_app
from agent.reader.view.audit import MemoryRecorder
from agent.reader.view.book import Book
from agent.reader.view.desk import Bounds, Desk
from agent.reader.view.grants import Grant, issue, make_grant, service_globs
from agent.reader.view.guard import COOKIE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.events.catalog import Catalog
    from agent.reader.index import Index

NOW: Final = datetime(2026, 7, 1, 1, tzinfo=UTC)


@dataclass
class Site:
    """What a test needs of a view."""

    desk: Desk
    recorder: MemoryRecorder
    server: TestServer

    def grant(self, *services: str, since: datetime | None = None, until: datetime | None = None, name: str = "Jane", **more: Any) -> Grant:
        """Give a grant and write it into the book."""
        grant = make_grant(
            identifier=secrets.token_hex(8),
            name=name,
            services=service_globs(services or ("*",)),
            since=since,
            until=until,
            expires=more.get("expires", NOW + timedelta(days=7)),
            now=more.get("now", NOW),
        )
        self.desk.book.add(grant)
        return grant

    def token(self, grant: Grant) -> str:
        """Return a grant's token."""
        return issue(grant, self.desk.key)

    @asynccontextmanager
    async def client(self, grant: Grant | None = None, *, token: str | None = None) -> AsyncIterator[TestClient[Any, Any]]:
        """Yield a client that shows a grant's token, or any other, as its cookie."""
        shown = token if token is not None else self.token(grant) if grant is not None else None
        cookies = {} if shown is None else {COOKIE: shown}
        client: TestClient[Any, Any] = TestClient(self.server, cookies=cookies, cookie_jar=CookieJar(unsafe=True))
        # The server outlives the client.
        try:
            yield client
        finally:
            await client.session.close()


def build_index(store: Path, trust: Path, path: Path) -> Index:
    """Index a store, and open the index as a view does."""
    refresh(DirectoryReader(store), path, trust=TrustFile.load(trust), now=NOW)
    return open_index(path, writable=True)


@asynccontextmanager
async def site(
    store: Path, trust: Path, folder: Path, *, index: Index | None = None, catalog: Catalog | None = None, bounds: Bounds | None = None
) -> AsyncIterator[Site]:
    """Serve a store."""
    made = index or build_index(store, trust, folder / "index.duckdb")
    book = Book(folder / "state")
    recorder = MemoryRecorder()
    desk = Desk(
        index=made,
        store=DirectoryReader(store),
        trust=TrustFile.load(trust),
        catalog=catalog,
        book=book,
        key=book.key(make=True),
        recorder=recorder,
        bounds=bounds or Bounds(),
        now=lambda: NOW,
    )
    server = TestServer(make_app(desk))
    await server.start_server(access_log=None)
    try:
        yield Site(desk, recorder, server)
    finally:
        await server.close()
        desk.close()
        if index is None:
            made.close()


@contextmanager
def served(store: Path, trust: Path, folder: Path, **more: Any) -> Iterator[Site]:
    """Serve a store from a thread of its own, for tests that are no coroutines; the arguments are those of `site`."""
    started: list[Site] = []
    ready, done = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        try:
            async with site(store, trust, folder, **more) as running:
                started.append(running)
                ready.set()
                await done.wait()
        finally:
            ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run, name="view")
    thread.start()
    ready.wait()
    try:
        if not started:
            raise RuntimeError("the view did not start")
        yield started[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
