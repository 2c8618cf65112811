"""Read a store in a bucket of an object store: S3 and what speaks its API, Google Cloud Storage, Azure Blob.

Objects are streamed: a listing holds one page, a read one object, and its size is looked at before its body is fetched. What passes by
itself (no answer, an overload) is tried again a few times; when the store answers nothing at all any more, it is given up, so a
verification ends. What a store refuses is an error in the store's own words.

Invariants: nothing is ever written; an object counts as absent only if the store says that this key, and nothing above it, is not
there; seals are listed in ascending order or not at all. Methods may be called by several threads. It must not judge what it reads.
"""

from __future__ import annotations

import heapq
import re
import threading
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import tenacity

from ..errors import FormatError, NotVerifiedError, RefusedError, TransientError
from ..stores.bucket.access import Access, open_bucket
from ..stores.bucket.words import NO_KEY, read_answer, translate
from ..trail.layout import Origin
from .fetch import TRAILS, ObjectInfo, too_large
from .pins import Pins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore import ObjectMeta

_T = TypeVar("_T")

TRIES: Final = 5
TRYING_SECONDS: Final = 60.0
"""For how long a request is begun anew; the last try may take as long again as one request may."""
GIVEN_UP_AFTER: Final = 3
"""How many requests in a row have to fail in all their tries until the store counts as gone."""
_PAGE: Final = 1000
_ORIGIN_DEPTH: Final = 4
_SEAL_NAME: Final = re.compile(r"([0-9]{12})\.seal")
_READING: Final = "Reading needs the rights to list the bucket and to get objects and their versions; see docs/verify.md."
_HINTS: Final = {
    "NoSuchBucket": "Check the bucket's name, the endpoint and the region.",
    "ContainerNotFound": "Check the account's and the container's name.",
    "InvalidAccessKeyId": "The store does not know this access key: check AWS_ACCESS_KEY_ID or the profile, and the endpoint.",
    "SignatureDoesNotMatch": "The secret key is wrong, or something on the way changes requests.",
    "RequestTimeTooSkewed": "The store finds this machine's clock too far off: set it.",
    "AccessDenied": _READING,
}
_NO_ANSWER: Final = "Check the endpoint, the network and the certificates; nothing was decided about what could not be read."


