"""The contract of agent/stores/base.py, run over every store that needs no server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.errors import ConfigError, TransientError
from agent.stores import DirectoryStore, MemoryStore, Store

KEY = "trails/demo/payments/01jh2k8q9r3wabcdefghjkmnpq/host-1/000000000000.seal"


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return DirectoryStore("main", tmp_path / "store") if request.param == "directory" else MemoryStore("main")


async def test_what_was_created_is_read_back(store: Store) -> None:
    assert await store.create(KEY, b"seal") is True
    assert await store.read(KEY) == b"seal"


async def test_an_absent_object_is_none(store: Store) -> None:
    assert await store.read(KEY) is None


async def test_the_first_bytes_under_a_key_stay(store: Store) -> None:
    await store.create(KEY, b"first")
    assert await store.create(KEY, b"second") is False
    assert await store.create(KEY, b"first") is False
    assert await store.read(KEY) == b"first"


async def test_of_many_writers_one_creates(store: Store) -> None:
    outcomes = await asyncio.gather(*(store.create(KEY, b"%d" % n) for n in range(20)))
    assert sum(outcomes) == 1
    assert await store.read(KEY) == b"%d" % outcomes.index(True)


async def test_empty_and_large_objects_are_kept_exactly(store: Store) -> None:
    large = os.urandom(5 << 20)
    await store.create("records/empty", b"")
    await store.create("records/large", large)
    assert await store.read("records/empty") == b""
    assert await store.read("records/large") == large


async def test_objects_of_the_directory_store_are_read_only_and_leave_no_temporary_file(tmp_path: Path) -> None:
    store = DirectoryStore("main", tmp_path)
    await store.create(KEY, b"seal")
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o444
    assert list((tmp_path / ".incoming").iterdir()) == []


async def test_the_directory_store_reports_a_missing_right_as_something_that_may_pass(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    store = DirectoryStore("main", blocker / "store")
    with pytest.raises(TransientError, match="cannot create"):
        await store.create(KEY, b"seal")
    blocker.unlink()
    assert await store.create(KEY, b"seal") is True


@pytest.mark.parametrize("key", ["../outside", "a//b", "/absolute", "trails/../../etc", ".incoming/x", ""])
async def test_the_directory_store_takes_no_key_that_leads_elsewhere(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="not an object key"):
        await DirectoryStore("main", tmp_path).create(key, b"")


async def test_the_directory_store_says_once_that_its_directory_is_another_one_and_creates_nothing_in_it(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    store = DirectoryStore("main", root)
    await store.create(KEY, b"seal")
    root.rename(tmp_path / "away")
    with pytest.raises(TransientError, match="unmounted, removed or replaced"):
        await store.create("records/one", b"")
    assert not root.exists()
    (tmp_path / "away").rename(root)
    assert await store.create("records/one", b"") is True


async def test_the_directory_store_makes_the_names_of_folders_durable_that_somebody_else_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (tmp_path / KEY).parent
    folder.mkdir(parents=True)
    synced: set[str] = set()
    really = os.fsync

    def noting(fd: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        really(fd)

    monkeypatch.setattr(os, "fsync", noting)
    await DirectoryStore("main", tmp_path).create(KEY, b"seal")
    between = [tmp_path, *(parent for parent in folder.parents if tmp_path in parent.parents)]
    assert {str(parent) for parent in between} <= synced
