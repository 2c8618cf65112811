"""One store for every code, so that no check can be lost: what the agent's own key signed wrongly, and what was done afterwards."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.errors import NotVerifiedError
from agent.reader.expected import parse_expected
from agent.reader.fetch import MemoryReader
from agent.reader.findings import EXPLANATIONS, Code, Finding, FindingLog, Severity
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, Report, verify_store
from agent.trail.batch import BatchBuilder
from agent.trail.layout import data_key, seal_key
from agent.trail.manifest import Continues, ContinuesWhy, DataObject, ManifestReason, SourceProgress, Window
from agent.trail.merkle import Frontier
from agent.trail.note import SigningKey
from agent.trail.records import GapCause, event_bodies
from agent.trail.ulid import new_ulid
from tests.support.trail_factory import PATH, SOURCE, START, TrailFactory, event_line, sample_trail, stamp, two_epochs
from tests.unit.reader.versioned_bucket import NOW, VersionedBucket, VersionedReader, attester_of

if TYPE_CHECKING:
    from collections.abc import Callable


def check(*trails: TrailFactory, store: MemoryReader | None = None, now=None, **options) -> Report:
    objects = {key: raw for trail in trails for key, raw in trail.objects.items()}
    trust = TrustFile.parse("".join(trail.trust_line for trail in trails), "trust")
    return verify_store(
        store or MemoryReader(objects), Options(**({"trust": trust} | options)), now=now or max(trail.now for trail in trails)
    )


def found(report: Report) -> set[Code]:
    return set(report.log.counts)


def attested(act: Callable[[VersionedBucket, str], object], **settings: Any) -> Report:
    """A trail in a bucket that keeps versions, to the newest seal of which something was done."""
    trail = sample_trail()
    bucket = VersionedBucket(trail.objects, **settings)
    act(bucket, seal_key(trail.origin, 7))
    store = VersionedReader(bucket)
    trust = TrustFile.parse(trail.trust_line, "trust")
    return verify_store(store, Options(trust=trust), now=NOW, attester=attester_of(bucket, store.pins))


def sealed_wrongly(**changes) -> Report:
    """A trail whose second batch was signed with these manifest fields."""
    trail = TrailFactory()
    trail.add(3)
    trail.seal(ManifestReason.AGE, after_seconds=5, **changes)
    trail.stop()
    return check(trail)


def with_bodies(bodies: list[bytes], counts: dict[str, int], **arguments) -> Report:
    trail = TrailFactory()
    observed = stamp(START)
    window = Window(stamp(START), stamp(START), observed, observed)
    progress = SourceProgress(
        id=SOURCE,
        kind="file",
        path=PATH,
        file_id=trail.file_id,
        from_offset=0,
        to_offset=10_000,
        lines=0,
        audit=0,
        observability=0,
        quarantined=0,
    )
    fields: dict[str, Any] = {"window": window, "sources": (progress,)} | arguments
    trail.seal(ManifestReason.AGE, after_seconds=5, bodies=bodies, counts=counts, **fields)
    trail.stop()
    return check(trail)


def bodies(*at: tuple[int, int]) -> list[bytes]:
    return event_bodies(SOURCE, stamp(START), [event_line(0, START) for _ in at], list(at))


def seal_malformed() -> Report:
    trail = sample_trail()
    trail.objects[seal_key(trail.origin, 2)] = b"{}"
    return check(trail)


def seal_missing() -> Report:
    trail = sample_trail()
    del trail.objects[seal_key(trail.origin, 2)]
    return check(trail)


def seal_misplaced() -> Report:
    trail = sample_trail()
    trail.objects[seal_key(trail.origin, 2)] = trail.objects[seal_key(trail.origin, 3)]
    return check(trail)


def signature_wrong() -> Report:
    """From batch 2 on, somebody else's key of the same name signs."""
    trail = TrailFactory()
    trail.add(2)
    trail.signer = SigningKey.from_seed(str(trail.origin), sha256(b"thief").digest())
    trust = TrustFile.parse(f"{trail.origin} {TrailFactory().vkey}", "trust")
    trail.stop()
    return check(trail, trust=trust)


