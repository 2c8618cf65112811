"""Read event catalogs with everything they include, and merge them into the one that judges.

A catalog is named by its path, or as ``shipped:NAME`` where it is one that comes with the package. A file may name others in
``include``, relative to its own folder. Which entry wins is in `agent.events.merging`.

Invariants:
    - Each file is read once, and what judges, what is hashed and what a reload looks at are the same bytes and the same files.
    - Files, depth and bytes are bounded, and a circle of includes is an error; no name of a file makes us wait (a FIFO is not opened).
    - Every error is found and names file, line and key; a file that is named but missing is among `CatalogReading.files`, so that a
      reload sees it come.

This module must not judge events, and substitutes no variables: what is expected of a service does not depend on where it runs.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from ..events.catalog import Catalog, Listing
from ..events.merging import Merged, Place, Placed, merge_included, merge_listed
from .document import nearest_line, parse_document
from .values import FilePath, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .document import Node

SHIPPED_PREFIX: Final = "shipped:"
MAX_FILES: Final = 64
MAX_DEPTH: Final = 8
"""How many files deep an `include` may lead; the file named first is the first."""
MAX_BYTES: Final = 4 << 20
"""How many bytes all files of one reading may have together."""

_SHIPPED: Final = Path(__file__).parent.parent / "events" / "catalogs"


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """Hold what was found in one or several catalogs.

    Attributes:
        files: Every file that was looked at, each once, in the order of reading; also those that are missing.
        sha256: Of one file, the hex SHA-256 of its bytes; of several, that of their hex SHA-256s, one a line, in the order of
            reading. Equal hashes mean equal bytes.
        merged: The entries in force, and those that lost.
        errors: Everything that is wrong, in the order of reading.
    """

    files: tuple[str, ...]
    sha256: str
    merged: Merged = field(compare=False, repr=False)
    errors: tuple[ConfigError, ...] = field(compare=False)
    _catalog: Catalog = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Make the catalog once: all validators share it."""
        object.__setattr__(self, "_catalog", self.merged.catalog())

    def catalog(self) -> Catalog:
        """Return the catalog.

        Raises:
            ConfigError: The first error.
        """
        if self.errors:
            raise self.errors[0]
        return self._catalog


@dataclass(frozen=True, slots=True)
class CatalogPaths:
    """Read the name of a catalog, or a list of them."""

    def read(self, node: Node) -> tuple[str, ...]:
        """Return absolute paths and names such as ``shipped:linux``; each once, each of a file that is there."""
        nodes = node.elements() if node.kind == "list" else [node]
        if not nodes:
            raise node.error("must name at least one catalog")
        names: list[str] = []
        for each in nodes:
            name = Text().read(each)
            if not name.startswith(SHIPPED_PREFIX):
                name = FilePath(must_exist=True).read(each)
            elif name.removeprefix(SHIPPED_PREFIX) not in shipped_catalogs():
                raise each.error(f"no catalog {name} is shipped", _shipped_hint())
            if name in names:
                raise each.error(f"{each.shown} stands here twice")
            names.append(name)
        return tuple(names)


