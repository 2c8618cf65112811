from __future__ import annotations

import io
import json
from hashlib import sha256

import pytest
import zstandard

from agent.errors import FormatError, IntegrityError
from agent.trail.batch import BatchBuilder, read_blocks, read_data
from agent.trail.merkle import Frontier, leaf_hash, leaf_hashes
from agent.trail.record_lines import decode_records, number_lines
from agent.trail.records import event_block, event_bodies
from tests.unit.trail.samples import TIME, cut_of, events

START = Frontier.empty().append(leaf_hash(b"manifest of batch 0"))


def compress(raw: bytes, *, checksum: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=False).compress(raw)


def test_a_batch_is_one_zstd_frame_of_numbered_lines():
    cut = cut_of(START, 1000)
    assert cut.data is not None
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(cut.data)).read()
    lines = raw.split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 1001))
    assert lines == number_lines(event_bodies("app", TIME, events(1000), [(100 * n, 100) for n in range(1000)]), 1)
    assert (cut.count, cut.raw_bytes) == (1000, len(raw))
    assert cut.frontier == START.extend(leaf_hashes(lines))
    assert cut.sha256 == sha256(cut.data).hexdigest()
    assert zstandard.get_frame_parameters(cut.data).has_checksum


def test_how_the_bodies_were_divided_into_blocks_changes_neither_lines_nor_tree():
    bodies = event_bodies("app", TIME, events(50), None)
    builder = BatchBuilder(START)
    for begin, end in ((0, 1), (1, 8), (8, 8), (8, 49), (49, 50)):
        builder.add(b"".join(body + b"\n" for body in bodies[begin:end]))
        assert builder.count == end
    cut = builder.finish()
    assert cut.data is not None
    assert list(read_data(cut.data, cut.raw_bytes)) == number_lines(bodies, 1)
    assert cut.frontier == START.extend(leaf_hashes(number_lines(bodies, 1)))


def test_the_same_blocks_give_the_same_bytes():
    assert cut_of(START, 300).data == cut_of(START, 300).data


def test_a_batch_without_records_has_no_data():
    builder = BatchBuilder(START)
    builder.add(b"")
    cut = builder.finish()
    assert (cut.data, cut.sha256, cut.count, cut.raw_bytes, cut.frontier) == (None, None, 0, 0, START)


def test_a_finished_batch_takes_nothing_more():
    builder = BatchBuilder(START)
    builder.finish()
    with pytest.raises(IntegrityError, match="finished"):
        builder.add(event_block("app", TIME, events(1), None))
    with pytest.raises(IntegrityError, match="finished"):
        builder.finish()


@pytest.mark.parametrize(
    "block", [b"\n", b"x\n", b',"kind":"event"}', b',"kind":"event"}\n\n', b',"kind":"event"}\n{}\n', b'{"seq":1,"kind":"event"}\n']
)
def test_blocks_that_are_not_bodies_are_refused_and_leave_the_batch_as_it_was(block):
    builder = BatchBuilder(START)
    with pytest.raises(IntegrityError):
        builder.add(block)
    assert (builder.count, builder.frontier) == (0, START)


def test_lines_longer_than_a_zstd_block_are_read_whole():
    long = [b'{"event_id":"%d","text":"%s"}' % (n, bytes([97 + n]) * size) for n, size in enumerate((400_000, 10, 131_072, 300_000))]
    builder = BatchBuilder(START)
    builder.add(event_block("app", TIME, long, None))
    cut = builder.finish()
    assert cut.data is not None
    lines = list(read_data(cut.data, cut.raw_bytes))
    assert lines == number_lines(event_bodies("app", TIME, long, None), 1)
    assert len(decode_records(lines, 1)) == 4


def test_blocks_are_bounded_whatever_the_data_promises():
    bomb = compress(b"a" * 99 + b"\n" + (b"b" * 99 + b"\n") * 1_000_000)
    assert len(bomb) < 20_000
    blocks = read_blocks(bomb, 10**9)
    assert max(sum(map(len, block)) for block, _ in zip(blocks, range(50), strict=False)) <= 131_072 + 100
    with pytest.raises(FormatError, match="more than 200000 bytes"):
        list(read_data(bomb, 200_000))


CUT = cut_of(START, 200)
DATA = CUT.data or b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DATA[:-1],
        DATA[:-4],
        DATA[:-5],
        DATA[:3],
        DATA[:6],
        DATA + b"\0",
        DATA + DATA,
        DATA + b"\x50\x2a\x4d\x18\0\0\0\0",
        b"\x50\x2a\x4d\x18\0\0\0\0" + DATA,
        DATA[:-1] + bytes([DATA[-1] ^ 1]),
        DATA[: len(DATA) // 2] + bytes([DATA[len(DATA) // 2] ^ 1]) + DATA[len(DATA) // 2 + 1 :],
        compress(b"a\nb\n", checksum=False),
        compress(b"a\nb"),
        compress(b"a\n\nb\n"),
        compress(b"\n"),
        b"a\nb\n",
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_data_that_is_not_exactly_one_intact_frame_of_lines_is_refused(data):
    with pytest.raises(FormatError):
        list(read_data(data, 1 << 20))


def test_a_limit_of_exactly_the_size_is_enough():
    assert len(list(read_data(DATA, CUT.raw_bytes))) == 200
    with pytest.raises(FormatError):
        list(read_data(DATA, CUT.raw_bytes - 1))


def test_a_frame_of_raw_run_length_and_empty_blocks_is_read():
    header = b"\x28\xb5\x2f\xfd\x04\x38"
    raw_block = (4 << 3).to_bytes(3, "little") + b"ab\nc"
    run_block = (5 << 3 | 1 << 1).to_bytes(3, "little") + b"d"
    last_block = (1 << 3 | 1).to_bytes(3, "little") + b"\n"
    body = header + raw_block + run_block + last_block
    with pytest.raises(FormatError, match="damaged"):
        list(read_data(body + b"\0\0\0\0", 100))
    # The checksum is the low half of XXH64 of the content, as the library computes it for the same content.
    checksum = compress(b"ab\ncddddd\n")[-4:]
    assert list(read_data(body + checksum, 100)) == [b"ab", b"cddddd"]
    with pytest.raises(FormatError, match="unknown type"):
        list(read_data(header + (1 << 3 | 3 << 1).to_bytes(3, "little") + b"x" + checksum, 100))