def proof_wrong() -> Report:
    """The proof of batch 3 has one hash from elsewhere."""
    trail = sample_trail()
    key = seal_key(trail.origin, 3)
    lines = trail.objects[key].split(b"\n")
    other = trail.objects[seal_key(trail.origin, 6)].split(b"\n")
    lines[4] = other[4] if other[4] != lines[4] else other[5]
    trail.objects[key] = b"\n".join(lines)
    return check(trail)


def root_wrong() -> Report:
    """The signed tree has other record leaves than the data object: a signer who seals what it did not store."""
    trail = TrailFactory()
    trail.add(2)
    trail.frontier = Frontier.empty().extend([sha256(bytes([n])).digest() for n in range(trail.frontier.size)])
    trail.heartbeat()
    trail.stop()
    return check(trail)


def seq_broken() -> Report:
    trail = TrailFactory()
    trail.add(2)
    trail.frontier = trail.frontier.append(sha256(b"a leaf that is in no batch").digest())
    trail.heartbeat()
    trail.stop()
    return check(trail)


def data_missing() -> Report:
    trail = sample_trail()
    del trail.objects[next(key for key in trail.objects if key.startswith("records/"))]
    return check(trail)


def data_altered() -> Report:
    trail = sample_trail()
    trail.objects[next(key for key in trail.objects if key.startswith("records/"))] += b"\0"
    return check(trail)


def data_key_wrong() -> Report:
    trail = TrailFactory()
    builder = BatchBuilder(trail.frontier)
    builder.add(b"".join(body + b"\n" for body in bodies((0, 10))))
    cut = builder.finish()
    assert cut.data is not None
    assert cut.sha256 is not None
    key = data_key(trail.origin, 1, "2020-01-01", cut.sha256)
    trail.objects[key] = cut.data
    observed = stamp(START)
    trail.seal(
        ManifestReason.AGE,
        after_seconds=5,
        bodies=bodies((0, 10)),
        counts={"events": 1},
        window=Window(observed, observed, observed, observed),
        data=DataObject(key, len(cut.data), cut.sha256, "zstd", cut.raw_bytes),
    )
    trail.stop()
    return check(trail)


def two_successors() -> Report:
    first, second = two_epochs()
    third = TrailFactory(seed=b"third", start=second.now, continues=second.continues, offsets=first.offsets, file_id=first.file_id)
    third.stop()
    return check(first, second, third)


def link_to(size: int, root: str, why: ContinuesWhy = ContinuesWhy.REOPENED, *, cut: int | None = None) -> Report:
    first = sample_trail()
    second = TrailFactory(seed=b"second", start=first.now, continues=Continues(str(first.origin), size, root, why), offsets=first.offsets)
    second.stop()
    for batch in range(cut or first.batch, first.batch):
        del first.objects[seal_key(first.origin, batch)]
    return check(first, second)


def tail_missing() -> Report:
    first = sample_trail()
    link = first.link()
    return link_to(link.size, link.root, cut=5)


def went_on() -> Report:
    first = TrailFactory()
    first.add(2)
    link, offsets = first.link(ContinuesWhy.FORK), dict(first.offsets)
    first.add(2)
    second = TrailFactory(seed=b"second", start=first.now, continues=link, offsets=offsets, file_id=first.file_id)
    second.add(2)
    second.stop()
    return check(first, second)


def test_a_fork_of_which_nothing_was_confirmed_continues_the_empty_tree():
    first = sample_trail()
    link = Continues(str(first.origin), 0, Frontier.empty().root().hex(), ContinuesWhy.FORK)
    second = TrailFactory(seed=b"second", start=first.now, continues=link, file_id=first.file_id)
    second.add(2)
    second.stop()
    assert found(check(first, second)) == {Code.WENT_ON}


def renamed() -> Report:
    first = sample_trail(instance="old-name")
    second = TrailFactory(
        seed=b"second",
        instance="new-name",
        start=first.now,
        continues=first.link(),
        offsets=first.offsets,
        file_id=first.file_id,
    )
    second.add(2)
    second.stop()
    return check(first, second)


def predecessor_absent() -> Report:
    return check(two_epochs()[1])


def restarted_unlinked() -> Report:
    first = sample_trail()
    second = TrailFactory(seed=b"second", start=first.now)
    second.stop()
    return check(first, second)


