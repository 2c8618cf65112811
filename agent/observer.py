"""What happened, told to whoever watches: metrics, health conditions and the agent's log.

The pipeline's parts report through small callbacks and know none of the three; this is the only place that turns a
happening into a number, a condition or a line. Invariants: every method returns at once and never raises into the
pipeline; nothing of an event's content goes through here, only counts and closed reasons.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .trail.records import RecordKind
from .vitals.clock import rfc3339
from .vitals.forecast import Filling
from .vitals.health import Severity, to_next_beat
from .vitals.log import dropped_lines, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .config import Settings
    from .intake import Append
    from .shipper import ForkFoundError
    from .spool import NewBatch, QueuedBatch, Spool, StateLoss
    from .vitals.catalogue import Outcome, Part, Reload
    from .vitals.clock import Clock
    from .vitals.health import Health
    from .vitals.metrics import Metrics
    from .vitals.standing import Standing

CLOCK_EVERY_TICKS: Final = 10
_GAP_MARK: Final = b',"kind":"gap"'


class _GapBody(msgspec.Struct):
    cause: str


_decode_gap = msgspec.json.Decoder(_GapBody).decode


class Observer:
    """Keep metrics, health and log in step with what happens; used from the event loop only."""

    def __init__(self, metrics: Metrics, health: Health, clock: Clock) -> None:
        """Bind the three places that are told."""
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._log = get_logger()
        self._problems: dict[str, dict[str, str]] = {}
        self._troubles: dict[str, str] = {}
        self._required: set[str] = set()
        self._optional: set[str] = set()
        self._standings: dict[str, Standing] = {}
        self._lagging: set[str] = set()
        self._sealed: tuple[str, int] | None = None
        self._last_confirmed: dict[str, Any] | None = None

    # ---- reading -------------------------------------------------------------------------------------------------

    def committed(self, seconds: float, appends: Sequence[Append]) -> None:
        """Count what one transaction of the spool made durable."""
        metrics = self._metrics
        metrics.spool_commits_total.inc()
        metrics.spool_commit_seconds.observe(seconds)
        for append in appends:
            for step in append.progress:
                metrics.lines_total.labels(step.id).inc(step.lines)
                metrics.observability_lines_total.labels(step.id).inc(step.observability)
                if step.lines:
                    metrics.source_last_line_timestamp_seconds.labels(step.id).set(self._clock.now().timestamp())
                if step.from_offset is not None and step.to_offset is not None:
                    metrics.source_bytes_total.labels(step.id).inc(max(0, step.to_offset - step.from_offset))
            if append.records:
                self._count_records(append)

    def _count_records(self, append: Append) -> None:
        metrics = self._metrics
        source = append.progress[0].id if append.progress else append.cursors[0].source
        for kind, count in (
            (RecordKind.EVENT, append.events),
            (RecordKind.QUARANTINE, append.quarantined),
            (RecordKind.GAP, append.gaps),
        ):
            if count:
                metrics.records_total.labels(source, kind).inc(count)
        for (category, outcome), count in append.outcomes.items():
            metrics.events_total.labels(source, category, outcome).inc(count)
        for reason, count in append.reasons.items():
            metrics.quarantined_total.labels(source, reason).inc(count)
        if append.gaps:
            metrics.bytes_lost_total.labels(source).inc(append.bytes_lost)
            for body in append.bodies.split(b"\n"):
                if body.startswith(_GAP_MARK):
                    cause = _decode_gap(b'{"seq":0' + body).cause
                    metrics.gaps_total.labels(source, cause).inc()
                    self._log.error("bytes were lost; a gap record states it", source=source, cause=cause)

    def problem(self, source: str, path: str, what: str | None) -> None:
        """Note that a part of a source cannot be read, or (None) that it can again."""
        known = self._problems.setdefault(source, {})
        if what is None:
            known.pop(path, None)
        else:
            known[path] = what
            self._log.warning("source cannot be read", source=source, path=path, why=what)
        self._metrics.source_problem.labels(source).set(bool(known))
        detail = "; ".join(f"{where}: {why}" for where, why in sorted(known.items())[:3])
        self._health.set(f"source {source}", not known, detail, severity=Severity.WARNING)

    def shed(self, lines: int, size: int) -> None:
        """Count observability lines that were not passed on, lines and bytes; may be called from any thread."""
        self._metrics.passthrough_shed_lines_total.inc(lines)
        self._metrics.passthrough_shed_bytes_total.inc(size)

    # ---- spool and seals ---------------------------------------------------------------------------------------------

    def full(self, why: str | None) -> None:
        """Note that appends wait for room, or (None) no longer."""
        self._metrics.spool_full.set(why is not None)
        self._health.set("spool", why is None, why or "")
        if why is None:
            self._log.info("the spool has room again")
        else:
            self._log.error("the spool is full", why=why)

    def sealed(self, batch: NewBatch) -> None:
        """Count a durable cut."""
        metrics = self._metrics
        metrics.batches_sealed_total.labels(batch.reason).inc()
        metrics.seal_raw_bytes_total.inc(batch.raw_bytes)
        metrics.seal_stored_bytes_total.inc(len(batch.seal) + len(batch.data or b""))
        metrics.head_size.set(batch.size)
        self._log.debug("sealed", batch=batch.number, reason=batch.reason, records=batch.records, size=batch.size)

    # ---- stores (agent.shipper.ShipperEvents) ------------------------------------------------------------------------

    def attempted(self, store: str, outcome: Outcome) -> None:
        """Count an attempt to write an object."""
        self._metrics.store_attempts_total.labels(store, outcome).inc()

    def troubled(self, store: str, why: str | None, hint: str = "") -> None:
        """Note that a store does not take objects, in its own words, or (None) that it does again."""
        before = self._troubles.pop(store, None)
        if why is not None:
            self._troubles[store] = why
            self._log.warning("store does not take objects; retrying", store=store, why=why, hint=hint)
        elif before is not None:
            self._log.info("store takes objects again", store=store)
        self._set_store(store, why)

    def rested(self, store: str) -> None:
        """Note that nothing is tried any more, so that an earlier trouble says nothing."""
        self._troubles.pop(store, None)

    def _set_store(self, store: str, why: str | None) -> None:
        """State a store's condition: without a required one the agent is not ready, without an optional one it is."""
        severity = Severity.CRITICAL if store in self._required else Severity.WARNING
        self._health.set(f"store {store}", why is None, why or "", severity=severity)

    def examined(self, store: str, standing: Standing) -> None:
        """Note what a store was found to guarantee."""
        before, self._standings[store] = self._standings.get(store), standing
        self._metrics.note_standing(store, standing)
        name = f"guarantees of store {store}"
        self._health.set(name, not standing.warnings, "; ".join(standing.warnings), severity=Severity.WARNING)
        for warning in standing.warnings if before is None or before.warnings != standing.warnings else ():
            self._log.warning("a store guarantees less than it should", store=store, what=warning)

    def receipted(self, store: str, queued: QueuedBatch) -> None:
        """Count a durable receipt."""
        if store not in self._troubles:
            self._set_store(store, None)
        self._metrics.store_receipts_total.labels(store).inc()
        self._metrics.store_last_receipt_timestamp_seconds.labels(store).set(self._clock.now().timestamp())
        self._log.debug("receipt", store=store, batch=queued.batch.number)

    def confirmed(self, queued: QueuedBatch) -> None:
        """Note a batch that every required store has: this is the heartbeat."""
        now = self._clock.now()
        self._metrics.confirm_heartbeat(now)
        batch = queued.batch
        self._last_confirmed = {"origin": batch.origin, "batch": batch.number, "size": batch.size, "at": rfc3339(now)}

    def forked(self, fork: ForkFoundError, evidence: Path) -> None:
        """Note that a store holds another history under this trail's name."""
        self._metrics.forks_total.inc()
        self._health.set("fork", ok=False, detail=fork.message, severity=Severity.WARNING)
        self._log.error("fork", store=fork.store, key=fork.key, message=fork.message, hint=fork.hint, evidence=str(evidence))

    # ---- configuration and progress ------------------------------------------------------------------------------------

    def configured(self, settings: Settings) -> None:
        """Note the configuration that runs from now on; only its sources are spoken of."""
        sources = {source.id for source in settings.sources}
        self._metrics.expect(sources, {store.id for store in settings.stores})
        self._metrics.config_info.info({"sha256": settings.config_sha256})
        self._metrics.heartbeat_interval_seconds.set(settings.seal.heartbeat_seconds)
        for gone in set(self._problems) - sources:
            self.source_ended(gone)

    def ships_to(self, settings: Settings) -> None:
        """Note the stores that count from now on."""
        required = {store.id for store in settings.stores if store.required}
        stores = {store.id for store in settings.stores}
        for gone in (self._required | self._optional | self._standings.keys() | self._troubles.keys()) - stores:
            self._metrics.forget_store(gone)
            self._lagging.discard(gone)
            self._troubles.pop(gone, None)
            self._standings.pop(gone, None)
            self._health.forget(f"store {gone}")
            self._health.forget(f"guarantees of store {gone}")
        for changed in (self._required ^ required) & stores:
            self._health.forget(f"store {changed}")
        self._required = required
        self._optional = stores - required
        for store in settings.stores:
            if store.required and not self._health.knows(f"store {store.id}"):
                self._health.set(f"store {store.id}", ok=False, detail="starting")

    def source_ended(self, source: str) -> None:
        """Forget what could not be read of a source that does not run any more."""
        self._problems.pop(source, None)
        self._metrics.source_problem.labels(source).set(0)
        self._health.forget(f"source {source}")

    def reloaded(self, outcome: Reload, why: str = "") -> None:
        """Note what came of reading the configuration again; `why` says what keeps the one on disk from running."""
        self._metrics.config_reloads_total.labels(outcome).inc()
        self.differs(why)

    def differs(self, why: str) -> None:
        """Note why the configuration on disk is not the one that runs; empty if it is."""
        self._metrics.config_differs.set(bool(why))
        self._health.set("configuration", not why, f"not the one on disk: {why}", severity=Severity.WARNING)

    def stalled(self, part: Part, why: str | None) -> None:
        """Note that a part has work and makes no progress, or (None) that it does again."""
        self._metrics.stalled.labels(part).set(why is not None)
        self._health.set(f"progress of the {part}", why is None, why or "")

    def state_lost(self, loss: StateLoss | None) -> None:
        """Note that the state was found damaged at this start, and what was saved of it; None if it was sound."""
        if loss is not None:
            self._metrics.state_losses_total.inc()
            detail = f"{loss.why}; {loss.saved}"
            self._health.set("state", ok=False, detail=detail, severity=Severity.WARNING)
            self._log.error("the state was damaged", why=loss.why, saved=loss.saved, kept_in=loss.kept_in, origin=loss.origin)

    # ---- from time to time -------------------------------------------------------------------------------------------

    async def watch(self, spool: Spool, respawns: Callable[[], int] = lambda: 0) -> None:
        """Keep the gauges current, for ever.

        Args:
            spool: What is looked at.
            respawns: Says how often the relay's worker was started again.
        """
        ticks = known_unwritten = 0
        filling = Filling()
        while True:
            self._metrics.spool_bytes.set(spool.held_bytes)
            filling.note(self._clock.monotonic_ns() / 1e9, spool.held_bytes)
            self._metrics.spool_seconds_to_full.set(0.0 if spool.full else filling.seconds_to(spool.max_bytes))
            self._metrics.spool_max_bytes.set(spool.max_bytes)
            self._metrics.spool_records.set(spool.held_records)
            self._metrics.batches_waiting.set(spool.waiting_batches)
            self._metrics.worker_respawns.set(respawns())
            unwritten = dropped_lines()
            self._metrics.log_lines_dropped_total.inc(max(0, unwritten - known_unwritten))
            known_unwritten = unwritten
            oldest = await spool.oldest_observed() if spool.held_records else None
            age = 0.0 if oldest is None else (self._clock.now() - datetime.fromisoformat(oldest)).total_seconds()
            self._metrics.spool_oldest_age_seconds.set(max(0.0, age))
            await self._look_at_lags(spool)
            if ticks % CLOCK_EVERY_TICKS == 0:
                self._look_at_clock()
            ticks += 1
            await asyncio.sleep(to_next_beat())

    async def _look_at_lags(self, spool: Spool) -> None:
        """Show how far behind each store is; nothing is asked while nothing waits."""
        now = self._clock.now()
        sealed = None if spool.head is None else (spool.head.origin, spool.head.batch)
        idle = not spool.held_records and not spool.waiting_batches
        unchanged, self._sealed = sealed == self._sealed, sealed
        for store in self._required | self._optional:
            if idle and (store in self._required or (unchanged and store not in self._lagging)):
                if store in self._lagging:
                    self._show_lag(store, 0, 0.0)
                continue
            waiting, oldest = await spool.lag(store)
            age = 0.0 if oldest is None else (now - datetime.fromisoformat(oldest)).total_seconds()
            if store in self._optional and (confirmed := await spool.confirmed(store)) is not None and spool.head is not None:
                # What every required store has has left the spool, whether an optional one has it or not.
                behind = spool.head.batch - confirmed.number if spool.head.origin == confirmed.origin else 0
                if behind > waiting:
                    waiting, age = behind, max(age, (now - datetime.fromisoformat(confirmed.at)).total_seconds())
            # A reload may have taken the store away meanwhile; what is shown of it then would be alerted on for ever.
            if store in self._required | self._optional:
                self._show_lag(store, waiting, max(0.0, age))

    def _show_lag(self, store: str, batches: int, seconds: float) -> None:
        self._metrics.store_batches_waiting.labels(store).set(batches)
        self._metrics.store_lag_seconds.labels(store).set(seconds)
        (self._lagging.add if batches or seconds else self._lagging.discard)(store)

    def _look_at_clock(self) -> None:
        state = self._clock.state()
        self._metrics.note_clock(state)
        detail = "the kernel says that the clock is not synchronised; run chrony or systemd-timesyncd"
        if self._health.set("clock", state.synchronized is not False, detail, severity=Severity.WARNING) and state.synchronized is False:
            self._log.warning("clock is not synchronised", offset_seconds=state.offset_seconds, max_error_seconds=state.max_error_seconds)

    def status(self) -> dict[str, Any]:
        """Return what the status answer says about readiness, stores and sources."""
        return {
            **self._health.readiness(),
            "last_confirmed": self._last_confirmed,
            "store_problems": dict(self._troubles),
            "store_guarantees": {store: msgspec.to_builtins(standing) for store, standing in self._standings.items()},
            "source_problems": {source: dict(found) for source, found in self._problems.items() if found},
        }
