"""One contract, run over every reader; and what only a folder can do."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.store import MemoryStore

from agent.config import BucketAddress
from agent.errors import ConfigError, NotVerifiedError
from agent.reader.ahead import ReadAhead
from agent.reader.bucket import BucketReader
from agent.reader.fetch import DirectoryReader, MemoryReader, StoreReader
from agent.reader.opening import Reach, open_store
from agent.stores.bucket import Access
from agent.trail.layout import seal_key
from tests.support.trail_factory import TrailFactory, sample_trail, write_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["directory", "memory", "bucket", "bucket read ahead"])
def make(request, tmp_path, monkeypatch) -> Iterator[Callable[[dict[str, bytes]], StoreReader]]:
    monkeypatch.setattr(obstore, "get", partial(get_as_s3, obstore.get))
    with ExitStack() as stack:
        makers: dict[str, Callable[[dict[str, bytes]], StoreReader]] = {
            "directory": lambda objects: DirectoryReader(write_store(objects, made(tmp_path / "store"))),
            "memory": MemoryReader,
            "bucket": bucket_of,
            "bucket read ahead": lambda objects: stack.enter_context(ReadAhead(bucket_of(objects))),
        }
        yield makers[request.param]


def get_as_s3(get: Any, store: Any, key: str, **options: Any) -> Any:
    """Say of what is absent what S3 says; the store in memory has no words for it."""
    try:
        return get(store, key, **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{key} - Server returned non-2xx status code: 404 Not Found: <Code>NoSuchKey</Code>") from error


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def bucket_of(objects: dict[str, bytes]) -> BucketReader:
    bucket = MemoryStore()
    for key, raw in objects.items():
        obstore.put(bucket, key, raw)
    return BucketReader(Access(address=BucketAddress.parse("s3://bucket")), bucket=bucket)


@pytest.fixture
def trail() -> TrailFactory:
    return sample_trail()


class TestContract:
    def test_origins_are_sorted_and_each_has_a_seal(self, make, trail):
        other = sample_trail(seed=b"0", namespace="a")
        store = make(trail.objects | other.objects | {"trails/no/origin/at/all/x": b"", "trails/demo/payments/x/web/y": b""})
        assert list(store.origins()) == sorted([trail.origin, other.origin], key=str)

    def test_seals_ascend_and_show_holes(self, make, trail):
        assert list(make(trail.objects).seals(trail.origin)) == list(range(8))

    def test_seals_with_a_hole_ascend_too(self, make, trail):
        del trail.objects[seal_key(trail.origin, 0)]
        del trail.objects[seal_key(trail.origin, 4)]
        assert list(make(trail.objects).seals(trail.origin)) == [1, 2, 3, 5, 6, 7]

    def test_all_objects_are_listed_with_their_sizes(self, make, trail):
        listed = {info.key: info.size for info in make(trail.objects).objects("")}
        assert listed == {key: len(raw) for key, raw in trail.objects.items()}

    def test_a_prefix_narrows_the_listing(self, make, trail):
        assert all(info.key.startswith("records/") for info in make(trail.objects).objects("records"))

    def test_what_is_read_is_exact_and_what_is_absent_is_none(self, make, trail):
        store = make(trail.objects)
        key = seal_key(trail.origin, 1)
        assert store.read(key, 1 << 20) == trail.objects[key]
        assert store.read(seal_key(trail.origin, 99), 1 << 20) is None

    def test_nothing_is_read_beyond_the_limit(self, make, trail):
        with pytest.raises(NotVerifiedError, match="reads no more than 10"):
            make(trail.objects).read(seal_key(trail.origin, 1), 10)

    def test_an_empty_store_has_nothing(self, make, trail):
        store = make({})
        assert (list(store.origins()), list(store.objects("")), list(store.seals(trail.origin))) == ([], [], [])


class TestDirectory:
    def test_the_private_folder_of_temporary_files_is_skipped(self, tmp_path):
        write_store({".incoming/x": b"half"}, tmp_path)
        assert list(DirectoryReader(tmp_path).objects("")) == []

    def test_a_link_is_listed_but_never_followed(self, tmp_path):
        (tmp_path / "secret").write_bytes(b"outside")
        root = tmp_path / "store"
        root.mkdir()
        (root / "link").symlink_to(tmp_path / "secret")
        store = DirectoryReader(root)
        assert [info.key for info in store.objects("")] == ["link"]
        assert store.read("link", 100) is None

    def test_a_fifo_does_not_make_a_reader_wait(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert DirectoryReader(tmp_path).read("pipe", 100) is None

    def test_a_folder_where_an_object_belongs_is_no_object(self, tmp_path):
        (tmp_path / "object").mkdir()
        assert DirectoryReader(tmp_path).read("object", 100) is None


class TestOpenStore:
    def test_a_path_and_a_file_url_name_the_same_folder(self, tmp_path):
        folder: Path = tmp_path / "with space"
        folder.mkdir()
        for where in (str(folder), folder.as_uri(), f"file://localhost{folder}".replace(" ", "%20")):
            assert open_store(where).name == str(folder)

    @pytest.mark.parametrize("where", ["s3://b/-x", "az://container", "https://gateway.example", "file://elsewhere/x"])
    def test_other_urls_are_refused_with_what_is_possible(self, where):
        with pytest.raises(ConfigError) as refused:
            open_store(where)
        assert "or a bucket: s3://, gs:// or az://" in refused.value.hint

    def test_a_folder_is_reached_without_an_endpoint(self, tmp_path):
        with pytest.raises(ConfigError, match="is no bucket"):
            open_store(str(tmp_path), Reach(region="eu-west-1"))

    def test_a_missing_folder_is_not_verified(self, tmp_path):
        with pytest.raises(NotVerifiedError, match="not a folder"):
            open_store(str(tmp_path / "nowhere"))
