"""What `join` may say, and which lines it makes one unit."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events.mappings.joining import MAX_LINES, Joining


def joining(**data: object) -> Joining:
    return Joining.from_mapping(data, "auditd.yaml")


def units(of: Joining, block: bytes) -> list[bytes]:
    spans = of.units(block)
    assert all(block[end : end + 1] in {b"", b"\n"} for _, end in spans)
    return [block[start:end] for start, end in spans]


def test_a_unit_begins_with_each_line_that_matches():
    of = joining(start=r"^\d{4}-\d\d-\d\d ")
    block = b"2026-06-30 a\n b\n\n2026-06-30 c\nat 2026-06-30 d\n"
    assert units(of, block) == [b"2026-06-30 a\n b\n", b"2026-06-30 c\nat 2026-06-30 d"]


def test_a_line_that_matches_goes_on_with_the_unit_before():
    assert units(joining(continues=r"^\t"), b"a\n\tb\n\tc\nd\n\n\te") == [b"a\n\tb\n\tc", b"d", b"\n\te"]


def test_lines_next_to_each_other_with_the_same_group_are_one_unit_until_its_end():
    of = joining(same=r"audit\(\d+\.\d+:(\d+)\)", end="^type=EOE ")
    lines = [
        b"type=SYSCALL msg=audit(1782820800.001:7): a0=1",
        b"type=PATH msg=audit(1782820800.001:7): item=0",
        b"type=EOE msg=audit(1782820800.001:7):",
        b"type=USER_AUTH msg=audit(1782820800.001:7): pid=1",
        b"nothing of it",
        b"nothing of it",
        b"type=SYSCALL msg=audit(1782820800.001:8): a0=1",
        b"type=SYSCALL msg=audit(1782820800.001:7): a0=1",
    ]
    assert units(of, b"\n".join(lines)) == [b"\n".join(lines[:3]), *lines[3:]]


def test_a_group_that_is_not_there_is_the_same_as_no_other():
    of = joining(same=r"^(?:id=(\d*)|-)")
    assert units(of, b"-\n-\nid=\nid=\nid=1\nid=1") == [b"-", b"-", b"id=", b"id=", b"id=1\nid=1"]


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("start", r"^a[^x]*$"), ("start", r"(?s)^a.*$"), ("start", r"^\s*a"), ("continues", r"^\s+b|^$"), ("start", "a\nb")],
)
def test_no_expression_looks_into_the_next_line(kind, pattern):
    of = joining(**{kind: pattern})
    lines = [b"a", b"", b" ", b"b", b"  b", b"ax", b"a"]
    one_by_one = [lines[0]]
    for line in lines[1:]:
        begins = (
            of.next_beginning(line, 0, len(line), 100, b"", inside=True) >= 0
            if line
            else of.next_beginning(b"\n", 0, 1, 100, b"", inside=True) >= 0
        )
        if begins:
            one_by_one.append(line)
        else:
            one_by_one[-1] += b"\n" + line
    assert units(of, b"\n".join(lines) + b"\n") == one_by_one


def test_an_empty_block_has_no_unit():
    assert joining(start="x").units(b"") == []


def test_a_line_that_matches_a_thousand_times_is_one_line():
    of = joining(start="a")
    assert units(of, b"aaaa" * 1000 + b"\nb\na\xffa\xffa\n") == [b"aaaa" * 1000 + b"\nb", b"a\xffa\xffa"]


def test_no_bytes_raise_an_exception():
    block = bytes(range(256)) * 4
    for of in (joining(start=r"\w"), joining(continues="é|[^a]"), joining(same=r"(.)", end="z")):
        assert b"\n".join(units(of, block)) == block


def test_what_is_not_said_has_its_default():
    of = joining(start="x")
    assert (of.end, of.max_lines, of.patience_seconds) == (None, MAX_LINES, 2.0)
    assert joining(start="x") == of != joining(start="y")


@pytest.mark.parametrize(
    ("data", "key", "words"),
    [
        ([], "join", "mapping of keys"),
        ({}, "join", "one of start, continues, same"),
        ({"start": "x", "continues": "y"}, "join", "one of start, continues, same"),
        ({"begin": "x"}, "join.begin", "not a known key"),
        ({"start": "x", "end": "y"}, "join.end", "`same` only"),
        ({"start": 7}, "join.start", "must be text"),
        ({"start": ""}, "join.start", "must be text"),
        ({"start": "("}, "join.start", "no regular expression"),
        ({"start": "(?=x)"}, "join.start", "no regular expression"),
        ({"start": "x" * 5000}, "join.start", "more than 4096"),
        ({"start": "\ud800"}, "join.start", "half a character"),
        ({"start": r"\Ax"}, "join.start", r"\A"),
        ({"start": r"x\z"}, "join.start", r"\A"),
        ({"continues": r"\Cx"}, "join.continues", r"\A"),
        ({"continues": "(?-m)^x"}, "join.continues", r"\A"),
        ({"continues": "(?i-ms:^x)"}, "join.continues", r"\A"),
        ({"same": "x"}, "join.same", "one group"),
        ({"same": "(x)(y)"}, "join.same", "one group"),
        ({"same": "(x)", "end": "("}, "join.end", "no regular expression"),
        ({"start": "x", "max_lines": 1}, "join.max_lines", "whole number"),
        ({"start": "x", "max_lines": True}, "join.max_lines", "whole number"),
        ({"start": "x", "max_lines": 1_000_000}, "join.max_lines", "whole number"),
        ({"start": "x", "patience_seconds": 0}, "join.patience_seconds", "seconds"),
        ({"start": "x", "patience_seconds": "2"}, "join.patience_seconds", "seconds"),
        ({"start": "x", "patience_seconds": float("nan")}, "join.patience_seconds", "seconds"),
        ({"start": "x", "patience_seconds": 100_000}, "join.patience_seconds", "seconds"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(data, key, words):
    with pytest.raises(ConfigError) as refused:
        Joining.from_mapping(data, "auditd.yaml")
    assert (refused.value.file, refused.value.key) == ("auditd.yaml", key)
    assert words in refused.value.message


def test_a_written_backslash_before_a_letter_is_no_anchor():
    assert units(joining(start=r"^x\\A"), b"x\\A\nb\n") == [b"x\\A\nb"]
