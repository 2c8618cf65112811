"""Read an event catalog as the agent reads it, and put the catalog of our own actions beside it.

Invariants: a catalog that cannot be read is an error with its file and, where there is one, its line. This module must not judge events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config import read_catalogs
from ...events.catalog import Catalog

if TYPE_CHECKING:
    from pathlib import Path


def load_catalog(path: Path) -> Catalog:
    """Read an event catalog with everything it includes.

    Args:
        path: The file, or ``shipped:NAME`` for one that comes with the package.

    Raises:
        ConfigError: It, or a catalog that it includes, cannot be read, is no YAML, or has a wrong entry.
    """
    return read_catalogs([str(path)]).catalog()


def with_own_actions(catalog: Catalog | None) -> Catalog:
    """Return a catalog that also knows what Trailseal records about its own use; the given one's entries win."""
    from ..own_trail import own_catalog  # noqa: PLC0415 -- a catalog alone does not need the rest

    given = () if catalog is None else catalog.entries
    known = {entry.action for entry in given}
    return Catalog((*given, *(entry for entry in own_catalog().entries if entry.action not in known)))