def unreadable() -> Report:
    trail = sample_trail()
    store = MemoryReader(trail.objects)
    read = store.read

    def refuse(key: str, limit_bytes: int) -> bytes | None:
        if key == seal_key(trail.origin, 3):
            raise NotVerifiedError(f"cannot read {key}: Permission denied")
        return read(key, limit_bytes)

    store.read = refuse  # type: ignore[method-assign]
    return check(trail, store=store)


def check_failed() -> Report:
    trail = sample_trail()
    store = MemoryReader(trail.objects)
    read = store.read

    def explode(key: str, limit_bytes: int) -> bytes | None:
        if key.startswith("records/"):
            raise ZeroDivisionError("a defect nobody foresaw")
        return read(key, limit_bytes)

    store.read = explode  # type: ignore[method-assign]
    return check(trail, store=store)


def bytes_unaccounted() -> Report:
    trail = TrailFactory()
    trail.add(2)
    trail.offsets[trail.file_id] += 17
    trail.add(2)
    trail.stop()
    return check(trail)


def offsets_overlap() -> Report:
    trail = TrailFactory()
    trail.add(2)
    trail.offsets[trail.file_id] -= 17
    trail.add(2)
    trail.stop()
    return check(trail)


def silence(reason: ManifestReason = ManifestReason.HEARTBEAT) -> Report:
    trail = TrailFactory()
    if reason is ManifestReason.RESUME:
        trail.resume(unclean=True, after_seconds=181)
    else:
        trail.heartbeat(after_seconds=181)
    trail.stop()
    return check(trail)


def stored_beside(age_seconds: float, *, fork: bool = False, key: str | None = None) -> Report:
    trail = sample_trail()
    objects = dict(trail.objects)
    trails = [trail]
    if fork:
        successor = TrailFactory(seed=b"second", start=trail.now, continues=trail.link(ContinuesWhy.FORK))
        successor.stop()
        trails.append(successor)
        objects |= successor.objects
    added = key or data_key(trail.origin, trail.frontier.size, stamp(trail.now)[:10], sha256(b"x").digest())
    objects[added] = b"x"
    store = MemoryReader(objects)
    now = trails[-1].now
    store.modified[added] = now.timestamp() - age_seconds
    return check(*trails, store=store, now=now)


def with_expected(text: str, **options) -> Report:
    return check(sample_trail(), expected=parse_expected(text, "expected"), **options)


def backwards(*, monotonic: bool) -> Report:
    trail = TrailFactory()
    trail.heartbeat()
    if monotonic:
        trail.monotonic_ns -= 10**12
    else:
        trail.now -= timedelta(hours=1)
    trail.heartbeat()
    trail.stop()
    return check(trail, now=START + timedelta(hours=1))


def still_open(age: timedelta, **options) -> Report:
    trail = TrailFactory()
    trail.add(2)
    return check(trail, now=trail.now + age, **options)


