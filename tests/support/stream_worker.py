"""A stream source at the end of a socket, an intake in memory, and a test in the place of the relay's parent."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.errors import DurabilityError
from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.relay.wire import HURRY, Header, NumberReader, encode_header
from agent.separator import Separator
from agent.sources.stream import InheritedStream, StreamSettings, StreamSource
from tests.support.joined_units import UnitRecorder, has_tag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from agent.events.mappings.joining import Joining
    from agent.intake import Append, Cursor, SealListeners
    from agent.sources.base import BlockSeparator

STREAM = "01m7x6521nqvrn4qxjf4y6qbca"


class Intake:
    """An intake in memory."""

    def __init__(self, cursors: Sequence[Cursor] = ()) -> None:
        """Begin with the cursors of an earlier process."""
        self.appends: list[Append] = []
        self.room = True
        self.failing = False
        self.listeners: SealListeners = set()
        self._cursors = list(cursors)

    def cursors(self, source: str) -> Sequence[Cursor]:
        return [cursor for cursor in self._cursors if cursor.source == source]

    def finished(self, source: str) -> Sequence[Cursor]:
        return [cursor for cursor in self._cursors if cursor.source == source and cursor.finished]

    async def submit(self, append: Append) -> Awaitable[None]:
        while not append.small and not self.room:
            await asyncio.sleep(0.005)
        durable = asyncio.get_running_loop().create_future()
        if self.failing and append.records:
            durable.set_exception(DurabilityError("the disk refused"))
        else:
            self.appends.append(append)
            durable.set_result(None)
        return durable

    def has_room(self, size_bytes: int = 0) -> bool:
        return self.room

    async def flush(self) -> None:
        """Everything is durable already."""

    @property
    def newest(self) -> list[Cursor]:
        return list({cursor.file_id: cursor for append in self.appends for cursor in append.cursors}.values())

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(b"{" + body[1:]) for append in self.appends for body in append.bodies.splitlines()]

    @property
    def ranges(self) -> list[tuple[int | None, int | None]]:
        return [(progress.from_offset, progress.to_offset) for append in self.appends for progress in append.progress]


class Sink:
    """A sink in memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self.data = b""

    def write(self, data: bytes, channel: str) -> None:
        assert channel == "stdout"
        self.data += data


class Clock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 1, 8, 14, 32, 7, tzinfo=UTC)


class Worker:
    """A stream source at the end of a socket whose other end is the test's."""

    def __init__(
        self,
        intake: Intake,
        *,
        base: int = 0,
        end: int | None = None,
        confirmed: bool = False,
        when_full: str = "block",
        joining: Joining | None = None,
    ) -> None:
        """Start the source and send it its header."""
        self.intake, self.sink = intake, Sink()
        self._parent, theirs = socket.socketpair()
        orders, self._orders = os.pipe()
        self._parent.setblocking(False)
        self._numbers = NumberReader()
        header = Header(STREAM, "app", "stdout", base, end, 1 << 20, confirmed, 0)
        self.send(encode_header(header))
        rule = FieldRule()
        lines = Separator("app", rule, Validator(rule), keep_observability=True, has_offsets=False)
        separator: BlockSeparator = lines if joining is None else UnitRecorder(joining, has_offsets=False)
        source = StreamSource(
            InheritedStream("app", "stdout", theirs.detach(), orders),
            separator,
            rule.is_audit if joining is None else has_tag,
            intake,
            self.sink,
            Clock(),
            StreamSettings(when_full="gap" if when_full == "gap" else "block", patience_seconds=0.02),
            joining=joining,
        )
        self.run = asyncio.ensure_future(source.run(asyncio.Event()))

    def send(self, raw: bytes) -> None:
        self._parent.send(raw)

    def hurry(self) -> None:
        os.write(self._orders, HURRY)

    def vanish(self) -> None:
        self._parent.close()
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1

    async def numbers(self, count: int) -> list[int]:
        """Return the next `count` acknowledgements."""
        found: list[int] = []
        while len(found) < count:
            raw = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._parent, 8), 5)
            assert raw, "the source went away"
            found += self._numbers.feed(raw)
        return found

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.run, 5)
        finally:
            self.vanish()
