"""Builds real trails with `agent.trail` alone: fixed keys, fixed times, no agent, no spool, no disk.

A factory keeps its objects in a dict from key to bytes. Everything in it follows from the arguments, so the same calls
make the same bytes (as far as the zstd version does).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from agent.trail.batch import BatchBuilder
from agent.trail.layout import Origin, data_key, seal_key
from agent.trail.manifest import (
    AgentState,
    ClockState,
    Continues,
    ContinuesWhy,
    DataObject,
    Manifest,
    ManifestReason,
    RecordCounts,
    SourceProgress,
    SpoolState,
    Totals,
    Where,
    Window,
)
from agent.trail.merkle import Frontier
from agent.trail.note import SigningKey
from agent.trail.records import Certainty, GapCause, QuarantineReason, event_bodies, gap_body, quarantine_body
from agent.trail.seal import build_seal
from agent.trail.ulid import new_ulid

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 1, 8, 14, 32, 7, 201934, tzinfo=UTC)
BOOT_ID = "4c1f0a52-6f0a-4d6e-9f61-1d1c2a6b7e10"
SOURCE = "app"
PATH = "/var/log/app/audit.log"


def stamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event_line(number: int, moment: datetime) -> bytes:
    """Return one event as a service would print it; numbers vary actor, action, outcome and length."""
    action, outcome = (("auth.login", "success"), ("auth.login", "failure"), ("role.grant", "denied"), ("data.read", "success"))[number % 4]
    return msgspec.json.encode(
        {
            "stream": "audit",
            "event_id": f"evt-{number:08d}",
            "occurred_at": stamp(moment),
            "actor": {"type": "user", "id": f"user-{number * 7919 % 1000}", "session": sha256(b"%d" % number).hexdigest()[:16]},
            "action": action,
            "target": {"type": "account", "id": f"acct-{number % 97}"},
            "outcome": outcome,
            "context": {"ip": f"203.0.113.{number % 250}", "granted_role": "admin"},
        }
    )


class TrailFactory:
    """Makes one trail, batch by batch; public attributes may be changed between batches to make trails that are wrong."""

    def __init__(
        self,
        *,
        seed: bytes = b"first",
        start: datetime = START,
        namespace: str = "demo",
        service: str = "payments",
        instance: str = "web-1",
        heartbeat_seconds: int = 60,
        enrolment: SigningKey | None = None,
        continues: Continues | None = None,
        offsets: dict[str, int] | None = None,
        file_id: str | None = None,
        signer_seed: bytes | None = None,
    ) -> None:
        """Open the trail with batch 0."""
        digest = sha256(seed).digest()
        epoch = new_ulid(round(start.timestamp() * 1000), digest[:10])
        self.origin = Origin(namespace, service, epoch, instance)
        self.signer = SigningKey.from_seed(str(self.origin), sha256(b"signer" + (signer_seed or seed)).digest())
        self.enrolment = enrolment
        self.objects: dict[str, bytes] = {}
        self.now = start
        self.monotonic_ns = 1_000_000_000_000
        self.boot_id = BOOT_ID
        self.where: Where | UnsetType = UNSET
        self.heartbeat_seconds = heartbeat_seconds
        self.frontier = Frontier.empty()
        self.batch = 0
        self.previous: str | None = None
        self.totals = Totals(0, 0, 0, 0, 0, 0, 0)
        self.file_id = file_id or new_ulid(round(start.timestamp() * 1000), digest[10:20])
        self.offsets = dict(offsets or {})
        self.events_made = 0
        self.continues = continues
        self.last_manifest: Manifest | None = None
        self.seal(ManifestReason.OPEN, after_seconds=0.0)

    @property
    def vkey(self) -> str:
        """The epoch's verifier key."""
        return str(self.signer.verifier)

    @property
    def trust_line(self) -> str:
        """The line of a trust file for this trail."""
        return f"{self.origin} {self.vkey}\n"

    def link(self, why: ContinuesWhy = ContinuesWhy.REOPENED) -> Continues:
        """Return what a next epoch says to continue this one at its present head."""
        return Continues(str(self.origin), self.frontier.size, self.frontier.root().hex(), why)

    def add(
        self,
        events: int = 3,
        *,
        quarantined: int = 0,
        gaps: int = 0,
        observability: int = 2,
        reason: ManifestReason = ManifestReason.AGE,
        after_seconds: float = 5.0,
        gap_cause: GapCause = GapCause.TRUNCATED,
    ) -> Manifest:
        """Seal a batch with some records; a gap's bytes come after the rest, and the file goes on behind them."""
        observed = stamp(self.now + timedelta(seconds=after_seconds / 2))
        begin = at = self.offsets.get(self.file_id, 0)
        at += observability * 80
        lines, places = [], []
        for _ in range(events):
            line = event_line(self.events_made, self.now + timedelta(milliseconds=self.events_made % 1000))
            lines.append(line)
            places.append((at, len(line)))
            at += len(line) + 1
            self.events_made += 1
        bodies = event_bodies(SOURCE, observed, lines, places)
        for number in range(quarantined):
            raw = b'{"stream":"audit","action":"role.grant","number":%d}' % number
            bodies.append(quarantine_body(SOURCE, observed, QuarantineReason.MISSING_FIELD, "actor", raw, (at, len(raw))))
            at += len(raw) + 1
        for number in range(gaps):
            bodies.append(
                gap_body(SOURCE, observed, gap_cause, Certainty.KNOWN, at, at + 100, f"test loss {number}", file_id=self.file_id, path=PATH)
            )
            at += 100
        occurred = [msgspec.json.decode(line)["occurred_at"] for line in lines]
        window = Window(min(occurred, default=None), max(occurred, default=None), observed, observed) if bodies else None
        progress = SourceProgress(
            id=SOURCE,
            kind="file",
            path=PATH,
            file_id=self.file_id,
            from_offset=begin,
            to_offset=at,
            lines=events + quarantined + observability,
            audit=events + quarantined,
            observability=observability,
            quarantined=quarantined,
        )
        self.offsets[self.file_id] = at
        counts = {"events": events, "quarantined": quarantined, "gaps": gaps}
        return self.seal(
            reason, after_seconds=after_seconds, bodies=bodies, counts=counts, window=window, sources=(progress,), bytes_lost=gaps * 100
        )

    def heartbeat(self, *, after_seconds: float = 60.0) -> Manifest:
        """Seal a heartbeat."""
        return self.seal(ManifestReason.HEARTBEAT, after_seconds=after_seconds)

    def stop(self) -> Manifest:
        """End the process, not the trail."""
        return self.seal(ManifestReason.STOP, after_seconds=1.0)

    def resume(self, *, unclean: bool = False, after_seconds: float = 2.0) -> Manifest:
        """Begin the next run."""
        return self.seal(ManifestReason.RESUME, after_seconds=after_seconds, unclean=unclean)

    def close(self) -> Manifest:
        """End the trail."""
        return self.seal(ManifestReason.CLOSE, after_seconds=1.0)

    def seal(
        self,
        reason: ManifestReason,
        *,
        after_seconds: float,
        bodies: list[bytes] | None = None,
        counts: dict[str, int] | None = None,
        window: Window | None = None,
        sources: tuple[SourceProgress, ...] = (),
        bytes_lost: int = 0,
        unclean: bool | None = None,
        **changes: Any,
    ) -> Manifest:
        """Cut and seal a batch of these bodies; ``changes`` replace fields of the manifest before it is signed."""
        bodies = bodies or []
        kinds = {"events": 0, "quarantined": 0, "gaps": 0} | (counts or {})
        self.now += timedelta(seconds=after_seconds)
        self.monotonic_ns += round(after_seconds * 1e9)
        first_seq = self.frontier.size
        builder = BatchBuilder(self.frontier)
        builder.add(b"".join(body + b"\n" for body in bodies))
        cut = builder.finish()
        data = None
        if cut.data is not None and cut.sha256 is not None:
            key = data_key(self.origin, first_seq, stamp(self.now)[:10], cut.sha256)
            data = DataObject(key, len(cut.data), cut.sha256, "zstd", cut.raw_bytes)
            self.objects[key] = cut.data
        before = self.totals
        self.totals = Totals(
            before.records + len(bodies),
            before.events + kinds["events"],
            before.quarantined + kinds["quarantined"],
            before.gaps + kinds["gaps"],
            before.lines + sum(source.lines for source in sources),
            before.observability + sum(source.observability for source in sources),
            before.bytes_lost + bytes_lost,
        )
        opening = self.batch == 0
        manifest = Manifest(
            seq=cut.frontier.size,
            batch=self.batch,
            reason=reason,
            previous=self.previous,
            sealed_at=stamp(self.now),
            monotonic_ns=self.monotonic_ns,
            records=RecordCounts(first_seq, len(bodies), **kinds),
            data=data,
            window=window,
            sources=sources,
            totals=self.totals,
            spool=SpoolState(0, 0, 0.0),
            clock=ClockState(synchronized=True, offset_seconds=0.000113, max_error_seconds=0.0052),
            agent=AgentState(
                "0.1.0", "web-1.example", self.boot_id, sha256(b"config").hexdigest(), self.heartbeat_seconds, where=self.where
            ),
            key=self.vkey if opening else UNSET,
            continues=self.continues if opening else UNSET,
            unclean=UNSET if unclean is None else unclean,
        )
        if changes:
            manifest = msgspec.structs.replace(manifest, **changes)
        signers = [self.signer, self.enrolment] if opening and self.enrolment else [self.signer]
        seal, self.frontier = build_seal(manifest, cut.frontier, str(self.origin), signers)
        self.objects[seal_key(self.origin, self.batch)] = seal.raw
        self.previous = seal.sha256
        self.batch += 1
        self.last_manifest = manifest
        return manifest


def write_store(objects: dict[str, bytes], root: Path) -> Path:
    """Write objects below a folder as a directory store has them, and return the folder."""
    for key, raw in objects.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return root


def sample_trail(**arguments: Any) -> TrailFactory:
    """Return a short trail with every kind of batch but gaps, ended by ``stop``."""
    made = TrailFactory(**arguments)
    made.add(4)
    made.heartbeat()
    made.add(3, quarantined=1)
    made.stop()
    made.resume()
    made.add(5, reason=ManifestReason.SIZE)
    made.stop()
    return made


def two_epochs() -> tuple[TrailFactory, TrailFactory]:
    """Return a closed trail and the one that continues it, in the same file."""
    first = TrailFactory(seed=b"golden-1")
    first.add(4, quarantined=1)
    first.close()
    second = TrailFactory(
        seed=b"golden-2",
        start=first.now + timedelta(seconds=30),
        continues=first.link(),
        offsets=first.offsets,
        file_id=first.file_id,
    )
    second.add(3)
    second.heartbeat()
    second.stop()
    return first, second
