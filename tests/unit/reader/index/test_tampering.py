"""What does not verify is no row of an index but a finding; and no tampering gets a row in that was never sealed."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.reader.fetch import MemoryReader
from agent.reader.findings import Code, Severity
from agent.reader.index import open_index
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, verify_store
from agent.trail.layout import seal_key
from agent.trail.note import SigningKey
from tests.support.index_truth import (
    LATER,
    codes_in,
    found_in,
    index_of,
    indexed_rows,
    lines_of,
    objects_of,
    true_rows,
    trust_in,
)
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs

TRAIL = sample_trail(instance="web-3")
OTHER = sample_trail(seed=b"other", instance="web-2")
FIRST, SECOND = two_epochs()
TRAILS = (TRAIL, OTHER, FIRST, SECOND)
STORE = objects_of(*TRAILS)
TRUST = trust_in(*TRAILS)
KEYS = sorted(STORE)
TRUE = true_rows(STORE)
ORIGIN = str(TRAIL.origin)


def data_of(trail: TrailFactory, batch: int) -> str:
    """Return the key of a batch's data object."""
    text = trail.objects[seal_key(trail.origin, batch)]
    start = text.index(b"records/")
    return text[start : text.index(b'"', start)].decode()


def rows_of(path: Path, batch: int) -> int:
    with open_index(path) as index:
        sql = "SELECT count(*) FROM events WHERE origin = ? AND batch = ?"
        return int(index.rows(sql, [ORIGIN, batch])[0][0])


def batches_of(path: Path) -> list[tuple[int, bool]]:
    with open_index(path) as index:
        sql = "SELECT batch, chained FROM batches JOIN trails USING (trail) WHERE origin = ? ORDER BY batch"
        return [(batch, chained) for batch, chained in index.rows(sql, [ORIGIN])]


