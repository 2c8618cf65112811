"""Times in the formats that logs have."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.events.mappings import Mapping
from agent.events.mappings.place import Place
from agent.events.mappings.times import TimeReader, parse_zone, zone_of
from tests.unit.events.mappings.making import computed, event_of

HERE = Place("m.yaml", "time")
NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)


def read(value, *formats, zone="UTC", zones=None, observed_at=NOON):
    known = {name: parse_zone(offset, HERE) for name, offset in (zones or {}).items()}
    return TimeReader(formats or ("rfc3339",), parse_zone(zone, HERE), known, HERE).read(value, observed_at)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-06-30T10:00:00Z", "2026-06-30T10:00:00Z"),
        ("2026-06-30T10:00:00.123456789Z", "2026-06-30T10:00:00.123456789Z"),
        ("2026-06-30 10:00:00.5+02:00", "2026-06-30T08:00:00.5Z"),
        ("2026-06-30T10:00:00,123 UTC", "2026-06-30T10:00:00.123Z"),
        ("2026-06-30T10:00:00", "2026-06-30T10:00:00Z"),
        ("2026-06-30T10:00:00-0330", "2026-06-30T13:30:00Z"),
        ("2026-01-01T00:30:00+01", "2025-12-31T23:30:00Z"),
        ("2026-06-31T10:00:00Z", "2026-06-31T10:00:00Z"),
        ("2026-06-31T10:00:00+01:00", None),
        ("30/06/2026", None),
        (7, None),
        (None, None),
    ],
)
def test_rfc_3339_and_what_is_nearly_that(text, expected):
    # A day that is not is left to validation where nothing had to be computed.
    assert read(text) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1782813600, "epoch_seconds", "2026-06-30T10:00:00Z"),
        ("1782813600.25", "epoch_seconds", "2026-06-30T10:00:00.250000Z"),
        (1782813600.5, "epoch_seconds", "2026-06-30T10:00:00.500000Z"),
        (1782813600001, "epoch_milliseconds", "2026-06-30T10:00:00.001000Z"),
        ("1782813600000001", "epoch_microseconds", "2026-06-30T10:00:00.000001Z"),
        ("-5", "epoch_seconds", None),
        (True, "epoch_seconds", None),
        (10**30, "epoch_seconds", None),
        ("9" * 400, "epoch_seconds", None),
    ],
)
def test_seconds_since_the_epoch(value, unit, expected):
    assert read(value, unit) == expected


@pytest.mark.parametrize(
    ("text", "observed_at", "expected"),
    [
        ("Jun 30 11:59:59", NOON, "2026-06-30T11:59:59Z"),
        ("Jun  3 01:02:03.250", NOON, "2026-06-03T01:02:03.250000Z"),
        ("Dec 31 23:59:59", datetime(2026, 1, 1, tzinfo=UTC), "2025-12-31T23:59:59Z"),
        ("Jan  1 00:00:01", datetime(2025, 12, 31, 23, 59, tzinfo=UTC), "2026-01-01T00:00:01Z"),
        ("Jul 15 00:00:00", NOON, "2025-07-15T00:00:00Z"),
        ("Feb 29 10:00:00", NOON, "2024-02-29T10:00:00Z"),
        ("Foo  3 01:02:03", NOON, None),
    ],
)
def test_a_time_without_a_year_gets_the_one_that_fits_best(text, observed_at, expected):
    assert read(text, "syslog", observed_at=observed_at) == expected


def test_patterns_zones_and_their_abbreviations():
    assert read("30/Jun/2026:12:00:00 +0200", "%d/%b/%Y:%H:%M:%S %z") == "2026-06-30T10:00:00Z"
    assert read("2026-06-30 12:00:00", "%Y-%m-%d %H:%M:%S", zone="Europe/Berlin") == "2026-06-30T10:00:00Z"
    assert read("2026-06-30 12:00:00.125 CEST", "%Y-%m-%d %H:%M:%S.%f %Z", zones={"CEST": "+02:00"}) == "2026-06-30T10:00:00.125000Z"
    assert read("2026-06-30 12:00:00 UTC", "%Y-%m-%d %H:%M:%S %Z") == "2026-06-30T12:00:00Z"
    assert read("2026-06-30 12:00:00 XYZ", "%Y-%m-%d %H:%M:%S %Z") is None
    assert read("x", "%Y", "rfc3339") is None
    assert read("2026-06-30T10:00:00Z", "epoch_seconds", "rfc3339") == "2026-06-30T10:00:00Z"


def test_a_zone_may_stand_in_the_line():
    expression = {"time": "{t}", "format": "%Y-%m-%d %H:%M:%S", "zone": "{z}"}
    assert computed(expression, {"t": "2026-06-30 12:00:00", "z": "America/New_York"}) == "2026-06-30T16:00:00Z"
    assert computed(expression, {"t": "2026-06-30 12:00:00", "z": "../../etc/passwd"}) is None
    assert computed(expression, {"t": "2026-06-30 12:00:00"}) is None


@pytest.mark.parametrize("zone", ["Mars", "/etc/passwd", "../x", "+99:99", ""])
def test_a_zone_that_is_none_is_refused(zone):
    with pytest.raises(ConfigError, match="no time zone"):
        parse_zone(zone, HERE)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-720, 720))  # noqa: DTZ001 -- a zone is put in below
def test_a_time_in_any_zone_is_the_same_moment_in_utc(moment, minutes):
    zone = parse_zone(f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}", HERE)
    there = moment.replace(tzinfo=zone)
    found = read(there.isoformat())
    assert found is not None
    assert abs(datetime.fromisoformat(found) - there) < timedelta(microseconds=1)


@given(st.text(), st.sampled_from(["rfc3339", "syslog", "epoch_seconds", "%d/%b/%Y", "%Y-%m-%d %H:%M:%S %Z"]))
def test_any_text_gives_a_time_or_none(text, name):
    found = read(text, name)
    assert found is None or found.endswith("Z")


def test_the_zone_of_a_source_is_that_of_times_that_state_none_and_of_no_others():
    data = {
        "format": 1, "name": "t", "title": "t", "describes": "t", "select": {"all": True}, "parse": [{"header": "syslog"}],
        "event": {
            "occurred_at": {"time": "{header.time}"}, "actor": {"type": "user", "id": "u"}, "target": {"type": "t", "id": "t"},
            "outcome": "success", "context": {
                "own": {"time": "2026-06-30 12:00:00"},
                "utc": {"time": "2026-06-30 12:00:00", "zone": "UTC"},
                "stated": {"time": "2026-06-30T12:00:00+01:00"},
            },
        },
        "rules": [{"name": "any", "action": "a"}],
    }  # fmt: skip
    event = event_of(Mapping.from_mapping(data, "t.yaml", "America/New_York"), b"Jun 30 06:00:00 h p: x")
    assert event["occurred_at"] == "2026-06-30T10:00:00Z"
    assert event["context"] == {"own": "2026-06-30T16:00:00Z", "utc": "2026-06-30T12:00:00Z", "stated": "2026-06-30T11:00:00Z"}


@pytest.mark.parametrize("name", ["rfc3339", "syslog", "epoch_seconds", "%Y-%m-%d %Z", "%b %d"])
def test_nothing_long_is_read_as_a_time_or_remembered(name):
    reader = TimeReader((name,), UTC, {}, HERE)
    tracemalloc.start()
    try:
        for number in range(200):
            assert reader.read(f"{number}" + "9" * 100_000, NOON) is None
            assert zone_of(f"{number}" + "x" * 100_000) is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1 << 20
