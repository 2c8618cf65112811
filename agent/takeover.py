"""Put another configuration in the place of the running one, part by part, without losing a place.

Invariants:
    - Everything the new configuration needs is made before anything of the old one is stopped, so nothing is half applied.
    - A source whose settings did not change runs on. One that changed stops at the end of a line; what it had submitted is
      durable before its successor looks up where to begin.
    - Between the two the sealer seals what was read under the old configuration, and states the new one in a seal of its
      own: the record of a line lies between the seals of the configuration it was read under.
    - A configuration that arrives while a source still waits for room takes effect in the same way: its stores at once,
      its sources when the old ones have stopped.

It must not decide whether a configuration may be taken over: `reload` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from . import assembly
from .errors import ConfigError
from .reload import ChangeWatch, RestartNeededError, files_of, read_again, source_key
from .sealer import SealPolicy
from .vitals import log as vitals_log
from .vitals.catalogue import Reload
from .vitals.health import to_next_beat

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Settings
    from .config import Source as SourceSettings
    from .observer import Observer
    from .running import RunningSources, WayOut
    from .sealer import Sealer
    from .shipping import Shipping
    from .sources.base import Source
    from .spool import Spool
    from .stores import Store
    from .trail.note import SigningKey
    from .vitals.clock import Clock
    from .vitals.supervisor import Supervisor

TRY_AGAIN_LOOKS: Final = 15
"""How many looks, one a second, there are between two tries of a configuration that was refused."""

log = vitals_log.get_logger()


class _Next(NamedTuple):
    """The newest configuration that was found usable, and what was made for it."""

    settings: Settings
    sources: tuple[tuple[SourceSettings, Source], ...]
    stores: tuple[tuple[Store, bool], ...]
    enrolment: SigningKey | None


def seal_policy(settings: Settings) -> SealPolicy:
    """Return when batches are cut."""
    return SealPolicy(settings.seal.max_age_seconds, settings.seal.max_bytes, settings.seal.heartbeat_seconds)


class Takeover:
    """Keep the running configuration the one on disk.

    Attributes:
        settings: The configuration that runs.
        needs_worker: Set when another worker must take over, because a stream's settings changed.
    """

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        spool: Spool,
        sealer: Sealer,
        shipping: Shipping,
        clock: Clock,
        observer: Observer,
        supervisor: Supervisor,
    ) -> None:
        """Begin with the configuration of the start.

        Args:
            settings: That configuration.
            reread: Loads the one on disk.
            spool: Where sources find their cursors.
            sealer: States the configuration in the trail.
            shipping: The stores at work.
            clock: For new sources.
            observer: Is told.
            supervisor: Is told when it begins and when it is over.
        """
        self.settings = settings
        self.needs_worker = asyncio.Event()
        self._reread = reread
        self._spool = spool
        self._sealer = sealer
        self._shipping = shipping
        self._clock = clock
        self._observer = observer
        self._supervisor = supervisor
        self._watch = ChangeWatch(files_of(settings))
        self._asked = asyncio.Event()
        self._changing = asyncio.Lock()
        self._refused = ""
        self._next = _Next(settings, (), (), None)
        self._swapping: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read the configuration again soon: somebody sent a signal."""
        self._asked.set()

    async def run(self, running: RunningSources, way_out: WayOut, group: asyncio.TaskGroup) -> None:
        """Look for changes for ever, and take them over.

        Args:
            running: The sources.
            way_out: Where observability bytes go.
            group: Runs what takes long.
        """
        looks = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(to_next_beat()):
                    await self._asked.wait()
            looks += 1
            asked = self._asked.is_set()
            self._asked.clear()
            if asked:
                way_out.passing.reopen()
            # What was refused may be mended where nobody looks: in a file that was missing, by a right that was given.
            again = bool(self._refused) and looks % TRY_AGAIN_LOOKS == 0
            if asked or await asyncio.to_thread(self._watch.look) or again:
                async with self._changing:
                    if asked:
                        self._supervisor.reloading()
                    await self._read(running, way_out, group, asked=asked)
                    if asked:
                        self._supervisor.ready()

    async def finish(self) -> None:
        """Let a change under way come to a point where it can be left; no other one begins."""
        await self._changing.acquire()
        if self._swapping is not None:
            self._swapping.cancel()

    async def _read(self, running: RunningSources, way_out: WayOut, group: asyncio.TaskGroup, *, asked: bool) -> None:
        present = self._next.settings
        await asyncio.to_thread(self._watch.accept, files_of(present))
        try:
            wanted = await asyncio.to_thread(read_again, self._reread, present)
            if wanted.config_sha256 == present.config_sha256:
                self._unchanged(asked=asked)
            elif present.reload == "on_signal" and not asked:
                log.info("the configuration has changed on disk; SIGHUP makes the agent use it", file=wanted.file)
                self._observer.differs("it has changed, and the agent reads it when it gets SIGHUP")
            elif running.streams_among({source_key(wanted, source) for source in wanted.sources}):
                self._observer.reloaded(Reload.APPLIED)
                log.info("the configuration has changed; another worker takes over", config_sha256=wanted.config_sha256)
                self.needs_worker.set()
            else:
                self._next = self._make(wanted, running, way_out)
                await self._use(present, wanted, way_out)
                if self._swapping is None or self._swapping.done():
                    self._swapping = group.create_task(self._swap(running))
        except RestartNeededError as error:
            self._refuse(Reload.RESTART_NEEDED, error, asked=asked)
        except ConfigError as error:
            self._refuse(Reload.INVALID, error, asked=asked)
        else:
            self._refused = ""

    def _unchanged(self, *, asked: bool) -> None:
        if asked:
            log.info("the configuration is the one that runs")
            self._observer.reloaded(Reload.UNCHANGED)
        elif self._refused:
            log.info("the configuration on disk is the one that runs again")
        self._observer.differs("")

    def _refuse(self, outcome: Reload, error: ConfigError, *, asked: bool) -> None:
        if asked or error.message != self._refused:
            log.error("the configuration on disk is not used; the running one stays in force", error=error)
            self._observer.reloaded(outcome, error.message)
        self._refused = error.message

    def _make(self, wanted: Settings, running: RunningSources, way_out: WayOut) -> _Next:
        """Make what the wanted configuration needs and does not run yet.

        Raises:
            ConfigError: A file that it names cannot be used.
        """
        present = running.keys()
        missing = tuple(source for source in wanted.sources if source_key(wanted, source) not in present)
        made = assembly.sources(msgspec.structs.replace(wanted, sources=missing), self._spool, way_out, self._clock, self._observer)
        stores = assembly.stores(wanted, self._clock) if wanted.stores != self._next.settings.stores else ()
        return _Next(wanted, tuple(made), tuple(stores), assembly.enrolment_key(wanted))

    async def _use(self, present: Settings, wanted: Settings, way_out: WayOut) -> None:
        """Change what needs no source to stop. Stores come first: a source may wait for the room that only they make."""
        if wanted.stores != present.stores:
            self._observer.ships_to(wanted)
            await self._shipping.replace(self._next.stores)
        if wanted.spool.max_bytes != present.spool.max_bytes:
            await self._spool.resize(wanted.spool.max_bytes)
        if wanted.observability != present.observability:
            await way_out.replace(assembly.pass_through(wanted, self._observer))
        if wanted.log != present.log:
            vitals_log.flush(wait_seconds=0.0)
            vitals_log.configure(wanted.log.level)

    async def _swap(self, running: RunningSources) -> None:
        """Put the wanted sources in the place of the running ones, and state the configuration in the trail."""
        while self.settings is not self._next.settings:
            wanted = self._next.settings
            keys = {source_key(wanted, source) for source in wanted.sources}
            stopped = await running.keep_only(keys, {source.id for source in wanted.sources})
            for source_id in stopped:
                self._observer.source_ended(source_id)
            await self._spool.flush()
            async with self._changing:
                if wanted is not self._next.settings:
                    continue
                await self._spool.recall()
                await self._sealer.adopt(assembly.identity(wanted), seal_policy(wanted), self._next.enrolment)
                for settings, source in self._next.sources:
                    running.start(settings, source_key(wanted, settings), source)
                self.settings = wanted
                self._observer.configured(wanted)
                self._observer.reloaded(Reload.APPLIED)
                log.info("the configuration was replaced", config_sha256=wanted.config_sha256, stopped=stopped)
