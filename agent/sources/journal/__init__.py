"""Read the systemd journal through `journalctl`, by the journal's own cursor.

`export` reads the export format, `command` says how journalctl is called and runs it, `source` turns entries into appends.
"""

from __future__ import annotations

from .settings import JournalSettings
from .source import JournalSource

__all__ = ["JournalSettings", "JournalSource"]
