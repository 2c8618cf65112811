"""Show how far a verification is: first the versions that were looked at, then the bytes that were read.

Invariants: only on a terminal, and on stderr, so that stdout can be kept as evidence. Nothing that happens here changes a verdict.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from ..errors import TrailsealError
from .fetch import DirectoryReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from .fetch import StoreReader


class Bar(Protocol):
    """Be told what was done."""

    def attested(self, versions: int, size: int) -> None:
        """Note that some versions were looked at, of which so many bytes will be read."""
        ...

    def verified(self, size: int) -> None:
        """Note that so many bytes were read."""
        ...


class _NoBar:
    def attested(self, versions: int, size: int) -> None:
        pass

    def verified(self, size: int) -> None:
        pass


class _TerminalBar:
    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress = progress
        self._versions = self._read = 0
        self._total = total
        self._attesting = progress.add_task("attesting", total=None, start=False, visible=False, done="")
        self._verifying = progress.add_task("verifying", total=total, start=False, visible=False, done="")

    def attested(self, versions: int, size: int) -> None:
        self._versions += versions
        self._total = (self._total or 0) + size
        self._progress.start_task(self._attesting)
        self._progress.update(self._attesting, visible=True, done=f"{self._versions:,} versions")

    def verified(self, size: int) -> None:
        from rich.filesize import decimal  # noqa: PLC0415  as below

        if not self._read:
            # The listing of versions is over, so its number is the whole of them.
            self._progress.update(self._attesting, total=self._versions, completed=self._versions)
            self._progress.start_task(self._verifying)
        self._read += size
        done = decimal(self._read) if self._total is None else f"{decimal(self._read)} of {decimal(self._total)}"
        self._progress.update(self._verifying, visible=True, total=self._total, completed=self._read, done=done)


@contextmanager
def progress(store: StoreReader, *, wanted: bool) -> Iterator[Bar]:
    """Yield a bar on stderr, or one that shows nothing where there is no terminal."""
    if not wanted or not sys.stderr.isatty():
        yield _NoBar()
        return
    # Imported here because a verification without a terminal, such as a nightly one, needs none of it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    total: int | None = None
    if isinstance(store, DirectoryReader):
        # Only for the bar: what cannot be listed is found, and judged, by the verification itself. A bucket is not listed for it.
        with suppress(TrailsealError, OSError):
            total = sum(info.size for info in store.objects(""))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield _TerminalBar(shown, total)
