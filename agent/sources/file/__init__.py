"""Tail files across rotation, truncation, restarts and crashes.

`identity` knows what makes a file the same file, `handle` reads one, `reader` turns one into appends, `discover` finds names,
`recovery` finds a cursor's file again, `lane` and `lifecycle` follow rotation, `wake` says when to look, `tail` runs it all.
"""

from __future__ import annotations

from .context import Wrapped
from .settings import TailSettings
from .tail import FileSource

__all__ = ["FileSource", "TailSettings", "Wrapped"]
