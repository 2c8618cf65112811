"""The parts of the file source that decide without reading lines: identity, names, handles."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.intake import Anchor, Cursor
from agent.sources.file import TailSettings
from agent.sources.file.discover import Found, around, folders, later, scan, turned
from agent.sources.file.handle import GzipHandle, PlainHandle, open_handle
from agent.sources.file.identity import Judgement, Sameness, anchor_at, digest, judge, with_anchor
from agent.sources.file.recovery import locate_all

if TYPE_CHECKING:
    from pathlib import Path

KEY = (1, 2)
CONTENT = bytes(range(256)) * 20


def cursor_at(offset: int, content: bytes = CONTENT, *, older: tuple[int, ...] = ()) -> Cursor:
    head = content[: min(1024, offset)]
    anchors = tuple(anchor_at(one, content[max(0, one - 256) : one]) for one in (offset, *older) if one)
    return Cursor(
        source="app",
        file_id="01kef0b7js99j9tbdgxrfw0g1w",
        path="/var/log/app.log",
        device=KEY[0],
        inode=KEY[1],
        offset=offset,
        size_seen=offset,
        head_bytes=len(head),
        head_sha256=digest(head),
        anchors=anchors,
    )


def read_all(path: str) -> None:
    handle = open_handle(path)
    try:
        handle.read(0, 3_000_001)
    finally:
        handle.close()


def judged(cursor: Cursor, content: bytes, key: tuple[int, int] = KEY) -> Judgement:
    return judge(cursor, key, len(content), lambda offset, length: content[offset : offset + length])


@pytest.mark.parametrize("offset", [1, 255, 256, 257, 1023, 1024, 1025, 5000, 5120])
def test_the_same_content_is_the_same_file_whatever_its_inode(offset: int):
    assert judged(cursor_at(offset), CONTENT + b"more", (9, 9)) == (Sameness.SAME, offset)
    assert judged(cursor_at(offset), CONTENT[:offset]) == (Sameness.SAME, offset)
    assert judged(cursor_at(offset), CONTENT[: offset - 1]).sameness is Sameness.OTHER
    changed = bytearray(CONTENT)
    changed[offset - 1] ^= 1
    assert judged(cursor_at(offset), bytes(changed)).sameness is Sameness.OTHER


def test_at_offset_zero_the_inode_decides():
    assert judged(cursor_at(0), b"anything").sameness is Sameness.SAME
    assert judged(cursor_at(0), b"anything", (1, 3)).sameness is Sameness.OTHER


def test_a_file_of_which_an_older_mark_fits_was_rolled_back():
    cursor = cursor_at(5000, older=(4000, 2000))
    assert judged(cursor, CONTENT[:4500]) == (Sameness.ROLLED_BACK, 4000)
    assert judged(cursor, CONTENT[:3000] + b"new" * 900) == (Sameness.ROLLED_BACK, 2000)
    assert judged(cursor, CONTENT[:1500]).sameness is Sameness.OTHER
    assert judged(cursor, b"z" + CONTENT[1:4500]).sameness is Sameness.OTHER


def test_marks_are_few_and_reach_far_back():
    anchors: tuple[Anchor, ...] = ()
    for offset in range(0, 40_000_000, 10_000):
        anchors = with_anchor(anchors, Anchor(offset=offset, sha256=""))
        assert len(anchors) <= 8
    distances = [anchors[0].offset - anchor.offset for anchor in anchors]
    assert distances[0] == 0
    assert distances == sorted(distances)
    for low, high in ((1, 64 << 10), (64 << 10, 1 << 20), (1 << 20, 16 << 20), (16 << 20, 40 << 20)):
        assert any(low <= distance <= high for distance in distances), (low, distances)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("app.log.1", "1"),
        ("app.log.2.gz", "2"),
        ("app.log-20260101", "20260101"),
        ("app-20260101.log", "20260101"),
        ("app.log.2026-01-08T14:32:07", "2026-01-08T14:32:07"),
        ("app.1.log", "1"),
        ("app.log.old", "old"),
        ("app.log", None),
        ("application.log", None),
        ("app-access.log", None),
        ("app.log.swp", None),
        ("app1.log", None),
    ],
)
def test_rotated_names_are_told_from_other_logs(name: str, word: str | None):
    assert turned("/var/log/app.log", f"/var/log/{name}") == word


def test_later_files_are_ordered_by_time_and_within_one_tick_by_number():
    files = [Found(f"/l/app.log.{number}", (1, number), 5, moment) for number, moment in ((1, 30), (2, 20), (3, 20), (4, 20), (5, 10))]
    assert [one.path[-1] for one in later("/l/app.log", files[2], files, lambda _: False)] == ["2", "1"]
    assert [one.path[-1] for one in later("/l/app.log", files[4], files, lambda one: one.key == (1, 2))] == ["4", "3", "1"]
    assert later("/l/app.log", None, files, lambda _: False) == []


def test_a_scan_follows_links_skips_compressed_files_and_other_things(tmp_path: Path):
    (tmp_path / "a.log").write_bytes(b"")
    (tmp_path / "b.log").symlink_to(tmp_path / "a.log")
    (tmp_path / "gone.log").symlink_to(tmp_path / "nothing")
    (tmp_path / "c.log").mkdir()
    (tmp_path / "a.log.gz").write_bytes(b"")
    os.mkfifo(tmp_path / "d.log")
    found = scan([str(tmp_path / "*.log*"), str(tmp_path / "**" / "*.log"), str(tmp_path / "none" / "*")])
    assert sorted(found.by_path) == [str(tmp_path / "a.log"), str(tmp_path / "b.log")]
    assert list(found.names.values()) == [[str(tmp_path / "a.log"), str(tmp_path / "b.log")]]


def test_only_folders_that_exist_are_watched(tmp_path: Path):
    (tmp_path / "x1").mkdir()
    patterns = [str(tmp_path / "x*" / "a.log"), str(tmp_path / "none" / "*.log"), str(tmp_path / "x1" / "**" / "*.log")]
    assert folders(patterns) == (frozenset(), frozenset({str(tmp_path / "x1")}))
    assert folders(patterns[:2]) == (frozenset({str(tmp_path / "x1")}), frozenset())


def test_siblings_come_plain_before_compressed_and_newest_first(tmp_path: Path):
    for age, name in enumerate(["app.log.3.gz", "app.log.2", "app.log.1", "app.log", "other.log", "app.log.4.xz"]):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (age, age))
    names = [one.path.rpartition("/")[2] for one in around(str(tmp_path / "app.log")).siblings]
    assert names == ["app.log.1", "app.log.2", "app.log.3.gz"]


def test_a_compressed_file_is_read_by_position(tmp_path: Path):
    path = tmp_path / "app.log.1.gz"
    content = os.urandom(3_000_000)
    path.write_bytes(gzip.compress(content))
    handle = open_handle(str(path))
    assert isinstance(handle, GzipHandle)
    assert handle.size() is None
    for offset, length in ((0, 1024), (2_000_000, 500_000), (2_000_100, 10), (5, 300), (2_999_990, 100), (3_000_000, 5), (4_000_000, 5)):
        assert handle.read(offset, length) == content[offset : offset + length]
    assert handle.size() == len(content)
    handle.close()
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(OSError, match="not complete"):
        read_all(str(path))


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(OSError, match="not a regular file"):
            PlainHandle(str(tmp_path / name))


def test_a_file_is_given_to_one_cursor_only(tmp_path: Path):
    path = tmp_path / "app.log"
    path.write_bytes(CONTENT)
    status = path.stat()
    first = Cursor(source="app", file_id="0" * 26, path=str(path), device=status.st_dev, inode=status.st_ino)
    second = Cursor(source="app", file_id="1" * 26, path=str(path), device=status.st_dev, inode=status.st_ino)
    matches = locate_all([second, first], scan([str(path)]))
    assert [(cursor.file_id[0], match is not None) for cursor, match in matches] == [("0", True), ("1", False)]


def test_equal_content_does_not_let_an_older_cursor_take_the_file_of_another(tmp_path: Path):
    path = tmp_path / "app.log.1"
    path.write_bytes(CONTENT)
    status = path.stat()
    gone = replace(cursor_at(5000), file_id="0" * 26, path=str(tmp_path / "app.log"))
    here = replace(gone, file_id="1" * 26, device=status.st_dev, inode=status.st_ino, path=str(path))
    matches = locate_all([gone, here], scan([str(tmp_path / "*.log*")]))
    assert [(cursor.file_id[0], match is not None) for cursor, match in matches] == [("0", False), ("1", True)]


def test_a_block_must_hold_a_line():
    with pytest.raises(ValueError, match="cannot hold"):
        TailSettings(block_bytes=1000, line_limit=1000)
