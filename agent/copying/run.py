"""Copying itself: family after family, trail after trail, each as it would have been shipped.

One thread reads and checks the next batch while the ones before it are on their way; of these, data objects go in parallel, as many as
the target has use for, and seals strictly in order, each after its data and after the seal before it.

Invariants: whatever kills this between any two requests leaves of each trail a beginning that verifies, and objects that wait for their
seal; a trail ends at the first batch that is not in order or that the target contradicts, and the others go on; when the target takes
nothing more, everything ends. Memory holds as many batches as are on their way.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import TransientError
from .outcome import Cause, Failure, Report, Stop, TrailOutcome
from .progress import SILENT
from .source import Source
from .target import Placed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ..reader.fetch import StoreReader
    from ..reader.links import Family
    from ..reader.trustfile import TrustFile
    from ..trail.layout import Origin
    from .progress import Bar
    from .source import Batch, SourceTrail
    from .target import Target

_T = TypeVar("_T")

AGAIN: Final = "Run the command again once that is mended: what is there is compared, and the rest is copied."
NO_LOCK: Final = (
    "Give the bucket Object Lock with a default retention (docs/stores.md); or ask for one with --to-retention DAYS "
    "--to-retention-by object; or accept that there is none with --allow-unlocked."
)
_BY_ITSELF: Final = re.compile(r"(?:; i|\. I)t is tried again by itself\.$")


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be copied.

    Attributes:
        trust: Whom to believe: a trail that it does not vouch for is not copied. None to copy whatever is in order by itself.
        origin_glob: The trails to copy, a pattern of four parts; None for all.
    """

    trust: TrustFile | None = None
    origin_glob: str | None = None


async def copy_store(source: StoreReader, target: Target, options: Options, *, now: Callable[[], datetime], bar: Bar = SILENT) -> Report:
    """Copy the trails of a store.

    Args:
        source: The store; one thread reads it.
        target: Where to.
        options: What.
        now: The clock, aware, in UTC.
        bar: Told how far it is.

    Returns:
        The report, without a verification. Nothing that either store holds makes this raise, nor does a target that fails.
    """
    copying = _Copying(source, target, options, now, bar)
    try:
        await copying.run()
    finally:
        copying.end()
    return copying.report()


class _Copying:
    """One run."""

    def __init__(self, store: StoreReader, target: Target, options: Options, now: Callable[[], datetime], bar: Bar) -> None:
        self._name, self._target, self._now, self._bar = store.name, target, now, bar
        self._began = now()
        self._failure: Failure | None = None
        self._source = Source(store, options.trust, options.origin_glob, bar.read)
        self._trails: list[TrailOutcome] = []
        self._warnings: tuple[str, ...] = ()
        # One thread, because nothing promises that a listing may be taken up by another.
        self._thread = ThreadPoolExecutor(1, "copy-source")

    def report(self) -> Report:
        return Report(
            source=self._name,
            target=self._target.name,
            dry_run=self._target.dry_run,
            began=self._began,
            trails=tuple(self._trails),
            log=self._source.log,
            probes=self._source.probes,
            warnings=self._warnings,
            failure=self._failure,
        )

    def end(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        families = await self._read(self._source.families)
        try:
            if families:
                # Not before, because it leaves a probe in a bucket.
                self._warnings = await self._target.examine()
            for family in families:
                for origin in family.order:
                    await self._copy_trail(family, origin)
                await self._read(partial(self._source.judge_links, family))
        except TransientError as error:
            self._failure = Failure(error.message, _hint(error))
        else:
            await self._read(lambda: self._source.look_beside(self._now().timestamp()))

    async def _read(self, call: Callable[[], _T]) -> _T:
        """Call what blocks, in the thread that reads the source."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _copy_trail(self, family: Family, origin: Origin) -> None:
        trail = await self._read(partial(self._source.trail, family, origin))
        outcome = TrailOutcome(origin)
        self._trails.append(outcome)
        listed = -1 if self._target.newest is None else await asyncio.to_thread(self._target.newest, origin)
        try:
            if await self._copy_batches(trail, outcome, listed):
                await self._copy_cosignatures(trail, outcome, listed)
        finally:
            outcome.key, outcome.trusted_by = trail.checker.tally.key, trail.checker.tally.trusted_by
            outcome.stop = outcome.stop or trail.stop

    async def _copy_batches(self, trail: SourceTrail, outcome: TrailOutcome, listed: int) -> bool:
        """Copy the batches of a trail; False if the target contradicts one."""
        batches = trail.batches()
        window: deque[asyncio.Task[bool]] = deque()
        before: asyncio.Task[bool] | None = None
        try:
            while (batch := await self._read(partial(next, batches, None))) is not None:
                before = asyncio.create_task(self._copy_batch(batch, before, outcome, likely=batch.number <= listed))
                window.append(before)
                if len(window) > self._target.parallel and not await window.popleft():
                    return False
            return before is None or await before
        finally:
            # After a failure; otherwise they are at their ends.
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    async def _copy_batch(self, batch: Batch, before: asyncio.Task[bool] | None, outcome: TrailOutcome, *, likely: bool) -> bool:
        """Copy a batch's data, then, after the batch before it, its seal; False if the trail ends before it."""
        conflict = None
        if batch.data_key is not None and await self._place(batch.data_key, batch.data, outcome, likely=likely):
            conflict = batch.data_key
        if before is not None and not await before:
            return False
        if conflict is None and await self._place(batch.seal_key, batch.seal, outcome, likely=likely):
            conflict = batch.seal_key
        if conflict is not None:
            outcome.stop = self._conflict(batch.number, conflict)
            return False
        outcome.batches = batch.number + 1
        outcome.records += batch.records
        return True

    async def _copy_cosignatures(self, trail: SourceTrail, outcome: TrailOutcome, listed: int) -> None:
        """Copy what witnesses put beside the seals, now that those are there."""
        found = trail.cosignatures(outcome.batches)
        while (cosignature := await self._read(partial(_next, found))) is not None:
            key, raw = cosignature
            if await self._place(key, raw, outcome, likely=listed >= 0):
                outcome.stop = self._conflict(outcome.batches, key)
                return
            outcome.cosignatures += 1

    async def _place(self, key: str, data: bytes, outcome: TrailOutcome, *, likely: bool) -> bool:
        """Put an object into the target, and count it; True if other bytes are there."""
        placed = await self._target.place(key, data, likely=likely)
        if placed is Placed.CONFLICT:
            return True
        self._bar.placed()
        if placed is Placed.PRESENT:
            outcome.present += 1
        else:
            outcome.created += 1
            outcome.created_bytes += len(data)
        return False

    def _conflict(self, batch: int, key: str) -> Stop:
        return Stop(batch, Cause.CONFLICT, key, f"{self._target.name} holds other bytes under {key} than {self._name}")


def _hint(error: TransientError) -> str:
    """Return what a person can do: the store's own hint, but that nothing is tried again by itself here."""
    if "allow_unlocked" in error.hint:
        return NO_LOCK
    if error.hint == type(error).default_hint:
        return AGAIN
    return f"{_BY_ITSELF.sub('.', error.hint)} {AGAIN}"


def _next(found: Any) -> tuple[str, bytes] | None:
    cosignature: tuple[str, bytes] | None = next(found, None)
    return cosignature
