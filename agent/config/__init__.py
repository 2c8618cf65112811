"""Settings: what a configuration file may say, and how it is read.

``load(path, environ)`` is the way in; a `Settings` is the result. Every error is one line, ``file:line: key: message``.
The package must not open anything but the files that the configuration names.
"""

from __future__ import annotations

from .bucket import BucketAddress, Retention, Store, is_plain_http, parse_endpoint
from .loading import load, load_state, require_sources, with_stream_source
from .settings import Audit, Document, Journal, Limits, Log, Observability, Seal, Settings, Socket, Source, SourceKind, Spool, Vitals
from .values import Address, format_duration, format_size

__all__ = [
    "Address",
    "Audit",
    "BucketAddress",
    "Document",
    "Journal",
    "Limits",
    "Log",
    "Observability",
    "Retention",
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
    "is_plain_http",
    "load",
    "load_state",
    "parse_endpoint",
    "require_sources",
    "with_stream_source",
]