class BucketReader:
    """Read a bucket; fulfils `StoreReader`.

    Attributes:
        name: The bucket's URL.
        access: How it is reached.
        pins: Which versions are read where a key has several; see `Pins`.
    """

    def __init__(self, access: Access, *, bucket: Any = None, wait: Any = None) -> None:
        """Open the bucket; nothing is connected to.

        Args:
            access: How it is reached, complete.
            bucket: obstore's store, keys relative to the prefix; opened by default.
            wait: How long to wait between the tries of one request, as tenacity has it; jittered back-off by default.

        Raises:
            ConfigError: The credentials' or certificates' settings cannot be used.
        """
        self.name = access.name
        self.access = access
        self.pins = Pins()
        self._bucket: Any = open_bucket(access) if bucket is None else bucket
        self._wait = tenacity.wait_random_exponential(multiplier=0.2, max=5.0) if wait is None else wait
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._given_up: NotVerifiedError | None = None

    def greet(self) -> None:
        """Ask for something, so that a wrong address or key is said once and at once.

        Raises:
            NotVerifiedError: The store cannot be read.
        """
        self._folders(TRAILS)

    def close(self) -> None:
        """Stop trying again, in all threads."""
        self._closed.set()

    def origins(self) -> Iterator[Origin]:
        """Yield the trails with a seal; see `StoreReader`. One request a folder, and one a trail."""
        failures: list[NotVerifiedError] = []
        last: Origin | None = None
        for origin in heapq.merge(self._found_origins(failures), self.pins.hidden_origins(), key=str):
            if origin != last:
                yield origin
            last = origin
        if failures:
            raise failures[0]

    def _found_origins(self, failures: list[NotVerifiedError]) -> Iterator[Origin]:
        for path in self._paths(TRAILS, _ORIGIN_DEPTH, failures):
            try:
                origin = Origin.parse(path.removeprefix(f"{TRAILS}/"))
            except FormatError:
                continue
            try:
                if any(True for _ in self._listed_seals(origin)):
                    yield origin
            except NotVerifiedError as error:
                failures.append(error)

    def _paths(self, path: str, depth: int, failures: list[NotVerifiedError]) -> Iterator[str]:
        """Yield the folders so many levels below a folder, in the order of their text; what cannot be listed is noted."""
        try:
            folders = self._folders(path)
        except NotVerifiedError as error:
            failures.append(error)
            return
        for folder in folders:
            if depth == 1:
                yield folder
            else:
                yield from self._paths(folder, depth - 1, failures)

    def folders(self, path: str) -> list[str]:
        """Return the folders in a folder; see `StoreProber`."""
        return sorted(folder.rpartition("/")[2] for folder in self._folders(path))

    def stored_at(self, key: str) -> float | None:
        """Return when an object was written; see `StoreProber`. Of a key with several versions the oldest."""
        pin = self.pins.get(key)
        return self._ask("look at", key, lambda: self._stored_at(key)) if pin is None else pin.modified

    def _stored_at(self, key: str) -> float | None:
        from obstore import head  # noqa: PLC0415  as in `agent.stores.bucket.access`

        try:
            return float(head(self._bucket, key)["last_modified"].timestamp())
        except FileNotFoundError as error:
            if read_answer(error).code in NO_KEY or not read_answer(error).code:
                return None
            raise

    def _folders(self, path: str) -> list[str]:
        from obstore import list_with_delimiter  # noqa: PLC0415  as in `agent.stores.bucket.access`

        found = self._ask("list", path, lambda: list_with_delimiter(self._bucket, path))
        # In a text, a slash follows each name; without it "a" would come before "a-b".
        return sorted(found["common_prefixes"], key=lambda folder: f"{folder}/")

    def seals(self, origin: Origin) -> Iterator[int]:
        """Yield the batches' numbers; see `StoreReader`. A store that lists in no order is an error."""
        last: int | None = None
        for number in heapq.merge(self._listed_seals(origin), self.pins.hidden_seals(origin)):
            if number != last:
                yield number
            last = number

    def _listed_seals(self, origin: Origin) -> Iterator[int]:
        folder, last = f"{TRAILS}/{origin}", -1
        for page in self._pages(folder):
            for meta in page:
                found = _SEAL_NAME.fullmatch(meta["path"].removeprefix(f"{folder}/"))
                if not found:
                    continue
                number = int(found[1])
                if number <= last:
                    message = f"{self.name} lists {meta['path']} after batch {last}: not in the order of the keys"
                    raise NotVerifiedError(message, hint="Only a store that lists in order can be verified in place.")
                last = number
                yield number

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects; see `StoreReader`."""
        for page in self._pages(prefix):
            for meta in page:
                yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())
        for key, pin in self.pins.hidden(prefix):
            yield ObjectInfo(key, pin.size, pin.modified)

    def _pages(self, prefix: str) -> Iterator[Sequence[ObjectMeta]]:
        """Yield what is listed below a folder; a listing that breaks off is taken up again where it was."""
        listing = _Listing(self._bucket, prefix)
        while (page := self._ask("list", prefix, listing.pull)) is not None:
            yield page

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; see `StoreReader`. Of a key with several versions the oldest."""
        pin = self.pins.get(key)
        return self._ask("read", key, lambda: self._read(key, limit_bytes, pin.version if pin else None))

    def _read(self, key: str, limit_bytes: int, version: str | None) -> bytes | None:
        from obstore import get  # noqa: PLC0415  as in `agent.stores.bucket.access`

        try:
            found = get(self._bucket, key, options=None if version is None else {"version": version})
        except FileNotFoundError as error:
            if read_answer(error).code in NO_KEY:
                return None
            raise
        size = found.meta["size"]
        if size > limit_bytes:
            raise too_large(key, size, limit_bytes)
        raw = bytes(found.bytes())
        if len(raw) != size:
            message = f"{key} has {size} bytes, and {len(raw)} arrived"
            raise TransientError(message)
        if version is None:
            self.pins.saw(key, found.meta["version"], found.meta["last_modified"])
        return raw

    def _ask(self, operation: str, key: str, call: Callable[[], _T]) -> _T:
        """Make a request, several times if need be.

        Raises:
            NotVerifiedError: It cannot be done, or the store was given up.
        """
        if self._given_up is not None:
            raise self._given_up
        place = f"{self.access.address}/{key}".rstrip("/")
        try:
            answer = self._try(partial(_once, operation, place, call))
        except RefusedError as error:
            raise NotVerifiedError(error.message, hint=error.hint) from error
        except TransientError as error:
            failure = NotVerifiedError(error.message, hint=_NO_ANSWER)
            self._count_failure(error)
            raise failure from error
        self._failed_in_a_row = 0
        return answer

    def _try(self, once: Callable[[], _T]) -> _T:
        try:
            # Nearly always enough, and what is prepared for more tries costs half as much as reading a seal.
            return once()
        except TransientError as error:
            if not _may_pass(error) or self._closed.is_set():
                raise
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(TRIES - 1)
            | tenacity.stop_after_delay(TRYING_SECONDS)
            | tenacity.stop_when_event_set(self._closed),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(self._closed),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        answer: _T = retrying(once)
        return answer

    def _count_failure(self, error: TransientError) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= GIVEN_UP_AFTER and self._given_up is None:
                self._given_up = NotVerifiedError(f"{self.name} was given up, as it answers no more: {error.message}", hint=_NO_ANSWER)


