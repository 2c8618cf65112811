"""Show how far a copying is: the bytes of the source that were read and checked, and the objects that are in the target.

Invariants: only on a terminal, and on stderr. Nothing that happens here changes what is copied.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import TrailsealError
from ..reader.fetch import RECORDS, TRAILS, DirectoryReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from ..reader.fetch import StoreReader


class Bar(Protocol):
    """Be told what was done; may be called by any thread, and returns at once."""

    def read(self, size: int) -> None:
        """Note that so many bytes of the source were read."""
        ...

    def placed(self) -> None:
        """Note that one more object is in the target."""
        ...


class _Silent:
    def read(self, size: int) -> None:
        pass

    def placed(self) -> None:
        pass


SILENT: Final[Bar] = _Silent()
"""A bar that shows nothing."""


class _TerminalBar:
    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress, self._total = progress, total
        self._read = self._objects = 0
        self._task = progress.add_task("copying", total=total, done="")

    def read(self, size: int) -> None:
        self._read += size
        self._show()

    def placed(self) -> None:
        self._objects += 1
        self._show()

    def _show(self) -> None:
        from rich.filesize import decimal  # noqa: PLC0415  as below

        done = decimal(self._read) if self._total is None else f"{decimal(self._read)} of {decimal(self._total)}"
        self._progress.update(self._task, completed=self._read, done=f"{done}, {self._objects:,} objects")


@contextmanager
def progress(source: StoreReader, *, whole: bool, wanted: bool) -> Iterator[Bar]:
    """Yield a bar on stderr, or one that shows nothing where there is no terminal.

    Args:
        source: What is copied.
        whole: Whether all of it is copied, so that its size says how much there is to do.
        wanted: Whether a bar is wanted at all.
    """
    if not wanted or not sys.stderr.isatty():
        yield SILENT
        return
    # Imported here because a copying without a terminal, such as a nightly one, needs none of it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    total: int | None = None
    if whole and isinstance(source, DirectoryReader):
        # Only for the bar: what cannot be listed is found by the copying itself. A bucket is not listed for it.
        with suppress(TrailsealError, OSError):
            total = sum(info.size for folder in (TRAILS, RECORDS) for info in source.objects(folder))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield _TerminalBar(shown, total)
