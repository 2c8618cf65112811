"""Stand between a client and a real server on the loopback interface, and spoil what passes.

A `Proxy` forwards HTTP/1.1 requests and replies byte by byte. It understands just enough of them to know where a request ends:
lengths, chunks, and the interim replies that `Expect: 100-continue` asks for, which it always passes on.

Behaviours are switched while it runs, and replace each other. Connections that clients keep open follow from their next request
on, except that `refuse` cuts them at once. Where a behaviour takes `only`, it applies to the requests whose first line matches
that regular expression, and others pass.

It must not be used for anything but tests: it binds to the loopback address, reads no TLS and believes what clients send.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from tests.support.object_servers import lasting_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

PATIENCE_SECONDS: Final = 10.0
PIECE_BYTES: Final = 64 * 1024
HEAD_BYTES: Final = 256 * 1024

Side = Literal["client", "server"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Say what happens to requests; the default is that they pass."""

    how: str = "pass"
    """One of: pass, closed, reset, delay, cut, silent, end, swallow, truncate, throttle, answer."""
    of: Side | None = None
    """Whose bytes are meant; None: both."""
    amount: float = 0.0
    """Bytes, seconds or bytes per second, as the behaviour needs."""
    reply: bytes = b""
    """What the proxy answers by itself."""
    times: int | None = None
    """How many requests it is for; None: all."""
    only: str = ""
    """What the first line of a request matches."""


PASS: Final = Behaviour()


