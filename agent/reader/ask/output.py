"""Files that an answer is written to.

Invariants: a file appears whole or not at all; one that is there is never replaced unless that was asked for, not even by two runs at the
same moment; nobody but its owner may read it, because it holds what an audit trail holds. This module must not know what is written.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HINT = "Name another file, or replace it with --force."


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file beside `path`; when the block ends well it becomes `path`, else it is removed.

    Args:
        path: Where the file is to be.
        force: Whether one that is there may be replaced.

    Raises:
        ConfigError: There is one already, or the folder cannot be written.
    """
    refuse_existing(path, force=force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", file=str(path), hint="Check the folder.") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary, path, force=force)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror or error}", file=str(path), hint="Check the folder and the disk.") from error
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path that is in use (ConfigError)."""
    if path.is_dir() or (not force and (path.exists() or path.is_symlink())):
        raise ConfigError("there is a file of this name already", file=str(path), hint=_HINT)


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    if force:
        temporary.replace(path)
        return
    try:
        # A link fails if the name is in use, where a rename would replace what is there.
        os.link(temporary, path)
    except FileExistsError as error:
        raise ConfigError("there is a file of this name already", file=str(path), hint=_HINT) from error
    except OSError:
        # Some file systems know no links.
        refuse_existing(path, force=False)
        temporary.rename(path)
