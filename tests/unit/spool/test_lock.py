"""The state directory's lock, and that its name survives a power cut."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from agent.errors import DurabilityError, StateError
from agent.spool import StateLock
from agent.spool.connection import sync_folder
from agent.spool.lock import LOCK_FILE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note which folders' names were made durable."""
    folders: list[Path] = []

    def noting(folder: Path) -> None:
        sync_folder(folder)
        folders.append(folder)

    monkeypatch.setattr("agent.spool.lock.sync_folder", noting)
    return folders


def test_every_new_folder_is_made_durable_before_the_lock_is_there(tmp_path: Path, synced: list[Path]) -> None:
    state = tmp_path / "var" / "lib" / "trailseal"
    with StateLock(state):
        assert synced[:3] == [tmp_path / "var" / "lib", tmp_path / "var", tmp_path]
        assert state.stat().st_mode & 0o777 == 0o700


def test_whoever_dies_between_a_folder_and_its_durability_leaves_it_to_the_next_start(tmp_path: Path, synced: list[Path]) -> None:
    state = tmp_path / "var" / "trailseal"
    state.mkdir(parents=True)
    with StateLock(state):
        assert {tmp_path / "var", tmp_path} <= set(synced)


def test_a_failed_sync_leaves_no_lock_file_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(folder))

    state = tmp_path / "trailseal"
    with monkeypatch.context() as patched:
        patched.setattr("agent.spool.lock.sync_folder", failing)
        with pytest.raises(DurabilityError, match="the disk does not answer"):
            StateLock(state).acquire()
    assert not (state / LOCK_FILE).exists()
    with StateLock(state):
        assert (state / LOCK_FILE).exists()


def test_a_later_start_costs_no_sync(tmp_path: Path, synced: list[Path]) -> None:
    with StateLock(tmp_path / "state"):
        synced.clear()
    with StateLock(tmp_path / "state"):
        assert synced == []


def test_a_folder_above_that_may_not_be_listed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def refusing(folder: Path) -> None:
        if folder == tmp_path.parent:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        seen.append(folder)

    monkeypatch.setattr("agent.spool.lock.sync_folder", refusing)
    with StateLock(tmp_path / "state"):
        assert seen[0] == tmp_path
        assert tmp_path.parent.parent in seen


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(StateError, match="in use by another agent"):
        StateLock(tmp_path).acquire()