BATCHES = TRAIL.batch
WITH_DATA = 3
ALL = [(batch, True) for batch in range(BATCHES)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def store():
    return dict(STORE)


def test_the_untouched_store_is_all_there_without_a_finding(path, store):
    done = index_of(store, path, TRUST)
    assert set(indexed_rows(path)) == TRUE
    assert batches_of(path) == ALL
    assert {one for one in done.findings if one is not Severity.NOTICE} == set()


def test_altered_data_is_no_row_and_what_follows_is_there_but_not_chained(path, store):
    key = data_of(TRAIL, WITH_DATA)
    raw = bytearray(store[key])
    raw[len(raw) // 2] ^= 1
    store[key] = bytes(raw)
    index_of(store, path, TRUST)
    assert rows_of(path, WITH_DATA) == 0
    assert batches_of(path) == [(batch, batch < WITH_DATA) for batch in range(BATCHES) if batch != WITH_DATA]
    assert found_in(path)[ORIGIN, WITH_DATA] == {Code.DATA_ALTERED.value}
    assert set(indexed_rows(path)) < TRUE


def test_data_that_says_something_else_and_compresses_well_is_no_row(path, store):
    key = data_of(TRAIL, WITH_DATA)
    lines = [line.replace(b'"user-', b'"yser-') for line in lines_of(store[key])]
    store[key] = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(b"".join(line + b"\n" for line in lines))
    index_of(store, path, TRUST)
    assert rows_of(path, WITH_DATA) == 0
    assert found_in(path)[ORIGIN, WITH_DATA] == {Code.DATA_ALTERED.value}


def test_missing_data_is_no_row(path, store):
    del store[data_of(TRAIL, WITH_DATA)]
    index_of(store, path, TRUST)
    assert rows_of(path, WITH_DATA) == 0
    assert found_in(path)[ORIGIN, WITH_DATA] == {Code.DATA_MISSING.value}


@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_an_altered_seal_takes_its_batch_out_and_no_other(path, store, place):
    key = seal_key(TRAIL.origin, WITH_DATA)
    raw = bytearray(store[key])
    raw[int(len(raw) * place)] ^= 1
    store[key] = bytes(raw)
    index_of(store, path, TRUST)
    assert rows_of(path, WITH_DATA) == 0
    assert batches_of(path) == [(batch, batch < WITH_DATA) for batch in range(BATCHES) if batch != WITH_DATA]
    assert found_in(path)[ORIGIN, WITH_DATA]
    assert set(indexed_rows(path)) < TRUE


def test_a_missing_batch_is_a_finding_and_what_follows_is_not_chained(path, store):
    del store[seal_key(TRAIL.origin, WITH_DATA)]
    index_of(store, path, TRUST)
    assert batches_of(path) == [(batch, batch < WITH_DATA) for batch in range(BATCHES) if batch != WITH_DATA]
    assert found_in(path)[ORIGIN, WITH_DATA] == {Code.SEAL_MISSING.value}


def test_a_trail_whose_first_seal_is_missing_is_vouched_for_by_nobody(path, store):
    del store[seal_key(TRAIL.origin, 0)]
    index_of(store, path, TRUST)
    with open_index(path) as index:
        (trail,) = [one for one in index.trails() if one.origin == ORIGIN]
        assert index.rows("SELECT DISTINCT trusted FROM events WHERE origin = ?", [ORIGIN]) in ([], [(False,)])
    assert (trail.key, trail.trusted_by) == (None, None)
    assert Code.KEY_UNKNOWN.value in codes_in(path)


def test_a_batch_sealed_with_another_key_is_no_row(path, store):
    forged = sample_trail(instance="web-3", signer_seed=b"thief")
    key = seal_key(TRAIL.origin, WITH_DATA)
    assert forged.objects[key] != store[key]
    store[key] = forged.objects[key]
    index_of(store, path, TRUST)
    assert rows_of(path, WITH_DATA) == 0
    assert Code.SIGNATURE_WRONG.value in found_in(path)[ORIGIN, WITH_DATA]


def test_a_whole_trail_signed_by_a_key_that_nobody_vouches_for_is_there_but_not_trusted(path):
    stranger = sample_trail(seed=b"stranger", instance="web-9")
    index_of(STORE | objects_of(stranger), path, TRUST)
    with open_index(path) as index:
        trusted = dict(index.rows("SELECT origin, bool_and(trusted) FROM events GROUP BY origin"))
        found = index.rows("SELECT origin, severity FROM findings WHERE code = 'key_unknown'")
    assert trusted == {str(trail.origin): True for trail in TRAILS} | {str(stranger.origin): False}
    assert found == [(str(stranger.origin), "unverified")]


def test_a_whole_trail_that_was_replaced_under_the_same_name_is_not_trusted(path, store):
    forged = sample_trail(instance="web-3", signer_seed=b"thief")
    store.update(forged.objects)
    index_of(store, path, TRUST)
    with open_index(path) as index:
        assert index.rows("SELECT DISTINCT trusted FROM events WHERE origin = ?", [ORIGIN]) == [(False,)]


def test_an_enrolment_key_vouches_for_the_trail_whose_first_seal_it_signed_and_for_no_other_service(path):
    enrolment = SigningKey.from_seed("demo/payments", sha256(b"enrolment").digest())
    trail = sample_trail(enrolment=enrolment)
    unsigned = sample_trail(seed=b"unsigned", instance="web-8")
    objects = objects_of(trail, unsigned)
    index_of(objects, path, TrustFile.parse(f"demo/payments/*/* {enrolment.verifier}", "trust"))
    with open_index(path) as index:
        assert {one.origin: one.trusted_by for one in index.trails()} == {
            str(trail.origin): str(enrolment.verifier),
            str(unsigned.origin): None,
        }
    index_of(objects, path, TrustFile.parse(f"demo/orders/*/* {enrolment.verifier}", "trust"))
    with open_index(path) as index:
        assert {one.trusted_by for one in index.trails()} == {None}
        assert index.rows("SELECT count(*) FROM events WHERE trusted") == [(0,)]


def test_who_is_trusted_is_judged_anew_each_time(path, store):
    index_of(store, path, TrustFile())
    with open_index(path) as index:
        assert index.rows("SELECT DISTINCT trusted FROM events") == [(False,)]
    index_of(store, path, TRUST)
    with open_index(path) as index:
        assert index.rows("SELECT DISTINCT trusted FROM events") == [(True,)]
    assert Code.KEY_UNKNOWN.value not in codes_in(path)
    index_of(store, path, trust_in(OTHER))
    with open_index(path) as index:
        assert index.rows("SELECT DISTINCT origin FROM events WHERE trusted") == [(str(OTHER.origin),)]


def test_seals_that_changed_places_are_no_rows(path, store):
    one, two = seal_key(TRAIL.origin, 1), seal_key(TRAIL.origin, WITH_DATA)
    store[one], store[two] = store[two], store[one]
    index_of(store, path, TRUST)
    assert rows_of(path, 1) == rows_of(path, WITH_DATA) == 0
    assert set(indexed_rows(path)) < TRUE


def test_a_seal_of_another_trail_is_no_row(path, store):
    store[seal_key(TRAIL.origin, 1)] = store[seal_key(OTHER.origin, 1)]
    index_of(store, path, TRUST)
    assert rows_of(path, 1) == 0
    assert found_in(path)[ORIGIN, 1] == {Code.SEAL_MISPLACED.value}


def test_objects_that_no_seal_names_are_no_rows(path, store):
    key = data_of(TRAIL, WITH_DATA)
    extra = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(
        b"".join(line.replace(b"evt-", b"own-") + b"\n" for line in lines_of(store[key]))
    )
    store[f"{key.rpartition('/')[0]}/{TRAIL.origin.epoch}-{10**6:020d}-{sha256(extra).hexdigest()[:16]}.ndjson.zst"] = extra
    index_of(store, path, TRUST)
    assert set(indexed_rows(path)) == TRUE


# ---- after it was indexed -------------------------------------------------------------------------------------------------


def test_a_head_rolled_back_after_indexing_is_a_finding_and_the_rows_stay(path, store):
    index_of(store, path, TRUST)
    del store[seal_key(TRAIL.origin, BATCHES - 1)]
    index_of(store, path, TRUST)
    assert found_in(path)[ORIGIN, None] == {Code.VERSION_GONE.value}
    assert set(indexed_rows(path)) == TRUE


def test_a_trail_that_vanished_after_indexing_is_a_finding(path, store):
    index_of(store, path, TRUST)
    for key in [key for key in store if ORIGIN in key or TRAIL.origin.epoch in key]:
        del store[key]
    index_of(store, path, TRUST)
    assert Code.VERSION_GONE.value in codes_in(path)
    assert set(indexed_rows(path)) == TRUE


def test_a_store_emptied_after_indexing_is_a_finding_for_every_trail(path, store):
    index_of(store, path, TRUST)
    store.clear()
    index_of(store, path, TRUST)
    found = found_in(path)
    assert {origin for (origin, _), codes in found.items() if Code.VERSION_GONE.value in codes} == {str(trail.origin) for trail in TRAILS}


def test_a_head_replaced_after_indexing_is_a_finding(path, store):
    index_of(store, path, TRUST)
    forged = sample_trail(instance="web-3", signer_seed=b"thief")
    store[seal_key(TRAIL.origin, BATCHES - 1)] = forged.objects[seal_key(TRAIL.origin, BATCHES - 1)]
    index_of(store, path, TRUST)
    assert Code.VERSION_ALTERED.value in found_in(path)[ORIGIN, None]
    assert set(indexed_rows(path)) == TRUE


def test_the_same_loss_is_reported_once_however_often_one_looks(path, store):
    index_of(store, path, TRUST)
    del store[seal_key(TRAIL.origin, BATCHES - 1)]
    for _ in range(3):
        index_of(store, path, TRUST)
    with open_index(path) as index:
        assert index.rows("SELECT count(*) FROM findings WHERE code = 'version_gone'") == [(1,)]


def test_a_loss_that_was_made_good_is_no_finding_any_more(path, store):
    index_of(store, path, TRUST)
    key = seal_key(TRAIL.origin, BATCHES - 1)
    kept = store.pop(key)
    index_of(store, path, TRUST)
    store[key] = kept
    index_of(store, path, TRUST)
    assert Code.VERSION_GONE.value not in codes_in(path)


def test_damage_that_was_made_good_is_indexed_at_the_next_look(path, store):
    key = data_of(TRAIL, WITH_DATA)
    kept, store[key] = store[key], b"garbage"
    index_of(store, path, TRUST)
    store[key] = kept
    index_of(store, path, TRUST)
    assert set(indexed_rows(path)) == TRUE
    assert batches_of(path) == ALL
    assert Code.DATA_ALTERED.value not in codes_in(path)


def test_a_trail_that_goes_on_from_another_history_than_the_indexed_one_gets_no_rows_in(path):
    trail = TrailFactory()
    trail.add(3)
    trust = trust_in(trail)
    index_of(objects_of(trail), path, trust)
    before = set(indexed_rows(path))
    forked = TrailFactory()
    forked.add(4)
    forked.add(5)
    # The same key, another past: what a rolled-back disk or a thief of the key would write.
    index_of(objects_of(forked), path, trust)
    assert set(indexed_rows(path)) == before
    assert {Code.VERSION_ALTERED.value, Code.PREVIOUS_WRONG.value} <= codes_in(path)


# ---- anything at all ------------------------------------------------------------------------------------------------------


_NOT_OF_THE_INDEX = {Code.UNCLOSED, Code.DATA_UNSEALED, Code.DATA_IN_FLIGHT, Code.FOREIGN_OBJECT, Code.STORE_EMPTY}
_HOW = st.sampled_from(("flip", "cut", "remove", "swap"))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(KEYS), _HOW, st.floats(0, 1, exclude_max=True), st.sampled_from(KEYS)),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_changed_no_row_enters_that_was_not_sealed_and_all_that_is_lost_is_found(changes):
    store = dict(STORE)
    for key, how, place, other in changes:
        raw = store.get(key, b"x")
        at = int(place * len(raw))
        if how == "flip":
            store[key] = raw[:at] + bytes([raw[at] ^ 0x20]) + raw[at + 1 :] if raw else raw
        elif how == "cut":
            store[key] = raw[:at]
        elif how == "remove":
            store.pop(key, None)
        else:
            store[key], store[other] = store.get(other, b"y"), raw
    with TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        index_of(store, path, TRUST)
        rows = indexed_rows(path)
        codes = codes_in(path)
        with open_index(path) as index:
            told = {Severity[name.upper()] for (name,) in index.rows("SELECT DISTINCT severity FROM findings")}
    assert len(rows) == len(set(rows))
    assert set(rows) <= TRUE
    verdict = verify_store(MemoryReader(store), Options(trust=TRUST), now=LATER, secret=bytes(32))
    # A head that is gone is not seen the first time: only what was indexed before can be missed.
    about_trails = set(verdict.log.counts) - _NOT_OF_THE_INDEX
    worst = max((code.severity for code in about_trails), default=Severity.NOTICE)
    assert max(told, default=Severity.NOTICE) >= worst, (codes, about_trails)
