"""Bodies come back as they were, however they lay in the database."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agent.spool.packing import PACK_FROM_BYTES, intact, packed, unpacked
from tests.support.batches import append_of


@given(st.binary(max_size=200), st.integers(0, 3 * PACK_FROM_BYTES // 100))
def test_what_was_packed_is_unpacked_exactly(piece: bytes, times: int) -> None:
    bodies = b',"kind":"event"' + piece * times + b"\n"
    assert unpacked(packed(bodies)) == bodies


def test_a_large_block_of_events_becomes_much_smaller_and_a_small_one_stays_readable() -> None:
    large, small = append_of(0, 500).bodies, append_of(0, 3).bodies
    assert len(packed(large)) * 4 < len(large)
    assert packed(small) == small


def test_a_stored_block_is_intact_only_with_its_own_bytes_and_type() -> None:
    stored = packed(append_of(0, 500).bodies)
    digest = hashlib.sha256(stored).digest()
    assert intact(stored, digest)
    assert not intact(stored[:-1] + b"\x00", digest)
    assert not intact("text", digest)
