"""Say when a file has grown and when a folder has changed.

Files are watched by inotify through their descriptor (``/proc/self/fd/N``), so that a rename cannot come between; folders by
watchfiles. Both only hasten what the slow rescan would find anyway: when watches or instances run out, or a folder is not
there yet, nothing is raised; `polling` says that files must be looked at more often.

Invariants: no event is needed for correctness; a flood of events costs at most one wake-up each millisecond. This module must
not read or open files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from watchfiles import Change, awatch

from .inotify import ATTRIB, MODIFY, MOVE_SELF, OVERFLOW_WATCH, Inotify

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

_LOG = logging.getLogger(__name__)
_BREATH_SECONDS: Final = 0.001
_RETRY_SECONDS: Final = 30.0
_DEBOUNCE_MILLISECONDS: Final = 200

_RENAMED_OR_UNLINKED: Final = MOVE_SELF | ATTRIB
"""The name of an open file has changed, or one of its links is gone (its link count is an attribute)."""


class Watcher:
    """Watch files and folders of one source."""

    def __init__(self, on_file: Callable[[Hashable], None], on_folder: Callable[[], None], step_milliseconds: int) -> None:
        """Prepare; nothing is watched before `start`.

        Args:
            on_file: Called with a file's token when it was written to.
            on_folder: Called when names have come or gone.
            step_milliseconds: How long the folder watch collects changes before it hands them over.
        """
        self._on_file = on_file
        self._on_folder = on_folder
        self._step = step_milliseconds
        self._inotify: Inotify | None = None
        self._watches: dict[Hashable, int] = {}
        self._tokens: dict[int, Hashable] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._folders: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self.polling = False

    def start(self) -> None:
        """Open the inotify instance, if there is one to be had."""
        try:
            self._inotify = Inotify()
        except OSError as error:
            self._fall_back(error)
            return
        self._run("files", self._pump(self._inotify))

    async def close(self) -> None:
        """End all watches."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        self._watches.clear()
        self._tokens.clear()

    def add(self, token: Hashable, fd: int) -> bool:
        """Watch an open file; return whether a watch was added, so that what came before it must be looked for once."""
        if self._inotify is None or token in self._watches:
            return False
        try:
            watch = self._inotify.add_watch(f"/proc/self/fd/{fd}", MODIFY | _RENAMED_OR_UNLINKED)
        except OSError as error:
            self._fall_back(error)
            return False
        self._watches[token] = watch
        self._tokens[watch] = token
        return True

    def remove(self, token: Hashable) -> None:
        """Stop watching a file; unknown tokens do nothing."""
        watch = self._watches.pop(token, None)
        if watch is not None and self._inotify is not None:
            self._tokens.pop(watch, None)
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(watch)

    def folders(self, flat: frozenset[str], deep: frozenset[str]) -> None:
        """Watch these folders from now on: `flat` by themselves, `deep` with all below them."""
        for name, old, new, recursive in (("flat", self._folders[0], flat, False), ("deep", self._folders[1], deep, True)):
            running = self._tasks.get(name)
            if old == new and (running is None) == (not new):
                continue
            if running is not None:
                running.cancel()
                self._tasks.pop(name, None)
            if new:
                self._run(name, self._watch_folders(new, recursive=recursive))
        self._folders = (flat, deep)

    def _run(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._tasks[name] = asyncio.get_running_loop().create_task(work, name=f"watch {name}")

    async def _pump(self, inotify: Inotify) -> None:
        loop = asyncio.get_running_loop()
        rested = loop.time()
        while True:
            try:
                events = await inotify.get()
            except OSError as error:
                self._fall_back(error)
                return
            for watch, mask in events:
                if watch == OVERFLOW_WATCH:
                    # The queue overflowed: any file may have been written to.
                    for token in list(self._watches):
                        self._on_file(token)
                elif mask & MODIFY:
                    token = self._tokens.get(watch)
                    if token is not None:
                        self._on_file(token)
                elif mask & _RENAMED_OR_UNLINKED:
                    # Rotation of an open file is seen at once; the folder watch is for names that appear.
                    self._on_folder()
            if loop.time() - rested > _BREATH_SECONDS:
                await asyncio.sleep(_BREATH_SECONDS)
                rested = loop.time()

    async def _watch_folders(self, paths: frozenset[str], *, recursive: bool) -> None:
        while True:
            # Runs once this task waits, when the watch is there: what came before it was not seen by anybody.
            asyncio.get_running_loop().call_soon(self._on_folder)
            try:
                async for _ in awatch(
                    *sorted(paths),
                    watch_filter=_names_only,
                    debounce=_DEBOUNCE_MILLISECONDS,
                    step=self._step,
                    recursive=recursive,
                    ignore_permission_denied=True,
                ):
                    self._on_folder()
            except Exception as error:  # noqa: BLE001 -- whatever a folder watch dies of, the rescan goes on without it
                _LOG.warning("folders are looked through at intervals only, as they cannot be watched: %s", error)
            self._on_folder()
            await asyncio.sleep(_RETRY_SECONDS)

    def _fall_back(self, error: OSError) -> None:
        if not self.polling:
            _LOG.warning("files are polled, as inotify refuses: %s (raise fs.inotify.max_user_instances or max_user_watches)", error)
        self.polling = True


def _names_only(change: Change, _path: str) -> bool:
    return change is not Change.modified
