"""A small store with something of everything, and a drill over a copy of it."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from agent.reader.drill.catalogue import CATALOGUE
from agent.reader.drill.forge import with_manifest
from agent.reader.drill.run import Drill, Exercise
from agent.reader.drill.store_copy import copy_store, plan
from agent.reader.fetch import MemoryReader
from agent.trail.manifest import ManifestReason, encode_manifest
from agent.trail.seal import parse_seal
from tests.support.copying import trust_of
from tests.support.index_truth import objects_of
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.reader.drill.values import Result, Tampering


def long_trail(**arguments: Any) -> TrailFactory:
    """Return a trail with gaps, quarantines, heartbeats, stops and pauses."""
    made = TrailFactory(**({"seed": b"long", "instance": "long"} | arguments))
    for number in range(12):
        made.add(5, quarantined=int(number % 3 == 0), gaps=int(number % 5 == 3))
        if number % 4 == 0:
            made.heartbeat()
        if number == 6:
            made.stop()
            made.resume(after_seconds=3600)
    made.add(2, reason=ManifestReason.SIZE)
    made.stop()
    return made


def company() -> tuple[TrailFactory, ...]:
    """Return trails of three instances, one of which has two epochs."""
    return long_trail(), sample_trail(seed=b"other", service="orders"), *two_epochs()


def naming(key: str, *trails: TrailFactory) -> dict[str, bytes]:
    """Return these trails' objects, every seal of data edited so that it names this key, as whoever may change the store can."""
    objects = objects_of(*trails)
    for place, raw in objects.items():
        if place.endswith(".seal"):
            manifest = parse_seal(raw).manifest
            if manifest.data is not None:
                edited = msgspec.structs.replace(manifest, data=msgspec.structs.replace(manifest.data, key=key))
                objects[place] = with_manifest(raw, encode_manifest(edited))
    return objects


def moment_of(*trails: TrailFactory) -> datetime:
    return max(trail.now for trail in trails) + timedelta(seconds=1)


def copy_of(folder: Path, *trails: TrailFactory, objects: dict[str, bytes] | None = None) -> Path:
    """Copy a store of these trails into a folder, as a drill does."""
    now = moment_of(*trails)
    # An hour old, so that nothing in it is still in flight.
    store = MemoryReader(objects_of(*trails) if objects is None else objects, modified=now.timestamp() - 3600)
    copy = folder / "copy"
    copy.mkdir(parents=True)
    copy_store(store, plan(store, max_bytes=1 << 26, origin_glob=None), copy, clock=lambda: now)
    return copy


def drill(copy: Path, *trails: TrailFactory, seed: int = 1, catalogue: Sequence[Tampering] = CATALOGUE, **options: Any) -> Exercise:
    """Run a drill over a copy."""
    ticks = itertools.count()
    settings: dict[str, Any] = {"trust": trust_of(*trails), "now": moment_of(*trails)} | options
    made = Drill(copy, seed=seed, clock_seconds=lambda: float(next(ticks)), **settings)
    return made.run(catalogue=catalogue)


def named(*names: str) -> tuple[Tampering, ...]:
    """Return these entries of the catalogue."""
    return tuple(tampering for tampering in CATALOGUE if tampering.name in names)


def outcomes(exercise: Exercise) -> dict[str, Result]:
    return {result.tampering.name: result for result in exercise.results}
