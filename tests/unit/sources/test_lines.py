from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events.classify import AllRule, FieldRule, PrefixRule
from agent.sources.lines import LineCutter, Overlong, Passed, Piece, Whole

LIMIT = 40
LONG = b"x" * 100


def cut(chunks: list[bytes], rule: FieldRule | PrefixRule | AllRule | None = None) -> list[Piece]:
    """Feed chunks as a source does: what is left over comes first, again."""
    cutter = LineCutter((rule or FieldRule()).is_audit, line_limit=LIMIT, head_bytes=10)
    pieces: list[Piece] = []
    rest = b""
    for number, chunk in enumerate(chunks):
        rest += chunk
        new, consumed = cutter.feed(rest, final=number == len(chunks) - 1)
        pieces += new
        rest = rest[consumed:]
        assert len(rest) <= LIMIT
    assert rest == b""
    return pieces


def test_whole_lines_go_out_and_a_partial_one_stays():
    cutter = LineCutter(FieldRule().is_audit, line_limit=LIMIT)
    assert cutter.feed(b"a\nb\npart") == ([Whole(0, b"a\nb\n")], 4)
    assert cutter.offset == cutter.boundary == 4
    assert cutter.feed(b"partial\n") == ([Whole(4, b"partial\n")], 8)


def test_a_line_of_exactly_the_limit_is_whole_and_one_byte_more_is_not():
    fits = b"y" * LIMIT + b"\n"
    assert cut([b"a\n" + fits + fits]) == [Whole(0, b"a\n" + fits + fits)]
    assert cut([b"a\ny" + fits + b"b\n"]) == [Whole(0, b"a\n"), Passed(2, b"y" + fits, last=True), Whole(len(fits) + 3, b"b\n")]


def test_the_cursor_may_not_pass_the_start_of_an_over_long_line_before_its_end():
    cutter = LineCutter(FieldRule().is_audit, line_limit=LIMIT)
    cutter.feed(b"a\n" + LONG)
    assert (cutter.boundary, cutter.offset, cutter.inside_long_line) == (2, 102, True)
    cutter.feed(b"\n")
    assert (cutter.boundary, cutter.offset, cutter.inside_long_line) == (103, 103, False)


def test_an_over_long_audit_line_is_swallowed_and_stated():
    line = b'{"stream":"audit",' + LONG
    expected = Overlong(2, len(line), hashlib.sha256(line).hexdigest(), line[:10], late=False)
    assert cut([b"a\n" + line[:50], line[50:60], line[60:] + b"\nb\n"]) == [Whole(0, b"a\n"), expected, Whole(len(line) + 3, b"b\n")]


@pytest.mark.parametrize("split", range(100, 130))
def test_a_tag_found_late_is_stated_as_well_wherever_the_seam_is(split: int):
    line = b'{"x":"' + LONG + b'","stream":"audit"}'
    pieces = cut([line[:split], line[split:] + b"\n"])
    assert b"".join(piece.data for piece in pieces if isinstance(piece, Passed)) == line + b"\n"
    assert [piece for piece in pieces if isinstance(piece, Overlong)] == [
        Overlong(0, len(line), hashlib.sha256(line).hexdigest(), line[:10], late=True)
    ]


def test_a_prefix_counts_only_where_the_line_begins():
    rule = PrefixRule("AUDIT ")
    assert not [piece for piece in cut([LONG, b"AUDIT " + LONG, b"\n"], rule) if isinstance(piece, Overlong)]
    assert [type(piece) for piece in cut([b"AUDIT " + LONG, LONG, b"\n"], rule)] == [Overlong]


def test_everything_but_white_space_is_audit_where_all_is():
    assert [type(piece) for piece in cut([LONG, b"\n"], AllRule())] == [Overlong]
    late = [piece for piece in cut([b" " * 60, b" " * 60 + b"z\n"], AllRule()) if isinstance(piece, Overlong)]
    assert [piece.late for piece in late] == [True]


def test_a_source_that_ends_inside_an_over_long_line_ends_the_line():
    assert cut([LONG, b""])[-1] == Passed(100, b"", last=True)
    assert [type(piece) for piece in cut([b'{"stream":"audit"' + LONG, b""])] == [Overlong]


@given(st.lists(st.lists(st.sampled_from([b"a", b"bc\n", b"\n", b'"stream":"audit"', b"d" * 39, b"e" * 41]), max_size=6).map(b"".join)))
def test_the_pieces_are_the_bytes_however_they_were_chunked(chunks: list[bytes]):
    whole = b"".join(chunks)
    rebuilt = b""
    for piece in cut([*chunks, b""]):
        if isinstance(piece, Overlong):
            line = whole[piece.offset : piece.offset + piece.length]
            assert hashlib.sha256(line).hexdigest() == piece.sha256
            assert piece.length > LIMIT
            if not piece.late:
                assert len(rebuilt) == piece.offset
                rebuilt += whole[piece.offset : piece.offset + piece.length + 1]
        else:
            assert len(rebuilt) == piece.offset
            rebuilt += piece.data
            if isinstance(piece, Whole):
                assert max(map(len, piece.data.split(b"\n"))) <= LIMIT
    assert rebuilt == whole
