"""Whatever happened to a store between two looks: once it is whole again, its index is the one that would be made anew."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import NotVerifiedError
from agent.reader.fetch import MemoryReader
from agent.reader.index import walking
from agent.reader.index.build import update
from agent.reader.index.reading import open_index
from tests.support.index_truth import LATER, everything_in, index_of, indexed_rows, objects_of, true_rows, trust_in
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs


def _trails() -> tuple[TrailFactory, ...]:
    long = TrailFactory(seed=b"long", instance="web-7")
    for size in (120, 0, 140, 3, 255):
        long.add(size, quarantined=1)
        long.heartbeat()
    return (long, sample_trail(seed=b"other", instance="web-2"), *two_epochs())


TRAILS = _trails()
STORE = objects_of(*TRAILS)
TRUST = trust_in(*TRAILS)
TRUE = true_rows(STORE)
# In the order in which agents write: data before its seal, and a later epoch after the one that it continues.
WRITTEN = list(STORE)


class Failing(MemoryReader):
    """A store of which, for a while, nothing can be read after some reads."""

    def __init__(self, objects: dict[str, bytes], reads: int | None) -> None:
        """Read from this mapping; None never fails."""
        super().__init__(objects)
        self.left = reads

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Read, or fail."""
        if self.left is not None:
            if not self.left:
                message = "503 Slow Down"
                raise NotVerifiedError(message)
            self.left -= 1
        return super().read(key, limit_bytes)


_PLACES = st.floats(0, 1, exclude_max=True)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _PLACES),
        st.tuples(st.just("damage"), _PLACES),
        st.tuples(st.just("lose"), _PLACES),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("look and fail"), st.integers(1, 30)),
    ),
    min_size=2,
    max_size=10,
)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh") / "index"
    index_of(STORE, path, TRUST)
    return everything_in(path, without=("trails", "findings"))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(_STEPS, st.sampled_from((1, 2, 5, 4096)))
def test_an_index_of_any_history_is_the_index_of_the_store(wanted, steps, stretch):
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(walking, "_STRETCH_BATCHES", stretch)
        path = Path(folder) / "index"
        store: dict[str, bytes] = {}
        written = 0
        index_of(store, path, TRUST)
        for what, where in steps:
            if what == "write":
                more = WRITTEN[written : written + 1 + int(where * 12)]
                written += len(more)
                store.update((key, STORE[key]) for key in more)
            elif what in {"damage", "lose"} and store:
                key = list(store)[int(where * len(store))]
                store[key] = store[key][: len(store[key]) // 2] + b"?" + store[key][len(store[key]) // 2 :]
                if what == "lose":
                    del store[key]
            elif what.startswith("look"):
                index_of(Failing(store, where), path, TRUST)
                rows = indexed_rows(path)
                assert len(rows) == len(set(rows))
                assert set(rows) <= TRUE
        index_of(dict(STORE), path, TRUST)
        assert _by_origin(path, everything_in(path, without=("trails", "findings"))) == _by_origin(None, wanted)


def _by_origin(path: Path | None, tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Put origins in the place of numbers, which depend on the order in which trails were met."""
    if path is None:
        names = {number: str(origin) for number, origin in enumerate(sorted((trail.origin for trail in TRAILS), key=str))}
    else:
        with open_index(path) as index:
            names = dict(index.rows("SELECT trail, origin FROM trails"))
    return {table: sorted(((names[row[0]], *row[1:]) for row in rows), key=repr) for table, rows in tables.items()}


def test_who_asks_while_it_is_brought_up_to_date_sees_whole_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(walking, "_STRETCH_BATCHES", 1)
    trail = TRAILS[0]
    index_of({}, tmp_path / "index", TRUST)
    seen = []
    with open_index(tmp_path / "index", writable=True) as index:

        def look(_: int) -> None:
            # While it is written, by a cursor of its own, as the web page does it.
            sql = "SELECT (SELECT count(*) FROM event_rows), (SELECT coalesce(sum(events), 0) FROM batches)"
            seen.append(index.rows(sql)[0])

        update(index.connection, MemoryReader(objects_of(trail)), index.path, trust=TRUST, now=LATER, advance=look)
    assert all(rows == stated for rows, stated in seen)
    assert len({rows for rows, _ in seen}) > 3
