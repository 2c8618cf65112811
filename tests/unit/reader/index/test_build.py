"""What is built equals what is in the store: every event, every count, every time, every node of the tree."""

from __future__ import annotations

import stat

import pytest

from agent.errors import ConfigError
from agent.reader.fetch import DirectoryReader
from agent.reader.index import open_index
from agent.reader.trustfile import TrustFile
from agent.trail.merkle import leaf_hash, node_hash, root_of, verify_inclusion
from agent.trail.seal import parse_seal
from tests.support.evidence_store import write_store
from tests.support.index_truth import index_of, indexed_rows, lines_of, objects_of, true_rows, trust_in
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("evidence"), events=2000, clean=False)


@pytest.fixture(scope="module")
def path(written):
    where = written.store.parent / "index.duckdb"
    index_of(DirectoryReader(written.store), where, TrustFile.load(written.trust))
    return where


@pytest.fixture(scope="module")
def objects(written):
    return {str(file.relative_to(written.store)): file.read_bytes() for file in written.store.rglob("*") if file.is_file()}


def test_every_event_of_the_store_is_one_row_with_its_exact_fields(path, objects, written):
    rows = indexed_rows(path)
    assert len(rows) == written.events
    assert set(rows) == true_rows(objects)


def test_the_rows_count_up_to_the_facts_with_which_the_store_was_written(path, written):
    with open_index(path) as index:
        by_action = index.rows("SELECT service, action, outcome, count(*) FROM events GROUP BY ALL")
        by_day = index.rows("SELECT service, CAST(occurred_at AS DATE), count(*) FROM events GROUP BY ALL")
        by_actor = index.rows("SELECT actor_id, count(*) FROM events GROUP BY ALL")
    assert {tuple(row[:3]): row[3] for row in by_action} == dict(written.by_action)
    assert {tuple(row[:2]): row[2] for row in by_day} == {day: count for day, count in written.by_day.items() if count}
    assert dict(by_actor) == dict(written.by_actor)


def test_quarantined_lines_gaps_and_batches_are_all_there(path, written):
    with open_index(path) as index:
        counts = index.rows("SELECT (SELECT count(*) FROM quarantine), (SELECT count(*) FROM gaps), (SELECT count(*) FROM batches)")
        sums = index.rows("SELECT sum(events), sum(quarantined), sum(gaps), sum(bytes_lost) FROM batches")
        reasons = index.rows("SELECT DISTINCT reason, detail, raw FROM quarantine ORDER BY reason")
    assert counts == [(written.quarantined, written.gaps, written.batches)]
    assert sums == [(written.events, written.quarantined, written.gaps, 4096)]
    assert reasons[0][:2] == ("missing_field", "actor")
    assert "<script>" in reasons[0][2]
    assert reasons[1][0] == "not_json"
    assert reasons[1][2].startswith("base64:")


def test_the_planted_gap_and_silence_are_findings_and_nothing_else_is(path, written):
    with open_index(path) as index:
        found = index.rows("SELECT code, severity, origin FROM findings WHERE severity <> 'notice' ORDER BY code")
    assert found == [(planted.code, "incomplete", planted.origin) for planted in sorted(written.planted, key=lambda one: one.code)]


def test_the_trails_say_who_they_are_whom_they_continue_and_where_they_stand(path, objects, written):
    with open_index(path) as index:
        trails = {trail.origin: trail for trail in index.trails()}
    assert sorted(trails) == sorted(written.origins)
    for origin, trail in trails.items():
        seals = sorted(key for key in objects if key.startswith(f"trails/{origin}/"))
        head = parse_seal(objects[seals[-1]])
        assert (trail.size, trail.root) == (head.checkpoint().size, head.checkpoint().root)
        assert (trail.batches, trail.head_batch, trail.head_reason) == (len(seals), len(seals) - 1, "close")
        assert trail.trusted_by == trail.key == str(parse_seal(objects[seals[0]]).manifest.key)
    first, second = (origin for origin in written.origins if "/directory/" in origin)
    assert (trails[second].continues_origin, trails[second].continues_why) == (first, "reopened")
    assert trails[first].continues_origin is None


def test_a_seq_leads_to_its_batch(path, objects):
    with open_index(path) as index:
        wrong = index.rows(
            "SELECT count(*) FROM (SELECT trail, seq, batch FROM event_rows UNION ALL SELECT trail, seq, batch FROM quarantine "
            "UNION ALL SELECT trail, seq, batch FROM gaps) JOIN batches b USING (trail, batch) "
            "WHERE seq < b.first_seq OR seq >= b.first_seq + b.records"
        )
        keys = {key for (key,) in index.rows("SELECT data_key FROM batches WHERE data_key IS NOT NULL")}
    assert wrong == [(0,)]
    assert keys == {key for key in objects if key.startswith("records/")}


