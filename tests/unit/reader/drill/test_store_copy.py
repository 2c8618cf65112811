"""The copy of a store: whole trails, never a link to the original, and put back as it was."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from agent.errors import ConfigError, NotVerifiedError
from agent.reader.drill.store_copy import MOST_HOLES, Narrowed, changed, copy_store, digest, is_inside, plan, put
from agent.reader.drill.values import UntriedError
from agent.reader.fetch import DirectoryReader, MemoryReader, ObjectInfo
from agent.reader.verify import Options, verify_store
from agent.trail.layout import seal_key
from tests.support.copying import trust_of
from tests.support.index_truth import objects_of
from tests.support.trail_factory import sample_trail, write_store
from tests.unit.reader.drill.scene import company, copy_of, moment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.trail.layout import Origin

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_no_file_of_the_copy_shares_its_bytes_with_the_original(tmp_path):
    trail = sample_trail()
    store = DirectoryReader(write_store(trail.objects, tmp_path / "store"))
    (tmp_path / "copy").mkdir()
    copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), tmp_path / "copy", clock=lambda: NOW)
    originals = {path.stat().st_ino for path in (tmp_path / "store").rglob("*") if path.is_file()}
    copies = [path.stat() for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert len(copies) == len(trail.objects)
    assert all(status.st_nlink == 1 and status.st_ino not in originals for status in copies)
    assert {key: (tmp_path / "copy" / key).read_bytes() for key in trail.objects} == trail.objects


def test_a_copy_keeps_the_times_that_a_verification_looks_at(tmp_path):
    trail = sample_trail()
    copy = copy_of(tmp_path, trail)
    times = {info.modified for info in DirectoryReader(copy).objects("")}
    assert times == {moment_of(trail).timestamp() - 3600}


def test_everything_is_copied_when_it_fits_also_what_belongs_to_no_trail(tmp_path):
    trail = sample_trail()
    copy = copy_of(tmp_path, trail, objects=trail.objects | {"notes.txt": b"foreign"})
    assert (copy / "notes.txt").read_bytes() == b"foreign"


def test_where_not_everything_fits_whole_families_are_copied_the_largest_first():
    trails = company()
    store = MemoryReader(objects_of(*trails))
    long, orders, first, second = (str(trail.origin) for trail in trails)
    sizes = {str(trail.origin): sum(map(len, trail.objects.values())) for trail in trails}
    everything = plan(store, max_bytes=sum(sizes.values()), origin_glob=None)
    assert (everything.whole, everything.left_out) == (True, 0)
    part = plan(store, max_bytes=sum(sizes.values()) - 1, origin_glob=None)
    assert (part.whole, part.left_out) == (False, len(trails) - len(part.origins))
    assert long in map(str, part.origins)
    assert orders in map(str, part.origins)
    # The two epochs of one instance come or stay together.
    assert (first in map(str, part.origins)) is (second in map(str, part.origins))
    assert sum(sizes[str(origin)] for origin in part.origins) == part.total_bytes
    matching = plan(store, max_bytes=1 << 20, origin_glob=second)
    assert set(map(str, matching.origins)) == {first, second}
    assert plan(store, max_bytes=1 << 20, origin_glob="demo/orders/*/*").origins == (trails[1].origin,)


def test_a_trail_that_does_not_fit_is_refused_with_what_it_needs():
    trails = company()
    store = MemoryReader(objects_of(*trails))
    size = sum(map(len, trails[1].objects.values()))
    with pytest.raises(ConfigError, match=f"have {size:,} bytes; --max-bytes allows 100"):
        plan(store, max_bytes=100, origin_glob="demo/orders/*/*")
    with pytest.raises(ConfigError, match="the smallest trail"):
        plan(store, max_bytes=100, origin_glob=None)


def test_an_empty_store_and_a_pattern_that_matches_nothing_are_no_ground():
    with pytest.raises(NotVerifiedError, match="no trail was found"):
        plan(MemoryReader({}), max_bytes=100, origin_glob=None)
    with pytest.raises(NotVerifiedError, match="matches x/x/x/x"):
        plan(MemoryReader(sample_trail().objects), max_bytes=100, origin_glob="x/x/x/x")


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    trail = sample_trail()
    store = MemoryReader(trail.objects)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(ConfigError, match="has room for 10"):
        copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), tmp_path, clock=lambda: NOW)
    assert not list(tmp_path.iterdir())


# ---- a store that is hostile, or alive --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["trails", "x" * 300, "trails/demo/payments"])
def test_a_key_that_no_folder_can_hold_is_named(tmp_path, key):
    trail = sample_trail()
    store = MemoryReader(trail.objects | {key: b"bad"})
    copied = copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), tmp_path, clock=lambda: NOW)
    assert copied.missing == (key,)


@pytest.mark.parametrize("key", ["../outside", "trails/../../outside", "/etc/outside", "a//b", "", ".", "a/./b", "a\0b"])
def test_a_key_that_leads_out_of_the_copy_is_not_written(tmp_path, key):
    trail = sample_trail()
    copy = tmp_path / "in" / "copy"
    copy.mkdir(parents=True)
    assert not is_inside(key)
    store = MemoryReader(trail.objects | {key: b"bad"})
    copied = copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), copy, clock=lambda: NOW)
    assert copied.missing == (key,)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("outside")]


def test_links_and_unreadable_objects_are_named_and_not_followed(tmp_path):
    trail = sample_trail()
    root = write_store(trail.objects, tmp_path / "store")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    (tmp_path / "copy").mkdir()
    store = DirectoryReader(root)
    copied = copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), tmp_path / "copy", clock=lambda: NOW)
    assert set(copied.missing) == {"link", "pipe"}
    assert not (tmp_path / "copy" / "link").exists()


class Growing(MemoryReader):
    """A store whose agent seals two batches while it is listed: the listing shows the later one only."""

    def __init__(self, objects: dict[str, bytes], late: list[str]) -> None:
        """Leave these keys out of every listing."""
        super().__init__(objects)
        self.late = late

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from (info for info in super().objects(prefix) if info.key not in self.late)


def test_a_seal_that_the_listing_missed_is_copied_too(tmp_path):
    trail = sample_trail()
    store = Growing(trail.objects, [seal_key(trail.origin, 3)])
    copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), tmp_path, clock=lambda: NOW)
    assert (tmp_path / seal_key(trail.origin, 3)).read_bytes() == trail.objects[seal_key(trail.origin, 3)]


class Counting(Growing):
    """Such a store that counts what it is asked for, and gives up where a person would."""

    asked = 0

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        self.asked += 1
        if self.asked > 10 * MOST_HOLES:
            pytest.fail("the copying asks for hole after hole")
        return super().read(key, limit_bytes)


def test_a_seal_with_a_huge_number_does_not_make_the_copying_look_at_every_hole_before_it(tmp_path):
    trail = sample_trail()
    late = seal_key(trail.origin, 3)
    planted = {seal_key(trail.origin, number): b"planted" for number in (10**12 - 1, 5 * 10**11)}
    store = Counting(trail.objects | planted, [late])
    copied = copy_store(store, plan(store, max_bytes=1 << 20, origin_glob=None), tmp_path, clock=lambda: NOW)
    assert store.asked <= 2 * MOST_HOLES
    assert copied.missing == ()
    # What an agent wrote meanwhile is looked for first, so that what is planted cannot hide it.
    assert (tmp_path / late).read_bytes() == trail.objects[late]


def test_a_narrowed_store_shows_the_chosen_trails_and_nothing_else(tmp_path):
    trails = company()
    store = MemoryReader(objects_of(*trails) | {"foreign": b"x"})
    seen = Narrowed(store, [trails[1].origin])
    assert list(seen.origins()) == [trails[1].origin]
    assert {info.key for info in seen.objects("")} == set(trails[1].objects)
    report = verify_store(seen, Options(trust=trust_of(*trails)), now=moment_of(*trails))
    assert not report.log.counts


# ---- changing and putting back ------------------------------------------------------------------------------------------------------


def test_what_was_changed_is_put_back_byte_for_byte(tmp_path):
    trail = sample_trail()
    copy = copy_of(tmp_path, trail)
    before = digest(copy)
    first, second, *_ = sorted(trail.objects)
    objects = {first: b"changed", second: None, "new/folder/object": b"new"}
    with changed(copy, objects, linked=("trails/demo",), modified=1.0):
        assert (copy / "trails/demo").is_symlink()
        assert (copy / "new/folder/object").read_bytes() == b"new"
        with pytest.raises(NotVerifiedError, match="trails/demo is a symbolic link"):
            digest(copy)
    assert digest(copy) == before
    assert not (copy / "new").exists()
    assert stat.S_ISDIR((copy / "trails/demo").lstat().st_mode)


def test_it_is_put_back_when_something_goes_wrong_meanwhile(tmp_path):
    trail = sample_trail()
    copy = copy_of(tmp_path, trail)
    before = digest(copy)
    key = min(trail.objects)
    with pytest.raises(ZeroDivisionError), changed(copy, {key: b"?"}, modified=1.0):
        raise ZeroDivisionError
    assert digest(copy) == before


@pytest.mark.parametrize("raw", [None, b"forged"])
@pytest.mark.parametrize("key", ["../victim", "trails/../../victim", "ABSOLUTE", "", "a//b", "trails", "trails/demo"])
def test_a_change_of_what_is_no_place_for_an_object_of_the_copy_is_refused_before_anything_is_touched(tmp_path, key, raw):
    trail = sample_trail()
    copy = copy_of(tmp_path, trail)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    key = str(victim) if key == "ABSOLUTE" else key
    before, status = digest(copy), victim.stat()
    with pytest.raises(UntriedError, match="no place"), changed(copy, {min(trail.objects): b"?", key: raw}, modified=1.0):
        pytest.fail("it was changed")
    assert digest(copy) == before
    assert victim.read_bytes() == b"precious"
    assert (victim.stat().st_ino, victim.stat().st_mtime_ns, victim.stat().st_mode) == (status.st_ino, status.st_mtime_ns, status.st_mode)


@pytest.mark.parametrize("name", ["../elsewhere", "ABSOLUTE", ""])
def test_a_link_in_the_place_of_what_is_not_in_the_copy_is_refused(tmp_path, name):
    copy = copy_of(tmp_path, sample_trail())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    name = str(elsewhere) if name == "ABSOLUTE" else name
    with pytest.raises(UntriedError, match="no place"), changed(copy, {}, linked=(name,), modified=1.0):
        pytest.fail("it was changed")
    assert elsewhere.is_dir()
    assert not elsewhere.is_symlink()


@pytest.mark.parametrize("key", ["../victim", "ABSOLUTE", "a/../../victim", ""])
def test_nothing_is_put_outside_of_a_copy(tmp_path, key):
    copy, victim = tmp_path / "copy", tmp_path / "victim"
    copy.mkdir()
    victim.write_bytes(b"precious")
    with pytest.raises(UntriedError, match="no place"):
        put(copy, str(victim) if key == "ABSOLUTE" else key, b"forged", 1.0)
    assert victim.read_bytes() == b"precious"
    assert list(copy.iterdir()) == []


def test_a_digest_tells_of_every_byte_and_every_time(tmp_path):
    put(tmp_path, "a", b"1", 5.0)
    first = digest(tmp_path)
    put(tmp_path, "a", b"1", 6.0)
    second = digest(tmp_path)
    put(tmp_path, "a", b"2", 6.0)
    third = digest(tmp_path)
    put(tmp_path, "b", b"", 6.0)
    assert len({first, second, third, digest(tmp_path)}) == 4


def test_origins_are_read_with_the_plan(tmp_path):
    trail = sample_trail()
    origins: tuple[Origin, ...] = plan(MemoryReader(trail.objects), max_bytes=1 << 20, origin_glob=None).origins
    assert origins == (trail.origin,)
