"""Write files for a person: whole or not at all, readable by their owner only, nothing overwritten unless told to.

What is handed over holds personal data, so who may read it is for whoever passes it on to decide. This module must not know what it
writes.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path at which something is already (ConfigError), unless that may be replaced."""
    if not force and os.path.lexists(path):
        raise ConfigError("it is there already, and nothing is overwritten", file=str(path), hint="Name another file, or pass --force.")


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Yield a file to write; it gets its name once everything is written, or is removed if that fails.

    Args:
        path: Its name; the folder has to be there.
        force: Whether it may replace another.

    Raises:
        ConfigError: Something is there already, or the folder cannot be written.
    """
    refuse_existing(path, force=force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigError(
            f"cannot write there: {error.strerror}", file=str(path), hint="Name a file in a folder that can be written."
        ) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        refuse_existing(path, force=force)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(path), hint="Is there room on the disk?") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, raw: bytes, *, force: bool) -> None:
    """Write a file at once; see `new_file`."""
    with new_file(path, force=force) as file:
        file.write(raw)


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigError: It cannot be read, or is larger than the limit.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit_bytes + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), hint="Check the path.") from error
    if len(raw) > limit_bytes:
        raise ConfigError(f"it has more than {limit_bytes} bytes, which nothing of this kind has", file=str(path), hint="Check the path.")
    return raw
