"""What stands behind the pages: the index, the store, the grants and the recorder, and the bounds within which they are asked.

Invariants: a page gets at the index through `ask` only, and what it gets is a `Sight` of its own grant; a question runs in a thread, has
a time after which it is stopped, and so many run at once and no more. This module must not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import duckdb

from .noting import Notes
from .outgoing import Outgoing
from .problems import TooMuch, TooSlow, Unavailable
from .sight import Sight

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ...events.catalog import Catalog
    from ..fetch import StoreReader
    from ..index import Index
    from ..trustfile import TrustFile
    from .audit import Recorder
    from .book import Book
    from .grants import Grant, Key

T = TypeVar("T")
_AT_ONCE: Final = 4
_WAITING_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one request may cost.

    Attributes:
        query_seconds: The longest a page may take.
        export_seconds: The longest a file may take.
        page_events: Events on one page.
        export_events: Events in one CSV or NDJSON file.
        pack_events: Events in one pack.
        body_bytes: The longest body, which is a token's.
        address_characters: The longest path and query.
        files: Files that are made or being sent at once.
        sending_seconds: The longest a client may take to read a file.
        failed_tokens: Wrong tokens a minute from one address, and ten times as many from all.
    """

    query_seconds: float = 15.0
    export_seconds: float = 120.0
    page_events: int = 50
    export_events: int = 200_000
    pack_events: int = 5_000
    body_bytes: int = 8_192
    address_characters: int = 8_000
    files: int = 8
    sending_seconds: float = 1800.0
    failed_tokens: int = 10


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Desk:
    """Everything the pages need; made once.

    Attributes:
        index: The whole index; only `ask` may use it.
        store: The store the index is of.
        trust: Whom the operator believes.
        catalog: Gives actions their category; None without one.
        book: The grants.
        key: What signs their tokens.
        recorder: Where every access is written.
        bounds: What a request may cost.
        secure: Whether clients come by TLS, so that the cookie can be bound to it.
        behind_proxy: Whether the last address in ``X-Forwarded-For`` is the client's.
        now: The clock.
        trail_folder: The folder of the recorder's trail; that of the book by default.
        notes: Records what is new in the book.
        outgoing: Counts the files that are held.
        trouble: Why the index could not be refreshed the last time, if so; for the operator's log only.
    """

    index: Index
    store: StoreReader
    trust: TrustFile
    catalog: Catalog | None
    book: Book
    key: Key
    recorder: Recorder
    bounds: Bounds = field(default_factory=Bounds)
    secure: bool = False
    behind_proxy: bool = False
    now: Callable[[], datetime] = _now
    trouble: str | None = None
    trail_folder: Path | None = None
    notes: Notes = field(init=False)
    outgoing: Outgoing = field(init=False)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, "view"))
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def __post_init__(self) -> None:
        """Make what records the grants, and what counts the files."""
        self.outgoing = Outgoing(self.bounds.files)
        self.notes = Notes(self.book, self.recorder, self.index.store, self.trail_folder or self.book.folder)

    async def ask(self, grant: Grant, question: Callable[[Sight], T], *, seconds: float | None = None) -> T:
        """Ask the index within a grant's scope, in a thread.

        Args:
            grant: Whose scope bounds the answer.
            question: Called with the sight; it must not keep it.
            seconds: When it is stopped; `Bounds.query_seconds` by default.

        Raises:
            Unavailable: It took too long, needed too much memory, or too many ask at once.
        """
        try:
            await asyncio.wait_for(self._places.acquire(), _WAITING_SECONDS)
        except TimeoutError:
            raise Unavailable("Too many questions are being answered. Try again in a moment.") from None
        sights: list[Sight] = []
        stopped = False

        def run() -> T:
            with Sight(self.index, grant.scope, everything=grant.everything) as sight:
                sights.append(sight)
                if stopped:
                    raise TooSlow
                return question(sight)

        asked = asyncio.get_running_loop().run_in_executor(self._threads, run)
        asked.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(self.bounds.query_seconds if seconds is None else seconds):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise TooSlow from None
        except duckdb.OutOfMemoryException as error:
            raise TooMuch from error
        finally:
            if not asked.done():
                stopped = True
                for sight in sights:
                    sight.interrupt()
                # Nobody waits for it any more; what it ends with is of no interest.
                asked.add_done_callback(_forget)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _forget(asked: asyncio.Future[Any]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        asked.exception()
