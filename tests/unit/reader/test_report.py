from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from agent.reader.fetch import MemoryReader
from agent.reader.report import as_json, printable, render
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, Report, shown_age, verify_store
from tests.support.trail_factory import START, TrailFactory, sample_trail


def shown(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    render(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def report_on(*trails: TrailFactory, trust: str | None = None, extra: dict[str, bytes] | None = None) -> Report:
    objects = {key: raw for trail in trails for key, raw in trail.objects.items()} | (extra or {})
    lines = "".join(trail.trust_line for trail in trails) if trust is None else trust
    return verify_store(MemoryReader(objects), Options(trust=TrustFile.parse(lines, "t")), now=max(trail.now for trail in trails))


def test_the_table_has_every_figure_of_a_trail():
    text = shown(report_on(sample_trail()))
    assert "demo/payments/web-1         8         13         12        1    0 intact" in text
    assert "2026-01-08 14:32:07 UTC to 2026-01-08 14:33:26 UTC" in text
    assert "stopped, head 0 s old · key 7a779b2b, trusted" in text


def test_a_finding_names_batch_object_and_what_to_do():
    trail = sample_trail()
    key = next(key for key in trail.objects if key.startswith("records/"))
    text = " ".join(shown(report_on(trail, extra={key: b"?"}), width=200).split())
    assert "tampered: data_altered demo/payments/" in text
    assert "batch 1: the data object with seq 1 to 4 was changed" in text
    assert key in text
    assert "→ Change nothing" in text
    assert text.endswith("tampered: 1 trail, 13 records (exit 10)")


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    trails = [sample_trail(seed=bytes([n]), instance=f"a-rather-long-instance-name-{n}-{'x' * 30}") for n in range(3)]
    assert max(map(len, shown(report_on(*trails, trust=""), width).split("\n"))) <= width


def test_many_intact_trails_are_summed_up_and_the_others_shown():
    trails = [sample_trail(seed=bytes([n]), instance=f"web-{n}") for n in range(45)]
    trust = "".join(trail.trust_line for trail in trails[1:])
    text = shown(report_on(*trails, trust=trust))
    assert "… and 44 trails more" in text
    assert "demo/payments/web-0" in text


def test_text_from_a_store_cannot_drive_the_terminal():
    text = shown(report_on(sample_trail(), extra={"\x1b[2Jevil\u202e[bold]": b""}))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]" in text


def test_printable_escapes_what_cannot_be_seen():
    assert printable("a\x1b\u202e\x9b\udc80é") == "a\\x1b\\u202e\\x9b\\udc80é"


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (119, "119 s"), (180, "3 min"), (10800, "3 h"), (259200, "3 d")])
def test_ages(seconds, text):
    assert shown_age(seconds) == text


def test_json_can_be_written_and_lists_every_finding():
    report = verify_store(MemoryReader({}), Options(), now=START)
    document = orjson.loads(orjson.dumps(as_json(report)))
    assert [finding["code"] for finding in document["findings"]] == ["store_empty"]
    assert document["counts"] == {"store_empty": 1}
