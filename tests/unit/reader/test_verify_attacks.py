"""What somebody with the store, but without a key, tries against a verifier and the person in front of it."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from agent.errors import FormatError, NotVerifiedError
from agent.reader.cli import trust_command, verify_command
from agent.reader.contents import check_contents
from agent.reader.expected import parse_expected
from agent.reader.fetch import DirectoryReader, MemoryReader
from agent.reader.findings import Code, Finding, FindingLog, Severity
from agent.reader.links import Claim, Family, families
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, Report, verify_store
from agent.trail.batch import read_blocks
from agent.trail.layout import Origin, seal_key
from agent.trail.manifest import Continues, ContinuesWhy
from agent.trail.note import SigningKey, sign_note
from agent.trail.seal import parse_seal
from agent.trail.ulid import new_ulid
from tests.support.trail_factory import START, TrailFactory, sample_trail, two_epochs, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check(objects: dict[str, bytes], *trails: TrailFactory, now: datetime | None = None, store=None, elapsed=0.0, **options) -> Report:
    trust = TrustFile.parse("".join(trail.trust_line for trail in trails), "trust")
    return verify_store(
        store or MemoryReader(objects),
        Options(trust=trust, **options),
        now=now or max(trail.now for trail in trails),
        elapsed_seconds=lambda: elapsed,
    )


def objects_of(*trails: TrailFactory) -> dict[str, bytes]:
    return {key: raw for trail in trails for key, raw in trail.objects.items()}


def on_disk(tmp_path: Path, trail: TrailFactory) -> tuple[Path, list[str]]:
    root = write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    return root, [str(root), "--trust", str(tmp_path / "trust")]


# ---- links and permissions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["trails", "records", "trails/demo", "records/namespace=demo", "trails/demo/payments"])
def test_a_folder_moved_away_behind_a_link_is_never_intact(tmp_path, folder):
    trail = sample_trail()
    root, _ = on_disk(tmp_path, trail)
    (root / folder).rename(tmp_path / "elsewhere")
    (root / folder).symlink_to(tmp_path / "elsewhere")
    report = check({}, trail, store=DirectoryReader(root))
    assert Code.OBJECT_UNREADABLE in report.log.counts
    assert report.severity is Severity.UNVERIFIED


def test_a_second_trail_hidden_behind_a_link_is_reported(tmp_path):
    """The data objects of the hidden trail are removed, so only the link can tell."""
    trail, hidden = sample_trail(), sample_trail(seed=b"hidden", service="orders")
    root, _ = on_disk(tmp_path, trail)
    write_store({key: raw for key, raw in hidden.objects.items() if key.startswith("trails/")}, tmp_path / "elsewhere")
    (root / "trails/demo/orders").symlink_to(tmp_path / "elsewhere/trails/demo/orders")
    assert check({}, trail, store=DirectoryReader(root)).severity is Severity.UNVERIFIED


def test_a_link_that_leads_in_a_circle_is_unreadable(tmp_path):
    trail = sample_trail()
    root, _ = on_disk(tmp_path, trail)
    (root / "trails/loop").symlink_to(root / "trails/loop")
    assert check({}, trail, store=DirectoryReader(root)).severity is Severity.UNVERIFIED


@pytest.mark.parametrize("blind", ["link", "listing"])
def test_what_cannot_be_read_in_one_trail_does_not_hide_what_was_done_to_another(tmp_path, monkeypatch, blind):
    trail, other = sample_trail(), sample_trail(seed=b"other", service="orders")
    root, _ = on_disk(tmp_path, trail)
    write_store(other.objects, root)
    (root / seal_key(trail.origin, 3)).write_bytes(b"?")
    if blind == "link":
        (root / "trails/a").symlink_to(root / "trails")
    else:
        # As a folder without permissions is, also for root, who runs these tests in containers.
        scan = os.scandir

        def refuse(path: str):
            if str(path).endswith(f"trails/demo/orders/{other.origin.epoch}"):
                raise PermissionError(13, "Permission denied")
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
    report = check({}, trail, other, store=DirectoryReader(root))
    assert report.severity is Severity.TAMPERED
    assert {Code.SEAL_MALFORMED, Code.OBJECT_UNREADABLE} <= set(report.log.counts)


def test_an_operators_own_link_beside_the_trails_does_no_harm(tmp_path):
    trail = sample_trail()
    root, _ = on_disk(tmp_path, trail)
    (root / "latest").symlink_to(root / "trails")
    assert set(check({}, trail, store=DirectoryReader(root)).log.counts) == {Code.FOREIGN_OBJECT}


# ---- times ----------------------------------------------------------------------------------------------------------------


def test_a_data_object_dated_in_the_future_is_not_in_flight():
    trail = sample_trail()
    now = trail.now
    kept = {key: raw for key, raw in trail.objects.items() if key < seal_key(trail.origin, 5)}
    report = check(kept, trail, now=now, store=MemoryReader(kept, modified=now.timestamp() + 10**9))
    assert Code.DATA_UNSEALED in report.log.counts


def test_freshness_cannot_be_had_from_a_stop_that_is_dated_in_the_future():
    trail = TrailFactory(start=START + timedelta(days=3000))
    trail.stop()
    entry = parse_expected("trails: [{namespace: demo, service: payments, instance: '*', max_silence: 5m}]", "e")
    assert check(trail.objects, trail, now=START).severity is Severity.NOTICE
    assert set(check(trail.objects, trail, now=START, fresh=timedelta(minutes=5)).log.counts) == {Code.HEAD_IN_FUTURE}
    assert set(check(trail.objects, trail, now=START, expected=entry).log.counts) == {Code.HEAD_IN_FUTURE}


@pytest.mark.parametrize(("since", "late"), [("'2026-01-08T16:33:00+02:00'", False), ("'2026-01-08T16:32:00+02:00'", True)])
def test_since_is_compared_as_a_time_and_not_as_a_text(since, late):
    trail = sample_trail()
    entry = parse_expected(f"trails: [{{namespace: demo, service: payments, instance: '*', since: {since}}}]", "e")
    assert (Code.EXPECTED_LATE in check(trail.objects, trail, expected=entry).log.counts) is late


def test_a_head_that_was_sealed_while_the_verification_ran_is_no_head_in_the_future():
    trail = TrailFactory()
    trail.heartbeat(after_seconds=10)
    began = START - timedelta(hours=1)
    assert Code.HEAD_IN_FUTURE in check(trail.objects, trail, now=began).log.counts
    assert check(trail.objects, trail, now=began, elapsed=3610.0).severity is Severity.NOTICE


# ---- a live writer, and one who swaps objects under the verifier --------------------------------------------------------------


class Racing(MemoryReader):
    """Lists seals as a folder does that is written to meanwhile: a later one can be there and an earlier one not."""

    def __init__(self, objects: dict[str, bytes], missed: set[int]) -> None:
        """Leave these batches out of every listing."""
        super().__init__(objects)
        self.missed = missed

    def seals(self, origin: Origin) -> Iterator[int]:
        return (batch for batch in super().seals(origin) if batch not in self.missed)


def test_a_seal_that_a_listing_missed_is_looked_for_before_it_is_called_missing():
    trail = sample_trail()
    assert check({}, trail, store=Racing(trail.objects, {4, 5})).severity is Severity.NOTICE
    del trail.objects[seal_key(trail.origin, 5)]
    assert Code.SEAL_MISSING in check({}, trail, store=Racing(trail.objects, {4, 5})).log.counts


def test_a_first_seal_that_is_another_one_when_it_is_read_again_is_not_verified():
    """Whoever swaps it between the two readings could hide what the trail says it continues."""
    first = sample_trail()
    second = TrailFactory(seed=b"second", start=first.now, continues=first.link(), offsets=first.offsets, file_id=first.file_id)
    second.stop()
    other = TrailFactory(seed=b"second", start=first.now)
    store = MemoryReader(dict(second.objects))
    read, key = store.read, seal_key(second.origin, 0)
    answers = iter([other.objects[key]])

    def read_differently(name: str, limit_bytes: int) -> bytes | None:
        return next(answers, read(name, limit_bytes)) if name == key else read(name, limit_bytes)

    store.read = read_differently  # type: ignore[method-assign, assignment]
    report = check({}, second, store=store)
    assert Code.OBJECT_UNREADABLE in report.log.counts
    assert report.severity is Severity.UNVERIFIED


# ---- names ----------------------------------------------------------------------------------------------------------------


def test_another_name_is_a_notice_but_does_not_excuse_how_the_older_trail_ends():
    first = TrailFactory(instance="old")
    first.add(2)
    link, carried = first.link(), first.offsets
    second = TrailFactory(seed=b"second", instance="new", start=first.now, continues=link, offsets=carried, file_id=first.file_id)
    second.add(2)
    second.stop()
    late = first.now + timedelta(hours=1)
    assert set(check(objects_of(first, second), first, second).log.counts) == {Code.RENAMED}
    assert set(check(objects_of(first, second), first, second, now=late).log.counts) == {Code.RENAMED, Code.UNCLOSED}
    del first.objects[seal_key(first.origin, 1)]
    assert Code.TAIL_MISSING in check(objects_of(first, second), first, second).log.counts


def test_a_long_chain_of_trails_in_the_wrong_order_takes_no_quadratic_time():
    origins = [Origin("demo", "payments", new_ulid(number, bytes(10)), "web-1") for number in range(30_000)]
    claims = {str(one): Claim(one, Continues(str(older), 1, "0" * 64, ContinuesWhy.FORK)) for one, older in pairwise(origins)}
    began = time.process_time()
    (members,) = families(origins, claims)
    assert Family(members, claims).order == tuple(reversed(origins))
    assert time.process_time() - began < 10


@pytest.mark.parametrize("separator", ["\u2028", "\x0c", "\x85", "\x1c", "\r"])
def test_nothing_hides_a_binding_inside_a_comment(separator):
    trail = sample_trail()
    assert TrustFile.parse(f"# harmless{separator}*/*/*/* {trail.vkey}\n", "t").bindings == ()


def test_a_byte_order_mark_and_crlf_do_not_change_what_a_trust_file_says(tmp_path):
    trail = sample_trail()
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbf# whom\r\n" + trail.trust_line.replace("\n", "\r\n").encode())
    assert [str(binding.key) for binding in TrustFile.load(tmp_path / "t").bindings] == [trail.vkey]


def test_the_only_seal_of_a_trail_cannot_be_signed_twice_by_its_key():
    trail = TrailFactory()
    key = seal_key(trail.origin, 0)
    signature = trail.objects[key].split(b"\n\n")[-1]
    assert set(check(trail.objects | {key: trail.objects[key] + signature}, trail).log.counts) >= {Code.SEAL_MALFORMED}


def test_a_strangers_signature_beside_the_keys_own_does_not_make_the_stranger_trusted():
    trail, stranger = TrailFactory(), SigningKey.from_seed("stranger", bytes(32))
    key = seal_key(trail.origin, 0)
    text = parse_seal(trail.objects[key]).proof.note.decode().partition("\n\n")[0] + "\n"
    line = sign_note(text, [stranger]).split(b"\n\n")[1]
    report = check(trail.objects | {key: trail.objects[key] + line}, trail)
    assert [str(entry.tally.trusted_by) for entry in report.trails] == [trail.vkey]


# ---- exhaustion -----------------------------------------------------------------------------------------------------------


def frame(raw: bytes) -> bytes:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=False).compressobj()
    return compressor.compress(raw) + compressor.flush()


def test_a_data_object_of_countless_tiny_lines_is_refused_before_they_fill_the_memory():
    trail = TrailFactory()
    manifest = trail.add(3)
    assert manifest.data is not None
    raw = frame(b"a\n" * 10_000_000)
    import msgspec

    data = msgspec.structs.replace(manifest.data, bytes=len(raw), sha256=sha256(raw).hexdigest(), raw_bytes=20_000_000)
    found: list[tuple[Code, str]] = []
    contents = check_contents(msgspec.structs.replace(manifest, data=data), raw, lambda code, message, **_: found.append((code, message)))
    assert contents is None
    assert found == [(Code.DATA_MALFORMED, "the data holds more lines than there can be records in 20000000 bytes")]


def test_one_endless_line_takes_time_in_proportion_to_its_length():
    def seconds(length: int) -> float:
        raw = frame(b"[" * length + b"\n")
        began = time.process_time()
        assert [len(line) for lines in read_blocks(raw, length + 1) for line in lines] == [length]
        return time.process_time() - began

    assert seconds(48 << 20) < 20 * max(seconds(8 << 20), 0.02)


def test_a_line_that_spans_blocks_is_joined_and_an_unfinished_one_refused():
    lines = [b"x" * size for size in (1, 200_000, 400_000, 7)]
    assert [line for block in read_blocks(frame(b"\n".join(lines) + b"\n"), 1 << 20) for line in block] == lines
    with pytest.raises(FormatError, match="does not end with a whole line"):
        list(read_blocks(frame(b"\n".join(lines)), 1 << 20))


# ---- the person in front of it --------------------------------------------------------------------------------------------


def test_a_flood_of_lesser_findings_does_not_push_a_worse_one_out():
    log = FindingLog()
    for number in range(3000):
        log.add(Finding(code=Code.KEY_UNKNOWN, message="", origin=f"junk-{number}"))
    log.add(Finding(code=Code.ROOT_WRONG, message="", origin="real"))
    assert [finding.origin for finding in log.kept if finding.code is Code.ROOT_WRONG] == ["real"]


def test_a_crowd_of_strangers_trails_does_not_push_a_tampered_one_out_of_the_table(tmp_path):
    real = sample_trail(instance="zzz")
    junk = [TrailFactory(seed=b"%d" % number, instance=f"aaa-{number}") for number in range(60)]
    root, command = on_disk(tmp_path, real)
    write_store(objects_of(*junk), root)
    (root / seal_key(real.origin, 3)).write_bytes(b"?")
    text = CliRunner().invoke(verify_command, command).output
    assert "demo/payments/zzz" in text.split("aaa-")[0]
    assert "seal_malformed" in text


def test_a_file_name_cannot_pass_for_a_line_of_the_report(tmp_path):
    root, command = on_disk(tmp_path, sample_trail())
    (root / ("x" + " " * 90 + "intact and complete: 1 trail, 1 records (exit 0)")).write_bytes(b"")
    lines = CliRunner().invoke(verify_command, command, env={"COLUMNS": "80"}).output.splitlines()
    assert [line for line in lines if line.startswith("intact")] == [lines[-1]]


@pytest.mark.parametrize("options", [["--json"], []])
@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "ascii"])
def test_a_file_name_that_is_no_text_stops_no_report(tmp_path, charset, options):
    root, command = on_disk(tmp_path, sample_trail())
    with open(os.fsencode(root) + b"/records/\xff\x1b[2J\xc2\x9b31m\xe2\x80\xae", "wb"):  # noqa: PTH123 -- a name that is not UTF-8
        pass
    result = CliRunner(charset=charset).invoke(verify_command, [*command, *options])
    assert result.exit_code in {0, 11}, result.exception
    shown = [ord(character) for character in result.output if character != "\n"]
    assert all(0x20 <= code < 0x7F or code > 0xA0 for code in shown)
    assert 0x202E not in shown
    if options:
        assert any("\\udcff" in finding["message"] for finding in json.loads(result.output)["findings"])


def test_a_message_on_stderr_cannot_drive_the_terminal(tmp_path, monkeypatch):
    root, _ = on_disk(tmp_path, sample_trail())

    def refuse(self: DirectoryReader) -> Iterator[Origin]:
        raise NotVerifiedError("cannot list trails/\x1b[2J: Permission denied")

    monkeypatch.setattr(DirectoryReader, "origins", refuse)
    result = CliRunner().invoke(trust_command, [str(root)])
    assert result.exit_code == 12
    assert "\x1b" not in result.output
    assert "\\x1b[2J" in result.output


def test_a_damaged_trail_does_not_make_the_one_that_continues_it_look_incomplete() -> None:
    first, second = two_epochs()
    objects = objects_of(first, second)
    broken = seal_key(first.origin, 1)
    objects[broken] = objects[broken].replace(b'"events":4', b'"events":5', 1)
    log = check(objects, first, second).log
    blamed = {finding.code for finding in log.kept if finding.origin == str(second.origin)}
    # What the older trail had read up to its damage is not known, so nothing can be missing before the later one.
    assert blamed <= {Code.LINK_WRONG, Code.AWAY}, [finding.message for finding in log.kept]
    assert log.worst is Severity.TAMPERED