class _Listing:
    """A listing that can be taken up again."""

    def __init__(self, bucket: Any, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._stream: Any = None
        self._last: str | None = None
        self._sorted = True

    def pull(self) -> Sequence[ObjectMeta] | None:
        """Return the next page, or None after the last one; after an exception, the same page is asked for again."""
        from obstore import list as begin  # noqa: PLC0415  as in `agent.stores.bucket.access`

        if self._stream is None:
            if not self._sorted:
                message = f"the listing of {self._prefix or 'the bucket'} broke off, and has no order in which it could go on"
                raise NotVerifiedError(message, hint=_NO_ANSWER)
            self._stream = begin(self._bucket, prefix=self._prefix or None, offset=self._last, chunk_size=_PAGE)
        try:
            page: Sequence[ObjectMeta] | None = next(self._stream, None)
        except Exception:
            self._stream = None
            raise
        if page:
            paths = [meta["path"].encode() for meta in page]
            before = self._last.encode() if self._last is not None else b""
            self._sorted = self._sorted and before < paths[0] and all(one < other for one, other in pairwise(paths))
            self._last = page[-1]["path"]
        return page


def _once(operation: str, place: str, call: Callable[[], _T]) -> _T:
    """Make a request once, and translate what goes wrong."""
    from obstore.exceptions import BaseError, InvalidPathError  # noqa: PLC0415  as in `agent.stores.bucket.access`

    try:
        return call()
    except InvalidPathError as error:
        hint = "Somebody stored an object under such a key. A copy of trails/ and records/ in a folder can be verified."
        raise RefusedError(f"cannot {operation} {place}: {read_answer(error).words}", hint=hint) from error
    except (BaseError, OSError, ValueError) as error:
        failure = translate(operation, place, error)
        if isinstance(failure, RefusedError):
            raise RefusedError(failure.message, hint=_HINTS.get(read_answer(error).code, _READING)) from error
        raise failure from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, RefusedError)
