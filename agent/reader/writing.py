"""Write files for a person: whole or not at all, readable by their owner only, nothing replaced unless told to.

Invariants: a file gets its name once all of it is on the disk, and the name is on the disk on return; one that is there is not replaced
unasked, not even by two runs at the same moment. Of a pair, the one never lies there without the other that tells of it, wherever a
process ends. What is handed over holds personal data, so who may read it is for whoever passes it on to decide. This module must not
know what it writes.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME_BYTES: Final = 100
_WRITABLE: Final = "Name a file in a folder that can be written."


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path at which something is already, unless that is a file and may be replaced.

    Raises:
        ConfigError: Something is there, or no file can be there.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot write there: {reason}", file=str(path), hint=_WRITABLE) from error
    if not force or stat.S_ISDIR(found.st_mode) or path.is_dir():
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
    with _temporary(path) as temporary, _reporting(path):
        yield temporary
        _sync(temporary)
        _publish(temporary, path, force=force)


@contextmanager
def new_pair(path: Path, beside: Path, tell: Callable[[Path], bytes], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file that becomes `path`, together with another that tells of it.

    Both are whole and on the disk before either gets its name. What tells of the other gets its name first, so `path` is never there
    without it; and an old `path` that is to be replaced goes before that, so it is never beside what tells of the new one. If the second
    name cannot be given, the first is taken away again. With `force`, an error or an end in between may so leave neither.

    Args:
        path: Where the file is to be; the folder has to be there.
        beside: Where what tells of it is to be.
        tell: Returns that, given the temporary file, which is whole by then.
        force: Whether files that are there may be replaced.

    Raises:
        ConfigError: Something is there already, or cannot be written.
    """
    for one in (path, beside):
        refuse_existing(one, force=force)
    with _temporary(path) as made, _temporary(beside) as told:
        with _reporting(path):
            yield made
            _sync(made)
        with _reporting(beside):
            told.write_bytes(tell(made))
            _sync(told)
        _publish_pair((made, path), (told, beside), force=force)


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


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield an empty file beside a path; it is removed afterwards if it is still there under that name."""
    beginning = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{beginning}.", suffix=".part", dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"cannot write there: {error.strerror}", file=str(path), hint=_WRITABLE) from error
    temporary = Path(name)
    try:
        yield temporary
    finally:
        # Mostly it is gone by then; one that cannot be removed is no reason to hide what went wrong, or that nothing did.
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn what the system says into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror or error}", file=str(path), hint="Is there room on the disk?") from error


def _publish_pair(made: tuple[Path, Path], told: tuple[Path, Path], *, force: bool) -> None:
    """Give two files their names, the one that tells of the other first; both or neither."""
    with _reporting(made[1]):
        ours = [(path, _identity(temporary)) for temporary, path in (made, told)]
        if force:
            made[1].unlink(missing_ok=True)
            _sync(made[1].parent)
    try:
        for temporary, path in (told, made):
            with _reporting(path):
                _publish(temporary, path, force=force)
    except BaseException:
        for path, identity in ours:
            # What somebody else put there meanwhile stays.
            with suppress(OSError):
                if _identity(path) == identity:
                    path.unlink()
        raise


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
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
