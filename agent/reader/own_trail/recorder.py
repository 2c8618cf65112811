"""Record the events of a server that stays: an agent runs beside it as a child, and each event is posted to its socket.

Invariants: `record` returns only after the agent has answered that the event is durable; a child that died is started again, and an
event whose answer was lost is posted once more under the same id (so it may stand in the trail twice, never not at all); when told to
stop, the child is given the time to seal and ship. This module must not grant or refuse anything: what cannot be recorded raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from ...errors import PermanentError, TransientError
from .events import Recorded, event_line
from .settings import agent_command, agent_environment, for_owner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import aiohttp

    from .settings import OwnTrail

START_SECONDS: Final = 30.0
"""How long a child may take until it takes events."""
RECORD_SECONDS: Final = 15.0
"""How long an event may wait for an agent that is away, busy or full."""
LOCK_SECONDS: Final = 2.0
_STEP_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 5.0
_BEYOND_GRACE_SECONDS: Final = 15.0
_KEPT_LOG_BYTES: Final = 4 << 20
_LOG: Final = logging.getLogger("trailseal.own_trail")
_CREATED: Final = 201
_MULTI_STATUS: Final = 207


class Recorder:
    """Record events one by one; an async context manager, made for one event loop.

    Guarantees: `record` may be called by many tasks at once; cancelling one leaves it unknown whether its event was recorded.
    """

    def __init__(self, settings: OwnTrail) -> None:
        """Name the trail; nothing is started yet.

        Raises:
            ConfigError: The folder's path is too long for a socket.
        """
        self._settings = settings
        self._socket: Path = settings.socket_path
        self._child: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stopping = asyncio.Event()
        self._held = ExitStack()
        self._trouble = ""
        self.starts = 0
        """How often a child was started."""

    async def __aenter__(self) -> Self:
        """Start; see `start`."""
        await self.start()
        return self

    async def __aexit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """Stop; see `stop`."""
        await self.stop()

    async def start(self) -> None:
        """Start the agent and wait until it takes events.

        Raises:
            ConfigError: The folder cannot be written.
            StateInUseError: Another process uses the folder.
            TransientError: The agent does not come up; the message has its last words.
        """
        import aiohttp  # noqa: PLC0415 -- a command that only asks for help does not wait for it

        self._held.enter_context(self._settings.alone(LOCK_SECONDS))
        try:
            await self._end_orphan()
            self._settings.prepare({"socket": {"path": str(self._socket), "mode": "0600"}})
            self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket)))
            self._keeper = asyncio.create_task(self._keep_running(), name="own-trail")
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def record(self, event: Mapping[str, Any]) -> Recorded:
        """Record an event, and return when it is durable on this machine.

        Args:
            event: Made by `own_event`; another call with the same one is safe.

        Raises:
            PermanentError: The event is not valid.
            TransientError: It could not be recorded; whatever depends on it must not go on.
        """
        line = event_line(event)
        why = "the agent is not running" if self._stopping.is_set() else f"no answer from the agent within {RECORD_SECONDS:g} s"
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                while not self._stopping.is_set():
                    why = await self._post(line)
                    if not why:
                        return Recorded(str(event["event_id"]))
                    await asyncio.sleep(_STEP_SECONDS)
        except TimeoutError:
            pass
        raise self._error(f"the event {event['event_id']} was not recorded: {why}")

    async def _post(self, line: bytes) -> str:
        """Post an event; return why it is not durable yet, nothing if it is.

        Raises:
            PermanentError: The agent took it for no valid event.
        """
        import aiohttp  # noqa: PLC0415 -- as in start

        if self._session is None:
            return "the agent is not running"
        try:
            async with self._session.post(
                "http://localhost/v1/events", data=line, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return f"no answer from the agent ({type(error).__name__})"
        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            said = {}
        if answer.status == _CREATED and said.get("durable") is True and said.get("events") == 1:
            return ""
        if answer.status == _MULTI_STATUS:
            raise PermanentError(
                f"the agent keeps the event in quarantine: {said.get('results')}", hint="This is a defect of this program."
            )
        return f"the agent answered {answer.status} {said.get('title') or said.get('type') or ''!s}".rstrip()

    async def stop(self) -> None:
        """End the agent in order: it seals and ships what it has within its grace. May be called twice."""
        self._stopping.set()
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()
        if self._keeper is not None:
            done, _ = await asyncio.wait({self._keeper}, timeout=self._settings.grace_seconds + _BEYOND_GRACE_SECONDS)
            if not done:
                self._keeper.cancel()
                await asyncio.wait({self._keeper})
            self._keeper = None
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._held.close()

    async def _until_ready(self) -> None:
        assert self._keeper is not None  # noqa: S101 -- start made it
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._is_healthy():
                    if self._trouble or self._keeper.done() or self.starts > 1:
                        raise self._error(f"the agent for our own events does not come up{self._trouble and f': {self._trouble}'}")
                    await asyncio.sleep(_STEP_SECONDS)
        except TimeoutError:
            raise self._error("the agent for our own events does not come up") from None

    async def _is_healthy(self) -> bool:
        import aiohttp  # noqa: PLC0415 -- as in start

        assert self._session is not None  # noqa: S101 -- start made it
        try:
            async with self._session.get("http://localhost/healthz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def _keep_running(self) -> None:
        """Start the child, and again whenever it ends, with a growing pause, until told to stop."""
        pause_seconds = 0.0
        try:
            while not self._stopping.is_set():
                try:
                    await self._run_child()
                    self._trouble = ""
                except OSError as error:
                    # A full disk, or no process left: that passes, and then the events are to be recorded again.
                    self._trouble = f"it cannot be started: {error.strerror}"
                    _LOG.warning("the agent for our own events cannot be started: %s", error.strerror)
                    await self._end_child()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_seconds or _STEP_SECONDS)
                pause_seconds = min(_LONGEST_PAUSE_SECONDS, max(0.2, pause_seconds * 2))
        finally:
            await self._end_child()

    async def _end_child(self) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def _end_orphan(self) -> None:
        """End the agent of a server that was killed and could not do it: nobody else has this folder now, and two cannot."""
        try:
            pid = int(self._settings.process_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        if not self._is_ours(pid):
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.grace_seconds + _BEYOND_GRACE_SECONDS
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
        while self._is_ours(pid):
            if loop.time() > end:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_STEP_SECONDS)

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process is an agent with our configuration: its number may have gone to another one meanwhile."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self._settings.config_file) in words

    async def _run_child(self) -> None:
        with self._opened_log() as said:
            self._child = await asyncio.create_subprocess_exec(
                *agent_command("run", self._settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=said,
                env=agent_environment(),
                umask=self._settings.umask,
                # A terminal's Ctrl-C ends the server, which then ends the agent: the last events are recorded in between.
                start_new_session=True,
            )
        self.starts += 1
        self._note(self._child.pid)
        if self._stopping.is_set():
            self._child.terminate()
        await self._child.wait()

    def _opened_log(self) -> IO[bytes]:
        log = self._settings.log_file
        with contextlib.suppress(OSError):
            if log.stat().st_size > _KEPT_LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))
        return open(log, "ab", opener=for_owner)

    def _note(self, pid: int) -> None:
        with open(self._settings.process_file, "w", encoding="ascii", opener=for_owner) as file:
            file.write(str(pid))

    def _error(self, message: str) -> TransientError:
        return TransientError(message, hint=f"{self._settings.log_file} has what the agent says.")
