"""Proofs of indexed leaves, and a store that was changed after it was indexed."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import IntegrityError, NotVerifiedError, ProofError
from agent.reader.evidence.proofs import TrailProver, read_head
from agent.reader.fetch import MemoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile
from agent.trail.batch import read_data
from agent.trail.layout import parse_seal_key
from agent.trail.merkle import inclusion_proof, leaf_hashes
from agent.trail.seal import parse_seal
from tests.support.trail_factory import TrailFactory, sample_trail


class Counting(MemoryReader):
    """Notes what is read."""

    def __init__(self, objects):
        """Begin with nothing read."""
        super().__init__(objects)
        self.keys: list[str] = []

    def read(self, key, limit_bytes):
        self.keys.append(key)
        return super().read(key, limit_bytes)


def all_leaves(objects):
    """Return every leaf of the one trail, in order, from the stored bytes alone."""
    leaves: list[bytes] = []
    for key in sorted(key for key in objects if key.endswith(".seal")):
        seal = parse_seal(objects[key])
        data = seal.manifest.data
        if data is not None:
            leaves += read_data(objects[data.key], data.raw_bytes)
        leaves.append(seal.manifest_line)
    return leaves


def made_of(batches):
    trail = TrailFactory()
    for records in batches:
        trail.add(records) if records else trail.heartbeat()
    trail.stop()
    return trail


def prove(index, store, origin, seqs):
    return list(TrailProver(index, store, read_head(index, str(origin))).prove(seqs))


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([0, 0, 1, 3, 50, 255, 256, 300, 700]), min_size=1, max_size=12), st.data())
def test_every_proof_of_any_batches_is_the_one_over_all_leaves(batches, data):
    trail = made_of(batches)
    leaves = all_leaves(trail.objects)
    seqs = sorted(data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1, max_size=20)))
    store = MemoryReader(trail.objects)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        refresh(store, path, trust=TrustFile.parse(trail.trust_line, "t"), now=trail.now + timedelta(seconds=1))
        with open_index(path) as index:
            proven = prove(index, store, trail.origin, seqs)
    hashes = leaf_hashes(leaves)
    assert [one.seq for one in proven] == seqs
    for one in proven:
        assert one.leaf == leaves[one.seq]
        assert one.proof.hashes == inclusion_proof(hashes, one.seq)
        assert one.proof.verify(one.leaf, [trail.signer.verifier], str(trail.origin)).size == len(leaves)


@pytest.mark.parametrize("blocks", [1, 2, 16])
def test_each_object_is_read_once_however_many_leaves_are_proven(indexed, monkeypatch, blocks):
    monkeypatch.setattr("agent.reader.evidence.proofs._BLOCKS_AT_ONCE", blocks)
    trail = made_of([700, 0, 3, 300, 0, 1])
    index, store = indexed(trail)
    counting = Counting(store.contents)
    size = read_head(index, str(trail.origin)).size
    proven = prove(index, counting, trail.origin, range(size))
    assert len(proven) == size
    assert sorted(counting.keys) == sorted(trail.objects)


def test_one_leaf_reads_only_the_batches_beside_it(indexed):
    trail = made_of([300] * 10)
    index, store = indexed(trail)
    counting = Counting(store.contents)
    prove(index, counting, trail.origin, [1500])
    assert 1 <= len(counting.keys) <= 4


def test_a_data_object_that_was_changed_after_indexing_is_named(indexed):
    trail = sample_trail()
    index, store = indexed(trail)
    key = next(key for key in store.contents if key.startswith("records/"))
    store.contents[key] = store.contents[key][:-1] + b"\0"
    with pytest.raises(IntegrityError) as caught:
        prove(index, store, trail.origin, [1])
    assert key in caught.value.message
    assert caught.value.exit_code == 10


def test_a_data_object_that_is_gone_is_named(indexed):
    trail = sample_trail()
    index, store = indexed(trail)
    key = next(key for key in store.contents if key.startswith("records/"))
    del store.contents[key]
    with pytest.raises(IntegrityError, match="is gone") as caught:
        prove(index, store, trail.origin, [1])
    assert key in caught.value.message


@pytest.mark.parametrize("how", ["changed", "gone", "of another batch"])
def test_a_seal_that_is_not_the_indexed_one_is_named(indexed, how):
    trail = sample_trail()
    index, store = indexed(trail)
    seals = sorted((key for key in store.contents if key.endswith(".seal")), key=lambda key: parse_seal_key(key)[1])
    if how == "changed":
        store.contents[seals[1]] = store.contents[seals[1]].replace(b'"batch":1', b'"batch":7')
    elif how == "gone":
        del store.contents[seals[1]]
    else:
        store.contents[seals[1]] = store.contents[seals[2]]
    with pytest.raises(IntegrityError) as caught:
        prove(index, store, trail.origin, [1])
    assert seals[1] in caught.value.message


def test_another_sound_store_in_its_place_is_not_taken(indexed):
    trail, other = sample_trail(), sample_trail(signer_seed=b"thief")
    assert trail.origin == other.origin
    index, _ = indexed(trail)
    with pytest.raises(IntegrityError, match="is not the seal that was indexed"):
        prove(index, MemoryReader(other.objects), trail.origin, [1])


def test_an_index_whose_hashes_were_changed_proves_nothing(tmp_path, indexed):
    import duckdb

    trail = made_of([2000])
    index, store = indexed(trail)
    index.close()
    with duckdb.connect(str(index.path)) as connection:
        connection.execute("UPDATE nodes SET hash = ? WHERE level = 8 AND position = 1", [bytes(32)])
    with open_index(index.path) as changed, pytest.raises(NotVerifiedError, match="do not lead to the signed root"):
        prove(changed, store, trail.origin, [3])


def test_an_index_whose_head_was_changed_proves_nothing(indexed):
    import duckdb

    trail, other = sample_trail(), sample_trail(signer_seed=b"thief")
    index, store = indexed(trail)
    index.close()
    forged = other.objects[max(key for key in other.objects if key.endswith(".seal"))]
    with duckdb.connect(str(index.path)) as connection:
        connection.execute("UPDATE trails SET head_seal = ?", [forged])
    with open_index(index.path) as changed, pytest.raises(IntegrityError):
        prove(changed, store, trail.origin, [3])


def test_a_thiefs_checkpoint_beside_the_true_opening_seal_is_found_out(indexed):
    """The index was changed so that it names the thief's key and head, but the opening seal that somebody vouches for."""
    import duckdb

    trail, thief = sample_trail(), sample_trail(signer_seed=b"thief")
    index, _ = indexed(trail)
    index.close()
    forged = thief.objects[max(key for key in thief.objects if key.endswith(".seal"))]
    with duckdb.connect(str(index.path)) as connection:
        connection.execute("UPDATE trails SET head_seal = ?, key = ?", [forged, thief.vkey])
    with open_index(index.path) as changed, pytest.raises(ProofError, match="that the trail's first seal names"):
        prove(changed, MemoryReader(thief.objects), trail.origin, [3])


def test_a_leaf_beyond_the_newest_checkpoint_is_refused(indexed):
    trail = sample_trail()
    index, store = indexed(trail)
    size = read_head(index, str(trail.origin)).size
    for seq in (size, -1):
        with pytest.raises(NotVerifiedError, match=f"seq {seq} is not in the tree"):
            prove(index, store, trail.origin, [seq])


def test_a_trail_that_is_not_there_is_refused(indexed):
    index, _ = indexed(sample_trail())
    with pytest.raises(NotVerifiedError, match="no trail demo/none"):
        read_head(index, "demo/none/01jh2k8q9r3wabcdefghjkmnpq/x")


def test_what_comes_after_a_lost_batch_cannot_be_proven_and_what_comes_before_can(indexed):
    trail = made_of([4, 4, 4, 4])
    lost = sorted(key for key in trail.objects if key.endswith(".seal"))[2]
    del trail.objects[lost]
    index, store = indexed(trail)
    assert [one.seq for one in prove(index, store, trail.origin, [1])] == [1]
    with pytest.raises(NotVerifiedError, match="not in the tree"):
        prove(index, store, trail.origin, [13])
