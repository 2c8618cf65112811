"""Listings of versions are put together by key, whatever the pages; keys are told apart by whose they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NotVerifiedError
from agent.reader.retention import Grouper, Version, oldest, owner_of, shown_days
from tests.support.trail_factory import sample_trail

START = datetime(2026, 1, 1, tzinfo=UTC)


def version(key: str, number: int, *, marker: bool = False, at: int = 0) -> Version:
    return Version(key, f"v{number}", START + timedelta(seconds=at), 1, marker)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "a-b", "a/b", "ab", "é", "\U0001f600", "\ufffd"]), st.booleans()), max_size=12),
    st.lists(st.integers(0, 12), max_size=5),
)
def test_a_key_comes_once_with_all_its_entries_whatever_the_pages(made, cuts):
    entries = sorted((version(key, number, marker=marker) for number, (key, marker) in enumerate(made)), key=lambda e: e.key.encode())
    grouper = Grouper()
    groups: list[tuple[Version, ...]] = []
    for begin, end in pairwise(sorted({0, *cuts, len(entries)})):
        page = entries[begin:end]
        groups += grouper.feed([e for e in page if not e.marker], [e for e in page if e.marker])
    groups += grouper.finish()
    assert [group[0].key for group in groups] == sorted({entry.key for entry in entries}, key=str.encode)
    assert sorted(e.id for group in groups for e in group) == sorted(e.id for e in entries)
    assert all(len({entry.key for entry in group}) == 1 for group in groups)


@pytest.mark.parametrize("pages", [[["b", "a"]], [["b"], ["a"]], [["a", "b"], ["a"]]])
def test_a_listing_in_no_order_is_an_error(pages):
    grouper = Grouper()
    groups = (group for page in pages for group in grouper.feed([version(key, 1) for key in page], []))
    with pytest.raises(NotVerifiedError, match="the listing of versions has 'a' after 'b'"):
        list(groups)


def test_the_oldest_is_the_first_stored_and_the_last_listed_among_equals():
    assert oldest([version("a", 3, at=5), version("a", 2, at=1), version("a", 1, at=1)]) == version("a", 1, at=1)
    assert oldest([version("a", 2, marker=True), version("a", 1, at=9)]) == version("a", 1, at=9)
    assert oldest([version("a", 2, marker=True)]) is None


def test_every_object_of_a_trail_has_an_owner_and_nothing_else():
    trail = sample_trail()
    seals = [key for key in trail.objects if key.startswith("trails/")]
    assert {owner_of(key) for key in (*seals, seals[0].replace(".seal", ".cosig.0a1b2c3d"))} == {trail.origin}
    data = {owner_of(key) for key in trail.objects if key.startswith("records/")}
    assert data == {(trail.origin.namespace, trail.origin.service, trail.origin.epoch)}
    for key in (
        "",
        "x",
        "records/x",
        "trails/x",
        f"{seals[0]}.cosig.0a1b2c3d",
        seals[0].replace(".seal", ".cosig.x"),
        "probes/a/b/c/2026-01-01",
    ):
        assert owner_of(key) is None, key


@pytest.mark.parametrize(("seconds", "text"), [(86400 * 400, "400 days"), (86400 * 1.5, "1.5 days"), (10, "10 s")])
def test_a_retention_is_shown_in_days(seconds, text):
    assert shown_days(seconds) == text
