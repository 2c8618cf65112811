"""Copying between stores in memory: a target that notes what is asked of it, one that dies, one that fails; and trails to copy."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import tenacity

from agent.copying import Options, Report, Target, copy_store
from agent.copying.verifying import verify_copy
from agent.reader.fetch import MemoryReader
from agent.reader.trustfile import TrustFile
from agent.stores import MemoryStore
from agent.trail.layout import parse_seal_key, seal_key
from agent.trail.seal import parse_seal
from tests.support.trail_factory import TrailFactory, sample_trail

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent.reader.verify import Report as Verification

OBJECTS: Final = 11
"""How many objects `sample_trail` has: 8 seals, and the data of three batches."""


class KilledError(Exception):
    """The process died here."""


class Recording(MemoryStore):
    """A store in memory that notes what is asked of it, and whose answers come when they like."""

    def __init__(self, parallel: int = 1, killed_at: int | None = None) -> None:
        """Say how many batches' data go in parallel, and at which create to die."""
        super().__init__()
        self.created: list[str] = []
        self.read_keys: list[str] = []
        self.attempts = 0
        self._parallel, self._killed_at = parallel, killed_at

    @property
    def parallel(self) -> int:
        return self._parallel

    async def create(self, key: str, data: bytes) -> bool:
        self.attempts += 1
        if self.attempts == self._killed_at:
            raise KilledError
        # Data that comes first answers last.
        for _ in range(len(data) % 7 if key.startswith("records/") else 1):
            await asyncio.sleep(0)
        created = await super().create(key, data)
        if created:
            self.created.append(key)
        return created

    async def read(self, key: str) -> bytes | None:
        self.read_keys.append(key)
        return await super().read(key)


class Failing(Recording):
    """A store that answers some of its first calls with these errors."""

    def __init__(self, *errors: Exception) -> None:
        """Say what to answer first."""
        super().__init__()
        self._errors = list(errors)

    async def create(self, key: str, data: bytes) -> bool:
        if self._errors:
            raise self._errors.pop(0)
        return await super().create(key, data)


def merged(*trails: TrailFactory) -> dict[str, bytes]:
    return {key: raw for trail in trails for key, raw in trail.objects.items()}


def trust_of(*trails: TrailFactory) -> TrustFile:
    return TrustFile.parse("".join(trail.trust_line for trail in trails), "trust")


def clock_of(*trails: TrailFactory) -> Callable[[], datetime]:
    moment = max(trail.now for trail in trails) + timedelta(seconds=5)
    return lambda: moment


def target_of(store: MemoryStore, **settings: object) -> Target:
    return Target("the target", store, **{"wait": tenacity.wait_none(), **settings})  # type: ignore[arg-type]


def copy(objects: dict[str, bytes] | MemoryReader, store: MemoryStore, *trails: TrailFactory, **settings: object) -> Report:
    """Copy some trails out of these objects; `trust`, `origin_glob` and settings of the target by name."""
    options = Options(trust=settings.pop("trust", None), origin_glob=settings.pop("origin_glob", None))  # type: ignore[arg-type]
    reader = objects if isinstance(objects, MemoryReader) else MemoryReader(objects)
    now = clock_of(*trails)
    return asyncio.run(copy_store(reader, target_of(store, **settings), options, now=now))


def verified(store: MemoryStore, *trails: TrailFactory, origin_glob: str | None = None) -> Verification:
    """Verify what is in the target as the end of the command does."""
    now = clock_of(*trails)()
    reader = MemoryReader(store.objects, modified=now.timestamp())
    return verify_copy(reader, [trail.origin for trail in trails], trust=trust_of(*trails), origin_glob=origin_glob, now=now)


def codes(verification: Verification) -> set[str]:
    return {finding.code.value for finding in verification.log.kept}


def other_trail() -> TrailFactory:
    return sample_trail(seed=b"other", service="orders")


def assert_a_beginning(store: MemoryStore) -> None:
    """Every seal's data is there, and every seal before it."""
    for key in store.objects:
        if not key.startswith("trails/"):
            continue
        origin, batch = parse_seal_key(key)
        assert batch == 0 or seal_key(origin, batch - 1) in store.objects
        data = parse_seal(store.objects[key]).manifest.data
        assert data is None or data.key in store.objects


def data_of(trail: TrailFactory, batch: int) -> str:
    data = parse_seal(trail.objects[seal_key(trail.origin, batch)]).manifest.data
    assert data is not None
    return data.key
