"""Separate one block of a source into records for the trail and bytes that pass through.

The meeting point of what an event is (`agent.events`) and how a record is written (`agent.trail.records`): a block of
whole lines goes in; record bodies, the observability lines' own bytes and the counts come out.

Invariants: every byte of the block is accounted for exactly once and in order, as (part of) a record or as observability;
no bytes raise an exception; the cost is per block and per audit line, not per line. Pure: no clock, files or network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - dataclass annotations are resolved by documentation and type tools
from typing import TYPE_CHECKING, Protocol

from .trail.records import QuarantineReason, event_block, oversize_body, quarantine_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events.classify import Rule, Span
    from .events.validate import Judgement, Validator


@dataclass(frozen=True, slots=True)
class Separated:
    """Hold what a block was separated into.

    Attributes:
        bodies: Record bodies (events and quarantine) in the order of the lines, each followed by a newline.
        records: Number of bodies.
        events: How many of them are events.
        quarantined: How many of them are quarantine.
        lines: Lines in the block, a last one without newline included.
        observability_lines: Lines that are not audit; `lines` is always `records + observability_lines`.
        observability: Those lines' exact bytes with their newlines; empty where they are not kept.
        reasons: Quarantined lines by reason.
        occurred_min: Earliest time of an event, UTC; None where there is none.
        occurred_max: Latest likewise.
        outcomes: Events by (category, outcome).
    """

    bodies: bytes = b""
    records: int = 0
    events: int = 0
    quarantined: int = 0
    lines: int = 0
    observability_lines: int = 0
    observability: bytes = b""
    reasons: dict[str, int] = field(default_factory=dict)
    occurred_min: datetime | None = None
    occurred_max: datetime | None = None
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)


class Places(Protocol):
    """Say where the lines of a block lie in their source, where the block is not a piece of the source itself."""

    def of(self, spans: Sequence[Span]) -> tuple[list[Span], list[bytes]]:
        """Return the byte offset and length of each of these lines, and the member its record gets after the source.

        Args:
            spans: Where they lie in the block, in its order.
        """
        ...


class Separator:
    """Separate the blocks of one source. One instance serves one thread."""

    def __init__(self, source: str, rule: Rule, validator: Validator, *, keep_observability: bool, has_offsets: bool) -> None:
        """Bind a source to its rule.

        Args:
            source: The source's id, written into every record.
            rule: Which lines are audit.
            validator: Made for the same rule.
            keep_observability: Whether the other lines' bytes are wanted.
            has_offsets: Whether positions in the source mean something to an auditor (files) and go into the records.
        """
        self._source = source
        self._rule = rule
        self._validator = validator
        self._keep = keep_observability
        self._has_offsets = has_offsets

    def separate(self, block: bytes, offset: int, observed_at: str, places: Places | None = None) -> Separated:
        """Separate a block of whole lines.

        Args:
            block: Lines each ended by a newline; the last may lack it (the end of a closed source). May be empty.
            offset: The absolute position of the block's first byte in the source, in bytes.
            observed_at: When the block was read, RFC 3339 in UTC with microseconds.
            places: Where its lines lie in the source, where they do not lie there as they stand in the block; `offset` then
                does not matter.
        """
        lines = block.count(b"\n") + (not block.endswith(b"\n") and bool(block))
        spans = self._rule.candidates(block)
        audit = [block[start:end] for start, end in spans]
        events = audit if self._rule.tag else list(map(self._rule.event, audit))
        judgement = self._validator.judge_lines(events)
        if judgement.rejected:
            return self._with_rejected(block, offset, observed_at, lines, spans, audit, events, judgement, places)
        at, members = self._located(spans, offset, places)
        return Separated(
            bodies=event_block(self._source, observed_at, events, at, members),
            records=len(spans),
            events=len(spans),
            lines=lines,
            observability_lines=lines - len(spans),
            observability=self._rest(block, spans),
            occurred_min=judgement.occurred_min,
            occurred_max=judgement.occurred_max,
            outcomes=judgement.outcomes,
        )

    def overlong(self, observed_at: str, head: bytes, length: int, sha256_hex: str, at: Span | None, member: bytes) -> bytes:
        """Return the body that stands for a line over the size limit; the arguments are those of `oversize_body`."""
        return oversize_body(self._source, observed_at, head, length, sha256_hex, at, member=member)

    def quarantined(self, observed_at: str, reason: QuarantineReason, detail: str, raw: bytes) -> bytes:
        """Return the body that keeps a message which cannot be an event; the arguments are those of `quarantine_body`."""
        return quarantine_body(self._source, observed_at, reason, detail, raw)

    def _with_rejected(  # noqa: PLR0913, PLR0917 -- everything that `separate` has found out
        self,
        block: bytes,
        offset: int,
        observed_at: str,
        lines: int,
        spans: list[Span],
        audit: list[bytes],
        events: list[bytes],
        judgement: Judgement,
        places: Places | None,
    ) -> Separated:
        """Finish a block in which some candidates are no valid events: quarantine, or not audit after all."""
        parts: list[bytes] = []
        kept: list[Span] = []
        reasons: dict[str, int] = {}
        at, members = self._located(spans, offset, places)

        def accepted(first: int, last: int) -> bytes:
            where = None if at is None else at[first:last]
            whose = None if members is None else members[first:last]
            return event_block(self._source, observed_at, events[first:last], where, whose)

        done = 0
        for index, rejected in judgement.rejected.items():
            parts.append(accepted(done, index))
            kept += spans[done:index]
            done = index + 1
            if not self._rule.is_audit(audit[index]):
                continue
            reason = QuarantineReason(rejected.reason)
            where = None if at is None else at[index]
            member = b"" if members is None else members[index]
            parts += (quarantine_body(self._source, observed_at, reason, rejected.detail, audit[index], where, member=member), b"\n")
            kept.append(spans[index])
            reasons[reason.value] = reasons.get(reason.value, 0) + 1
        parts.append(accepted(done, len(spans)))
        kept += spans[done:]
        return Separated(
            bodies=b"".join(parts),
            records=len(kept),
            events=judgement.accepted,
            quarantined=len(kept) - judgement.accepted,
            lines=lines,
            observability_lines=lines - len(kept),
            observability=self._rest(block, kept),
            reasons=reasons,
            occurred_min=judgement.occurred_min,
            occurred_max=judgement.occurred_max,
            outcomes=judgement.outcomes,
        )

    def _located(self, spans: Sequence[Span], offset: int, places: Places | None) -> tuple[list[Span] | None, list[bytes] | None]:
        """Return offsets and lengths in the source, and the members that say whose lines they are."""
        if not self._has_offsets:
            return None, None
        if places is not None:
            return places.of(spans)
        return [(offset + start, end - start) for start, end in spans], None

    def _rest(self, block: bytes, audit: Sequence[Span]) -> bytes:
        """Return the block without its audit lines and their newlines."""
        if not self._keep:
            return b""
        parts = []
        position = 0
        for start, end in audit:
            if start > position:
                parts.append(block[position:start])
            position = end + 1
        parts.append(block[position:])
        return b"".join(parts)
