from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import ConfigError
from agent.reader.expected import load_expected, parse_duration, parse_expected
from tests.support.trail_factory import TrailFactory

ENTRY = "namespace: demo, service: payments"


def test_an_entry_matches_by_patterns():
    (entry,) = parse_expected(f"trails:\n  - {{{ENTRY}, instance: 'web-*', since: 2026-01-02, max_silence: 5m}}\n", "e")
    assert entry.matches(TrailFactory().origin)
    assert not entry.matches(TrailFactory(instance="db-1").origin)
    assert (entry.since, entry.max_silence, entry.line) == (datetime(2026, 1, 2, tzinfo=UTC), timedelta(minutes=5), 2)


@pytest.mark.parametrize("since", ["2026-01-02T03:04:05Z", "'2026-01-02T03:04:05Z'", "2026-01-02T04:04:05+01:00"])
def test_a_time_may_be_written_in_any_yaml_way(since):
    (entry,) = parse_expected(f"trails: [{{{ENTRY}, instance: web, since: {since}}}]", "e")
    assert entry.since is not None
    assert entry.since.astimezone(UTC) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"e\.yaml:1: trails: "),
        ("- a\n", r"e\.yaml:1: trails: "),
        ("trails: []\n", r"e\.yaml:1: trails: "),
        ("trails: [\n", r"e\.yaml:[12]: not YAML"),
        (f"trails:\n  - {{{ENTRY}, instance: web}}\nmore: 1\n", r"e\.yaml:3: more: unknown key"),
        ("trails:\n  - web\n", r"e\.yaml:2: trails\[0\]: not a mapping"),
        (f"trails:\n  - {{{ENTRY}}}\n", r"e\.yaml:2: trails\[0\]\.instance: is missing"),
        (f"trails:\n  - {{{ENTRY}, instance: 5}}\n", r"e\.yaml:2: trails\[0\]\.instance: not a name"),
        (f"trails:\n  - {{{ENTRY}, instance: web, colour: red}}\n", r"e\.yaml:2: trails\[0\]\.colour: unknown key"),
        (f"trails:\n  - {{{ENTRY}, instance: web, since: soon}}\n", r"e\.yaml:2: trails\[0\]\.since: not a date"),
        (f"trails:\n  - {{{ENTRY}, instance: web, max_silence: 5}}\n", r"e\.yaml:2: trails\[0\]\.max_silence: '5' is not a duration"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_key(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_expected(text, "e.yaml")


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "e").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_expected(tmp_path / "e")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800), ("500ms", 0.5)])
def test_durations(text, seconds):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "1e9d", "99999999999999d"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
