"""From spooled records to sealed batches: one sealer, one head, one order.

Invariants:
    - A record gets its seq here and nowhere else, at the cut of its batch, in the order in which it was spooled.
    - A batch is built as its blocks arrive (numbered, hashed, compressed on a worker thread), so a cut costs one manifest
      and one signature, and the event loop never waits for a large hash.
    - A cut is one durable transaction: the sealed bytes replace their blocks and the head moves. A crash before it loses
      nothing (the blocks are read again); a crash after it ships the very same bytes.
    - Nothing is sealed under a name that was given up: after a fork, what no required store confirmed is numbered again
      in a new epoch.

It must not know stores, sources or files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from .intake import Sealed
from .pending import Pending, loss_block, sealed
from .trail.layout import Origin, data_key
from .trail.manifest import (
    AgentState,
    Continues,
    ContinuesWhy,
    DataObject,
    Manifest,
    ManifestReason,
    RecordCounts,
    SpoolState,
    Totals,
    Where,
)
from .trail.merkle import EMPTY_ROOT, Frontier
from .trail.note import SigningKey
from .trail.ulid import new_ulid
from .vitals.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .spool import Confirmed, Spool, StateLoss
    from .spool.rows import BlockMeta, Head, NewBatch
    from .vitals.clock import Clock

READ_BYTES: Final = 1 << 20
"""How much is taken from the spool at a time."""
READ_EARLY_BYTES: Final = 512 << 10
"""With this much unread the sealer starts at once; with less it waits for READ_DELAY_SECONDS, to stay cheap when idle."""
READ_DELAY_SECONDS: Final = 0.2
CROWDED_SECONDS: Final = 1.0
"""How often a heartbeat that was put off is thought of again."""
log = structlog.get_logger("sealer")


class SealPolicy(msgspec.Struct, frozen=True):
    """Say when a batch is cut: at an age (seconds), at a size (raw bytes), or after a silence (seconds)."""

    max_age_seconds: float
    max_bytes: int
    heartbeat_seconds: float


class Identity(msgspec.Struct, frozen=True):
    """Name an agent: what its origins have in common, and what it says of itself in every manifest."""

    namespace: str
    service: str
    instance: str
    version: str
    host: str
    boot_id: str
    config_sha256: str
    where: Where | UnsetType = UNSET
    pseudonym_key: str | UnsetType = UNSET

    def state(self, heartbeat_seconds: float) -> AgentState:
        """Return what a manifest says of the agent."""
        return AgentState(self.version, self.host, self.boot_id, self.config_sha256, heartbeat_seconds, self.pseudonym_key, self.where)


class Sealer:
    """Cut batches from the spool; `begin` once, then `run`, then `finish`."""

    def __init__(
        self,
        spool: Spool,
        identity: Identity,
        policy: SealPolicy,
        clock: Clock,
        *,
        enrolment: SigningKey | None = None,
        on_sealed: Callable[[NewBatch], None] = lambda _batch: None,
    ) -> None:
        """Describe a sealer.

        Args:
            spool: The opened spool.
            identity: Who seals.
            policy: When.
            clock: The source of time, and of what is known about it.
            enrolment: The service's enrolment key, which certifies each epoch's key on batch 0.
            on_sealed: Called after each durable cut.
        """
        self._spool = spool
        self._identity = identity
        self._policy = policy
        self._clock = clock
        self._enrolment = enrolment
        self._on_sealed = on_sealed
        self._lock = asyncio.Lock()
        self._read_bytes = 0
        self._last_cut = 0.0
        self._pending = Pending(Frontier.empty())
        self._key: SigningKey | None = None
        self._ended: ManifestReason | None = None
        self.abandoned: set[str] = set()
        """Origins given up after a fork; nothing may be written under them any more."""

    @property
    def head(self) -> Head:
        """Return the trail's head; valid after `begin`."""
        head = self._spool.head
        if head is None:
            message = "the sealer has not begun"
            raise RuntimeError(message)
        return head

    async def begin(self) -> None:
        """Open a trail, or resume the one in the spool, with a seal that says so."""
        self._read_at_once()
        if self._spool.given_up:  # Killed while it went on after a fork; nothing may be cut before that is done.
            self.abandoned.update(self._spool.given_up)
            await self._spool.requeue()
        if self._spool.lost is not None:
            await self._open_after(self._spool.lost)
            return
        head = self._spool.head
        mine = (self._identity.namespace, self._identity.service, self._identity.instance)
        if head is None:
            await self._open_epoch(None)
            return
        origin = Origin.parse(head.origin)
        renamed = (origin.namespace, origin.service, origin.instance) != mine
        if head.reason != ManifestReason.CLOSE:
            self._key = SigningKey.parse(head.signing_key)
            self._reset(head)
            await self._cut(ManifestReason.RESUME, unclean=head.reason != ManifestReason.STOP)
            if not renamed:
                return
            # The old name's trail gets an end of its own: nothing under another name can vouch for how it ended.
            await self._end(ManifestReason.CLOSE)
            head = self.head
        await self._open_epoch(Continues(head.origin, head.size, head.root.hex(), ContinuesWhy.REOPENED))

    async def _open_after(self, loss: StateLoss) -> None:
        """Begin an epoch that says what was lost with the state: by its link, and by a gap record before everything else."""
        link = None if loss.origin is None else Continues(loss.origin, loss.size, loss.root.hex(), ContinuesWhy.STATE_LOST)
        await self._open_epoch(link, first=loss_block(loss, rfc3339(self._clock.now())))

    def _reset(self, head: Head) -> None:
        self._pending = Pending(Frontier.decode(head.frontier))

    def _read_at_once(self) -> None:
        """Count what lies in the spool as unread: it is sealed by its age, not when the next record arrives."""
        self._read_bytes = self._spool.appended_bytes - READ_EARLY_BYTES
        self._spool.appended.set()

    async def run(self) -> None:
        """Seal until `finish`; then wait for ever, because nothing may follow the last seal of a run."""
        while self._ended is None:
            self._spool.appended.clear()
            unread = self._spool.appended_bytes - self._read_bytes
            wait = self._seconds_to_next_cut()
            if unread < READ_EARLY_BYTES:
                await self._wait(wait)
                if self._spool.appended.is_set() and self._spool.appended_bytes - self._read_bytes < READ_EARLY_BYTES:
                    await asyncio.sleep(min(READ_DELAY_SECONDS, max(0.0, self._seconds_to_next_cut())))
            async with self._lock:
                if self._ended is not None:
                    break
                await self._take()
                if self._seconds_to_next_cut() <= 0:
                    await self._cut(ManifestReason.AGE if self._pending.builder.count else ManifestReason.HEARTBEAT)
        await asyncio.Event().wait()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._spool.appended.wait()

    def _seconds_to_next_cut(self) -> float:
        now = time.monotonic()
        due = self._last_cut + self._policy.heartbeat_seconds
        if self._spool.is_crowded:  # A heartbeat is put off until there is room for it; verify then speaks of a silence, as it should.
            due = max(due, now + CROWDED_SECONDS)
        if self._pending.first_record_at is not None:
            due = min(due, self._pending.first_record_at + self._policy.max_age_seconds)
        return due - now

    async def _take(self) -> None:
        """Add every durable block to the batch being built, cutting whenever it is full."""
        while True:
            committed = self._spool.appended_bytes
            blocks = await self._spool.blocks_after(self._pending.through, READ_BYTES)
            if not blocks:
                self._read_bytes = committed
                return
            for block in blocks:
                if self._pending.builder.count and self._pending.builder.raw_bytes + len(block.bodies) > self._policy.max_bytes:
                    await self._cut(ManifestReason.SIZE)
                if not self._pending.joins(block):
                    await self._cut(ManifestReason.AGE)
                if block.bodies:
                    await asyncio.to_thread(self._pending.builder.add, block.bodies)
                self._pending.note(block, time.monotonic())
            if self._pending.builder.raw_bytes >= self._policy.max_bytes:
                await self._cut(ManifestReason.SIZE)

    async def adopt(self, identity: Identity, policy: SealPolicy, enrolment: SigningKey | None) -> None:
        """Seal what was read so far under the old configuration, then state the new one in a seal of its own."""
        async with self._lock:
            if self._ended is None:
                await self._take()
                if self._pending.builder.count:
                    await self._cut(ManifestReason.AGE)
                self._identity, self._policy, self._enrolment = identity, policy, enrolment
                await self._cut(ManifestReason.HEARTBEAT)
        self._spool.appended.set()

    @property
    def work(self) -> tuple[bool, object]:
        """Say whether something waits to be sealed or a seal is overdue, and return what moves with every step."""
        waiting = self._read_bytes != self._spool.appended_bytes or self._seconds_to_next_cut() < 0
        return waiting and self._ended is None, (self._last_cut, self._read_bytes, self._spool.freeing_attempts)

    async def finish(self, *, close: bool) -> None:
        """Seal what is left and end the trail for now (`stop`), or for good (`close`).

        Args:
            close: The sources' ends were reached and the state will not be used again.
        """
        async with self._lock:
            self._ended = ManifestReason.CLOSE if close else ManifestReason.STOP
            await self._end(self._ended)

    async def _end(self, reason: ManifestReason) -> None:
        await self._take()
        if reason == ManifestReason.CLOSE and self._pending.builder.count:
            await self._cut(ManifestReason.AGE)
        await self._cut(reason)

    # ---- the cut ---------------------------------------------------------------------------------------------------

    async def _cut(self, reason: ManifestReason, *, unclean: bool | UnsetType = UNSET) -> None:
        head = self.head
        pending = self._pending
        oldest = await self._spool.oldest_observed(pending.through)
        waiting = SpoolState(
            records=max(0, self._spool.held_records - pending.builder.count),
            bytes=max(0, self._spool.held_bytes - pending.held_bytes),
            oldest_age_seconds=0.0 if oldest is None else self._age_seconds(oldest),
        )
        batch, after = await asyncio.to_thread(self._seal, head, pending, reason, waiting, unclean=unclean)
        await self._spool.cut(batch, after, pending.through)
        self._reset(after)
        self._last_cut = time.monotonic()
        self._on_sealed(batch)
        for listener in tuple(self._spool.listeners):
            listener(Sealed(batch.seal, batch.data, head.frontier))

    def _seal(
        self, head: Head, pending: Pending, reason: ManifestReason, waiting: SpoolState, *, unclean: bool | UnsetType
    ) -> tuple[NewBatch, Head]:
        """Build the sealed batch and the head after it (on a worker thread; it only computes)."""
        if self._key is None:
            message = "a cut needs the epoch's key"
            raise RuntimeError(message)
        cut = pending.builder.finish()
        now = self._clock.now()
        origin = Origin.parse(head.origin)
        first_seq = head.size
        data = None
        if cut.data is not None and cut.sha256 is not None:
            key = data_key(origin, first_seq, f"{now:%Y-%m-%d}", cut.sha256)
            data = DataObject(key=key, bytes=len(cut.data), sha256=cut.sha256, encoding="zstd", raw_bytes=cut.raw_bytes)
        counts = pending.counts(first_seq)
        manifest = Manifest(
            seq=first_seq + cut.count,
            batch=head.batch + 1,
            reason=reason,
            previous=head.seal_sha256,
            sealed_at=rfc3339(now),
            monotonic_ns=self._clock.monotonic_ns(),
            records=counts,
            data=data,
            window=pending.window(),
            sources=tuple(pending.progress.values()),
            totals=pending.totals(head.totals),
            spool=waiting,
            clock=self._clock.state(),
            agent=self._identity.state(self._policy.heartbeat_seconds),
            unclean=unclean,
        )
        return sealed(manifest, cut.frontier, origin, (self._key,), head.signing_key, cut.data, pending.total("bytes_lost"))

    # ---- epochs ------------------------------------------------------------------------------------------------------

    async def _open_epoch(
        self,
        continues: Continues | None,
        *,
        give_up: Sequence[str] = (),
        required: Sequence[str] = (),
        first: tuple[BlockMeta, bytes] | None = None,
    ) -> None:
        now = self._clock.now()
        identity = self._identity
        epoch = new_ulid(int(now.timestamp() * 1000), os.urandom(10))
        origin = Origin(identity.namespace, identity.service, epoch, identity.instance)
        key = SigningKey.from_seed(str(origin), os.urandom(32))
        held = SpoolState(records=self._spool.held_records, bytes=self._spool.held_bytes, oldest_age_seconds=0.0)
        manifest = Manifest(
            seq=0,
            batch=0,
            reason=ManifestReason.OPEN,
            previous=None,
            sealed_at=rfc3339(now),
            monotonic_ns=self._clock.monotonic_ns(),
            records=RecordCounts(first_seq=0, count=0, events=0, quarantined=0, gaps=0),
            data=None,
            window=None,
            sources=(),
            totals=Totals(records=0, events=0, quarantined=0, gaps=0, lines=0, observability=0, bytes_lost=0),
            spool=held,
            clock=self._clock.state(),
            agent=self._identity.state(self._policy.heartbeat_seconds),
            key=str(key.verifier),
            continues=continues,
        )
        signers = (key,) if self._enrolment is None else (key, self._enrolment)
        batch, head = sealed(manifest, Frontier.empty(), origin, signers, key.encode(), None, 0)
        await self._spool.open_epoch(batch, head, give_up=give_up, required=required, first=first)
        self._key = key
        self._reset(head)
        self._last_cut = time.monotonic()
        self._on_sealed(batch)
        log.info("trail opened", origin=str(origin), continues=None if continues is None else continues.origin)

    async def fork(self, origin: str, confirmed: Confirmed | None, required: Sequence[str]) -> None:
        """Give up a trail that somebody else has written to, and go on in a new epoch with what is unconfirmed.

        Doing it again for an origin that was given up already changes nothing.

        Args:
            origin: The trail's name.
            confirmed: The newest batch of it that the discovering store had confirmed; None if there is none.
            required: The stores whose receipt counts as confirmation.
        """
        async with self._lock:
            if origin in self.abandoned:
                return
            unshipped = await self._spool.unshipped_origins()
            later = unshipped[unshipped.index(origin) + 1 :] if origin in unshipped else []
            # Epochs that began behind this one continue a head that will never be in the store. If no store has any of them
            # they are given up as well, and the next one continues what the store does have.
            together = origin != self.head.origin and not await self._spool.known_elsewhere(later)
            given_up = [origin, *(later if together else ())]
            self.abandoned.update(given_up)
            known = confirmed is not None and confirmed.origin == origin
            continues = Continues(
                origin=origin,
                size=confirmed.size if known and confirmed is not None else 0,
                root=(confirmed.root if known and confirmed is not None else EMPTY_ROOT).hex(),
                why=ContinuesWhy.FORK,
            )
            if self.head.origin in given_up:
                await self._open_epoch(continues, give_up=given_up, required=required)
                await self._spool.requeue()
            else:  # A later epoch is in a store already, and two cannot continue one: the records go on in it.
                await self._spool.give_up(given_up, required)
                await self._spool.requeue()
                self._reset(self.head)
                if self._ended is not None:
                    await self.begin()
            self._read_at_once()
            if self._ended is not None:
                await self._end(self._ended)

    def _age_seconds(self, observed: str) -> float:
        return max(0.0, round((self._clock.now() - datetime.fromisoformat(observed)).total_seconds(), 3))