STORES: dict[Code, Callable[[], Report]] = {
    Code.SEAL_MISSING: seal_missing,
    Code.SEAL_MALFORMED: seal_malformed,
    Code.SEAL_MISPLACED: seal_misplaced,
    Code.SIGNATURE_WRONG: signature_wrong,
    Code.PROOF_WRONG: proof_wrong,
    Code.PREVIOUS_WRONG: lambda: sealed_wrongly(previous="0" * 64),
    Code.ROOT_WRONG: root_wrong,
    Code.SEQ_BROKEN: seq_broken,
    Code.DATA_MISSING: data_missing,
    Code.DATA_ALTERED: data_altered,
    Code.DATA_KEY_WRONG: data_key_wrong,
    Code.DATA_MALFORMED: lambda: with_bodies([b',"kind":"event","source":5}'], {"events": 1}),
    Code.COUNTS_WRONG: lambda: with_bodies(bodies((0, 10)), {"quarantined": 1}),
    Code.WINDOW_WRONG: lambda: with_bodies(
        bodies((0, 10)), {"events": 1}, window=Window(stamp(START), "2026-01-09T00:00:00Z", stamp(START), stamp(START))
    ),
    Code.POSITION_WRONG: lambda: with_bodies(bodies((0, 10), (5, 10)), {"events": 2}),
    Code.TOTALS_WRONG: lambda: sealed_wrongly(totals=msgspec.structs.replace(TrailFactory().totals, records=4)),
    Code.OFFSETS_OVERLAP: offsets_overlap,
    Code.REASON_WRONG: lambda: (trail := TrailFactory(), trail.close(), trail.heartbeat()) and check(trail),
    Code.MONOTONIC_BACKWARDS: lambda: backwards(monotonic=True),
    Code.LINK_WRONG: lambda: link_to(3, "0" * 64),
    Code.TWO_SUCCESSORS: two_successors,
    Code.STORE_EMPTY: lambda: verify_store(MemoryReader({}), Options(), now=START),
    Code.KEY_UNKNOWN: lambda: check(sample_trail(), trust=TrustFile()),
    Code.OBJECT_UNREADABLE: unreadable,
    Code.CHECK_FAILED: check_failed,
    Code.GAP: lambda: (trail := TrailFactory(), trail.add(1, gaps=1), trail.stop()) and check(trail),
    Code.BYTES_UNACCOUNTED: bytes_unaccounted,
    Code.SILENCE: silence,
    Code.UNCLOSED: lambda: still_open(timedelta(seconds=181)),
    Code.NOT_FRESH: lambda: still_open(timedelta(seconds=31), fresh=timedelta(seconds=30)),
    Code.HEAD_IN_FUTURE: lambda: still_open(-timedelta(hours=1)),
    Code.TAIL_MISSING: tail_missing,
    Code.PREDECESSOR_ABSENT: predecessor_absent,
    Code.RESTARTED_UNLINKED: restarted_unlinked,
    Code.DATA_UNSEALED: lambda: stored_beside(601),
    Code.EXPECTED_ABSENT: lambda: with_expected("trails: [{namespace: demo, service: payments, instance: 'web-*'}, "
                                                "{namespace: demo, service: orders, instance: '*'}]"),
    Code.EXPECTED_LATE: lambda: with_expected("trails: [{namespace: demo, service: payments, instance: '*', since: 2026-01-01}]"),
    Code.DATA_IN_FLIGHT: lambda: stored_beside(599),
    Code.FORK_REMAINS: lambda: stored_beside(601, fork=True),
    Code.FOREIGN_OBJECT: lambda: stored_beside(0, key="records/readme.txt"),
    Code.FOREIGN_TRAIL: lambda: with_expected("trails: [{namespace: demo, service: orders, instance: '*'}]"),
    Code.WENT_ON: went_on,
    Code.LINK_UNCHECKED: lambda: (pair := two_epochs()) and check(*pair, origin_glob=str(pair[1].origin)),
    Code.AWAY: lambda: silence(ManifestReason.RESUME),
    Code.CLOCK_BACKWARDS: lambda: backwards(monotonic=False),
    Code.RENAMED: renamed,
    Code.DELETE_MARKER: lambda: attested(lambda bucket, key: bucket.hide(key)),
    Code.VERSION_ALTERED: lambda: attested(lambda bucket, key: bucket.put(key, b"other")),
    Code.VERSION_GONE: lambda: attested(lambda bucket, key: bucket.forget(key)),
    Code.VERSION_REPEATED: lambda: attested(lambda bucket, key: bucket.put(key, bucket.latest()[key].raw)),
    Code.RETENTION_WEAK: lambda: attested(lambda bucket, key: bucket.shorten(key)),
    Code.RETENTION_EXPIRED: lambda: attested(lambda bucket, key: None, days=1),
    Code.NOT_ATTESTED: lambda: attested(lambda bucket, key: bucket.refused.add("list_object_versions")),
    Code.LEVEL_NOT_REACHED: lambda: check(sample_trail(), level="locked"),
}  # fmt: skip


@pytest.mark.parametrize("code", Code)
def test_every_code_is_found_where_it_belongs(code):
    report = STORES[code]()
    assert code in found(report)
    assert report.severity >= code.severity


