"""What was granted and revoked, written to the trail by the page itself.

`trailseal grant` only writes the book, and needs no access to any store. The page records each new line of the book before it honours it:
a link works only once the trail says that it was made.

Invariants: a grant is honoured only after its event was recorded; how far the book was recorded is kept on disk after that, so an event may
stand in the trail twice, under the same id, but never not at all. This module must not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError
from ..own_trail.events import own_event
from .audit import scope_of

if TYPE_CHECKING:
    from pathlib import Path

    from .audit import Recorder
    from .book import Book, Entries

MARK_FILE: Final = "grants.recorded"


class Notes:
    """Records what is new in a book."""

    def __init__(self, book: Book, recorder: Recorder, store: str, folder: Path) -> None:
        """Name them.

        Args:
            book: The grants.
            recorder: Where their events go.
            store: The store's name, the target of the events.
            folder: Where is kept how far the book was recorded; one for each trail, for what one trail says another one does not.
        """
        self._book, self._recorder, self._store = book, recorder, store
        self._path = folder / MARK_FILE
        self._done: frozenset[str] | None = None
        self._alone = asyncio.Lock()

    async def catch_up(self) -> Entries:
        """Record what is new in the book, and return what it says, all of which is recorded.

        Raises:
            ConfigError: The book cannot be read, or what was recorded cannot be noted.
        """
        entries = self._book.entries()
        if self._done is not None and not _missing(entries, self._done):
            return entries
        async with self._alone:
            done = self._read() if self._done is None else self._done
            for mark in _missing(entries, done):
                await self._record(entries, mark)
                self._append(mark)
                done |= {mark}
            self._done = done
        return entries

    async def _record(self, entries: Entries, mark: str) -> None:
        identifier, _, what = mark.partition(" ")
        grant = entries.grants[identifier]
        revoked = what == "revoked"
        context: dict[str, object] = {"token_id": grant.id, "name": grant.name}
        if not revoked:
            context |= {"services": list(grant.services), "expires": grant.expires.isoformat(), "scope": scope_of(grant)}
        await self._recorder.record(
            own_event(
                "grant.revoke" if revoked else "grant.create",
                # Who ran the command is known to the machine it was run on, and to nobody else.
                actor={"type": "operator", "id": "trailseal-grant"},
                target={"type": "store", "id": self._store},
                now=entries.revoked[identifier] if revoked else grant.issued,
                context=context,
                event_id=f"grant-{identifier}-{what}",
            )
        )

    def _read(self) -> frozenset[str]:
        path = self._path
        try:
            return frozenset(path.read_text(encoding="ascii").splitlines())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as error:
            raise ConfigError("cannot read what was recorded of the grants", file=str(path), hint="Check its permissions.") from error

    def _append(self, mark: str) -> None:
        path = self._path
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, mark.encode("ascii") + b"\n")
                os.fsync(descriptor)
            finally:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        except OSError as error:
            raise ConfigError(
                f"cannot note what was recorded of the grants: {error.strerror}", file=str(path), hint="Check its permissions."
            ) from error


def _missing(entries: Entries, done: frozenset[str]) -> list[str]:
    marks = [f"{identifier} granted" for identifier in entries.grants]
    marks += [f"{identifier} revoked" for identifier in entries.revoked if identifier in entries.grants]
    return [mark for mark in marks if mark not in done]
