"""Lines are counted once, in the step that ends them, however long they are."""

from __future__ import annotations

import json

import pytest

from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.lines import LineCutter
from agent.sources.tally import Tally

RULE = FieldRule()
TAG = b'{"stream":"audit"}'
LATE = b'{"x":"' + b"y" * 200 + b'","stream":"audit"}'
NOW = "2026-01-08T14:32:07.000000Z"


def tally(text: bytes, size: int) -> list[Tally]:
    """Feed a text in chunks through a cutter with a limit of 64 bytes."""
    cutter = LineCutter(RULE.is_audit, line_limit=64, head_bytes=16)
    separator = Separator("app", RULE, Validator(RULE), keep_observability=True, has_offsets=False)
    tallies = []
    rest = b""
    for at in range(0, len(text), size):
        chunk = rest + text[at : at + size]
        pieces, consumed = cutter.feed(chunk)
        rest = chunk[consumed:]
        tallies.append(Tally("app", NOW))
        tallies[-1].add(pieces, separator)
    pieces, _ = cutter.feed(rest, final=True)
    tallies.append(Tally("app", NOW))
    tallies[-1].add(pieces, separator)
    return tallies


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
@pytest.mark.parametrize(
    ("text", "lines", "audit"),
    [
        (b"", 0, 0),
        (b"one\n" + TAG + b"\ntwo", 3, 1),
        (b"long " * 100 + b"\nshort\n", 2, 0),
        (b"long " * 100, 1, 0),
        (TAG + b" " * 300 + b"\n" + TAG, 2, 2),
        (TAG + b" " * 300, 1, 1),
        (LATE + b"\nnext\n", 2, 1),
        (LATE, 1, 1),
        (b"a" * 64 + b"\n" + b"b" * 65 + b"\n", 2, 0),
    ],
)
def test_every_line_is_counted_once(text: bytes, size: int, lines: int, audit: int) -> None:
    tallies = tally(text, size)
    assert sum(part.lines for part in tallies) == lines
    assert sum(part.records for part in tallies) == audit
    assert all(part.lines == part.records + part.passed_lines for part in tallies)


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_an_over_long_line_found_late_is_passed_on_and_recorded(size: int) -> None:
    tallies = tally(b"one\n" + LATE + b"\nnext\n", size)
    assert b"".join(data for part in tallies for data in part.passed) == b"one\n" + LATE + b"\nnext\n"
    (body,) = [b"".join(part.bodies) for part in tallies if part.bodies and part.records]
    record = json.loads(b"{" + body[1:])
    assert (record["reason"], record["length"], record["head"]) == ("too_long", len(LATE), LATE[:16].decode())
    assert sum((part.reasons.get("too_long", 0) for part in tallies), 0) == 1
