"""The parser of the journal's export format: any chunks, any bytes, bounded memory."""

from __future__ import annotations

import hashlib
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events.classify import AllRule, FieldRule
from agent.sources.journal.export import Entry, ExportParser, Item, Long, Piece, is_same_entry

LIMIT = 100
CURSOR = "s=01;i={number:x};b=02;m={number:x};t={number:x};x=0{number:x}"
TAG = b'{"stream":"audit"}'


def field(name: bytes, value: bytes, *, sized: bool = False) -> bytes:
    if sized or b"\n" in value:
        return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"


def entry(number: int, *messages: bytes, sized: bool = False) -> bytes:
    head = field(b"__CURSOR", CURSOR.format(number=number).encode()) + b"__REALTIME_TIMESTAMP=1\n_BOOT_ID=02\n"
    return head + b"".join(field(b"MESSAGE", message, sized=sized) for message in messages) + b"\n"


def feed(data: bytes, step: int, parser: ExportParser) -> list[Item]:
    return [item for start in range(0, len(data), step) for item in parser.feed(data[start : start + step])]


def joined(items: list[Item]) -> tuple[list[Entry], bytes]:
    """Return the entries, and the pieces as one: their seams are no part of the promise."""
    return [item for item in items if isinstance(item, Entry)], b"".join(item.data for item in items if isinstance(item, Piece))


@given(
    messages=st.lists(st.lists(st.binary(max_size=3 * LIMIT), max_size=3), max_size=5),
    step=st.integers(1, 400),
    sized=st.booleans(),
)
def test_messages_come_out_byte_for_byte_however_the_chunks_fall(messages, step, sized):
    data = b"".join(entry(number, *each, sized=sized) for number, each in enumerate(messages))
    entries, passed = joined(feed(data, step, ExportParser(lambda _line: False, LIMIT)))
    assert [each.cursor for each in entries] == [CURSOR.format(number=number) for number in range(len(messages))]
    long = b""
    for found, each in zip(entries, messages, strict=True):
        for got, message in zip(found.messages, each, strict=True):
            if len(message) <= LIMIT:
                assert got == message
            else:
                assert got == Long(len(message), hashlib.sha256(message).hexdigest(), message[:2048][:LIMIT], False, False)
                long += message + b"\n"
    assert passed == long


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
@pytest.mark.parametrize("sized", [False, True])
def test_a_long_audit_message_is_not_passed_on(step, sized):
    message = TAG[:-1] + b',"x":"' + b"y" * 500 + b'"}'
    entries, passed = joined(feed(entry(1, message, sized=sized), step, ExportParser(FieldRule().is_audit, LIMIT)))
    [found] = entries[0].messages
    assert found == Long(len(message), hashlib.sha256(message).hexdigest(), message[:LIMIT], audit=True, late=False)
    assert passed == b""


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
def test_a_tag_behind_the_limit_is_found_across_the_chunks(step):
    message = b'{"x":"' + b"y" * 500 + b'","stream": "audit"}'
    entries, passed = joined(feed(entry(1, message), step, ExportParser(FieldRule().is_audit, LIMIT)))
    assert [(each.audit, each.late) for each in entries[0].messages if isinstance(each, Long)] == [(False, True)]
    assert passed == message + b"\n"


@pytest.mark.parametrize("step", [1, 13, 10_000])
def test_the_known_entry_is_left_out_with_all_its_pieces(step):
    data = entry(1, b"x" * 500) + entry(2, b"new")
    parser = ExportParser(lambda _line: False, LIMIT, CURSOR.format(number=1))
    assert feed(data, step, parser) == [Entry(CURSOR.format(number=2), (b"new",))]


def test_what_is_no_field_of_interest_is_stepped_over():
    data = b"-- No entries --\n\n" + b"LONG=" + b"z" * 1000 + b"\n" + field(b"BLOB", b"\n\n=" * 200) + entry(1, b"a")
    for step in (1, 50, 10_000):
        assert feed(data, step, ExportParser(AllRule().is_audit, LIMIT)) == [Entry(CURSOR.format(number=1), (b"a",))]


def test_an_entry_without_its_end_is_no_entry():
    assert ExportParser(AllRule().is_audit, LIMIT).feed(entry(1, b"a")[:-1]) == []


def test_a_message_of_many_megabytes_is_not_held():
    parser = ExportParser(lambda _line: False, LIMIT)
    parser.feed(entry(1, b"")[:-1] + b"MESSAGE\n" + struct.pack("<Q", 64 << 20))
    chunk = bytes(1 << 20)
    held = 0
    for _ in range(64):
        parser.feed(chunk)
        held = max(held, sys.getsizeof(parser._buffer))
    [end, found] = parser.feed(b"\n\n")
    assert end == Piece(b"\n")
    assert isinstance(found, Entry)
    assert [each.length for each in found.messages if isinstance(each, Long)] == [64 << 20]
    assert held <= 3 << 20


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("s=01;i=4;b=02;m=4;t=4;x=04", True),
        ("s=99;i=1;b=02;m=4;t=4;x=04", True),
        ("s=01;i=5;b=02;m=4;t=4;x=04", False),
        ("s=01;i=4;b=03;m=4;t=4;x=04", False),
        ("s=01;i=4;b=02;m=4;t=4;x=05", False),
        ("s=01;i=4;b=02;m=5;t=5;x=04", False),
        ("s=01;i=4", False),
        ("", False),
    ],
)
def test_entries_are_told_apart_by_boot_times_and_contents(other, same):
    assert is_same_entry(CURSOR.format(number=4), other) is same


def test_two_cursors_that_say_nothing_name_no_common_entry():
    assert not is_same_entry("s=1", "s=2")
