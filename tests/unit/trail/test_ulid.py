from __future__ import annotations

import pytest

from agent.errors import FormatError
from agent.trail.ulid import MAX_MILLISECONDS, is_ulid, new_ulid, ulid_milliseconds


def test_the_bounds_of_a_ulid():
    assert new_ulid(0, bytes(10)) == "0" * 26
    assert new_ulid(MAX_MILLISECONDS, b"\xff" * 10) == "7" + "z" * 25


def test_the_time_of_a_known_ulid():
    assert ulid_milliseconds("01arz3ndektsv4rrffq69g5fav") == 1469922850259
    assert new_ulid(1469922850259, bytes.fromhex("d6764c61efb99302bd5b")) == "01arz3ndektsv4rrffq69g5fav"


def test_ulids_sort_by_time_and_carry_it():
    made = [new_ulid(milliseconds, b"\xff" * 10) for milliseconds in (0, 1, 1_700_000_000_000, 1_700_000_000_001, MAX_MILLISECONDS)]
    assert made == sorted(made)
    assert [ulid_milliseconds(ulid) for ulid in made] == [0, 1, 1_700_000_000_000, 1_700_000_000_001, MAX_MILLISECONDS]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 25,
        "0" * 27,
        "8" + "0" * 25,
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "0" * 25 + "i",
        "0" * 25 + "l",
        "0" * 25 + "o",
        "0" * 25 + "u",
        "0" * 26 + "\n",
    ],
)
def test_texts_that_are_no_ulid(text):
    assert not is_ulid(text)
    with pytest.raises(FormatError):
        ulid_milliseconds(text)


@pytest.mark.parametrize(("milliseconds", "randomness"), [(-1, bytes(10)), (2**48, bytes(10)), (0, bytes(9)), (0, bytes(11))])
def test_arguments_out_of_bounds_are_refused(milliseconds, randomness):
    with pytest.raises(FormatError):
        new_ulid(milliseconds, randomness)
