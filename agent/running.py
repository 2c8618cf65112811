"""The sources that run now, started, stopped and replaced one by one, and where their other lines go.

Invariants:
    - A source is stopped by its own `stop`, so it brings in what lies at hand and ends at the end of a line; a stream, which
      ends only when its other side does, is cancelled, and what it had not submitted stays with the relay's parent.
    - A source that ends without having been told to ends the agent.
    - No two sources with one id ever run at the same time: the second one's cursors are those the first one left.

It must not know why a source comes or goes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .errors import TrailsealError

if TYPE_CHECKING:
    from collections.abc import Container

    from .config import Source as SourceSettings
    from .passthrough import PassThrough
    from .sources.base import Source

CLOSE_SECONDS: Final = 2.0
"""How long a pass-through may go on writing what it holds."""


class WayOut:
    """Hand observability bytes to the pass-through of the moment; a `Sink`.

    Attributes:
        passing: That pass-through.
    """

    def __init__(self, passing: PassThrough) -> None:
        """Begin with one."""
        self.passing = passing

    def write(self, data: bytes, channel: str) -> None:
        """Queue bytes for a channel."""
        self.passing.write(data, channel)

    async def replace(self, passing: PassThrough) -> None:
        """Use another one from now on, and let the former write what it holds."""
        former, self.passing = self.passing, passing
        await former.close(CLOSE_SECONDS)

    async def close(self) -> None:
        """Write what is held, within a bound."""
        await self.passing.close(CLOSE_SECONDS)


@dataclass(eq=False)
class Running:
    """Be one source at work.

    Attributes:
        settings: What it was made from.
        key: Equal keys mean an equal behaviour.
        source: The source.
        stop: Tells it to bring in what lies at hand and return.
        task: Its run; the result says whether it reached its input's end.
    """

    settings: SourceSettings
    key: tuple[object, ...]
    source: Source
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[bool] | None = None

    @property
    def done(self) -> bool:
        """Whether its run is over."""
        return self.task is not None and self.task.done()

    @property
    def reached_end(self) -> bool:
        """Whether its run is over because it reached its input's end."""
        return self.task is not None and self.task.done() and not self.task.cancelled() and self.task.result()


class RunningSources:
    """Run sources in a task group; used from the event loop only."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        """Begin with none; a source that fails fails the group."""
        self._group = group
        self._running: list[Running] = []
        self._unread = False

    def start(self, settings: SourceSettings, key: tuple[object, ...], source: Source) -> None:
        """Start a source."""
        one = Running(settings, key, source)
        one.task = self._group.create_task(_run(one), name=settings.id)
        self._running.append(one)

    def keys(self) -> set[tuple[object, ...]]:
        """Return the keys of what runs and was not told to stop."""
        return {one.key for one in self._running if not one.stop.is_set()}

    def streams_among(self, keys: Container[tuple[object, ...]]) -> bool:
        """Say whether one of the sources without these keys is a stream."""
        return any(one.settings.is_stream for one in self._running if one.key not in keys)

    async def keep_only(self, keys: Container[tuple[object, ...]], ids: Container[str]) -> list[str]:
        """Stop every source that has none of these keys, wait until all that were told to stop have returned; return their ids.

        Args:
            keys: Whose sources run on.
            ids: Sources of these ids will be started again, at the place where they stopped.
        """
        leaving = [one for one in self._running if one.key not in keys or one.stop.is_set()]
        for one in leaving:
            one.stop.set()
        tasks = [one.task for one in leaving if one.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        for one in leaving:
            self._running.remove(one)
            self._unread |= one.settings.id not in ids and not one.reached_end
        return [one.settings.id for one in leaving]

    def stop(self) -> None:
        """Tell all of them to stop; streams go on."""
        for one in self._running:
            one.stop.set()

    def cancel_streams(self) -> None:
        """End the streams where they are; what they had not submitted is sent again to the next worker."""
        for one in self._running:
            if one.settings.is_stream and one.task is not None:
                one.task.cancel()

    async def streams_ended(self) -> None:
        """Wait until every stream has ended; for ever if there is none."""
        tasks = [one.task for one in self._running if one.settings.is_stream and one.task is not None]
        await (asyncio.wait(tasks) if tasks else asyncio.Event().wait())

    @property
    def only_streams(self) -> bool:
        """Whether there are streams and nothing else."""
        return bool(self._running) and all(one.settings.is_stream for one in self._running)

    @property
    def reached_ends(self) -> bool:
        """Whether every source, also one that was removed before, was read to its end."""
        return not self._unread and all(one.reached_end for one in self._running)

    @property
    def respawns(self) -> int:
        """How often the relay's parent had started a worker anew when it started this one."""
        return max((getattr(one.source, "respawns", 0) for one in self._running), default=0)


async def _run(one: Running) -> bool:
    """Run one source; say whether it reached its input's end."""
    outcome = await one.source.run(one.stop)
    if not one.settings.is_stream and not one.stop.is_set():
        message = f"the source {one.settings.id} ended by itself"
        raise TrailsealError(message, hint="This is a defect of the agent; its state is intact. Please report it.")
    return outcome is not False
