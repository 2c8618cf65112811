"""Read an event catalog, and put the catalog of our own actions beside it.

Invariants: a catalog that cannot be read is an error with its file and, where there is one, its line. This module must not judge events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ...errors import ConfigError
from ...events.catalog import Catalog

if TYPE_CHECKING:
    from pathlib import Path

MAX_CATALOG_BYTES: Final = 4 << 20


def load_catalog(path: Path) -> Catalog:
    """Read an event catalog as the agent reads it.

    Raises:
        ConfigError: It cannot be read, is no YAML, or an entry is wrong.
    """
    file = str(path)
    try:
        if path.stat().st_size > MAX_CATALOG_BYTES:
            raise ConfigError(f"the catalog has more than {MAX_CATALOG_BYTES} bytes", file=file, hint="Is it the right file?")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the catalog: {error.strerror}", file=file, hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError("the catalog is not UTF-8 text", file=file, hint="Save it as UTF-8.") from error
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"not YAML: {error.problem}", file=file, line=line, hint="Correct the line.") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError("not YAML", file=file, line=1, hint="Write a mapping with format and actions.") from error
    return Catalog.from_mapping(data, file)


def with_own_actions(catalog: Catalog | None) -> Catalog:
    """Return a catalog that also knows what Trailseal records about its own use; the given one's entries win."""
    from ..own_trail import own_catalog  # noqa: PLC0415 -- a catalog alone does not need the rest

    given = () if catalog is None else catalog.entries
    known = {entry.action for entry in given}
    return Catalog((*given, *(entry for entry in own_catalog().entries if entry.action not in known)))
