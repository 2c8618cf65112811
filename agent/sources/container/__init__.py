"""Tail the log files of container runtimes: CRI and Docker's json-file, across rotation.

`formats` reads envelopes, `envelope` joins what was cut in pieces, `places` knows where a line lay, `origin` whose it is,
`source` puts the file source around them.
"""

from __future__ import annotations

from .source import container_source

__all__ = ["container_source"]
