"""Write files for a person: whole or not at all, readable by their owner only, nothing replaced unless told to.

Invariants: a file gets its name once all of it is on the disk, and the name is on the disk on return; one that is there is not replaced
unasked, not even by two runs at the same moment. What is handed over holds personal data, so who may read it is for whoever passes it
on to decide. This module must not know what it writes.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME_CHARACTERS = 100


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path at which something is already (ConfigError), unless that is a file and may be replaced."""
    if path.is_dir() or (not force and os.path.lexists(path)):
        raise ConfigError("it is there already, and nothing is overwritten", file=str(path), hint="Name another file, or pass --force.")


@contextmanager
def new_path(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file beside `path`; when the block ends well it becomes `path`, else it is removed.

    A process that is killed meanwhile leaves it behind: ``.NAME.….part``, mode 0600.

    Args:
        path: Where the file is to be; the folder has to be there.
        force: Whether one that is there may be replaced.

    Raises:
        ConfigError: Something is there already, or cannot be written.
    """
    refuse_existing(path, force=force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:_NAME_CHARACTERS]}.", suffix=".part", dir=path.parent)
    except OSError as error:
        hint = "Name a file in a folder that can be written."
        raise ConfigError(f"cannot write there: {error.strerror}", file=str(path), hint=hint) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary, path, force=force)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror or error}", file=str(path), hint="Is there room on the disk?") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Yield an open file to write and read; see `new_path`."""
    with new_path(path, force=force) as temporary, temporary.open("w+b") as file:
        yield file


def write_file(path: Path, raw: bytes, *, force: bool = False) -> None:
    """Write a file at once; see `new_path`."""
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


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
    _sync(temporary)
    if force:
        temporary.replace(path)
    else:
        try:
            # A link fails if the name is in use, where a rename would replace what is there.
            os.link(temporary, path)
        except FileExistsError:
            refuse_existing(path, force=False)
            raise
        except OSError:
            # Some file systems know no links.
            refuse_existing(path, force=False)
            temporary.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
