from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256

import pytest

from agent.errors import FormatError
from agent.trail.record_lines import EventHead, RecordHead, decode_record, decode_records, number_lines, strip_seq
from agent.trail.records import (
    Certainty,
    GapCause,
    QuarantineReason,
    RecordKind,
    Reworked,
    event_affixes,
    event_block,
    event_bodies,
    gap_body,
    oversize_body,
    quarantine_body,
    reworked_block,
    withheld_body,
)

TIME = "2026-01-08T14:32:07.201934Z"
EVENTS = [b'{"event_id":"a","occurred_at":"2026-01-08T14:32:07Z"}', b'{ "%d" : 100 , "event_id":"b" }\r']


def line(body: bytes, seq: int = 5) -> bytes:
    return number_lines([body], seq)[0]


def test_an_event_line_is_written_as_the_format_shows_with_the_services_own_bytes():
    body = event_bodies("stdout", TIME, EVENTS, [(88213, 412), (88626, 9)])[1]
    assert line(body, 1042) == (
        b'{"seq":1042,"kind":"event","source":"stdout","at":[88626,9],"observed_at":"2026-01-08T14:32:07.201934Z",'
        b'"event":{ "%d" : 100 , "event_id":"b" }\r}'
    )


def test_an_event_of_a_stream_has_no_place():
    assert event_bodies("stdout", TIME, EVENTS, None)[0] == (
        b',"kind":"event","source":"stdout","observed_at":"2026-01-08T14:32:07.201934Z","event":' + EVENTS[0] + b"}"
    )


@pytest.mark.parametrize("source", ["stdout", "50%", "%b%d", 'quo"te', "é"])
@pytest.mark.parametrize("at", [None, [(0, 53), (2**40, 7)]])
def test_a_block_is_its_bodies_and_affixes_make_the_same_bodies(source, at):
    bodies = event_bodies(source, TIME, EVENTS, at)
    assert event_block(source, TIME, EVENTS, at) == b"".join(body + b"\n" for body in bodies)
    prefix, middle, suffix = event_affixes(source, TIME, with_at=at is not None)
    places = [b""] * 2 if at is None else [b"%d,%d" % place for place in at]
    assert bodies == [prefix + place + middle + event + suffix for place, event in zip(places, EVENTS, strict=True)]
    assert [json.loads(line(body))["source"] for body in bodies] == [source] * 2


def test_no_events_make_no_bodies():
    assert event_bodies("s", TIME, [], []) == []
    assert event_block("s", TIME, [], None) == b""


@pytest.mark.parametrize("at", [None, [(0, 3)]])
def test_an_event_with_a_newline_cannot_forge_a_second_record(at):
    forged = [b'{}}\n,"kind":"event"']
    with pytest.raises(FormatError):
        event_bodies("s", TIME, forged, at)
    with pytest.raises(FormatError):
        event_block("s", TIME, forged, at)
    with pytest.raises(FormatError):
        reworked_block("s", TIME, [Reworked(forged[0])])


def test_every_event_needs_its_place():
    with pytest.raises(ValueError, match="zip"):
        event_block("s", TIME, EVENTS, [(0, 1)])


def test_a_reworked_event_keeps_the_original_line_and_says_how_it_was_made():
    whole = Reworked(
        b'{"a":1}',
        mapping="web-access/denied",
        client=("context.user_agent",),
        raw=b'GET "/"',
        redacted=("actor.session",),
        at=(0, 7),
        member=b'"container":{"id":"c0"},',
    )
    assert line(reworked_block("nginx", TIME, [whole]).removesuffix(b"\n")) == (
        b'{"seq":5,"kind":"event","source":"nginx","container":{"id":"c0"},"at":[0,7],"observed_at":"2026-01-08T14:32:07.201934Z",'
        b'"event":{"a":1},"mapping":"web-access/denied","client":["context.user_agent"],"raw":"GET \\"/\\"","redacted":["actor.session"]}'
    )
    assert json.loads(line(reworked_block("s", TIME, [Reworked(b"{}", raw=b"\xff")])))["raw_base64"] == "/w=="
    assert set(json.loads(line(reworked_block("s", TIME, [Reworked(b"{}")])))) == {"seq", "kind", "source", "observed_at", "event"}
    assert reworked_block("s", TIME, []) == b""


def test_a_line_that_cannot_be_kept_is_stated_by_its_length_and_under_a_key_by_its_digest():
    body = withheld_body("app", TIME, QuarantineReason.NOT_JSON, "", 17, "ab" * 32, (3, 17))
    assert line(body) == (
        b'{"seq":5,"kind":"quarantine","source":"app","at":[3,17],"observed_at":"2026-01-08T14:32:07.201934Z","reason":"not_json",'
        b'"detail":"","length":17,"hmac_sha256":"%b","redacted":["raw"]}' % (b"ab" * 32)
    )
    assert b"hmac" not in withheld_body("app", TIME, QuarantineReason.NOT_JSON, "", 17, None)


def test_a_quarantined_line_is_written_as_the_format_shows():
    body = quarantine_body("app", TIME, QuarantineReason.MISSING_FIELD, "actor.id", b'{"stream":"audit"}', (3, 18))
    assert line(body) == (
        b'{"seq":5,"kind":"quarantine","source":"app","at":[3,18],"observed_at":"2026-01-08T14:32:07.201934Z",'
        b'"reason":"missing_field","detail":"actor.id","raw":"{\\"stream\\":\\"audit\\"}"}'
    )


