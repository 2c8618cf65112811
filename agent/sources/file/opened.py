"""Keep the files that are open, watched and few enough.

Invariants: a file is watched for as long as it is open; beyond the bound the file that was quiet longest is closed, except one
that could not be opened again by a name. This module must not read files.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lane import Tailed
    from .wake import Watcher


class OpenFiles:
    """Know the open files of one source."""

    def __init__(self, watcher: Watcher, bound: int) -> None:
        """Begin with none.

        Args:
            watcher: Watches them.
            bound: The most that shall be open.
        """
        self._watcher = watcher
        self._bound = bound
        self._open: OrderedDict[Tailed, None] = OrderedDict()

    def note(self, tailed: Tailed, size: int | None = None) -> bool:
        """Note that a file was just used, and close another one if too many are open.

        Args:
            tailed: The file; nothing happens if it is not open.
            size: Its size when it was read to its end, in bytes; None if more may be there.

        Returns:
            Whether it must be read again: what was written between the look and the watch has made no event.

        Raises:
            OSError: Its size cannot be told.
        """
        fd = tailed.reader.fd
        if fd is None:
            return False
        self._open[tailed] = None
        self._open.move_to_end(tailed)
        again = self._watcher.add(tailed, fd) and (size is None or os.fstat(fd).st_size != size)
        if len(self._open) > self._bound:
            victim = next((one for one in self._open if one is not tailed and not one.rotated and one.names), None)
            if victim is not None:
                self.release(victim)
        return again

    def release(self, tailed: Tailed) -> None:
        """Close a file and stop watching it."""
        self._watcher.remove(tailed)
        self._open.pop(tailed, None)
        tailed.reader.close()
