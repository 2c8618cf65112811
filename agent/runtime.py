"""The agent's life: open the state, begin the trail, run the parts, drain in order, end.

Invariants:
    - One task group holds every long-running part; a part that returns or fails ends the agent with a non-zero code, so
      nothing ever runs on without one of them.
    - The end is ordered: sources stop, what they submitted becomes durable, the rest is sealed with a `stop` (or `close`),
      and stores get it until the grace period is over. What is left then is on disk and is shipped after the next start.
    - `close` is written only if the configuration calls the state ephemeral and every source reached its end.

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
from .sealer import Sealer, SealPolicy
from .shipper import ForkFoundError, Shipper
from .spool import Spool, StateLock
from .stores import DirectoryStore
from .trail.note import SigningKey
from .vitals import log as vitals_log
from .vitals.clock import SystemClock, rfc3339
from .vitals.health import Health
from .vitals.metrics import Metrics
from .vitals.server import serve

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .config import Settings
    from .config import Source as SourceSettings
    from .sources.base import Source

EVIDENCE_FOLDER: Final = "evidence"
PASS_THROUGH_CLOSE_SECONDS: Final = 2.0
OVERDUE_SECONDS: Final = 2.0
"""How long after its time an orderly end may still be under way before the process ends without it."""
GARBAGE_THRESHOLD: Final = 20_000
"""How many more objects than before there must be until young ones are looked through for cycles; CPython's default is 700."""
_M_ARENA_MAX: Final = -8

log = vitals_log.get_logger()


def run(settings: Settings) -> int:
    """Run the agent until its sources end or a signal stops it.

    Args:
        settings: The checked configuration.

    Returns:
        The process's exit code.
    """
    _settle_memory()
    try:
        asyncio.run(_Agent(settings).live())
    except BaseExceptionGroup as group:
        return _report(_leaves(group))
    except Exception as error:  # noqa: BLE001  whatever it is, it is logged and the exit code says so
        return _report([error])
    finally:
        vitals_log.flush()
    return 0


def _settle_memory() -> None:
    """Tell the collector and the allocator what kind of program this is."""
    # What was imported stays for good, and what comes after it is blocks of bytes and events without cycles: looking for
    # cycles every 700 objects takes a twentieth of the CPU time and finds nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    # Blocks wander from thread to thread, and glibc's arena of each thread would keep room for every one of them.
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
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


async def _all_done(tasks: list[asyncio.Task[bool]]) -> None:
    await asyncio.wait(tasks)


