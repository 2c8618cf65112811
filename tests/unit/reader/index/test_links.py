"""How epochs follow each other is judged from the index as `verify` judges it from the store."""

from __future__ import annotations

import pytest

from agent.reader.fetch import MemoryReader
from agent.reader.findings import Code
from agent.reader.verify import Options, verify_store
from agent.trail.layout import seal_key
from agent.trail.manifest import Continues, ContinuesWhy
from tests.support.index_truth import LATER, codes_in, index_of, objects_of, trust_in
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


def continued(first: TrailFactory, link: Continues, seed: bytes = b"golden-2") -> TrailFactory:
    second = TrailFactory(seed=seed, start=first.now, continues=link, offsets=first.offsets, file_id=first.file_id)
    second.stop()
    return second


def test_a_link_to_a_history_that_never_was_is_a_finding(path):
    first, _ = two_epochs()
    link = Continues(str(first.origin), first.frontier.size, "ab" * 32, ContinuesWhy.REOPENED)
    second = continued(first, link)
    index_of(objects_of(first, second), path, trust_in(first, second))
    assert Code.LINK_WRONG.value in codes_in(path)


def test_a_link_beyond_the_end_of_a_trail_is_a_missing_tail(path):
    first, second = two_epochs()
    objects = objects_of(first, second)
    del objects[seal_key(first.origin, first.batch - 1)]
    index_of(objects, path, trust_in(first, second))
    assert Code.TAIL_MISSING.value in codes_in(path)


def test_two_trails_that_continue_one_are_a_finding(path):
    first, second = two_epochs()
    third = continued(first, first.link(), b"golden-3")
    index_of(objects_of(first, second, third), path, trust_in(first, second, third))
    assert Code.TWO_SUCCESSORS.value in codes_in(path)


def test_a_trail_continued_before_its_end_is_a_finding(path):
    """Else the end of a trail could be replaced by another one under a new epoch."""
    first = TrailFactory(seed=b"golden-1")
    first.add(4)
    link = first.link()
    first.add(3)
    first.close()
    second = continued(first, link)
    objects, trust = objects_of(first, second), trust_in(first, second)
    report = verify_store(MemoryReader(dict(objects)), Options(trust=trust), now=LATER, secret=bytes(32))
    assert Code.LINK_WRONG in set(report.log.counts)
    index_of(objects, path, trust)
    assert Code.LINK_WRONG.value in codes_in(path)


def test_an_instance_that_began_twice_without_a_link_is_a_finding(path):
    trails = (sample_trail(seed=b"one"), sample_trail(seed=b"two"))
    index_of(objects_of(*trails), path, trust_in(*trails))
    assert Code.RESTARTED_UNLINKED.value in codes_in(path)
