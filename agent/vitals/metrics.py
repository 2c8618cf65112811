"""Hold the agent's metrics, each as a typed attribute, in a registry of their own.

Invariants: every attribute is made from the table in catalogue.py, so that the two cannot differ; series with known labels
exist from the start at zero, so that the first increase is seen; only a batch that every required store has confirmed moves
the heartbeat. This module must not read anything by itself but the process's own figures (`process_…`).
"""

from __future__ import annotations

import contextlib
import math
from itertools import product
from typing import TYPE_CHECKING

import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from .catalogue import CATALOGUE, COMMIT_BUCKETS_SECONDS, PREFIX, STORE, Instrument

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .clock import ClockState
    from .standing import Standing


class Metrics:
    """Hold every instrument; `CATALOGUE` says what each means. Instruments may be used from any thread."""

    build_info: Info
    config_info: Info
    start_timestamp_seconds: Gauge
    config_reloads_total: Counter
    config_differs: Gauge
    log_lines_dropped_total: Counter
    worker_respawns: Gauge
    stalled: Gauge
    lines_total: Counter
    observability_lines_total: Counter
    source_bytes_total: Counter
    source_last_line_timestamp_seconds: Gauge
    source_problem: Gauge
    records_total: Counter
    events_total: Counter
    quarantined_total: Counter
    gaps_total: Counter
    bytes_lost_total: Counter
    passthrough_shed_lines_total: Counter
    passthrough_shed_bytes_total: Counter
    spool_bytes: Gauge
    spool_max_bytes: Gauge
    spool_records: Gauge
    spool_oldest_age_seconds: Gauge
    spool_seconds_to_full: Gauge
    spool_full: Gauge
    spool_commits_total: Counter
    spool_commit_seconds: Histogram
    batches_sealed_total: Counter
    batches_waiting: Gauge
    seal_raw_bytes_total: Counter
    seal_stored_bytes_total: Counter
    store_attempts_total: Counter
    store_receipts_total: Counter
    store_last_receipt_timestamp_seconds: Gauge
    store_lag_seconds: Gauge
    store_batches_waiting: Gauge
    store_exclusive: Gauge
    store_locked: Gauge
    store_lock_seconds: Gauge
    store_lock_wanted_seconds: Gauge
    store_weaknesses: Gauge
    store_clock_offset_seconds: Gauge
    store_certificate_expiry_timestamp_seconds: Gauge
    heartbeat_interval_seconds: Gauge
    heartbeat_timestamp_seconds: Gauge
    head_size: Gauge
    forks_total: Counter
    state_losses_total: Counter
    clock_synchronized: Gauge
    clock_offset_seconds: Gauge
    clock_max_error_seconds: Gauge

    def __init__(
        self,
        *,
        version: str,
        config_sha256: str,
        started_at: datetime,
        sources: Iterable[str] = (),
        stores: Iterable[str] = (),
    ) -> None:
        """Register every instrument and begin its known series at zero.

        Args:
            version: The agent's version.
            config_sha256: Hex, as in the manifests.
            started_at: When the process started, UTC.
            sources: The sources' ids.
            stores: The stores' ids.
        """
        # PROMETHEUS_MULTIPROC_DIR, set for the service beside us, would make the library write our values into its files.
        prometheus_client.values.ValueClass = prometheus_client.values.MutexValue
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._stores: set[str] = set()
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        for entry in CATALOGUE:
            setattr(self, entry.name, _make(entry, self.registry))
        self.expect(sources, stores)
        self.build_info.info({"version": version})
        self.config_info.info({"sha256": config_sha256})
        self.start_timestamp_seconds.set(started_at.timestamp())
        for gauge in (self.clock_synchronized, self.clock_offset_seconds, self.clock_max_error_seconds):
            gauge.set(math.nan)
        self.spool_seconds_to_full.set(math.inf)

    def expect(self, sources: Iterable[str], stores: Iterable[str]) -> None:
        """Begin the series of these sources and stores at zero; those that have begun stay as they are."""
        known = {"source": tuple(sources), "store": tuple(stores)}
        for store in known["store"]:
            if store not in self._stores:
                self._stores.add(store)
                self.store_certificate_expiry_timestamp_seconds.labels(store).set(math.nan)
        for entry in CATALOGUE:
            instrument = getattr(self, entry.name)
            if entry.labels and not isinstance(instrument, Info):
                for values in product(*(label.values if label.values is not None else known[label.name] for label in entry.labels)):
                    instrument.labels(*values)

    def forget_store(self, store: str) -> None:
        """Show no more what a store was like that is not configured any more; what was counted stays."""
        for entry in CATALOGUE:
            if entry.labels == (STORE,) and entry.type == "gauge":
                with contextlib.suppress(KeyError):
                    getattr(self, entry.name).remove(store)
        self._stores.discard(store)

    def confirm_heartbeat(self, at: datetime) -> None:
        """Note that a batch has the receipts of every required store, at a UTC time."""
        self.heartbeat_timestamp_seconds.set(at.timestamp())

    def note_clock(self, state: ClockState) -> None:
        """Show what the kernel says about the clock; NaN for what it does not say."""
        self.clock_synchronized.set(_or_nan(state.synchronized))
        self.clock_offset_seconds.set(_or_nan(state.offset_seconds))
        self.clock_max_error_seconds.set(_or_nan(state.max_error_seconds))

    def note_standing(self, store: str, standing: Standing) -> None:
        """Show what a store was found to guarantee."""
        self.store_exclusive.labels(store).set(standing.exclusive)
        self.store_locked.labels(store).set(standing.lock_mode == "compliance")
        self.store_lock_seconds.labels(store).set(standing.lock_seconds or 0.0)
        self.store_weaknesses.labels(store).set(len(standing.warnings))
        self.store_clock_offset_seconds.labels(store).set(_or_nan(standing.clock_offset_seconds))
        self.store_lock_wanted_seconds.labels(store).set(standing.lock_wanted_seconds or 0.0)
        self.store_certificate_expiry_timestamp_seconds.labels(store).set(_or_nan(standing.certificate_until))

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, as OpenMetrics 1.0 where the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _make(entry: Instrument, registry: CollectorRegistry) -> Counter | Gauge | Histogram | Info:
    """Make the instrument that a catalogue entry describes."""
    name = PREFIX + entry.name
    labels = tuple(label.name for label in entry.labels)
    match entry.type:
        case "counter":
            return Counter(name, entry.help, labels, registry=registry)
        case "gauge":
            return Gauge(name, entry.help, labels, registry=registry)
        case "histogram":
            return Histogram(name, entry.help, labels, registry=registry, buckets=COMMIT_BUCKETS_SECONDS)
        case "info":
            return Info(name.removesuffix("_info"), entry.help, registry=registry)


def _or_nan(value: float | None) -> float:
    """Return the number, or NaN for None."""
    return math.nan if value is None else float(value)
