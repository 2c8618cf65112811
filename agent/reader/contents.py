"""One batch's data object against its manifest: bytes, numbers, kinds, times and positions.

Invariants: the checks are bulk operations over one batch, which is all that is in memory; a check that cannot be made
because an earlier one failed is left out, never counted as passed, since the earlier failure already decides the verdict.
This module must not look at other batches or at keys and signatures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from operator import le
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import FormatError
from ..trail.batch import read_blocks
from ..trail.layout import data_key, parse_data_key
from ..trail.merkle import leaf_hashes
from ..trail.record_lines import RecordHead, decode_record, decode_records
from ..trail.records import Certainty, GapCause, RecordKind
from .findings import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..trail.layout import Origin
    from ..trail.manifest import Manifest, SourceProgress

    Report = Callable[..., None]


class GapRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A gap record as a verifier needs it; see `agent.trail.records.gap_body`."""

    seq: int
    source: str
    cause: GapCause
    certainty: Certainty
    from_offset: int | None
    to_offset: int | None
    detail: str
    file_id: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a data object turned out to hold.

    Attributes:
        hashes: The leaf hashes of its lines, in their order.
        gaps: Its gap records.
        lines: The lines.
    """

    hashes: Sequence[bytes]
    gaps: tuple[GapRecord, ...]
    lines: Sequence[bytes] = ()


EMPTY: Final = Contents((), ())
_SHORTEST_RECORD_BYTES: Final = len('{"seq":0,"kind":"event","source":"","observed_at":"","event":{}}')
_gap_decoder: Final = msgspec.json.Decoder(GapRecord)


def expected_data_key(origin: Origin, manifest: Manifest) -> str | None:
    """Return the key that a manifest's data must have, or None without data."""
    if manifest.data is None:
        return None
    return data_key(origin, manifest.records.first_seq, manifest.sealed_at[:10], manifest.data.sha256)


def is_data_key(key: str) -> bool:
    """Tell whether a text has the form of a data object's key."""
    try:
        parse_data_key(key)
    except FormatError:
        return False
    return True


def check_contents(manifest: Manifest, raw: bytes, report: Report) -> Contents | None:
    """Check a data object's bytes against the manifest that seals them.

    Args:
        manifest: The manifest; its ``data`` is not None.
        raw: The object's exact bytes.
        report: Called as ``report(code, message, first_seq=…, last_seq=…)`` for everything found.

    Returns:
        What the tree and the account need, or None if the lines cannot be had.
    """
    data, records = manifest.data, manifest.records
    if data is None:
        raise FormatError(f"batch {manifest.batch} has no data object to check")
    digest = sha256(raw).hexdigest()
    if len(raw) != data.bytes or digest != data.sha256:
        what = f"it has {len(raw)} bytes where {data.bytes} were sealed" if len(raw) != data.bytes else f"its SHA-256 is now {digest}"
        report(
            Code.DATA_ALTERED,
            f"the data object with seq {records.first_seq} to {manifest.seq - 1} was changed: {what}",
            first_seq=records.first_seq,
            last_seq=manifest.seq - 1,
        )
        return None
    try:
        lines = _lines(raw, data.raw_bytes)
    except FormatError as error:
        report(Code.DATA_MALFORMED, error.message)
        return None
    hashes = leaf_hashes(lines)
    raw_bytes = sum(map(len, lines)) + len(lines)
    if raw_bytes != data.raw_bytes:
        report(Code.DATA_MALFORMED, f"the data decompresses to {raw_bytes} bytes where {data.raw_bytes} were sealed")
    if len(lines) != records.count:
        report(Code.COUNTS_WRONG, f"the data holds {len(lines)} records where the manifest counts {records.count}")
    try:
        heads = decode_records(lines, records.first_seq)
        gaps = _gaps(lines, heads)
    except FormatError as error:
        seq, reason = _first_bad(lines, records.first_seq, error)
        report(Code.DATA_MALFORMED, f"seq {seq}: {reason}", first_seq=seq, last_seq=seq)
        return Contents(hashes, (), lines)
    _check_counts(manifest, heads, report)
    _check_window(manifest, heads, report)
    _check_positions(manifest.sources, heads, report)
    return Contents(hashes, gaps, lines)


def _lines(raw: bytes, raw_bytes: int) -> list[bytes]:
    """Return the lines of a data object; FormatError as soon as they are too many to be records, each of which costs memory."""
    lines: list[bytes] = []
    for block in read_blocks(raw, raw_bytes):
        lines += block
        if len(lines) > raw_bytes // _SHORTEST_RECORD_BYTES:
            raise FormatError(f"the data holds more lines than there can be records in {raw_bytes} bytes")
    return lines


