"""Whatever is changed in a store, `verify` never says that it is intact and complete."""

from __future__ import annotations

from hashlib import sha256

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.reader.fetch import MemoryReader
from agent.reader.findings import Severity
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, verify_store
from agent.trail.batch import BatchBuilder, read_data
from agent.trail.layout import seal_key
from agent.trail.manifest import ManifestReason
from agent.trail.merkle import Frontier, leaf_hashes
from agent.trail.record_lines import strip_seq
from agent.trail.seal import build_seal
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs

TRAIL = sample_trail(instance="web-3")
OTHER = sample_trail(seed=b"other", instance="web-2")
FIRST, SECOND = two_epochs()
TRAILS = (TRAIL, OTHER, FIRST, SECOND)
STORE = {key: raw for trail in TRAILS for key, raw in trail.objects.items()}
TRUST = TrustFile.parse("".join(trail.trust_line for trail in TRAILS), "trust")
NOW = max(trail.now for trail in TRAILS)
KEYS = sorted(STORE)
SEALS = [key for key in KEYS if key.endswith(".seal")]
NEWEST = {seal_key(trail.origin, trail.batch - 1) for trail in TRAILS}

quick = settings(max_examples=100, deadline=None)


def severity(objects: dict[str, bytes]) -> Severity:
    return verify_store(MemoryReader(objects), Options(trust=TRUST), now=NOW, secret=bytes(32)).severity


def test_the_store_is_intact_before_anybody_touches_it():
    assert severity(STORE) is Severity.NOTICE


@quick
@given(st.sampled_from(KEYS), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_of_any_object_is_found(key, place, mask):
    raw = bytearray(STORE[key])
    raw[int(place * len(raw))] ^= mask
    assert severity(STORE | {key: bytes(raw)}) is Severity.TAMPERED


@quick
@given(st.sampled_from(KEYS), st.floats(0, 1), st.binary(max_size=4), st.integers(0, 40))
def test_any_bytes_inserted_or_removed_are_found(key, place, inserted, removed):
    raw = STORE[key]
    at = int(place * len(raw))
    changed = raw[:at] + inserted + raw[at + removed :]
    assume(changed != raw)
    assert severity(STORE | {key: changed}) is Severity.TAMPERED


@quick
@given(st.sets(st.sampled_from([key for key in KEYS if key not in NEWEST]), min_size=1, max_size=6))
def test_any_objects_removed_below_the_newest_seal_are_found(removed):
    left = {key: raw for key, raw in STORE.items() if key not in removed}
    assert severity(left) > Severity.NOTICE


@quick
@given(st.permutations(SEALS), st.integers(2, 5))
def test_any_seals_that_changed_places_are_found(order, count):
    chosen = order[:count]
    moved = dict(zip(chosen, [STORE[key] for key in [*chosen[1:], chosen[0]]], strict=True))
    assert severity(STORE | moved) is Severity.TAMPERED


@quick
@given(st.sampled_from(KEYS), st.sampled_from(KEYS))
def test_any_object_replaced_by_another_is_found(one, other):
    assume(STORE[one] != STORE[other])
    assert severity(STORE | {one: STORE[other]}) is Severity.TAMPERED


@quick
@given(st.sampled_from([key for key in SEALS if "web-2" in key]), st.integers(1, 3))
def test_a_seal_repeated_at_a_later_key_is_found(key, beyond):
    later = seal_key(OTHER.origin, OTHER.batch - 1 + beyond)
    assert severity(STORE | {later: STORE[key]}) is Severity.TAMPERED


def renumbered(lines: list[bytes], first_seq: int) -> bytes:
    builder = BatchBuilder(Frontier(first_seq, (b"\0" * 32,) * first_seq.bit_count()))
    builder.add(b"".join(strip_seq(line)[1] + b"\n" for line in lines))
    data = builder.finish().data
    assert data is not None
    return data


@quick
@given(
    st.sampled_from([1, 3, 6]),
    st.sampled_from(["drop", "duplicate", "reorder", "splice", "alter"]),
    st.integers(0, 100),
    st.booleans(),
)
def test_any_leaf_dropped_duplicated_reordered_or_spliced_is_found(batch, how, place, signed_by_the_agent):
    """With and without a manifest that the agent's own key signed over the changed data, but on the old tree."""
    trail = TrailFactory(seed=b"leaves", instance="web-9")
    honest = Frontier.empty()
    for number in range(1, batch + 1):
        honest = trail.frontier
        trail.add(4) if number == batch else trail.heartbeat()
    assert trail.last_manifest is not None
    data = trail.last_manifest.data
    assert data is not None
    lines = list(read_data(trail.objects[data.key], data.raw_bytes))
    at = place % len(lines)
    changed = {
        "drop": lines[:at] + lines[at + 1 :],
        "duplicate": [*lines[: at + 1], *lines[at:]],
        "reorder": [*lines[at:], *lines[:at]] if at else lines[::-1],
        "splice": [*lines[:at], lines[at].replace(b"web", b"x") + b" ", *lines[at + 1 :]],
        "alter": [*lines[:at], lines[at].replace(b"success", b"failure").replace(b'"user"', b'"User"'), *lines[at + 1 :]],
    }[how]
    assert changed != lines
    raw = renumbered(changed, honest.size)
    if signed_by_the_agent:
        trail.objects[seal_key(trail.origin, batch)] = resealed(trail, raw, honest)
    trail.objects[data.key] = raw
    trust = TrustFile.parse(trail.trust_line, "trust")
    report = verify_store(MemoryReader(trail.objects), Options(trust=trust), now=trail.now, secret=bytes(32))
    assert report.severity is Severity.TAMPERED


def resealed(trail: TrailFactory, raw: bytes, before: Frontier) -> bytes:
    """Return the newest seal as a thief of the key would make it: the checksum of other data, on the tree of the old lines."""
    manifest = trail.last_manifest
    assert manifest is not None
    assert manifest.data is not None
    after = before.extend(leaf_hashes(read_data(trail.objects[manifest.data.key], manifest.data.raw_bytes)))
    data = msgspec.structs.replace(manifest.data, bytes=len(raw), sha256=sha256(raw).hexdigest())
    seal, _ = build_seal(msgspec.structs.replace(manifest, data=data), after, str(trail.origin), [trail.signer])
    return seal.raw


@quick
@given(st.integers(1, 7))
def test_a_cut_tail_is_found_whatever_its_length_once_three_heartbeats_have_passed(kept):
    trail = sample_trail()
    for batch in range(kept, trail.batch):
        del trail.objects[seal_key(trail.origin, batch)]
    store = MemoryReader(trail.objects)
    trust = TrustFile.parse(trail.trust_line, "trust")
    assert verify_store(store, Options(trust=trust), now=trail.now.replace(year=2027), secret=bytes(32)).severity > Severity.NOTICE


def test_a_reason_is_only_a_word_but_its_place_is_checked():
    trail = TrailFactory()
    trail.stop()
    trail.heartbeat()
    assert trail.last_manifest is not None
    assert trail.last_manifest.reason is ManifestReason.HEARTBEAT
    trust = TrustFile.parse(trail.trust_line, "trust")
    assert verify_store(MemoryReader(trail.objects), Options(trust=trust), now=trail.now).severity is Severity.TAMPERED