def leaves_of(trail: TrailFactory) -> list[bytes]:
    leaves: list[bytes] = []
    for key in sorted(key for key in trail.objects if key.endswith(".seal")):
        seal = parse_seal(trail.objects[key])
        leaves += lines_of(trail.objects[seal.manifest.data.key]) if seal.manifest.data else []
        leaves.append(seal.manifest_line)
    return leaves


def proof_from_nodes(nodes: dict[tuple[int, int], bytes], hashes: list[bytes], seq: int) -> list[bytes]:
    """Build an inclusion proof: what is kept from the nodes, what lies below 256 leaves from the hashes of that tile alone."""
    size = len(hashes)

    def root(begin: int, end: int) -> bytes:
        level = (end - begin).bit_length() - 1
        if end - begin == 1 << level and level >= 8:
            return nodes[level, begin >> level]
        if end - begin <= 256:
            return root_of(hashes[begin:end])
        split = begin + (1 << (end - begin - 1).bit_length() - 1)
        return node_hash(root(begin, split), root(split, end))

    def path(begin: int, end: int) -> list[bytes]:
        if end - begin == 1:
            return []
        split = begin + (1 << (end - begin - 1).bit_length() - 1)
        return [*path(begin, split), root(split, end)] if seq < split else [*path(split, end), root(begin, split)]

    return path(0, size)


@pytest.mark.parametrize("sizes", [(1500, 700), (254, 1, 255, 513), (255,), (256,), (300,) * 12])
def test_the_nodes_and_a_tile_give_a_correct_proof_of_any_leaf(tmp_path, sizes):
    trail = TrailFactory()
    for size in sizes:
        trail.add(size)
    trail.close()
    objects = objects_of(trail)
    index_of(objects, tmp_path / "index", trust_in(trail))
    with open_index(tmp_path / "index") as index:
        nodes = {(level, position): bytes(root) for level, position, root in index.rows("SELECT level, position, hash FROM nodes")}
        (indexed,) = index.trails()
    hashes = [leaf_hash(leaf) for leaf in leaves_of(trail)]
    assert indexed.size == len(hashes)
    assert indexed.root is not None
    assert len(nodes) == sum(len(hashes) >> level for level in range(8, 20))
    for seq in {0, 1, len(hashes) // 2, *range(250, min(260, len(hashes))), len(hashes) - 2, len(hashes) - 1}:
        verify_inclusion(seq, len(hashes), hashes[seq], proof_from_nodes(nodes, hashes, seq), indexed.root)


def test_two_epochs_are_two_trails_and_their_link_is_no_finding(tmp_path):
    trails = two_epochs()
    index_of(objects_of(*trails), tmp_path / "index", trust_in(*trails))
    with open_index(tmp_path / "index") as index:
        assert index.rows("SELECT * FROM findings WHERE severity <> 'notice'") == []
        (link,) = index.rows("SELECT continues_origin, continues_size, continues_root FROM trails WHERE continues_origin IS NOT NULL")
    assert link == (str(trails[0].origin), trails[0].frontier.size, trails[0].frontier.root().hex())


def test_the_file_is_for_its_owner_only(tmp_path):
    trail = sample_trail()
    index_of(objects_of(trail), tmp_path / "deep" / "index", trust_in(trail))
    assert stat.S_IMODE((tmp_path / "deep" / "index").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) & 0o077 == 0


def test_an_index_of_another_store_is_refused_by_name(tmp_path, written, path):
    with pytest.raises(ConfigError, match="this is an index of"):
        index_of(objects_of(sample_trail()), path, TrustFile())


def test_a_file_that_is_no_index_is_refused_and_left_alone(tmp_path):
    (tmp_path / "index").write_bytes(b"my letters\n" * 1000)
    with pytest.raises(ConfigError):
        index_of(objects_of(sample_trail()), tmp_path / "index", TrustFile())
    assert (tmp_path / "index").read_bytes() == b"my letters\n" * 1000


def test_an_empty_store_makes_an_empty_index(tmp_path):
    done = index_of({}, tmp_path / "index", TrustFile())
    assert (done.trails, done.batches, done.records) == (0, 0, 0)
    assert indexed_rows(tmp_path / "index") == []
