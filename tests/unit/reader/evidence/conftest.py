"""A small store with its index, and stores of any shape."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent.reader.ask.filters import Filter
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.selecting import Question
from agent.reader.fetch import MemoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.reader.index import Index
    from tests.support.trail_factory import TrailFactory


@pytest.fixture
def indexed(tmp_path: Path) -> Iterator[Callable[..., tuple[Index, MemoryReader]]]:
    """Return a function that indexes trails, under the trust of their own keys."""
    opened: list[Index] = []

    def index(*trails: TrailFactory, trust: str | None = None) -> tuple[Index, MemoryReader]:
        objects: dict[str, bytes] = {}
        for trail in trails:
            objects |= trail.objects
        store = MemoryReader(objects)
        text = "".join(trail.trust_line for trail in trails) if trust is None else trust
        path = tmp_path / f"index-{len(opened)}.duckdb"
        refresh(store, path, trust=TrustFile.parse(text, "trust"), now=max(trail.now for trail in trails) + timedelta(seconds=1))
        opened.append(open_index(path))
        return opened[-1], store

    yield index
    for one in opened:
        one.close()


@pytest.fixture
def pack(indexed, tmp_path):
    """Return a function that makes a pack of trails, and whom to believe; further arguments are the question's."""

    def make(*trails, trust=None, name="out.zip", **asked):
        index, store = indexed(*trails, trust=trust)
        text = trust or "".join(trail.trust_line for trail in trails)
        believed = TrustFile.parse(text, "trust")
        now = max(trail.now for trail in trails) + timedelta(seconds=5)
        write_pack(tmp_path / name, index, store, Question(Filter(), **asked), trust=believed, now=now)
        return tmp_path / name, believed

    return make
