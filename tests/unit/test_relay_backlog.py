"""The backlog and the wire: whatever happens, each worker is sent exactly what is not acknowledged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.relay.backlog import Backlog
from agent.relay.wire import (
    CONFIRMED,
    MAX_DATA_BYTES,
    Data,
    End,
    FrameReader,
    Gap,
    Header,
    NumberReader,
    encode_data,
    encode_end,
    encode_gap,
    encode_header,
    encode_number,
)

HEADER = Header(stream="01j", source="app", channel="stdout", base=3, end=None, buffer_bytes=9, confirmed=False, respawns=0)


def frames_of(backlog: Backlog) -> list[Data | Gap | End]:
    """Return all frames the backlog would send now."""
    reader = FrameReader()
    list(reader.feed(encode_header(HEADER)))
    frames: list[Data | Gap | End] = []
    while frame := backlog.next_frame():
        frames += reader.feed(frame)
    return frames


def text_of(frames: list[Data | Gap | End]) -> str:
    """Return the bytes of frames, with a dash for every byte that was thrown away and a dot for the end."""
    parts = []
    for frame in frames:
        match frame:
            case Data(payload):
                parts.append(payload.decode())
            case Gap(start, end):
                parts.append("-" * (end - start))
            case End():
                parts.append(".")
    return "".join(parts)


@given(st.integers(1, 7), st.binary(max_size=40), st.integers(0, 2**40), st.integers(0, 2**20), st.booleans())
def test_frames_survive_any_cut_of_the_socket(size: int, payload: bytes, start: int, length: int, cut: bool) -> None:
    frames = [encode_data(payload)] if payload else []
    raw = encode_header(HEADER) + b"".join(frames) + encode_gap(start, start + length) + encode_end(cut=cut)
    reader = FrameReader()
    found = [frame for at in range(0, len(raw), size) for frame in reader.feed(raw[at : at + size])]
    assert reader.header == HEADER
    assert b"".join(frame.payload for frame in found if isinstance(frame, Data)) == payload
    assert [frame for frame in found if not isinstance(frame, Data)] == [Gap(start, start + length), End(cut)]


@given(st.lists(st.integers(0, CONFIRMED)), st.integers(1, 11))
def test_numbers_survive_any_cut_of_the_socket(numbers: list[int], size: int) -> None:
    raw = b"".join(map(encode_number, numbers))
    reader = NumberReader()
    assert [number for at in range(0, len(raw), size) for number in reader.feed(raw[at : at + size])] == numbers


@pytest.mark.parametrize("raw", [b"X\0\0\0\0", b"E\0\0\0\1x", b"G\0\0\0\1x"])
def test_an_unknown_frame_is_refused(raw: bytes) -> None:
    reader = FrameReader()
    with pytest.raises(ValueError, match="unknown frame"):
        list(reader.feed(encode_header(HEADER) + raw))


def test_small_reads_become_one_frame_and_large_ones_several() -> None:
    backlog = Backlog(1 << 20)
    for _ in range(100):
        backlog.append(b"abc\n")
    backlog.append(b"x" * MAX_DATA_BYTES)
    assert [len(frame.payload) for frame in frames_of(backlog) if isinstance(frame, Data)] == [MAX_DATA_BYTES, 400]


def test_an_acknowledgement_is_news_once() -> None:
    backlog = Backlog(100)
    backlog.append(b"abcdef")
    frames_of(backlog)
    assert backlog.acknowledge(4)
    assert not backlog.acknowledge(4)
    assert (backlog.acknowledged, backlog.room) == (4, 98)


def test_nothing_is_acknowledged_that_was_not_sent() -> None:
    backlog = Backlog(100)
    backlog.append(b"abcdef")
    backlog.acknowledge(6)
    assert backlog.acknowledged == 0
    assert text_of(frames_of(backlog)) == "abcdef"


@settings(max_examples=300)
@given(st.data())
def test_every_worker_gets_all_that_is_not_acknowledged(data: st.DataObject) -> None:
    backlog = Backlog(60)
    model = ""
    got = ""
    base = 0
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["append", "discard", "send", "acknowledge", "rewind"])):
            case "append":
                more = data.draw(st.text("abc\n", max_size=backlog.room))
                backlog.append(more.encode())
                model += more
            case "discard":
                count = data.draw(st.integers(0, 20))
                backlog.discard(count)
                model += "-" * count
            case "send":
                reader = FrameReader()
                list(reader.feed(encode_header(HEADER)))
                got += text_of(list(reader.feed(backlog.next_frame())))
            case "acknowledge":
                offset = data.draw(st.integers(base, base + len(got)))
                backlog.acknowledge(offset)
                assert backlog.acknowledged <= max(offset, backlog.acknowledged)
            case "rewind":
                backlog.rewind()
                base, got = backlog.acknowledged, ""
        assert 0 <= backlog.room <= 60
        assert backlog.end == len(model)
        assert got == model[base : base + len(got)]
    backlog.ended = True
    backlog.rewind()
    assert text_of(frames_of(backlog)) == model[backlog.acknowledged :] + "."
    assert not backlog.has_frames
