"""Reading ahead changes nothing of what is read, and is bounded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from agent.errors import NotVerifiedError
from agent.reader.ahead import ReadAhead
from agent.reader.fetch import MemoryReader
from agent.trail.layout import seal_key
from tests.support.trail_factory import TrailFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.trail.layout import Origin

LIMIT = 1 << 20


class Counting(MemoryReader):
    """Count what is read, and by whom; some keys fail at first, or for ever."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        """Read these objects, all of them well."""
        super().__init__(objects)
        self.reads: list[str] = []
        self.ahead: list[str] = []
        self.failing: dict[str, int] = {}
        self.listing_fails_after: int | None = None
        self._lock = threading.Lock()

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        with self._lock:
            self.reads.append(key)
            if threading.current_thread() is not threading.main_thread():
                self.ahead.append(key)
            left = self.failing.get(key, 0)
            self.failing[key] = left - 1
        if left > 0:
            raise NotVerifiedError("not now")
        return super().read(key, limit_bytes)

    def seals(self, origin: Origin) -> Iterator[int]:
        for count, number in enumerate(super().seals(origin)):
            if count == self.listing_fails_after:
                raise NotVerifiedError("the listing broke off")
            yield number


@pytest.fixture
def trail() -> TrailFactory:
    made = TrailFactory()
    for number in range(40):
        made.add(2) if number % 2 else made.heartbeat()
    made.stop()
    return made


@pytest.fixture
def store(trail) -> Counting:
    return Counting(trail.objects)


def data_keys(trail: TrailFactory) -> list[str]:
    return [key for key in trail.objects if key.startswith("records/")]


def walk(ahead: ReadAhead, trail: TrailFactory, *, data: bool = True) -> dict[str, bytes | None]:
    """Read everything in the order of a verification."""
    by_batch = dict(zip((number for number in range(1, 41) if not number % 2), data_keys(trail), strict=True))
    found: dict[str, bytes | None] = {}
    for number in ahead.seals(trail.origin):
        keys = [seal_key(trail.origin, number), *([by_batch[number]] if data and number in by_batch else [])]
        found |= {key: ahead.read(key, LIMIT) for key in keys}
    return found


def test_everything_is_read_once_and_ahead(trail, store):
    with ReadAhead(store) as ahead:
        assert walk(ahead, trail) == trail.objects
    assert sorted(store.reads) == sorted(store.ahead) == sorted(trail.objects)


def test_no_more_than_so_many_batches_are_read_ahead(trail, store):
    with ReadAhead(store, batches=4) as ahead:
        seals = ahead.seals(trail.origin)
        next(seals)
        seals.close()
    assert len(store.reads) <= 4 + 2
    assert store.reads


def test_no_more_bytes_are_held_than_allowed(trail, store):
    with ReadAhead(store, held_bytes=1) as ahead:
        assert walk(ahead, trail) == trail.objects
    assert not {key for key in store.ahead if key.startswith("records/")}


def test_what_failed_ahead_is_asked_for_again_in_its_turn(trail, store):
    store.failing = {seal_key(trail.origin, 3): 1, data_keys(trail)[2]: 1}
    with ReadAhead(store) as ahead:
        assert walk(ahead, trail) == trail.objects


def test_what_fails_for_good_fails_in_its_turn(trail, store):
    bad = seal_key(trail.origin, 20)
    store.failing = {bad: 99}
    with ReadAhead(store) as ahead:
        numbers = ahead.seals(trail.origin)
        for number in range(20):
            assert next(numbers) == number
            assert ahead.read(seal_key(trail.origin, number), LIMIT) == trail.objects[seal_key(trail.origin, number)]
        assert next(numbers) == 20
        with pytest.raises(NotVerifiedError, match="not now"):
            ahead.read(bad, LIMIT)
        assert list(numbers) == list(range(21, 42))


def test_what_was_absent_ahead_is_looked_for_again(trail, store):
    key = data_keys(trail)[0]
    raw = trail.objects.pop(key)
    with ReadAhead(store) as ahead:
        seals = ahead.seals(trail.origin)
        next(seals)
        trail.objects[key] = raw
        assert ahead.read(key, LIMIT) == raw
        seals.close()


def test_a_listing_that_breaks_off_does_so_after_what_it_listed(trail, store):
    store.listing_fails_after = 10
    numbers: list[int] = []
    with ReadAhead(store) as ahead, pytest.raises(NotVerifiedError, match="broke off"):
        numbers.extend(ahead.seals(trail.origin))
    assert numbers == list(range(10))


def test_who_reads_seals_alone_does_not_pay_for_the_data(trail, store):
    with ReadAhead(store, batches=3) as ahead:
        walk(ahead, trail, data=False)
    assert len([key for key in store.reads if key.startswith("records/")]) <= 3 + 3


def test_a_limit_holds_for_what_was_read_ahead(trail, store):
    with ReadAhead(store) as ahead:
        seals = ahead.seals(trail.origin)
        next(seals)
        with pytest.raises(NotVerifiedError, match="reads no more than 10"):
            ahead.read(seal_key(trail.origin, 0), 10)
        seals.close()


def test_a_key_that_is_none_of_data_is_not_asked_for(trail, store):
    key = data_keys(trail)[0]
    store.contents = {name: raw.replace(key.encode(), b"records/../" + b"x" * (len(key) - 11)) for name, raw in trail.objects.items()}
    with ReadAhead(store) as ahead:
        for number in ahead.seals(trail.origin):
            ahead.read(seal_key(trail.origin, number), LIMIT)
    assert not [key for key in store.reads if ".." in key]
