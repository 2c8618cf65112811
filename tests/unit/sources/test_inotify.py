from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.sources.file.inotify import ATTRIB, MODIFY, MOVE_SELF, Inotify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_SECONDS = 30.0
IN_IGNORED = 0x8000


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    made = Inotify()
    yield made
    made.close()


async def masks(inotify: Inotify, watch: int, wanted: int) -> int:
    """Return all that happened to a watched file until it includes what is wanted."""
    seen = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while seen & wanted != wanted:
            for event in await inotify.get():
                assert event.watch == watch
                seen |= event.mask
    return seen


async def test_a_write_a_rename_and_an_unlink_of_an_open_file_are_told(inotify: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    with path.open("ab", buffering=0) as file:
        watch = inotify.add_watch(f"/proc/self/fd/{file.fileno()}", MODIFY | MOVE_SELF | ATTRIB)
        waiting = asyncio.create_task(masks(inotify, watch, MODIFY))
        await asyncio.sleep(0)
        file.write(b"x")
        assert await waiting == MODIFY
        moved = path.rename(tmp_path / "app.log.1")
        assert await masks(inotify, watch, MOVE_SELF) == MOVE_SELF
        moved.unlink()
        assert await masks(inotify, watch, ATTRIB) == ATTRIB


async def test_a_removed_watch_says_no_more_and_is_unknown(inotify: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.touch()
    watch = inotify.add_watch(str(path), MODIFY)
    assert inotify.add_watch(str(path), MODIFY) == watch
    inotify.rm_watch(watch)
    path.write_bytes(b"x")
    assert await masks(inotify, watch, IN_IGNORED) == IN_IGNORED
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        inotify.rm_watch(watch)


async def test_many_events_with_names_come_whole_and_in_order(inotify: Inotify, tmp_path: Path) -> None:
    folder = inotify.add_watch(str(tmp_path), ATTRIB)
    path = tmp_path / ("n" * 200)
    other = tmp_path / "o"
    path.touch()
    other.touch()
    file = inotify.add_watch(str(path), ATTRIB)
    for number in range(600):
        path.chmod(0o600 + number % 2)
        other.chmod(0o600 + number % 2)
    found: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < 1800:
            found += [event.watch for event in await inotify.get()]
    assert set(found) == {file, folder}
    assert (found.count(file), found.count(folder)) == (600, 1200)


def test_what_cannot_be_watched_is_an_error_with_the_systems_number(inotify: Inotify, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inotify.add_watch(str(tmp_path / "none"), MODIFY)


async def test_waiting_can_be_cancelled_and_nothing_is_left(inotify: Inotify, tmp_path: Path) -> None:
    waiting = asyncio.create_task(inotify.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    path = tmp_path / "app.log"
    path.touch()
    watch = inotify.add_watch(str(path), MODIFY)
    path.write_bytes(b"x")
    assert await masks(inotify, watch, MODIFY) & MODIFY


def test_no_process_is_started_to_find_the_c_library() -> None:
    code = """
import sys
def hook(name, _):
    if name in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system"):
        sys.exit(name)
sys.addaudithook(hook)
import agent.runtime, agent.assembly, agent.sources.file
from agent.sources.file.inotify import Inotify
Inotify().close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
