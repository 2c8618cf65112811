"""Made-up but complete manifests and seals, for every test of this folder and the property tests of trails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.trail.batch import BatchBuilder, Cut
from agent.trail.layout import Origin, data_key
from agent.trail.manifest import (
    AgentState,
    ClockState,
    DataObject,
    Manifest,
    ManifestReason,
    RecordCounts,
    SourceProgress,
    SpoolState,
    Totals,
    Window,
)
from agent.trail.merkle import Frontier
from agent.trail.note import SigningKey
from agent.trail.records import event_block
from agent.trail.seal import Seal, build_seal
from agent.trail.ulid import new_ulid

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME: Final = "2026-01-08T14:32:07.201934Z"
ORIGIN: Final = Origin("demo", "payments", new_ulid(1_767_882_727_201, bytes(range(10))), "host-1")
KEY: Final = SigningKey.from_seed(str(ORIGIN), bytes(range(32)))
ENROLMENT_KEY: Final = SigningKey.from_seed("demo/payments/enrolment", bytes(range(32, 64)))


def manifest(*, frontier: Frontier, batch: int, reason: ManifestReason, previous: str | None, **changes: Any) -> Manifest:
    """Return the manifest of a batch without records; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "seq": frontier.size,
        "batch": batch,
        "reason": reason,
        "previous": previous,
        "sealed_at": TIME,
        "monotonic_ns": 7_000_000_000 + batch,
        "records": RecordCounts(first_seq=frontier.size, count=0, events=0, quarantined=0, gaps=0),
        "data": None,
        "window": None,
        "sources": (),
        "totals": Totals(records=0, events=0, quarantined=0, gaps=0, lines=0, observability=0, bytes_lost=0),
        "spool": SpoolState(records=0, bytes=0, oldest_age_seconds=0),
        "clock": ClockState(synchronized=True, offset_seconds=-0.000231, max_error_seconds=0.5),
        "agent": AgentState(version="0.1.0", host="host-1", boot_id="b00t", config_sha256="0" * 64, heartbeat_seconds=60),
    }
    return Manifest(**(fields | changes))


def opening(*, signers: Sequence[SigningKey] = (KEY,), origin: Origin = ORIGIN) -> tuple[Seal, Frontier]:
    """Return the seal of batch 0 and the tree after it."""
    first = manifest(frontier=Frontier.empty(), batch=0, reason=ManifestReason.OPEN, previous=None, key=str(KEY.verifier), continues=None)
    return build_seal(first, Frontier.empty(), str(origin), signers)


def events(count: int) -> list[bytes]:
    """Return native event lines."""
    return [b'{"stream":"audit","event_id":"e-%d","occurred_at":"2026-01-08T14:32:07Z","text":"\xc3\xa9"}' % n for n in range(count)]


def cut_of(frontier: Frontier, count: int) -> Cut:
    """Return a cut with this many events."""
    builder = BatchBuilder(frontier)
    builder.add(event_block("app", TIME, events(count), [(100 * n, 100) for n in range(count)]))
    return builder.finish()


def following(previous: Seal, frontier: Frontier, count: int, *, origin: Origin = ORIGIN) -> tuple[Seal, Frontier, Cut]:
    """Return the next seal with this many events, the tree after it, and its cut."""
    cut = cut_of(frontier, count)
    digest = cut.sha256
    records = RecordCounts(first_seq=frontier.size, count=count, events=count, quarantined=0, gaps=0)
    data = window = None
    if cut.data is not None and digest is not None:
        key = data_key(origin, frontier.size, TIME[:10], digest)
        data = DataObject(key=key, bytes=len(cut.data), sha256=digest, encoding="zstd", raw_bytes=cut.raw_bytes)
        window = Window(occurred_min="2026-01-08T14:32:07Z", occurred_max="2026-01-08T14:32:07Z", observed_min=TIME, observed_max=TIME)
    progress = SourceProgress(
        id="app",
        kind="file",
        path="/var/log/app/audit.log",
        file_id=ORIGIN.epoch,
        from_offset=0,
        to_offset=100 * count,
        lines=count,
        audit=count,
        observability=0,
        quarantined=0,
    )
    next_manifest = manifest(
        frontier=cut.frontier,
        batch=previous.manifest.batch + 1,
        reason=ManifestReason.AGE if count else ManifestReason.HEARTBEAT,
        previous=previous.sha256,
        records=records,
        data=data,
        window=window,
        sources=(progress,) if count else (),
    )
    seal, after = build_seal(next_manifest, cut.frontier, str(origin), [KEY])
    return seal, after, cut