class _Agent:
    """One agent, from start to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._started = time.monotonic()
        self._state = Path(settings.state)
        store_conditions = [f"store {store.id}" for store in settings.stores if store.required]
        self._health = Health(self._clock, expect=["trail", *store_conditions])
        self._metrics = Metrics(
            version=__version__,
            config_sha256=settings.config_sha256,
            started_at=self._clock.now(),
            sources=[source.id for source in settings.sources],
            stores=[store.id for store in settings.stores],
        )
        self._observer = Observer(self._metrics, self._health, self._clock)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_at = 0.0
        self._main: asyncio.Task[None] | None = None
        self._overdue = self._ending = False
        self._spool = Spool(self._state, settings.spool.max_bytes, on_commit=self._observer.committed, on_full=self._observer.full)
        stores = [(DirectoryStore(store.id, store.directory), store.required) for store in settings.stores]
        self._required = [store for store, required in stores if required]
        self._optional = [store for store, required in stores if not required]
        self._sealer = Sealer(
            self._spool,
            assembly.identity(settings),
            SealPolicy(settings.seal.max_age_seconds, settings.seal.max_bytes, settings.seal.heartbeat_seconds),
            self._clock,
            enrolment=assembly.enrolment_key(settings),
            on_sealed=self._observer.sealed,
        )
        self._shipper = Shipper(
            self._spool,
            self._required,
            self._optional,
            self._clock,
            self._observer,
            self._sealer.abandoned.__contains__,
            self._on_fork,
        )

    # ---- life ----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Run from the first lock to the last receipt."""
        self._main = asyncio.current_task()
        try:
            await self._live()
        except asyncio.CancelledError:
            if not self._overdue:
                raise
            message = f"the end took too long: {self._spool.full or 'a disk does not answer'}"
            hint = "Nothing that was not durable was acknowledged; it is read again at the next start."
            raise DurabilityError(message, hint=hint) from None

    async def _live(self) -> None:
        settings = self._settings
        with StateLock(self._state):
            self._catch_signals()
            passing = assembly.pass_through(settings, self._observer)
            try:
                sources = assembly.sources(settings, self._spool, passing, self._clock, self._observer)
                await self._spool.open()
                await self._sealer.begin()
                self._health.set("trail", ok=True)
                async with serve(settings, self._metrics, self._health, self._status):
                    await self._work(sources)
            finally:
                self._ending = True
                await passing.close(PASS_THROUGH_CLOSE_SECONDS)
                await self._spool.close()
                for store in (*self._required, *self._optional):
                    await store.close()
        log.info("ended", origin=self._sealer.head.origin, batch=self._sealer.head.batch, size=self._sealer.head.size)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, signal.Signals(number).name)

    def _on_stop_signal(self, name: str) -> None:
        if self._stop.is_set():
            log.warning("told to stop again; ending without waiting for the stores", signal=name)
            self._hurry.set()
            self._end_within(0.0)
        else:
            log.info("told to stop", signal=name)
            self._stop_at = time.monotonic()
            self._stop.set()
            # A stream goes on until its other side ends it, which may take its time; draining has a limit of its own.
            if not any(source.is_stream for source in self._settings.sources):
                self._end_within(self._settings.shutdown_grace_seconds)

    def _end_within(self, seconds: float) -> None:
        """Bound what is left of an orderly end: a full disk makes even sealing wait for ever."""
        asyncio.get_running_loop().call_later(seconds + OVERDUE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self._main is not None and not self._ending:
            self._overdue = True
            self._main.cancel()

    async def _work(self, sources: list[tuple[SourceSettings, Source]]) -> None:
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(_for_ever(self._spool.run(), "spool")),
                group.create_task(_for_ever(self._sealer.run(), "sealer")),
                group.create_task(_for_ever(self._shipper.run(), "shipper")),
                group.create_task(_for_ever(self._observer.watch(self._spool), "observer")),
            ]
            log.info("started", version=__version__, origin=self._sealer.head.origin, sources=list(dict.fromkeys(s.id for s, _ in sources)))
            ended = await self._read(sources)
            await self._drain(ended=ended)
            for part in parts:
                part.cancel()

    async def _read(self, sources: list[tuple[SourceSettings, Source]]) -> bool:
        """Run the sources until all have ended or a signal stops them; say whether every one reached its end."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_source(settings, source), name=settings.id) for settings, source in sources]
            stopping = group.create_task(self._stop.wait())
            streams = [task for task, (settings, _) in zip(tasks, sources, strict=True) if settings.is_stream]
            if streams and len(streams) == len(tasks):
                # Streams end when their other side ends, never by a signal to us: see agent/relay/parent.py.
                hurrying = group.create_task(self._hurry.wait())
                everything = group.create_task(_all_done(streams))
                await asyncio.wait({everything, hurrying}, return_when=asyncio.FIRST_COMPLETED)
                everything.cancel()
                for task in (*streams, hurrying, stopping):
                    task.cancel()
            else:
                await stopping
        return all(task.done() and not task.cancelled() and task.result() for task in tasks)

    async def _run_source(self, settings: SourceSettings, source: Source) -> bool:
        """Run one source; say whether it reached its input's end."""
        outcome = await source.run(self._stop)
        if not settings.is_stream and not self._stop.is_set():
            message = f"the source {settings.id} ended by itself"
            raise TrailsealError(message, hint="This is a defect of the agent; its state is intact. Please report it.")
        return outcome is not False

    async def _drain(self, *, ended: bool) -> None:
        """Seal what was read and ship it, within the grace period."""
        grace = self._settings.shutdown_grace_seconds
        deadline = (self._stop_at or time.monotonic()) + grace
        self._end_within(max(0.0, deadline - time.monotonic()))
        await self._spool.flush()
        close = self._settings.ephemeral and ended
        await self._sealer.finish(close=close)
        log.info("sealed the rest", reason="close" if close else "stop", batches_waiting=self._spool.waiting_batches)
        shipping = asyncio.create_task(self._shipper.drained())
        hurrying = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({shipping, hurrying}, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (shipping, hurrying):
                task.cancel()
        if self._spool.waiting_batches:
            log.warning("not everything is shipped; the rest stays in the spool", batches_waiting=self._spool.waiting_batches)

    # ---- parts ---------------------------------------------------------------------------------------------------

    async def _on_fork(self, fork: ForkFoundError) -> None:
        """Keep the evidence, then go on under a new name."""
        folder = self._state / EVIDENCE_FOLDER
        name = f"{rfc3339(self._clock.now()).replace(':', '')}-batch-{fork.queued.batch.number}"
        await asyncio.to_thread(assembly.keep_evidence, folder, name, fork)
        self._observer.forked(fork, folder / name)
        confirmed = await self._spool.confirmed(fork.store)
        await self._sealer.fork(fork.queued.batch.origin, confirmed, [store.id for store in self._required])

    def _status(self) -> dict[str, Any]:
        head = self._spool.head
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "config_sha256": self._settings.config_sha256,
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
            "stores": [{"id": store.id, "required": store.required} for store in self._settings.stores],
            **self._observer.status(),
        }
