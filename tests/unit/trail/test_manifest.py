from __future__ import annotations

import json

import msgspec
import pytest

from agent.errors import FormatError
from agent.trail.manifest import (
    Continues,
    ContinuesWhy,
    Manifest,
    ManifestReason,
    RecordCounts,
    Where,
    decode_manifest,
    encode_manifest,
)
from agent.trail.merkle import Frontier
from tests.unit.trail.samples import KEY, cut_of, following, manifest, opening

OPEN, AFTER_OPEN = opening()
AGED, AFTER_AGED, _ = following(OPEN, AFTER_OPEN, 3)
BEAT = manifest(frontier=AFTER_AGED, batch=2, reason=ManifestReason.HEARTBEAT, previous=AGED.sha256)

ORDER = [
    *("seq", "kind", "format", "batch", "reason", "previous", "sealed_at", "monotonic_ns"),
    *("records", "data", "window", "sources", "totals", "spool", "clock", "agent"),
]


def changed(kept: Manifest, **changes: object) -> Manifest:
    return msgspec.structs.replace(kept, **changes)


def test_the_keys_stand_in_the_order_of_the_format():
    assert list(json.loads(encode_manifest(BEAT))) == ORDER
    assert list(json.loads(encode_manifest(OPEN.manifest))) == [*ORDER, "key", "continues"]
    resumed = changed(BEAT, reason=ManifestReason.RESUME, unclean=True)
    assert list(json.loads(encode_manifest(resumed))) == [*ORDER, "unclean"]


def test_the_keys_of_the_parts_stand_in_the_order_of_the_format():
    keys = json.loads(encode_manifest(AGED.manifest))
    assert list(keys["records"]) == ["first_seq", "count", "events", "quarantined", "gaps"]
    assert list(keys["data"]) == ["key", "bytes", "sha256", "encoding", "raw_bytes"]
    assert list(keys["window"]) == ["occurred_min", "occurred_max", "observed_min", "observed_max"]
    assert list(keys["sources"][0]) == [
        *("id", "kind", "path", "file_id", "from_offset", "to_offset"),
        *("lines", "audit", "observability", "quarantined"),
    ]
    assert list(keys["totals"]) == ["records", "events", "quarantined", "gaps", "lines", "observability", "bytes_lost"]
    assert list(keys["spool"]) == ["records", "bytes", "oldest_age_seconds"]
    assert list(keys["clock"]) == ["synchronized", "offset_seconds", "max_error_seconds"]
    assert list(keys["agent"]) == ["version", "host", "boot_id", "config_sha256", "heartbeat_seconds"]


def test_where_an_agent_runs_and_by_which_key_it_redacts_stand_behind_what_was_always_there():
    placed = msgspec.structs.replace(BEAT.agent, pseudonym_key="0badcafe,0badf00d", where=Where(pod="web-1", node="node-7"))
    line = encode_manifest(changed(BEAT, agent=placed))
    assert line == encode_manifest(BEAT).replace(
        b'"heartbeat_seconds":60}',
        b'"heartbeat_seconds":60,"pseudonym_key":"0badcafe,0badf00d","where":{"pod":"web-1","node":"node-7"}}',
    )
    assert decode_manifest(line).agent == placed
    wrong_ones = (
        b'"where":{"pod":""}',
        b'"where":{"node":"n","pod":"p"}',
        b'"where":null',
        b'"where":{"rack":"r"}',
        b'"pseudonym_key":"0BAD"',
    )
    for wrong in wrong_ones:
        with pytest.raises(FormatError):
            decode_manifest(encode_manifest(BEAT).replace(b'"heartbeat_seconds":60}', b'"heartbeat_seconds":60,' + wrong + b"}"))


def test_what_was_written_is_read_and_written_again():
    for kept in (OPEN.manifest, AGED.manifest, BEAT, changed(BEAT, reason=ManifestReason.STOP), changed(BEAT, reason=ManifestReason.CLOSE)):
        line = encode_manifest(kept)
        assert b"\n" not in line
        assert decode_manifest(line) == kept


def test_a_new_epoch_names_the_one_before():
    link = Continues("a/b/c/d", 7, "0" * 64, ContinuesWhy.STATE_LOST)
    assert decode_manifest(encode_manifest(changed(OPEN.manifest, continues=link))).continues == link