@pytest.mark.parametrize(
    "code",
    [
        *(Code.SEAL_MISSING, Code.SEAL_MALFORMED, Code.PREVIOUS_WRONG, Code.DATA_MISSING, Code.DATA_ALTERED),
        *(Code.COUNTS_WRONG, Code.WINDOW_WRONG, Code.POSITION_WRONG, Code.OFFSETS_OVERLAP, Code.REASON_WRONG),
        *(Code.GAP, Code.BYTES_UNACCOUNTED, Code.SILENCE, Code.UNCLOSED, Code.NOT_FRESH, Code.AWAY, Code.WENT_ON),
        *(Code.DATA_UNSEALED, Code.FORK_REMAINS, Code.FOREIGN_OBJECT, Code.DATA_IN_FLIGHT, Code.RESTARTED_UNLINKED, Code.KEY_UNKNOWN),
        *(Code.DELETE_MARKER, Code.VERSION_ALTERED, Code.VERSION_REPEATED, Code.RETENTION_WEAK, Code.NOT_ATTESTED, Code.LEVEL_NOT_REACHED),
        *(Code.RENAMED, Code.LINK_UNCHECKED, Code.CLOCK_BACKWARDS, Code.PREDECESSOR_ABSENT, Code.MONOTONIC_BACKWARDS, Code.LINK_WRONG),
    ],
)
def test_one_damage_gives_one_kind_of_finding(code):
    assert found(STORES[code]()) == {code}


def test_a_seal_that_is_not_listed_and_cannot_be_read_is_not_called_missing():
    trail = sample_trail()
    hole = seal_key(trail.origin, 3)

    class Withheld(MemoryReader):
        def read(self, key: str, limit_bytes: int) -> bytes | None:
            if key == hole:
                raise NotVerifiedError("no answer")
            return super().read(key, limit_bytes)

    raw = trail.objects.pop(hole)
    report = check(trail, store=Withheld(trail.objects))
    assert Code.SEAL_MISSING not in found(report)
    assert report.log.counts[Code.OBJECT_UNREADABLE] == 1
    trail.objects[hole] = raw


def test_a_gap_may_account_for_bytes_that_a_source_jumps_over():
    trail = TrailFactory()
    trail.add(2, gaps=1)
    trail.add(2)
    trail.stop()
    assert found(check(trail)) == {Code.GAP}


def test_a_stated_rollback_may_read_bytes_again():
    trail = TrailFactory()
    trail.add(2)
    trail.offsets[trail.file_id] -= 100
    trail.add(2, gaps=1, gap_cause=GapCause.ROLLED_BACK)
    trail.stop()
    assert found(check(trail)) == {Code.GAP}


def test_a_stated_rollback_may_go_on_as_another_file_that_does_not_begin_at_its_start():
    for cause, expected in ((GapCause.ROLLED_BACK, {Code.GAP}), (GapCause.TRUNCATED, {Code.GAP, Code.BYTES_UNACCOUNTED})):
        trail = TrailFactory()
        trail.add(2, gaps=1, gap_cause=cause)
        trail.file_id = trail.file_id[:-1] + "0"
        trail.offsets[trail.file_id] = 100
        trail.add(2)
        trail.stop()
        assert found(check(trail)) == expected


def test_offsets_join_up_across_epochs():
    first, second = two_epochs()
    assert found(check(first, second)) == set()
    shifted = TrailFactory(seed=b"shifted", start=first.now, continues=first.link(), file_id=first.file_id)
    shifted.offsets = {first.file_id: first.offsets[first.file_id] + 5}
    shifted.add(2)
    shifted.stop()
    assert found(check(first, shifted)) == {Code.BYTES_UNACCOUNTED}


def test_a_trail_that_another_continues_need_not_be_closed():
    first = TrailFactory()
    first.add(2)
    second = TrailFactory(seed=b"second", start=first.now, continues=first.link(ContinuesWhy.STATE_LOST), offsets=first.offsets)
    second.stop()
    report = check(first, second, now=first.now + timedelta(days=2))
    assert found(report) == set()
    assert [trail.state for trail in report.trails] == ["continued", "stopped"]


def test_an_enrolment_key_vouches_for_the_epochs_key_it_signed():
    enrolment = SigningKey.from_seed("demo/payments", sha256(b"enrolment").digest())
    trail = sample_trail(enrolment=enrolment)
    trust = TrustFile.parse(f"demo/payments/*/* {enrolment.verifier}", "trust")
    report = check(trail, trust=trust)
    assert found(report) == set()
    assert report.trails[0].tally.trusted_by == enrolment.verifier
    other = TrustFile.parse(f"demo/orders/*/* {enrolment.verifier}", "trust")
    assert found(check(trail, trust=other)) == {Code.KEY_UNKNOWN}


