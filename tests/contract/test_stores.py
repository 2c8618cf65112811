"""The contract of agent/stores/base.py, run over every store; those in a bucket talk to real servers."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config import BucketAddress
from agent.config import Store as Settings
from agent.errors import ConfigError, TransientError
from agent.stores import BucketStore, DirectoryStore, MemoryStore, Store
from agent.vitals.clock import SystemClock
from tests.support.object_servers.azurite import Azurite
from tests.support.object_servers.rgw import Rgw

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "trails/demo/payments/01jh2k8q9r3wabcdefghjkmnpq/host-1/000000000000.seal"


KINDS = ["directory", "memory", "rgw, plain", "rgw, locked", "azurite"]


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        server.bucket("plain")
        server.bucket("locked", lock="compliance")
        yield server


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        server.container("audit")
        yield server


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.slow] if "," in kind or kind == "azurite" else []) for kind in KINDS])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    kind: str = request.param
    if kind in {"directory", "memory"}:
        return DirectoryStore("main", tmp_path / "store") if kind == "directory" else MemoryStore("main")
    prefix = re.sub(r"[^a-z0-9]+", "-", tmp_path.name.lower())
    if kind == "azurite":
        cloud: Azurite = request.getfixturevalue("azurite")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", cloud.key)
        where = BucketAddress("az", "audit", prefix, cloud.account)
        settings = Settings(id="main", bucket=where, endpoint=cloud.endpoint, allow_unlocked=True)
    else:
        server: Rgw = request.getfixturevalue("rgw")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        where = BucketAddress("s3", kind.removeprefix("rgw, "), prefix)
        settings = Settings(id="main", bucket=where, endpoint=server.endpoint, allow_unlocked=kind.endswith("plain"))
    return BucketStore(settings, ("demo", "payments", "host-1"), SystemClock())


async def test_what_it_guarantees_is_found_out_before_anything_is_created(store: Store, request: pytest.FixtureRequest) -> None:
    standing = await store.examine()
    assert standing == await store.examine()
    kind = request.node.callspec.params["store"]
    assert standing.exclusive is (kind != "rgw, locked")
    assert standing.lock_mode == ("compliance" if kind == "rgw, locked" else None)
    assert store.parallel >= 1


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
    assert True in outcomes
    if (await store.examine()).exclusive:
        assert sum(outcomes) == 1
        assert await store.read(KEY) == b"%d" % outcomes.index(True)
    # Else several may: that is what "weak create" means, and a verifier that sees versions finds it out.


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
