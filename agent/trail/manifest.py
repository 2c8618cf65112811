"""The manifest: the leaf that closes a batch and commits to everything about it.

Invariants: one JSON line with its keys in the order of the trail format; :func:`decode_manifest` accepts only bytes that
:func:`encode_manifest` would write, so a manifest has one spelling and no key that a reader may overlook; the fields of
one manifest agree with each other. What spans several manifests (joined offsets, growing totals) is the verifier's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import FormatError

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Sha256Hex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
UtcTime = Annotated[str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z\Z")]
Seconds = int | float
PlaceName = Annotated[str, Meta(min_length=1, max_length=253)]
PseudonymKeyIds = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}(,[0-9a-f]{8})*\Z", max_length=1024)]


class ManifestReason(StrEnum):
    """Why a batch was cut."""

    OPEN = "open"
    RESUME = "resume"
    SIZE = "size"
    AGE = "age"
    HEARTBEAT = "heartbeat"
    STOP = "stop"
    CLOSE = "close"


class ContinuesWhy(StrEnum):
    """Why an instance began a new epoch."""

    REOPENED = "reopened"
    STATE_LOST = "state_lost"
    FORK = "fork"
    KEY_ROTATED = "key_rotated"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen object whose keys are all known."""


class RecordCounts(_Part, frozen=True):
    """The batch's records by kind; ``first_seq`` is the manifest's own seq where there are none."""

    first_seq: Count
    count: Count
    events: Count
    quarantined: Count
    gaps: Count


class DataObject(_Part, frozen=True):
    """The object with the batch's record lines: key, stored size and SHA-256, and the size before compression (bytes)."""

    key: str
    bytes: Count
    sha256: Sha256Hex
    encoding: Literal["zstd"]
    raw_bytes: Count


class Window(_Part, frozen=True):
    """The earliest and latest times in the batch: the services' own (None where it has no events) and the agent's."""

    occurred_min: str | None
    occurred_max: str | None
    observed_min: UtcTime
    observed_max: UtcTime


class SourceProgress(_Part, frozen=True):
    """How far one source moved with this batch.

    Attributes:
        id: The source's id in the configuration.
        kind: ``file``, ``pipe``, ``command`` …
        path: The file's path; None for streams.
        file_id: The file's ULID; None for streams that have no identity.
        from_offset: The first byte this batch accounts for; None where the source has no offsets.
        to_offset: The byte after the last one it accounts for; None where the source has no offsets.
        lines: All lines in between.
        audit: Lines that became records (events and quarantined ones).
        observability: Lines that were passed through.
        quarantined: The part of ``audit`` that was quarantined.
    """

    id: str
    kind: str
    path: str | None
    file_id: str | None
    from_offset: Count | None
    to_offset: Count | None
    lines: Count
    audit: Count
    observability: Count
    quarantined: Count


class Totals(_Part, frozen=True):
    """The sums over the whole trail, this batch included."""

    records: Count
    events: Count
    quarantined: Count
    gaps: Count
    lines: Count
    observability: Count
    bytes_lost: Count


class SpoolState(_Part, frozen=True):
    """What waited in the spool at the cut, the batch itself not included."""

    records: Count
    bytes: Count
    oldest_age_seconds: Seconds


class ClockState(_Part, frozen=True):
    """What the kernel said about the clock; None where it does not say."""

    synchronized: bool | None
    offset_seconds: Seconds | None
    max_error_seconds: Seconds | None


class Where(_Part, frozen=True):
    """Say where an agent runs in a cluster, as the cluster says it; what is not known is left out.

    Attributes:
        namespace: The Kubernetes namespace.
        pod: The pod's name.
        container: The name of the container that is watched.
        node: The node's name.
    """

    namespace: PlaceName | UnsetType = UNSET
    pod: PlaceName | UnsetType = UNSET
    container: PlaceName | UnsetType = UNSET
    node: PlaceName | UnsetType = UNSET


class AgentState(_Part, frozen=True):
    """Who wrote the batch, with which configuration, and how often it promises a heartbeat.

    Attributes:
        version: The program's version.
        host: The machine's name.
        boot_id: The kernel's boot id.
        config_sha256: SHA-256 (hex) of the effective settings.
        heartbeat_seconds: How often a batch is promised.
        pseudonym_key: The ids of the keys that pseudonyms are made with, sorted, joined by commas; left out where nothing is redacted by
            a key.
        where: Where in a cluster it runs; left out where that is not known.
    """

    version: str
    host: str
    boot_id: str
    config_sha256: Sha256Hex
    heartbeat_seconds: Seconds
    pseudonym_key: PseudonymKeyIds | UnsetType = UNSET
    where: Where | UnsetType = UNSET


