"""The view's state directory: the key that signs tokens, and the book of grants.

The book is lines of JSON, only ever appended: ``{"granted":{…}}`` and ``{"revoked":"<id>","at":"…"}``. A running view looks at it for
every request, so a revocation counts at once.

Invariants: the directory is made 0700 and its files 0600, and a key that others may read is refused; the key is made once, whole or not at
all; a book that cannot be read lets nobody in. This module must not know HTTP, and never writes a token.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ...errors import ConfigError
from .grants import Grant, Key

KEY_FILE: Final = "grant.key"
BOOK_FILE: Final = "grants.jsonl"
_SECRET_BYTES: Final = 32
_MAX_BOOK_BYTES: Final = 64 * 1024 * 1024


def default_state() -> Path:
    """Return where a view keeps its state: ``$XDG_STATE_HOME`` or ``~/.local/state``, and ``trailseal/view`` in it."""
    given = os.environ.get("XDG_STATE_HOME")
    base = Path(given) if given and given.startswith("/") else Path.home() / ".local" / "state"
    return base / "trailseal" / "view"


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    granted: Grant | None = None
    revoked: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """What the book says.

    Attributes:
        grants: Every grant that was given, by id, in the order in which they were.
        revoked: When each revoked one was, by id.
    """

    grants: dict[str, Grant]
    revoked: dict[str, datetime]


_NOTHING: Final = Entries({}, {})


class Book:
    """The key and the grants of one view."""

    def __init__(self, folder: Path) -> None:
        """Name the state directory; nothing is read or made."""
        self.folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._entries = _NOTHING

    def key(self, *, make: bool = False) -> Key:
        """Return the key that signs tokens.

        Args:
            make: Whether to make the directory and the key if they are not there.

        Raises:
            ConfigError: It is not there, others may read it, or it is no key.
        """
        path = self.folder / KEY_FILE
        if make:
            self._make(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"cannot read the key of grants: {error.strerror}", file=str(path), hint="`trailseal grant` makes one with the first grant."
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError("others may read the key of grants", file=str(path), hint="chmod 600 it, and give the grants anew.")
            if self.folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                # They could put a key and a book of their own in its place.
                raise ConfigError("others may write in the folder of the grants", file=str(self.folder), hint="chmod 700 it.")
            secret = file.read(_SECRET_BYTES + 1)
        if len(secret) != _SECRET_BYTES:
            raise ConfigError("this is no key of grants: it must be 32 bytes", file=str(path), hint="Remove it; every grant ends with it.")
        return Key(secret)

    def _make(self, path: Path) -> None:
        """Make the directory and the key; a key that is there stays."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists():
                return
            fresh = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(_SECRET_BYTES))
                    file.flush()
                    os.fsync(descriptor)
                # A link fails where another process was first; its key is the one, then.
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, path)
            finally:
                fresh.unlink()
        except OSError as error:
            raise ConfigError(
                f"cannot make the key of grants: {error.strerror}", file=str(path), hint="Name a directory you may write with --state."
            ) from error

    def entries(self) -> Entries:
        """Return what the book says now; it is read again when it has changed.

        Raises:
            ConfigError: It cannot be read, or is no book.
        """
        path = self.folder / BOOK_FILE
        try:
            found = path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen != self._seen:
                if found.st_size > _MAX_BOOK_BYTES:
                    raise ConfigError("the book of grants is too large", file=str(path), hint="Give the view a new state directory.")
                self._entries = _read(path.read_bytes(), path)
                self._seen = seen
        except FileNotFoundError:
            self._seen, self._entries = None, _NOTHING
        except OSError as error:
            raise ConfigError(f"cannot read the book of grants: {error.strerror}", file=str(path), hint="Check its permissions.") from error
        return self._entries

    def add(self, grant: Grant) -> None:
        """Write a grant into the book, durably.

        Raises:
            ConfigError: It cannot be written.
        """
        self._append(_Line(granted=grant))

    def revoke(self, identifier: str, now: datetime) -> Grant:
        """Write down that a grant is revoked, durably, and return it.

        Raises:
            ConfigError: No such grant is in the book, or it cannot be written.
        """
        entries = self.entries()
        grant = entries.grants.get(identifier)
        if grant is None:
            raise ConfigError(f"no grant {identifier!r} was given", hint="`trailseal grant --list` shows them.")
        if identifier not in entries.revoked:
            self._append(_Line(revoked=identifier, at=now))
        return grant

    def _append(self, line: _Line) -> None:
        path = self.folder / BOOK_FILE
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                # One write, so that two processes cannot mix their lines.
                whole = msgspec.json.encode(line) + b"\n"
                if file.write(whole) != len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
        except OSError as error:
            raise ConfigError(
                f"cannot write the book of grants: {error.strerror}", file=str(path), hint="Check its permissions."
            ) from error


def _read(data: bytes, path: Path) -> Entries:
    grants: dict[str, Grant] = {}
    revoked: dict[str, datetime] = {}
    for number, text in enumerate(data.splitlines(), 1):
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError as error:
            # Fail closed: the damaged line may have been a revocation.
            raise ConfigError(
                "not a line of the book of grants",
                file=str(path),
                line=number,
                hint="Mend it, or remove the book: every grant ends with it.",
            ) from error
        if line.granted is not None:
            grants[line.granted.id] = line.granted
        if line.revoked is not None and line.at is not None:
            revoked[line.revoked] = line.at
    return Entries(grants, revoked)
