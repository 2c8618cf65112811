"""Read what will be asked for next while the present batch is checked, because a store far away answers late.

While a trail's seals are gone through, the next ones are fetched; a seal that has arrived names its data, so that is fetched, too.

Invariants: what comes out is what the store underneath would have said: only bytes that arrived whole are used, and whatever went
wrong ahead of time is forgotten and asked for again in its turn, where an error belongs. The number of requests under way and the
bytes held are bounded. It must not judge anything: what it takes for a data key is a guess until a seal was checked.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ..errors import FormatError, NotVerifiedError
from ..trail.layout import parse_data_key, seal_key

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ..trail.layout import Origin
    from .fetch import ObjectInfo, StoreReader

BATCHES_AHEAD: Final = 16
BYTES_AHEAD: Final = 32 << 20
_SEAL_BYTES: Final = 256 << 10
"""No usual seal is larger; a larger one is read in its turn."""
_DATA: Final = re.compile(rb'"data":\{"key":"(records/[^"\\]+)","bytes":([0-9]{1,10}),')


class _Fetched(NamedTuple):
    """A read under way, and how many bytes it is expected to hold."""

    future: Future[bytes | None]
    size: int


class _Walk:
    """One passage over the seals of a trail."""

    def __init__(self) -> None:
        self.wants_data = True
        self.wasted = 0
        self.data: dict[int, str] = {}


class ReadAhead:
    """A `StoreReader` that reads ahead in another one, with threads; that one must allow several at once."""

    def __init__(self, store: StoreReader, *, batches: int = BATCHES_AHEAD, held_bytes: int = BYTES_AHEAD) -> None:
        """Prepare.

        Args:
            store: What is read from.
            batches: How many batches ahead, and how many requests at once.
            held_bytes: How many bytes of data objects may be under way or held at most.
        """
        self.name = store.name
        self._store = store
        self._batches, self._room = batches, held_bytes
        self._pool = ThreadPoolExecutor(batches, thread_name_prefix="read-ahead")
        self._lock = threading.Lock()
        self._fetched: dict[str, _Fetched] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def origins(self) -> Iterator[Origin]:
        """Yield the trails with a seal; see `StoreReader`."""
        return self._store.origins()

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects; see `StoreReader`."""
        return self._store.objects(prefix)

    def seals(self, origin: Origin) -> Generator[int]:
        """Yield the batches' numbers; see `StoreReader`. What was fetched for a number is kept until the next one is asked for."""
        walk, failure = _Walk(), None
        numbers = self._store.seals(origin)
        window: deque[int] = deque()
        listed_all = False
        try:
            while True:
                while not listed_all and len(window) < self._batches:
                    try:
                        number = next(numbers)
                    except StopIteration:
                        listed_all = True
                    except NotVerifiedError as error:
                        # What was listed before it is verified all the same.
                        listed_all, failure = True, error
                    else:
                        window.append(number)
                        self._begin_seal(walk, number, seal_key(origin, number))
                if not window:
                    break
                yield window[0]
                self._forget(walk, origin, window.popleft())
        finally:
            for number in window:
                self._forget(walk, origin, number)
        if failure is not None:
            raise failure

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`."""
        fetched = self._take(key)
        if fetched is not None:
            try:
                raw = fetched.future.result()
            except Exception:  # noqa: BLE001 -- whatever it was, asking again in its turn shows it where it belongs
                raw = None
            if raw is not None and len(raw) <= limit_bytes:
                return raw
        return self._store.read(key, limit_bytes)

    def _take(self, key: str) -> _Fetched | None:
        with self._lock:
            fetched = self._fetched.pop(key, None)
            if fetched is not None:
                self._room += fetched.size
        return fetched

    def _begin_seal(self, walk: _Walk, number: int, key: str) -> None:
        with self._lock:
            self._fetched[key] = _Fetched(self._pool.submit(self._fetch_seal, walk, number, key), 0)

    def _fetch_seal(self, walk: _Walk, number: int, key: str) -> bytes | None:
        raw = self._store.read(key, _SEAL_BYTES)
        found = _DATA.search(raw) if raw is not None and walk.wants_data else None
        if found is not None:
            self._begin_data(walk, number, found[1].decode("ascii", "replace"), int(found[2]))
        return raw

    def _begin_data(self, walk: _Walk, number: int, key: str, size: int) -> None:
        try:
            # It comes from the store, so only one of the right form may become a request.
            parse_data_key(key)
        except FormatError:
            return
        with self._lock:
            if size > self._room or key in self._fetched or not walk.wants_data:
                return
            try:
                self._fetched[key] = _Fetched(self._pool.submit(self._store.read, key, size), size)
            except RuntimeError:
                # The pool was shut down meanwhile.
                return
            self._room -= size
            walk.data[number] = key

    def _forget(self, walk: _Walk, origin: Origin, number: int) -> None:
        """Drop what was fetched for a number and not read."""
        seal = self._take(seal_key(origin, number))
        if seal is not None and not seal.future.cancel():
            # It may still be about to begin its data, which would stay behind.
            self._stop_data(walk)
        data = self._take(walk.data.pop(number, ""))
        if data is not None:
            data.future.cancel()
            walk.wasted += 1
            if walk.wasted >= self._batches:
                # Somebody goes over the seals alone, so their data would be fetched in vain.
                self._stop_data(walk)

    def _stop_data(self, walk: _Walk) -> None:
        # Under the lock, so that whoever began data before this has entered it in `walk.data` by then.
        with self._lock:
            walk.wants_data = False
