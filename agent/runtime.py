"""The agent's life: open the state, begin the trail, run the parts, drain in order, end.

Invariants:
    - One task group holds every long-running part; a part that returns or fails ends the agent with a non-zero code, so
      nothing ever runs on without one of them.
    - The end is ordered: sources stop, what they submitted becomes durable, the rest is sealed with a `stop` (or `close`),
      and stores get it until the grace period is over. What is left then is on disk and is shipped after the next start.
    - `close` is written only if the configuration calls the state ephemeral and every source reached its end.
    - The configuration may be replaced meanwhile (`takeover`). A stream cannot be read by a second reader in one process,
      so a change of one ends this worker in order, and the relay's parent starts the next.
    - A part that stands still with work waiting is reported, and at last ends the process (`watchdog`).

It wires; it must not contain a decision that belongs to a part.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import __version__, assembly
from .errors import DurabilityError, TrailsealError
from .observer import Observer
from .relay.settings import EXIT_RELOAD
from .reload import source_key
from .running import RunningSources, WayOut
from .sealer import Sealer
from .shipping import Shipping
from .spool import Database, Spool, StateLock
from .takeover import Takeover, seal_policy
from .trail.note import SigningKey
from .vitals import log as vitals_log
from .vitals.catalogue import Part
from .vitals.clock import SystemClock
from .vitals.health import Health, Severity
from .vitals.metrics import Metrics
from .vitals.server import serve
from .watchdog import Bounds, Judge, Watchdog, Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .config import Settings
    from .config import Source as SourceSettings
    from .sources.base import Source
    from .vitals.supervisor import Supervisor
    from .watchdog import Stall

OVERDUE_SECONDS: Final = 2.0
"""How long after its time an orderly end may still be under way before the process ends without it."""
PATIENCE: Final = {
    Part.LOOP: Bounds(10.0, 60.0),
    Part.SPOOL: Bounds(30.0, 120.0),
    Part.SEALER: Bounds(30.0, 120.0),
    # An attempt may take a minute, and half a minute may go by before the next.
    Part.SHIPPER: Bounds(150.0, 300.0),
    Part.END: Bounds(5.0, 8.0),
}
"""How long each part may have work waiting and do nothing."""
GARBAGE_THRESHOLD: Final = 20_000
"""How many more objects than before there must be until young ones are looked through for cycles; CPython's default is 700."""
OWN_MAPPING_BYTES: Final = 512 << 10
"""The size from which an agent with a bucket takes memory from the system, block by block, and gives it back."""
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3

log = vitals_log.get_logger()


def run(settings: Settings, reread: Callable[[], Settings], supervisor: Supervisor) -> int:
    """Run the agent until its sources end or a signal stops it.

    Args:
        settings: The checked configuration.
        reread: Loads the configuration again as it was loaded before, and raises ConfigError if it is wrong.
        supervisor: Is told when the agent is ready, reloads and ends.

    Returns:
        The process's exit code; `EXIT_RELOAD` if the relay's parent is to start another worker.
    """
    _settle_memory(frugal=any(store.bucket is not None for store in settings.stores))
    try:
        return asyncio.run(_Agent(settings, reread, supervisor).live())
    except BaseExceptionGroup as group:
        return _report(_leaves(group))
    except Exception as error:  # noqa: BLE001  whatever it is, it is logged and the exit code says so
        return _report([error])
    finally:
        vitals_log.flush()


def _settle_memory(*, frugal: bool) -> None:
    """Tell the collector and the allocator what kind of program this is.

    Args:
        frugal: Whether room between blocks is to be given back at once, for some of the throughput.
    """
    # What was imported stays for good, and what comes after it is blocks of bytes and events without cycles: looking for
    # cycles every 700 objects takes a twentieth of the CPU time and finds nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    # Blocks wander from thread to thread, and glibc's arena of each thread would keep room for every one of them.
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        if frugal:
            # The library for buckets takes ten megabytes. At full speed that much again lies between blocks in the heap, and more
            # while a spool drains; blocks of their own mappings leave none. It costs CPU time that shipping to a bucket has.
            libc.mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)
        libc.malloc_trim(0)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for child in error.exceptions for leaf in _leaves(child)]
    return [error]


def _report(errors: list[BaseException]) -> int:
    """Log what ended the agent and choose the exit code: of our own errors the first, else 1."""
    for error in errors:
        log.error("the agent ends", error=error)
    ours = [error for error in errors if isinstance(error, TrailsealError)]
    return ours[0].exit_code if ours else 1


async def _for_ever(part: Coroutine[Any, Any, object], name: str) -> None:
    """Run a part that must not end."""
    await part
    message = f"the {name} ended by itself"
    raise TrailsealError(message, hint="This is a defect of the agent; its state is intact. Please report it.")


async def _until(event: Coroutine[Any, Any, object]) -> None:
    await event