LINE = encode_manifest(AGED.manifest)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{}",
        b"\xff",
        LINE + b" ",
        LINE + b"\n",
        b" " + LINE,
        LINE[:-1],
        LINE.replace(b'"format":1', b'"format":2'),
        LINE.replace(b'"format":1', b'"format":1.0'),
        LINE.replace(b'"format":1,', b""),
        LINE.replace(b'"format":1', b'"format": 1'),
        LINE.replace(b'"format":1,"batch":1', b'"batch":1,"format":1'),
        LINE.replace(b'"batch":1', b'"batch":1,"batch":1'),
        LINE.replace(b'"batch":1', b'"batch":1,"surprise":0'),
        LINE.replace(b'"events":3', b'"events":3,"surprise":0'),
        LINE.replace(b'"kind":"manifest"', b'"kind":"Manifest"'),
        LINE.replace(b'"reason":"age"', b'"reason":"whim"'),
        LINE.replace(b'"reason":"age"', b'"reason":"\\u0061ge"'),
        LINE.replace(b"zstd", b"gzip"),
        LINE.replace(b'"spool":{"records":0', b'"spool":{"records":-1'),
        LINE.replace(b'"spool":{"records":0', b'"spool":{"records":9223372036854775808'),
        LINE.replace(b'"spool":{"records":0', b'"spool":{"records":"0"'),
        LINE.replace(b'"sealed_at":"2026-01-08T14:32:07.201934Z"', b'"sealed_at":"2026-01-08T14:32:07+00:00"'),
        LINE.replace(b'"config_sha256":"0', b'"config_sha256":"A'),
        LINE.replace(b'"config_sha256":"0', b'"config_sha256":"00'),
        LINE.replace(b"-0.000231", b"-2.31e-4"),
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:80]),
)
def test_lines_that_are_no_manifest_in_its_only_spelling_are_refused(line):
    assert line != LINE
    with pytest.raises(FormatError):
        decode_manifest(line)


@pytest.mark.parametrize(
    ("kept", "changes"),
    [
        (AGED.manifest, {"seq": 5}),
        (AGED.manifest, {"records": RecordCounts(1, 3, 3, 1, 0)}),
        (AGED.manifest, {"data": None}),
        (AGED.manifest, {"window": None}),
        (BEAT, {"data": AGED.manifest.data}),
        (BEAT, {"window": AGED.manifest.window}),
        (BEAT, {"batch": 0}),
        (BEAT, {"reason": ManifestReason.OPEN}),
        (BEAT, {"previous": None}),
        (BEAT, {"key": str(KEY.verifier)}),
        (BEAT, {"continues": None}),
        (BEAT, {"unclean": False}),
        (BEAT, {"reason": ManifestReason.RESUME}),
        (OPEN.manifest, {"reason": ManifestReason.AGE}),
        (OPEN.manifest, {"previous": "0" * 64}),
        (OPEN.manifest, {"key": msgspec.UNSET}),
        (OPEN.manifest, {"continues": msgspec.UNSET}),
        (OPEN.manifest, {"unclean": True}),
        (OPEN.manifest, {"seq": 1, "records": RecordCounts(1, 0, 0, 0, 0)}),
    ],
)
def test_manifests_that_contradict_themselves_are_neither_written_nor_read(kept, changes):
    wrong = changed(kept, **changes)
    with pytest.raises(FormatError, match="contradicts"):
        encode_manifest(wrong)
    with pytest.raises(FormatError, match="contradicts"):
        decode_manifest(msgspec.json.encode(wrong))


def test_values_that_could_not_be_read_back_are_not_written():
    for changes in ({"previous": "short"}, {"monotonic_ns": -1}, {"sealed_at": "today"}, {"agent": None}):
        with pytest.raises(FormatError):
            encode_manifest(changed(BEAT, **changes))
    unreadable = msgspec.structs.replace(BEAT.agent, host="\udcff")
    with pytest.raises(FormatError):
        encode_manifest(changed(BEAT, agent=unreadable))
    endless = msgspec.structs.replace(BEAT.agent, heartbeat_seconds=float("nan"))
    with pytest.raises(FormatError):
        encode_manifest(changed(BEAT, agent=endless))


def test_a_cut_without_records_has_the_tree_it_began_with():
    assert cut_of(Frontier.empty(), 0).frontier == Frontier.empty()
