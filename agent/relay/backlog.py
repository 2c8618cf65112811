"""The bytes of one stream that no worker has acknowledged yet, in order and bounded.

Invariants:
    - Every byte that was appended or discarded is sent to each worker until one acknowledges it; a new worker gets
      everything from the first unacknowledged byte on.
    - Stream offsets never move: a new worker may get the same bytes in other frames, and skips by offset what is durable.
    - `room` never goes below zero, so memory is bounded by `limit_bytes` plus one frame.

The module does no input or output; it must not know about processes or clocks.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .wire import MAX_DATA_BYTES, encode_data, encode_end, encode_gap

_SPARE_BLOCKS: Final = 16


class _Segment:
    """Hold a run of bytes at the front of a block, or the place of bytes that were thrown away (`block` is None)."""

    __slots__ = ("block", "end", "first", "start")

    def __init__(self, start: int, end: int, block: bytearray | None) -> None:
        self.start = start
        self.end = end
        self.block = block
        self.first = 0

    @property
    def filled(self) -> int:
        """Where in the block the bytes end."""
        return self.first + self.end - self.start

    def add(self, data: bytes | memoryview) -> None:
        """Put bytes behind those it has; they must fit."""
        assert self.block is not None  # noqa: S101 - the caller asked
        self.block[self.filled : self.filled + len(data)] = data
        self.end += len(data)

    def view(self) -> memoryview:
        """Return the bytes, without a copy; to be released before the block is used again."""
        assert self.block is not None  # noqa: S101 - the caller asked
        return memoryview(self.block)[self.first : self.filled]


class Backlog:
    """Keep what was read until it is acknowledged, and cut it into frames for the worker of the moment.

    Attributes:
        acknowledged: Stream offset before which nothing is needed any more.
        end: Stream offset after the last byte read or thrown away.
        ended: The stream's end was seen; `end` will not move again.
        cut: The end is ours: somebody still held the pipe open.
        discarded_bytes: How many bytes were thrown away.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty at stream offset 0.

        Args:
            limit_bytes: How many bytes may wait for their acknowledgement.
        """
        self.limit_bytes = limit_bytes
        self.acknowledged = 0
        self.end = 0
        self.ended = False
        self.cut = False
        self.discarded_bytes = 0
        self._held_bytes = 0
        self._sent: deque[_Segment] = deque()
        self._queued: deque[_Segment] = deque()
        self._end_framed = False
        # Blocks of one size are used again: growing and shrinking ones would leave holes that double the memory.
        self._spare: list[bytearray] = []

    @property
    def room(self) -> int:
        """Return how many more bytes may be appended."""
        return self.limit_bytes - self._held_bytes

    @property
    def has_frames(self) -> bool:
        """Say whether `next_frame` has something to send."""
        return bool(self._queued) or (self.ended and not self._end_framed)

    def append(self, data: bytes | memoryview) -> None:
        """Keep the stream's next bytes, at most `room` of them."""
        while data:
            tail = self._queued[-1] if self._queued else None
            if tail is None or tail.block is None or tail.filled >= MAX_DATA_BYTES:
                tail = _Segment(self.end, self.end, self._spare.pop() if self._spare else bytearray(MAX_DATA_BYTES))
                self._queued.append(tail)
            part = data[: MAX_DATA_BYTES - tail.filled]
            tail.add(part)
            self.end += len(part)
            self._held_bytes += len(part)
            data = data[len(part) :]

    def discard(self, count: int) -> None:
        """Note that the stream's next `count` bytes were thrown away."""
        if count == 0:
            return
        if self._queued and self._queued[-1].block is None:
            self._queued[-1].end += count
        else:
            self._queued.append(_Segment(self.end, self.end + count, None))
        self.end += count
        self.discarded_bytes += count

    def acknowledge(self, offset: int) -> bool:
        """Forget the bytes before `offset`, of those that were sent; say whether that was news."""
        if offset <= self.acknowledged:
            return False
        while self._sent and self._sent[0].end <= offset:
            segment = self._sent.popleft()
            if segment.block is not None:
                self._held_bytes -= segment.end - segment.start
                self._set_aside(segment.block)
        if self._sent and self._sent[0].start < offset:
            head = self._sent[0]
            if head.block is not None:
                head.first += offset - head.start
                self._held_bytes -= offset - head.start
            head.start = offset
        limit = self._sent[0].start if self._sent else self._queued[0].start if self._queued else self.end
        known, self.acknowledged = self.acknowledged, min(offset, limit)
        return self.acknowledged > known

    def next_frame(self) -> bytes:
        """Return the next frame for the current worker; empty when it has everything."""
        if not self._queued:
            if not self.ended or self._end_framed:
                return b""
            self._end_framed = True
            return encode_end(cut=self.cut)
        segment = self._queued.popleft()
        if segment.block is None:
            self._sent.append(segment)
            return encode_gap(segment.start, segment.end)
        last = self._sent[-1] if self._sent else None
        with segment.view() as view:
            frame = encode_data(view)
            # A service that writes line by line must not take a block for every line it waits for.
            merged = last is not None and last.block is not None and last.filled + len(view) <= MAX_DATA_BYTES
            if merged and last is not None:
                last.add(view)
        if merged:
            self._set_aside(segment.block)
        else:
            self._sent.append(segment)
        return frame

    def _set_aside(self, block: bytearray) -> None:
        if len(self._spare) < _SPARE_BLOCKS:
            self._spare.append(block)

    def rewind(self) -> None:
        """Begin again at the first unacknowledged byte, for a new worker."""
        self._queued.extendleft(reversed(self._sent))
        self._sent.clear()
        self._end_framed = False
