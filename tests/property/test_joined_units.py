"""However the bytes of a source are cut into chunks, its units are the same, and its pieces joined up are the bytes."""

from __future__ import annotations

import re
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.mappings.joining import Joining
from agent.sources.envelope import Ending
from agent.sources.joined import make_cutter, rest_bytes
from agent.sources.lines import LineCutter, Overlong, Passed, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT = 24
HEAD = 8
MAX_LINES = 4
KINDS = {
    "start": Joining("start", "^[A-C]", max_lines=MAX_LINES),
    "start anywhere": Joining("start", "#|b$", max_lines=MAX_LINES),
    "continues": Joining("continues", r"^[ \t]|^$", max_lines=MAX_LINES),
    "continues at the end": Joining("continues", r"\bb$", max_lines=MAX_LINES),
    "same": Joining("same", r"(\d+)", "^end|#$", max_lines=MAX_LINES),
    "same without an end": Joining("same", r"\b(\d?)", max_lines=MAX_LINES),
}
LINES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"A",
            b"B one",
            b"C1",
            b"\tmore",
            b" 1",
            b"end 1",
            b"1",
            b"2 tag",
            b"22",
            b"#",
            b"b",
            b"a b",
            b"tag",
            b"x#",
            b"\xff1\xff",
            b"a\r",
        ]
    ),
    st.binary(max_size=6).map(lambda line: line.replace(b"\n", b".")),
    st.sampled_from([b"A", b"\t", b"1", b"x"]).flatmap(
        lambda begin: st.integers(LIMIT - 3, 3 * LIMIT).map(lambda size: begin + b"b" * size)
    ),
    st.sampled_from([b"tag", b"end", b"#", b"1"]).flatmap(
        lambda end: st.integers(LIMIT - 5, 2 * LIMIT).map(lambda size: b"y" * size + end)
    ),
)


@st.composite
def sources(draw: st.DrawFn) -> bytes:
    """Return lines; the last one may lack its newline."""
    return b"\n".join(draw(st.lists(LINES, max_size=16)))


def is_audit(line: bytes) -> bool:
    assert b"\n" not in line[1:]
    return b"tag" in line