class Continues(_Part, frozen=True):
    """The previous epoch of this instance: its origin, and the size and root (hex) of its last known head."""

    origin: str
    size: Count
    root: Sha256Hex
    why: ContinuesWhy


class Manifest(_Part, frozen=True, kw_only=True):
    """The manifest of one batch.

    Attributes:
        seq: The manifest's own index in the trail.
        kind: Always ``manifest``.
        format: Always 1.
        batch: The batch's number, from 0.
        reason: Why it was cut.
        previous: SHA-256 (hex) of the previous seal's exact bytes; None in batch 0 only.
        sealed_at: The wall clock at the cut, RFC 3339 in UTC.
        monotonic_ns: The monotonic clock at the cut, nanoseconds; comparable within one ``agent.boot_id``.
        records: The records by kind.
        data: The object with the record lines; None where there are no records.
        window: The times in the batch; None where there are no records.
        sources: The sources that moved.
        totals: Sums over the trail.
        spool: What still waits.
        clock: What is known about the clock.
        agent: Who wrote it.
        key: Batch 0 only: the epoch's verifier key (C2SP vkey).
        continues: Batch 0 only: the previous epoch, or None.
        unclean: ``resume`` only: whether the previous run ended without ``stop``.
    """

    seq: Count
    kind: Literal["manifest"] = "manifest"
    format: Literal[1] = 1
    batch: Count
    reason: ManifestReason
    previous: Sha256Hex | None
    sealed_at: UtcTime
    monotonic_ns: Count
    records: RecordCounts
    data: DataObject | None
    window: Window | None
    sources: tuple[SourceProgress, ...]
    totals: Totals
    spool: SpoolState
    clock: ClockState
    agent: AgentState
    key: str | UnsetType = UNSET
    continues: Continues | UnsetType | None = UNSET
    unclean: bool | UnsetType = UNSET


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's line, without a newline.

    Raises:
        FormatError: A field has a value that :func:`decode_manifest` would refuse.
    """
    try:
        line = _encoder.encode(manifest)
    except UnicodeEncodeError as error:
        raise FormatError(f"the manifest holds something that is not Unicode text: {error}") from error
    # Structs do not check what they are built from; what cannot be read back must not be sealed.
    decode_manifest(line)
    return line


def decode_manifest(line: bytes) -> Manifest:
    """Read a manifest's line.

    Raises:
        FormatError: It is not JSON, has a key too many or too few, a value out of bounds, fields that contradict each
            other, or another spelling than :func:`encode_manifest` writes.
    """
    try:
        manifest = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"the manifest is not well-formed: {error}") from error
    if _encoder.encode(manifest) != line:
        raise FormatError("the manifest is not written in its only spelling")
    contradiction = _contradiction(manifest)
    if contradiction:
        raise FormatError(f"the manifest of batch {manifest.batch} contradicts itself: {contradiction}")
    return manifest


def _contradiction(manifest: Manifest) -> str | None:
    """Name the first rule that the fields break together."""
    records, reason = manifest.records, manifest.reason
    opening = manifest.batch == 0
    rules = (
        (manifest.seq == records.first_seq + records.count, "its seq does not follow its records"),
        (records.count == records.events + records.quarantined + records.gaps, "the kinds of records do not add up"),
        (bool(records.count) == (manifest.data is not None) == (manifest.window is not None), "data and window go with records"),
        (opening == (reason is ManifestReason.OPEN), "batch 0 and only batch 0 opens"),
        (not opening or manifest.seq == 0, "batch 0 has no records"),
        (opening == (manifest.previous is None), "all batches but the first have a previous seal"),
        (opening == (manifest.key is not UNSET) == (manifest.continues is not UNSET), "key and continues belong to batch 0"),
        ((reason is ManifestReason.RESUME) == (manifest.unclean is not UNSET), "unclean belongs to resume"),
        (_in_order(manifest.agent.pseudonym_key), "the ids of its pseudonym keys are not sorted, each once"),
    )
    return next((broken for holds, broken in rules if not holds), None)


def _in_order(ids: str | UnsetType) -> bool:
    return ids is UNSET or (named := ids.split(",")) == sorted(set(named))