@pytest.mark.parametrize("raw", [b"", b"\r", b"\x01\x7f\x1b[0m", "é\u2028\u2029\ufeff\U0001f512".encode(), b'"\\\\ \\u0000 \\ud800'])
def test_quarantined_text_is_kept_exactly(raw):
    body = quarantine_body("app", TIME, QuarantineReason.NOT_JSON, "", raw)
    assert b"\n" not in body
    assert json.loads(line(body))["raw"].encode() == raw


@pytest.mark.parametrize("raw", [b"\xff", b"a\0b", b"\xed\xa0\x80", b"\xc3", bytes(range(256))])
def test_what_cannot_be_text_everywhere_is_kept_exactly_as_base64(raw):
    body = quarantine_body("app", TIME, QuarantineReason.INVALID_UTF8, "", raw)
    record = json.loads(line(body))
    assert b"\n" not in body
    assert b64decode(record["raw_base64"]) == raw
    assert "raw" not in record


def test_strings_that_are_not_unicode_text_are_escaped():
    body = gap_body("app", TIME, GapCause.VANISHED, Certainty.POSSIBLE, 0, None, "bad \udcff", path="/var/log/\udc80.log")
    record = json.loads(line(body))
    assert record["path"] == "/var/log/\\udc80.log"
    assert record["detail"] == "bad \\udcff"


def test_an_oversized_line_keeps_its_length_hash_and_head():
    digest = sha256(b"x").hexdigest()
    body = oversize_body("app", TIME, "aé".encode()[:2], 70_000, digest, (9, 70_000))
    assert line(body) == (
        b'{"seq":5,"kind":"quarantine","source":"app","at":[9,70000],"observed_at":"2026-01-08T14:32:07.201934Z",'
        b'"reason":"too_long","length":70000,"sha256":"' + digest.encode() + b'","head":"a"}'
    )
    assert json.loads(line(oversize_body("app", TIME, b"\xff\xfe", 7, digest)))["head_base64"] == "//4="


def test_a_gap_is_written_as_the_format_shows():
    body = gap_body("app", TIME, GapCause.ROTATED_AWAY, Certainty.KNOWN, 10, 90, "gone")
    assert line(body) == (
        b'{"seq":5,"kind":"gap","source":"app","observed_at":"2026-01-08T14:32:07.201934Z","cause":"rotated_away",'
        b'"certainty":"known","from_offset":10,"to_offset":90,"detail":"gone"}'
    )
    record = json.loads(line(gap_body("app", TIME, GapCause.HOLE, Certainty.UNBOUNDED, None, None, "", "01f", "/a.log")))
    assert (record["from_offset"], record["to_offset"], record["file_id"], record["path"]) == (None, None, "01f", "/a.log")


def test_the_lists_are_closed_and_in_snake_case():
    assert [str(kind) for kind in RecordKind] == ["event", "quarantine", "gap"]
    assert [str(certainty) for certainty in Certainty] == ["known", "possible", "unbounded"]
    for member in (*QuarantineReason, *GapCause):
        assert member.value == member.name.lower()


def test_numbers_count_up_and_come_off_again():
    bodies = event_bodies("s", TIME, EVENTS, None)
    lines = number_lines(bodies, 9)
    assert [strip_seq(numbered) for numbered in lines] == [(9, bodies[0]), (10, bodies[1])]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"seq":',
        b'{"seq":5',
        b'{"seq":,',
        b'{"seq":05,',
        b'{"seq":-5,',
        b'{"seq": 5,',
        b'{"seq":5 ,',
        b'{"seq":1.0,',
        b'{"seq":' + b"9" * 20 + b",",
        b'x{"seq":5,',
    ],
)
def test_lines_without_a_plain_seq_are_refused(raw):
    with pytest.raises(FormatError):
        strip_seq(raw)


def test_the_head_of_every_kind_is_read():
    event = line(event_bodies("s", TIME, EVENTS[:1], [(1, 2)])[0])
    assert decode_record(event) == RecordHead(5, RecordKind.EVENT, "s", TIME, (1, 2), EventHead("a", "2026-01-08T14:32:07Z"))
    quarantine = line(quarantine_body("s", TIME, QuarantineReason.NOT_JSON, "", b"x"))
    gap = line(gap_body("s", TIME, GapCause.HOLE, Certainty.KNOWN, 0, 1, ""), 6)
    assert [head.kind for head in decode_records([quarantine, gap], 5)] == [RecordKind.QUARANTINE, RecordKind.GAP]


GOOD = line(quarantine_body("s", TIME, QuarantineReason.NOT_JSON, "", b"x"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        GOOD[:-1],
        GOOD + b"}",
        GOOD.replace(b"quarantine", b"manifest"),
        GOOD.replace(b'"s"', b"7"),
        GOOD.replace(b'"s"', b'"\xff"'),
        GOOD.replace(b'"source":"s",', b""),
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_lines_that_are_no_records_are_refused(raw):
    with pytest.raises(FormatError):
        decode_record(raw)
    with pytest.raises(FormatError):
        decode_records([raw], 5)


@pytest.mark.parametrize(
    "lines",
    [
        [GOOD.replace(b'"seq":5', b'"seq":6')],
        [GOOD, GOOD],
        [GOOD[:-1] + b',"seq":6}'],
        [GOOD.replace(b'"seq":5', b'"seq":6')[:-1] + b',"seq":5}'],
        [GOOD.replace(b'{"seq":5', b'{ "seq":5')],
        [GOOD + b"\n" + GOOD.replace(b'"seq":5', b'"seq":6')],
        [GOOD, b""],
    ],
)
def test_records_that_do_not_count_up_for_every_parser_are_refused(lines):
    with pytest.raises(FormatError):
        decode_records(lines, 5)