def test_a_whole_trail_signed_anew_by_a_thief_is_not_verified():
    trail, forged = sample_trail(), sample_trail(signer_seed=b"thief")
    assert forged.origin == trail.origin
    assert found(check(forged, trust=TrustFile.parse(trail.trust_line, "trust"))) == {Code.KEY_UNKNOWN}


def test_a_trail_without_its_first_seal_is_tampered_with():
    trail = sample_trail()
    del trail.objects[seal_key(trail.origin, 0)]
    report = check(trail)
    assert found(report) == {Code.SEAL_MISSING, Code.KEY_UNKNOWN}
    assert report.severity is Severity.TAMPERED


def test_a_bad_line_is_pinned_to_its_seq():
    report = with_bodies([*bodies((0, 10)), b',"kind":"event","source":5}'], {"events": 2})
    finding = next(finding for finding in report.log.kept if finding.code is Code.DATA_MALFORMED)
    assert (finding.first_seq, finding.last_seq) == (2, 2)


def test_positions_of_several_files_of_one_source_may_lie_in_any_of_their_ranges():
    ids = [new_ulid(1, bytes([n] * 10)) for n in range(2)]
    ranges = ((0, 100), (500, 900))
    sources = tuple(
        SourceProgress(
            id=SOURCE,
            kind="file",
            path=f"/{n}",
            file_id=ids[n],
            from_offset=a,
            to_offset=b,
            lines=0,
            audit=0,
            observability=0,
            quarantined=0,
        )
        for n, (a, b) in enumerate(ranges)
    )
    assert Code.POSITION_WRONG not in found(with_bodies(bodies((600, 10), (0, 10), (700, 9)), {"events": 3}, sources=sources))
    assert Code.POSITION_WRONG in found(with_bodies(bodies((600, 10), (200, 10)), {"events": 2}, sources=sources))


def test_a_wrong_link_never_exits_0():
    head = sample_trail().link()
    for size, root in ((head.size, "0" * 64), (head.size + 1, head.root), (1, head.root), (0, head.root), (7, head.root)):
        assert link_to(size, root).severity > Severity.NOTICE
    first = sample_trail()
    for origin in ("demo/payments/x", "demo/orders/" + "/".join(str(first.origin).split("/")[2:])):
        second = TrailFactory(seed=b"2", start=first.now, continues=Continues(origin, head.size, head.root, ContinuesWhy.REOPENED))
        second.stop()
        assert found(check(first, second)) & {Code.LINK_WRONG, Code.PREDECESSOR_ABSENT}


def test_trails_that_continue_each_other_in_a_ring_are_wrong():
    first = TrailFactory(continues=Continues(str(TrailFactory(seed=b"2").origin), 1, "0" * 64, ContinuesWhy.FORK))
    second = TrailFactory(seed=b"2", continues=first.link())
    first.stop()
    second.stop()
    assert Code.LINK_WRONG in found(check(first, second))


def test_expected_silence_is_measured_unless_the_trail_was_closed():
    text = "trails: [{namespace: demo, service: payments, instance: 'web-*', max_silence: 5m}]"
    late = START + timedelta(hours=1)
    assert found(with_expected(text, now=late)) == {Code.NOT_FRESH}
    assert found(with_expected(text)) == set()


def test_findings_are_bounded_but_none_is_lost():
    log = FindingLog()
    for batch in range(5000):
        log.add(Finding(code=Code.GAP, message="lost", origin="a", batch=batch))
    log.add(Finding(code=Code.ROOT_WRONG, message="wrong", origin="b"))
    assert len(log.kept) < 1001
    assert log.omitted + len(log.kept) == 5001
    assert (log.worst, log.worst_of("a"), log.worst_of("c")) == (Severity.TAMPERED, Severity.INCOMPLETE, Severity.NOTICE)


def test_the_worst_wins_in_the_order_10_12_11():
    assert [severity.exit_code for severity in sorted(Severity)] == [0, 11, 12, 10]
    assert set(EXPLANATIONS) == set(Code)