class Proxy:
    """Be a proxy in a thread of its own; leaving the `with` block ends it."""

    def __init__(self, target_host: str, target_port: int) -> None:
        """Name the server; nothing listens yet."""
        self._target = (target_host, target_port)
        self.port: Final = lasting_port()
        self.endpoint: Final = f"http://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._behaviour = PASS
        self._lines: list[str] = []
        self._connections = 0
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        try:
            self._await(self._listen())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and end the thread."""
        self._await(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._connections

    @property
    def requests(self) -> int:
        """How many requests arrived so far, whatever became of them."""
        return len(self._lines)

    @property
    def request_lines(self) -> list[str]:
        """The first lines of the requests so far: `PUT /bucket/key HTTP/1.1`."""
        return list(self._lines)

    def pass_on(self) -> None:
        """Let everything pass, and listen again."""
        self._switch(PASS)

    def refuse(self, how: Literal["closed", "reset"] = "closed") -> None:
        """Reset open connections and refuse new ones: nobody listens (`closed`), or each is accepted and `reset`."""
        self._switch(Behaviour(how))

    def delay(self, seconds: float, of: Side | None = None) -> None:
        """Hold each request back before it is forwarded (`client`), each reply (`server`), or each of both."""
        self._switch(Behaviour("delay", of=of, amount=seconds))

    def reset_after(self, count: int, of: Side = "server", only: str = "") -> None:
        """Reset both connections when so many bytes of a request (`client`) or of its reply (`server`) have passed."""
        self._switch(Behaviour("cut", of=of, amount=count, only=only))

    def half_close(self, towards: Side | None = None, only: str = "") -> None:
        """Forward whole requests; then never answer, or shut one direction.

        None: the reply never comes, and the connection stays open. `client`: it is closed, in order, towards the client alone,
        instead of a reply. `server`: it is closed towards the server alone, and a reply passes if the server still sends one.
        """
        self._switch(Behaviour("silent" if towards is None else "end", of=towards, only=only))

    def swallow_replies(self, count: int | None = None, only: str = "") -> None:
        """Forward so many requests whole, wait until the server answers, and reset the client before it sees a byte of that."""
        self._switch(Behaviour("swallow", times=count, only=only))

    def truncate_replies(self, count: int, only: str = "") -> None:
        """Pass so many bytes of each reply, head included, and close the connection in order."""
        self._switch(Behaviour("truncate", of="server", amount=count, only=only))

    def throttle(self, bytes_per_second: float) -> None:
        """Pass requests and replies no faster than this, each direction of each connection by itself."""
        self._switch(Behaviour("throttle", amount=bytes_per_second))

    def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, times: int | None = None, only: str = ""
    ) -> None:
        """Answer so many requests, or all, without the server; the connection stays open unless a header says `Connection: close`."""
        lines = {"Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._switch(Behaviour("answer", reply=f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body, times=times, only=only))

    def take(self, line: str) -> Behaviour:
        """Count a request, and return what is to become of it."""
        with self._lock:
            self._lines.append(line)
            now = self._behaviour
            if now.times == 0 or re.search(now.only, line) is None:
                return PASS
            if now.times is not None:
                self._behaviour = replace(now, times=now.times - 1)
            return now

    def _switch(self, behaviour: Behaviour) -> None:
        with self._lock:
            self._behaviour = behaviour
        self._await(self._follow(behaviour))

    async def _follow(self, behaviour: Behaviour) -> None:
        if behaviour.how in {"closed", "reset"}:
            for connection in list(self._open):
                connection.reset()
        if behaviour.how == "closed":
            self._deafen()
        else:
            await self._listen()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, limit=HEAD_BYTES)

    def _deafen(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = _Connection(self, self._target, reader, writer)
        if self._behaviour.how in {"closed", "reset"}:
            connection.reset()
            return
        self._open.add(connection)
        task = self._loop.create_task(connection.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._open.discard(connection))

    async def _close(self) -> None:
        self._deafen()
        connections = list(self._open)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in connections:
            # One whose task was cancelled before its first step has closed nothing by itself.
            connection.close()
        # One more turn, in which the transports close their sockets.
        await asyncio.sleep(0)

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)


class _CutError(Exception):
    """The connection is to end now."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class _Connection:
    """Be one client's connection, and the one to the server that goes with it.

    One task forwards requests, another replies; a byte from the server belongs to the newest request, because clients of this
    proxy ask one thing at a time. The first task that ends, ends the connection.
    """

    def __init__(self, proxy: Proxy, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._target = target
        self._from_client, self._to_client = reader, writer
        self._from_server: asyncio.StreamReader | None = None
        self._to_server: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._whole = asyncio.Event()
        self._now = PASS
        self._passed: dict[Side, int] = {"client": 0, "server": 0}
        self._expects_interim = False
        # A drain then waits until the kernel has everything, which a reset must not overtake.
        writer.transport.set_write_buffer_limits(0)

    async def run(self) -> None:
        """Forward until one side ends, or the behaviour does."""
        tasks = [asyncio.ensure_future(self._forward_requests()), asyncio.ensure_future(self._forward_replies())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            if any(isinstance(end, ConnectionError) or (isinstance(end, _CutError) and end.reset) for end in results):
                self.reset()
            self.close()
        for end in results:
            if isinstance(end, Exception) and not isinstance(end, (OSError, EOFError, _CutError)):
                raise end

    def close(self) -> None:
        """Close both ways in order."""
        self._to_client.close()
        if self._to_server is not None:
            self._to_server.close()

    def reset(self) -> None:
        """Cut both ways at once; the peers get a reset rather than an end."""
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _forward_requests(self) -> None:
        while True:
            try:
                head = await self._from_client.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            line, *fields = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            self._whole.clear()
            self._now = self._proxy.take(line)
            self._passed = {"client": 0, "server": 0}
            self._expects_interim = "expect" in headers
            await self._request(head, headers)

    async def _request(self, head: bytes, headers: Mapping[str, str]) -> None:
        now = self._now
        if now.how == "answer":
            if self._expects_interim:
                self._to_client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The whole request is read first: closing a socket with unread bytes would reset the answer away.
            async for _ in self._body(headers):
                pass
            self._to_client.write(now.reply)
            await self._to_client.drain()
            if re.search(rb"(?i)\r\nconnection: *close\r\n", now.reply.partition(b"\r\n\r\n")[0] + b"\r\n"):
                raise _CutError(reset=False)
            return
        if now.how == "delay" and now.of != "server":
            await asyncio.sleep(now.amount)
        if self._to_server is None:
            self._from_server, self._to_server = await asyncio.open_connection(*self._target)
            self._to_server.transport.set_write_buffer_limits(0)
            self._connected.set()
        await self._pass("client", head)
        async for piece in self._body(headers):
            await self._pass("client", piece)
        self._whole.set()
        if now.how == "end":
            (self._to_client if now.of == "client" else self._to_server).write_eof()

    async def _body(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield the pieces of a request's body as they come, chunks with their framing."""
        read = self._from_client
        if "chunked" in headers.get("transfer-encoding", "").lower():
            size = -1
            while size != 0:
                line = await read.readuntil(b"\r\n")
                size = int(line.partition(b";")[0], 16)
                yield line
                # The last chunk is followed by trailers, up to an empty line.
                while size == 0 and line != b"\r\n":
                    line = await read.readuntil(b"\r\n")
                    yield line
                if size:
                    yield await read.readexactly(size + 2)
            return
        left = int(headers.get("content-length", "0"))
        while left:
            piece = await read.read(min(left, PIECE_BYTES))
            if not piece:
                raise _CutError(reset=False)
            left -= len(piece)
            yield piece

    async def _forward_replies(self) -> None:
        await self._connected.wait()
        assert self._from_server is not None
        held = b""
        while piece := await self._from_server.read(PIECE_BYTES):
            held += piece
            if self._expects_interim:
                head, found, rest = held.partition(b"\r\n\r\n")
                if not found:
                    continue
                self._expects_interim = False
                if re.match(rb"HTTP/1\.1 1", head):
                    self._to_client.write(head + found)
                    await self._to_client.drain()
                    held = rest
            if held:
                await self._reply(held)
                held = b""
        if self._is_mute():
            await asyncio.Event().wait()

    async def _reply(self, piece: bytes) -> None:
        if self._now.how == "swallow":
            await self._whole.wait()
            raise _CutError(reset=True)
        if self._is_mute():
            return
        if self._now.how == "delay" and self._now.of != "client" and not self._passed["server"]:
            await asyncio.sleep(self._now.amount)
        await self._pass("server", piece)

    def _is_mute(self) -> bool:
        return self._now.how == "silent" or (self._now.how == "end" and self._now.of == "client")

    async def _pass(self, of: Side, data: bytes) -> None:
        """Send bytes of one side to the other, as the behaviour allows."""
        now, writer = self._now, self._to_server if of == "client" else self._to_client
        assert writer is not None
        ends = now.how in {"cut", "truncate"} and now.of == of
        if ends:
            data = data[: int(now.amount) - self._passed[of]]
        step = max(1, int(now.amount / 20)) if now.how == "throttle" else max(1, len(data))
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            if now.how == "throttle":
                await asyncio.sleep(min(step, len(data) - start) / now.amount)
        self._passed[of] += len(data)
        if ends and self._passed[of] >= now.amount:
            raise _CutError(reset=now.how == "cut")
