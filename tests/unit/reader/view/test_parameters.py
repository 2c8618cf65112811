from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from agent.reader.ask.filters import Filter, matches_glob
from agent.reader.view.parameters import exactly, moment, pairs, read_filter, whole
from agent.reader.view.problems import Malformed


def asked(**fields: str) -> MultiDict[str]:
    return MultiDict(fields)


def test_empty_fields_are_as_if_they_were_not_there() -> None:
    assert read_filter(asked(actor="", text="  ", since="", outcome="")) == Filter()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T14:30", datetime(2026, 3, 1, 14, 30, tzinfo=UTC)),
        ("2026-03-01 14:30:05Z", datetime(2026, 3, 1, 14, 30, 5, tzinfo=UTC)),
        ("2026-03-01T14:30:05.000001Z", datetime(2026, 3, 1, 14, 30, 5, 1, tzinfo=UTC)),
    ],
)
def test_times_are_in_utc(text: str, time: datetime) -> None:
    assert moment(asked(since=text), "since") == time
    assert moment(MultiDict(pairs(Filter(since=time))), "since") == time


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "2026",
        "2026-02-30",
        "2026-03-01T25:00",
        "2026-03-01T14:30+02:00",
        "1;DROP",
        "\u0662\u0660\u0662\u0666-\u0660\u0663-\u0660\u0661",
        "0000-01-01",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        moment(asked(since=text), "since")


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "²", "99999999999999999999", "11"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        whole(asked(n=text), "n", most=10, default=0)


@given(st.text(min_size=1, max_size=40).filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_the_pattern_of_a_value_finds_that_value_and_survives_the_address(value: str) -> None:
    pattern = exactly(value)
    field = dict(parse_qsl(urlencode([("actor", pattern)]), keep_blank_values=True))
    read = read_filter(MultiDict(field)).actor
    assert len(read) == 1
    assert matches_glob(value, read[0])
    assert not matches_glob(value + "x", read[0])
    assert not matches_glob("x" + value, read[0])


def test_a_filter_is_the_same_after_a_round_through_an_address() -> None:
    filter_ = Filter(
        actor=("a*", "b c"), action=("role.*",), outcome=("denied",), service=("demo/x",), text="<b>&",
        since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )  # fmt: skip
    assert read_filter(MultiDict(parse_qsl(urlencode(pairs(filter_))))) == filter_