def expected(joining: Joining, data: bytes) -> list[tuple[object, ...]]:
    """Return the units by the definition, a line at a time."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+$", data)
    pattern, end = (None if text is None else re.compile(text.encode(), re.ASCII) for text in (joining.pattern, joining.end))
    units: list[list[bytes]] = []
    key: bytes | None = None
    for line in lines:
        text = line.removesuffix(b"\n")
        # What lies behind the limit is seen as something that is no end of a line.
        seen = text if len(text) <= LIMIT else text[:LIMIT]
        found = _search(pattern, text, len(seen))
        if joining.kind == "same":
            own = None if found is None else found.group(1) or None
            goes_on = own is not None and own == key
            key = None if end is not None and _search(end, text, len(seen)) else own
        else:
            goes_on = (found is None) == (joining.kind == "start")
        if units and goes_on:
            units[-1].append(line)
        else:
            units.append([line])
    return list(_pieces(units))


def _search(pattern: re.Pattern[bytes] | None, text: bytes, seen: int) -> re.Match[bytes] | None:
    """Find the first match that ends within what is seen, and for which what is behind is there."""
    assert pattern is not None
    return next((found for found in pattern.finditer(text) if found.end() <= seen), None)


def _pieces(units: Sequence[Sequence[bytes]]) -> Iterator[tuple[object, ...]]:
    offset = 0
    for lines in units:
        whole = b"".join(lines)
        text = whole.removesuffix(b"\n")
        if len(text) <= LIMIT and len(lines) <= MAX_LINES:
            yield "unit", offset, whole
        else:
            head = b"".join(lines[:MAX_LINES])[:LIMIT]
            audit = b"tag" in head
            if not audit:
                yield "passed", offset, whole
            if audit or b"tag" in text.replace(b"\n", b" "):
                yield "overlong", offset, len(text), sha256(text).hexdigest(), text[:HEAD], not audit
        offset += len(whole)


def feed_all(cutter: LineCutter, chunks: Sequence[bytes], joining: Joining) -> list[tuple[object, ...]]:
    """Return what a cutter gives for chunks, with what it gave in parts put together."""
    given: list[tuple[object, ...]] = []
    passed: tuple[int, bytes] | None = None
    rest = b""
    for number, chunk in enumerate(chunks):
        final = number == len(chunks) - 1
        pieces, consumed = cutter.feed(rest + chunk, final=final)
        rest = (rest + chunk)[consumed:]
        assert len(rest) <= rest_bytes(joining, LIMIT)
        assert cutter.boundary <= cutter.offset
        for piece in pieces:
            match piece:
                case Whole(offset, data):
                    spans = joining.units(data)
                    assert b"".join(data[start : end + 1] for start, end in spans) == data
                    given += [("unit", offset + start, data[start : end + 1]) for start, end in spans]
                case Passed(offset, data, last):
                    passed = (offset, data) if passed is None else (passed[0], passed[1] + data)
                    if last:
                        given.append(("passed", *passed))
                        passed = None
                case Overlong(offset, length, digest, head, late):
                    given.append(("overlong", offset, length, digest, head, late))
    assert not rest
    assert passed is None
    assert not cutter.inside_long_line
    assert not cutter.waiting
    return given


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in pairwise(places)] or [b""]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=400, deadline=None)
@given(data=sources(), at=st.lists(st.integers(0, 2000), max_size=12))
def test_any_chunks_of_a_source_give_the_units_of_the_definition(kind: str, data: bytes, at: list[int]) -> None:
    joining = KINDS[kind]
    cutter = make_cutter(joining, is_audit, line_limit=LIMIT, head_bytes=HEAD)
    assert feed_all(cutter, cut(data, at), joining) == expected(joining, data)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=sources())
def test_bytes_that_come_one_by_one_give_the_units_of_the_definition(kind: str, data: bytes) -> None:
    joining = KINDS[kind]
    cutter = make_cutter(joining, is_audit, line_limit=LIMIT, head_bytes=HEAD)
    assert feed_all(cutter, [bytes([byte]) for byte in data] or [b""], joining) == expected(joining, data)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None)
@given(data=sources(), at=st.lists(st.integers(0, 2000), max_size=6), endings=st.lists(st.sampled_from(Ending), min_size=9, max_size=9))
def test_whenever_the_last_unit_is_called_complete_no_byte_is_lost_or_doubled(
    kind: str, data: bytes, at: list[int], endings: list[Ending]
) -> None:
    cutter = make_cutter(KINDS[kind], is_audit, line_limit=LIMIT, head_bytes=HEAD)
    position = 0
    rest = b""
    for number, chunk in enumerate([*cut(data, at), b""]):
        offset = cutter.offset
        pieces, consumed = cutter.feed(rest + chunk, final=number == len(cut(data, at)), ending=endings[number])
        taken, rest = (rest + chunk)[:consumed], (rest + chunk)[consumed:]
        for piece in pieces:
            match piece:
                case Whole(at_offset, block) | Passed(at_offset, block, _):
                    assert block == data[at_offset : at_offset + len(block)]
                    position = max(position, at_offset)
                    assert position == at_offset
                    position += len(block)
                case Overlong(at_offset, length, digest, _, late):
                    assert digest == sha256(data[at_offset : at_offset + length]).hexdigest()
                    if not late:
                        assert position == at_offset
                        position += length + (data[at_offset + length : at_offset + length + 1] == b"\n")
        assert cutter.offset == offset + len(taken)
        if not cutter.inside_long_line:
            assert position == cutter.offset
        assert data[cutter.offset :].startswith(rest)
        if endings[number] is Ending.FINAL:
            assert b"\n" not in rest
    assert position == len(data)
