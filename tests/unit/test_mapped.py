"""Blocks whose lines are mapped: every line is accounted for, and the original is kept."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agent.events.classify import AllRule
from agent.events.mappings.header import Header
from agent.events.mappings.selection import Selection
from agent.events.validate import Validator
from agent.mapped import MappedSeparator
from agent.sources.base import UnitSeparator
from tests.support.mapped import TIME, records, separator
from tests.unit.events.mappings.making import EVENT, mapping

# ---- mapping ------------------------------------------------------------------------------------------------------------------------


def test_events_quarantine_and_ordinary_lines_of_a_block_are_told_apart_in_their_order():
    lines = [
        b'{"do":"grant","what":"admin","agent":"x"}',
        b"ordinary",
        b'{"do":"grant"}',
        b'{"do":',
        b'{"x":"\\"do\\""}',
        b'{"do":"look"}',
    ]
    block = b"\n".join(lines) + b"\n"
    done = separator().separate(block, 100, TIME)
    first, lacking, broken, last = found = records(done)
    assert [record["kind"] for record in found] == ["event", "quarantine", "quarantine", "event"]
    assert first == {
        "seq": 0,
        "kind": "event",
        "source": "s",
        "at": [100, len(lines[0])],
        "observed_at": TIME,
        "event": EVENT | {"action": "thing.grant", "context": {"granted": "admin", "agent": "x"}},
        "mapping": "test/grant",
        "client": ["context.agent"],
        "raw": lines[0].decode(),
    }
    assert (lacking["reason"], lacking["detail"], lacking["raw"]) == ("missing_context", "test/grant: context.granted", '{"do":"grant"}')
    assert (broken["reason"], broken["detail"], broken["raw"]) == ("not_json", "test", '{"do":')
    assert last["event"]["action"] == "thing.look"
    assert done.observability == lines[1] + b"\n" + lines[4] + b"\n"
    assert (done.records, done.events, done.quarantined, done.lines, done.observability_lines) == (4, 2, 2, 6, 2)
    assert done.reasons == {"missing_context": 1, "not_json": 1}
    assert done.outcomes == {("authorization", "success"): 1, ("uncatalogued", "success"): 1}
    assert done.occurred_min == done.occurred_max == datetime(2026, 6, 30, 10, tzinfo=UTC)


def test_a_line_that_is_no_utf_8_is_kept_exactly():
    raw = b'w"do"\xff\x00\r'
    found = Selection((mapping(parse=[{"as": "regex", "patterns": ["^(?P<do>w)"]}], rules=[{"name": "w", "action": "w"}]),))
    done = MappedSeparator("s", found, Validator(AllRule()), keep_observability=True, has_offsets=False).separate(raw + b"\n", 0, TIME)
    [record] = records(done)
    assert record["kind"] == "event"
    assert record["raw_base64"] == "dyJkbyL/AA0="
    assert "at" not in record


pieces = st.lists(
    st.sampled_from(
        [
            b'{"do":"grant","what":1}',
            b'{"do":"grant"}',
            b'{"do":',
            b"plain",
            b"",
            b'{"do":"x","email":"a@example.com"}\r',
            b'"do"\xff',
            b"\t",
        ]
    ),
    max_size=12,
)


@given(pieces, st.booleans())
def test_every_line_is_in_the_records_or_passes_on_and_none_is_in_both(lines, ended):
    block = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    done = separator().separate(block, 0, TIME)
    at = [tuple(record["at"]) for record in records(done)]
    kept = b"".join(block[start : start + length + 1] for start, length in at)
    assert done.lines == done.records + done.observability_lines == block.count(b"\n") + (not block.endswith(b"\n") and bool(block))
    assert len(kept) + len(done.observability) == len(block)
    for record, (start, length) in zip(records(done), at, strict=True):
        raw = record["raw"].encode() if "raw" in record else None
        assert raw is None or raw == block[start : start + length]


@given(pieces)
def test_a_block_cut_at_any_line_gives_the_same_records(lines):
    def bodies(blocks):
        offset, found = 0, []
        for block in blocks:
            found += [{**record, "seq": 0} for record in records(separator().separate(block, offset, TIME))]
            offset += len(block)
        return found

    whole = [line + b"\n" for line in lines]
    assert bodies([b"".join(whole)]) == bodies(whole)


def test_without_an_own_id_lines_at_different_places_are_different_events():
    found = separator(has_offsets=False, event=EVENT | {"event_id": "{id}"})
    block = b'{"do":"x"}\n{"do":"x"}\n'
    ids = {record["event"]["event_id"] for at in (TIME, "2026-06-30T12:00:00.000002Z") for record in records(found.separate(block, 0, at))}
    assert len(ids) == 4


# ---- units --------------------------------------------------------------------------------------------------------------------------


def test_lines_that_join_are_one_event_and_the_original_has_all_of_them():
    step = {"as": "regex", "patterns": [r'(?s)^(?P<do>\w+) "do"(?P<rest>.*)']}
    found = separator(join={"continues": "^\t"}, parse=[step])
    block = b'look "do"\n\tmore\n\teven more\nplain\n\tof it\nsee "do"\n'
    done = found.separate(block, 0, TIME)
    assert [record["raw"] for record in records(done)] == ['look "do"\n\tmore\n\teven more', 'see "do"']
    assert (done.lines, done.records, done.observability_lines, done.observability) == (3, 2, 1, b"plain\n\tof it\n")


def test_messages_are_units_whatever_newlines_they_have_and_bring_their_header():
    step = {"as": "regex", "of": "{message}", "patterns": [r'^(?P<do>\w+) "do"']}
    found = separator(
        parse=[{"header": "syslog"}, step], has_offsets=False, event=EVENT | {"target": {"type": "host", "id": "{header.host|'none'}"}}
    )
    assert isinstance(found, UnitSeparator)
    header = Header(time=datetime(2026, 6, 30, tzinfo=UTC), host="h", program=None, pid=None, unit=None, uid=None)
    done = found.separate_units([b'look "do"\nmore', b"plain\nmore", b'see "do"'], [header, None, None], 0, TIME)
    assert [(record["event"]["target"]["id"], record["raw"]) for record in records(done)] == [
        ("h", 'look "do"\nmore'),
        ("none", 'see "do"'),
    ]
    assert (done.lines, done.observability) == (3, b"plain\nmore\n")
