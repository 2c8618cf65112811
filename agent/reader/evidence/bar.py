"""A bar on stderr, and only on a terminal.

Nothing that happens here changes a result.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress(word: str, *, wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes how many events are done, and how many there are."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    # Imported here because a run without a terminal, such as a nightly one, needs none of it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(word, total=None)
        yield lambda done, everything: shown.update(task, completed=done, total=everything)
