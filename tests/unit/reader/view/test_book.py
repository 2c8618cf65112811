from __future__ import annotations

import resource
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from agent.errors import ConfigError
from agent.reader.view.audit import MemoryRecorder
from agent.reader.view.book import BOOK_FILE, KEY_FILE, Book
from agent.reader.view.grants import issue, make_grant
from agent.reader.view.noting import Notes

if TYPE_CHECKING:
    from pathlib import Path

    from agent.reader.view.grants import Grant

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def grant(number: int = 0) -> Grant:
    return make_grant(
        identifier=f"{number:016x}", name="Jane", services=("a/b",), since=None, until=None, expires=NOW + timedelta(days=1), now=NOW
    )


@pytest.fixture
def book(tmp_path: Path) -> Book:
    made = Book(tmp_path / "state")
    made.key(make=True)
    return made


def test_the_key_and_the_book_are_the_owners_alone(book: Book) -> None:
    book.add(grant())
    for name in (KEY_FILE, BOOK_FILE):
        assert stat.S_IMODE((book.folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(book.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in book.folder.iterdir()) == [KEY_FILE, BOOK_FILE], "nothing is left behind"


def test_a_key_stays_the_same(book: Book) -> None:
    assert Book(book.folder).key(make=True) == book.key()


def test_a_key_that_others_may_read_is_refused(book: Book) -> None:
    (book.folder / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        book.key()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_in_which_others_could_put_a_key_is_refused(book: Book, mode: int) -> None:
    book.folder.chmod(mode)
    with pytest.raises(ConfigError, match="others may write"):
        book.key(make=True)


def test_a_revocation_that_is_not_wholly_on_the_disk_is_not_said_to_be_one(book: Book) -> None:
    """A full disk takes the beginning of a line, and the system calls that a success."""
    book.add(grant())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((book.folder / BOOK_FILE).stat().st_size + 30, limit[1]))
    try:
        with pytest.raises(ConfigError, match="cannot write the book"):
            book.revoke(grant().id, NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


async def test_a_grant_is_recorded_in_every_trail_in_which_it_is_honoured(book: Book, tmp_path: Path) -> None:
    book.add(grant())
    trails = [MemoryRecorder(), MemoryRecorder()]
    for number, recorder in enumerate(trails):
        folder = tmp_path / f"trail-{number}"
        folder.mkdir()
        for _ in range(2):
            await Notes(book, recorder, "s", folder).catch_up()
    assert [[event["action"] for event in recorder.events] for recorder in trails] == [["grant.create"], ["grant.create"]]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_key_is_refused(book: Book, content: bytes) -> None:
    (book.folder / KEY_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="no key"):
        book.key()


def test_a_key_that_is_a_link_is_refused(book: Book, tmp_path: Path) -> None:
    (book.folder / KEY_FILE).rename(tmp_path / "elsewhere")
    (book.folder / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot read"):
        book.key()


def test_the_book_holds_no_token(book: Book) -> None:
    made = grant()
    token = issue(made, book.key())
    book.add(made)
    text = (book.folder / BOOK_FILE).read_text(encoding="utf-8")
    assert token not in text
    assert token.rpartition(".")[2] not in text


def test_what_another_process_writes_counts_at_once(book: Book) -> None:
    assert book.entries().grants == {}
    other = Book(book.folder)
    other.add(grant())
    assert list(book.entries().grants) == [grant().id]
    other.revoke(grant().id, NOW)
    assert list(book.entries().revoked) == [grant().id]


def test_a_grant_that_was_never_given_cannot_be_revoked(book: Book) -> None:
    with pytest.raises(ConfigError, match="no grant"):
        book.revoke("f" * 16, NOW)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"granted":1}', b"\xff\xfe", b'{"granted":{"id":"x"}}', b'{"revoked":"0000000000000000'])
def test_a_damaged_book_lets_nobody_in(book: Book, line: bytes) -> None:
    """The damaged line may have been a revocation."""
    book.add(grant())
    with (book.folder / BOOK_FILE).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ConfigError, match="not a line"):
        book.entries()


def test_a_removed_book_forgets_every_grant(book: Book) -> None:
    book.add(grant())
    assert book.entries().grants
    (book.folder / BOOK_FILE).unlink()
    assert book.entries().grants == {}


async def test_a_grant_is_recorded_before_it_counts(book: Book) -> None:
    recorder = MemoryRecorder()
    notes = Notes(book, recorder, "/srv/trail", book.folder)
    book.add(grant())
    recorder.error = RuntimeError("the disk is full")
    with pytest.raises(RuntimeError):
        await notes.catch_up()
    recorder.error = None
    assert list((await notes.catch_up()).grants) == [grant().id]
    book.revoke(grant().id, NOW)
    await notes.catch_up()
    assert [event["action"] for event in recorder.events] == ["grant.create", "grant.revoke"]
    created = recorder.events[0]["context"]
    assert (created["token_id"], created["services"], created["name"]) == (grant().id, ["a/b"], "Jane")


async def test_what_was_recorded_is_not_recorded_again_after_a_restart(book: Book) -> None:
    recorder = MemoryRecorder()
    for number in range(3):
        book.add(grant(number))
    await Notes(book, recorder, "s", book.folder).catch_up()
    await Notes(book, recorder, "s", book.folder).catch_up()
    assert len(recorder.events) == 3