class _Agent:
    """One agent, from start to end."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings], supervisor: Supervisor) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._started = time.monotonic()
        self._state = Path(settings.state)
        self._health = Health(self._clock, expect=["trail"])
        self._metrics = Metrics(version=__version__, config_sha256=settings.config_sha256, started_at=self._clock.now())
        self._observer = Observer(self._metrics, self._health, self._clock)
        self._observer.ships_to(settings)
        self._observer.configured(settings)
        self._supervisor = supervisor
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_at = 0.0
        self._main: asyncio.Task[Any] | None = None
        self._overdue = self._ending = False
        self._running: RunningSources | None = None
        self._spool = Spool(self._state, settings.spool.max_bytes, on_commit=self._observer.committed, on_full=self._observer.full)
        self._sealer = Sealer(
            self._spool,
            assembly.identity(settings),
            seal_policy(settings),
            self._clock,
            enrolment=assembly.enrolment_key(settings),
            on_sealed=self._observer.sealed,
        )
        self._shipping = Shipping(
            assembly.stores(settings, self._clock), self._spool, self._sealer, self._clock, self._observer, self._state
        )
        self._takeover = Takeover(settings, reread, self._spool, self._sealer, self._shipping, self._clock, self._observer, supervisor)
        self._watchdog = Watchdog(
            Judge(
                [
                    Watched(Part.LOOP, lambda: {"": (not self._ending, self._health.last_beat_ns)}, PATIENCE[Part.LOOP]),
                    Watched(Part.SPOOL, lambda: {"": self._spool.work}, PATIENCE[Part.SPOOL]),
                    Watched(Part.SEALER, lambda: {"": self._sealer.work}, PATIENCE[Part.SEALER]),
                    Watched(Part.SHIPPER, self._shipping.work, PATIENCE[Part.SHIPPER]),
                    Watched(Part.END, lambda: {"": (self._ending, True)}, PATIENCE[Part.END]),
                ]
            ),
            self,
        )

    # ---- life ----------------------------------------------------------------------------------------------------

    async def live(self) -> int:
        """Run from the first lock to the last receipt; return the exit code."""
        self._main = asyncio.current_task()
        try:
            await self._live()
        except asyncio.CancelledError:
            if not self._overdue:
                raise
            message = f"the end took too long: {self._spool.full or 'a disk does not answer'}"
            hint = "Nothing that was not durable was acknowledged; it is read again at the next start."
            raise DurabilityError(message, hint=hint) from None
        return EXIT_RELOAD if self._takeover.needs_worker.is_set() else 0

    async def _live(self) -> None:
        settings = self._settings
        with StateLock(self._state):
            self._catch_signals()
            way_out = WayOut(assembly.pass_through(settings, self._observer))
            try:
                sources = assembly.sources(settings, self._spool, way_out, self._clock, self._observer)
                self._supervisor.starting("opening the spool")
                await self._spool.open()
                self._observer.state_lost(self._spool.lost)
                await self._sealer.begin()
                self._health.set("trail", ok=True)
                async with serve(settings, self._metrics, self._health, self._status):
                    self._watchdog.start()
                    await self._work(sources, way_out)
            finally:
                self._ending = True
                await way_out.close()
                await self._spool.close()
                await self._shipping.close()
                self._watchdog.close()
        log.info("ended", origin=self._sealer.head.origin, batch=self._sealer.head.batch, size=self._sealer.head.size)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._takeover.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

    def _on_stop_signal(self, name: str) -> None:
        if self._stop.is_set():
            log.warning("told to stop again; ending without waiting for the stores", signal=name)
            self._hurry.set()
            self._end_within(0.0)
        else:
            log.info("told to stop", signal=name)
            self._supervisor.stopping(self._takeover.settings.shutdown_grace_seconds + OVERDUE_SECONDS)
            self._stop_at = time.monotonic()
            self._stop.set()
            # A stream goes on until its other side ends it, which may take its time; draining has a limit of its own.
            if not any(source.is_stream for source in self._settings.sources):
                self._end_within(self._takeover.settings.shutdown_grace_seconds)

    def _end_within(self, seconds: float) -> None:
        """Bound what is left of an orderly end: a full disk makes even sealing wait for ever."""
        asyncio.get_running_loop().call_later(seconds + OVERDUE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self._main is not None and not self._ending:
            self._overdue = self._ending = True
            self._main.cancel()

    async def _work(self, sources: list[tuple[SourceSettings, Source]], way_out: WayOut) -> None:
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(_for_ever(self._spool.run(), "spool")),
                group.create_task(_for_ever(self._sealer.run(), "sealer")),
                group.create_task(_for_ever(self._shipping.run(), "shipper")),
                group.create_task(_for_ever(self._observer.watch(self._spool, self._respawns), "observer")),
                group.create_task(_for_ever(self._supervisor.run(self._in_a_line), "supervisor")),
            ]
            log.info("started", version=__version__, origin=self._sealer.head.origin, sources=list(dict.fromkeys(s.id for s, _ in sources)))
            await self._state_left_behind()
            ended = await self._read(sources, way_out)
            await self._drain(ended=ended)
            for part in parts:
                part.cancel()

    async def _state_left_behind(self) -> None:
        """State what may be lost of streams that nobody reads on, before a source of another kind meets their cursors."""
        appends = assembly.left_behind(await self._spool.read(Database.cursors), self._clock)
        for durable in [await self._spool.submit(append) for append in appends]:
            await durable
        if appends:
            await self._spool.recall()

    def _respawns(self) -> int:
        return 0 if self._running is None else self._running.respawns

    async def _read(self, sources: list[tuple[SourceSettings, Source]], way_out: WayOut) -> bool:
        """Run the sources until they have ended or must; say whether every one reached its end."""
        async with asyncio.TaskGroup() as group:
            running = self._running = RunningSources(group)
            for settings, source in sources:
                running.start(settings, source_key(self._settings, settings), source)
            self._supervisor.ready()
            keeping = group.create_task(self._takeover.run(running, way_out, group))
            # Streams end when their other side ends, never by a signal to us: see agent/relay/parent.py.
            ends = [running.streams_ended(), self._hurry.wait()] if running.only_streams else [self._stop.wait()]
            waiting = [group.create_task(_until(end)) for end in (*ends, self._takeover.needs_worker.wait())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await self._takeover.finish()
            if running.only_streams and waiting[0].done():
                self._takeover.needs_worker.clear()
            for task in (keeping, *waiting):
                task.cancel()
            running.stop()
            if self._takeover.needs_worker.is_set() or running.only_streams:
                running.cancel_streams()
        return running.reached_ends

    async def _drain(self, *, ended: bool) -> None:
        """Seal what was read and ship it, within the grace period; for another worker nothing is waited for."""
        grace = self._takeover.settings.shutdown_grace_seconds
        deadline = (self._stop_at or time.monotonic()) + grace
        self._end_within(max(0.0, deadline - time.monotonic()))
        await self._spool.flush()
        close = self._settings.ephemeral and ended and not self._takeover.needs_worker.is_set()
        await self._sealer.finish(close=close)
        log.info("sealed the rest", reason="close" if close else "stop", batches_waiting=self._spool.waiting_batches)
        if self._takeover.needs_worker.is_set():
            return
        shipping = asyncio.create_task(self._shipping.drained())
        hurrying = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({shipping, hurrying}, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (shipping, hurrying):
                task.cancel()
        if self._spool.waiting_batches:
            log.warning("not everything is shipped; the rest stays in the spool", batches_waiting=self._spool.waiting_batches)

    # ---- the watchdog's reports, on its thread -------------------------------------------------------------------------

    def stalled(self, stall: Stall) -> None:
        """Say that a part stands still."""
        log.error("no progress", part=stall.part, why=str(stall))
        self._soon(self._observer.stalled, stall.part, str(stall))

    def moving(self, part: Part) -> None:
        """Say that it moves again."""
        log.info("progress again", part=part)
        self._soon(self._observer.stalled, part, None)

    def ending(self, stall: Stall) -> None:
        """Say that the process ends."""
        log.error(
            "the agent ends itself", part=stall.part, why=str(stall), hint="What is durable is intact; a supervisor should start it again."
        )
        vitals_log.flush()

    def _soon(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed already: the end was reached after all.
            if self._main is not None:
                self._main.get_loop().call_soon_threadsafe(function, *arguments)

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _in_a_line(self) -> str:
        """Say how the agent is, for those who look at its service."""
        waiting = f"{self._spool.waiting_batches} batches wait for a store" if self._spool.waiting_batches else "every batch is stored"
        reasons = "; ".join(f"{each.name}: {each.detail}" for each in self._health.failed(Severity.CRITICAL))
        if self._stop.is_set():
            return f"stopping; {waiting}"
        return f"not ready: {reasons}" if reasons else f"ready; {waiting}"

    def _status(self) -> dict[str, Any]:
        head = self._spool.head
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "config_sha256": self._takeover.settings.config_sha256,
            "head": None
            if head is None
            else {
                "origin": head.origin,
                "key": str(SigningKey.parse(head.signing_key).verifier),
                "batch": head.batch,
                "size": head.size,
                "reason": head.reason,
                "sealed_at": head.sealed_at,
                "records": head.totals.records,
                "events": head.totals.events,
                "quarantined": head.totals.quarantined,
                "gaps": head.totals.gaps,
            },
            "spool": {
                "bytes": self._spool.held_bytes,
                "max_bytes": self._spool.max_bytes,
                "records": self._spool.held_records,
                "batches_waiting": self._spool.waiting_batches,
            },
            "stores": [{"id": store.id, "required": store.required} for store in self._takeover.settings.stores],
            **self._observer.status(),
        }
