"""Find and load mappings: those that come with the program by their names, a person's own by their paths.

Invariants: what is returned has been compiled; every error names the file, the line where YAML has one, and the key. This module must
not write anything.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from ..events.mappings import Mapping
from .document import nearest_line, parse_document

SHIPPED: Final = Path(__file__).parent.parent / "events" / "mappings" / "shipped"
SUFFIX: Final = ".yaml"
MAX_BYTES: Final = 4 << 20


def shipped_names() -> tuple[str, ...]:
    """Return the names of the mappings that come with the program, sorted."""
    return tuple(sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}")))


def path_of(name: str) -> Path:
    """Return the file of a mapping.

    Args:
        name: The name of one that comes with the program; or a path, which has a slash in it or ends in ``.yaml``.

    Raises:
        ConfigError: There is none of that name.
    """
    if "/" in name or name.endswith((SUFFIX, ".yml")):
        return Path(name)
    path = SHIPPED / f"{name}{SUFFIX}"
    if name not in shipped_names():
        raise ConfigError(f"there is no mapping {name}", hint=f"Shipped are {', '.join(shipped_names())}; or name a file: ./{name}.yaml.")
    return path


@dataclass(frozen=True)
class MappingReading:
    """Hold what was found in a mapping's file.

    Attributes:
        path: The file.
        sha256: The hex SHA-256 of its bytes; empty if it could not be read.
        content: Its bytes.
    """

    path: str
    sha256: str
    content: bytes = field(compare=False, repr=False)

    @cached_property
    def mapping(self) -> Mapping:
        """The mapping, for times in UTC where they state no zone; errors are those of `in_zone`."""
        return self.in_zone("UTC")

    def in_zone(self, zone: str) -> Mapping:
        """Return the mapping, compiled once for each zone: all sources share it.

        Args:
            zone: What times are in that state no zone, where the file does not say.

        Raises:
            ConfigError: The file could not be read, or is wrong; with file, line and key.
        """
        return _compiled(self, zone)


@lru_cache(maxsize=64)
def _compiled(reading: MappingReading, zone: str) -> Mapping:
    path = Path(reading.path)
    if not reading.sha256:
        raise ConfigError("cannot read this file", file=reading.path, hint="The agent's user must be able to read it.")
    lines: dict[str, int] = {}
    data = parse_document(reading.path, reading.content, None).plain(lines)
    try:
        mapping = Mapping.from_mapping(data, reading.path, zone)
    except ConfigError as error:
        message = error.message.removeprefix(f"{path}: ").removeprefix(f"{error.key}: ")
        line = nearest_line(lines, error.key or "")
        raise ConfigError(message, file=reading.path, line=line, key=error.key, hint=error.hint) from error
    if path.parent == SHIPPED and mapping.name != path.stem:
        raise ConfigError(f"must be {path.stem}, as the file is called", file=reading.path, line=lines.get("name"), key="name")
    return mapping


def read_mapping(name: str) -> MappingReading:
    """Read a mapping's file; that it cannot be read, or is wrong, is said when it is used.

    Args:
        name: As for `path_of`.

    Raises:
        ConfigError: There is none of that name.
    """
    path = path_of(name)
    try:
        # A FIFO without a writer would make us wait, and a device never ends.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 -- it was opened without waiting
            content = file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return MappingReading(str(path), "", b"")
    if len(content) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES >> 20} MiB", file=str(path), hint="Is this a mapping?")
    return MappingReading(str(path), sha256(content).hexdigest(), content)


def load_mapping(name: str) -> Mapping:
    """Load and compile a mapping; argument and errors are those of `read_mapping` and `MappingReading.mapping`."""
    return read_mapping(name).mapping
