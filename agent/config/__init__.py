"""Settings: what a configuration file may say, and how it is read.

``load(path, environ)`` is the way in; a `Settings` is the result. Every error is one line, ``file:line: key: message``.
The package must not open anything but the files that the configuration names.
"""

from __future__ import annotations

from .loading import load, require_sources, with_stream_source
from .settings import Audit, Document, Journal, Limits, Log, Observability, Seal, Settings, Socket, Source, SourceKind, Spool, Store, Vitals
from .values import Address, format_duration, format_size

__all__ = [
    "Address",
    "Audit",
    "Document",
    "Journal",
    "Limits",
    "Log",
    "Observability",
    "Seal",
    "Settings",
    "Socket",
    "Source",
    "SourceKind",
    "Spool",
    "Store",
    "Vitals",
    "format_duration",
    "format_size",
    "load",
    "require_sources",
    "with_stream_source",
]
