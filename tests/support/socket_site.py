"""A socket source that runs in the test's own event loop, with an intake in memory."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config import Address, Socket
from agent.events.catalog import Catalog
from agent.events.classify import AllRule, Rule
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.socket import SocketSettings, SocketSource
from tests.support.memory_intake import MemoryIntake, MemorySink, StepClock
from tests.support.posting import LINES, Answer, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.spool import Spool

PATIENCE_SECONDS = 20.0
LOOPBACK = Address("127.0.0.1", 0)


_CLIENTS = ThreadPoolExecutor(64, "client")


async def aside(call: Callable[[], Answer]) -> Answer:
    """Run a client that blocks, on a thread that the source under test does not use."""
    return await asyncio.get_running_loop().run_in_executor(_CLIENTS, call)


class Served:
    """A source that runs, and what it works with."""

    def __init__(self, intake: MemoryIntake | Spool, where: Socket, rule: Rule, settings: SocketSettings) -> None:
        """Start it; `served` does, and ends it too."""
        self.intake: Any = intake
        self.sink = MemorySink()
        self.problems: list[tuple[str, str | None]] = []
        self.stop = asyncio.Event()
        self.source = SocketSource(
            "api",
            where,
            lambda: Separator("api", rule, Validator(rule, Catalog()), keep_observability=True, has_offsets=False),
            rule.is_audit,
            intake,
            self.sink,
            StepClock(),
            file_id="01kebz2d3z0000000000000000",
            listeners=intake.listeners,
            settings=settings,
            problem=lambda name, what: self.problems.append((name, what)),
        )
        self.running = asyncio.ensure_future(self.source.run(self.stop))

    @property
    def where(self) -> int | str:
        [address] = self.source.addresses
        return address if isinstance(address, str) else int(address[1])  # type: ignore[index]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.01)

    async def post(self, body: bytes, content_type: str = LINES, query: str = "", **headers: str) -> Answer:
        with contextlib.closing(Client(self.where)) as client:
            return await aside(partial(client.post, body, content_type, query, **headers))

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        with contextlib.closing(Client(self.where)) as client:
            return await aside(partial(client.ask, method, path, body, **headers))

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes and return all that comes back until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.where)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def served(
    intake: MemoryIntake | Spool | None = None, where: Socket | None = None, rule: Rule | None = None, **settings: Any
) -> AsyncIterator[Served]:
    found = Served(intake or MemoryIntake(), where or Socket(listen=LOOPBACK), rule or AllRule(), SocketSettings(**settings))
    try:
        await found.until(lambda: found.source.addresses or found.running.done() or found.problems)
        yield found
    finally:
        found.stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await found.running
