"""List every metric: name, type, labels, unit and meaning, in one table.

docs/metrics.md and the instruments in metrics.py are both tested against `CATALOGUE`. Invariants: names carry their unit;
every label's values come from a closed list or from the configuration, never from an event, a path or an error text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from ..events.catalog import UNCATALOGUED, Category
from ..trail.manifest import ManifestReason
from ..trail.records import GapCause, QuarantineReason, RecordKind

PREFIX: Final = "trailseal_"

COMMIT_BUCKETS_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip


class Outcome(StrEnum):
    """How one attempt to write a batch's data or seal object to a store ended."""

    CREATED = "created"
    PRESENT = "present"
    TRANSIENT = "transient"
    REFUSED = "refused"
    CONFLICT = "conflict"


class Reload(StrEnum):
    """What came of reading the configuration again."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    INVALID = "invalid"
    RESTART_NEEDED = "restart_needed"


class Part(StrEnum):
    """Which part of the agent the watchdog watches."""

    LOOP = "loop"
    SPOOL = "spool"
    SEALER = "sealer"
    SHIPPER = "shipper"
    END = "end"


class Label(msgspec.Struct, frozen=True):
    """Describe a label.

    Attributes:
        name: Its name.
        values: The closed list of its values; None where the configuration names them.
    """

    name: str
    values: tuple[str, ...] | None = None


class Instrument(msgspec.Struct, frozen=True):
    """Describe one metric.

    Attributes:
        name: Without the prefix; it is also the attribute of `Metrics`.
        type: As Prometheus knows it.
        help: What it says, one sentence.
        unit: What is counted or measured.
        labels: What it is broken down by.
    """

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    help: str
    unit: str = ""
    labels: tuple[Label, ...] = ()


SOURCE: Final = Label("source")
STORE: Final = Label("store")
_KIND: Final = Label("kind", tuple(RecordKind))
_REASON: Final = Label("reason", tuple(QuarantineReason))
_CAUSE: Final = Label("cause", tuple(GapCause))
_SEALED: Final = Label("reason", tuple(ManifestReason))
_OUTCOME: Final = Label("outcome", tuple(Outcome))
_RELOAD: Final = Label("outcome", tuple(Reload))
_PART: Final = Label("part", tuple(Part))
_CATEGORY: Final = Label("category", (*Category, UNCATALOGUED))
_EVENT_OUTCOME: Final = Label("outcome", ("success", "failure", "denied", "unknown"))

CATALOGUE: Final = (
    Instrument("build_info", "info", "The version that runs.", "", (Label("version"),)),
    Instrument("config_info", "info", "Hash of the settings in effect, as in every seal.", "", (Label("sha256"),)),
    Instrument("start_timestamp_seconds", "gauge", "When the agent started.", "Unix time"),
    Instrument("config_reloads_total", "counter", "Times the configuration was read again, by what came of it.", "reloads", (_RELOAD,)),
    Instrument("config_differs", "gauge", "1 while the configuration on disk is not the one that runs.", "0 or 1"),
    Instrument("log_lines_dropped_total", "counter", "Lines of the agent's own log that nobody read, or that were refused.", "lines"),
    Instrument("worker_respawns", "gauge", "Times the worker of exec or pipe died and was started again.", "starts"),
    Instrument("stalled", "gauge", "1 while a part has work waiting and makes no progress.", "0 or 1", (_PART,)),
    Instrument("lines_total", "counter", "Lines read, audit and observability.", "lines", (SOURCE,)),
    Instrument("observability_lines_total", "counter", "Lines that are not audit lines.", "lines", (SOURCE,)),
    Instrument("source_bytes_total", "counter", "Bytes read and accounted for.", "bytes", (SOURCE,)),
    Instrument("source_last_line_timestamp_seconds", "gauge", "When a line was last made durable, 0 before.", "Unix time", (SOURCE,)),
    Instrument("source_problem", "gauge", "1 while some part of the source cannot be read.", "0 or 1", (SOURCE,)),
    Instrument("records_total", "counter", "Records made durable in the spool.", "records", (SOURCE, _KIND)),
    Instrument("events_total", "counter", "Valid audit events.", "events", (SOURCE, _CATEGORY, _EVENT_OUTCOME)),
    Instrument("quarantined_total", "counter", "Audit lines kept but not valid, by reason.", "records", (SOURCE, _REASON)),
    Instrument("gaps_total", "counter", "Gap records: stated losses, by cause.", "records", (SOURCE, _CAUSE)),
    Instrument("bytes_lost_total", "counter", "Bytes that gap records state as lost for certain.", "bytes", (SOURCE,)),
    Instrument("passthrough_shed_lines_total", "counter", "Observability lines not passed on, the reader being too slow.", "lines"),
    Instrument("passthrough_shed_bytes_total", "counter", "Observability bytes not passed on, the reader being too slow.", "bytes"),
    Instrument("spool_bytes", "gauge", "Size of the spool.", "bytes"),
    Instrument("spool_max_bytes", "gauge", "Bound of the spool (spool.max_bytes).", "bytes"),
    Instrument("spool_records", "gauge", "Records in the spool: some store has not confirmed them yet.", "records"),
    Instrument("spool_oldest_age_seconds", "gauge", "Age of the oldest record in the spool, 0 without one.", "seconds"),
    Instrument("spool_seconds_to_full", "gauge", "When the spool is full at the rate of the last minutes, +Inf if never.", "seconds"),
    Instrument("spool_full", "gauge", "1 while the spool is at its bound.", "0 or 1"),
    Instrument("spool_commits_total", "counter", "Durable transactions.", "transactions"),
    Instrument("spool_commit_seconds", "histogram", "How long a durable transaction took.", "seconds"),
    Instrument("batches_sealed_total", "counter", "Batches sealed, by reason.", "batches", (_SEALED,)),
    Instrument("batches_waiting", "gauge", "Sealed batches that wait for a store's receipt.", "batches"),
    Instrument("seal_raw_bytes_total", "counter", "Record bytes sealed, before compression.", "bytes"),
    Instrument("seal_stored_bytes_total", "counter", "Bytes of data objects and seals, as stored.", "bytes"),
    Instrument("store_attempts_total", "counter", "Attempts to write an object, by outcome.", "attempts", (STORE, _OUTCOME)),
    Instrument("store_receipts_total", "counter", "Batches the store acknowledged.", "batches", (STORE,)),
    Instrument(
        "store_last_receipt_timestamp_seconds", "gauge", "When the store last acknowledged a batch, 0 before.", "Unix time", (STORE,)
    ),
    Instrument("store_lag_seconds", "gauge", "Age of the oldest record it has not acknowledged, 0 without one.", "seconds", (STORE,)),
    Instrument("store_batches_waiting", "gauge", "Sealed batches that it has not acknowledged.", "batches", (STORE,)),
    Instrument("store_exclusive", "gauge", "1 if the store itself keeps create-if-absent, 0 for weak create.", "0 or 1", (STORE,)),
    Instrument("store_locked", "gauge", "1 if a new object lies under a lock that nobody can lift.", "0 or 1", (STORE,)),
    Instrument("store_lock_seconds", "gauge", "How long a new object is locked, 0 without a lock.", "seconds", (STORE,)),
    Instrument("store_lock_wanted_seconds", "gauge", "How long it should be, 0 where nothing is asked for.", "seconds", (STORE,)),
    Instrument("store_weaknesses", "gauge", "In how many ways the store is weaker than asked for.", "weaknesses", (STORE,)),
    Instrument("store_clock_offset_seconds", "gauge", "The store's clock minus ours, NaN if it does not tell.", "seconds", (STORE,)),
    Instrument(
        "store_certificate_expiry_timestamp_seconds", "gauge", "When its certificate expires, NaN without TLS.", "Unix time", (STORE,)
    ),
    Instrument("heartbeat_interval_seconds", "gauge", "How often a silent trail gives a sign of life (seal.heartbeat).", "seconds"),
    Instrument("heartbeat_timestamp_seconds", "gauge", "When every required store had last confirmed a batch, 0 before.", "Unix time"),
    Instrument("head_size", "gauge", "Leaves in the trail: records and manifests.", "leaves"),
    Instrument("forks_total", "counter", "Forks found: another history under this trail's name.", "forks"),
    Instrument("state_losses_total", "counter", "Damaged states found at the start, set aside and salvaged.", "states"),
    Instrument("clock_synchronized", "gauge", "1 if the kernel calls the clock synchronised, NaN if it does not say.", "0 or 1"),
    Instrument("clock_offset_seconds", "gauge", "What the kernel has still to correct, NaN if it does not say.", "seconds"),
    Instrument("clock_max_error_seconds", "gauge", "Bound of the clock's error, NaN if the kernel does not say.", "seconds"),
)
