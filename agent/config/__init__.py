"""Settings: what a configuration file may say, and how it is read.

``load(path, environ)`` is the way in; a `Settings` is the result. Every error is one line, ``file:line: key: message``.
The package must not open anything but the files that the configuration names.
"""

from __future__ import annotations

from .bucket import BucketAddress, Retention, Store, is_plain_http, parse_endpoint
from .catalogs import CatalogReading, read_catalogs, shipped_catalogs, shown_catalog
from .loading import load, load_state, require_sources, with_stream_source
from .settings import Document, Limits, Log, Observability, Seal, Settings, Spool, Vitals, Where
from .sources import Audit, Journal, Socket, Source, SourceKind
from .values import Address, format_duration, format_size

__all__ = [
    "Address",
    "Audit",
    "BucketAddress",
    "CatalogReading",
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
    "Where",
    "format_duration",
    "format_size",
    "is_plain_http",
    "load",
    "load_state",
    "parse_endpoint",
    "read_catalogs",
    "require_sources",
    "shipped_catalogs",
    "shown_catalog",
    "with_stream_source",
]