def _gaps(lines: Sequence[bytes], heads: Sequence[RecordHead]) -> tuple[GapRecord, ...]:
    if all(head.kind is not RecordKind.GAP for head in heads):
        return ()
    try:
        return tuple(_gap_decoder.decode(line) for line, head in zip(lines, heads, strict=True) if head.kind is RecordKind.GAP)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"a gap record is not well-formed: {error}") from error


def _first_bad(lines: Sequence[bytes], first_seq: int, failure: FormatError) -> tuple[int, str]:
    """Find the line at which a bulk check failed."""
    for seq, line in enumerate(lines, first_seq):
        try:
            head = decode_record(line)
            _gaps((line,), (head,))
        except FormatError as error:
            return seq, error.message
        if head.seq != seq or not line.startswith(b'{"seq":%d,' % seq):
            return seq, f"the record calls itself seq {head.seq}"
    return first_seq, failure.message


def _check_counts(manifest: Manifest, heads: Sequence[RecordHead], report: Report) -> None:
    records = manifest.records
    found = Counter(head.kind for head in heads)
    for kind, stated in (
        (RecordKind.EVENT, records.events),
        (RecordKind.QUARANTINE, records.quarantined),
        (RecordKind.GAP, records.gaps),
    ):
        if found[kind] != stated:
            report(Code.COUNTS_WRONG, f"the data holds {found[kind]} {kind.value} records where the manifest counts {stated}")


def _span(times: Iterable[str]) -> tuple[datetime, datetime] | None:
    """Return the earliest and latest of RFC 3339 times; compared as times, because their spellings may differ."""
    moments = list(map(datetime.fromisoformat, times))
    return (min(moments), max(moments)) if moments else None


def _check_window(manifest: Manifest, heads: Sequence[RecordHead], report: Report) -> None:
    window = manifest.window
    if window is None:
        return
    try:
        occurred = _span(head.event.occurred_at for head in heads if head.event is not None and head.kind is RecordKind.EVENT)
        observed = _span({head.observed_at for head in heads})
        stated_occurred = _span(time for time in (window.occurred_min, window.occurred_max) if time is not None)
        stated_observed = _span((window.observed_min, window.observed_max))
        agree = occurred == stated_occurred and observed == stated_observed
    except (ValueError, TypeError) as error:
        report(Code.WINDOW_WRONG, f"a time in the batch cannot be read: {error}")
        return
    if not agree:
        report(
            Code.WINDOW_WRONG,
            f"the events span {_shown(occurred)} and were observed {_shown(observed)}; "
            f"the manifest says {_shown(stated_occurred)} and {_shown(stated_observed)}",
        )


def _shown(span: tuple[datetime, datetime] | None) -> str:
    return "no time" if span is None else f"{span[0].isoformat()} to {span[1].isoformat()}"


def _check_positions(sources: Sequence[SourceProgress], heads: Sequence[RecordHead], report: Report) -> None:
    """Check that every record lies in a range its source moved over in this batch, each after the one before it."""
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for source in sources:
        if source.from_offset is not None and source.to_offset is not None:
            ranges[source.id].append((source.from_offset, source.to_offset))
    placed: dict[str, list[RecordHead]] = defaultdict(list)
    for head in heads:
        if head.at is not None:
            placed[head.source].append(head)
    for name, group in placed.items():
        bad = _first_misplaced(ranges[name], group)
        if bad is not None and bad.at is not None:
            report(
                Code.POSITION_WRONG,
                f"seq {bad.seq}: bytes {bad.at[0]} to {sum(bad.at)} of {name} are not next in a range that the batch accounts for",
                first_seq=bad.seq,
                last_seq=bad.seq,
            )


def _first_misplaced(ranges: Sequence[tuple[int, int]], group: Sequence[RecordHead]) -> RecordHead | None:
    """Return the first record outside the ranges of its source.

    With one range the records must also lie one after the other. With several (a glob of files) a record does not say
    which file it is from, so it has to lie in any of them.
    """
    starts = [head.at[0] for head in group if head.at is not None]
    ends = [sum(head.at) for head in group if head.at is not None]
    if len(ranges) == 1:
        low, high = ranges[0]
        if starts[0] >= low and ends[-1] <= high and all(map(le, starts, ends)) and all(map(le, ends, starts[1:])):
            return None
        before = [low, *ends]
        return next(
            (head for head, start, end, last in zip(group, starts, ends, before, strict=False) if not last <= start <= end <= high), None
        )
    low, high = ranges[0] if ranges else (0, -1)
    for head, start, end in zip(group, starts, ends, strict=True):
        if not low <= start <= end <= high:
            home = next(((a, b) for a, b in ranges if a <= start <= end <= b), None)
            if home is None:
                return head
            low, high = home
    return None