def shipped_catalogs() -> tuple[str, ...]:
    """Return the names of the catalogs that come with the package, sorted; write ``shipped:`` before one to name it."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def shown_catalog(file: str) -> str:
    """Return how a person names a file: ``shipped:NAME`` for one that comes with the package, else its path."""
    path = Path(file)
    return f"{SHIPPED_PREFIX}{path.stem}" if path.parent == _SHIPPED else file


def read_catalogs(names: Sequence[str]) -> CatalogReading:
    """Read catalogs and everything they include (blocking).

    Args:
        names: Paths, or ``shipped:NAME``; a later one wins over an earlier one.

    Returns:
        What was found, with every error; it raises none, so that what is wrong can be shown whole, or later.
    """
    walk = _Walk()
    catalogs = [walk.follow(name, "", (), None) for name in names]
    return CatalogReading(tuple(walk.files), walk.sha256(), merge_listed(catalogs), tuple(walk.errors))


class _Walk:
    """Follow includes, depth first, and read each file once."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.errors: list[ConfigError] = []
        self._hashes: list[str] = []
        self._bytes = 0
        self._done: dict[str, Merged] = {}

    def sha256(self) -> str:
        """Return `CatalogReading.sha256`."""
        if len(self._hashes) == 1:
            return self._hashes[0]
        return sha256("".join(f"{each}\n" for each in self._hashes).encode()).hexdigest()

    def follow(self, name: str, folder: str, above: tuple[str, ...], named_at: tuple[Place, str] | None) -> Merged:
        """Read one catalog and what it includes.

        Args:
            name: Its name.
            folder: Where a relative path begins.
            above: The true paths of the files that led here, the first one first.
            named_at: Where its name stands, and the key; None for a catalog that the caller named.
        """
        shipped = name.removeprefix(SHIPPED_PREFIX)
        if shipped == name:
            return self._read(os.path.join(folder, name), above, named_at)  # noqa: PTH118 -- keeps the path as the user wrote it, for messages
        if shipped in shipped_catalogs():
            return self._read(str(_SHIPPED / f"{shipped}.yaml"), above, named_at)
        place, key = named_at or (None, None)
        file, line = place or (None, None)
        self.errors.append(ConfigError(f"no catalog {name} is shipped", file=file, line=line, key=key, hint=_shipped_hint()))
        return Merged()

    def _read(self, path: str, above: tuple[str, ...], named_at: tuple[Place, str] | None) -> Merged:
        # Two names that lead to one file (`a.yaml`, `../x/a.yaml`, a link) are one file.
        identity = os.path.realpath(path)
        if identity in above:
            self._wrong_name(path, named_at, "leads in a circle", f"{path} includes this file, directly or through others.")
            return Merged()
        if identity in self._done:
            return self._done[identity]
        if len(above) >= MAX_DEPTH or len(self.files) >= MAX_FILES:
            bound = f"more than {MAX_DEPTH} files deep" if len(above) >= MAX_DEPTH else f"more than {MAX_FILES} files"
            self._wrong_name(path, named_at, f"leads {bound}", "Include the files from one place.")
            return Merged()
        self.files.append(path)
        merged = self._merged(path, (*above, identity), named_at)
        self._done[identity] = merged
        return merged

    def _merged(self, path: str, above: tuple[str, ...], named_at: tuple[Place, str] | None) -> Merged:
        content = self._content(path, named_at)
        if content is None:
            return Merged()
        self._hashes.append(sha256(content).hexdigest())
        lines: dict[str, int] = {}
        try:
            data = parse_document(path, content, environ=None).plain(lines)
        except ConfigError as error:
            self.errors.append(error)
            return Merged()
        listing = Listing.from_mapping(data, path)
        self.errors += [_with_line(error, path, nearest_line(lines, error.key or "")) for error in listing.errors]
        own = [Placed(entry, Place(path, nearest_line(lines, f"actions.{entry.action}"))) for entry in listing.entries]
        included = []
        for name, key in listing.includes:
            place = Place(path, nearest_line(lines, key))
            included.append(self.follow(name, os.path.dirname(path), above, (place, key)))  # noqa: PTH120 -- as in `follow`
        merged, conflicts = merge_included(own, included)
        line = nearest_line(lines, "include")
        for conflict in conflicts:
            action, first, second = conflict.first.entry.action, _shown(conflict.first.place), _shown(conflict.second.place)
            message = f"{action} is one thing in {first} and another in {second}"
            hint = f"Write {action} in this file: its own entry decides."
            self.errors.append(ConfigError(message, file=path, line=line, key="include", hint=hint))
        return merged

    def _content(self, path: str, named_at: tuple[Place, str] | None) -> bytes | None:
        """Read a file within the bound; None, and an error, where that cannot be."""
        try:
            status = os.stat(path)  # noqa: PTH116 -- no object for one look
            if not stat.S_ISREG(status.st_mode):
                self._wrong_name(path, named_at, "is not a file", "Name a catalog's file.")
                return None
            with open(path, "rb") as file:  # noqa: PTH123 -- as above
                content = file.read(MAX_BYTES - self._bytes + 1)
        except OSError as error:
            hint = "A relative name begins at the folder of the file it stands in." if named_at else "Check the path, and who may read it."
            self._wrong_name(path, named_at, f"cannot be read: {error.strerror}", hint)
            return None
        self._bytes += len(content)
        if self._bytes > MAX_BYTES:
            self._bytes = MAX_BYTES
            self._wrong_name(path, named_at, f"is too large: all catalogs together have at most {MAX_BYTES} bytes", "Is it the right file?")
            return None
        return content

    def _wrong_name(self, path: str, named_at: tuple[Place, str] | None, what: str, hint: str) -> None:
        """Note an error of a file as a whole, at the place that names it if there is one."""
        if named_at is None:
            self.errors.append(ConfigError(f"the catalog {what}", file=path, hint=hint))
        else:
            place, key = named_at
            self.errors.append(ConfigError(f"the catalog {path} {what}", file=place.file, line=place.line, key=key, hint=hint))


def _shipped_hint() -> str:
    return f"Shipped are {', '.join(shipped_catalogs())}."


def _shown(place: Place) -> str:
    return f"{shown_catalog(place.file)}:{place.line}"


def _with_line(error: ConfigError, file: str, line: int) -> ConfigError:
    """Put the line into an error that knows file and key."""
    message = error.message.removeprefix(f"{file}: ").removeprefix(f"{error.key}: ")
    placed = ConfigError(message, file=file, line=line, key=error.key, hint=error.hint)
    placed.__cause__ = error
    return placed
