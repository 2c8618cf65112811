"""Seals and batches: whatever goes in comes out, and whatever is changed is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import FormatError, NotVerifiedError, ProofError
from agent.trail.batch import BatchBuilder, read_data
from agent.trail.layout import fold_name, is_name
from agent.trail.merkle import Frontier, leaf_hashes
from agent.trail.note import parse_note
from agent.trail.proof import TlogProof
from agent.trail.record_lines import decode_records, number_lines, strip_seq
from agent.trail.records import QuarantineReason, quarantine_body
from agent.trail.seal import open_seal, parse_seal
from agent.trail.ulid import is_ulid, new_ulid, ulid_milliseconds
from tests.unit.trail.samples import KEY, ORIGIN, TIME, following, opening

if TYPE_CHECKING:
    from agent.trail.seal import Seal


def trail(sizes: list[int]) -> list[Seal]:
    seal, frontier = opening()
    seals = [seal]
    for size in sizes:
        seal, frontier, _ = following(seal, frontier, size)
        seals.append(seal)
    return seals


SEALS = trail([0, 1, 2, 3, 0, 40])


def accepted(raw: bytes) -> bool:
    try:
        seal = parse_seal(raw)
        _, verified = open_seal(seal, str(ORIGIN), [KEY.verifier])
    except (FormatError, ProofError):
        return False
    return verified == {KEY.verifier}


@given(st.sampled_from(SEALS), st.data())
def test_a_seal_with_a_flipped_bit_is_refused(seal, data):
    raw = bytearray(seal.raw)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert accepted(seal.raw)
    assert not accepted(bytes(raw))


@given(st.sampled_from(SEALS), st.data())
def test_a_seal_with_bytes_cut_out_or_put_in_is_refused(seal, data):
    raw = seal.raw
    begin = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(begin, len(raw)))
    inserted = data.draw(st.binary(max_size=20) | st.just(raw[begin:end] * 2))
    wrong = raw[:begin] + inserted + raw[end:]
    assert accepted(wrong) == (wrong == raw)


@given(st.sampled_from(SEALS), st.sampled_from(SEALS), st.data())
def test_a_seal_spliced_from_the_lines_of_two_is_refused(one, other, data):
    left, right = one.raw.split(b"\n"), other.raw.split(b"\n")
    wrong = b"\n".join((*left[: data.draw(st.integers(0, len(left)))], *right[data.draw(st.integers(0, len(right))) :]))
    assert accepted(wrong) == (wrong in {one.raw, other.raw})


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_by_every_parser(raw):
    for parse in (parse_seal, TlogProof.parse, parse_note, Frontier.decode):
        try:
            parse(raw)
        except (FormatError, ProofError, NotVerifiedError):
            continue
        assert parse in {parse_note, Frontier.decode}


@settings(max_examples=50)
@given(st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=20), max_size=5), st.integers(0, 70))
def test_any_lines_in_any_blocks_come_back_in_their_order(blocks, size):
    start = Frontier.empty().extend(leaf_hashes([b"x"] * size))
    builder = BatchBuilder(start)
    bodies = []
    for block in blocks:
        made = [quarantine_body("s", TIME, QuarantineReason.NOT_JSON, "", raw) for raw in block]
        builder.add(b"".join(body + b"\n" for body in made))
        bodies += made
    cut = builder.finish()
    assert cut.count == len(bodies)
    lines = number_lines(bodies, size)
    assert cut.frontier == start.extend(leaf_hashes(lines))
    if cut.data is not None:
        assert list(read_data(cut.data, cut.raw_bytes)) == lines
        assert [head.seq for head in decode_records(lines, size)] == [strip_seq(line)[0] for line in lines]


@settings(max_examples=50)
@given(st.integers(1, 200), st.data())
def test_data_with_a_flipped_bit_never_gives_other_lines(count, data):
    builder = BatchBuilder(Frontier.empty())
    builder.add(b"".join(quarantine_body("s", TIME, QuarantineReason.NOT_JSON, "", b"%d" % n) + b"\n" for n in range(count)))
    cut = builder.finish()
    raw = bytearray(cut.data or b"")
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        lines = list(read_data(bytes(raw), cut.raw_bytes))
    except FormatError:
        return
    # Some header bits mean nothing to the content (the window's size); the manifest's SHA-256 of the object covers them.
    assert Frontier.empty().extend(leaf_hashes(lines)) == cut.frontier


@given(st.text(min_size=1, max_size=100))
def test_any_host_name_folds_to_a_name_that_folds_to_itself(raw):
    folded = fold_name(raw)
    assert is_name(folded)
    assert fold_name(folded) == folded


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_ulid_carries_its_time(milliseconds, randomness):
    ulid = new_ulid(milliseconds, randomness)
    assert is_ulid(ulid)
    assert ulid_milliseconds(ulid) == milliseconds
